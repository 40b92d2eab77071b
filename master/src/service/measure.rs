//! A large service, and what one event costs it: for the benchmark, and for the test that counts.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use shef_common::{
    clock::{MonoMs, Now, WallMs},
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot, Version},
    image::ImageRef,
    spec::{Mode, ServiceSpec, Template, Update},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::{
    core::ServiceCore,
    events::{Effect, Event},
    record::{ReplicaRecord, ServiceRecord, Want},
    request::{Change, Expect, Request},
    stored::{Stored, Versions},
    view::ServiceView,
};
use crate::{
    membership::{HostCondition, Standing},
    scheduler::{Placed, PlacementResult},
};

/// So many replicas are on each host, where a host may have several.
const ON_A_HOST: u32 = 10;

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

/// A service whose replicas all run, and everybody around it, who does at once as asked.
#[derive(Debug)]
pub struct LargeService {
    core: ServiceCore,
    kind: Kind,
    replicas: u32,
    ids: BTreeMap<Slot, ReplicaId>,
    now: Now,
    pending: VecDeque<Event>,
    wake_at: Option<MonoMs>,
    view: Option<ServiceView>,
    written: usize,
}

impl LargeService {
    /// One with so many replicas.
    #[must_use]
    pub fn new(kind: Kind, replicas: u32) -> Option<Self> {
        let name = ServiceName::parse("large").ok()?;
        let mut template = Template::of(ImageRef::parse("app:1").ok()?);
        if kind == Kind::Stateful {
            template.mounts.push(
                serde_json::from_str(r#"{"type":"volume","source":"data","target":"/d","sticky":true}"#)
                    .ok()?,
            );
        }
        let update = Update { parallelism: (replicas / 10).clamp(1, 1_000), ..Update::default() };
        let mut spec = ServiceSpec { update, ..ServiceSpec::of(name.clone(), replicas, template) };
        if kind == Kind::Global {
            (spec.mode, spec.replicas) = (Mode::Global, 0);
        }
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
        // A global service has all of them already.
        let spare = u32::from(kind != Kind::Global);
        let hosts: BTreeMap<_, _> =
            (0..replicas + spare).filter_map(|n| Some((home(kind, n)?, Arc::default()))).collect();
        let now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };
        let stored = Stored { record, versions: Versions::of_whole(Version(1)) };
        let (core, effects) = ServiceCore::recover(stored, Arc::new(hosts), |_| false, 1, now);
        let (pending, wake_at) = (VecDeque::new(), None);
        let mut large = Self { core, kind, replicas, ids, now, pending, wake_at, view: None, written: 0 };
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

    /// One replica more is wanted.
    pub fn scales_up(&mut self) {
        self.replicas += 1;
        self.changes("replicas", self.replicas.into());
    }

    /// Another image is wanted.
    pub fn updates(&mut self) {
        self.changes("image", "app:2".into());
    }

    fn changes(&mut self, field: &str, value: serde_json::Value) {
        let change = Change([(field.to_owned(), value)].into_iter().collect());
        self.pending.push_back(Event::Request(1, Request::Change { change, expect: Expect::Any }));
    }

    /// Takes the next event that is there, or, while the service is being updated, lets the time pass until
    /// the next one. Returns what it was.
    pub fn step(&mut self) -> Option<&'static str> {
        let is_updating = self.view.as_ref().is_some_and(|view| view.rollout.is_some());
        let event = self.pending.pop_front().or_else(|| {
            let at = self.wake_at.take().filter(|_| is_updating)?;
            self.now.mono = self.now.mono.max(at);
            Some(Event::Wake)
        });
        let event = event?;
        let word = word(&event);
        self.now.mono = MonoMs(self.now.mono.0 + 1);
        let effects = self.core.handle(event, self.now);
        self.carry_out(effects);
        Some(word)
    }

    /// Takes all events that are there, and all that follow from them.
    pub fn settle(&mut self) {
        while self.step().is_some() {}
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Schedule(request) => {
                    let chosen = request.place.iter().filter_map(|demand| {
                        Some((demand.place.slot, home(self.kind, demand.place.slot.0)?))
                    });
                    let placed = Placed { chosen: chosen.collect(), ..Placed::default() };
                    self.pending.push_back(Event::Scheduled(PlacementResult {
                        placed,
                        ..PlacementResult::default()
                    }));
                }
                Effect::Commit(writes) => {
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

/// Where the `n`th replica is.
fn home(kind: Kind, n: u32) -> Option<NodeName> {
    let host = if kind == Kind::Global { n } else { n / ON_A_HOST };
    NodeName::parse(&format!("h{host}")).ok()
}

const fn word(event: &Event) -> &'static str {
    match event {
        Event::Request(..) => "request",
        Event::Scheduled(_) => "scheduled",
        Event::Committed => "committed",
        Event::CommitFailed(_) => "commit failed",
        Event::Observed { .. } => "statuses",
        Event::Gone { .. } => "gone",
        Event::Unknown { .. } => "unknown",
        Event::HostChanged { .. } => "host changed",
        Event::HostsDescribed(_) => "hosts described",
        Event::HostForgotten { .. } => "host forgotten",
        Event::Wake => "wake",
    }
}

fn runs(id: ReplicaId, health: Health) -> ReplicaStatus {
    ReplicaStatus { health, ..ReplicaStatus::new(id, ReplicaState::Running, WallMs(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::observations::LOOKS;

    /// How many replicas are looked at, how many pages are shown anew, and how many bytes are written, for one
    /// event each and what follows from it.
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
            all.push(counted("one more", &LargeService::scales_up));
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
    fn an_update_ends_with_every_replica_of_the_new_generation() {
        for kind in [Kind::Stateless, Kind::Stateful, Kind::Global] {
            let mut large = LargeService::new(kind, 60).unwrap();
            large.updates();
            large.settle();
            let view = large.view().unwrap();
            assert!(view.rollout.is_none() && view.running == 60, "{kind:?}: {:?}", view.missing);
        }
    }
}
