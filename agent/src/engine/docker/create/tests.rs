use serde_json::{Value, json};
use shef_common::{
    fields,
    ids::{ReplicaId, ServiceName},
};

use super::*;
use crate::{engine::RestartPolicy, files::files_of};

/// Something else than the default in every field that a template has, at any depth.
fn everything() -> Value {
    let first = json!({
        "image": "app:1", "platform": "linux/arm64", "pull": "always", "command": ["a"],
        "entrypoint": ["b"], "env": {"A": "1"}, "working_dir": "/w",
        "user": "u", "hostname": "h", "domainname": "d", "labels": {"l": "1"}, "init": true,
        "tty": true, "read_only": true, "stop_signal": "SIGINT", "stop_grace_s": 1,
        "ulimits": {"nofile": {"soft": 1, "hard": 1}}, "sysctls": {"net.a": "1"},
        "cap_add": ["ALL"], "cap_drop": ["ALL"], "group_add": ["g"],
        "oom_score_adj": 1, "shm_bytes": 4_096, "privileged": true,
        "security_opt": ["seccomp=unconfined"], "pid": "host", "ipc": "host",
        "userns": "host", "cgroup_parent": "/c",
        "extra_hosts": {"a": "10.0.0.1"}, "host_gateway": ["b"], "dns": ["10.0.0.1"],
        "logging": {"driver": "local", "options": {"a": "b"}}, "forced": 1,
    });
    let second = json!({
        "devices": [{"source": "/dev/null", "target": "/dev/zero", "permissions": "r"}],
        "device_requests": [{"driver": "d", "count": 1, "device_ids": ["0"], "capabilities": [["gpu"]]}],
        "ports": [
            {"target": 80, "published": 80, "protocol": "udp", "host_ip": "10.0.0.1"},
            {"target": 80, "host_ipv6": "::1"},
        ],
        "mounts": [
            {"type": "volume", "source": "v", "target": "/v", "read_only": true, "driver": "d",
                "options": {"a": "b"}, "sticky": true},
            {"type": "bind", "source": "/b", "target": "/b", "read_only": true},
            {"type": "tmpfs", "target": "/t", "size_bytes": 4_096, "mode": 1_023,
                "mount_options": ["exec"]},
        ],
        "secrets": [{"source": "s", "version": "0123456789abcdef0123456789abcdef", "target": "t",
            "uid": 1, "gid": 1, "mode": 256}],
        "configs": [{"source": "c", "version": "0123456789abcdef0123456789abcdef", "target": "t",
            "uid": 1, "gid": 1, "mode": 256}],
        "networks": [{"name": "n", "aliases": ["a"], "ipv4_address": "10.1.0.9",
            "ipv6_address": "fd00::9"}],
        "resources": {
            "reserve": {"cpu_millis": 1, "memory_bytes": 1},
            "limit": {"cpu_millis": 1_000, "memory_bytes": 8_388_608, "swap_bytes": 1, "pids": 1},
        },
        "health": {"test": {"shell": "true"}, "interval_ms": 1, "timeout_ms": 1, "retries": 1,
            "start_period_ms": 1, "on_unhealthy": "replace"},
        "restart": {"condition": "never", "delay_ms": 1, "max_attempts": 1, "window_ms": 1},
    });
    let fields = [first, second].into_iter().flat_map(|part| part.as_object().unwrap().clone());
    Value::Object(fields.collect())
}

/// The other kinds of health check.
fn checks() -> [Value; 3] {
    [
        json!({"cmd": ["true"]}),
        json!({"tcp": {"port": 1}}),
        json!({"http": {"port": 1, "path": "/", "https": true, "headers": {"a": "b"}, "status": [200]}}),
    ]
}

