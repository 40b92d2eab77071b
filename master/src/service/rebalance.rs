//! Moving replicas to hosts that have fewer: which may move, and how fast.

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{NodeName, Slot},
};

use super::{
    observations::{Observations, ReplicaClass},
    record::{ReplicaRecord, ServiceRecord},
    slots::slots,
    volumes,
};

/// How long nothing is moved after a move that had to be given up.
const AFTER_FAILURE: DurationMs = DurationMs(60_000);

/// The pace of a service's moves: a bucket of one token, as one move is under
/// way at a time.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Whether something may have changed since the scheduler saw no move to make.
    pub due: bool,
    next_at: MonoMs,
}

impl Pace {
    /// When the next move may begin.
    pub const fn next_at(&self) -> MonoMs {
        self.next_at
    }

    /// A move begins.
    pub fn moves(&mut self, now: MonoMs, per_minute: u32) {
        self.next_at = now + DurationMs(60_000 / u64::from(per_minute.max(1)));
    }

    /// A move was given up.
    pub fn failed(&mut self, now: MonoMs) {
        self.next_at = now + AFTER_FAILURE;
    }
}

/// The replicas that may move: each the only one of its slot, and good. `None`
/// while anything else is under way: first the service is to be as wanted, but
/// for what cannot start.
pub fn movable(record: &ServiceRecord, observed: &Observations) -> Option<Vec<(Slot, NodeName)>> {
    let mut movable = Vec::new();
    // Who moves takes what the generation that is wanted takes, and what is bound stays.
    let is_bound = |replica: &ReplicaRecord| {
        !record.spec.mode.is_replicated()
            || volumes::is_sticky(record, replica.generation)
            || replica.generation != record.generation
    };
    let slots = slots(record, observed);
    if !(slots.settled.on_trial.is_empty() && slots.settled.starting.is_empty()) {
        return None;
    }
    let settled = slots.settled.current.iter().flat_map(|slot| slots.settled(slot));
    movable.extend(settled.filter(|(r, _)| !is_bound(r)).map(|(r, _)| (r.slot, r.node.clone())));
    for (slot, replicas) in slots.open {
        match replicas.as_slice() {
            [(replica, ReplicaClass::Ready)] if is_bound(replica) => {}
            [(replica, ReplicaClass::Ready)] => movable.push((slot, replica.node.clone())),
            all if all.iter().all(|(_, class)| *class == ReplicaClass::Failed) => {}
            _ => return None,
        }
    }
    movable.sort_unstable();
    Some(movable)
}
