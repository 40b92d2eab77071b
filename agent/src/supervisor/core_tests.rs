//! The supervisor's rules, by properties and one by one.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::{
    ids::{ClusterId, Epoch, Fence, LeaderId, Revision},
    image::ImageRef,
    labels,
    protocol::{Accepted, Push, Refusal},
    status::{Health, ReplicaState},
};

<<<<<<< HEAD
use super::{core::*, ledger::Ledger};
use crate::engine::{Container, ContainerState, EngineError, EngineEvent, EventKind, Listing, fake::foreign_labels};

const BOUND: usize = 3;

fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000cc").unwrap()
}

fn fence(epoch: u64) -> Fence {
    Fence { epoch: Epoch(epoch), leader: LeaderId::parse(&format!("{epoch:016x}")).unwrap() }
}

fn assignment(number: u32) -> Assignment {
    let service = ServiceName::parse("web").unwrap();
    Assignment {
        replica: ReplicaId::new(&service, number),
        service,
        slot: Slot(number),
        generation: Generation(1),
        template: Template::of(ImageRef::parse(["present", "absent"][number as usize % 2]).unwrap()).into(),
    }
}

/// An operation that was asked for and not answered.
#[derive(Debug, Clone)]
enum Pending {
    Ledger(Box<Ledger>),
    List(Vec<Container>),
    Run(ReplicaId, Operation),
    Pull(ImageRef),
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    /// It happened, and the answer was lost.
    Unheard,
    /// It did not happen, and no answer came.
    Lost,
}

struct World {
    core: Core,
    now: Now,
    disk: Ledger,
    containers: BTreeMap<String, Container>,
    images: BTreeSet<String>,
    pending: Vec<Pending>,
    events: Vec<EngineEvent>,
    statuses: BTreeMap<ReplicaId, ReplicaStatus>,
    answers: BTreeMap<u64, Result<Accepted, PushRefused>>,
    /// What the master has ordered and the agent has accepted.
    wish: BTreeSet<u32>,
    fence: Fence,
    revision: u64,
    tickets: u64,
    next_id: u64,
}

impl World {
    fn new() -> Self {
        let mut disk = Ledger::new(NodeUid::parse("0000000000000001").unwrap());
        disk.cluster = Some(cluster());
        let mut world = Self {
            core: Core::new(disk.clone(), Self::limits(), Now::default()),
            now: Now { mono: MonoMs(1_000), wall: WallMs(1_000) },
            disk,
            containers: BTreeMap::new(),
            images: ["present:latest".to_owned()].into(),
            pending: Vec::new(),
            events: Vec::new(),
            statuses: BTreeMap::new(),
            answers: BTreeMap::new(),
            wish: BTreeSet::new(),
            fence: fence(1),
            revision: 0,
            tickets: 0,
            next_id: 0,
        };
        world.containers.insert("foreign".into(), Self::foreign("foreign"));
        world.feed(Event::Begin);
        world
    }

    fn limits() -> Limits {
        Limits { engine_concurrency: BOUND, pull_concurrency: 1, relist_interval: DurationMs(60_000) }
    }

    fn foreign(name: &str) -> Container {
        Container {
            id: format!("foreign-{name}"),
            name: name.into(),
            labels: foreign_labels(),
            state: ContainerState::Running,
            unhealthy: false,
        }
    }

