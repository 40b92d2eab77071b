//! A container engine that behaves as Docker does where an agent can tell, and
//! fails as the profile says.

mod containers;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shef_agent::{
    engine::{
        Container, ContainerState, Created, EngineError, EngineFacts, Listing, RestartPolicy, WantedImage,
        fake::{Networks, foreign_labels, listed, looked_up, made},
    },
    supervisor::{Event, Operation, Outcome},
};
use shef_common::{
    ids::{EngineId, ReplicaId},
    image::{ImageDigest, ImageRef},
    labels,
};

use super::{
    agent::Stream,
    placement::MEMORY,
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// Images with this in their name cannot be had until the faults stop.
pub const BAD_IMAGE: &str = "missing";
/// Images of this name are there, but their processes end soon after every start, until the faults stop.
pub const CRASHING_IMAGE: &str = "crashing";

/// Images of this name are there, but their processes end a while after every start, until the faults stop.
pub const FADING_IMAGE: &str = "fading";
/// Images of this name are there, but their checks fail from a while after the start on, until the faults
/// stop.
pub const SICKENING_IMAGE: &str = "sickening";

/// A host's engine and containers.
#[derive(Debug, Default)]
pub struct Engine {
    /// The containers by name.
    pub containers: BTreeMap<String, Container>,
    /// The networks that were made for replicas.
    pub networks: Networks,
    images: BTreeSet<String>,
    /// Those that its agent has noted as brought by shef.
    noted: BTreeSet<String>,
    next_id: u64,
    /// Whether it does not answer.
    pub away: bool,
    /// Who listens to its events: which run of the agent, which stream.
    pub watch: Option<(u64, u64)>,
    /// When the last event was delivered: events keep their order.
    last_event: u64,
}

/// What is asked of it.
#[derive(Debug)]
pub enum EngineWork {
    List,
    Identify,
    Pull { wanted: WantedImage, pull: u64 },
    Logs { replica: ReplicaId },
    RemoveNetworks { needed: BTreeSet<String> },
    Run { replica: ReplicaId, operation: Operation },
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    Answered,
    /// It is done, and the answer is lost.
    DoneUnanswered,
    /// It is not done, and nobody knows.
    NotDone,
    /// The engine refuses.
    Refused,
}

/// A call on its way.
#[derive(Debug)]
pub struct EngineCall {
    /// What is asked.
    pub work: EngineWork,
    /// How it ends.
    pub fate: Fate,
    /// How long until it is carried out.
    pub delay: u64,
}

impl Engine {
    /// An engine with a container of somebody else and one of another cluster.
    #[must_use]
    pub fn with_foreign_containers() -> Self {
        let mut engine = Self::default();
        let another: HashMap<String, String> = [
            (labels::MANAGED, "true"),
            (labels::SERVICE_NAME, "s0"),
            (labels::CLUSTER, "ffffffffffffffff"),
            (labels::SERVICE, "s0"),
            (labels::SLOT, "0"),
            (labels::GENERATION, "1"),
            (labels::SPEC, r#"{"image":"app:1"}"#),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        for (name, labels) in [("database", foreign_labels()), ("s0-999999", another)] {
            engine.next_id += 1;
            let id = format!("{:064x}", engine.next_id);
            let name = name.to_owned();
            let (state, policy) = (ContainerState::Running, RestartPolicy::Unknown);
            let container = Container::new(id, name.clone(), labels, state, policy);
            engine.containers.insert(name, container);
        }
        engine
    }

    fn by_id(&self, id: &str) -> Result<Container, EngineError> {
        let found = self.containers.values().find(|container| container.id == id).cloned();
        found.ok_or_else(|| EngineError::NoSuchContainer(format!("No such container: {id}")))
    }

    fn set(&mut self, name: &str, state: ContainerState) {
        if let Some(container) = self.containers.get_mut(name) {
            container.state = state;
        }
    }

    /// Containers of ours, of `cluster`.
    pub fn ours<'a>(
        &'a self,
        cluster: &'a shef_common::ids::ClusterId,
    ) -> impl Iterator<Item = (&'a Container, shef_common::protocol::Assignment)> {
        self.containers.values().filter_map(|container| Some((container, container.assignment(cluster)?)))
    }

    /// A container with the labels of `cluster` that nobody can tell a replica of.
    pub fn nobodys(&self, cluster: &shef_common::ids::ClusterId) -> Option<&Container> {
        let of_cluster = |container: &&Container| labels::are_ours(cluster, &container.labels);
        self.containers.values().filter(of_cluster).find(|container| container.assignment(cluster).is_none())
    }

    /// Whether the replica's container is up, whatever its name.
    pub fn runs(&self, replica: &ReplicaId) -> bool {
        let is_its = |container: &&Container| {
            labels::replica(&container.name, &container.labels).as_ref() == Some(replica)
        };
        self.containers.values().filter(is_its).any(is_up)
    }
}

/// Whether a container counts as up: running, or about to be started again by the engine.
#[must_use]
pub fn is_up(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running | ContainerState::Restarting)
}

