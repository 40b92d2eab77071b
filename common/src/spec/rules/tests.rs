//! Whole bodies in, and what they become or why they are refused.

use serde_json::{Map, Value, json};

use crate::{
    ids::ServiceName,
    spec::{
        Constraint, HealthTest, HttpCheck, Mode, Mount, OnDisconnect, Operator, Order, Protocol, Rebalance,
        ServiceSpec,
    },
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

fn patched(before: &ServiceSpec, patch: Value) -> Result<ServiceSpec, String> {
    before.patched(&object(patch)).map_err(|errors| said(&errors))
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
        "labels": {"team": "x"},
        "init": true, "tty": true, "read_only": true, "stop_signal": "SIGQUIT", "stop_grace_s": 30,
        "ulimits": {"nofile": {"soft": 1024, "hard": -1}}, "sysctls": {"net.core.somaxconn": "1024"},
        "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "group_add": ["video", "44"], "oom_score_adj": -500,
        "shm_bytes": 67_108_864,
        "extra_hosts": {"db": "10.0.0.9"}, "host_gateway": ["me"],
        "dns": ["10.0.0.1", "fd00::1"], "logging": {"driver": "local", "options": {"max-size": "1m"}},
    });
    let rest = json!({
        "devices": [{"source": "/dev/null", "target": "/dev/zero2", "permissions": "rw"}],
        "device_requests": [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}],
        "ports": [{"target": 80, "published": 8080}, {"target": 53, "protocol": "udp", "host_ip": "127.0.0.1"}],
        "mounts": [
            {"type": "volume", "source": "data", "target": "/data", "driver": "local",
                "options": {"o": "x"}, "sticky": true},
            {"type": "bind", "source": "/etc/ssl", "target": "/etc/ssl", "read_only": true},
            {"type": "tmpfs", "target": "/tmp", "size_bytes": 1_048_576, "mode": 1023,
                "mount_options": ["exec", "uid=1000", "nr_inodes=64k"]},
        ],
        "networks": [{"name": "backend", "aliases": ["web"], "ipv4_address": "10.1.0.9",
            "ipv6_address": "fd00::9"}],
        "resources": {"reserve": {"cpu_millis": 500, "memory_bytes": 33_554_432},
            "limit": {"cpu_millis": 1000, "memory_bytes": 67_108_864, "swap_bytes": 0, "pids": 64}},
        "health": {"test": {"http": {"port": 80, "path": "/healthz", "https": true, "headers": {"Host": "a.example"}, "status": [200, 418]}}, "interval_ms": 1_000, "timeout_ms": 500, "retries": 2, "start_period_ms": 100, "on_unhealthy": "replace"},
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
    assert_eq!(serde_json::to_value(&spec).unwrap(), body);
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
fn a_volume_whose_data_is_on_one_host_alone_is_sticky_unless_the_spec_says_otherwise() {
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
fn what_is_wrong_is_named_with_its_path_and_what_would_be_right() {
    for (fields, wanted) in [
        (json!({"bogus": 1}), "bogus is not a field of this body"),
        (json!({"replcas": 1}), "replcas is not a field of this body: did you mean replicas?"),
        (json!({"comand": ["a"]}), "comand is not a field of this body: did you mean command?"),
        (json!({"volumes": []}), "volumes is not a field of this body: did you mean mounts?"),
        (json!({"forced": 1}), "forced is not a field of this body"),
        (json!({"replicas": -1}), "replicas must be a whole number from 0 to 10000, but is -1"),
        (
            json!({"mode": "global", "replicas": 3}),
            "replicas must not be given in mode global: there is one replica a host",
        ),
        (json!({"mode": "many"}), "mode must be replicated or global, but is \"many\""),
        (json!({"pull": "often"}), "pull must be one of missing, always, never, but is \"often\""),
        (json!({"stop_grace_s": 4_000}), "stop_grace_s must be 0 to 3600 seconds, but is 4000"),
        (json!({"command": ["a\u{0}"]}), "command[0] must not contain a zero byte, but is a\\u{0}"),
        (
            json!({"env": {"A=B": "x"}}),
            "env names must not be empty or contain '=' or a zero byte, but is \\\"A=B\\\"",
        ),
        (json!({"env": {"A": 1}}), "env.A must be a string, but is 1"),
        (
            json!({"working_dir": "srv"}),
            "working_dir must be an absolute path without .. or control characters, but is srv",
        ),
        (
            json!({"user": "a b"}),
            "user must be user or user:group by name or number, without spaces, but is a b",
        ),
        (
            json!({"labels": {"shef.slot": "1"}}),
            "labels keys that begin with shef are the control plane's own: choose another, but is shef.slot",
        ),
        (
            json!({"stop_signal": "TERM!"}),
            "stop_signal must be a signal such as SIGTERM, SIGRTMIN+3 or 15 (1 to 64), but is TERM!",
        ),
        (
            json!({"stop_signal": "SIGFOO"}),
            "stop_signal must be a signal such as SIGTERM, SIGRTMIN+3 or 15 (1 to 64), but is SIGFOO",
        ),
        (
            json!({"health": {"test": {"http": {"port": 1, "path": "/", "headers": {"Te": "x", "X-A": "a\r\nb"}, "status": [600]}}}}),
            "health.test.http.headers must be a header that a check may set: letters, digits and hyphens, \
             and none of the connection's own, but is Te; health.test.http.headers.X-A must hold at most \
             1024 visible ASCII characters and spaces, but is a\\r\\nb; health.test.http.status must be \
             statuses from 100 to 599, but is 600",
        ),
        (
            json!({"health": {"test": {"http": {"port": 1, "path": "/", "headers": {"host": "a", "Host": "b"}}}}}),
            "health.test.http.headers.Host must be there once, whatever the case of its letters, but is Host; \
             health.test.http.headers.host must be there once, whatever the case of its letters, but is host",
        ),
        (
            json!({"oom_score_adj": 1001, "resources": {"limit": {"swap_bytes": 1}}}),
            "oom_score_adj must be -1000 to 1000, but is 1001; resources.limit.swap_bytes must come with \
             a limit of memory_bytes, but is 1",
        ),
        (
            json!({"extra_hosts": {"me": "host-gateway"}}),
            "extra_hosts must hold addresses, but me is \"host-gateway\": for the host itself, say \
             host_gateway = [\"me\"]",
        ),
        (
            json!({"extra_hosts": {"me": "10.0.0.1"}, "host_gateway": ["me", "a b", "x", "x"]}),
            "host_gateway[0] must be no name that leads elsewhere too, but is me; host_gateway[1] must be 1 \
             to 63 letters, digits, underscores, dots and hyphens that begin and end with a letter or a \
             digit, but is a b; host_gateway[3] must be no name that leads elsewhere too, but is x",
        ),
        (
            json!({"group_add": ["video", "a b"]}),
            "group_add[1] must be a group by name or number, without spaces, but is a b",
        ),
        (
            json!({"mounts": [{"type": "volume", "source": "data", "target": "/a"}],
                "update": {"order": "start-first"}}),
            "update.order must be auto or stop-first while a volume keeps its slot on its host (sticky): \
             the old and the new replica would use it at the same time",
        ),
        (
            json!({"user": "4294967296"}),
            "user must be user or user:group by name or number, without spaces, but is 4294967296",
        ),
        (
            json!({"cap_drop": ["FOO_BAR"]}),
            "cap_drop[0] must be ALL or a capability such as NET_ADMIN or CAP_NET_ADMIN, but is FOO_BAR",
        ),
        (
            json!({"sysctls": {"vm.swappiness": "1"}}),
            "sysctls must be a kernel parameter that a container has of its own (net.*, fs.mqueue.*, \
             kernel.msg*, kernel.sem, kernel.shm*), but is vm.swappiness",
        ),
        (
            json!({"sysctls": {"net.core.somaxconn": "1"}, "networks": [{"name": "host"}]}),
            "sysctls must not be below net. on network host, where they are the host's, but is \
             net.core.somaxconn",
        ),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/a//b"}, {"type": "tmpfs", "target": "/a/./b/"}]}),
            "mounts[1].target must be mounted once, but /a/./b/ is mounted twice",
        ),
        (
            json!({"networks": [{"name": "default"}]}),
            "networks[0].name must be another name (the engine's own is bridge), but is default",
        ),
        (
            json!({"ulimits": {"nofile": {"soft": 2, "hard": 1}}}),
            "ulimits.nofile.soft must not be above hard (1), but is 2",
        ),
        (
            json!({"cap_add": ["net_admin"]}),
            "cap_add[0] must be ALL or a capability such as NET_ADMIN or CAP_NET_ADMIN, but is net_admin",
        ),
        (json!({"dns": ["10.0.0"]}), "dns[0] must be an IP address, but is \"10.0.0\""),
        (
            json!({"platform": "arm64"}),
            "platform must be OS/ARCHITECTURE such as linux/amd64, linux/arm64 or linux/arm/v7, but is \
             \"arm64\"",
        ),
        (
            json!({"devices": [{"source": "null"}]}),
            "devices[0].source must be an absolute path without .. or control characters, but is null",
        ),
        (
            json!({"device_requests": [{}]}),
            "device_requests[0] must name a driver, or capabilities such as [[\"gpu\"]], but names neither",
        ),
        (
            json!({"ports": [{"target": 80}, {"target": 70_000}]}),
            "ports[1].target must be a port from 1 to 65535, or a range such as \"8000-8010\", but is 70000",
        ),
        (
            json!({"ports": [{"target": 80, "published": 0}]}),
            "ports[0].published must be 1 to 65535, or absent to have the engine choose, but is 0",
        ),
        (
            json!({"ports": [{"target": 80, "published": 80, "host_ip": "::"}, {"target": 81, "published": 80, "host_ip": "::1"}]}),
            "ports[1] must differ from ports[0], but both publish port 80 (tcp)",
        ),
        (
            json!({"ports": [{"target": 80, "host_ip": "10.0.0"}]}),
            "ports[0].host_ip must be an IP address, but is \"10.0.0\"",
        ),
        (json!({"ports": [{"target": 80, "mode": "host"}]}), "ports[0].mode is not a field here"),
        (
            json!({"ports": [{"target": 80, "published": 80, "host_ip": "127.0.0.1"}, {"target": 81, "published": 80}]}),
            "ports[1] must differ from ports[0], but both publish port 80 (tcp)",
        ),
        (
            json!({"mounts": [{"type": "volume", "source": "d", "target": "/d"}]}),
            "mounts[0].source must be 2 to 128 letters, digits, underscores, dots and hyphens that begin \
             with a letter or a digit, but is d",
        ),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/d"}, {"type": "tmpfs", "target": "/d/"}]}),
            "mounts[1].target must be mounted once, but /d/ is mounted twice",
        ),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/d", "size_bytes": 0}]}),
            "mounts[0].size_bytes must be 4096 to 1125899906842624 bytes, but is 0",
        ),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/d", "mount_options": ["exec", "size=1m"]}]}),
            "mounts[0].mount_options[1] must be an option such as exec, suid, dev, ro, noatime, uid=1000, \
             gid=1000, nr_inodes=64k or nr_blocks=64k; size and mode are fields of their own, but is size=1m",
        ),
        (
            json!({"health": {"test": "none", "on_unhealthy": "restart"}}),
            "health.on_unhealthy must be report without a check (test none), but is restart",
        ),
        (
            json!({"health": {"test": {"shell": "x"}, "on_unhealthy": "restart"},
                "restart": {"condition": "never"}}),
            "health.on_unhealthy must be report or replace while restart.condition is never, but is restart",
        ),
        (
            json!({"health": {"test": {"shell": "x"}, "on_unhealthy": "kill"}}),
            "health.on_unhealthy must be one of report, restart, replace, but is \"kill\"",
        ),
        (
            json!({"networks": [{"name": "../x"}]}),
            "networks[0].name must be 2 to 128 letters, digits, underscores, dots and hyphens that begin \
             with a letter or a digit, but is ../x",
        ),
        (
            json!({"networks": [{"name": "bridge", "ipv4_address": "172.17.0.9"}]}),
            "networks[0].ipv4_address must be absent on the engine's own network bridge: only networks of \
             a known subnet take one",
        ),
        (
            json!({"networks": [{"name": "lan", "ipv4_address": "224.0.0.1"}]}),
            "networks[0].ipv4_address must be the address of one container, but is 224.0.0.1",
        ),
        (
            json!({"networks": [{"name": "lan", "ipv6_address": "10.0.0.1"}]}),
            "networks[0].ipv6_address must be an IPv6 address, but is \"10.0.0.1\"",
        ),
        (
            json!({"replicas": 2, "networks": [{"name": "lan", "ipv4_address": "10.0.0.9"}]}),
            "replicas must be 0 or 1, or placement.max_per_host 1, while networks[0] names the address of \
             a replica, but is 2",
        ),
        (
            json!({"update": {"order": "start-first"},
                "networks": [{"name": "lan", "ipv4_address": "10.0.0.9"}]}),
            "update.order must be auto or stop-first while networks[0] names the address of a replica: \
             the old and the new replica would have the same",
        ),
        (
            json!({"networks": [{"name": "host"}], "ports": [{"target": 80}]}),
            "ports must be empty on network host: nothing is published there",
        ),
        (
            json!({"networks": [{"name": "bridge", "aliases": ["web"]}]}),
            "networks[0].aliases must be empty on the engine's own network bridge",
        ),
        (
            json!({"resources": {"limit": {"memory_bytes": 1_000}}}),
            "resources.limit.memory_bytes must be 0 (no limit) or at least 6291456 bytes (6 MiB), but is 1000",
        ),
        (
            json!({"resources": {"reserve": {"cpu_millis": 600}, "limit": {"cpu_millis": 500}}}),
            "resources.reserve.cpu_millis must not be above the limit of 500, but is 600",
        ),
        (json!({"resources": {"limits": {}}}), "resources.limits is not a field here: did you mean limit?"),
        (
            json!({"health": {"test": {"http": {"port": 80, "path": "x"}}}}),
            "health.test.http.path must begin with / and hold at most 1024 visible ASCII characters \
             without #, but is x",
        ),
        (json!({"health": {"test": "none", "retries": 0}}), "health.retries must be 1 to 100, but is 0"),
        (
            json!({"restart": {"delay_ms": 3_600_001}}),
            "restart.delay_ms must be 0 to 3600000 milliseconds, but is 3600001",
        ),
        (
            json!({"placement": {"constraints": [{"key": "zone", "op": "==", "values": ["a"]}]}}),
            "placement.constraints[0].key must be node.name, node.os, node.arch or label.KEY, but is zone",
        ),
        (
            json!({"placement": {"preferences": [{"key": "node.os", "op": "==", "values": []}]}}),
            "placement.preferences[0].values must hold one value for ==, but holds 0",
        ),
        (
            json!({"placement": {"constraints": [{"key": "node.os", "op": "=", "values": []}]}}),
            "placement.constraints[0].op must be one of ==, !=, in, exists, but is \"=\"",
        ),
        (json!({"placement": {"max_per_host": 0}}), "placement.max_per_host must be 1 to 10000, but is 0"),
        (json!({"update": {"parallelism": 0}}), "update.parallelism must be 1 to 10000, but is 0"),
        (json!({"update": {"parallelism": 4, "surge": 3}}), "update.surge must be 4 to 10000, but is 3"),
        (
            json!({"update": {"deadline_ms": 5}}),
            "update.deadline_ms must be 1000 to 86400000 milliseconds, but is 5",
        ),
        (
            json!({"rebalance": {"on": {"per_minute": 1001}}}),
            "rebalance must be \"off\" or {\"on\": {\"per_minute\": 1 to 1000}}, but is \
             {\"on\":{\"per_minute\":1001}}",
        ),
    ] {
        assert_eq!(with(fields.clone()).unwrap_err(), wanted, "{fields}");
    }
}

