//! A large service, and what one event costs it: for the benchmark, and for the test that counts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use shef_common::{
    clock::{MonoMs, Now, WallMs},
    fields,
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot, Version},
    image::ImageRef,
    spec::{Mode, ServiceSpec, Template, Update},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::{
    core::ServiceCore,
    events::{Effect, Event},
    record::{ReplicaRecord, ServiceRecord, Want},
    request::{Expect, Request},
    stored::{Stored, Versions},
    view::{ServiceState, ServiceView},
};
use crate::{
    membership::{HostCondition, HostFacts, Hosts, Standing},
    scheduler::{Placed, PlacementResult},
};

/// So many replicas are on each host, where a host may have several.
const ON_A_HOST: u32 = 10;
/// After so many alarms in a row that changed nothing, nothing more is to come.
const MAX_IDLE_ALARMS: u32 = 8;

/// What a large service is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its replicas keep nothing.
    Stateless,
    /// Each keeps a volume.
    Stateful,
    /// One on each host.
    Global,
}

/// A large service, and everybody around it, who does at once as asked.
#[derive(Debug)]
pub struct LargeService {
    core: ServiceCore,
    kind: Kind,
    replicas: u32,
    /// How many slots are updated at once.
    parallelism: u32,
    /// The hosts that are lost.
    lost: BTreeSet<NodeName>,
    ids: BTreeMap<Slot, ReplicaId>,
    now: Now,
    pending: VecDeque<Event>,
    wake_at: Option<MonoMs>,
    idle_alarms: u32,
    view: Option<ServiceView>,
    written: usize,
}

impl LargeService {
    /// One that nobody has asked for yet, in a cluster with room for so many replicas.
    #[must_use]
    pub fn unborn(kind: Kind, replicas: u32) -> Option<Self> {
        let name = ServiceName::parse("large").ok()?;
        let core = ServiceCore::new(name, 1, &BTreeMap::new(), Arc::new(hosts(kind, replicas)));
        Some(Self::around(core, kind, replicas))
    }

    /// One whose replicas all run, so many; a tenth of them is updated at once.
    #[must_use]
    pub fn new(kind: Kind, replicas: u32) -> Option<Self> {
        Self::updated_by(parallelism(replicas), kind, replicas)
    }

    /// The same, with another parallelism of its updates.
    #[must_use]
    pub fn updated_by(parallelism: u32, kind: Kind, replicas: u32) -> Option<Self> {
        let spec = spec(kind, replicas, parallelism)?;
        let name = spec.name.clone();
        let mut record = ServiceRecord::new(spec, WallMs(0));
        let mut ids = BTreeMap::new();
        for n in 0..replicas {
            let (id, slot, node) = (ReplicaId::new(&name, 100_000 + n), Slot(n), home(kind, n)?);
            ids.insert(slot, id.clone());
            if kind != Kind::Stateless {
                record.bindings.insert(slot, node.clone());
            }
            record.place(ReplicaRecord {
                id,
                slot,
                generation: Generation(1),
                node,
                want: Want::Run,
                attempt: 0,
                moving: false,
                done: None,
            });
        }
        let stored = Stored { record, versions: Versions::of_whole(Version(1)) };
        let hosts = Arc::new(hosts(kind, replicas));
        let (core, effects) = ServiceCore::recover(stored, hosts, |_| false, 1, START);
        let mut large = Self { parallelism, ids, ..Self::around(core, kind, replicas) };
        large.carry_out(effects);
        let on_a_host = if kind == Kind::Global { 1 } else { ON_A_HOST };
        for n in (0..replicas).step_by(on_a_host as usize) {
            let ids = (n..n + on_a_host).filter_map(|n| large.ids.get(&Slot(n)).cloned());
            let statuses = ids.map(|id| runs(id, Health::Healthy)).collect();
            large.pending.push_back(Event::Observed { node: home(kind, n)?, statuses });
            large.settle();
        }
        for n in (0..replicas + on_a_host).step_by(on_a_host as usize) {
            large.host_of(n, Standing::Ready);
            large.settle();
        }
        Some(large)
    }

    fn around(core: ServiceCore, kind: Kind, replicas: u32) -> Self {
        Self {
            core,
            kind,
            replicas,
            parallelism: parallelism(replicas),
            lost: BTreeSet::new(),
            ids: BTreeMap::new(),
            now: START,
            pending: VecDeque::new(),
            wake_at: None,
            idle_alarms: 0,
            view: None,
            written: 0,
        }
    }

    /// The latest view that the core has published.
    #[must_use]
    pub const fn view(&self) -> Option<&ServiceView> {
        self.view.as_ref()
    }

