//! What readers see: the latest view of every service and host, in memory.
//!
//! Actors write here at every change; HTTP handlers read here on their own
//! threads and never wait for an actor.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use shef_common::{
    clock::{DurationMs, Now, WallMs},
    ids::{ClusterId, Fence, NodeName, ServiceName},
};
use tokio::sync::watch;

use crate::{
    access::{TokenTable, TokenView},
    cluster::PhaseView,
    contents::ContentTable,
    events::{Change, Events, host_changes, service_changes},
    identity::IdentityTable,
    membership::{BrakeState, Standing},
    registries::RegistryView,
    runner::NodeView,
    service::{ServiceState, ServiceView},
};

mod bootstraps;
#[cfg(test)]
pub(crate) mod samples;
mod shef_state;

pub use bootstraps::{Bootstrap, Bootstraps};
pub use shef_state::{ShefService, StateBody};

/// A host's view, and when it reported last.
#[derive(Debug, Clone)]
pub struct Host {
    /// The view.
    pub view: Arc<NodeView>,
    last_report: Arc<AtomicU64>,
}

impl Host {
    /// When the host reported last, by the master's clock.
    #[must_use]
    pub fn last_report(&self) -> WallMs {
        WallMs(self.last_report.load(Relaxed))
    }
}

/// The cluster as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// The cluster, and the fence under which we lead it.
    pub leads: Option<(ClusterId, Fence)>,
    /// How often hosts report.
    pub report_interval: DurationMs,
    /// The brake, while it is on.
    pub brake: Option<BrakeState>,
    /// How far the master is.
    pub phase: PhaseView,
}

type Shown = watch::Sender<Option<Arc<ServiceView>>>;

/// The read side of the cluster.
#[derive(Debug, Default)]
pub struct ClusterView {
    services: RwLock<BTreeMap<ServiceName, Shown>>,
    hosts: RwLock<BTreeMap<NodeName, Host>>,
    cluster: RwLock<ClusterState>,
    registries: RwLock<Arc<[RegistryView]>>,
    contents: RwLock<Arc<ContentTable>>,
    tokens: RwLock<(Arc<[TokenView]>, Arc<TokenTable>)>,
    identities: RwLock<Arc<IdentityTable>>,
    version: AtomicU64,
    /// The differences from one view to the next.
    events: Events,
    /// When this leadership began: older records existed before.
    leading_since: AtomicU64,
}

impl ClusterView {
    /// Shows `view`, or that the service is gone. Each service has one writer, its actor.
    pub fn show_service(&self, name: &ServiceName, view: Option<ServiceView>) {
        let mut services = write(&self.services);
        match view {
            Some(view) => {
                let view = Arc::new(view);
                match services.get(name) {
                    Some(shown) if shown.borrow().as_ref() == Some(&view) => return,
                    Some(shown) => {
                        let before = shown.send_replace(Some(view.clone()));
                        self.emit(service_changes(before.as_deref(), Some(&view)));
                    }
                    None => {
                        if view.created.0 >= self.leading_since.load(Relaxed) {
                            self.emit(service_changes(None, Some(&view)));
                        }
                        services.insert(name.clone(), watch::Sender::new(Some(view)));
                    }
                }
            }
            None => {
                if let Some(shown) = services.remove(name) {
                    let before = shown.send_replace(None);
                    self.emit(service_changes(before.as_deref(), None));
                }
            }
        }
        self.version.fetch_add(1, Relaxed);
    }

    /// Shows a host.
    pub fn show_host(&self, view: NodeView) {
        let mut hosts = write(&self.hosts);
        let last_report = hosts.get(&view.name).map_or_else(Arc::default, |host| host.last_report.clone());
        if let Some(at) = view.last_report {
            last_report.store(at.0, Relaxed);
        }
        let before = hosts.get(&view.name).map(|host| host.view.clone());
        if before.is_some() || view.joined.0 >= self.leading_since.load(Relaxed) {
            self.emit(host_changes(before.as_deref(), Some(&view)));
        }
        hosts.insert(view.name.clone(), Host { view: Arc::new(view), last_report });
        self.version.fetch_add(1, Relaxed);
    }

    /// A host was removed from the cluster.
    pub fn hide_host(&self, node: &NodeName) {
        if let Some(host) = write(&self.hosts).remove(node) {
            self.emit(host_changes(Some(&host.view), None));
        }
        self.version.fetch_add(1, Relaxed);
    }

