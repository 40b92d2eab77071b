//! What an agent needs to be told.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use shef_common::ids::NodeName;

/// The agent's settings.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where the agent listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The host's IPv4 address, under which the master reaches the agent.
    pub host_ip: Ipv4Addr,
    /// The host's name in the cluster; default: the host name, lower-cased.
    pub node_name: Option<NodeName>,
    /// The masters, as `http://host:port`.
    pub masters: Vec<String>,
    /// The engine: `unix:///var/run/docker.sock`, `tcp://…` or `http://…`.
    pub docker_host: String,
    /// Where the ledger lies.
    pub data_dir: PathBuf,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// The most engine operations at once.
    pub engine_concurrency: u32,
    /// The most image pulls at once.
    pub pull_concurrency: u32,
    /// How often all containers are listed, in milliseconds.
    pub relist_interval_ms: u64,
    /// How long changed statuses are gathered before they are reported, in milliseconds.
    pub report_debounce_ms: u64,
}
