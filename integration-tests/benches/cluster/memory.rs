//! Resident memory of the processes.

use std::time::Duration;

use shef_integration_tests::lab::engine::LabEngine;

use crate::{
    fleet::{Fleet, HOSTS, REPLICAS, SERVICES},
    load::{get, load},
    measure::{table, title},
    programs::{Resident, Shef},
};

/// How long a program is left alone before it counts as idle.
const IDLE: Duration = Duration::from_secs(3);

/// Measures and prints.
///
/// # Panics
/// If a program does not come up.
pub async fn run(shef: &Shef) {
    title("resident memory; MB (2^20 bytes)");
    let dir = tempfile::tempdir().expect("a directory");
    let mut rows = Vec::new();
    {
        let lab = LabEngine::start().await;
        let master = shef.master(dir.path(), &[]).await;
        let agent = shef.agent(dir.path(), &master, &lab.url(), &[]).await;
        tokio::time::sleep(IDLE).await;
        rows.push(row("master, idle, one host", master.process.resident(), 25));
        rows.push(row("agent, idle, on a Docker engine", agent.resident(), 25));
        // The agent first, then what it talks to.
        agent.stop();
    }
    let fleet = Fleet::start(shef, HOSTS, &[]).await;
    fleet.fill().await;
    tokio::time::sleep(IDLE).await;
    rows.push(row(
        &format!("master, {SERVICES} services x {REPLICAS} replicas"),
        fleet.master.process.resident(),
        100,
    ));
    load(fleet.master.address, 16, Duration::from_secs(1), get("/state")).await;
    tokio::time::sleep(IDLE).await;
    rows.push(row("the same, after 1 s of GET /state by 16 clients", fleet.master.process.resident(), 100));
    fleet.stop().await;
    table(&["", "now", "highest", "target"], &rows);
}

fn row(name: &str, resident: Resident, target_mb: u32) -> Vec<String> {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    vec![name.to_owned(), mb(resident.now), mb(resident.highest), target_mb.to_string()]
}