    fn feed(&mut self, event: Event) {
        let effects = self.core.handle(event, self.now);
        for effect in effects {
            self.take(effect);
        }
        self.check();
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::WriteLedger(ledger) => {
                assert!(!self.pending.iter().any(|p| matches!(p, Pending::Ledger(_))), "two writes of the ledger at once");
                self.pending.push(Pending::Ledger(ledger));
            }
            Effect::Answer { ticket, verdict } => {
                if let Ok(accepted) = &verdict {
                    assert_eq!(self.disk.accepted.as_ref(), Some(accepted), "acknowledged before it was durable");
                }
                assert!(self.answers.insert(ticket, verdict).is_none(), "answered twice");
            }
            Effect::List => {
                assert!(!self.pending.iter().any(|p| matches!(p, Pending::List(_))), "two lists at once");
                // The engine looks when it is asked; the answer may come much later.
                self.pending.push(Pending::List(self.containers.values().cloned().collect()));
            }
            Effect::Run { replica, operation } => {
                self.check_operation(&replica, &operation);
                self.pending.push(Pending::Run(replica, operation));
            }
            Effect::Pull(image) => {
                assert!(
                    !self.pending.iter().any(|p| matches!(p, Pending::Pull(other) if *other == image)),
                    "an image is pulled once however many wait"
                );
                self.pending.push(Pending::Pull(image));
            }
            Effect::CancelPull(image) => self.pending.retain(|p| !matches!(p, Pending::Pull(other) if *other == image)),
            Effect::Publish(status) => {
                if let Some(before) = self.statuses.get(&status.replica) {
                    assert!(status.supersedes(before), "{before:?} -> {status:?}");
                }
                self.statuses.insert(status.replica.clone(), status);
            }
            Effect::Watch | Effect::Identify | Effect::Reregister => {}
        }
    }

    fn check_operation(&self, replica: &ReplicaId, operation: &Operation) {
        let (id, ending) = match operation {
            Operation::Create(_) => {
                assert!(self.disk.assignments.contains_key(replica), "created without a durable order");
                return;
            }
            Operation::Inspect => return,
            Operation::Start(id) => (id, false),
            Operation::Stop { id, .. } | Operation::Remove(id) => (id, true),
        };
        assert!(!id.starts_with("foreign"), "touches what is not ours");
        if ending {
            assert!(self.disk.removals.contains_key(replica), "ends {replica} without a durable order");
        }
    }

    fn check(&self) {
        let runs = |wanted: fn(&Operation) -> bool| {
            self.pending.iter().filter(|p| matches!(p, Pending::Run(_, operation) if wanted(operation))).count()
        };
        assert!(runs(|o| !matches!(o, Operation::Stop { .. })) <= BOUND, "the bound holds");
        let mut busy = BTreeSet::new();
        for pending in &self.pending {
            if let Pending::Run(replica, _) = pending {
                assert!(busy.insert(replica.clone()), "two operations at once for {replica}");
            }
        }
        assert!(self.pending.iter().filter(|p| matches!(p, Pending::Pull(_))).count() <= 1);
        for name in self.containers.keys().filter(|name| name.starts_with("foreign")) {
            assert_eq!(self.containers[name], Self::foreign(name));
        }
    }

    /// Carries out a pending operation on the model, as far as `end` says.
    fn finish(&mut self, index: usize, end: End) {
        let pending = self.pending.remove(index);
        let lost = || EngineError::TimedOut("no answer".into());
        match pending {
            Pending::Ledger(ledger) => {
                if end == End::Well {
                    self.disk = *ledger;
                    self.feed(Event::LedgerWritten(Ok(())));
                } else {
                    self.feed(Event::LedgerWritten(Err("disk full".into())));
                }
            }
            Pending::List(containers) => self.feed(Event::Listed(match end {
                End::Well => Ok(Listing { containers, complete: true }),
                End::Unheard | End::Lost => Err(lost()),
            })),
            Pending::Pull(image) => {
                let outcome = if end == End::Well {
                    self.images.insert(image.pinned());
                    Ok(())
                } else {
                    Err(EngineError::Unreachable("gone".into()))
                };
                self.feed(Event::Pulled { image, outcome });
            }
            Pending::Run(replica, operation) => {
                let outcome = if end == End::Lost { None } else { Some(self.act(&replica, &operation)) };
                let outcome = match (outcome, &operation) {
                    (Some(outcome), _) if end == End::Well => outcome,
                    (_, Operation::Create(_)) => Outcome::Create(Err(lost())),
                    (_, Operation::Start(_)) => Outcome::Start(Err(lost())),
                    (_, Operation::Stop { .. }) => Outcome::Stop(Err(lost())),
                    (_, Operation::Remove(_)) => Outcome::Remove(Err(lost())),
                    (_, Operation::Inspect) => Outcome::Inspect(Err(lost())),
                };
                self.feed(Event::Done { replica, outcome });
            }
        }
    }

    fn event(&mut self, container: &Container, kind: EventKind) {
        self.events.push(EngineEvent { id: container.id.clone(), name: container.name.clone(), kind });
    }

    fn act(&mut self, replica: &ReplicaId, operation: &Operation) -> Outcome {
        let missing = || EngineError::NoSuchContainer("No such container".into());
        let by_id = |world: &Self, id: &str| world.containers.values().find(|c| c.id == id).cloned();
        match operation {
            Operation::Create(order) => Outcome::Create({
                let name = order.replica.to_string();
                if self.containers.contains_key(&name) {
                    Err(EngineError::NameTaken("Conflict".into()))
                } else if self.images.contains(&order.template.image.pinned()) {
                    self.next_id += 1;
                    let id = format!("id{}", self.next_id);
                    let labels = order.labels.clone();
                    let state = ContainerState::Created;
                    self.containers.insert(name.clone(), Container { id: id.clone(), name, labels, state, unhealthy: false });
                    Ok(id)
                } else {
                    Err(EngineError::NoSuchImage("No such image".into()))
                }
            }),
            Operation::Start(id) => Outcome::Start(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    self.set(&container, ContainerState::Running);
                    self.event(&container, EventKind::Started);
                    Ok(())
                }
            }),
            Operation::Stop { id, .. } => Outcome::Stop(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    self.set(&container, ContainerState::Exited);
                    self.event(&container, EventKind::Died { exit_code: 0 });
                    self.event(&container, EventKind::Stopped);
                    Ok(())
                }
            }),
            Operation::Remove(id) => Outcome::Remove(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    self.containers.remove(&container.name);
                    self.event(&container, EventKind::Destroyed);
                    Ok(())
                }
            }),
            Operation::Inspect => Outcome::Inspect(Ok(self.containers.get(replica.as_str()).cloned())),
        }
    }

    fn set(&mut self, container: &Container, state: ContainerState) {
        if let Some(found) = self.containers.get_mut(&container.name) {
            found.state = state;
        }
    }

    fn push(&mut self, base: Option<Revision>, set: &[u32], remove: &[u32]) -> u64 {
        self.tickets += 1;
        self.revision += 1;
        let push = Push {
            cluster: cluster(),
            fence: self.fence.clone(),
            base,
            revision: Revision(self.revision),
            set: set.iter().map(|&n| assignment(n)).collect(),
            remove: remove.iter().map(|&n| assignment(n).replica).collect(),
        };
        self.feed(Event::Pushed { ticket: self.tickets, push });
        self.tickets
    }

    /// Everything that is under way ends well, time passes, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..400 {
            while !self.pending.is_empty() {
                self.finish(0, End::Well);
                self.hear(true);
            }
            self.hear(true);
            let stopped: Vec<_> =
                self.statuses.values().filter(|s| s.state == ReplicaState::Stopped).map(|s| s.replica.clone()).collect();
            for replica in &stopped {
                self.statuses.remove(replica);
            }
            self.feed(Event::Acknowledged(stopped));
            if self.pending.is_empty() && self.events.is_empty() {
                let Some(wake) = self.core.next_wake() else { return };
                // Nothing but the relist is left to wait for.
                if wake > self.now.mono + DurationMs(400_000) {
                    return;
                }
                self.advance(wake.0.saturating_sub(self.now.mono.0).max(1));
                if self.quiet() {
                    return;
                }
            }
        }
        panic!("does not come to rest: {:?}", self.core);
    }

    /// Whether a list brings nothing to do.
    fn quiet(&self) -> bool {
        let relist = matches!(self.pending.as_slice(), [Pending::List(_)]);
        relist
            && self.core.working == 0
            && self.core.stopping == 0
            && self.core.pulls_running == 0
            && self.core.engine_up
            && self.core.next_wake().is_none_or(|wake| wake > self.now.mono + DurationMs(310_000))
    }

    fn advance(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono + DurationMs(ms), wall: WallMs(self.now.wall.0 + ms) };
        self.feed(Event::Tick);
    }

    fn hear(&mut self, heard: bool) {
        for event in std::mem::take(&mut self.events) {
            if heard {
                self.feed(Event::Happened(event));
            }
        }
    }

    /// kill -9, and a new agent on what the disk holds. What was under way happens or not.
    fn crash(&mut self, happens: bool) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Run(replica, operation) if happens => drop(self.act(&replica, &operation)),
                Pending::Ledger(ledger) if happens => self.disk = *ledger,
                Pending::Run(..) | Pending::Ledger(_) | Pending::List(_) | Pending::Pull(_) => {}
            }
        }
        self.events.clear();
        self.statuses.clear();
        self.answers.clear();
        self.core = Core::new(self.disk.clone(), Self::limits(), self.now);
        self.feed(Event::Begin);
    }

    fn ours(&self) -> BTreeMap<&str, ContainerState> {
        let ours = self.containers.values().filter(|c| c.assignment(&cluster()).is_some());
        ours.map(|c| (c.name.as_str(), c.state)).collect()
    }

    /// What runs is what is wished, and a look at it brings nothing to do.
    fn assert_as_wished(&mut self) {
        let wanted: BTreeMap<String, ContainerState> =
            self.wish.iter().map(|&n| (assignment(n).replica.to_string(), ContainerState::Running)).collect();
        let have: BTreeMap<String, ContainerState> = self.ours().into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        let failed: BTreeSet<_> =
            self.statuses.values().filter(|s| s.state == ReplicaState::Failed).map(|s| &s.replica).collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
        assert_eq!(have, wanted);
        assert_eq!(self.disk.assignments.len(), self.wish.len());
        while !self.pending.is_empty() {
            self.finish(0, End::Well);
        }
        self.feed(Event::Listed(Ok(Listing { containers: self.containers.values().cloned().collect(), complete: true })));
        assert!(!self.pending.iter().any(|p| matches!(p, Pending::Run(..))), "a second plan is empty: {:?}", self.pending);
    }
}
=======
use self::world::{End, Pending, World, assignment, cluster, fence};
use super::core::*;
use crate::engine::{Container, ContainerState, EngineError, EventKind, Listing};
>>>>>>> main

