//! An engine in memory, for fleets of thousands of agents, benches and tests.
//! It behaves as Docker does where the agent can tell; it decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::{
    clock::WallMs,
    ids::{ClusterId, ReplicaId},
    image::{ImageDigest, ImageRef},
    labels,
    registry::Credentials,
    spec::{Network, Template},
    status::PublishedPort,
};

mod console;
mod model;
mod processes;

pub use model::{Networks, listed, looked_up, made};
pub use processes::CrashLoop;
use processes::Processes;
use tokio::sync::broadcast;

use super::{
    Container, ContainerState, CreateOrder, Created, Engine, EngineError, EngineEvent, EngineFacts,
    EngineFuture, EventKind, Listing, NamedVolume, RestartPolicy, WantedImage,
};

/// Events that a slow listener may lag behind; one that lags further has to list anew.
const EVENT_BUFFER: usize = 256;

/// Ports that the engine chooses lie above this, as Docker's do.
const FIRST_CHOSEN_PORT: u16 = 32_767;

/// How a fake engine behaves.
#[derive(Debug, Clone, Default)]
pub struct FakeEngineOptions {
    /// What each operation takes.
    pub latency: FakeLatency,
    /// The images on the host; `None`: every image.
    pub images: Option<BTreeSet<String>>,
    /// The images that a pull brings; `None`: every image.
    pub registry: Option<BTreeSet<String>>,
    /// The host's containers, shared by all holders; `None`: a host of its own.
    pub host: Option<FakeHost>,
}

/// What each operation takes. The default takes no time.
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeLatency {
    /// Making a container.
    pub create: Duration,
    /// Starting one.
    pub start: Duration,
    /// Stopping one.
    pub stop: Duration,
    /// Removing one.
    pub remove: Duration,
    /// Listing and looking.
    pub look: Duration,
    /// Fetching an image.
    pub pull: Duration,
}

/// A host's containers, which outlive the agents that drive them.
#[derive(Debug, Clone)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    containers: BTreeMap<String, Container>,
    networks: Networks,
    images: Option<BTreeSet<String>>,
    root_dir: Option<PathBuf>,
    away: bool,
    /// Errors handed out by the next operations of that name.
    faults: BTreeMap<&'static str, Vec<EngineError>>,
    counts: BTreeMap<&'static str, u64>,
    in_flight: usize,
    peak: usize,
    next_id: u64,
    events: Option<broadcast::Sender<EngineEvent>>,
    processes: Processes,
    written: console::Shown,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self::new(None)
    }
}

impl FakeHost {
    /// A host with `images`; `None`: with every image.
    #[must_use]
    pub fn new(images: Option<BTreeSet<String>>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                containers: BTreeMap::new(),
                networks: Networks::default(),
                images,
                root_dir: None,
                away: false,
                faults: BTreeMap::new(),
                counts: BTreeMap::new(),
                in_flight: 0,
                peak: 0,
                next_id: 0,
                events: None,
                processes: Processes::default(),
                written: console::Shown::default(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The containers by name.
    #[must_use]
    pub fn containers(&self) -> BTreeMap<String, Container> {
        self.state().containers.clone()
    }

    /// The networks that were made for replicas.
    #[must_use]
    pub fn networks(&self) -> BTreeSet<String> {
        self.state().networks.names().clone()
    }

    /// Where the engine says that it keeps its images.
    pub fn set_root_dir(&self, root_dir: Option<PathBuf>) {
        self.state().root_dir = root_dir;
    }

    /// Creates a container from outside of shef.
    pub fn put(&self, container: Container) {
        self.state().containers.insert(container.name.clone(), container);
    }

    /// Removes a container from outside of shef.
    pub fn destroy(&self, name: &str) {
        let mut state = self.state();
        if let Some(container) = state.containers.remove(name) {
            state.emit(&container, EventKind::Destroyed);
        }
    }

    /// Renames a container from outside of shef.
    pub fn rename(&self, name: &str, new: &str) {
        let mut state = self.state();
        if let Some(container) = state.containers.remove(name) {
            state.containers.insert(new.to_owned(), Container { name: new.to_owned(), ..container });
        }
    }

    /// Has a container's process end; the engine starts it again if `restarts`.
    pub fn exit(&self, name: &str, exit_code: i64, restarts: bool) {
        let mut state = self.state();
        let Some(mut container) = state.containers.get(name).cloned() else { return };
        state.emit(&container, EventKind::Died { exit_code });
        container.state = if restarts { ContainerState::Running } else { ContainerState::Exited };
        state.containers.insert(name.to_owned(), container.clone());
        state.emit(&container, if restarts { EventKind::Started } else { EventKind::Stopped });
    }

    /// Containers of `image` end again and again from now on, whenever they are started.
    pub fn set_crash_loop(&self, image: &ImageRef, crash: CrashLoop) {
        self.state().processes.set_crash_loop(image.pinned(), crash);
    }

    /// Whether the engine is away: its operations fail and its event stream ends.
    pub fn set_away(&self, away: bool) {
        let mut state = self.state();
        state.away = away;
        if away {
            state.events = None;
        }
    }

    /// The next operation of that name (`create`, `start`, `stop`, `remove`, `inspect`, `list`, `pull`) fails
    /// so.
    pub fn fail_next(&self, operation: &'static str, error: EngineError) {
        self.state().faults.entry(operation).or_default().push(error);
    }

    /// How often each operation was asked for.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().counts.clone()
    }

    /// The most creates, starts, removes and looks that were ever under way together.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.state().peak
    }
}

