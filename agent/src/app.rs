//! Starts and wires the agent: ledger, engine, supervisor, reporter, HTTP.
//!
//! ```text
//! master -> http -> supervisor -> engine
//!                       |  ^
//!                       v  | joined, acknowledged, master answered, describe, orders that came with an
//!                       answer
//! master <----------- reporter
//! ```

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use actix::{Actor as _, Addr, AsyncContext as _, Context};
use shef_common::{
    client::HostClient,
    clock::DurationMs,
    docker::{DockerAddress, InvalidDockerAddress},
    endpoint::Endpoint,
    ids::{BootId, InvalidId, NodeName, random_hex16},
    protocol::{Alive, ProbeKey},
    sockets,
    tls::Tls,
};

use crate::{
    config::AgentConfig,
    console::{Console, Consoles},
    engine::{
        Engine,
        docker::DockerEngine,
        fake::{FakeEngine, FakeEngineOptions},
    },
    files::{Fetcher, Files},
    http,
    identity::{self, Asked, DenyList, Heard, IdentityError, over_tls, renew_in_time},
    images::{Cleaner, EngineDisk, Pulled, clean_up},
    reporter::{Identity, Reporter, Settings, SupervisorLinks},
    supervisor::{
        Binds, Limits, Mounts, Shutdown, Supervisor,
        ledger::{LedgerError, LedgerFile},
    },
};

/// How long a write of the ledger may take when the agent stops.
const LEDGER_RELEASE_LIMIT_MS: u32 = 5_000;

/// The engine that the agent drives.
#[derive(Debug, Clone)]
pub enum EngineChoice {
    /// Docker, at the configured address.
    Docker,
    /// One in memory, for fleets and benches.
    Fake(FakeEngineOptions),
}

