//! Creating and removing replicas, against the engine driven directly.

use std::{path::Path, time::Duration};

use serde_json::json;
use shef_common::spec::Template;
use shef_integration_tests::{
    cluster::Answer,
    lab::{
        engine::{BUSYBOX, LabEngine},
        scripted_master::{OBEDIENT, shell},
    },
};

use crate::{
    floor::Floor,
    measure::{Samples, note, table, timed, title},
    programs::{Master, Process, Shef},
};

/// How many containers are made and removed at once.
const COUNT: u32 = 30;
/// At how many operations at once the engine is tried, to find the floor.
const CONCURRENCIES: [usize; 6] = [2, 4, 6, 8, 12, 16];
/// Seconds between the stop signal and the kill; the workload ends at once.
const GRACE_S: u32 = 10;

#[derive(Default, Clone)]
struct Arm {
    create: Samples,
    remove: Samples,
}

/// Measures and prints.
///
/// # Panics
/// If the engine refuses, or the service does not converge.
pub async fn run(shef: &Shef, pairs: usize, engine_concurrency: &[u32]) {
    title(&format!("{COUNT} replicas on one Docker engine, against the engine driven directly; ms"));
    let dir = tempfile::tempdir().expect("a directory");
    let lab = LabEngine::start().await;
    lab.import_busybox().await;
    let template = shell(BUSYBOX, OBEDIENT, GRACE_S);
    let floor = Floor::new(lab.client());

    let (create_at, remove_at) = best_concurrency(&floor, &template).await;

    let master = shef.master(dir.path(), &[]).await;
    let keys: Vec<Option<u32>> = if engine_concurrency.is_empty() {
        vec![None]
    } else {
        engine_concurrency.iter().copied().map(Some).collect()
    };
    let mut agent = Some(start_agent(shef, dir.path(), &master, &lab, keys[0]).await);
    shef_round(&master, &template, &mut Arm::default()).await;

    let mut direct = Arm::default();
    let mut arms = vec![Arm::default(); keys.len()];
    for _ in 0..pairs {
        floor_round(&floor, &template, create_at, remove_at, &mut direct).await;
        for (arm, key) in arms.iter_mut().zip(&keys) {
            if keys.len() > 1 {
                // Two agents never share the ledger: the old one ends first.
                drop(agent.take());
                agent = Some(start_agent(shef, dir.path(), &master, &lab, *key).await);
            }
            shef_round(&master, &template, arm).await;
        }
    }

    let row = |name: String, what: &str, samples: &Samples, over: &Samples| {
        let [median, min, max] = samples.cells();
        vec![name, what.to_owned(), median, min, max, format!("{:.2}", samples.median() / over.median())]
    };
    let mut rows = vec![
        row(format!("engine directly, {create_at} at once"), "create", &direct.create, &direct.create),
        row(format!("engine directly, {remove_at} at once"), "remove", &direct.remove, &direct.remove),
    ];
    for (arm, key) in arms.iter().zip(&keys) {
        let name = key.map_or("shef, engine_concurrency as by default".to_owned(), |n| {
            format!("shef, engine_concurrency = {n}")
        });
        rows.push(row(name.clone(), "create", &arm.create, &direct.create));
        rows.push(row(name, "remove", &arm.remove, &direct.remove));
    }
    note(format_args!("{pairs} interleaved rounds; target: a ratio of at most 1.10"));
    table(&["", "", "median", "min", "max", "ratio"], &rows);
    drop(agent);
}

async fn start_agent(
    shef: &Shef,
    dir: &Path,
    master: &Master,
    lab: &LabEngine,
    engine_concurrency: Option<u32>,
) -> Process {
    let key = engine_concurrency.map(|n| format!("engine_concurrency={n}"));
    let more: Vec<&str> = key.iter().flat_map(|key| ["--set", key]).collect();
    shef.agent(dir, master, &lab.url(), &more).await
}

/// At how many operations at once creating, and removing, is fastest.
async fn best_concurrency(floor: &Floor, template: &Template) -> (usize, usize) {
    floor_round(floor, template, 4, 4, &mut Arm::default()).await;
    let mut tried: Vec<Arm> = CONCURRENCIES.map(|_| Arm::default()).into();
    for _ in 0..2 {
        for (arm, concurrency) in tried.iter_mut().zip(CONCURRENCIES) {
            floor_round(floor, template, concurrency, concurrency, arm).await;
        }
    }
    let row = |(arm, concurrency): (&Arm, usize)| {
        vec![concurrency.to_string(), format!("{:.0}", arm.create.min()), format!("{:.0}", arm.remove.min())]
    };
    note("the engine directly, the better of two rounds each");
    table(&["at once", "create", "remove"], &tried.iter().zip(CONCURRENCIES).map(row).collect::<Vec<_>>());
    let best = |of: fn(&Arm) -> f64| {
        let fastest = tried.iter().zip(CONCURRENCIES).min_by(|(a, _), (b, _)| of(a).total_cmp(&of(b)));
        fastest.map_or(CONCURRENCIES[0], |(_, concurrency)| concurrency)
    };
    (best(|arm| arm.create.min()), best(|arm| arm.remove.min()))
}

async fn floor_round(floor: &Floor, template: &Template, create_at: usize, remove_at: usize, arm: &mut Arm) {
    arm.create.add(timed(floor.create(template, COUNT, create_at)).await.1);
    arm.remove.add(timed(floor.remove(template, COUNT, remove_at)).await.1);
}

async fn shef_round(master: &Master, template: &Template, arm: &mut Arm) {
    let body = json!({
        "image": template.image, "command": template.command, "stop_grace_s": template.stop_grace_s,
        "replicas": COUNT,
        "update": { "monitor_ms": 0 },
    });
    let (answer, took) = timed(master.api.call("PUT", "/v1/services/b?wait=30s", body)).await;
    converged(&answer);
    arm.create.add(took);
    let (answer, took) = timed(master.api.raw("DELETE", "/v1/services/b?wait=30s", &[], Vec::new())).await;
    converged(&answer);
    arm.remove.add(took);
    // What is still to be confirmed between master and agent belongs to this round, not to the next.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

fn converged(answer: &Answer) {
    assert!(answer.body["converged"] == true, "the service does not converge: {answer:?}");
}
