//! The body of docker-shef's `GET /state`: nodes, runners with their containers,
//! services. What changes seldom is kept serialised; only heartbeats are written anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shef_common::{clock::WallMs, ids::NodeName, ids::ServiceName, status::ReplicaState};

use super::{Bootstrap, ClusterView, Host};
use crate::{
    membership::Standing,
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

#[derive(Debug, Serialize)]
struct ShefState<'a> {
    nodes: Vec<ShefNode>,
    runners: Vec<ShefRunner<'a>>,
    services: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct ShefNode {
    node: Ipv4Addr,
    master: bool,
    alive: bool,
    #[serde(rename = "lastAlive")]
    last_alive: String,
}

#[derive(Debug, Serialize)]
struct ShefRunner<'a> {
    #[serde(rename = "runnerName")]
    name: Ipv4Addr,
    alive: bool,
    #[serde(rename = "lastAlive")]
    last_alive: String,
    containers: &'a RawValue,
}

impl ShefService {
    /// `view` in docker-shef's words; a state is shown only while something is missing.
    #[must_use]
    pub fn of(view: &ServiceView, cluster: &ClusterView) -> Self {
        let running =
            view.replica_states.iter().filter(|r| r.want == Want::Run && r.state == ReplicaState::Running);
        Self {
            service_name: view.spec.name.clone(),
            image: view.spec.template.image.to_string(),
            replicas: view.wanted,
            containers: running
                .map(|replica| ShefContainer {
                    container_name: replica.id.to_string(),
                    runner: match cluster.host(&replica.node) {
                        Some(host) => format!("runner.{}", host.view.host.address),
                        None => format!("runner.{}", replica.node),
                    },
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

/// The parts that are reused while only heartbeats arrive.
#[derive(Debug)]
struct Kept {
    version: u64,
    addresses: BTreeMap<NodeName, Ipv4Addr>,
    parts: BTreeMap<ServiceName, Arc<Part>>,
    services: Box<RawValue>,
    containers: BTreeMap<NodeName, Box<RawValue>>,
    /// The last body, and the heartbeats and bootstraps that it shows.
    body: Mutex<(Vec<WallMs>, Vec<Bootstrap>, Bytes)>,
}

/// One service's share, used again while the service has not changed.
#[derive(Debug)]
struct Part {
    of: Arc<ServiceView>,
    service: Option<Box<RawValue>>,
    containers: BTreeMap<NodeName, Vec<Box<RawValue>>>,
}

impl StateBody {
    /// The body as of now. `master` is the master's own host; `bootstraps` are those
    /// that have called, in the order of their addresses.
    #[must_use]
    pub fn build(&self, view: &ClusterView, master: Ipv4Addr, bootstraps: &[Bootstrap]) -> Bytes {
        let kept = self.kept(view);
        let hosts = view.hosts(None, usize::MAX);
        let reports: Vec<WallMs> = hosts.iter().map(Host::last_report).collect();
        let mut last = kept.body.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != reports || last.1 != bootstraps || last.2.is_empty() {
            *last = (reports, bootstraps.to_vec(), kept.body(&hosts, master, bootstraps));
        }
        last.2.clone()
    }

    fn kept(&self, view: &ClusterView) -> Arc<Kept> {
        let version = view.version();
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(kept) if kept.version == version => kept.clone(),
            before => {
                let kept = Arc::new(keep(view, version, before.as_deref()));
                *slot = Some(kept.clone());
                kept
            }
        }
    }
}

impl Kept {
    fn body(&self, hosts: &[Host], master: Ipv4Addr, bootstraps: &[Bootstrap]) -> Bytes {
        let node = |Bootstrap { address, master, alive, last }| ShefNode {
            node: address,
            master,
            alive,
            last_alive: last.iso(),
        };
        let none = raw(&[(); 0]);
        let runner = |host: &Host| ShefRunner {
            name: host.view.host.address,
            alive: is_alive(host.view.state),
            last_alive: host.last_report().iso(),
            containers: self.containers.get(&host.view.name).map_or(&none, Box::as_ref),
        };
        let nodes = nodes(hosts, master, bootstraps).map(node).collect();
        let runners = hosts.iter().map(runner).collect();
        // Plain data serialises.
        serde_json::to_vec(&ShefState { nodes, runners, services: &self.services }).unwrap_or_default().into()
    }
}

/// Hosts by what their bootstraps say, or else their agents; then the bootstraps of addresses without a host.
fn nodes<'a>(
    hosts: &'a [Host],
    master: Ipv4Addr,
    bootstraps: &'a [Bootstrap],
) -> impl Iterator<Item = Bootstrap> + 'a {
    let said = |address: Ipv4Addr| {
        bootstraps.binary_search_by_key(&address, |one| one.address).ok().map(|at| bootstraps[at])
    };
    let known = hosts.iter().map(move |host| {
        let address = host.view.host.address;
        let by_agent = || Bootstrap {
            address,
            master: address == master,
            alive: is_alive(host.view.state),
            last: host.last_report(),
        };
        said(address).unwrap_or_else(by_agent)
    });
    let addresses: BTreeSet<Ipv4Addr> = hosts.iter().map(|host| host.view.host.address).collect();
    known.chain(bootstraps.iter().filter(move |one| !addresses.contains(&one.address)).copied())
}

/// docker-shef knows of two states only.
const fn is_alive(standing: Standing) -> bool {
    match standing {
        Standing::Ready | Standing::Suspect | Standing::EngineDown => true,
        Standing::Awaited | Standing::AgentDown | Standing::Down => false,
    }
}

/// Takes over from `before` what has not changed since.
fn keep(view: &ClusterView, version: u64, before: Option<&Kept>) -> Kept {
    let addresses = view
        .hosts(None, usize::MAX)
        .iter()
        .map(|host| (host.view.name.clone(), host.view.host.address))
        .collect();
    // A service is shown with its hosts' addresses.
    let before = before.filter(|kept| kept.addresses == addresses);
    let mut parts = BTreeMap::new();
    for service in view.services(None, usize::MAX) {
        let name = service.spec.name.clone();
        let same = before
            .and_then(|kept| kept.parts.get(&name))
            .filter(|part| Arc::ptr_eq(&part.of, &service))
            .cloned();
        parts.insert(name, same.unwrap_or_else(|| Arc::new(part(view, service))));
    }
    let services: Vec<&RawValue> = parts.values().filter_map(|part| part.service.as_deref()).collect();
    let mut on_hosts: BTreeMap<&NodeName, Vec<&RawValue>> = BTreeMap::new();
    for (node, list) in parts.values().flat_map(|part| &part.containers) {
        on_hosts.entry(node).or_default().extend(list.iter().map(Box::as_ref));
    }
    let containers = on_hosts.into_iter().map(|(node, list)| (node.clone(), raw(&list))).collect();
    let services = raw(&services);
    Kept { version, addresses, parts, services, containers, body: Mutex::default() }
}

fn part(view: &ClusterView, of: Arc<ServiceView>) -> Part {
    let service = (of.state != ServiceState::Deleting).then(|| raw(&ShefService::of(&of, view)));
    let mut containers: BTreeMap<NodeName, Vec<Box<RawValue>>> = BTreeMap::new();
    for replica in &of.replica_states {
        let Some(id) = &replica.container_id else { continue };
        let state = match replica.state {
            ReplicaState::Running | ReplicaState::Stopping => "running",
            ReplicaState::Pending
            | ReplicaState::Assigned
            | ReplicaState::Pulling
            | ReplicaState::Prepared
            | ReplicaState::Starting => "created",
            ReplicaState::Complete | ReplicaState::Stopped | ReplicaState::Failed => "exited",
        };
        let (image, service_name) = (of.spec.template.image.as_str(), of.spec.name.as_str());
        let shown = RunnerContainer { image, name: replica.id.as_str(), state, service_name, id };
        containers.entry(replica.node.clone()).or_default().push(raw(&shown));
    }
    Part { of, service, containers }
}

/// `item` as JSON, to be used again.
fn raw(item: &impl Serialize) -> Box<RawValue> {
    // Plain data serialises.
    to_raw_value(item).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{host, service};

    #[test]
    fn what_is_used_again_says_the_same_as_what_is_made_anew() {
        let (view, kept, master) = (ClusterView::default(), StateBody::default(), Ipv4Addr::new(10, 0, 0, 1));
        let show = |(name, service): (ServiceName, Option<ServiceView>)| view.show_service(&name, service);
        let steps: [&dyn Fn(); 8] = [
            &|| view.show_host(host("h1", 1, 1_000)),
            &|| show(service("a", &["h1"])),
            &|| view.show_host(host("h2", 2, 1_000)),
            &|| show(service("b", &["h1", "h2"])),
            &|| show(service("a", &["h2", "h2"])),
            &|| view.host_reported(&NodeName::parse("h1").unwrap(), WallMs(2_000)),
            &|| view.show_host(host("h2", 3, 3_000)),
            &|| show((ServiceName::parse("a").unwrap(), None)),
        ];
        let mut bodies = Vec::new();
        for step in steps {
            step();
            let body = kept.build(&view, master, &[]);
            assert_eq!(body, StateBody::default().build(&view, master, &[]));
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{body:?}");
            assert_ne!(bodies.last(), Some(&body), "each step shows");
            bodies.push(body);
        }
    }

    #[test]
    fn a_host_is_shown_by_what_its_bootstrap_says_if_it_has_one() {
        let (view, kept, master) = (ClusterView::default(), StateBody::default(), Ipv4Addr::new(10, 0, 0, 1));
        view.show_host(host("h1", 1, 1_000));
        view.show_host(host("h2", 2, 2_000));
        let says = |last: u8, alive: bool| Bootstrap {
            address: Ipv4Addr::new(10, 0, 0, last),
            master: last == 9,
            alive,
            last: WallMs(5_000),
        };
        let nodes = |bootstraps: &[Bootstrap]| {
            let body: serde_json::Value =
                serde_json::from_slice(&kept.build(&view, master, bootstraps)).unwrap();
            let line = |node: &serde_json::Value| {
                let seconds = node["lastAlive"].as_str().unwrap().get(17..19).unwrap().to_owned();
                format!("{} {} {} {seconds}", node["node"].as_str().unwrap(), node["master"], node["alive"])
            };
            body["nodes"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(nodes(&[]), ["10.0.0.1 true true 01", "10.0.0.2 false true 02"]);
        let silent = [says(2, false), says(9, true)];
        assert_eq!(
            nodes(&silent),
            ["10.0.0.1 true true 01", "10.0.0.2 false false 05", "10.0.0.9 true true 05"]
        );
        assert_eq!(nodes(&[says(2, true)]), ["10.0.0.1 true true 01", "10.0.0.2 false true 05"]);
    }
}
