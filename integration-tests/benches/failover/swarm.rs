//! Docker Swarm mode on the same engines: the same loss, the same replicas.

use shef_integration_tests::lab::lan::{Cut, LanLab};
use tokio::time::Instant;

use crate::{
    LOST,
    samples::{Samples, head},
    swarm_mode::{self, Joined, docker, poll},
};

/// Cuts workers off `cuts` times, and prints how long everything took.
pub async fn run(lan: &mut LanLab, cuts: u32) -> Result<(), String> {
    let Some(Joined { image, nodes: ids }) = swarm_mode::join(lan).await? else { return Ok(()) };
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
async fn available(lan: &LanLab, ids: &[String], except: usize, how: &str) -> Result<(), String> {
    for id in ids.iter().enumerate().filter(|(at, _)| *at != except).map(|(_, id)| id) {
        docker(lan, "h1", &["node", "update", "--availability", how, id]).await?;
    }
    Ok(())
}

/// How many of the service's containers run on these engines.
async fn count(lan: &LanLab, hosts: &[&str]) -> Result<usize, String> {
    let mut all = 0;
    for host in hosts {
        let ids = docker(
            lan,
            host,
            &[
                "ps",
                "-q",
                "--filter",
                "label=com.docker.swarm.service.name=lost",
                "--filter",
                "status=running",
            ],
        )
        .await?;
        all += ids.lines().count();
    }
    Ok(all)
}