    /// How many bytes the store was given so far.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.written
    }

    /// A host reports the health of the `n`th replica.
    pub fn hears(&mut self, n: u32, health: Health) {
        let (Some(node), Some(id)) = (home(self.kind, n), self.ids.get(&Slot(n)).cloned()) else { return };
        let statuses = vec![runs(id, health)];
        self.pending.push_back(Event::Observed { node, statuses });
    }

    /// The host of the `n`th replica is in another condition.
    pub fn host_of(&mut self, n: u32, standing: Standing) {
        if let Some(node) = home(self.kind, n) {
            self.pending.push_back(Event::HostChanged { node, condition: HostCondition::of(standing) });
        }
    }

    /// A host on which the service has nothing is in another condition.
    pub fn host_elsewhere(&mut self, standing: Standing) {
        if let Ok(node) = NodeName::parse("elsewhere") {
            self.pending.push_back(Event::HostChanged { node, condition: HostCondition::of(standing) });
        }
    }

    /// The members, or what they are, have changed.
    pub fn hosts_are(&mut self, hosts: &Hosts) {
        self.pending.push_back(Event::HostsDescribed(hosts.clone()));
    }

    /// The hosts of the first so many replicas are lost.
    pub fn loses_hosts_of(&mut self, replicas: u32) {
        for node in (0..replicas).filter_map(|n| home(self.kind, n)).collect::<BTreeSet<_>>() {
            self.lost.insert(node.clone());
            let condition = HostCondition::of(Standing::Down);
            self.pending.push_back(Event::HostChanged { node, condition });
        }
    }

    /// Its user asks for it.
    pub fn is_created(&mut self) {
        if let Some(spec) = spec(self.kind, self.replicas, self.parallelism) {
            self.asks(Request::Create { spec });
        }
    }

    /// So many replicas more are wanted.
    pub fn scales_up(&mut self, by: u32) {
        self.scales_to(self.replicas + by);
    }

    /// So many replicas are wanted.
    pub fn scales_to(&mut self, replicas: u32) {
        self.replicas = replicas;
        self.asks(Request::Scale { replicas, expect: Expect::Any });
    }

    /// Another image is wanted.
    pub fn updates(&mut self) {
        let Some(mut spec) = spec(self.kind, self.replicas, self.parallelism) else { return };
        if let Ok(image) = ImageRef::parse("app:2") {
            Arc::make_mut(&mut spec.template).image = image;
        }
        self.asks(Request::Put { spec, expect: Expect::Any });
    }

    /// It is to be gone.
    pub fn is_deleted(&mut self) {
        self.asks(Request::Delete { expect: Expect::Any });
    }

    fn asks(&mut self, request: Request) {
        self.now.wall.0 += 1;
        self.pending.push_back(Event::Request(1, request));
    }

    /// The next event that is there; if none is, the service's next alarm, as long as it is not as wanted.
    pub fn next_in_time(&mut self) -> Option<Event> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        let is_as_wanted = self.view.as_ref().is_none_or(|view| view.state == ServiceState::Running);
        let at = self.wake_at.take().filter(|_| !is_as_wanted && self.idle_alarms < MAX_IDLE_ALARMS)?;
        self.idle_alarms += 1;
        self.now.mono = self.now.mono.max(at);
        Some(Event::Wake)
    }

    /// The service takes `event`.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        self.now.mono = MonoMs(self.now.mono.0 + 1);
        self.core.handle(event, self.now)
    }

    /// Takes all events that are there, and all that follow from them.
    pub fn settle(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            let effects = self.handle(event);
            self.carry_out(effects);
        }
    }

    /// The same, and all that come with time until the service is as wanted.
    pub fn settle_in_time(&mut self) {
        while let Some(event) = self.next_in_time() {
            let effects = self.handle(event);
            self.carry_out(effects);
        }
    }

    /// Where the scheduler puts `slot`: what was on a lost host, on the host after all.
    fn host_for(&self, slot: Slot) -> Option<NodeName> {
        let home = home(self.kind, slot.0).filter(|node| !self.lost.contains(node));
        home.or_else(|| self::home(self.kind, self.replicas))
    }

    /// Everybody does as asked.
    pub fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Schedule(request) => {
                    let slots = request.place.iter().map(|demand| demand.place.slot);
                    let chosen = slots.filter_map(|slot| Some((slot, self.host_for(slot)?)));
                    let placed = Placed { chosen: chosen.collect(), ..Placed::default() };
                    let last = request.candidates.iter().rev().map(|(slot, _)| *slot);
                    let give_up = last.take(request.give_up).collect();
                    let result = PlacementResult { placed, give_up, ..PlacementResult::default() };
                    self.pending.push_back(Event::Scheduled(result));
                }
                Effect::Commit(writes) => {
                    self.idle_alarms = 0;
                    self.written +=
                        writes.iter().filter_map(|write| write.value.as_ref()).map(Bytes::len).sum::<usize>();
                    self.pending.push_back(Event::Committed);
                }
                Effect::Order { node, set, remove } => {
                    self.ids.extend(set.iter().map(|set| (set.slot, set.replica.clone())));
                    let statuses: Vec<_> =
                        set.into_iter().map(|set| runs(set.replica, Health::Healthy)).collect();
                    if !statuses.is_empty() {
                        self.pending.push_back(Event::Observed { node: node.clone(), statuses });
                    }
                    if !remove.is_empty() {
                        self.pending.push_back(Event::Gone { node, replicas: remove });
                    }
                }
                Effect::Publish(view) => self.view = view.map(|view| *view),
                Effect::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
                Effect::Reply(..)
                | Effect::Load(_)
                | Effect::KeepsData(_)
                | Effect::Count(_)
                | Effect::Recovered
                | Effect::Retire => {}
            }
        }
    }
}