impl State {
    fn emit(&self, container: &Container, kind: EventKind) {
        if let Some(events) = &self.events {
            // It is no error if no receiver is left.
            let replica = labels::replica(&container.name, &container.labels);
            let _ = events.send(EngineEvent { id: container.id.clone(), replica, kind, emitted: None });
        }
    }

    fn check(&mut self, operation: &'static str) -> Result<(), EngineError> {
        *self.counts.entry(operation).or_default() += 1;
        if self.away {
            return Err(EngineError::Unreachable("the fake engine is away".to_owned()));
        }
        match self.faults.get_mut(operation) {
            Some(faults) if !faults.is_empty() => Err(faults.remove(0)),
            Some(_) | None => Ok(()),
        }
    }

    fn by_id(&mut self, id: &str) -> Result<&mut Container, EngineError> {
        self.containers
            .values_mut()
            .find(|container| container.id == id)
            .ok_or_else(|| EngineError::NoSuchContainer(format!("No such container: {id}")))
    }
}

/// The engine of a [`FakeHost`].
#[derive(Debug)]
pub struct FakeEngine {
    host: FakeHost,
    latency: FakeLatency,
    registry: Option<BTreeSet<String>>,
}

impl FakeEngine {
    /// An engine that behaves as `options` say.
    #[must_use]
    pub fn new(options: FakeEngineOptions) -> Self {
        let host = options.host.unwrap_or_else(|| FakeHost::new(options.images));
        Self { host, latency: options.latency, registry: options.registry }
    }

    fn operation<'a, T: 'a>(
        &'a self,
        name: &'static str,
        latency: Duration,
        act: impl FnOnce(&mut State) -> Result<T, EngineError> + 'a,
    ) -> EngineFuture<'a, T> {
        async move {
            let counts = !matches!(name, "stop" | "pull" | "list" | "identify" | "root_dir" | "logs");
            if counts {
                let mut state = self.host.state();
                state.in_flight += 1;
                state.peak = state.peak.max(state.in_flight);
            }
            if latency.is_zero() {
                // An engine never answers before it was asked.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(latency).await;
            }
            let mut state = self.host.state();
            if counts {
                state.in_flight -= 1;
            }
            state.check(name)?;
            act(&mut state)
        }
        .boxed_local()
    }
}

