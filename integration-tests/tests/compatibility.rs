//! What version 0.1 (commit 50e30a4) has written is read by this version, and
//! what this version writes without a new feature is what 0.1 reads.
//!
//! The fixtures were written by the programs of that commit: the messages between
//! master and agent, a ledger, the labels of containers, and the records of the
//! store, with every field that there was. They are never changed.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shef_agent::supervisor::ledger::LedgerFile;
use shef_common::{
    fields,
    ids::{ClusterId, NodeUid, Revision, Version},
    labels,
    protocol::{
        Accepted, Alive, ProbeOutcome, ProbeThrough, Push, PushRefused, Registered, Registration, Report,
        ReportAck, Understands,
    },
    spec::ServiceSpec,
};
use shef_master::{
    registries::RegistryRecord,
    runner::NodeRecord,
    service::ServiceRecord,
    stats::Counts,
    store::{Key, Record},
};

const CLUSTER: &str = "00000000000000cc";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/50e30a4").join(name)
}

fn fixture(name: &str) -> Value {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

/// Reads `value` as a `T` and writes it again: neither way loses, changes or adds anything.
fn both_ways<T: DeserializeOwned + Serialize>(what: &str, value: &Value) -> T {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *value, "{what}: 0.1 would read something else");
    read
}

/// Reads `value` as a `T` and writes it again: everything that was there is there as it was. New fields may
/// be beside it: a master of an older version does not start on them, and names the record that it cannot
/// read.
fn is_kept<T: DeserializeOwned + Serialize>(what: &str, value: &Value) {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let written = serde_json::to_value(&read).unwrap();
    assert!(holds(&written, value), "{what}: {value} has become {written}");
}

/// Whether `written` has every field of `value`, at any depth, as it is there.
fn holds(written: &Value, value: &Value) -> bool {
    match (written, value) {
        (Value::Object(written), Value::Object(value)) => {
            value.iter().all(|(field, value)| written.get(field).is_some_and(|written| holds(written, value)))
        }
        (Value::Array(written), Value::Array(value)) => {
            written.len() == value.len()
                && written.iter().zip(value).all(|(written, value)| holds(written, value))
        }
        _ => written == value,
    }
}

fn message<T: DeserializeOwned + Serialize>(name: &str) -> T {
    both_ways(name, &fixture(name))
}

#[test]
fn messages_of_version_0_1_are_read_and_written_as_they_were() {
    let change: Push = message("push-change.json");
    assert_eq!(
        (change.base, change.set.len(), change.remove.len(), change.by_name),
        (Some(Revision(6)), 6, 1, false)
    );
    let snapshot: Push = message("push-snapshot.json");
    assert_eq!((snapshot.base, snapshot.by_name), (None, false), "it removes what it does not list");
    for refused in ["other-cluster", "stale-fence", "wrong-base", "not-ready"] {
        message::<PushRefused>(&format!("push-refused-{refused}.json"));
    }
    message::<Accepted>("push-accepted.json");
    let registration: Registration = message("registration.json");
    assert_eq!((registration.holds.len(), registration.understands), (6, Understands::default()));
    message::<Registration>("registration-new-host.json");
    message::<Registered>("registered.json");
    let report: Report = message("report.json");
    assert_eq!(report.statuses.len(), 10);
    message::<Report>("report-heartbeat.json");
    message::<ReportAck>("report-ack.json");
    let ack: ReportAck = message("report-ack-with-push.json");
    assert_eq!(ack.push.map(|push| *push), Some(change));
    message::<Alive>("alive.json");
    message::<ProbeThrough>("probe-through.json");
    message::<Vec<ProbeOutcome>>("probe-outcomes.json");
}

#[test]
fn a_ledger_of_version_0_1_is_read_and_kept_as_it_was_in_a_log() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(path("agent-ledger.json"), directory.path().join("agent-ledger.json")).unwrap();
    let (file, read) = LedgerFile::open(directory.path()).unwrap();
    let change: Push = message("push-change.json");
    assert_eq!(read.assignments.len(), change.set.len());
    assert_eq!((read.removals.len(), read.unlisted.len()), (1, 0));
    drop(file);
    assert_eq!(first_of_log(directory.path()), fixture("agent-ledger.json"));
    let (_, again) = LedgerFile::open(directory.path()).unwrap();
    assert_eq!(again, read);
}

