//! Every message between the parts and every stored record, with a value in every number that it can hold.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shef_common::{disk, exec, protocol, usage};
use shef_master::{
    audit::AuditLine,
    identity::AuthorityRecord,
    registries::RegistryRecord,
    runner::NodeRecord,
    service::{ServiceRecord, StoredHead, StoredPage},
    stats::Counts,
};

/// One type, and JSON of it.
pub struct Sample {
    /// The type's name.
    pub name: &'static str,
    /// JSON of it: of each kind that has numbers of its own.
    values: Vec<Value>,
    /// Its schema, made from the type.
    pub schema: Value,
    /// Reads JSON as the type, and says what was understood.
    pub read: fn(&Value) -> Result<Value, String>,
}

impl Sample {
    /// Every JSON of it.
    pub fn values(&self) -> Vec<&Value> {
        self.values.iter().collect()
    }
}

/// The value, and the same with the other kind of health check that has a number.
fn sample<T: schemars::JsonSchema + Serialize + DeserializeOwned>(
    name: &'static str,
    value: Value,
) -> Sample {
    let other = value
        .to_string()
        .replace(r#"{"http":{"path":"/","port":80,"status":[200]}}"#, r#"{"tcp":{"port":80}}"#);
    let other: Value = serde_json::from_str(&other).expect("JSON");
    let others = (other != value).then_some(other);
    of_kinds::<T>(name, std::iter::once(value).chain(others).collect())
}

fn of_kinds<T: schemars::JsonSchema + Serialize + DeserializeOwned>(
    name: &'static str,
    values: Vec<Value>,
) -> Sample {
    let read = |value: &Value| {
        // From text, as it comes over the wire.
        let read: T = serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())?;
        serde_json::to_value(read).map_err(|error| error.to_string())
    };
    Sample { name, values, schema: schemars::schema_for!(T).into(), read }
}

/// A line of the audit log for each kind that has numbers.
fn audit_lines() -> Vec<Value> {
    let line = |more: Value| {
        let mut line = json!({ "n": 3, "prev": "0", "time": 7 });
        line.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        line
    };
    vec![
        line(json!({ "event": "request", "by": { "kind": "socket", "uid": 5 }, "method": "PUT", "call": "/",
            "status": 200 })),
        line(json!({ "event": "repeated", "count": 4, "since": 6 })),
        line(json!({ "event": "lost", "count": 4 })),
        line(json!({ "event": "removed", "first": 1, "last": 2, "count": 2 })),
        line(json!({ "event": "taken_over", "node": "h1", "uid": "00000000000000a1",
            "services": { "web": 3 }, "more": 4 })),
        line(json!({ "event": "closed_off", "bytes": 9, "sha256": "0" })),
    ]
}

/// The CA in both phases of a rotation.
fn authority_records() -> Vec<Value> {
    let former = json!({ "certificate": "c", "cross": "x" });
    let next = json!({ "certificate": "n", "sealed": "s", "cross": "x" });
    let record = |phase: &str, other: &Value| {
        let rotation = json!({ "begun": 4, "compromised": false, phase: other });
        json!({ "certificate": "c", "sealed": "s", "steps": 3, "rotation": rotation, "former": [former] })
    };
    vec![record("trust", &next), record("certificates", &former)]
}

/// A template in which everything is said.
pub fn template() -> Value {
    json!({
        "image": "app:1",
        "stop_grace_s": 3,
        "ulimits": { "nofile": { "soft": 10, "hard": 20 } },
        "oom_score_adj": 5, "shm_bytes": 65_536,
        "ports": [{ "target": 80, "published": 8_080, "protocol": "tcp" }],
        "mounts": [{ "type": "tmpfs", "target": "/t", "size_bytes": 65_536, "mode": 1_777 }],
        "secrets": [{ "source": "key", "version": "00000000000000000000000000000000", "uid": 1, "gid": 2, "mode": 288 }],
        "configs": [{ "source": "app", "version": "00000000000000000000000000000000", "uid": 1, "gid": 2, "mode": 288 }],
        "device_requests": [{ "driver": "nvidia", "count": 1 }],
        "resources": {
            "reserve": { "cpu_millis": 10, "memory_bytes": 20 },
            "limit": { "cpu_millis": 10, "memory_bytes": 20_000_000, "swap_bytes": 0, "pids": 30 }
        },
        "health": {
            "test": { "http": { "port": 80, "path": "/", "status": [200] } },
            "interval_ms": 1_000, "timeout_ms": 1_000, "retries": 3, "start_period_ms": 10
        },
        "restart": { "condition": "always", "delay_ms": 1, "max_attempts": 2, "window_ms": 3 },
        "forced": 1
    })
}