impl Engine for FakeEngine {
    fn identify(&self) -> EngineFuture<'_, EngineFacts> {
        self.operation("identify", self.latency.look, |_| {
            Ok(EngineFacts {
                version: "fake".to_owned(),
                api: "1.41".to_owned(),
                os: "linux".to_owned(),
                arch: "x86_64".to_owned(),
                cpus: 2,
                memory_bytes: 4 << 30,
                id: None,
            })
        })
    }

    fn root_dir(&self) -> EngineFuture<'_, Option<PathBuf>> {
        self.operation("root_dir", self.latency.look, |state| Ok(state.root_dir.clone()))
    }

    fn list(&self) -> EngineFuture<'_, Listing> {
        self.operation("list", self.latency.look, |state| {
            Ok(Listing { containers: state.containers.values().map(listed).collect(), complete: true })
        })
    }

    fn volumes<'a>(&'a self, _: &'a Template) -> EngineFuture<'a, Vec<NamedVolume>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn create(&self, order: CreateOrder) -> EngineFuture<'_, Created> {
        self.operation("create", self.latency.create, move |state| {
            let image = order.image.pinned();
            if state.images.as_ref().is_some_and(|images| !images.contains(&image)) {
                return Err(EngineError::NoSuchImage(format!("No such image: {image}")));
            }
            let name = order.replica.to_string();
            if let Some(other) = state.containers.get(&name) {
                let id = other.id.clone();
                return Err(EngineError::NameTaken(format!(
                    "Conflict. The container name \"/{name}\" is in use by {id:?}"
                )));
            }
            state.next_id += 1;
            let id = format!("{:064x}", state.next_id);
            // Chosen ports are marked as such, and are never the same twice.
            let chosen = FIRST_CHOSEN_PORT.saturating_add(u16::try_from(state.next_id).unwrap_or(u16::MAX));
            let ports = order.template.ports.iter().map(|port| PublishedPort {
                target: port.target,
                protocol: port.protocol,
                host_ip: port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                published: port.published.unwrap_or(chosen),
            });
            let container = Container { ports: ports.collect(), ..made(&order, id.clone()) };
            state.networks.make_for(&container);
            state.processes.made(&id, &image);
            state.containers.insert(name, container);
            Ok(Created::new(id))
        })
    }

    fn start<'a>(&'a self, id: &'a str, _joins: &'a [Network]) -> EngineFuture<'a, ()> {
        self.operation("start", self.latency.start, move |state| {
            let container = state.by_id(id)?.clone();
            if let Some(network) = state.networks.lacks(&container) {
                return Err(EngineError::Refused(format!("network {network} not found")));
            }
            self.host.process_starts(state, id);
            Ok(())
        })
    }

    fn stop<'a>(&'a self, id: &'a str, _grace_s: u32) -> EngineFuture<'a, ()> {
        self.operation("stop", self.latency.stop, move |state| {
            let container = state.by_id(id)?;
            container.state = ContainerState::Exited;
            let container = container.clone();
            state.emit(&container, EventKind::Signalled { signal: 15 });
            state.emit(&container, EventKind::Died { exit_code: 0 });
            state.emit(&container, EventKind::Stopped);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> EngineFuture<'a, ()> {
        self.operation("remove", self.latency.remove, move |state| {
            let name = state.by_id(id)?.name.clone();
            if let Some(container) = state.containers.remove(&name) {
                state.emit(&container, EventKind::Destroyed);
            }
            Ok(())
        })
    }

    fn set_policy<'a>(&'a self, id: &'a str, policy: RestartPolicy) -> EngineFuture<'a, ()> {
        self.operation("set_policy", self.latency.look, move |state| {
            state.by_id(id)?.policy = policy;
            Ok(())
        })
    }

    fn logs<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Vec<String>> {
        self.operation("logs", self.latency.look, move |state| {
            state.by_id(id)?;
            Ok(state.processes.log(id))
        })
    }

    fn inspect<'a>(
        &'a self,
        replica: &'a ReplicaId,
        known: Option<&'a str>,
    ) -> EngineFuture<'a, Vec<Container>> {
        self.operation("inspect", self.latency.look, move |state| {
            Ok(looked_up(&state.containers, replica, known))
        })
    }

    fn pull<'a>(
        &'a self,
        wanted: &'a WantedImage,
        _: Option<&'a Credentials>,
    ) -> EngineFuture<'a, Option<ImageDigest>> {
        self.operation("pull", self.latency.pull, move |state| {
            let name = wanted.image.pinned();
            if self.registry.as_ref().is_some_and(|registry| !registry.contains(&name)) {
                return Err(EngineError::Refused(format!("manifest for {name} not found: manifest unknown")));
            }
            if let Some(images) = &mut state.images {
                images.insert(name);
            }
            Ok(None)
        })
    }

    fn remove_networks<'a>(
        &'a self,
        _: &'a ClusterId,
        needed: &'a BTreeSet<String>,
    ) -> EngineFuture<'a, Vec<String>> {
        self.operation("remove_networks", self.latency.remove, move |state| {
            Ok(state.networks.remove_unneeded(needed, state.containers.values()))
        })
    }

    fn image_bytes<'a>(&'a self, image: &'a ImageRef) -> EngineFuture<'a, Option<u64>> {
        self.operation("image_bytes", self.latency.look, move |state| {
            let is_there = state.images.as_ref().is_none_or(|images| images.contains(&image.pinned()));
            Ok(is_there.then_some(1_000))
        })
    }

    fn remove_image<'a>(&'a self, image: &'a ImageRef) -> EngineFuture<'a, bool> {
        self.operation("remove_image", self.latency.remove, move |state| {
            let is_used = state
                .containers
                .values()
                .any(|container| container.image.as_deref() == Some(&*image.never_an_id()));
            if let Some(images) = state.images.as_mut().filter(|_| !is_used) {
                images.remove(&image.pinned());
            }
            Ok(!is_used)
        })
    }

    fn events(&self, _since: WallMs) -> LocalBoxStream<'static, Result<EngineEvent, EngineError>> {
        let listener = {
            let mut state = self.host.state();
            if state.away {
                let away = EngineError::Unreachable("the fake engine is away".to_owned());
                return stream::iter([Err(away)]).boxed_local();
            }
            state.events.get_or_insert_with(|| broadcast::channel(EVENT_BUFFER).0).subscribe()
        };
        stream::unfold(Some(listener), |listener| async move {
            let mut listener = listener?;
            match listener.recv().await {
                Ok(event) => Some((Ok(event), Some(listener))),
                Err(error) => Some((Err(EngineError::Unreachable(error.to_string())), None)),
            }
        })
        .boxed_local()
    }
}

/// Labels for a container that is none of ours.
#[must_use]
pub fn foreign_labels() -> HashMap<String, String> {
    HashMap::from([("com.example.owner".to_owned(), "somebody else".to_owned())])
}