#[derive(Debug, Clone)]
enum Action {
    Delta { set: u32, remove: u32 },
    Snapshot { members: u8, new_leader: bool },
    Finish { index: usize, end: u8 },
    Hear(bool),
    Advance(u16),
    Destroy(usize),
    Stop(usize),
    Exit(usize),
    Crash(bool),
    WatchEnded,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..8_u32, 0..8_u32).prop_map(|(set, remove)| Action::Delta { set, remove }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(members, new_leader)| Action::Snapshot { members, new_leader }),
        12 => (any::<usize>(), 0..10_u8).prop_map(|(index, end)| Action::Finish { index, end }),
        4 => (0..5_u8).prop_map(|n| Action::Hear(n > 0)),
        3 => any::<u16>().prop_map(Action::Advance),
        1 => any::<usize>().prop_map(Action::Destroy),
        1 => any::<usize>().prop_map(Action::Stop),
        1 => any::<usize>().prop_map(Action::Exit),
        1 => any::<bool>().prop_map(Action::Crash),
        1 => Just(Action::WatchEnded),
    ];
    prop::collection::vec(action, 0..80)
}

fn perform(world: &mut World, action: &Action) {
    let nth_of_ours = |world: &World, index: usize| {
        let ours: Vec<String> = world.ours().keys().map(|&name| name.to_owned()).collect();
        (!ours.is_empty()).then(|| world.containers[&ours[index % ours.len()]].clone())
    };
    match *action {
        Action::Delta { set, remove } => {
            world.push(Some(Revision(world.revision)), &[set], &[remove]);
        }
        Action::Snapshot { members, new_leader } => {
            if new_leader {
                world.fence = fence(world.fence.epoch.0 + 1);
            }
            let members: Vec<u32> = (0..8).filter(|n| members & (1 << n) != 0).collect();
            world.push(None, &members, &[]);
        }
        Action::Finish { index, end } if !world.pending.is_empty() => {
            let end = match end {
                0 => End::Unheard,
                1 => End::Lost,
                _ => End::Well,
            };
            world.finish(index % world.pending.len(), end);
        }
        Action::Finish { .. } => {}
        Action::Hear(heard) => world.hear(heard),
        Action::Advance(ms) => world.advance(u64::from(ms)),
        Action::Destroy(index) => {
            if let Some(container) = nth_of_ours(world, index) {
                world.containers.remove(&container.name);
                world.event(&container, EventKind::Destroyed);
            }
        }
        Action::Stop(index) => {
            if let Some(container) = nth_of_ours(world, index).filter(|c| c.state == ContainerState::Running) {
                world.set(&container, ContainerState::Exited);
                world.event(&container, EventKind::Died { exit_code: 0 });
                world.event(&container, EventKind::Stopped);
            }
        }
        Action::Exit(index) => {
            if let Some(container) = nth_of_ours(world, index).filter(|c| c.state == ContainerState::Running) {
                world.event(&container, EventKind::Died { exit_code: 1 });
                world.event(&container, EventKind::Started);
            }
        }
        Action::Crash(happens) => world.crash(happens),
        Action::WatchEnded => world.feed(Event::WatchEnded(EngineError::Unreachable("gone".into()))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_last_order_is_reached_and_nothing_foreign_is_touched(actions in actions(), last in any::<u8>()) {
        let mut world = World::new();
        for action in &actions {
            perform(&mut world, action);
        }
        world.settle();
        // The last word, as a master would: a snapshot from a new leader.
        world.fence = fence(world.fence.epoch.0 + 1);
        world.wish = (0..8).filter(|n| last & (1 << n) != 0).collect();
        let members: Vec<u32> = world.wish.iter().copied().collect();
        let ticket = world.push(None, &members, &[]);
        world.settle();
        prop_assert!(matches!(world.answers.get(&ticket), Some(Ok(_))), "{:?}", world.answers.get(&ticket));
        world.assert_as_wished();
    }

    #[test]
    fn a_crash_at_any_moment_restarts_nothing_that_runs(steps in 0..40_usize, happens in any::<bool>(), removed in 0..6_u32) {
        let mut world = World::new();
        world.push(None, &[0, 1, 2, 3, 4, 5], &[]);
        world.settle();
        world.push(Some(Revision(1)), &[6, 7], &[removed]);
        for _ in 0..steps {
            if world.pending.is_empty() {
                break;
            }
            world.finish(0, End::Well);
            world.hear(true);
        }
        let running: BTreeMap<String, String> = (0..6).filter(|&n| n != removed).map(|n| {
            let container = &world.containers[assignment(n).replica.as_str()];
            (container.name.clone(), container.id.clone())
        }).collect();
        world.crash(happens);
        world.settle();
        for (name, id) in running {
            prop_assert_eq!(&world.containers[&name].id, &id);
        }
        // Whether the order was durable decides what is wished.
        world.wish = world.disk.assignments.values().map(|a| a.slot.0).collect();
        world.assert_as_wished();
    }
}

#[test]
fn stale_fences_wrong_bases_and_other_clusters_are_refused() {
    let mut world = World::new();
    world.settle();
    world.push(None, &[0], &[]);
    world.settle();
    let refusal = |world: &mut World, push: Push| {
        world.tickets += 1;
        let ticket = world.tickets;
        world.feed(Event::Pushed { ticket, push });
        let refused = world.answers[&ticket].clone().unwrap_err();
        assert_eq!(refused.accepted, world.disk.accepted);
        refused.why
    };
    let push = |epoch, base: Option<u64>, revision| Push {
        cluster: cluster(),
        fence: fence(epoch),
        base: base.map(Revision),
        revision: Revision(revision),
        set: vec![],
        remove: vec![],
    };
    let other = Push { cluster: ClusterId::parse("00000000000000dd").unwrap(), ..push(9, None, 9) };
    assert_eq!(refusal(&mut world, other), Refusal::OtherCluster);
    assert_eq!(refusal(&mut world, push(0, None, 9)), Refusal::StaleFence);
    let usurper = Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000ff").unwrap() };
    assert_eq!(refusal(&mut world, Push { fence: usurper, ..push(1, None, 9) }), Refusal::StaleFence);
    assert_eq!(refusal(&mut world, push(1, Some(0), 2)), Refusal::WrongBase);
    assert_eq!(refusal(&mut world, push(2, Some(1), 2)), Refusal::WrongBase);
    assert_eq!(refusal(&mut world, push(1, None, 0)), Refusal::WrongBase);
    assert_eq!(world.ours().len(), 1);
    // The same push again is accepted again.
    world.feed(Event::Pushed { ticket: 99, push: push(1, Some(0), 1) });
    assert_eq!(world.answers[&99], Ok(Accepted { fence: fence(1), revision: Revision(1) }));
    assert_eq!(world.ours().len(), 1);
}

#[test]
fn a_ledger_that_cannot_be_written_changes_nothing() {
    let mut world = World::new();
    world.settle();
    let ticket = world.push(None, &[0], &[]);
    world.finish(world.pending.iter().position(|p| matches!(p, Pending::Ledger(_))).unwrap(), End::Lost);
    assert_eq!(world.answers[&ticket].clone().unwrap_err().why, Refusal::NotReady);
    world.settle();
    assert!(world.ours().is_empty());
    assert!(world.statuses.is_empty());
}

#[test]
fn a_snapshot_before_the_engine_was_read_waits_and_is_refused_if_it_cannot_be() {
    let mut world = World::new();
    let first = world.push(None, &[0], &[]);
    assert!(!world.answers.contains_key(&first), "the look at the engine is under way");
    let list = world.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    world.finish(list, End::Lost);
    assert_eq!(world.answers[&first].clone().unwrap_err().why, Refusal::NotReady);
}

#[test]
fn containers_that_no_ledger_names_are_held_until_a_snapshot_decides() {
    let mut world = World::new();
    let lost = assignment(2);
    let labels = labels::of(&cluster(), Epoch(1), &lost);
    let name = lost.replica.to_string();
    let state = ContainerState::Running;
    world.containers.insert(name.clone(), Container { id: "id-lost".into(), name, labels, state, unhealthy: false });
    world.crash(false);
    world.settle();
    assert_eq!(world.core.holds().collect::<Vec<_>>(), [&lost]);
    assert_eq!(world.ours().len(), 1, "absence authorises nothing");
    // A delta cannot speak of it (there is no base yet); a snapshot that does not name it removes it.
    world.push(None, &[4], &[]);
    world.settle();
    world.wish = [4].into();
    world.assert_as_wished();
}

#[test]
fn a_name_that_somebody_else_took_fails_with_the_reason() {
    let mut world = World::new();
    let name = assignment(0).replica.to_string();
    world.containers.insert(name.clone(), Container { name: name.clone(), ..World::foreign("taken") });
    world.push(None, &[0, 2], &[]);
    world.settle();
    let status = &world.statuses[name.as_str()];
    assert_eq!(status.state, ReplicaState::Failed);
    assert_eq!(status.reason.as_deref(), Some("the container's name is taken by one that does not belong to this cluster"));
    assert_eq!(world.statuses["web-000002"].state, ReplicaState::Running);
    world.push(Some(Revision(1)), &[], &[0, 2]);
    world.settle();
    assert_eq!(world.containers[&name].id, "foreign-taken");
}

#[test]
fn one_pull_serves_all_and_a_failed_one_says_why() {
    let mut world = World::new();
    world.push(None, &[0, 1, 3, 5, 7], &[]);
    while let Some(index) = world.pending.iter().position(|p| !matches!(p, Pending::Pull(_))) {
        world.finish(index, End::Well);
        world.hear(true);
    }
    assert_eq!(world.pending.len(), 1, "one pull, and it holds up nothing else");
    assert_eq!(world.statuses["web-000000"].state, ReplicaState::Running);
    assert!([1, 3, 5, 7].iter().all(|&n| world.statuses[&assignment(n).replica].state == ReplicaState::Pulling));
    world.pending.clear();
    let outcome = Err(EngineError::Refused("manifest\n unknown\u{7}".into()));
    world.feed(Event::Pulled { image: ImageRef::parse("absent").unwrap(), outcome });
    assert!([1, 3, 5, 7].iter().all(|&n| {
        let status = &world.statuses[&assignment(n).replica];
        status.state == ReplicaState::Failed && status.reason.as_deref() == Some("manifest unknown")
    }));
    world.settle();
    assert_eq!(world.ours().len(), 1, "failed replicas are the master's to replace");
}

#[test]
fn a_crashing_process_is_unhealthy_until_it_stays_up() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    let container = world.containers["web-000000"].clone();
    for _ in 0..3 {
        world.event(&container, EventKind::Died { exit_code: 3 });
        world.event(&container, EventKind::Started);
        world.hear(true);
        world.advance(1_000);
    }
    let status = world.statuses["web-000000"].clone();
    assert_eq!((status.state, status.health, status.restarts), (ReplicaState::Running, Health::Unhealthy, 3));
    assert_eq!(status.reason.as_deref(), Some("exited with code 3; the engine restarts it"));
    world.advance(5_000);
    assert_eq!(world.statuses["web-000000"].health, Health::Healthy);
}

#[test]
fn what_keeps_vanishing_is_made_anew_ever_more_slowly() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let container = world.containers.remove("web-000000").unwrap();
        world.event(&container, EventKind::Destroyed);
        let before = world.now.mono;
        while !world.containers.get("web-000000").is_some_and(|c| c.state == ContainerState::Running) {
            world.hear(true);
            while !world.pending.is_empty() {
                world.finish(0, End::Well);
                world.hear(true);
            }
            if !world.containers.contains_key("web-000000") {
                world.advance(100);
            }
        }
        waits.push((world.now.mono - before).0 / 1_000);
    }
    assert_eq!(waits, [0, 10, 20]);
    assert_eq!(world.statuses["web-000000"].restarts, 3);
}

