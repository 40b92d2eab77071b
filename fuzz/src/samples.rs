//! What parsers understand: the beginnings of what they are given.

use serde_json::json;
use shef_common::{
    clock::WallMs,
    ids::{ClusterId, Epoch, Fence, LeaderId, ServiceName, Version},
    image::ImageRef,
    spec::{ServiceSpec, Template},
};
use shef_master::{
    service::ServiceRecord,
    store::{Key, Record, backup::Backup},
};

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Bodies of specs.
pub fn specs() -> Vec<Vec<u8>> {
    let whole = json!({
        "name": "web", "image": "registry.example.com:5000/team/web:1.2", "replicas": 3, "command": ["serve"],
        "env": {"KEY": "value"}, "labels": {"team": "a"}, "user": "1000:1000", "stop_grace_s": 5,
        "ports": [{"target": 80, "published": 8080}, {"target": 53, "protocol": "udp"}],
        "mounts": [{"type": "bind", "source": "/srv/data", "target": "/data", "read_only": true},
                   {"type": "volume", "source": "cache", "target": "/cache"}],
        "resources": {"limit": {"memory_bytes": 67_108_864, "cpu_millis": 500}}, "cap_add": ["NET_ADMIN"],
        "health": {"test": {"http": {"path": "/healthz", "port": 80}}, "interval_ms": 5000},
        "update": {"order": "stop-first", "surge": 1, "canary": 1},
        "placement": {"constraints": [{"key": "label.zone", "op": "in", "values": ["a"]}]},
        "on_disconnect": {"stop_after": {"seconds": 60}},
        "secrets": [{"source": "password", "target": "/run/secrets/password", "mode": "0400"}],
        "networks": [{"name": "front"}], "sysctls": {"net.core.somaxconn": "1024"}, "platform": "linux/amd64",
    });
    let global =
        json!({"name": "agent", "image": "app@sha256:".to_owned() + &"0a".repeat(32), "mode": "global"});
    [whole, global].iter().map(|spec| spec.to_string().into_bytes()).collect()
}

/// References of images.
pub fn images() -> Vec<Vec<u8>> {
    let digest = format!("host.example:5000/a/b:1@sha256:{}", "0f".repeat(32));
    texts(&["nginx", "library/nginx:1.27", "localhost:5000/team/app:v1.2-rc.1", &digest])
}

/// Names, ids, addresses, times and numbers.
pub fn words() -> Vec<Vec<u8>> {
    let digits = ["0123456789abcdef", "web-3", "web-100001", "linux/arm64/v8", "90s", "1h30m", "12345-7"];
    let addresses = [
        "http://10.0.0.2:11044",
        "https://0123456789abcdef.agent.0123456789abcdef.shef@10.0.0.2:11044",
        "https://0123456789abcdef.agent.0123456789abcdef.shef@[fd00::1]:11044",
        "registry.example.com:5000",
        "2026-01-02T03:04:05.678Z",
    ];
    texts(&[&digits[..], &addresses[..]].concat())
}

/// Tokens: of the API, as a header has them, and to join with.
pub fn tokens() -> Vec<Vec<u8>> {
    let (id, secret, ca) = ("01234567", "89abcdef".repeat(8), "0a".repeat(20));
    let (api, join) = (format!("Bearer shef_{id}_{secret}"), format!("shef-{ca}-{id}-{}", &secret[..32]));
    texts(&[&api, &join])
}

/// Requests for certificates, which are in PEM.
pub fn certificate_requests() -> Vec<Vec<u8>> {
    texts(&[CSR])
}

/// Env files.
pub fn env_files() -> Vec<Vec<u8>> {
    let text = "# a comment\nA=1\nexport B='two\nlines' # more\nC=\"a\\n\\\"b\\$\"\r\nHOME\n\nD=x # y\n";
    texts(&[text])
}

/// Queries of exec and logs, and what follows `?` elsewhere.
pub fn queries() -> Vec<Vec<u8>> {
    texts(&[
        "cmd=sh&cmd=-c&cmd=echo%20a&env=A%3D1&tty=true&user=0&workdir=%2Ftmp&detach=false",
        "follow=true&since=2026-01-02T03:04:05Z&tail=all",
    ])
}

/// Heads and bodies of WebSocket frames. The first byte says in how many parts they come.
pub fn frames() -> Vec<Vec<u8>> {
    vec![
        [&[3, 0x82, 5], &b"hello"[..], &[0x88, 2, 3, 0xe8]].concat(),
        [&[7, 0x81, 0xfe, 1, 0, 1, 2, 3, 4][..], &[b'x'; 256]].concat(),
        vec![1, 0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
    ]
}

/// Messages between masters and agents, of the first version that had them.
pub fn messages() -> Vec<Vec<u8>> {
    macro_rules! bytes {
        ($name:literal) => {
            include_bytes!(concat!("../../integration-tests/tests/fixtures/50e30a4/", $name)).to_vec()
        };
    }
    macro_rules! sent {
        ($($name:literal),* $(,)?) => { vec![$(bytes!($name)),*] };
    }
    sent![
        "alive.json",
        "probe-through.json",
        "push-accepted.json",
        "push-change.json",
        "push-refused-stale-fence.json",
        "push-snapshot.json",
        "registered.json",
        "registration.json",
        "report-ack.json",
        "report-ack-with-push.json",
        "report-heartbeat.json",
        "report.json",
    ]
}

const CSR: &str = include_str!("csr.pem");

/// Backups: of a service, and of nothing.
pub fn backups() -> Vec<Vec<u8>> {
    let parse = |text: &str| ImageRef::parse(text).ok();
    let spec = ServiceName::parse("web").ok().zip(parse("nginx"));
    let record = spec.map(|(name, image)| {
        let record = ServiceRecord::new(ServiceSpec::of(name.clone(), 2, Template::of(image)), WallMs(1));
        let value = serde_json::to_vec(&record).unwrap_or_default().into();
        Record { key: Key::head(name), version: Version(1), value }
    });
    let cluster = ClusterId::parse("0000000000000001").ok();
    let fence = Fence { epoch: Epoch(1), leader: LeaderId::none() };
    let backup = |records| {
        let backup = Backup { cluster: cluster.clone()?, fence: fence.clone(), records };
        let pieces: Result<Vec<_>, _> = backup.into_pieces(WallMs(0)).collect();
        Some(pieces.ok()?.concat())
    };
    [Vec::new(), record.into_iter().collect()].into_iter().filter_map(backup).collect()
}
