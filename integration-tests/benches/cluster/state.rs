//! `GET /state` of a large cluster.

use std::{cell::Cell, time::Duration};

use serde_json::json;
use shef_integration_tests::cluster::Api;

use crate::{
    fleet::{Fleet, HOSTS, REPLICAS, SERVICES},
    load::{get, load},
    measure::{note, table, title},
    programs::Shef,
};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(4);
/// Over how many connections.
const CONNECTIONS: [u64; 3] = [1, 16, 64];
/// Between a change's answer and the next change.
const BETWEEN_CHANGES: Duration = Duration::from_millis(10);

/// Measures and prints.
///
/// # Panics
/// If the cluster does not come up or refuses a request.
pub async fn run(shef: &Shef) {
    title(&format!("GET /state with {SERVICES} services and {} replicas", SERVICES * REPLICAS));
    let fleet = Fleet::start(shef, HOSTS, &[]).await;
    fleet.fill().await;
    let address = fleet.master.address;
    let mut rows = Vec::new();
    for changing in [false, true] {
        for connections in CONNECTIONS {
            let changes = Cell::new(0);
            // What the last span left to do is done before the next begins.
            load(address, 1, Duration::from_millis(300), get("/state")).await;
            let outcome = tokio::select! {
                outcome = load(address, connections, SPAN, get("/state")) => outcome,
                () = change(&fleet.master.api, &changes), if changing => unreachable!("changes do not end"),
            };
            assert_eq!(outcome.refused, 0, "no request is refused");
            let per_second = if changing {
                format!("{:.0}", f64::from(changes.get()) / SPAN.as_secs_f64())
            } else {
                "-".to_owned()
            };
            rows.push(vec![
                if changing { "one service changed all the time" } else { "nothing changes but heartbeats" }
                    .to_owned(),
                connections.to_string(),
                per_second,
                format!("{:.0}", outcome.per_second()),
                format!("{:.0}", outcome.megabytes_per_second()),
                format!("{:.1}", outcome.percentile_ms(50)),
                format!("{:.1}", outcome.percentile_ms(99)),
            ]);
            if rows.len() == 1 {
                note(format_args!(
                    "a body has {} bytes",
                    outcome.body_bytes / u64::try_from(outcome.answers.max(1)).unwrap_or(1)
                ));
            }
        }
    }
    table(&["", "connections", "changes/s", "bodies/s", "MB/s", "p50 ms", "p99 ms"], &rows);
    fleet.stop().await;
}

/// Changes one service's replicas up and down, each change durable before the next.
async fn change(api: &Api, changes: &Cell<u32>) {
    loop {
        let replicas = REPLICAS + u64::from(changes.get() % 2);
        let answer = api.call("PATCH", "/v1/services/service-0000", json!({ "replicas": replicas })).await;
        assert_eq!(answer.status, 200, "the change is taken: {answer:?}");
        changes.set(changes.get() + 1);
        tokio::time::sleep(BETWEEN_CHANGES).await;
    }
}
