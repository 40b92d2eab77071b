//! Values of another kind than their fields take.

use serde_json::{Value, json};

use crate::spec::ServiceSpec;

/// Every kind of health check.
const CHECKS: &str = "{\"cmd\": [\"...\"]}, or {\"shell\": \"...\"}, or {\"http\": {\"port\": 80, \
                      \"path\": \"/\"}}, or {\"tcp\": {\"port\": 80}}, or \"none\"";

/// Why a service with these fields is refused.
fn refused(mut fields: Value) -> String {
    fields["name"] = json!("web");
    fields["image"] = json!("nginx:1");
    let errors = ServiceSpec::read(fields.as_object().unwrap().clone(), None).unwrap_err();
    errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_is_of_another_kind_is_told_what_is_right() {
    for (fields, wanted) in [
        (
            json!({"ports": ["8080:80"]}),
            "ports[0] must be an object such as {\"target\": 80}, but is \"8080:80\"",
        ),
        (json!({"ports": 80}), "ports must be a list, each an object such as {\"target\": 80}, but is 80"),
        (
            json!({"ports": [{"target": 80, "publish": 8080, "protocol": "tpc"}]}),
            "ports[0].protocol must be tcp or udp, but is \"tpc\": did you mean tcp?; \
             ports[0].publish is not a field here: did you mean published?",
        ),
        (
            json!({"ports": [{}]}),
            "ports[0].target is required: a port from 1 to 65535, or a range such as \"8000-8010\"",
        ),
        (
            json!({"ports": [{"target": "80"}]}),
            "ports[0].target must be a port, or a range of at most 64 such as \"8000-8010\", but is \"80\"",
        ),
        (
            json!({"ports": [{"target": "8010-8000"}, {"target": "1-65"}]}),
            "ports[0].target must be a port, or a range of at most 64 such as \"8000-8010\", but is \
             \"8010-8000\"; ports[1].target must be a port, or a range of at most 64 such as \
             \"8000-8010\", but is \"1-65\"",
        ),
        (
            json!({"ports": [{"target": 1}, {"target": "1-64", "published": 8080}]}),
            "ports[1] must publish as many ports as it targets, but 8080 and 1-64 differ in length",
        ),
        (
            json!({"mounts": ["data:/data"]}),
            "mounts[0] must be an object such as {\"type\": \"volume\", \"source\": \"...\", \"target\": \
             \"...\"}, but is \"data:/data\"",
        ),
        (json!({"mounts": [{"target": "/d"}]}), "mounts[0].type is required: one of volume, bind, tmpfs"),
        (
            json!({"mounts": [{"type": "vol", "target": "/d"}]}),
            "mounts[0].type must be one of volume, bind, tmpfs, but is \"vol\"",
        ),
        (
            json!({"mounts": [{"type": "bind", "source": 5, "traget": "/d"}]}),
            "mounts[0].source must be a string, but is 5; \
             mounts[0].traget is not a field here: did you mean target?; \
             mounts[0].target is required: a string",
        ),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/d", "mode": "9"}]}),
            "mounts[0] mode must be octal digits as in \"1777\", but is \"9\"",
        ),
        (json!({"health": {"test": 5}}), &format!("health.test must be {CHECKS}, but is 5")),
        (
            json!({"health": {"test": "http"}}),
            "health.test must be an object: {\"http\": {\"port\": 80, \"path\": \"/\"}}, but is \"http\"",
        ),
        (
            json!({"health": {"test": "tcp"}}),
            "health.test must be an object: {\"tcp\": {\"port\": 80}}, but is \"tcp\"",
        ),
        (
            json!({"health": {"test": "shell"}}),
            "health.test must be an object: {\"shell\": \"...\"}, but is \"shell\"",
        ),
        (
            json!({"health": {"test": "htp"}}),
            &format!("health.test must be {CHECKS}, but is \"htp\": did you mean http?"),
        ),
        (
            json!({"health": {"test": {"htp": {"port": 80}}}}),
            &format!("health.test must be {CHECKS}, but is {{\"htp\":{{\"port\":80}}}}: did you mean http?"),
        ),
        (
            json!({"health": {"test": {"http": {"port": 80, "path": "/"}, "tcp": {"port": 80}}}}),
            "health.test must have exactly one of cmd, shell, http, tcp, but has http and tcp",
        ),
        (
            json!({"health": {"test": {"http": 80}}}),
            "health.test.http must be an object such as {\"port\": 80, \"path\": \"/\"}, but is 80",
        ),
        (
            json!({"health": {"test": {"http": {"path": "/", "port": "80"}}}}),
            "health.test.http.port must be a port from 1 to 65535, but is \"80\"",
        ),
        (json!({"health": {"interval_ms": 1000}}), &format!("health.test is required: {CHECKS}")),
        (
            json!({"resources": {"limit": {"memory_bytes": "64MB"}}}),
            "resources.limit.memory_bytes must be a whole number from 0, but is \"64MB\"",
        ),
        (
            json!({"resources": {"limit": 5}}),
            "resources.limit must be an object with some of cpu_millis, memory_bytes, pids, swap_bytes, but \
             is 5",
        ),
        (json!({"env": ["A=1"]}), "env must be an object, each value a string, but is [\"A=1\"]"),
        (json!({"tty": "yes"}), "tty must be true or false, but is \"yes\""),
        (
            json!({"update": {"order": "start-frist", "paralelism": 2}}),
            "update.order must be one of auto, start-first, stop-first, but is \"start-frist\": \
             did you mean start-first?; update.paralelism is not a field here: did you mean parallelism?",
        ),
        (
            json!({"resources": {"memory": "64m"}}),
            "resources.memory is not a field here: did you mean limit.memory_bytes?",
        ),
        (
            json!({"resources": {"gpu": 1, "limit": {"memory": 1}}}),
            "resources.gpu is not a field here: its fields are limit, reserve; \
             resources.limit.memory is not a field here: did you mean memory_bytes?",
        ),
        (
            json!({"memory": "64m"}),
            "memory is not a field of this body: did you mean resources.limit.memory_bytes?",
        ),
        (
            json!({"mounts": [
                {"type": "tmpfs", "target": "/d", "mode": "9"},
                {"type": "bind", "target": "/e"},
                {"type": "tmpfs", "target": "/f", "mode": "x"},
            ]}),
            "mounts[0] mode must be octal digits as in \"1777\", but is \"9\"; \
             mounts[1].source is required: a string; \
             mounts[2] mode must be octal digits as in \"1777\", but is \"x\"",
        ),
        (json!({"stop_grace_s": -1}), "stop_grace_s must be a whole number from 0 to 4294967295, but is -1"),
    ] {
        assert_eq!(refused(fields.clone()), wanted, "{fields}");
    }
}

#[test]
fn a_long_list_of_wrong_items_is_read_in_part() {
    use std::cell::Cell;
    let list = |wrong_from: usize| -> Value {
        (0..100_000).map(|n| if n < wrong_from { json!("ok") } else { json!(5) }).collect()
    };
    for (wrong_from, named) in [(0, 16), (99_990, 10)] {
        let reads = Cell::new(0);
        let read = |value: Value| {
            reads.set(reads.get() + 1);
            super::try_read::<Vec<String>>(value).map(drop)
        };
        let schema = super::schema_of::<Vec<String>>();
        let errors = super::wrong(&schema, &list(wrong_from), "command", &read);
        assert_eq!(errors.len(), named);
        assert_eq!(errors[0].field, format!("command[{wrong_from}]"));
        assert!(reads.get() <= 65, "{} reads", reads.get());
    }
}
