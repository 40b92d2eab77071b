//! A model of an engine, a disk and a master around one supervisor core. It
//! checks what must hold at every moment, whatever happens.

mod engine;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{ClusterId, Epoch, Fence, Generation, LeaderId, NodeUid, ReplicaId, Revision, ServiceName, Slot},
    image::ImageRef,
    protocol::{Accepted, Assignment, Push, PushRefused},
    registry::{Credentials, RegistryHost},
    spec::{Network, Template},
    status::ReplicaState,
};

use super::disk::Disk;
use crate::{
    engine::{Container, EngineEvent, WantedImage, fake::Networks},
    health::{Probe, WrongAnswer},
    reporter::Observed,
    supervisor::{
        core::*,
        ledger::{Ledger, LedgerWrite},
    },
};

pub const BOUND: usize = 3;

pub fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000cc").unwrap()
}

pub fn fence(epoch: u64) -> Fence {
    Fence { epoch: Epoch(epoch), leader: LeaderId::parse(&format!("{epoch:016x}")).unwrap() }
}

pub fn assignment(number: u32) -> Assignment {
    let service = ServiceName::parse("web").unwrap();
    let mut template = Template::of(ImageRef::parse(["present", "absent"][number as usize % 2]).unwrap());
    // Every third replica has a network of its own.
    template.networks = (number % 3 == 2).then(|| network(number)).into_iter().collect();
    Assignment {
        replica: ReplicaId::new(&service, number),
        service,
        slot: Slot(number),
        generation: Generation(1),
        template: template.into(),
        on_disconnect: shef_common::spec::OnDisconnect::Keep,
        image_digest: None,
        prepare: false,
    }
}

fn network(number: u32) -> Network {
    Network::named(format!("net-{number}"))
}

/// An operation that was asked for and not answered.
#[derive(Debug, Clone)]
pub enum Pending {
    Ledger(LedgerWrite),
    List(Vec<Container>),
    Run(ReplicaId, Operation),
    Pull(WantedImage),
    Logs(ReplicaId),
    RemoveNetworks(BTreeSet<String>),
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Well,
    /// It happened, and the answer was lost.
    AnswerLost,
    /// It did not happen, and no answer came.
    Lost,
}

pub struct Bench {
    pub core: Core,
    pub now: Now,
    /// The ledger that the core knows is durable.
    pub disk: Ledger,
    /// The log that the next agent reads.
    pub log: Disk,
    pub containers: BTreeMap<String, Container>,
    pub networks: Networks,
    pub images: BTreeSet<String>,
    /// The images that the agent has noted as brought by shef.
    pub noted: BTreeSet<ImageRef>,
    pub pending: Vec<Pending>,
    pub events: Vec<EngineEvent>,
    /// The health checks that were asked for and not answered.
    pub probes: Vec<Probe>,
    /// Everything that was reported, the latest of each.
    pub reported: Observed,
    pub answers: BTreeMap<u64, Result<Accepted, PushRefused>>,
    /// What the master has ordered and the agent has accepted.
    pub desired: BTreeSet<u32>,
    /// What the master has ordered ever, and names for removal in a snapshot where it does not want it.
    pub ordered: BTreeSet<ReplicaId>,
    /// Whether the master has named for removal, in a snapshot, what it does not want.
    pub names: bool,
    /// Whether the master names all removals. An older one means by leaving out of a snapshot that it is to
    /// go.
    pub is_new: bool,
    /// What a push has ever named for removal.
    pub named: BTreeSet<ReplicaId>,
    pub fence: Fence,
    pub revision: u64,
    pub tickets: u64,
    pub next_id: u64,
    /// Those that may be stopped without an order.
    pub rests: BTreeSet<ReplicaId>,
    /// Whether no master brings the contents of secrets.
    pub lacks_contents: bool,
}

impl EffectHandler for Bench {
    fn write_ledger(&mut self, write: LedgerWrite) {
        assert!(
            !self.pending.iter().any(|p| matches!(p, Pending::Ledger(_))),
            "two writes of the ledger at once"
        );
        self.pending.push(Pending::Ledger(write));
    }

    fn answer(&mut self, ticket: u64, verdict: Result<Accepted, PushRefused>) {
        if let Ok(accepted) = &verdict {
            assert_eq!(self.disk.accepted.as_ref(), Some(accepted), "acknowledged before it was durable");
        }
        assert!(self.answers.insert(ticket, verdict).is_none(), "answered twice");
    }

