//! A large service, and what one event costs it: for the benchmark, and for the test that counts.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use shef_common::{
    clock::{MonoMs, Now, WallMs},
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot, Version},
    image::ImageRef,
    spec::{ServiceSpec, Template, Update},
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

/// So many replicas are on each host.
const ON_A_HOST: u32 = 10;

/// A service whose replicas all run, on hosts with ten each.
#[derive(Debug)]
pub struct LargeService {
    core: ServiceCore,
    name: ServiceName,
    replicas: u32,
    now: Now,
    view: Option<ServiceView>,
    written: usize,
}

impl LargeService {
    /// One with so many replicas.
    #[must_use]
    pub fn new(replicas: u32) -> Option<Self> {
        let name = ServiceName::parse("large").ok()?;
        let spec = ServiceSpec {
            update: Update { monitor_ms: 0, ..Update::default() },
            ..ServiceSpec::of(name.clone(), replicas, Template::of(ImageRef::parse("app:1").ok()?))
        };
        let mut record = ServiceRecord::new(spec, WallMs(0));
        for n in 0..replicas {
            record.place(ReplicaRecord {
                id: ReplicaId::new(&name, 100_000 + n),
                slot: Slot(n),
                generation: Generation(1),
                node: node(n / ON_A_HOST)?,
                want: Want::Run,
                attempt: 0,
                moving: false,
                done: None,
            });
        }
        let hosts: BTreeMap<_, _> =
            (0..=replicas / ON_A_HOST).filter_map(|n| Some((node(n)?, Arc::default()))).collect();
        let now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };
        let stored = Stored { record, versions: Versions::of_whole(Version(1)) };
        let (core, effects) = ServiceCore::recover(stored, Arc::new(hosts), |_| false, 1, now);
        let mut large = Self { core, name, replicas, now, view: None, written: 0 };
        large.carry_out(effects);
        for n in 0..replicas {
            large.hears(n, Health::Healthy);
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
        let (Some(node), id) = (node(n / ON_A_HOST), ReplicaId::new(&self.name, 100_000 + n)) else { return };
        let status = ReplicaStatus::new(id, ReplicaState::Running, WallMs(1));
        let statuses = vec![ReplicaStatus { health, ..status }];
        self.event(Event::Observed { node, statuses });
    }

    /// The `n`th host is in another condition.
    pub fn host(&mut self, n: u32, standing: Standing) {
        if let Some(node) = node(n) {
            self.event(Event::HostChanged { node, condition: HostCondition::of(standing) });
        }
    }

    /// One replica more, until it runs.
    pub fn scales_up(&mut self) {
        let change = [("replicas".to_owned(), (self.replicas + 1).into())].into_iter().collect();
        self.event(Event::Request(1, Request::Change { change: Change(change), expect: Expect::Any }));
        self.hears(self.replicas, Health::Healthy);
        self.replicas += 1;
    }

    /// Takes an event, and what follows from it where everybody does at once as asked.
    fn event(&mut self, event: Event) {
        self.now.mono = MonoMs(self.now.mono.0 + 1);
        let effects = self.core.handle(event, self.now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Schedule(request) => {
                    let chosen = request.place.iter().filter_map(|demand| {
                        Some((demand.place.slot, node(demand.place.slot.0 / ON_A_HOST)?))
                    });
                    let placed = Placed { chosen: chosen.collect(), ..Placed::default() };
                    self.event(Event::Scheduled(PlacementResult { placed, ..PlacementResult::default() }));
                }
                Effect::Commit(writes) => {
                    self.written +=
                        writes.iter().filter_map(|write| write.value.as_ref()).map(Bytes::len).sum::<usize>();
                    self.event(Event::Committed);
                }
                Effect::Publish(view) => self.view = view.map(|view| *view),
                Effect::Reply(..)
                | Effect::Order { .. }
                | Effect::Load(_)
                | Effect::KeepsData(_)
                | Effect::Count(_)
                | Effect::WakeAt(_)
                | Effect::Recovered
                | Effect::Retire => {}
            }
        }
    }
}

fn node(n: u32) -> Option<NodeName> {
    NodeName::parse(&format!("h{n}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::observations::LOOKS;

    /// How many replicas are looked at, how many pages are shown anew, and how many bytes are written, for one
    /// event each.
    fn work(replicas: u32) -> Vec<(&'static str, u64, usize, usize)> {
        let mut large = LargeService::new(replicas).unwrap();
        let mut counted = |what, act: &dyn Fn(&mut LargeService)| {
            let before = (LOOKS.get(), large.view().unwrap().replica_states.clone(), large.written());
            act(&mut large);
            let pages = large.view().unwrap().replica_states.differing(&before.1).len();
            (what, LOOKS.get() - before.0, pages, large.written() - before.2)
        };
        vec![
            counted("unhealthy", &|large| large.hears(7, Health::Unhealthy)),
            counted("healthy again", &|large| large.hears(7, Health::Healthy)),
            counted("host away", &|large| large.host(3, Standing::Suspect)),
            counted("host back", &|large| large.host(3, Standing::Ready)),
            counted("one more", &LargeService::scales_up),
        ]
    }

    #[test]
    fn an_event_costs_a_large_service_no_more_work_than_a_small_one() {
        let both = work(1_000).into_iter().zip(work(9_000));
        for ((what, small, small_pages, small_bytes), (_, large, large_pages, large_bytes)) in both {
            assert!(small > 0 && large <= 2 * small, "{what}: {small} looks of 1,000 and {large} of 9,000");
            assert!(large_pages <= 2 * small_pages.max(1), "{what}: {small_pages} pages and {large_pages}");
            assert!(
                large_bytes <= 2 * small_bytes,
                "{what}: {small_bytes} bytes are written and {large_bytes}"
            );
        }
    }
}