#[test]
fn a_mode_is_octal_as_a_string_and_itself_as_a_number() {
    let mode = |mode: serde_json::Value| {
        let spec = with(json!({"mounts": [{"type": "tmpfs", "target": "/d", "mode": mode}]}));
        spec.map(|spec| match spec.template.mounts[0] {
            Mount::Tmpfs { mode, .. } => mode,
            Mount::Volume { .. } | Mount::Bind { .. } => unreachable!("it is tmpfs"),
        })
    };
    assert_eq!(mode(json!("1777")), Ok(Some(0o1777)));
    assert_eq!(mode(json!("0700")), Ok(Some(0o700)));
    assert_eq!(mode(json!(1023)), Ok(Some(0o1777)), "as agents and stores hold it");
    assert_eq!(mode(json!(null)), Ok(None));
    assert!(mode(json!("rwx")).unwrap_err().contains("mode must be octal digits as in"));
    assert!(mode(json!("77777")).is_err(), "more than a mode holds");
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let body = json!({"image": "UPPER/..", "replicas": "x", "env": [], "ports": [{"target": 0}],
        "update": {"canary": 10_001}, "more": 1});
    let fields: Vec<_> =
        ServiceSpec::read(object(body), None).unwrap_err().into_iter().map(|error| error.field).collect();
    assert_eq!(fields, ["name", "image", "env", "replicas", "ports[0].target", "update.canary", "more"]);
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

#[test]
fn a_patch_changes_what_it_names_field_by_field_and_null_brings_back_the_default() {
    let before =
        with(json!({"replicas": 3, "env": {"A": "1", "B": "2"}, "update": {"parallelism": 4, "canary": 1}}))
            .unwrap();
    let after = patched(&before, json!({"env": {"A": null, "C": "3"}, "update": {"canary": null}})).unwrap();
    let wanted =
        with(json!({"replicas": 3, "env": {"B": "2", "C": "3"}, "update": {"parallelism": 4}})).unwrap();
    assert_eq!(after, wanted);
    assert_eq!(
        patched(&after, json!({"env": null, "replicas": null, "update": null})).unwrap(),
        with(json!({})).unwrap()
    );
    let rebalancing = patched(&before, json!({"rebalance": {"on": {"per_minute": 6}}})).unwrap();
    assert_eq!(rebalancing, ServiceSpec { rebalance: Rebalance::On { per_minute: 6 }, ..before.clone() });
    assert!(std::sync::Arc::ptr_eq(&rebalancing.template, &before.template), "an equal template is the same");
    assert_eq!(patched(&rebalancing, json!({"rebalance": "off"})).unwrap(), before);
}

#[test]
fn a_patch_that_would_break_a_rule_is_refused() {
    let before = with(json!({"resources": {"limit": {"cpu_millis": 500}}})).unwrap();
    let said = patched(&before, json!({"resources": {"reserve": {"cpu_millis": 600}}})).unwrap_err();
    assert_eq!(said, "resources.reserve.cpu_millis must not be above the limit of 500, but is 600");
    assert_eq!(patched(&before, json!({"image": null})).unwrap_err(), "image is required");
    assert_eq!(
        patched(&before, json!({"name": "other"})).unwrap_err(),
        "name must be web as in the address, but is other"
    );
    assert_eq!(patched(&before, json!({"bogus": 1})).unwrap_err(), "bogus is not a field of this body");
}

#[test]
fn a_patch_keeps_what_counts_forced_restarts() {
    let mut before = with(json!({})).unwrap();
    std::sync::Arc::make_mut(&mut before.template).forced = 2;
    assert_eq!(patched(&before, json!({"replicas": 2})).unwrap().template.forced, 2);
    assert!(patched(&before, json!({"forced": 3})).is_err());
}

#[test]
fn a_service_goes_from_a_number_to_one_a_host_and_back() {
    let three = with(json!({"replicas": 3})).unwrap();
    let global = patched(&three, json!({"mode": "global"})).unwrap();
    assert_eq!((global.mode, global.replicas), (Mode::Global, 0));
    assert!(patched(&global, json!({"replicas": 2})).is_err());
    assert_eq!(patched(&global, json!({"mode": null, "replicas": 2})).unwrap().replicas, 2);
    assert_eq!(patched(&global, json!({"mode": "replicated"})).unwrap().replicas, 1);
}
