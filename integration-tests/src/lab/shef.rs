//! The real `shef` binary as processes of their own: a master, agents, and the
//! engines they drive.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    engine::{LabEngine, Seen},
    process::{Process, free_port},
    wait::until,
};
use crate::cluster::{Answer, Api};

/// The binary of the checkout, built if it is missing or older than its sources.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        let profile =
            test.ancestors().find(|dir| dir.join("deps").is_dir()).expect("cargo's target directory");
        let binary = profile.join("shef");
        if !is_fresh(&binary) {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            // In the whole workspace and beside a test: with the features that its dependencies have been
            // built with for the tests.
            cargo
                .args(["build", "--workspace", "--bin", "shef", "--test", "commands"])
                .current_dir(env!("CARGO_MANIFEST_DIR"));
            cargo.arg("--target-dir").arg(profile.parent().expect("the target directory"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().expect("cargo runs").success(), "shef cannot be built");
        }
        binary
    })
}

/// Whether the binary is there and newer than every source that cargo noted beside it.
fn is_fresh(binary: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let Some(built) = modified(binary) else { return false };
    let Ok(notes) = fs::read_to_string(binary.with_extension("d")) else { return false };
    let sources = notes.split_once(':').map_or("", |(_, sources)| sources).split_whitespace();
    sources
        .map(|source| modified(Path::new(source)))
        .all(|changed: Option<SystemTime>| changed.is_some_and(|at| at <= built))
}

/// A master of its own process, on a port that it keeps over restarts.
pub struct Master {
    /// The process.
    pub process: Process,
    /// Its API.
    pub api: Api,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its embedded store lies.
    pub data: PathBuf,
}

impl Master {
    /// A master with its data below `dir`. Not started yet. It logs at `debug`,
    /// and to `settings` (environment variables) it listens before anything else.
    #[must_use]
    pub fn new(dir: &Path, settings: &[(&str, &str)]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let quick = [("SHEF_MASTER_REPORT_INTERVAL_MS", "200")];
        Self::at(address, dir, &quick.iter().chain(settings).copied().collect::<Vec<_>>())
    }

    /// The same at a given address, with the intervals that it ships with.
    #[must_use]
    pub fn at(address: SocketAddr, dir: &Path, settings: &[(&str, &str)]) -> Self {
        let data = dir.join("master");
        let mut process = Process::new(binary(), ["master"], dir.join("master.log"))
            .with("HOST_IP", address.ip())
            .with("LOG_LEVEL", "debug")
            .with("SHEF_MASTER_LISTEN", address)
            .with("SHEF_MASTER_DATA_DIR", data.display())
            .with("SHEF_INSECURE", "true")
            .with("SHEF_TLS", "off");
        for (name, value) in settings {
            process = process.with(name, value);
        }
        Self { process, api: Api::new(address), address, data }
    }

    /// Starts it and waits until it has read what is stored.
    pub async fn start(&mut self) {
        self.process.start();
        self.answers().await;
        let reads = |answer: &Answer| {
            let reason = answer.body["reason"].as_str();
            reason.is_some_and(|reason| reason.starts_with("the master reads"))
        };
        self.api.until("/readyz", |answer| !reads(answer)).await;
    }

    /// How often it has called a host down, in all its runs.
    #[must_use]
    pub fn called_down(&self) -> usize {
        self.process.said().lines().filter(|line| line.contains("membership: the host is down")).count()
    }

    /// Waits until it answers.
    pub async fn answers(&self) {
        until("the master answers", async || self.api.attempt("GET", "/healthz", &[], Vec::new()).await.ok())
            .await;
    }

    /// Waits until `count` hosts are ready.
    pub async fn hosts(&self, count: usize) {
        self.api.until("/v1/stats", |answer| answer.body["now"]["nodes_ready"] == count).await;
    }

    /// Creates or replaces a service of the lab's image and waits until it runs. Unless the spec says
    /// otherwise, new replicas have no trial.
    ///
    /// # Panics
    /// If it is not taken or does not come to run.
    pub async fn deploy(&self, name: &str, mut spec: Value) {
        if spec["update"]["monitor_ms"].is_null() {
            spec["update"]["monitor_ms"] = json!(0);
        }
        let answer = self.api.call("PUT", &format!("/v1/services/{name}?wait=60s"), spec).await;
        assert_eq!(answer.body["converged"], true, "{answer:?}");
    }

    /// A service as `/v1` shows it; `None`: there is none.
    pub async fn service(&self, name: &str) -> Option<Value> {
        let answer = self.api.get(&format!("/v1/services/{name}")).await;
        (answer.status == 200).then_some(answer.body)
    }