    fn list(&mut self) {
        assert!(!self.pending.iter().any(|p| matches!(p, Pending::List(_))), "two lists at once");
        // The engine looks when it is asked; the answer may come much later.
        self.pending.push(Pending::List(self.containers_of_ours()));
    }

    fn run(&mut self, replica: ReplicaId, operation: Operation) {
        self.check_operation(&replica, &operation);
        self.pending.push(Pending::Run(replica, operation));
    }

    fn remove_networks(&mut self, _: ClusterId, needed: BTreeSet<String>) {
        let makes =
            |p: &Pending| matches!(p, Pending::Run(_, Operation::Create(_) | Operation::Start { .. }));
        assert!(!self.pending.iter().any(makes), "networks are removed beside what joins them");
        assert!(
            !self.pending.iter().any(|p| matches!(p, Pending::RemoveNetworks(_))),
            "networks are removed twice at once"
        );
        self.pending.push(Pending::RemoveNetworks(needed));
    }

    fn read_logs(&mut self, replica: ReplicaId, _: String) {
        assert!(!self.pending.iter().any(|p| matches!(p, Pending::Logs(_))), "two logs at once");
        self.pending.push(Pending::Logs(replica));
    }

    fn pull(&mut self, wanted: WantedImage) {
        assert!(
            !self.pending.iter().any(|p| matches!(p, Pending::Pull(other) if *other == wanted)),
            "an image is pulled once however many wait"
        );
        self.pending.push(Pending::Pull(wanted));
    }

    fn cancel_pull(&mut self, wanted: &WantedImage) {
        self.pending.retain(|p| !matches!(p, Pending::Pull(other) if other == wanted));
    }

    fn note_pulled(&mut self, image: ImageRef) {
        assert!(self.images.contains(&image.pinned()), "{image} is noted and is not there");
        self.noted.insert(image);
    }

    fn report(&mut self, observed: Observed) {
        assert!(!observed.is_empty(), "an empty report");
        for status in observed.statuses.values() {
            if let Some(before) = self.reported.statuses.get(&status.replica) {
                assert!(status.supersedes(before), "{before:?} -> {status:?}");
            }
            if status.state == ReplicaState::Stopped {
                let in_progress = self
                    .pending
                    .iter()
                    .any(|p| matches!(p, Pending::Run(replica, _) if *replica == status.replica));
                assert!(!in_progress, "called stopped while an operation is in progress");
            }
        }
        if let Some(accepted) = &observed.accepted {
            assert_eq!(self.disk.accepted.as_ref(), Some(accepted), "reported before it was durable");
        }
        self.reported.merge(observed);
    }

    fn describe(&mut self, _: u64, _: Description) {}
    fn watch(&mut self) {}
    fn identify(&mut self) {}
    fn check(&mut self, probe: Probe) {
        self.probes.push(probe);
    }
}

impl Bench {
    pub fn new() -> Self {
        let mut disk = Ledger::new(NodeUid::parse("0000000000000001").unwrap());
        disk.cluster = Some(cluster());
        let mut bench = Self {
            core: Core::new(disk.clone(), Self::limits(), Now::default()),
            now: Now { mono: MonoMs(1_000), wall: WallMs(1_000) },
            log: Disk::with(&disk),
            disk,
            containers: BTreeMap::new(),
            networks: Networks::default(),
            images: ["present:latest".to_owned()].into(),
            noted: BTreeSet::new(),
            pending: Vec::new(),
            events: Vec::new(),
            probes: Vec::new(),
            reported: Observed::default(),
            answers: BTreeMap::new(),
            desired: BTreeSet::new(),
            ordered: BTreeSet::new(),
            names: true,
            is_new: true,
            named: BTreeSet::new(),
            fence: fence(1),
            revision: 0,
            tickets: 0,
            next_id: 0,
            rests: BTreeSet::new(),
            lacks_contents: false,
        };
        bench.containers.insert("foreign".into(), Self::foreign("foreign"));
        bench.feed(Event::Begin);
        bench
    }

    pub fn limits() -> Limits {
        Limits { engine_concurrency: BOUND, pull_concurrency: 1, relist_interval: DurationMs(60_000) }
    }

    pub fn feed(&mut self, event: Event) {
        let ticked = matches!(event, Event::Tick);
        let effects = self.core.handle(event, self.now);
        let wake = self.core.next_wake().filter(|at| ticked && *at <= self.now.mono);
        assert_eq!(wake, None, "at {:?} it would be woken for nothing again and again", self.now.mono);
        for effect in effects {
            effect.dispatch(self);
        }
        self.check_invariants();
    }