const START: Now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };

fn parallelism(replicas: u32) -> u32 {
    (replicas / 10).clamp(1, 1_000)
}

fn spec(kind: Kind, replicas: u32, parallelism: u32) -> Option<ServiceSpec> {
    let name = ServiceName::parse("large").ok()?;
    let mut template = Template::of(ImageRef::parse("app:1").ok()?);
    if kind == Kind::Stateful {
        let mount = r#"{"type":"volume","source":"data","target":"/d","sticky":true}"#;
        template.mounts.push(serde_json::from_str(mount).ok()?);
    }
    let update = Update { parallelism, ..Update::default() };
    let mut spec = ServiceSpec { update, ..ServiceSpec::of(name, replicas, template) };
    if kind == Kind::Global {
        (spec.mode, spec.replicas) = (Mode::Global, 0);
    }
    Some(spec)
}

/// The hosts for so many replicas, and a spare one where not all are taken already.
fn hosts(kind: Kind, replicas: u32) -> BTreeMap<NodeName, Arc<HostFacts>> {
    let spare = if kind == Kind::Global { 0 } else { ON_A_HOST };
    // Their agents are of this version.
    let facts = Arc::new(HostFacts { understands: fields::all().clone(), ..HostFacts::default() });
    (0..replicas + spare).filter_map(|n| Some((home(kind, n)?, facts.clone()))).collect()
}

/// Where the `n`th replica is.
fn home(kind: Kind, n: u32) -> Option<NodeName> {
    let host = if kind == Kind::Global { n } else { n / ON_A_HOST };
    NodeName::parse(&format!("h{host}")).ok()
}

fn runs(id: ReplicaId, health: Health) -> ReplicaStatus {
    ReplicaStatus { health, ..ReplicaStatus::new(id, ReplicaState::Running, WallMs(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::observations::LOOKS;

    /// How many replicas are looked at, how many pages are shown anew, and how many bytes are written, for
    /// one event each and what follows from it.
    fn work(kind: Kind, replicas: u32) -> Vec<(&'static str, u64, usize, usize)> {
        let mut large = LargeService::new(kind, replicas).unwrap();
        let mut counted = |what, act: &dyn Fn(&mut LargeService)| {
            let before = (LOOKS.get(), large.view().unwrap().replica_states.clone(), large.written());
            act(&mut large);
            large.settle();
            let pages = large.view().unwrap().replica_states.differing(&before.1).len();
            (what, LOOKS.get() - before.0, pages, large.written() - before.2)
        };
        let mut all = vec![
            counted("unhealthy", &|large| large.hears(7, Health::Unhealthy)),
            counted("healthy again", &|large| large.hears(7, Health::Healthy)),
            counted("host away", &|large| large.host_of(37, Standing::Suspect)),
            counted("host back", &|large| large.host_of(37, Standing::Ready)),
        ];
        if kind != Kind::Global {
            all.push(counted("one more", &|large| large.scales_up(1)));
        }
        all
    }

    #[test]
    fn an_event_costs_a_large_service_no_more_work_than_a_small_one() {
        // There are as many slots of a global service as hosts.
        for (kind, small, large) in
            [(Kind::Stateless, 500, 4_000), (Kind::Stateful, 500, 4_000), (Kind::Global, 100, 400)]
        {
            let both = work(kind, small).into_iter().zip(work(kind, large));
            for ((what, small, small_pages, small_bytes), (_, large, large_pages, large_bytes)) in both {
                assert!(small > 0 && large <= 2 * small, "{kind:?}, {what}: {small} looks and {large}");
                assert!(
                    large_pages <= 2 * small_pages.max(1),
                    "{kind:?}, {what}: {small_pages} pages and {large_pages}"
                );
                assert!(
                    large_bytes <= 2 * small_bytes,
                    "{kind:?}, {what}: {small_bytes} bytes are written and {large_bytes}"
                );
            }
        }
    }

    #[test]
    fn no_event_of_an_update_looks_at_all_slots() {
        let replicas = 1_000;
        let mut large = LargeService::updated_by(10, Kind::Stateless, replicas).unwrap();
        large.updates();
        let mut most = 0;
        while let Some(event) = large.next_in_time() {
            let before = LOOKS.get();
            let effects = large.handle(event);
            most = most.max(LOOKS.get() - before);
            large.carry_out(effects);
        }
        let view = large.view().unwrap();
        assert!(view.rollout.is_none() && view.running == replicas, "{:?}", view.missing);
        // Ten of them start at a time.
        assert!(most < u64::from(replicas) / 4, "{most} looks");
    }

    #[test]
    fn an_update_ends_with_every_replica_of_the_new_generation() {
        for kind in [Kind::Stateless, Kind::Stateful, Kind::Global] {
            let mut large = LargeService::new(kind, 60).unwrap();
            large.updates();
            large.settle_in_time();
            let view = large.view().unwrap();
            assert!(view.rollout.is_none() && view.running == 60, "{kind:?}: {:?}", view.missing);
        }
    }
}
