//! However many errors a body has, the answer stays small and comes soon.

use serde_json::{Map, Value, json};

use super::object;
use crate::{
    clock::{DurationMs, Now},
    problem::MAX_ERRORS,
    spec::ServiceSpec,
};

/// As many entries as fit into a body of this size.
const BODY_BYTES: usize = 240 * 1024;
/// The largest answer: every one of the errors at its longest.
const ANSWER_BYTES: usize = MAX_ERRORS * 700;

fn list(entry: &Value) -> Value {
    let entries = BODY_BYTES / (entry.to_string().len() + 1);
    Value::Array(vec![entry.clone(); entries])
}

fn map(value: &Value) -> Value {
    let entries = BODY_BYTES / (value.to_string().len() + 11);
    (0..entries).map(|n| (format!("\u{0}={n}"), value.clone())).collect::<Map<_, _>>().into()
}

fn bodies() -> Vec<Value> {
    let strings = list(&json!(""));
    let network = |name: &str| json!({ "name": name, "aliases": ["-"] });
    let tmpfs = json!({ "type": "tmpfs", "target": "/t", "mount_options": strings });
    let http = |key: &str, value: Value| {
        let mut check = json!({ "port": 1, "path": "/" });
        check[key] = value;
        json!({ "health": { "test": { "http": check } } })
    };
    let ranges = list(&json!({ "target": "1-64" }));
    vec![
        json!({ "cap_add": strings }),
        json!({ "cap_drop": strings }),
        json!({ "group_add": strings }),
        json!({ "host_gateway": strings }),
        json!({ "command": list(&json!("\u{0}")) }),
        json!({ "entrypoint": list(&json!("\u{0}")) }),
        json!({ "dns": strings }),
        json!({ "env": map(&json!("\u{0}")) }),
        json!({ "env": map(&json!(1)) }),
        json!({ "labels": map(&json!("\u{0}")) }),
        json!({ "sysctls": map(&json!("\u{0}")) }),
        json!({ "ulimits": map(&json!({ "soft": -2, "hard": -2 })) }),
        json!({ "extra_hosts": map(&json!("10.0.0.1")) }),
        json!({ "ports": list(&json!({ "target": 1 })) }),
        json!({ "ports": list(&json!({ "target": 0, "published": 0 })) }),
        json!({ "ports": ranges }),
        json!({ "networks": list(&network("a")) }),
        json!({ "networks": list(&network("host")) }),
        json!({ "networks": [{ "name": "n", "aliases": strings }] }),
        json!({ "mounts": list(&json!({ "type": "bind", "source": "", "target": "" })) }),
        json!({ "mounts": [tmpfs] }),
        json!({ "secrets": list(&json!({ "source": "a", "target": "..", "mode": "10000" })) }),
        json!({ "configs": list(&json!({ "source": "-" })) }),
        json!({ "devices": list(&json!({ "source": "" })) }),
        json!({ "device_requests": list(&json!({})) }),
        http("headers", map(&json!("\u{0}"))),
        http("status", list(&json!(1))),
        json!({ "placement": { "constraints": list(&json!({ "key": "", "op": "==", "values": [] })) } }),
        json!({ "placement": {
            "preferences": list(&json!({ "key": "", "op": "in", "values": ["\u{0}"] })),
        } }),
        json!({ "placement": { "constraints": [{ "key": "node.os", "op": "in", "values": strings }] } }),
        json!({ "placement": map(&json!(1)) }),
        map(&json!(1)),
        json!({ "labels": { "\u{0}".repeat(BODY_BYTES): "\u{0}" } }),
        json!({ "ulimits": { "x".repeat(BODY_BYTES): { "soft": -2, "hard": -2 } } }),
        json!({ "networks": [network(&"x".repeat(BODY_BYTES / 2)), network(&"x".repeat(BODY_BYTES / 2))] }),
        json!({ "user": "x".repeat(BODY_BYTES) }),
    ]
}

#[test]
fn the_errors_of_a_body_are_few_short_and_found_at_once() {
    for mut body in bodies() {
        let shown: String = body.to_string().chars().take(60).collect();
        let fields = body.as_object_mut().unwrap();
        fields.extend(object(json!({ "name": "web", "image": "nginx:1" })));
        let began = Now::read().mono;
        let errors = ServiceSpec::read(fields.clone(), None).unwrap_err();
        // A check of each entry against all before it takes minutes.
        let took = Now::read().mono - began;
        assert!(took < DurationMs(20_000), "{shown} took {} ms", took.0);
        assert!(errors.len() <= 2 * MAX_ERRORS, "{shown} has {} errors", errors.len());
        let bytes: usize = errors.iter().map(|error| error.field.len() + error.message.len()).sum();
        assert!(bytes <= ANSWER_BYTES, "{shown} has errors of {bytes} bytes");
    }
}

#[test]
fn entries_beyond_the_most_are_counted_and_not_checked() {
    let errors = ServiceSpec::read(
        object(json!({ "name": "web", "image": "nginx:1", "cap_add": vec!["BOGUS"; 65] })),
        None,
    );
    let errors = errors.unwrap_err();
    assert_eq!(errors.len(), 65);
    assert_eq!(errors[0].message, "must hold at most 64, but holds 65");
    assert_eq!(errors[64].field, "cap_add[63]");
}
