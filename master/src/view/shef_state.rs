//! The body of docker-shef's `GET /state`: nodes, runners with their containers,
//! services. What changes seldom is kept serialised; only heartbeats are written anew.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde::Serialize;
use shef_common::{ids::NodeName, ids::ServiceName, status::ReplicaState};

use super::ClusterView;
use crate::{
    runner::NodeState,
    service::{ServiceState, ServiceView, Want},
};

/// A service as docker-shef shows it.
#[derive(Debug, Serialize)]
pub struct ShefService {
    #[serde(rename = "serviceName")]
    service_name: ServiceName,
    image: String,
    replicas: u32,
    containers: Vec<ShefContainer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct ShefContainer {
    #[serde(rename = "containerName")]
    container_name: String,
    runner: String,
}

#[derive(Debug, Serialize)]
struct RunnerContainer<'a> {
    image: &'a str,
    name: &'a str,
    state: &'static str,
    #[serde(rename = "serviceName")]
    service_name: &'a str,
    id: &'a str,
}

impl ShefService {
    /// `view` in docker-shef's words; a state is shown only while something is missing.
    #[must_use]
    pub fn of(view: &ServiceView, cluster: &ClusterView) -> Self {
        let running = view.replica_states.iter().filter(|r| r.want == Want::Run && r.state == ReplicaState::Running);
        Self {
            service_name: view.spec.name.clone(),
            image: view.spec.template.image.to_string(),
            replicas: view.spec.replicas,
            containers: running
                .map(|replica| ShefContainer {
                    container_name: replica.id.to_string(),
                    runner: cluster
                        .host(&replica.node)
                        .map_or_else(|| format!("runner.{}", replica.node), |host| format!("runner.{}", host.view.host.address)),
                })
                .collect(),
            state: match view.state {
                ServiceState::Running => None,
                ServiceState::Pending => Some("pending"),
                ServiceState::Deleting => Some("deleting"),
            },
        }
    }
}

/// Builds the body, and remembers what can be used again.
#[derive(Debug, Default)]
pub struct StateBody(Mutex<Option<Arc<Kept>>>);

#[derive(Debug)]
struct Kept {
    version: u64,
    services: String,
    containers: BTreeMap<NodeName, String>,
}

impl StateBody {
    /// The body as of now. `master` is the master's own host.
    #[must_use]
    pub fn build(&self, view: &ClusterView, master: Ipv4Addr) -> Bytes {
        let kept = self.kept(view);
        let hosts = view.hosts(None, usize::MAX);
        let mut body = String::with_capacity(kept.services.len() * 2 + 256);
        body.push_str("{\"nodes\":[");
        for (n, host) in hosts.iter().enumerate() {
            let address = host.view.host.address;
            let _ = write!(
                body,
                "{}{{\"node\":\"{address}\",\"master\":{},\"alive\":{},\"lastAlive\":\"{}\"}}",
                if n > 0 { "," } else { "" },
                address == master,
                host.view.state == NodeState::Ready,
                host.heard().iso(),
            );
        }
        body.push_str("],\"runners\":[");
        for (n, host) in hosts.iter().enumerate() {
            let _ = write!(
                body,
                "{}{{\"runnerName\":\"{}\",\"alive\":{},\"lastAlive\":\"{}\",\"containers\":[{}]}}",
                if n > 0 { "," } else { "" },
                host.view.host.address,
                host.view.state == NodeState::Ready,
                host.heard().iso(),
                kept.containers.get(&host.view.name).map_or("", String::as_str),
            );
        }
        body.push_str("],\"services\":[");
        body.push_str(&kept.services);
        body.push_str("]}");
        body.into()
    }

    fn kept(&self, view: &ClusterView) -> Arc<Kept> {
        let version = view.version();
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(kept) if kept.version == version => kept.clone(),
            _ => {
                let kept = Arc::new(keep(view, version));
                *slot = Some(kept.clone());
                kept
            }
        }
    }
}

fn keep(view: &ClusterView, version: u64) -> Kept {
    let mut services = String::new();
    let mut containers: BTreeMap<NodeName, String> = BTreeMap::new();
    for service in view.services(None, usize::MAX) {
        if service.state != ServiceState::Deleting {
            push_json(&mut services, &ShefService::of(&service, view));
        }
        let image = service.spec.template.image.as_str();
        for replica in &service.replica_states {
            let Some(id) = &replica.container_id else { continue };
            let state = match replica.state {
                ReplicaState::Running | ReplicaState::Stopping => "running",
                ReplicaState::Pending | ReplicaState::Assigned | ReplicaState::Pulling | ReplicaState::Starting => "created",
                ReplicaState::Stopped | ReplicaState::Failed => "exited",
            };
            let shown = RunnerContainer { image, name: replica.id.as_str(), state, service_name: service.spec.name.as_str(), id };
            push_json(containers.entry(replica.node.clone()).or_default(), &shown);
        }
    }
    Kept { version, services, containers }
}

fn push_json(list: &mut String, item: &impl Serialize) {
    // Plain structs of strings and numbers: they always serialise.
    if let Ok(json) = serde_json::to_string(item) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&json);
    }
}
