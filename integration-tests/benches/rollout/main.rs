//! How long a rolling update takes, beside what the engines alone need for the same
//! containers, and beside Docker Swarm mode with the same settings. See `docs/benchmarks.md`.

#[path = "../cluster/floor.rs"]
#[allow(dead_code, reason = "each bench takes of it what it measures")]
mod floor;
#[path = "../failover/samples.rs"]
mod samples;
#[path = "../failover/swarm_mode.rs"]
#[allow(dead_code, reason = "nodes matter to a bench that cuts them off")]
mod swarm_mode;

use std::{process::ExitCode, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use shef_common::{image::ImageRef, spec::Template};
use shef_integration_tests::{
    bench,
    lab::{
        engine::BUSYBOX,
        lan::{LanLab, Plan},
        wait::until_within,
    },
};
use tokio::time::Instant;

use self::{
    floor::Floor,
    samples::{Samples, head},
    swarm_mode::{Joined, docker, poll},
};

const USAGE: &str = "\
cargo bench -p shef-integration-tests --bench rollout [-- --rounds N]

  --rounds N   updates of each kind, 1 to 100 [5]
";

/// How many replicas are updated.
const REPLICAS: u32 = 30;
/// How many slots are under way at once.
const PARALLELISM: u32 = 5;
/// How many pairs each engine works on at once when it is driven directly: 12 between them, as fast as two
/// cores go.
const AT_ONCE: usize = 4;
/// How long anything may take before it counts as failed.
const LIMIT: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    bench::main(USAGE, rounds, run)
}

fn rounds(arguments: Vec<String>) -> Option<u32> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => Some(5),
        ["--rounds", n] => n.parse().ok().filter(|n| (1..=100).contains(n)),
        _ => None,
    }
}

async fn run(rounds: u32) -> Result<(), String> {
    let mut lan = LanLab::start(&Plan { registry: true, ..Plan::hosts(3) }).await?;
    let (mut ours, mut wide, mut strict) = (Samples::default(), Samples::default(), Samples::default());
    let mut floor = Samples::default();
    update(&lan, "0", Value::Null).await?;
    for round in 1..=rounds {
        ours.add(update(&lan, &format!("{round}"), Value::Null).await?);
        wide.add(update(&lan, &format!("{round} wide"), json!(REPLICAS)).await?);
        strict.add(update(&lan, &format!("{round} strict"), json!(PARALLELISM)).await?);
    }
    lan.master.api.call("DELETE", "/v1/services/rolled?wait=60s", Value::Null).await;
    until_within(LIMIT, "every engine is clean", async || lan.containers().await.is_empty().then_some(()))
        .await;
    // It has the engines for itself, as the others have.
    lan.master.process.kill();
    lan.hosts.iter_mut().for_each(|host| host.agent.process.kill());
    for _ in 0..rounds {
        floor.add(directly(&lan).await?);
    }
    let swarm = swarm(&lan, rounds).await?;
    head(&format!(
        "rolling update of {REPLICAS} replicas on 3 hosts, {PARALLELISM} at a time, start-first, 1 s monitor"
    ));
    ours.line("shef, as it comes (surge: half, 15)");
    wide.line("shef, as many on trial as there are (surge: 30)");
    strict.line("shef, no trial beyond the parallelism (surge: 5)");
    floor.line("the engines alone create, start, stop and remove");
    let over = |other: &Samples| {
        let ratio = |one: &Samples| one.p50().as_secs_f64() / other.p50().as_secs_f64();
        format!("{:.2} (surge 30: {:.2}, surge 5: {:.2})", ratio(&ours), ratio(&wide), ratio(&strict))
    };
    println!("shef over the engines alone: {}", over(&floor));
    if let Some(swarm) = swarm {
        swarm.line("Docker Swarm mode");
        println!("shef over Swarm: {}", over(&swarm));
    }
    Ok(())
}

