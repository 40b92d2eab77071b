//! Whole bodies in, and what they become or why they are refused.

mod many;
mod patch;
mod wrong;

use serde_json::{Map, Value, json};

use crate::{
    ids::ServiceName,
    spec::{Constraint, HealthTest, HttpCheck, Mount, OnDisconnect, Operator, Order, Protocol, ServiceSpec},
};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A service with these fields beside the ones that it must have.
fn with(fields: Value) -> Result<ServiceSpec, String> {
    let mut body = object(json!({"name": "web", "image": "nginx:1"}));
    body.extend(object(fields));
    ServiceSpec::read(body, None).map_err(|errors| said(&errors))
}

fn said(errors: &[crate::problem::FieldError]) -> String {
    errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_spec_that_says_nothing_has_every_default() {
    let spec = with(json!({})).unwrap();
    let template = crate::spec::Template::of(crate::image::ImageRef::parse("nginx:1").unwrap());
    assert_eq!(spec, ServiceSpec::of(ServiceName::parse("web").unwrap(), 1, template));
}

#[test]
fn every_field_is_read_and_comes_out_as_it_went_in() {
    let mut body = json!({
        "name": "web", "replicas": 3, "image": "nginx:1", "platform": "linux/arm64/v8", "pull": "always",
        "command": ["-g"], "entrypoint": ["/bin/nginx"],
        "env": {"A": "1"}, "working_dir": "/srv", "user": "www:82", "hostname": "web.local",
        "domainname": "example.org", "labels": {"team": "x"},
        "init": true, "tty": true, "read_only": true, "stop_signal": "SIGQUIT", "stop_grace_s": 30,
        "ulimits": {"nofile": {"soft": 1024, "hard": -1}}, "sysctls": {"net.core.somaxconn": "1024"},
        "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "group_add": ["video", "44"], "oom_score_adj": -500,
        "privileged": true, "security_opt": ["seccomp=unconfined", "apparmor=docker-default"], "pid": "host",
        "ipc": "shareable", "userns": "host", "cgroup_parent": "/batch.slice",
        "shm_bytes": 67_108_864,
        "extra_hosts": {"db": "10.0.0.9"}, "host_gateway": ["me"],
        "dns": ["10.0.0.1", "fd00::1"], "logging": {"driver": "local", "options": {"max-size": "1m"}},
    });
    let rest = json!({
        "devices": [{"source": "/dev/null", "target": "/dev/zero2", "permissions": "rw"}],
        "device_requests": [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}],
        "ports": [{"target": 80, "published": 8080},
            {"target": 53, "protocol": "udp", "host_ip": "127.0.0.1"}],
        "mounts": [
            {"type": "volume", "source": "data", "target": "/data", "driver": "local",
                "options": {"o": "x"}, "sticky": true},
            {"type": "bind", "source": "/etc/ssl", "target": "/etc/ssl", "read_only": true},
            {"type": "tmpfs", "target": "/tmp", "size_bytes": 1_048_576, "mode": "1777",
                "mount_options": ["exec", "uid=1000", "nr_inodes=64k"]},
        ],
        "secrets": [{"source": "db", "version": "0123456789abcdef0123456789abcdef", "target": "db.key",
            "uid": 82, "gid": 82, "mode": "0400"}],
        "configs": [{"source": "nginx.conf", "target": "/etc/nginx/nginx.conf"}],
        "networks": [{"name": "backend", "aliases": ["web"], "ipv4_address": "10.1.0.9",
            "ipv6_address": "fd00::9"}],
        "resources": {"reserve": {"cpu_millis": 500, "memory_bytes": 33_554_432},
            "limit": {"cpu_millis": 1000, "memory_bytes": 67_108_864, "swap_bytes": 0, "pids": 64}},
        "health": {
            "test": {"http": {"port": 80, "path": "/healthz", "https": true,
                "headers": {"Host": "a.example"}, "status": [200, 418]}},
            "interval_ms": 1_000, "timeout_ms": 500, "retries": 2, "start_period_ms": 100,
            "on_unhealthy": "replace",
        },
        "restart": {"condition": "on_failure", "delay_ms": 1_000, "max_attempts": 3, "window_ms": 60_000},
        "on_disconnect": {"stop_after": {"seconds": 60}}, "rebalance": {"on": {"per_minute": 6}},
        "placement": {"constraints": [{"key": "label.zone", "op": "in", "values": ["a", "b"]}],
            "preferences": [{"key": "node.os", "op": "==", "values": ["linux"]}], "spread_over": "zone",
            "max_per_host": 1, "strategy": "bin_pack"},
        "update": {"order": "stop-first", "parallelism": 5, "surge": 9, "delay_ms": 1, "monitor_ms": 2,
            "deadline_ms": 60_000, "probation_ms": 3, "failure_action": "pause", "max_failures": 1,
            "canary": 2},
    });
    body.as_object_mut().unwrap().extend(object(rest));
    let spec = ServiceSpec::read(object(body.clone()), None).unwrap();
    assert_eq!(Value::Object(spec.written()), body);
    assert_eq!(spec.template.ports[1].protocol, Protocol::Udp);
    assert!(matches!(&spec.template.mounts[0], Mount::Volume { sticky: true, .. }));
    assert!(matches!(
        spec.template.health.as_ref().unwrap().test,
        HealthTest::Http(HttpCheck { port: 80, .. })
    ));
    let zone =
        Constraint { key: "label.zone".into(), op: Operator::In, values: vec!["a".into(), "b".into()] };
    assert_eq!((spec.placement.constraints, spec.update.order), (vec![zone], Order::StopFirst));
}