fn fence() -> Value {
    json!({ "epoch": 3, "leader": "00000000000000aa" })
}

fn accepted() -> Value {
    json!({ "fence": fence(), "revision": 7 })
}

/// A replica that a host is to run.
pub fn assignment() -> Value {
    json!({
        "replica": "web-000001", "service": "web", "slot": 1, "generation": 2, "template": template(),
        "on_disconnect": { "stop_after": { "seconds": 60 } }
    })
}

/// What a host is.
pub fn host() -> Value {
    json!({
        "address": "127.0.0.1", "agent_url": "http://127.0.0.1:1", "labels": {}, "cpus": 2,
        "memory_bytes": 4_000_000_000_u64,
        "engine_version": "20.10", "engine_api": "1.41", "os": "linux", "arch": "x86_64", "shef_version": "0",
        "policy": {"max_replicas": 7, "max_memory_bytes": 8}
    })
}

/// What an agent observed of a replica.
pub fn status() -> Value {
    json!({
        "replica": "web-000001", "state": "running", "health": "healthy", "restarts": 1, "turns": 2,
        "exit_code": 2,
        "ports": [{ "target": 80, "protocol": "tcp", "host_ip": "0.0.0.0", "published": 32_768 }], "since": 5
    })
}

/// What agents tell masters.
pub fn registration() -> Value {
    json!({
        "node": "h1", "uid": "00000000000000c1", "boot": "00000000000000b1", "cluster": "00000000000000cc",
        "accepted": accepted(), "holds": [assignment()], "ledger": digest(), "host": host(),
        "leader_silent_ms": 100
    })
}

/// What agents tell masters again and again.
pub fn report() -> Value {
    json!({
        "cluster": "00000000000000cc", "node": "h1", "boot": "00000000000000b1", "seq": 4,
        "accepted": accepted(), "ledger": digest(),
        "full": false, "statuses": [status()], "round_trip_ms": 6
    })
}

/// What a ledger holds.
fn digest() -> Value {
    json!({ "count": 1, "sum": "0123456789abcdef0123456789abcdef" })
}

/// What masters tell agents that understand each template once.
fn push_with_templates_once() -> Value {
    let mut push = push();
    push["templates"] = json!([push["set"][0]["template"].take()]);
    push["set"][0]["template"] = json!(0);
    // One that has its own.
    push["set"].as_array_mut().into_iter().for_each(|set| set.push(assignment()));
    push
}

/// What masters tell agents.
pub fn push() -> Value {
    json!({
        "cluster": "00000000000000cc", "fence": fence(), "base": 6, "holds": digest(), "revision": 7,
        "set": [assignment()], "remove": ["web-000002"]
    })
}

/// A service as format 1 stores it, amid a rollout.
pub fn service_record() -> Value {
    let mut record = json!({
        "spec": template(),
        "generation": 3, "deleted": false, "created": 1, "updated": 2, "rebalancing": 5,
        "homes": { "0": "h0" },
        "replicas": [
            { "id": "web-000001", "slot": 0, "generation": 2, "node": "h0", "want": "run", "attempt": 1,
                "done": 9 },
            { "id": "web-000002", "slot": 1, "generation": 3, "node": "h0", "want": "run", "attempt": 0,
                "moving": true }
        ],
        "earlier": { "2": template() },
        "digests": { "3": format!("sha256:{}", "a".repeat(64)) },
        "newest": 4, "next_number": 3, "emptied": [1],
        "rollout": {
            "from": 2, "phase": { "is": "rolling_back", "failed": 4, "why": "it crashed" }, "started": 6,
            "turned": [0, 1],
            "failures": { "0": 1 }, "emptied": [1], "promoted": true, "replicas": { "from": 1, "to": 2 }
        },
        "probation": { "from": 1, "started": 6, "replicas": { "from": 1, "to": 2 } },
        "history": [{ "generation": 1, "template": template(), "left": 7 }],
        "last_rollout": { "generation": 2, "started": 3, "ended": 4 }
    });
    let spec = &mut record["spec"];
    spec["name"] = json!("web");
    spec["replicas"] = json!(2);
    spec["on_disconnect"] = json!({ "stop_after": { "seconds": 60 } });
    spec["rebalance"] = json!({ "on": { "per_minute": 10 } });
    spec["placement"] = json!({ "max_per_host": 5 });
    spec["update"] = json!({
        "parallelism": 1, "surge": 2, "delay_ms": 3, "monitor_ms": 4, "deadline_ms": 5_000,
        "probation_ms": 5, "max_failures": 6,
        "canary": 1
    });
    record
}