/// From the request until all that is old is gone.
async fn update(lan: &LanLab, round: &str, surge: Value) -> Result<Duration, String> {
    let body = json!({
        "image": BUSYBOX,
        "replicas": REPLICAS,
        "env": {"ROUND": round},
        "stop_grace_s": 2,
        "update": {"order": "start-first", "parallelism": PARALLELISM, "surge": surge, "monitor_ms": 1000},
    });
    let start = Instant::now();
    let answer = lan.master.api.call("PUT", "/v1/services/rolled?wait=120s", body).await;
    let took = start.elapsed();
    if answer.body["converged"] != true {
        return Err(format!("the update did not converge: {answer:?}"));
    }
    println!("shef: round {round} took {} ms", took.as_millis());
    Ok(took)
}

async fn directly(lan: &LanLab) -> Result<Duration, String> {
    let mut template = Template::of(ImageRef::parse(BUSYBOX).map_err(|error| error.to_string())?);
    template.stop_grace_s = 2;
    let floors: Vec<Floor> = lan.hosts.iter().map(|host| Floor::new(host.socket().client())).collect();
    let share = REPLICAS / 3;
    join_all(floors.iter().map(|floor| floor.create(&template, share, AT_ONCE))).await;
    let start = Instant::now();
    join_all(floors.iter().map(|floor| floor.replace(&template, share, AT_ONCE))).await;
    let took = start.elapsed();
    join_all(floors.iter().map(|floor| floor.remove_next(&template, share))).await;
    println!("the engines alone: {} ms", took.as_millis());
    Ok(took)
}

async fn swarm(lan: &LanLab, rounds: u32) -> Result<Option<Samples>, String> {
    let Some(Joined { image, .. }) = swarm_mode::join(lan).await? else { return Ok(None) };
    let (replicas, parallelism) = (REPLICAS.to_string(), PARALLELISM.to_string());
    let settings =
        ["--update-parallelism", &parallelism, "--update-order", "start-first", "--update-monitor", "1s"];
    let words = [
        "service",
        "create",
        "-d",
        "-q",
        "--name",
        "lost",
        "--replicas",
        &replicas,
        "--stop-grace-period",
        "2s",
    ];
    docker(lan, "h1", &[&words[..], &settings[..], &[&image]].concat()).await?;
    poll("swarm runs all replicas", async || Ok(running(lan, "").await? == REPLICAS as usize)).await?;
    let mut samples = Samples::default();
    for round in 1..=rounds {
        let (env, label) = (format!("ROUND={round}"), format!("round={round}"));
        let start = Instant::now();
        docker(
            lan,
            "h1",
            &["service", "update", "-d", "-q", "--env-add", &env, "--container-label-add", &label, "lost"],
        )
        .await?;
        poll("swarm has updated all", async || {
            Ok(running(lan, &label).await? == REPLICAS as usize
                && running(lan, "").await? == REPLICAS as usize)
        })
        .await?;
        samples.add(start.elapsed());
        println!("swarm: round {round} took {} ms", start.elapsed().as_millis());
        let state = ["service", "inspect", "-f", "{{.UpdateStatus.State}}", "lost"];
        poll("swarm calls it completed", async || Ok(docker(lan, "h1", &state).await?.trim() == "completed"))
            .await?;
    }
    docker(lan, "h1", &["service", "rm", "lost"]).await?;
    poll("every engine is clean", async || Ok(running(lan, "").await? == 0)).await?;
    Ok(Some(samples))
}

/// How many of the service's containers run, of all or of those with `label`.
async fn running(lan: &LanLab, label: &str) -> Result<usize, String> {
    let label = format!("label={label}");
    let mut all = 0;
    for host in ["h1", "h2", "h3"] {
        let service = "label=com.docker.swarm.service.name=lost";
        let mut words = vec!["ps", "-q", "--filter", service, "--filter", "status=running"];
        if label != "label=" {
            words.extend(["--filter", &label]);
        }
        all += docker(lan, host, &words).await?.lines().count();
    }
    Ok(all)
}