#[test]
fn a_range_of_ports_stands_for_each_of_them() {
    let body = |ports: Value| object(json!({"name": "web", "image": "app:1", "ports": ports}));
    let range =
        json!([{"target": "8000-8002", "published": "9000-9002", "protocol": "udp"}, {"target": "81-82"}]);
    let single = json!([
        {"target": 8000, "published": 9000, "protocol": "udp"},
        {"target": 8001, "published": 9001, "protocol": "udp"},
        {"target": 8002, "published": 9002, "protocol": "udp"}, {"target": 81}, {"target": 82},
    ]);
    let read = ServiceSpec::read(body(range), None).unwrap();
    assert_eq!(read, ServiceSpec::read(body(single.clone()), None).unwrap());
    assert_eq!(serde_json::to_value(&read).unwrap()["ports"], single, "agents of every version read it");
    let most = ServiceSpec::read(body(json!([{"target": "1-64"}, {"target": 65}])), None).unwrap_err();
    assert_eq!(most[0].message, "must hold at most 64, but holds 65");
}

#[test]
fn an_ipv6_address_of_a_port_has_a_field_of_its_own_for_agents_of_before() {
    let body = |port: Value| object(json!({"name": "web", "image": "app:1", "ports": [port]}));
    let read = ServiceSpec::read(body(json!({"target": 80, "host_ip": "fd00::1"})), None).unwrap();
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written["ports"], json!([{"target": 80, "host_ipv6": "fd00::1"}]));
    assert_eq!(ServiceSpec::read(object(written), None).unwrap(), read);
    let needed = crate::fields::needed(&read.template, crate::fields::newer());
    assert!(needed.contains("ports[].host_ipv6"), "it goes to no agent that does not know it: {needed:?}");
    let old = ServiceSpec::read(body(json!({"target": 80, "host_ip": "10.0.0.1"})), None).unwrap();
    assert!(crate::fields::needed(&old.template, crate::fields::newer()).is_empty());
    let both = json!({"target": 80, "host_ip": "10.0.0.1", "host_ipv6": "::1"});
    let wrong = ServiceSpec::read(body(both), None).unwrap_err();
    assert_eq!(wrong[0].message, "must have host_ip or host_ipv6, but has both");
}