    /// The addresses that belong to hosts.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        read(&self.hosts).values().map(|host| host.view.host.address).collect()
    }

    /// A host has reported, and nothing else is new.
    pub fn host_reported(&self, node: &NodeName, at: WallMs) {
        if let Some(host) = read(&self.hosts).get(node) {
            host.last_report.store(at.0, Relaxed);
        }
    }

    /// Shows which cluster we lead, and under which fence.
    pub fn show_leadership(&self, cluster: ClusterId, fence: Fence) {
        self.leading_since.store(Now::read().wall.0, Relaxed);
        self.events.begin(fence.epoch);
        write(&self.cluster).leads = Some((cluster, fence));
    }

    /// Shows how far the master is.
    pub fn show_phase(&self, phase: PhaseView) {
        write(&self.cluster).phase = phase;
    }

    /// Publishes events, if there are any.
    fn emit(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.events.publish(Now::read().wall, changes);
        }
    }

    /// What happened, for readers who follow it.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// Shows the tokens, and uses them from now on.
    pub fn show_tokens(&self, views: Arc<[TokenView]>, table: Arc<TokenTable>) {
        *write(&self.tokens) = (views, table);
    }

    /// The tokens, in the order of their names.
    #[must_use]
    pub fn tokens(&self) -> Arc<[TokenView]> {
        read(&self.tokens).0.clone()
    }

    /// The tokens that count.
    #[must_use]
    pub fn token_table(&self) -> Arc<TokenTable> {
        read(&self.tokens).1.clone()
    }

    /// Shows which hosts are members by their identities.
    pub fn show_identities(&self, table: Arc<IdentityTable>) {
        *write(&self.identities) = table;
    }

    /// The hosts that are members by their identities.
    #[must_use]
    pub fn identities(&self) -> Arc<IdentityTable> {
        read(&self.identities).clone()
    }

    /// Shows for which registries credentials are kept.
    pub fn show_registries(&self, registries: Arc<[RegistryView]>) {
        *write(&self.registries) = registries;
    }

    /// For which registries credentials are kept, in the order of their names.
    #[must_use]
    pub fn registries(&self) -> Arc<[RegistryView]> {
        read(&self.registries).clone()
    }

    /// Shows which contents of secrets and configs are kept.
    pub fn show_contents(&self, table: Arc<ContentTable>) {
        *write(&self.contents) = table;
    }

    /// The contents of secrets and configs that are kept.
    #[must_use]
    pub fn contents(&self) -> Arc<ContentTable> {
        read(&self.contents).clone()
    }

    /// Shows how often hosts report.
    pub fn show_interval(&self, interval: DurationMs) {
        write(&self.cluster).report_interval = interval;
    }

    /// Shows the brake; `None`: it is off.
    pub fn show_brake(&self, brake: Option<BrakeState>) {
        write(&self.cluster).brake = brake;
    }

    /// The cluster as a whole.
    #[must_use]
    pub fn cluster(&self) -> ClusterState {
        read(&self.cluster).clone()
    }

    /// How many hosts there are in each standing.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<Standing, u64> {
        let mut counts = BTreeMap::new();
        for host in read(&self.hosts).values() {
            *counts.entry(host.view.state).or_default() += 1;
        }
        counts
    }

    /// One service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>> {
        read(&self.services).get(name).and_then(|shown| shown.borrow().clone())
    }

    /// Services after `after` in the order of their names, at most `limit`.
    #[must_use]
    pub fn services(&self, after: Option<&ServiceName>, limit: usize) -> Vec<Arc<ServiceView>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let services = read(&self.services);
        services
            .range::<ServiceName, _>((from, Unbounded))
            .filter_map(|(_, shown)| shown.borrow().clone())
            .take(limit)
            .collect()
    }

    /// One host.
    #[must_use]
    pub fn host(&self, name: &NodeName) -> Option<Host> {
        read(&self.hosts).get(name).cloned()
    }

    /// Hosts after `after` in the order of their names, at most `limit`.
    #[must_use]
    pub fn hosts(&self, after: Option<&NodeName>, limit: usize) -> Vec<Host> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        read(&self.hosts)
            .range::<NodeName, _>((from, Unbounded))
            .map(|(_, host)| host.clone())
            .take(limit)
            .collect()
    }

    /// Counts the changes; the same number means that nothing but heartbeats came in.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// How many services there are, how many run as wanted, and the same of hosts.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shown in read(&self.services).values() {
            let Some(view) = shown.borrow().clone() else { continue };
            totals.services += 1;
            totals.services_running += u64::from(view.state == ServiceState::Running);
            totals.replicas_wanted += u64::from(view.wanted);
            totals.replicas_running += u64::from(view.running);
        }
        for host in read(&self.hosts).values() {
            totals.nodes += 1;
            totals.nodes_ready += u64::from(host.view.state == Standing::Ready);
        }
        totals
    }

    /// Every view of the service from now on, and `None` when it is gone; `None`: there is none.
    #[must_use]
    pub fn watch(&self, name: &ServiceName) -> Option<watch::Receiver<Option<Arc<ServiceView>>>> {
        read(&self.services).get(name).map(watch::Sender::subscribe)
    }

    /// Waits until `done` has an outcome for the service; `None`: the service is
    /// gone. The caller bounds the time.
    pub async fn wait_for<T>(
        &self,
        name: &ServiceName,
        mut done: impl FnMut(&ServiceView) -> Option<T>,
    ) -> Option<T> {
        let mut shown = read(&self.services).get(name).map(watch::Sender::subscribe)?;
        loop {
            let seen = shown.borrow_and_update().clone()?;
            if let Some(outcome) = done(&seen) {
                return Some(outcome);
            }
            shown.changed().await.ok()?;
        }
    }
}

/// Sums over the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Totals {
    /// Services, tombstones included.
    pub services: u64,
    /// Services that have converged.
    pub services_running: u64,
    /// Replicas that are wanted.
    pub replicas_wanted: u64,
    /// Replicas that are healthy.
    pub replicas_running: u64,
    /// Hosts.
    pub nodes: u64,
    /// Hosts that report.
    pub nodes_ready: u64,
}

/// A writer that panicked ends the process; until then its last view is as good as any.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