impl World {
    /// Draws how long a call takes and how it ends.
    pub fn engine_plan(&mut self, host: usize, work: EngineWork) -> EngineCall {
        let delay = match &work {
            EngineWork::List
            | EngineWork::Identify
            | EngineWork::Logs { .. }
            | EngineWork::RemoveNetworks { .. } => self.rng.u64(1..20),
            EngineWork::Pull { .. } => self.rng.u64(100..4_000),
            EngineWork::Run { operation, .. } => match operation {
                Operation::Create(_) => self.rng.u64(5..200),
                Operation::Start { .. } => self.rng.u64(5..300),
                Operation::Stop { grace_s, .. } if self.chance(100) => u64::from(*grace_s) * 1_000,
                Operation::Stop { .. } => self.rng.u64(5..500),
                Operation::Remove(_) => self.rng.u64(5..100),
                Operation::Inspect { .. } => self.rng.u64(1..10),
                Operation::SetPolicy { .. } => self.rng.u64(1..50),
            },
        };
        let mut fate = Fate::Answered;
        for (per_mille, way) in [
            (self.profile.engine_done_unanswered, Fate::DoneUnanswered),
            (self.profile.engine_not_done, Fate::NotDone),
            (self.profile.engine_refuses, Fate::Refused),
        ] {
            if self.fault(per_mille) {
                fate = way;
            }
        }
        if self.hosts[host].engine.away {
            fate = Fate::NotDone;
        }
        EngineCall { work, fate, delay }
    }

    /// A call reaches the engine, whether or not the agent that made it still runs.
    pub fn engine_call(&mut self, host: usize, inc: u64, call: EngineCall) {
        let EngineCall { work, fate, .. } = call;
        let slow = !matches!(fate, Fate::Answered | Fate::Refused);
        let error = match fate {
            Fate::Answered => None,
            Fate::Refused => Some(EngineError::Refused("no space left on device".to_owned())),
            Fate::DoneUnanswered | Fate::NotDone if self.chance(500) => {
                Some(EngineError::TimedOut("no answer".to_owned()))
            }
            Fate::DoneUnanswered | Fate::NotDone => {
                Some(EngineError::Unreachable("connection reset".to_owned()))
            }
        };
        let done = matches!(fate, Fate::Answered | Fate::DoneUnanswered);
        let mut stream = None;
        let event = match work {
            EngineWork::List => {
                let containers = self.hosts[host].engine.containers.values();
                let managed = containers.filter(|container| container.labels.contains_key(labels::MANAGED));
                let managed = managed.map(listed).collect();
                let listing = Listing { containers: managed, complete: true };
                Event::Listed(error.map_or(Ok(listing), Err))
            }
            EngineWork::Identify => Event::Identified(error.map_or_else(|| Ok(facts(host)), Err)),
            EngineWork::Pull { wanted, pull } => {
                stream = Some(Stream { id: pull, ends: true });
                let was_there = self.hosts[host].engine.images.contains(&wanted.image.pinned());
                let outcome = if done { self.pull(host, &wanted.image) } else { Ok(None) };
                let outcome = error.map_or(outcome, Err);
                Event::Pulled { wanted, before: Ok(was_there.then_some(1_000)), outcome }
            }
            EngineWork::Logs { replica } => {
                let lines = vec!["last words".to_owned()];
                Event::Logs { replica, outcome: error.map_or(Ok(lines), Err) }
            }
            EngineWork::RemoveNetworks { needed } => {
                let leaves = self.is_seeded(SeededBug::LeavesNetworks);
                let engine = &mut self.hosts[host].engine;
                if done && !leaves {
                    engine.networks.remove_unneeded(&needed, engine.containers.values());
                }
                Event::NetworksRemoved(error.map_or(Ok(()), Err))
            }
            EngineWork::Run { replica, operation } => {
                let outcome = self.operate(host, &replica, operation, done, error);
                self.note(|| {
                    format!("h{}: the engine answers for {replica}: {}", host + 1, outcome_word(&outcome))
                });
                Event::Done { replica, outcome }
            }
        };
        let delay = if slow { self.rng.u64(5..5_000) } else { self.rng.u64(0..3) };
        self.at(delay, Ev::Supervisor { host, inc, stream, event });
    }

    /// The agent notes an image as brought by shef. None is ever removed here, so each comes once.
    pub fn note_pulled(&mut self, host: usize, image: &ImageRef) {
        let engine = &mut self.hosts[host].engine;
        let is_there = engine.images.contains(&image.pinned());
        if !is_there || !engine.noted.insert(image.pinned()) {
            self.violated(format!("h{} notes {image} as brought by shef, and it was not", host + 1));
        }
    }