/// Why an agent cannot start. An engine or a master that is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine's address is none.
    #[error(transparent)]
    DockerHost(#[from] InvalidDockerAddress),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The host's name is none that a node can have.
    #[error("set a node name: {0}")]
    NodeName(#[source] InvalidId),
    /// The host's name cannot be read.
    #[error("set a node name: the host's own cannot be read: {0}")]
    HostName(#[source] std::io::Error),
    /// No master is configured.
    #[error("masters must name at least one master, as http://host:port")]
    NoMaster,
    /// A master's address is none.
    #[error("masters must be http://host:port, but one is {0:?}")]
    Master(String),
    /// It cannot be noted that this host has a policy.
    #[error("the data directory cannot be written: {0}")]
    Policy(#[source] std::io::Error),
    /// A random number was not a valid identity.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// It is no member of a cluster.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A running agent.
pub struct AgentHandle {
    probe_key: ProbeKey,
    node: NodeName,
    server: http::Server,
    supervisor: Addr<Supervisor>,
    reporter: Addr<Reporter>,
    cleaner: tokio::task::JoinHandle<()>,
    renewal: Option<tokio::task::JoinHandle<()>>,
    /// Held by the supervisor and by a write that it has begun.
    ledger: Weak<LedgerFile>,
}

impl AgentHandle {
    /// The name of its host.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// The key with which a master has it probe other hosts' addresses.
    #[must_use]
    pub const fn probe_key(&self) -> &ProbeKey {
        &self.probe_key
    }

    /// Where the agent listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Stops the agent and leaves the containers running. The next start finishes the work that was in
    /// progress.
    pub async fn stop(self) {
        self.cleaner.abort();
        self.renewal.inspect(tokio::task::JoinHandle::abort);
        self.server.stop().await;
        // One that has ended already needs no telling.
        let _ = self.reporter.send(Shutdown).await;
        let _ = self.supervisor.send(Shutdown).await;
        // The next agent on this directory may start when the ledger is let go of; a write under way ends
        // first.
        for _ in 0..LEDGER_RELEASE_LIMIT_MS {
            if self.ledger.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        log::warn!("the ledger was still being written when the agent stopped");
    }
}

/// Starts an agent on this arbiter. Call inside an actix system.
///
/// # Errors
/// [`StartError`] for what waiting does not mend: the configuration, the ledger, the address.
pub async fn start(config: AgentConfig, engine: EngineChoice) -> Result<AgentHandle, StartError> {
    let mounts_files = matches!(engine, EngineChoice::Docker);
    let (engine, console): (Rc<dyn Engine>, Rc<dyn Console>) = match engine {
        EngineChoice::Docker => {
            let docker = Rc::new(DockerEngine::new(&config.docker_host, &config.docker_tls)?);
            (docker.clone(), docker)
        }
        EngineChoice::Fake(options) => {
            let fake = Rc::new(FakeEngine::new(options));
            (fake.clone(), fake)
        }
    };
    let masters = masters(&config.masters)?;
    let node = match config.node_name.clone() {
        Some(name) => name,
        None => host_name()?,
    };
    let listener = sockets::listener(config.listen)
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address =
        listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
    let is_new = !LedgerFile::exists(&config.data_dir);
    let (file, ledger) = LedgerFile::open(&config.data_dir)?;
    let policy = config.policy.in_force(&config.data_dir, is_new).map_err(StartError::Policy)?;
    let asked = Asked {
        mode: config.tls,
        only_tls: config.only_tls,
        token: config.join_token.clone(),
        data_dir: &config.data_dir,
        node: node.clone(),
        uid: ledger.uid.clone(),
        is_new: is_new || ledger.cluster.is_none(),
        masters: &masters,
    };
    let member = identity::establish(asked).await?;
    let node = member.as_ref().map_or(node, |(file, _)| file.node.clone());
    let tls = member.as_ref().map(|(_, tls)| tls.clone());
    let heard = member.as_ref().map(|(file, _)| Heard::new(file));
    let masters = match &tls {
        Some(_) => masters.iter().map(|master| over_tls(master)).collect(),
        None => masters,
    };
    let (to_masters, to_members) = (tls.as_ref().map(Tls::to_masters), tls.as_ref().map(Tls::to_members));
    let file = Arc::new(file);
    let held = Arc::downgrade(&file);
    let identity = Identity {
        node: node.clone(),
        uid: ledger.uid.clone(),
        boot: BootId::parse(&random_hex16())?,
        address: config.host_ip,
        agent_url: Endpoint {
            address: (config.host_ip, address.port()).into(),
            member: tls.as_ref().map(Tls::identity),
        }
        .to_string(),
        labels: config.labels.clone(),
        policy: policy.clone(),
        probe_key: ProbeKey::random(),
    };
    let probe_key = identity.probe_key.clone();
    let alive = Alive {
        node: node.clone(),
        uid: identity.uid.clone(),
        boot: identity.boot.clone(),
        agent_url: Some(identity.agent_url.clone()),
        follows: None,
    };
    let settings = Settings {
        node: node.clone(),
        boot: identity.boot.clone(),
        agent_url: identity.agent_url.clone(),
        masters: masters.len(),
        debounce: DurationMs(config.report_debounce_ms),
        seed: shef_common::ids::random(),
    };
    let limits = Limits {
        engine_concurrency: config.engine_concurrency.max(1) as usize,
        pull_concurrency: config.pull_concurrency.max(1) as usize,
        relist_interval: DurationMs(config.relist_interval_ms.max(1_000)),
    };
    log::info!(node:%, uid:% = identity.uid, address:%, holds = ledger.assignments.len(); "agent starts");

    // The two know each other by recipients alone: the reporter's address exists before the reporter.
    let reporter = Context::<Reporter>::new();
    let pulled = Rc::new(Pulled::open(&config.data_dir));
    let engine_address = DockerAddress::parse(&config.docker_host, &config.docker_tls)?;
    let host_root = engine_address.is_on(config.host_ip).then(|| config.policy.host_root.clone());
    let files = if !mounts_files {
        Files::nowhere()
    } else if engine_address.is_on(config.host_ip) {
        let fetcher = Fetcher::new(masters.clone(), node.clone(), to_masters.clone());
        Files::here(config.secrets_dir.join(identity.uid.as_str()), fetcher)
    } else {
        Files::elsewhere()
    };
    let binds = policy.clone().map(|policy| Binds::new(policy, host_root));
    let supervisor = Supervisor::new(
        ledger,
        file,
        limits,
        engine.clone(),
        pulled.clone(),
        Mounts { binds, files },
        reporter.address().recipient(),
    );
    let followed = supervisor.followed();
    let supervisor = supervisor.start();
    let disk = EngineDisk::new(config.engine_disk_dir.clone(), engine_address.is_on(config.host_ip));
    let images = Rc::new(Cleaner {
        client: HostClient::new(to_masters.clone()),
        engine: engine.clone(),
        pulled,
        describe: supervisor.clone().recipient(),
        masters: masters.clone(),
        disk,
        above_percent: config.image_cleanup_percent,
        every: Duration::from_millis(config.image_cleanup_interval_ms.max(100)),
    });
    let cleaner = actix::spawn(clean_up(images.clone()));
    let reporter = reporter.run(Reporter::new(
        identity,
        masters.clone(),
        to_masters,
        (tls.clone().map(|tls| DenyList::open(tls, &config.data_dir)), heard.clone()),
        settings,
        SupervisorLinks {
            describe: supervisor.clone().recipient(),
            joined: supervisor.clone().recipient(),
            acknowledged: supervisor.clone().recipient(),
            master_answered: supervisor.clone().recipient(),
            push: supervisor.clone().recipient(),
        },
    ));
    let consoles = Consoles::new(engine, console, supervisor.clone().recipient(), policy);
    let prober = http::Prober::new(probe_key.clone(), to_members);
    let server = http::Server::start(
        listener,
        tls.clone(),
        supervisor.clone().recipient(),
        consoles,
        images,
        http::SignOfLife { alive, followed },
        prober,
    )
    .await
    .map_err(|source| StartError::Listen { address, source })?;
    let renewal = member.zip(heard).map(|((file, tls), heard)| {
        actix::spawn(renew_in_time(file, tls, masters, config.data_dir.clone(), heard))
    });
    Ok(AgentHandle { probe_key, node, server, supervisor, reporter, cleaner, renewal, ledger: held })
}

fn masters(configured: &[String]) -> Result<Vec<String>, StartError> {
    if configured.is_empty() {
        return Err(StartError::NoMaster);
    }
    configured
        .iter()
        .map(|url| {
            let base = url.trim_end_matches('/');
            let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
            let host = host.unwrap_or_default();
            let fits = !host.is_empty()
                && !host.contains(['/', '?', '#', '@', ' '])
                && base.parse::<actix_web::http::Uri>().is_ok();
            if fits { Ok(base.to_owned()) } else { Err(StartError::Master(url.chars().take(200).collect())) }
        })
        .collect()
}

fn host_name() -> Result<NodeName, StartError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(StartError::HostName)?;
    NodeName::parse(&name.trim().to_lowercase()).map_err(StartError::NodeName)
}