/// Fields that the engine is not told: the agent itself pulls, checks and restarts; the scheduler
/// reserves resources and keeps slots on their hosts; a forced restart changes nothing.
fn is_of_no_concern_to_the_engine(path: &str) -> bool {
    ["image", "pull", "restart", "forced", "resources.reserve", "mounts[].sticky", "health.on_unhealthy"]
        .iter()
        .any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// `value` without each of its fields, by the field's path.
fn without_each(value: &Value, path: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let with = |inner: Option<Value>| {
                    let mut fields = fields.clone();
                    match inner {
                        Some(inner) => fields.insert(name.clone(), inner),
                        None => fields.remove(name),
                    };
                    Value::Object(fields)
                };
                found.push((path.clone(), with(None)));
                found.extend(
                    without_each(field, &path).into_iter().map(|(path, inner)| (path, with(Some(inner)))),
                );
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                let with = |inner: Value| {
                    let mut items = items.clone();
                    items[nth] = inner;
                    Value::Array(items)
                };
                let inner = without_each(item, &format!("{path}[]"));
                found.extend(inner.into_iter().map(|(path, inner)| (path, with(inner))));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}

/// The create request for a template.
fn config_for(template: Template) -> Value {
    let service = ServiceName::parse("web").unwrap();
    let files = files_of(&template, "/run/shef/secrets/00000000000000a1");
    let order = CreateOrder {
        replica: ReplicaId::new(&service, 1),
        image: template.image.clone(),
        template: template.into(),
        labels: HashMap::new(),
        policy: RestartPolicy::UnlessStopped,
        files,
    };
    let body = create_body(&order, Some("id-of-n".to_owned()));
    serde_json::to_value((create_options(&order), body)).unwrap()
}

#[test]
fn no_container_gains_privileges_or_has_processes_without_bound() {
    let mut template = Template::of(shef_common::image::ImageRef::parse("app").unwrap());
    let host = &config_for(template.clone())[1]["HostConfig"];
    assert_eq!((&host["SecurityOpt"], &host["PidsLimit"]), (&json!(["no-new-privileges"]), &json!(4_096)));
    for (given, wanted) in [
        (json!(["seccomp=unconfined"]), json!(["seccomp=unconfined", "no-new-privileges"])),
        (json!(["no-new-privileges=false"]), json!(["no-new-privileges=false"])),
    ] {
        template.security_opt = serde_json::from_value(given).unwrap();
        assert_eq!(config_for(template.clone())[1]["HostConfig"]["SecurityOpt"], wanted);
    }
}

#[test]
fn volumes_of_the_control_plane_are_told_apart() {
    let mounts = |source: &str| -> Template {
        serde_json::from_value(json!({
            "image": "app",
            "mounts": [
                {"type": "tmpfs", "target": "/t"},
                {"type": "volume", "source": source, "target": "/v"},
            ],
        }))
        .unwrap()
    };
    assert_eq!(system_volume(&mounts("shef-secrets")), Some("shef-secrets"));
    // An earlier version took this name of a user's own.
    assert_eq!(system_volume(&mounts("shef-data")), None);
}

#[test]
fn every_field_of_a_template_reaches_the_engine() {
    let whole = everything();
    let template: Template = serde_json::from_value(whole.clone()).unwrap();
    let mut set = fields::needed(&template, fields::all());
    for check in checks() {
        let mut other = whole.clone();
        other["health"]["test"] = check;
        set.extend(fields::needed(&serde_json::from_value(other).unwrap(), fields::all()));
    }
    // A path with `=` is a word, not a field.
    let forgotten: Vec<_> =
        fields::all().iter().filter(|path| !path.contains('=') && !set.contains(*path)).collect();
    assert!(forgotten.is_empty(), "these fields are missing in this test: {forgotten:?}");
    let whole_config = config_for(template);
    for (path, without) in without_each(&whole, "") {
        // Of a map the keys are no fields; without a field that is required there is no template.
        if !fields::all().contains(&path) || is_of_no_concern_to_the_engine(&path) {
            continue;
        }
        if let Ok(template) = serde_json::from_value(without) {
            assert_ne!(config_for(template), whole_config, "the engine does not get {path}");
        }
    }
}
