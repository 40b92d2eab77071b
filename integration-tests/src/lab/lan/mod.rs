//! Several real hosts on one machine: each with a network namespace, an address,
//! a Docker engine and an agent of its own; beside them a master, a store and a
//! registry. All of it goes with its owner, and what an owner that was killed
//! left is taken away when the next one starts.

pub mod bare;
pub mod command;
pub mod count;
pub mod delay;
mod faults;
mod filters;
pub mod host;
pub mod names;
pub mod net;
pub mod reader;
pub mod store;
pub mod sweep;

use std::{net::SocketAddr, path::PathBuf};

use futures_util::future::join_all;

use self::{
    delay::DelayProxy,
    host::REGISTRY_PORT,
    net::{Namespace, Net},
};
pub use self::{filters::Cut, host::Host};
use super::{engine, redis::LabRedis, registry::LabRegistry, release::Release, shef::Master};

/// Where the master's API listens.
const API_PORT: u16 = 8_044;
/// Where the lab's Redis listens.
const REDIS_PORT: u16 = 6_379;

/// What a lab is made of.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// How many hosts, 1 to [`net::MAX_HOSTS`].
    pub hosts: usize,
    /// The master runs on this host, counted from 1, and shares its fate; else it has a namespace of its own.
    pub master_on: Option<usize>,
    /// The master keeps its state in a Redis instead of in a file.
    pub redis: bool,
    /// The room for the master's file, in MB; else what the machine's memory has.
    pub disk_mb: Option<u32>,
    /// There is a registry, which hosts reach under [`LanLab::registry`]'s address.
    pub registry: bool,
    /// The releases of the hosts' engines, in turn; none: those of [`engine::ENGINE_VARIABLE`], or the
    /// machine's own.
    pub engines: Vec<Release>,
    /// Environment variables of the master.
    pub settings: Vec<(String, String)>,
}

impl Plan {
    /// `hosts` hosts, a master in a namespace of its own, and its embedded store.
    #[must_use]
    pub fn hosts(hosts: usize) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// With one more environment variable of the master.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A lab that runs.
pub struct LanLab {
    // Dropped in this order: programs first, what they stand on last.
    /// The master.
    pub master: Master,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The Redis, if the plan has one.
    pub redis: Option<LabRedis>,
    /// The registry, if the plan has one.
    pub registry: Option<LabRegistry>,
    delays: Vec<(String, [DelayProxy; 2])>,
    master_namespace: Option<Namespace>,
    /// The network.
    pub net: Net,
}

impl LanLab {
    /// Starts everything, and waits until all hosts are ready and have the lab's image.
    ///
    /// # Errors
    /// What is missing on the machine, or what the system refused.
    ///
    /// # Panics
    /// If a program does not come up; the end of its log says why.
    pub async fn start(plan: &Plan) -> Result<Self, String> {
        let mut lan = Self::prepare(plan).await?;
        lan.master.start().await;
        lan.hosts.iter_mut().for_each(|host| host.agent.process.start());
        lan.master.hosts(plan.hosts).await;
        Ok(lan)
    }

    /// The same with master and agents not started yet.
    ///
    /// # Errors
    /// What is missing on the machine, or what the system refused.
    ///
    /// # Panics
    /// If a program does not come up; the end of its log says why.
    pub async fn prepare(plan: &Plan) -> Result<Self, String> {
        if !(1..=net::MAX_HOSTS).contains(&plan.hosts) {
            return Err(format!("a lab has 1 to {} hosts, not {}", net::MAX_HOSTS, plan.hosts));
        }
        let net = Net::new()?;
        let own = if plan.master_on.is_none() { Some(net.for_master()?) } else { None };
        // Addresses are known before there are hosts.
        let address = own
            .as_ref()
            .map_or_else(|| net.address_of_host(plan.master_on.unwrap_or(1)), |space| space.address);
        let address = SocketAddr::from((address, API_PORT));
        let mut hosts = Vec::new();
        let releases = if plan.engines.is_empty() { engine::releases()? } else { plan.engines.clone() };
        for (n, release) in (1..=plan.hosts).zip(releases.iter().cycle()) {
            hosts.push(Host::new(&net, n, release, address)?);
        }
        for space in hosts.iter().map(|host| &host.namespace).chain(&own) {
            filters::prepare(space)?;
        }
        let shared = plan.master_on.and_then(|n| hosts.get(n - 1)).map(|host| host.namespace.path());
        let inside: PathBuf =
            own.as_ref().map(Namespace::path).or(shared).ok_or("the master's host is none of the lab's")?;

        let redis = if plan.redis {
            Some(LabRedis::start_at((net.address(), REDIS_PORT).into()).await)
        } else {
            None
        };
        let registry = if plan.registry {
            Some(LabRegistry::start_at((net.address(), REGISTRY_PORT).into()).await)
        } else {
            None
        };
        let settings: Vec<(&str, &str)> =
            plan.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut master = Master::at(address, &net.dir(), &settings);
        store::prepare(&mut master, redis.as_ref(), plan.disk_mb)?;
        master.process = master.process.inside(inside);

        join_all(hosts.iter_mut().map(|host| async {
            host.start_engine().await;
            host.socket().import_busybox().await;
        }))
        .await;
        Ok(Self { master, hosts, redis, registry, delays: Vec::new(), master_namespace: own, net })
    }

    /// The host of this name.
    ///
    /// # Errors
    /// There is none; the message names those there are.
    pub fn host(&self, name: &str) -> Result<&Host, String> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| self.no_host(name))
    }

    /// The same, to change.
    ///
    /// # Errors
    /// There is none; the message names those there are.
    pub fn host_mut(&mut self, name: &str) -> Result<&mut Host, String> {
        let refusal = self.no_host(name);
        self.hosts.iter_mut().find(|host| host.name == name).ok_or(refusal)
    }

    fn no_host(&self, name: &str) -> String {
        format!("there is no host {name}: this lab has h1 to h{}", self.hosts.len())
    }
}
