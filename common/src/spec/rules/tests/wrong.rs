//! What is wrong is named, with what would be right.

use serde_json::json;

use super::{object, with};
use crate::spec::ServiceSpec;

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
            "env must have no name that is empty or contains '=' or a zero byte, but has \"A=B\"",
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
            json!({"domainname": ".org"}),
            "domainname must be 1 to 63 letters, digits, underscores, dots and hyphens that begin and end \
             with a letter or a digit, but is .org",
        ),
        (
            json!({"labels": {"shef.slot": "1"}}),
            "labels must have no key that begins with shef, as those are the control plane's own, but has \
             \"shef.slot\"",
        ),
        (
            json!({
                "mounts": [{"type": "volume", "source": "shef-secrets", "target": "/s"}],
                "networks": [{"name": "shef-net"}],
            }),
            "mounts[0].source must not begin with shef-, as such names are the control plane's own, but is \
             shef-secrets; networks[0].name must not begin with shef-, as such names are the control plane's \
             own, but is shef-net",
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
            json!({"health": {"test": {"http": {
                "port": 1, "path": "/", "headers": {"Te": "x", "X-A": "a\r\nb"}, "status": [600],
            }}}}),
            "health.test.http.headers must be a header that a check may set: letters, digits and hyphens, \
             and none of the connection's own, but is Te; health.test.http.headers.X-A must hold at most \
             1024 visible ASCII characters and spaces, but is a\\r\\nb; health.test.http.status must be \
             statuses from 100 to 599, but is 600",
        ),
        (
            json!({"health": {"test": {"http": {
                "port": 1, "path": "/", "headers": {"host": "a", "Host": "b"},
            }}}}),
            "health.test.http.headers.Host must be there once, whatever the case of its letters, but is \
             Host; health.test.http.headers.host must be there once, whatever the case of its letters, but \
             is host",
        ),
        (
            json!({"oom_score_adj": 1001, "resources": {"limit": {"swap_bytes": 1}}}),
            "oom_score_adj must be -1000 to 1000, but is 1001; resources.limit.swap_bytes must come with \
             a limit of memory_bytes, but is 1",
        ),
        (
            json!({"security_opt": ["seccomp={}", "apparmor=", "unconfined"], "cgroup_parent": "../x"}),
            "security_opt[0] must be a security option such as seccomp=unconfined, apparmor=PROFILE, \
             label=type:NAME, systempaths=unconfined or no-new-privileges=false, but is seccomp={}; \
             security_opt[1] must be a security option such as seccomp=unconfined, apparmor=PROFILE, \
             label=type:NAME, systempaths=unconfined or no-new-privileges=false, but is apparmor=; \
             security_opt[2] must be a security option such as seccomp=unconfined, apparmor=PROFILE, \
             label=type:NAME, systempaths=unconfined or no-new-privileges=false, but is unconfined; \
             cgroup_parent must be the name of a control group such as /batch or batch.slice, but is ../x",
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
            json!({"mounts": [{"type": "bind", "source": "/run//./shef/secrets", "target": "/a"}]}),
            "mounts[0].source must not be below /run/shef, where shef keeps secrets and configs, but is \
             /run//./shef/secrets",
        ),
        (
            json!({"secrets": [{"source": "db", "mode": "1777"}, {"source": "db"},
                {"source": "a", "target": "../b", "uid": "me"}]}),
            "secrets[2].uid must be the number of a user or group, but is \"me\"",
        ),
        (
            json!({"secrets": [{"source": "db", "mode": "1777"}, {"source": "db"},
                {"source": "a", "target": "../b"}]}),
            "secrets[0].mode must be \"0000\" to \"0777\", but is \"1777\"; \
             secrets[1].target must be mounted once, but something else is mounted at /run/secrets/db too; \
             secrets[2].target must be the path of a file, absolute or relative, without .. or control \
             characters, but is ../b",
        ),
        (
            json!({"mounts": [{"type": "tmpfs", "target": "/conf"}], "configs": [{"source": "conf"}]}),
            "configs[0].target must be mounted once, but something else is mounted at /conf too",
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
            json!({"ports": [
                {"target": 80, "published": 80, "host_ip": "::"},
                {"target": 81, "published": 80, "host_ip": "::1"},
            ]}),
            "ports[1] must differ from ports[0], but both publish port 80 (tcp)",
        ),
        (
            json!({"ports": [{"target": 80, "host_ip": "10.0.0"}]}),
            "ports[0].host_ip must be an IP address, but is \"10.0.0\"",
        ),
        (
            json!({"ports": [{"target": 80, "mode": "host"}]}),
            "ports[0].mode is not a field here: its fields are host_ip, host_ipv6, protocol, published, \
             target",
        ),
        (
            json!({"ports": [
                {"target": 80, "published": 80, "host_ip": "127.0.0.1"}, {"target": 81, "published": 80},
            ]}),
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
            "resources.limit.memory_bytes must be 0 (no limit) or at least 6291456 bytes (6 MiB), but is \
             1000",
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
fn everything_that_is_wrong_is_named_at_once() {
    let body = json!({"image": "UPPER/..", "replicas": "x", "env": [], "ports": [{"target": 0}],
        "update": {"canary": 10_001}, "more": 1});
    let fields: Vec<_> =
        ServiceSpec::read(object(body), None).unwrap_err().into_iter().map(|error| error.field).collect();
    assert_eq!(fields, ["name", "image", "env", "replicas", "ports[0].target", "update.canary", "more"]);
}