    fn pull(&mut self, host: usize, image: &ImageRef) -> Result<Option<ImageDigest>, EngineError> {
        let name = image.pinned();
        if self.faults && name.contains(BAD_IMAGE) {
            return Err(EngineError::Refused(format!("manifest for {name} not found: manifest unknown")));
        }
        // Somebody pushes something else under the same name every other second.
        let second = self.now / 2_000;
        let version = name.bytes().fold(second, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.hosts[host].engine.images.insert(name);
        Ok(ImageDigest::parse(&format!("sha256:{version:064x}")).ok())
    }

    fn operate(
        &mut self,
        host: usize,
        replica: &ReplicaId,
        operation: Operation,
        done: bool,
        error: Option<EngineError>,
    ) -> Outcome {
        match operation {
            Operation::Create(order) => {
                if self.hosts[host].policy.is_some() && !order.template.cap_add.is_empty() {
                    self.violated(format!("h{} makes {replica}, and its policy refuses it", host + 1));
                }
                let seeded = self.is_seeded(SeededBug::KnowsByName);
                let engine = &mut self.hosts[host].engine;
                let made = if !done {
                    Ok(Created::default())
                } else if !engine.images.contains(&order.image.pinned()) {
                    Err(EngineError::NoSuchImage(format!("No such image: {}", order.image.pinned())))
                } else if engine.containers.contains_key(replica.as_str()) {
                    Err(EngineError::NameTaken(format!("the name {replica} is in use")))
                } else {
                    engine.next_id += 1;
                    let id = format!("{:064x}", engine.next_id);
                    let mut container = made(&order, id.clone());
                    if seeded {
                        container.labels.remove(labels::REPLICA);
                    }
                    engine.networks.make_for(&container);
                    engine.containers.insert(replica.to_string(), container);
                    Ok(Created::new(id))
                };
                Outcome::Create(error.map_or(made, Err))
            }
            Operation::Start { id, .. } => {
                Outcome::Start(self.ended(host, &id, done, error, Self::container_starts))
            }
            Operation::Stop { id, .. } => {
                Outcome::Stop(self.ended(host, &id, done, error, Self::container_stops))
            }
            Operation::Remove(id) => {
                let id = if self.is_seeded(SeededBug::RemovesTheFirst) {
                    self.first_managed(host).unwrap_or(id)
                } else {
                    id
                };
                Outcome::Remove(self.ended(host, &id, done, error, Self::container_goes))
            }
            Operation::SetPolicy { id, policy } => {
                let found = self.hosts[host].engine.by_id(&id);
                if let (true, Ok(container)) = (done, &found)
                    && let Some(container) = self.hosts[host].engine.containers.get_mut(&container.name)
                {
                    container.policy = policy;
                }
                Outcome::SetPolicy(error.map_or(found.map(|_| ()), Err))
            }
            Operation::Inspect { known } => {
                let known = known.filter(|_| !self.is_seeded(SeededBug::KnowsByName));
                let found = looked_up(&self.hosts[host].engine.containers, replica, known.as_deref());
                Outcome::Inspect(error.map_or(Ok(found), Err))
            }
        }
    }

    fn first_managed(&self, host: usize) -> Option<String> {
        let mut containers = self.hosts[host].engine.containers.values();
        containers
            .find(|container| container.labels.contains_key(labels::MANAGED))
            .map(|container| container.id.clone())
    }

    fn ended(
        &mut self,
        host: usize,
        id: &str,
        done: bool,
        error: Option<EngineError>,
        act: fn(&mut Self, usize, &Container),
    ) -> Result<(), EngineError> {
        let found = self.hosts[host].engine.by_id(id);
        if let (true, Ok(container)) = (done, &found) {
            act(self, host, container);
        }
        error.map_or(found.map(|_| ()), Err)
    }
}

/// What the engine of a host says of itself.
pub fn facts(host: usize) -> EngineFacts {
    EngineFacts {
        version: "20.10.24".to_owned(),
        api: "1.41".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        cpus: 2,
        memory_bytes: MEMORY,
        id: EngineId::parse(&format!("engine-{host}")).ok(),
    }
}

/// An operation in a word.
pub fn operation_word(operation: &Operation) -> String {
    match operation {
        Operation::Create(_) => "create".to_owned(),
        Operation::Start { .. } => "start".to_owned(),
        Operation::Stop { .. } => "stop".to_owned(),
        Operation::Remove(_) => "remove".to_owned(),
        Operation::SetPolicy { policy, .. } => format!("set policy {policy:?}"),
        Operation::Inspect { .. } => "inspect".to_owned(),
    }
}

/// An outcome in a line; labels stand in no order, so a container is shown by its state.
fn outcome_word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Inspect(Ok(found)) => {
            format!("found {:?}", found.iter().map(|container| container.state).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}