#[test]
fn old_news_does_not_undo_what_was_done_since() {
    let mut world = World::new();
    world.settle();
    world.feed(Event::WatchEnded(EngineError::Unreachable("gone".into())));
    world.advance(200);
    let list = world.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    let old = world.pending.remove(list);
    world.push(None, &[0], &[]);
    while !world.pending.is_empty() {
        world.finish(0, End::Well);
    }
    assert_eq!(world.statuses["web-000000"].state, ReplicaState::Running);
    world.pending.push(old);
    world.finish(0, End::Well);
    assert_eq!(world.statuses["web-000000"].restarts, 0);
    assert!(!world.pending.iter().any(|p| matches!(p, Pending::Run(..))), "{:?}", world.pending);
}

#[test]
fn what_was_removed_while_a_list_was_on_its_way_does_not_come_back() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    world.pending.clear();
    world.feed(Event::Listed(Ok(Listing { containers: world.containers.values().cloned().collect(), complete: true })));
    world.advance(60_000);
    let list = world.pending.iter().position(|p| matches!(p, Pending::List(_))).unwrap();
    let old = world.pending.remove(list);
    world.push(Some(Revision(1)), &[], &[0]);
    world.settle();
    world.pending.push(old);
    world.finish(0, End::Well);
    assert_eq!(world.core.holds().count(), 0);
}
