//! What this and earlier versions have written is read by this one.
//!
//! The fixtures are what a master of each format left behind when it was
//! stopped: the embedded store's file, packed by gzip, and the fields of Redis'
//! hash. A new format adds its own and keeps the others. Each holds a host `h1`; a service `web` of two
//! replicas that run generation 1, while the first of generation 2 (of an image that cannot be had) has
//! failed; and a service `gone` whose host has not confirmed its removal yet.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use shef_integration_tests::lab::{
    redis::{LabRedis, PASSWORD},
    shef::Master,
    wait::until,
};

fn unpack(fixture: &str, to: &Path) {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/fixtures").join(fixture);
    let mut gzip = Command::new("gzip");
    gzip.arg("-dc").stdin(File::open(packed).unwrap()).stdout(Stdio::from(File::create(to).unwrap()));
    assert!(gzip.status().unwrap().success());
}

fn replicas(service: &Value) -> Vec<(&str, u64, u64, &str)> {
    service["replica_states"].as_array().unwrap().iter().map(replica).collect()
}

fn replica(shown: &Value) -> (&str, u64, u64, &str) {
    let (text, number) = (|key: &str| shown[key].as_str().unwrap(), |key: &str| shown[key].as_u64().unwrap());
    (text("id"), number("slot"), number("generation"), text("want"))
}

/// The formats, and under which epoch the next master leads.
const FORMATS: [(u32, u32); 2] = [(1, 2), (2, 3)];

#[actix::test]
async fn an_embedded_store_of_each_format_is_read_and_written_on() {
    for (format, epoch) in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let mut master = Master::new(dir.path(), &[]);
        fs::create_dir_all(&master.data).unwrap();
        unpack(&format!("embedded-format-{format}.redb.gz"), &master.data.join("shef.redb"));
        master.start().await;
        everything_is_there(&master, epoch).await;
    }
}

#[actix::test]
async fn a_redis_of_each_format_is_read_and_written_on() {
    for (format, epoch) in FORMATS {
        let (dir, redis) = (tempfile::tempdir().unwrap(), LabRedis::start().await);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/fixtures");
        let fields = fs::read(fixture.join(format!("redis-format-{format}.json"))).unwrap();
        let fields: BTreeMap<String, String> = serde_json::from_slice(&fields).unwrap();
        for (field, value) in &fields {
            let _: u32 = redis.run(0, &["HSET", "shef:store", field, value]);
        }
        let mut master =
            Master::new(dir.path(), &[("SHEF_REDIS_URL", &redis.url()), ("SHEF_REDIS_PASSWORD", PASSWORD)]);
        master.start().await;
        everything_is_there(&master, epoch).await;
        let stored: Vec<String> = redis.run(0, &["HKEYS", "shef:store"]);
        for part in ["service/web", "service/web/slots/0", "service/web/template/2", "service/gone/slots/0"] {
            assert!(stored.iter().any(|field| field == part), "{part} of {stored:?}");
        }
        assert_eq!(redis.run::<String>(0, &["HGET", "shef:store", "format"]), "2");
    }
}

async fn everything_is_there(master: &Master, epoch: u32) {
    // A service that was one record is written anew, in parts.
    let web =
        until("the service in parts", async || master.service("web").await.filter(|web| web["version"] == 3))
            .await;
    let spec = ["image", "replicas", "command", "env", "stop_grace_s", "generation", "version"]
        .map(|key| web[key].clone());
    let expected = [
        json!("127.0.0.1:1/app:2"),
        json!(2),
        json!(["/bin/sh", "-c", "sleep 1000"]),
        json!({ "GREETING": "hello" }),
        json!(0),
        json!(2),
        json!(3),
    ];
    assert_eq!(spec, expected);
    assert_eq!(
        (&web["created"], &web["updated"]),
        (&json!(1_795_372_809_816_u64), &json!(1_795_372_810_368_u64))
    );
    let run = [("web-683121", 0, 1, "run"), ("web-990283", 0, 2, "run"), ("web-286859", 1, 1, "run")];
    assert_eq!(replicas(&web), run);
    let gone = master.service("gone").await.unwrap();
    assert_eq!(
        (&gone["state"], replicas(&gone)),
        (&json!("deleting"), vec![("gone-741436", 0, 1, "remove")])
    );
    let node = master.api.get("/v1/nodes/h1").await.body;
    let known = ["name", "uid", "state", "address", "engine_version", "cpus", "joined", "wanted", "removing"]
        .map(|key| &node[key]);
    let expected = json!([
        "h1",
        "7653c60689025903",
        "awaited",
        "127.0.0.1",
        "20.10.24+dfsg1",
        2,
        1_795_372_809_793_u64,
        3,
        1
    ]);
    assert_eq!(json!(known), expected);
    let counts = master.api.get("/stats").await.body;
    assert_eq!(counts["services"], json!({ "Created": 2, "Deleted": 1 }));

    // It goes on from there: versions, generations, and what the leadership before had counted.
    let headers = [("if-match", "\"3\""), ("content-type", "application/json")];
    let scaled = master.api.raw("PATCH", "/v1/services/web", &headers, br#"{"replicas":1}"#.to_vec()).await;
    assert_eq!(
        (scaled.status, &scaled.body["version"], &scaled.body["generation"]),
        (200, &json!(4), &json!(2)),
        "{scaled:?}"
    );
    let leads = format!("cluster=faa1d1a4283e9ab2 epoch={epoch}");
    assert!(master.process.said().contains(&leads), "{}", master.process.said());
}