    /// Waits until the service is as wanted, and brings it.
    pub async fn running(&self, name: &str) -> Value {
        self.api.until(&format!("/v1/services/{name}"), |answer| answer.body["state"] == "running").await.body
    }
}

/// An agent of its own process.
pub struct Agent {
    /// The process.
    pub process: Process,
    /// The host's name.
    pub name: String,
}

impl Agent {
    /// The agent of host `n` (counted from 1; its address is 127.0.0.n). Not started yet.
    ///
    /// # Panics
    /// If there cannot be so many.
    #[must_use]
    pub fn new(dir: &Path, n: usize, master: SocketAddr, engine: &str, settings: &[(&str, &str)]) -> Self {
        let last = u8::try_from(n).expect("a host's number is at most 255");
        let listen = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), free_port()));
        let mut agent = Self::at(listen, &format!("h{n}"), dir, master, engine);
        for (name, value) in settings {
            agent.process.set(name, value);
        }
        agent
    }

    /// The agent of the host `name`, which listens at `listen`.
    #[must_use]
    pub fn at(listen: SocketAddr, name: &str, dir: &Path, master: SocketAddr, engine: &str) -> Self {
        let process = Process::new(binary(), ["agent"], dir.join(format!("{name}.log")))
            .with("HOST_IP", listen.ip())
            .with("LOG_LEVEL", "debug")
            .with("DOCKER_HOST", engine)
            .with("SHEF_AGENT_LISTEN", listen)
            .with("SHEF_AGENT_MASTERS", master)
            .with("SHEF_AGENT_NODE_NAME", name)
            .with("SHEF_AGENT_DATA_DIR", dir.join(name).display())
            .with("SHEF_TLS", "off");
        Self { process, name: name.to_owned() }
    }
}

/// A master and hosts, each with an engine of its own. Everything ends when it is dropped.
pub struct HostLab {
    /// The master.
    pub master: Master,
    /// The agents, one a host.
    pub agents: Vec<Agent>,
    /// The engines, one a host.
    pub engines: Vec<LabEngine>,
    /// Where everything but the engines' data lies.
    pub dir: TempDir,
}

impl HostLab {
    /// A site of `hosts` ready hosts, whose engines have the lab's image. `settings`
    /// are environment variables of the master.
    pub async fn start(hosts: usize, settings: &[(&str, &str)]) -> Self {
        let mut site = Self::prepare(hosts, settings).await;
        site.master.start().await;
        site.agents.iter_mut().for_each(|agent| agent.process.start());
        site.master.hosts(hosts).await;
        site
    }

    /// The same with only the engines started.
    ///
    /// # Panics
    /// If an engine does not start.
    pub async fn prepare(hosts: usize, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engines = join_all((0..hosts).map(|_| async {
            let engine = LabEngine::start().await;
            engine.import_busybox().await;
            engine
        }))
        .await;
        let master = Master::new(dir.path(), settings);
        let agent = |(n, engine): (usize, &LabEngine)| {
            Agent::new(dir.path(), n + 1, master.address, &engine.url(), &[])
        };
        let agents = engines.iter().enumerate().map(agent).collect();
        Self { master, agents, engines, dir }
    }

    /// Every container of ours on every host, by name.
    pub async fn containers(&self) -> BTreeMap<String, Seen> {
        join_all(self.engines.iter().map(LabEngine::managed)).await.into_iter().flatten().collect()
    }

    /// Waits until exactly the replicas that the services `names` want run, on
    /// engines and in the API's words, and brings their containers.
    pub async fn settled(&self, names: &[&str]) -> BTreeMap<String, Seen> {
        until("exactly what is wanted runs", async || {
            let mut wanted = Vec::new();
            for name in names {
                let service = self.master.service(name).await?;
                let replicas = service["replica_states"].as_array()?;
                if service["state"] != "running" || replicas.len() as u64 != service["replicas"].as_u64()? {
                    return None;
                }
                wanted
                    .extend(replicas.iter().filter_map(|replica| replica["id"].as_str().map(str::to_owned)));
            }
            wanted.sort();
            let found = self.containers().await;
            (found.keys().eq(&wanted) && found.values().all(|seen| seen.state == "running")).then_some(found)
        })
        .await
    }
}

/// The body of a service of the lab's image.
#[must_use]
pub fn busybox(replicas: u32) -> Value {
    json!({ "image": super::engine::BUSYBOX, "replicas": replicas, "stop_grace_s": 2,
        "update": { "monitor_ms": 0 } })
}