/// The ledger that the first record of an agent's log holds.
fn first_of_log(directory: &Path) -> Value {
    let log = fs::read_to_string(directory.join("agent-ledger.log")).unwrap();
    let record = log.lines().next().unwrap().split_once(' ').unwrap().1;
    serde_json::from_str::<Value>(record).unwrap()["ledger"].take()
}

/// It would be damaged or empty otherwise: the one does not start, and the other joins as a new host.
#[test]
fn an_agent_of_version_0_1_reads_its_identity_and_leader_from_the_head() {
    #[derive(serde::Deserialize)]
    struct LedgerOf01 {
        format: u32,
        uid: NodeUid,
        cluster: Option<ClusterId>,
        accepted: Option<Accepted>,
        assignments: Vec<Value>,
        removals: Vec<Value>,
    }
    let directory = tempfile::tempdir().unwrap();
    let head = directory.path().join("agent-ledger.json");
    fs::copy(path("agent-ledger.json"), &head).unwrap();
    let (_, ledger) = LedgerFile::open(directory.path()).unwrap();
    let read: LedgerOf01 = serde_json::from_slice(&fs::read(&head).unwrap()).unwrap();
    assert_eq!((read.format, read.uid, read.cluster), (1, ledger.uid, ledger.cluster));
    assert_eq!(read.accepted.map(|of| of.fence), ledger.accepted.map(|of| of.fence));
    assert!(
        read.assignments.is_empty() && read.removals.is_empty(),
        "it finds its containers by their labels"
    );
}

