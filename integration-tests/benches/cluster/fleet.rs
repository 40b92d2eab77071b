//! Hosts by the dozen: real agents over engines in memory, in this process, under
//! a real master in a process of its own.

use std::time::Duration;

use shef_agent::{AgentHandle, EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::cluster::agent_config;

use crate::{
    load::{load, post},
    measure::{note, timed},
    programs::{Master, Shef},
};

/// How many services [`Fleet::fill`] makes.
pub const SERVICES: u64 = 1_000;
/// How many replicas each of them has.
pub const REPLICAS: u64 = 10;
/// How many hosts share them.
pub const HOSTS: usize = 20;
/// How long making the services may take.
const FILL_LIMIT: Duration = Duration::from_mins(1);

/// A master and its hosts.
pub struct Fleet {
    /// The master.
    pub master: Master,
    agents: Vec<AgentHandle>,
    _dir: tempfile::TempDir,
}

impl Fleet {
    /// A master on the store that `store` names, and `hosts` hosts that are ready.
    ///
    /// # Panics
    /// If they do not come up.
    pub async fn start(shef: &Shef, hosts: usize, store: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let master = shef.master(dir.path(), store).await;
        let mut agents = Vec::new();
        for n in 0..hosts {
            let name = format!("h{n}");
            let config = agent_config(&dir.path().join(&name), &name, master.address, "unix:///nowhere");
            let engine = EngineChoice::Fake(FakeEngineOptions::default());
            agents.push(shef_agent::start(config, engine).await.expect("the agent starts"));
        }
        master.api.until("/v1/stats", |answer| answer.body["now"]["nodes_ready"] == hosts).await;
        Self { master, agents, _dir: dir }
    }

    /// Makes [`SERVICES`] services of [`REPLICAS`] replicas each and waits until all of them run.
    ///
    /// # Panics
    /// If they do not.
    pub async fn fill(&self) {
        let services = post("/v1/services", SERVICES, |n| {
            format!(
                r#"{{"name":"service-{n:04}","image":"registry.example/team/app:1.2.3","replicas":{REPLICAS}}}"#
            )
        });
        let fill = async {
            let outcome = load(self.master.address, 16, FILL_LIMIT, services).await;
            assert_eq!(outcome.refused, 0, "no service is refused");
            let all = SERVICES * REPLICAS;
            self.master.api.until("/v1/stats", |answer| answer.body["now"]["replicas_running"] == all).await;
        };
        let took = timed(fill).await.1.as_secs_f64();
        note(format_args!(
            "{SERVICES} services with {} replicas run on {HOSTS} hosts after {took:.1} s",
            SERVICES * REPLICAS
        ));
    }

    /// Stops the hosts and the master.
    pub async fn stop(self) {
        for agent in self.agents {
            agent.stop().await;
        }
    }
}
