//! Hosts with nothing but an engine, for what installs itself on them; beside them a
//! registry. Everything is asked of them as an operator would: by `docker`.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join_all;
use tokio::process::Command;

use super::{
    filters,
    host::{Host, REGISTRY_PORT},
    net::Net,
};
use crate::{
    cluster::Api,
    lab::{engine, redis::LabRedis, registry::LabRegistry, wait::until},
};

/// The bootstrap's container.
pub const BOOTSTRAP: &str = "shef-bootstrap";

/// Hosts with engines, and a registry that they can reach.
pub struct BareLab {
    // Dropped in this order: programs first, what they stand on last.
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The registry.
    pub registry: LabRegistry,
    /// The network.
    pub net: Net,
}

impl BareLab {
    /// Starts `count` hosts.
    ///
    /// # Panics
    /// If one does not come up; the end of its log says why.
    pub async fn start(count: usize) -> Self {
        Self::start_guarded(count, &[]).await
    }

    /// The same with a registry that asks everybody who they are; `logins` as in
    /// [`LabRegistry::start_guarded`].
    ///
    /// # Panics
    /// If a host does not come up; the end of its log says why.
    pub async fn start_guarded(count: usize, logins: &[&str]) -> Self {
        let net = Net::new().expect("the lab's network");
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let releases = engine::releases().expect("the chosen releases of the engine");
        let host = |(n, release)| Host::new(&net, n, release, nowhere).expect("a host");
        let mut hosts: Vec<Host> = (1..=count).zip(releases.iter().cycle()).map(host).collect();
        for host in &hosts {
            filters::prepare(&host.namespace).expect("the host's filters");
        }
        let registry = LabRegistry::start_guarded_at((net.address(), REGISTRY_PORT).into(), logins).await;
        join_all(hosts.iter_mut().map(Host::start_engine)).await;
        Self { hosts, registry, net }
    }

    /// A Redis beside the hosts, which they can reach.
    pub async fn redis(&self) -> LabRedis {
        LabRedis::start_at((self.net.address(), super::REDIS_PORT).into()).await
    }

    /// The address of host `n`, counted from 1.
    #[must_use]
    pub fn address(&self, n: usize) -> Ipv4Addr {
        self.hosts[n - 1].namespace.address
    }

    /// The API of a master on host `n`.
    #[must_use]
    pub fn api(&self, n: usize) -> Api {
        Api::new((self.address(n), super::API_PORT).into())
    }

    /// Runs `docker` for host `n`, and brings what it wrote, errors last.
    ///
    /// # Errors
    /// The same, when it does not end well.
    ///
    /// # Panics
    /// If there is no `docker` on this machine.
    pub async fn docker(&self, n: usize, words: &[&str]) -> Result<String, String> {
        let host = &self.hosts[n - 1];
        let mut docker = Command::new("docker");
        let ran = docker
            .env("PATH", host.release.path())
            .arg("-H")
            .arg(host.socket().url())
            .args(words)
            .output()
            .await
            .expect("docker runs");
        let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).trim().to_owned();
        if ran.status.success() { Ok(text) } else { Err(text) }
    }

    /// The `docker run` line that README gives for host `n`, with further variables; brings the container's
    /// id.
    ///
    /// # Errors
    /// What docker said.
    pub async fn bootstrap(
        &self,
        n: usize,
        image: &str,
        variables: &[(&str, &str)],
    ) -> Result<String, String> {
        let path = self.hosts[n - 1].socket().url().trim_start_matches("unix://").to_owned();
        let (ip, mount) = (format!("HOST_IP={}", self.address(n)), format!("{path}:/var/run/docker.sock"));
        // Tests call the API as docker-shef's clients do; how-to pages call it as it is set up.
        let open = ("SHEF_INSECURE", "true");
        let variables: Vec<String> =
            [open].iter().chain(variables).map(|(name, value)| format!("{name}={value}")).collect();
        let mut words = vec!["run", "-d", "--restart", "unless-stopped", "--name", BOOTSTRAP, "-e", &ip];
        // Namespaces share the machine's name; hosts do not.
        let name = format!("SHEF_AGENT_NODE_NAME=h{n}");
        words.extend(["-e", &name]);
        variables.iter().for_each(|variable| words.extend(["-e", variable]));
        words.extend(["-v", &mount, "-l", "shef-bouter=true", image, "bootstrap"]);
        self.docker(n, &words).await
    }

    /// What lets a further host join, made by the master of host 1.
    ///
    /// # Panics
    /// If it does not come to make one.
    pub async fn join_token(&self) -> String {
        until("the master of the first host makes a join token", async || {
            let said = self.docker(1, &["exec", "shef-master", "shef", "token", "join"]).await.ok()?;
            // What it says beside the token comes behind it.
            said.lines().next().map(str::to_owned)
        })
        .await
    }

    /// What the bootstrap of host `n` has written.
    pub async fn log(&self, n: usize) -> String {
        self.docker(n, &["logs", BOOTSTRAP]).await.unwrap_or_else(|error| error)
    }
}