/// The same in format 2: what does not grow with its replicas.
pub fn service_head() -> Value {
    let mut head = service_record();
    let whole = head.as_object_mut().expect("a map");
    for on_pages in ["replicas", "homes", "emptied"] {
        whole.remove(on_pages);
    }
    let template = template();
    let spec = whole["spec"].as_object_mut().expect("a map");
    spec.retain(|field, _| template.get(field).is_none());
    (whole["earlier"], whole["history"]) = (json!([2]), json!([[1, 7]]));
    head
}

/// The same in format 2: its first 64 slots.
pub fn service_page() -> Value {
    json!({
        "nodes": ["h0"],
        "replicas": [
            { "slot": 0, "number": 1, "generation": 2, "node": 0, "attempt": 1, "done": 9 },
            { "slot": 1, "number": 2, "generation": 3, "node": 0, "moving": true }
        ],
        "bindings": { "0": 0 }, "emptied": [1], "turned": [0, 1], "failures": { "0": 1 }
    })
}

/// A host as it is stored.
pub fn node_record() -> Value {
    json!({
        "node": "h9", "uid": "00000000000000c9", "host": host(), "joined": 1,
        "intent": { "drained": { "deadline": 4, "within": 3 } },
        "forgotten": 5
    })
}

fn usages() -> Value {
    json!({ "usages": [{ "replica": "web-000001", "usage": {
        "cpu_percent": 1.5, "memory_bytes": 1, "memory_limit_bytes": 2, "network_rx_bytes": 3,
        "network_tx_bytes": 4,
        "block_read_bytes": 5, "block_write_bytes": 6, "pids": 7
    } }] })
}

/// The counters as they are stored.
pub fn counts() -> Value {
    json!({
        "requests_succeeded": 1, "requests_failed": 2, "containers_created": 3, "containers_deleted": 4,
        "services_created": 5,
        "services_deleted": 6
    })
}

/// Every one of them.
pub fn all() -> Vec<Sample> {
    let (cluster, node, uid) = ("00000000000000cc", "h1", "00000000000000c1");
    let follows = json!({ "fence": fence(), "leader_silent_ms": 5 });
    let alive = json!({ "node": node, "uid": uid, "boot": "00000000000000b1", "follows": follows });
    vec![
        sample::<protocol::Push>("Push", push()),
        sample::<protocol::Push>("Push with templates once", push_with_templates_once()),
        sample::<protocol::PushRefused>(
            "PushRefused",
            json!({ "why": "wrong_base", "accepted": accepted(), "leader_silent_ms": 100 }),
        ),
        sample::<protocol::Accepted>("Accepted", accepted()),
        sample::<protocol::Registration>("Registration", registration()),
        sample::<protocol::Registered>(
            "Registered",
            json!({ "cluster": cluster, "fence": fence(), "report_interval_ms": 500 }),
        ),
        sample::<protocol::Report>("Report", report()),
        sample::<protocol::ReportAck>(
            "ReportAck",
            json!({
                "fence": fence(), "want_full": true, "want_registration": false, "report_interval_ms": 500,
                "push": push()
            }),
        ),
        sample::<protocol::Alive>("Alive", alive.clone()),
        sample::<protocol::ProbeThrough>(
            "ProbeThrough",
            json!({ "agent_url": "http://127.0.0.1:1", "limit_ms": 100 }),
        ),
        sample::<protocol::ProbePorts>(
            "ProbePorts",
            json!({ "addresses": ["127.0.0.1:1"], "limit_ms": 100 }),
        ),
        sample::<protocol::ProbeOutcome>("ProbeOutcome", json!({ "answered": alive })),
        sample::<usage::UsageQuery>("UsageQuery", json!({ "replicas": ["web-000001"] })),
        sample::<usage::Usages>("Usages", usages()),
        sample::<disk::DiskUsage>(
            "DiskUsage",
            json!({
                "used_percent": 1, "images": 2, "image_bytes": 3, "unneeded_images": 4, "unneeded_bytes": 5,
                "removed": []
            }),
        ),
        of_kinds::<exec::Control>(
            "Control",
            vec![json!({ "resize": { "rows": 24, "cols": 80 } }), json!({ "exit_code": 3 })],
        ),
        sample::<ServiceRecord>("ServiceRecord", service_record()),
        sample::<StoredHead>("Head", service_head()),
        sample::<StoredPage>("Page", service_page()),
        sample::<NodeRecord>("NodeRecord", node_record()),
        sample::<RegistryRecord>("RegistryRecord", json!({ "username": "u", "sealed": "x", "updated": 3 })),
        of_kinds::<AuthorityRecord>("AuthorityRecord", authority_records()),
        sample::<Counts>("Counts", counts()),
        of_kinds::<AuditLine>("AuditLine", audit_lines()),
    ]
}
