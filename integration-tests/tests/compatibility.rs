//! What version 0.1 (commit 50e30a4) has written is read by this version, and
//! what this version writes without a new feature is what 0.1 reads.
//!
//! The fixtures were written by the programs of that commit: the messages between
//! master and agent, a ledger, the labels of containers, and the records of the
//! store, with every field that there was. They are never changed.

use std::{collections::HashMap, fs, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shef_agent::supervisor::ledger::LedgerFile;
use shef_common::{
    ids::{ClusterId, Revision},
    labels,
    protocol::{
        Accepted, Alive, ProbeOutcome, ProbeThrough, Push, PushRefused, Registered, Registration, Report, ReportAck, Understands,
    },
};
use shef_master::{registries::RegistryRecord, runner::NodeRecord, service::ServiceRecord, stats::Counts, store::Key};

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

/// Reads `value` as a `T` and writes it again: everything that was there is there as it was. New fields may be beside it:
/// a master of an older version does not start on them, and names the record that it cannot read.
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
            written.len() == value.len() && written.iter().zip(value).all(|(written, value)| holds(written, value))
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
    assert_eq!((change.base, change.set.len(), change.remove.len(), change.by_name), (Some(Revision(6)), 6, 1, false));
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
fn a_ledger_of_version_0_1_is_read_and_written_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("agent-ledger.json");
    fs::copy(path("agent-ledger.json"), &ledger).unwrap();
    let (file, read) = LedgerFile::open(directory.path()).unwrap();
    let change: Push = message("push-change.json");
    assert_eq!(read.assignments.into_values().collect::<Vec<_>>().len(), change.set.len());
    assert_eq!((read.removals.len(), read.unlisted.len()), (1, 0));
    drop(file);
    let (file, read) = LedgerFile::open(directory.path()).unwrap();
    file.write(&read).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&ledger).unwrap()).unwrap(), fixture("agent-ledger.json"));
}

#[test]
fn containers_that_version_0_1_has_made_are_ours_and_tell_what_they_were_made_for() {
    let cluster = ClusterId::parse(CLUSTER).unwrap();
    let change: Push = message("push-change.json");
    let all: HashMap<String, HashMap<String, String>> = serde_json::from_value(fixture("labels.json")).unwrap();
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
            Key::Service(_) => is_kept::<ServiceRecord>(key, value),
            Key::Node(_) => {
                both_ways::<NodeRecord>(key, value);
            }
            Key::Registry(_) => {
                both_ways::<RegistryRecord>(key, value);
            }
            Key::Stats => {
                both_ways::<Counts>(key, value);
            }
        }
    }
    assert_eq!(records.as_object().unwrap().len(), 10);
}
