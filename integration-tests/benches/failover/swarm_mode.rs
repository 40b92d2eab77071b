//! Docker Swarm mode on a lab's engines, by Docker's own command line.

use std::{process::Stdio, time::Duration};

use shef_integration_tests::lab::{engine::BUSYBOX, lan::LanLab};
use tokio::process::Command;

/// How long anything may take before it counts as failed.
const LIMIT: Duration = Duration::from_mins(2);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A swarm of the lab's three hosts, whose first is the manager.
pub struct Joined {
    /// An image that every host has, under the name in the lab's registry.
    pub image: String,
    /// The nodes' ids, in the order of the hosts.
    pub nodes: Vec<String>,
}

/// Makes a swarm of the lab's hosts. Where there is no swarm mode, says so and brings nothing.
pub async fn join(lan: &LanLab) -> Result<Option<Joined>, String> {
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
        return Ok(None);
    }
    let token = docker(lan, "h1", &["swarm", "join-token", "-q", "worker"]).await?;
    let mut ids = Vec::new();
    for host in ["h1", "h2", "h3"] {
        if host != "h1" {
            docker(lan, host, &["swarm", "join", "--token", token.trim(), &format!("{manager}:2377")])
                .await?;
        }
        let id = docker(lan, host, &["info", "-f", "{{.Swarm.NodeID}}"]).await?;
        ids.push(id.trim().to_owned());
    }
    Ok(Some(Joined { image, nodes: ids }))
}

/// Looks until it is so.
pub async fn poll(what: &str, mut done: impl AsyncFnMut() -> Result<bool, String>) -> Result<(), String> {
    let looked = async {
        while !done().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, looked).await.map_err(|_| format!("{what}: not within {LIMIT:?}"))?
}

/// Runs Docker's command line against the engine of `host`.
pub async fn docker(lan: &LanLab, host: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.arg("-H").arg(lan.host(host)?.socket().url()).args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(LIMIT, command.output()).await.map_err(|_| format!("docker {words:?} hangs"))?;
    let output = output.map_err(|error| format!("docker cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("docker {words:?} on {host}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