    /// Why the engine does not answer, as reported last.
    pub fn engine_error(&self) -> Option<&str> {
        self.reported.engine_error.as_ref()?.as_deref()
    }

    pub fn push(&mut self, base: Option<Revision>, set: &[u32], remove: &[u32]) -> u64 {
        let set = set.iter().map(|&n| assignment(n)).collect();
        self.order(base, set, remove, BTreeMap::new())
    }

    /// A change of what there is.
    pub fn change(&mut self, set: &[Assignment], remove: &[u32]) -> u64 {
        let base = (self.revision > 0).then_some(Revision(self.revision));
        self.order(base, set.to_vec(), remove, BTreeMap::new())
    }

    pub fn order(
        &mut self,
        base: Option<Revision>,
        set: Vec<Assignment>,
        remove: &[u32],
        credentials: BTreeMap<RegistryHost, Credentials>,
    ) -> u64 {
        self.tickets += 1;
        self.revision += 1;
        let mut remove: BTreeSet<ReplicaId> = remove.iter().map(|&n| assignment(n).replica).collect();
        if base.is_none() && self.names {
            remove
                .extend(self.ordered.iter().filter(|id| set.iter().all(|set| set.replica != **id)).cloned());
        }
        self.named.extend(remove.iter().cloned());
        self.ordered.extend(set.iter().map(|set| set.replica.clone()));
        let push = Push {
            cluster: cluster(),
            fence: self.fence.clone(),
            base,
            revision: Revision(self.revision),
            set,
            remove: remove.into_iter().collect(),
            by_name: self.is_new,
            credentials,
            holds: None,
            templates_once: false,
        };
        self.feed(Event::Pushed { ticket: self.tickets, push });
        self.tickets
    }

    /// Carries out what is pending and delivers what follows, without letting time pass.
    pub fn carry_out(&mut self) {
        for _ in 0..1_000 {
            self.deliver_events(true);
            if self.pending.is_empty() && self.events.is_empty() {
                return;
            }
            while !self.pending.is_empty() {
                self.finish(0, End::Well);
            }
        }
        panic!("does not come to rest");
    }

    /// The health checks that were asked for pass or fail.
    pub fn answer_checks(&mut self, passes: bool) {
        for Probe { replica, run, .. } in std::mem::take(&mut self.probes) {
            let outcome = if passes { Ok(()) } else { Err(WrongAnswer::NoAddress.into()) };
            self.feed(Event::Checked { replica, run, outcome });
        }
        self.carry_out();
    }

    /// Time passes, and what is due is carried out.
    pub fn pass(&mut self, ms: u64) {
        self.advance(ms);
        self.carry_out();
    }

    /// Everything that is under way ends well, time passes, until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..400 {
            while !self.pending.is_empty() {
                self.finish(0, End::Well);
                self.deliver_events(true);
            }
            self.deliver_events(true);
            let stopped: Vec<_> = self
                .reported
                .statuses
                .values()
                .filter(|s| s.state == ReplicaState::Stopped)
                .map(|s| s.replica.clone())
                .collect();
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
    pub fn quiet(&self) -> bool {
        let relist = matches!(self.pending.as_slice(), [Pending::List(_)]);
        relist
            && self.core.work.is_at_rest()
            && !self.core.pulls.is_running()
            && self.core.engine.is_up()
            && self.core.next_wake().is_none_or(|wake| wake > self.now.mono + DurationMs(310_000))
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono + DurationMs(ms), wall: WallMs(self.now.wall.0 + ms) };
        self.feed(Event::Tick);
    }

    /// kill -9, and a new agent on what the disk holds. What was under way happens or not.
    pub fn crash(&mut self, happens: bool) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Run(replica, operation) if happens => drop(self.act(&replica, &operation)),
                Pending::Ledger(write) if happens => _ = self.log.write(&write),
                Pending::Ledger(write) => self.log.fail(&write, 20),
                Pending::Run(..)
                | Pending::List(_)
                | Pending::Pull(_)
                | Pending::Logs(_)
                | Pending::RemoveNetworks(_) => {}
            }
        }
        self.events.clear();
        self.probes.clear();
        self.reported = Observed::default();
        self.answers.clear();
        self.disk = self.log.read();
        self.core = Core::new(self.disk.clone(), Self::limits(), self.now);
        self.feed(Event::Begin);
    }
}
