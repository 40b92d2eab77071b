//! Durable creates per second, through the API, on each store.

use std::time::Duration;

use crate::{
    fleet::Fleet,
    load::{load, post},
    measure::{table, title},
    programs::{Redis, Shef},
};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_millis(1_500);
/// By how many clients at once.
const CLIENTS: [u64; 3] = [1, 16, 64];
/// Hosts, where there are replicas to place.
const HOSTS: usize = 10;

/// Measures and prints.
///
/// # Panics
/// If a store does not come up or a service is refused.
pub async fn run(shef: &Shef) {
    title("durable creates (POST /v1/services) per second, and the 99th percentile of an answer in ms");
    let dir = tempfile::tempdir().expect("a directory");
    let everysec = Redis::start(&dir.path().join("everysec"), "everysec").await;
    let always = Redis::start(&dir.path().join("always"), "always").await;
    let stores: [(&str, Option<&Redis>); 3] = [
        ("embedded", None),
        ("Redis, appendfsync everysec", Some(&everysec)),
        ("Redis, appendfsync always", Some(&always)),
    ];
    let mut rows = Vec::new();
    for (name, redis) in stores {
        for replicas in [0_u32, 1] {
            let prefix = format!("bench{replicas}");
            let prefix_key = format!("redis.prefix={prefix}");
            let store = redis.map_or(Vec::new(), |redis| vec!["--redis", &redis.url, "--set", &prefix_key]);
            let fleet = Fleet::start(shef, if replicas == 0 { 0 } else { HOSTS }, &store).await;
            let mut row = vec![name.to_owned(), replicas.to_string()];
            for clients in CLIENTS {
                let services = post("/v1/services", u64::MAX, move |n| {
                    format!(
                        r#"{{"name":"s{clients}-{n}","image":"registry.example/app:1","replicas":{replicas}}}"#
                    )
                });
                let outcome = load(fleet.master.address, clients, SPAN, services).await;
                assert_eq!(outcome.refused, 0, "no service is refused");
                row.push(format!("{:.0}", outcome.per_second()));
                row.push(format!("{:.1}", outcome.percentile_ms(99)));
            }
            rows.push(row);
            fleet.stop().await;
        }
    }
    table(&["store", "replicas", "1 client", "p99", "16 clients", "p99", "64 clients", "p99"], &rows);
}