/// Something that no version has, at every depth of a template, and in a word.
fn newer() -> [(&'static str, Value); 6] {
    [
        ("/set/0/template/hypervisor", json!("hyperv")),
        ("/set/0/priority", json!({"a": 1})),
        ("/set/0/on_disconnect", json!({"move_after": {"seconds": 9}})),
        ("/set/0/template/pull", json!("on_tuesdays")),
        ("/set/0/template/resources", json!({"reserve": {"gpus": 1}})),
        ("/set/0/template/ports", json!([{"target": 80, "name": "web"}])),
    ]
}

/// `value` with something else at `pointer`, which may be new.
fn with(value: &Value, pointer: &str, new: Value) -> Value {
    let (place, field) = pointer.rsplit_once('/').unwrap();
    let mut value = value.clone();
    value.pointer_mut(place).unwrap()[field] = new;
    value
}

#[test]
fn a_field_of_a_newer_version_refuses_its_assignment_and_not_the_push() {
    for (pointer, new) in newer() {
        let pushed = with(&fixture("push-change.json"), pointer, new);
        let read: Push = both_ways(pointer, &pushed);
        let refused: Vec<_> = read.set.iter().filter(|one| one.template.not_understood.is_some()).collect();
        assert_eq!(refused.len(), 1, "{pointer}");
        assert_eq!(
            (refused[0].replica.as_str(), read.remove.len()),
            (read.set[0].replica.as_str(), 1),
            "{pointer}"
        );
    }
    // A value that breaks a rule of every version is none of a newer one.
    let wrong = with(&fixture("push-change.json"), "/set/0/template/stop_grace_s", json!(-1));
    let refused = serde_json::from_value::<Push>(wrong).unwrap_err().to_string();
    assert!(refused.contains("invalid value: integer `-1`"), "{refused}");
}

/// Where in `value` there is an object whose keys are fields, and not words of its user.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            // Nor are those that are a choice by their only key: a newer choice is a word.
            let is_map =
                ["env", "labels", "ulimits", "sysctls", "extra_hosts", "options", "test", "on_disconnect"];
            if !is_map.iter().any(|map| at.ends_with(&format!("/{map}"))) {
                found.push(at.to_owned());
            }
            fields.iter().for_each(|(name, field)| objects(field, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| objects(item, &format!("{at}/{n}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn a_newer_field_at_any_depth_refuses_its_assignment_and_not_the_push() {
    let change = fixture("push-change.json");
    let mut everywhere = Vec::new();
    objects(&change["set"], "/set", &mut everywhere);
    assert!(everywhere.len() > 50, "{everywhere:?}");
    for at in everywhere {
        let pushed = with(&change, &format!("{at}/newer"), json!({"a": [1]}));
        let read: Push = both_ways(&at, &pushed);
        let of: usize = at.split('/').nth(2).unwrap().parse().unwrap();
        let refused = read.set.iter().map(|one| one.template.not_understood.is_some());
        assert!(refused.enumerate().all(|(n, refused)| refused == (n == of)), "{at}");
    }
}

#[test]
fn a_newer_field_of_a_push_refuses_what_is_set_not_what_is_removed() {
    let pushed = with(&fixture("push-change.json"), "/secrets", json!({"a": 1}));
    let read: Push = serde_json::from_value(pushed).unwrap();
    let named = |newer: &fields::NotUnderstood| newer.fields.contains("secrets");
    assert!(read.set.iter().all(|one| one.template.not_understood.as_deref().is_some_and(named)));
    assert_eq!(read.remove.len(), 1);
    // That outlives the agent's restart.
    let kept: Push = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert!(kept.set.iter().all(|one| one.template.not_understood.is_some()));
}

#[test]
fn a_ledger_of_a_newer_version_is_read_and_nothing_in_it_is_lost() {
    for (pointer, new) in newer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent-ledger.json");
        let written = with(&fixture("agent-ledger.json"), &pointer.replace("/set/", "/assignments/"), new);
        fs::write(&path, written.to_string()).unwrap();
        let (_, read) = LedgerFile::open(directory.path()).unwrap();
        assert_eq!(
            read.assignments.values().filter(|one| one.template.not_understood.is_some()).count(),
            1,
            "{pointer}"
        );
        assert_eq!(first_of_log(directory.path()), written, "{pointer}");
        assert_eq!(LedgerFile::open(directory.path()).unwrap().1, read, "{pointer}");
    }
}

#[test]
fn a_container_of_a_newer_version_is_ours_and_not_understood() {
    let cluster = ClusterId::parse(CLUSTER).unwrap();
    let all: HashMap<String, HashMap<String, String>> =
        serde_json::from_value(fixture("labels.json")).unwrap();
    let (name, labels) = all.iter().next().unwrap();
    let mut template: Value = serde_json::from_str(&labels[labels::SPEC]).unwrap();
    template["hypervisor"] = json!("hyperv");
    let mut newer = labels.clone();
    newer.insert(labels::SPEC.to_owned(), template.to_string());
    assert!(labels::read(&cluster, name, &newer, None).unwrap().template.not_understood.is_some());
    assert!(labels::read(&cluster, name, labels, None).unwrap().template.not_understood.is_none());
}

#[test]
fn an_agent_that_lists_no_fields_understands_those_of_version_0_1() {
    let first: BTreeSet<_> = fields::first().map(str::to_owned).collect();
    let change: Push = message("push-change.json");
    for assignment in &change.set {
        let used = fields::needed(&assignment.template, fields::all());
        assert!(!used.is_empty() && used.is_subset(&first), "{used:?}");
    }
    let mut listed = serde_json::to_value(fixture("registration.json")).unwrap();
    listed["understands"] = json!({"removal_by_name": true, "fields": fields::all()});
    let read: Registration = serde_json::from_value(listed.clone()).unwrap();
    assert_eq!(&read.understands.fields, fields::all());
    listed["understands"]["fields"] = (0..3_000).map(|n| n.to_string()).collect();
    let refused = serde_json::from_value::<Registration>(listed).unwrap_err().to_string();
    assert!(refused.contains("at most 2000 fields"), "{refused}");
}

#[test]
fn only_a_service_with_newer_fields_avoids_agents_of_version_0_1() {
    let needs = |more: &Value| {
        let mut fields = json!({"name": "web", "image": "app:1"});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = ServiceSpec::read(fields.as_object().unwrap().clone(), None).unwrap();
        fields::needed(&spec.template, fields::newer())
    };
    let health = |more: &Value| {
        let mut health = json!({"test": {"http": {"port": 1, "path": "/"}}});
        health.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "health": health })
    };
    for (newer, path) in [
        (json!({"platform": "linux/arm64"}), "platform"),
        (json!({"ports": [{"target": 80, "host_ip": "::1"}]}), "ports[].host_ipv6"),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/t", "mount_options": ["exec"]}]}),
            "mounts[].mount_options",
        ),
        (json!({"networks": [{"name": "lan", "ipv4_address": "10.0.0.9"}]}), "networks[].ipv4_address"),
        (json!({"networks": [{"name": "lan", "ipv6_address": "fd00::9"}]}), "networks[].ipv6_address"),
        (health(&json!({"on_unhealthy": "restart"})), "health.on_unhealthy"),
        (
            health(&json!({"test": {"http": {"port": 1, "path": "/", "https": true}}})),
            "health.test.http.https",
        ),
    ] {
        assert!(needs(&newer).contains(path), "{newer}: {:?}", needs(&newer));
    }
    for known in [
        json!({"ports": [{"target": "80-90", "host_ip": "10.0.0.1"}]}),
        json!({"mounts": [{"type": "tmpfs", "target": "/t", "mode": "1777"}], "networks": [{"name": "lan"}]}),
        health(
            &json!({"on_unhealthy": "report", "test": {"http": {"port": 1, "path": "/", "https": false}}}),
        ),
    ] {
        assert!(needs(&known).is_empty(), "{known}: {:?}", needs(&known));
    }
}