#[test]
fn a_local_volume_is_sticky_unless_the_spec_says_otherwise() {
    let read = |mount: Value| {
        let body = json!({"name": "web", "replicas": 1, "image": "app:1", "mounts": [mount]});
        ServiceSpec::read(object(body), None).unwrap()
    };
    let volume = json!({"type": "volume", "source": "data", "target": "/data"});
    let with = |key: &str, value: Value| {
        let mut mount = volume.clone();
        mount[key] = value;
        read(mount).template.mounts[0].is_sticky()
    };
    assert!(with("driver", json!("local")) && with("driver", json!("")) && with("options", json!({})));
    assert!(with("sticky", json!(true)) && !with("sticky", json!(false)));
    assert!(!with("driver", json!("rexray")) && !with("options", json!({"type": "nfs"})));
    assert!(!read(json!({"type": "bind", "source": "/a", "target": "/a"})).template.mounts[0].is_sticky());
    // A spec that was stored before keeps its behaviour when something else of it is changed.
    let stored = read(volume.clone());
    let mut stored = serde_json::to_value(stored).unwrap();
    stored["mounts"][0].as_object_mut().unwrap().remove("sticky");
    let stored: ServiceSpec = serde_json::from_value(stored).unwrap();
    assert!(!stored.template.mounts[0].is_sticky());
    let patched = stored.patched(&object(json!({"env": {"A": "1"}}))).unwrap();
    assert!(!patched.template.mounts[0].is_sticky());
    assert!(stored.patched(&object(json!({"mounts": [volume]}))).unwrap().template.mounts[0].is_sticky());
}

#[test]
fn a_mode_is_a_string_of_octal_digits_and_a_number_only_where_it_is_stored() {
    let mode = |mode: serde_json::Value| {
        let spec = with(json!({"mounts": [{"type": "tmpfs", "target": "/d", "mode": mode}]}));
        spec.map(|spec| match spec.template.mounts[0] {
            Mount::Tmpfs { mode, .. } => mode,
            Mount::Volume { .. } | Mount::Bind { .. } => unreachable!("it is tmpfs"),
        })
    };
    assert_eq!(mode(json!("1777")), Ok(Some(0o1777)));
    assert_eq!(mode(json!("0700")), Ok(Some(0o700)));
    let said = mode(json!(440)).unwrap_err();
    assert!(
        said.starts_with("mounts[0].mode must be octal digits in quotes, but is the number 440"),
        "{said}"
    );
    for list in ["secrets", "configs"] {
        let said = with(json!({list: [{"source": "a"}, {"source": "db", "mode": 440}]})).unwrap_err();
        assert!(said.starts_with(&format!("{list}[1].mode must be octal digits in quotes")), "{said}");
    }
    let spec = with(json!({"secrets": [{"source": "db", "mode": "0440"}]})).unwrap();
    let stored = serde_json::to_value(&spec).unwrap();
    assert_eq!(stored["secrets"][0]["mode"], 0o440, "as agents and stores hold it");
    assert_eq!(serde_json::from_value::<ServiceSpec>(stored).unwrap(), spec);
    assert_eq!(spec.written()["secrets"][0]["mode"], "0440", "as users read it");
    assert!(spec.patched(&object(json!({"replicas": 2}))).is_ok(), "a patch reads what is stored");
    assert_eq!(mode(json!(null)), Ok(None));
    assert!(mode(json!("rwx")).unwrap_err().contains("mode must be octal digits as in"));
    let said = mode(json!("77777")).unwrap_err();
    assert_eq!(
        said, "mounts[0].mode must be \"0000\" to \"7777\", but is \"77777\"",
        "more than a mode holds"
    );
}

#[test]
fn on_disconnect_takes_keep_or_a_bounded_time() {
    let stop = OnDisconnect::StopAfter { seconds: 3_600 };
    assert_eq!(
        with(json!({"on_disconnect": {"stop_after": {"seconds": 3600}}})).unwrap().on_disconnect,
        stop
    );
    let keeps = "on_disconnect must be \"keep\" or {\"stop_after\": {\"seconds\": 1 to 2592000}}, but is";
    for wrong in [
        json!("stop"),
        json!(5),
        json!(null),
        json!({"stop_after": 5}),
        json!({"stop_after": {"seconds": 0}}),
        json!({"stop_after": {"seconds": 2_592_001}}),
        json!({"stop_after": {"seconds": 1, "more": 2}}),
        json!({"stop_after": {"seconds": 1}, "more": 2}),
    ] {
        let said = with(json!({ "on_disconnect": wrong })).unwrap_err();
        assert!(said.starts_with(keeps), "{said}");
    }
}

#[test]
fn a_container_holds_a_bounded_number_of_bytes() {
    let said = with(json!({"env": {"A": "x".repeat(65_536)}})).unwrap_err();
    assert!(
        said.starts_with(
            "image and what else the container is made of must hold at most 65536 bytes as JSON, but hold 65"
        ),
        "{said}"
    );
}
