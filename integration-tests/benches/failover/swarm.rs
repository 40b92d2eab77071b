//! Docker Swarm mode on the same engines: the same loss, the same replicas.

use std::{process::Stdio, time::Duration};

use shef_integration_tests::lab::{
    engine::BUSYBOX,
    lan::{Cut, Lan},
};
use tokio::{process::Command, time::Instant};

use crate::{
    LIMIT, LOST,
    samples::{Samples, head},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Cuts workers off `cuts` times, and prints how long everything took.
pub async fn run(lan: &mut Lan, cuts: u32) -> Result<(), String> {
    let registry = lan.registry.as_ref().ok_or("a registry")?;
    registry.push(&lan.hosts[0].socket().client(), BUSYBOX, "busybox:1").await;
    let image = registry.image("busybox:1");
    for host in &lan.hosts {
        docker(lan, &host.name, &["pull", "-q", &image]).await?;
    }
    // Where there is no swarm mode, that is said and nothing more.
    let manager = lan.hosts[0].namespace.address.to_string();
    if let Err(why) = docker(lan, "h1", &["swarm", "init", "--advertise-addr", &manager]).await {
        println!("\n== Docker Swarm mode is not available here: {why}");
        return Ok(());
    }
    let token = docker(lan, "h1", &["swarm", "join-token", "-q", "worker"]).await?;
    let mut ids = Vec::new();
    for host in ["h1", "h2", "h3"] {
        if host != "h1" {
            docker(lan, host, &["swarm", "join", "--token", token.trim(), &format!("{manager}:2377")]).await?;
        }
        let id = docker(lan, host, &["info", "-f", "{{.Swarm.NodeID}}"]).await?;
        ids.push(id.trim().to_owned());
    }
    let (mut noticed, mut replaced, mut whole) = (Samples::default(), Samples::default(), Samples::default());
    for cut in 0..cuts {
        // The manager, which is the first host, stays.
        let at = 1 + cut as usize % 2;
        let victim = format!("h{}", at + 1);
        let others: Vec<&str> = ["h1", "h2", "h3"].into_iter().filter(|host| *host != victim).collect();
        available(lan, &ids, at, "pause").await?;
        let words = [
            "service",
            "create",
            "-d",
            "-q",
            "--name",
            "lost",
            "--replicas",
            &LOST.to_string(),
            "--stop-grace-period",
            "2s",
            &image,
        ];
        docker(lan, "h1", &words).await?;
        poll("swarm runs all replicas", async || Ok(count(lan, &[&victim]).await? == LOST as usize)).await?;
        available(lan, &ids, at, "active").await?;

        let start = Instant::now();
        lan.cut(&victim, Cut::Both)?;
        let state = ["node", "inspect", "-f", "{{.Status.State}}", &ids[at]];
        poll("swarm notices", async || Ok(docker(lan, "h1", &state).await?.trim() == "down")).await?;
        let down = start.elapsed();
        poll("swarm replaces", async || Ok(count(lan, &others).await? >= LOST as usize)).await?;
        let done = start.elapsed();
        noticed.add(down);
        let after = done.saturating_sub(down);
        replaced.add(after);
        whole.add(done);
        println!(
            "swarm cut {:>3} of {victim}: down after {:>5} ms, replaced {:>5} ms later",
            cut + 1,
            down.as_millis(),
            after.as_millis()
        );

        lan.heal(&victim)?;
        poll("the worker is back", async || Ok(docker(lan, "h1", &state).await?.trim() == "ready")).await?;
        docker(lan, "h1", &["service", "rm", "lost"]).await?;
        poll("every engine is clean", async || Ok(count(lan, &["h1", "h2", "h3"]).await? == 0)).await?;
    }
    head(&format!("Docker Swarm mode: {LOST} replicas lost with one of 3 hosts, image cached"));
    noticed.line("cut -> down");
    replaced.line("down -> all run elsewhere");
    whole.line("cut -> all run elsewhere");
    Ok(())
}

/// Lets every node but `ids[except]` take tasks, or not.
async fn available(lan: &Lan, ids: &[String], except: usize, how: &str) -> Result<(), String> {
    for id in ids.iter().enumerate().filter(|(at, _)| *at != except).map(|(_, id)| id) {
        docker(lan, "h1", &["node", "update", "--availability", how, id]).await?;
    }
    Ok(())
}

/// How many of the service's containers run on these engines.
async fn count(lan: &Lan, hosts: &[&str]) -> Result<usize, String> {
    let mut all = 0;
    for host in hosts {
        let ids = docker(
            lan,
            host,
            &["ps", "-q", "--filter", "label=com.docker.swarm.service.name=lost", "--filter", "status=running"],
        )
        .await?;
        all += ids.lines().count();
    }
    Ok(all)
}

async fn poll(what: &str, mut done: impl AsyncFnMut() -> Result<bool, String>) -> Result<(), String> {
    let looked = async {
        while !done().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, looked).await.map_err(|_| format!("{what}: not within {LIMIT:?}"))?
}

/// Runs Docker's command line against the engine of `host`.
async fn docker(lan: &Lan, host: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.arg("-H").arg(lan.host(host)?.socket().url()).args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.map_err(|_| format!("docker {words:?} hangs"))?;
    let output = output.map_err(|error| format!("docker cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("docker {words:?} on {host}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