#[test]
fn containers_of_version_0_1_are_ours_and_tell_their_purpose() {
    let cluster = ClusterId::parse(CLUSTER).unwrap();
    let change: Push = message("push-change.json");
    let all: HashMap<String, HashMap<String, String>> =
        serde_json::from_value(fixture("labels.json")).unwrap();
    assert_eq!(all.len(), change.set.len());
    for mut ordered in change.set {
        // Whether it is only to be made ready is not a container's to say.
        ordered.prepare = false;
        let name = ordered.replica.to_string();
        assert_eq!(labels::read(&cluster, &name, &all[&name], None), Some(ordered), "{name}");
    }
}

#[test]
fn records_that_version_0_1_has_stored_are_read_and_written_as_they_were() {
    let records = fixture("store-records.json");
    for (key, value) in records.as_object().unwrap() {
        match key.parse::<Key>().unwrap() {
            Key::Service(..) => is_kept::<ServiceRecord>(key, value),
            Key::Node(_) => {
                both_ways::<NodeRecord>(key, value);
            }
            Key::Registry(_) => {
                both_ways::<RegistryRecord>(key, value);
            }
            Key::Token(_) | Key::Authority | Key::Identity(_) | Key::Content(_) => {
                panic!("version 0.1 had no tokens, no identities and no secrets")
            }
            Key::Stats => {
                both_ways::<Counts>(key, value);
            }
        }
    }
    assert_eq!(records.as_object().unwrap().len(), 10);
}

#[test]
fn services_of_version_0_1_are_the_same_in_parts_after_interruption() {
    let kept = fixture("store-records.json");
    let record = |(key, value): (&String, &Value)| Record {
        key: key.parse().unwrap(),
        version: Version(7),
        value: value.to_string().into(),
    };
    let mut whole: Vec<Record> = kept.as_object().unwrap().iter().map(record).collect();
    whole.sort_by(|one, other| one.key.cmp(&other.key));
    let read = |records: &[Record]| shef_master::recover(records).unwrap().0.services;
    let before = read(&whole);
    assert!(before.len() > 3 && before.iter().all(|service| service.versions.are_of_format_1()));
    for written in 0..=before.len() {
        let mut mixed = whole.clone();
        for service in &before[..written] {
            mixed.retain(|record| record.key.service() != Some(&service.record.spec.name));
            mixed.extend(service.records().unwrap());
        }
        mixed.sort_by(|one, other| one.key.cmp(&other.key));
        let after = read(&mixed);
        let in_parts = after.iter().filter(|service| !service.versions.are_of_format_1());
        assert_eq!(in_parts.count(), written);
        for (service, before) in after.iter().zip(&before) {
            assert_eq!((&service.record, service.versions.of_head()), (&before.record, Some(Version(7))));
        }
    }
}
