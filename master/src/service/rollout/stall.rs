//! A rollout that makes no progress: nothing waits for ever without saying so.
//!
//! Every other state of a slot has a timer of its own (a new replica's deadline, its trial, the wait after a
//! failure, the delay before the next slot). What is left is a slot that waits for something outside: room,
//! or a host.

use shef_common::{ids::Slot, spec::FailureAction};

use super::{
    state::Rollout,
    step::{Next, Verdict},
    view,
};
use crate::{
    membership::Standing,
    service::{
        observations::Observations,
        record::{ReplicaRecord, ServiceRecord},
        slots::{Slots, free_slots, waits_for_capacity},
    },
};

/// What follows if the rollout has made no progress for too long.
pub(super) fn stall(
    record: &ServiceRecord,
    rollout: &Rollout,
    slots: &Slots<'_>,
    observed: &Observations,
    next: &mut Next,
) {
    let Some(at) = observed.stalls_at(record) else { return };
    if at > observed.now() {
        return next.wake(at);
    }
    let seconds = Observations::patience(record).0.div_ceil(1_000);
    let waits = view::waits_for(record, rollout, slots, observed);
    let last =
        rollout.last_failure.as_ref().map(|why| format!("; the last failure: {why}")).unwrap_or_default();
    let why = format!("no slot was replaced within {seconds} s: {waits}{last}");
    let up_to_date = slots.up_to_date();
    let coming = slots.settled.coming();
    let open = slots.open.keys().copied().chain(coming.iter()).chain(free_slots(record, slots));
    let left: Vec<Slot> = open.filter(|slot| !up_to_date.contains(*slot)).collect();
    // The other slots are in place, and these had no capacity before the rollout either.
    let only_lacks_capacity = !up_to_date.is_empty()
        && slots.settled.outdated.is_empty()
        && left.iter().all(|slot| waits_for_capacity(record, *slot, slots, observed));
    let by_hosts = left.iter().any(|slot| is_held_up_by_its_host(record, *slot, slots, observed));
    next.verdict = match record.spec.update.failure_action {
        _ if rollout.from.is_none() || only_lacks_capacity => Verdict::Finish { incomplete: Some(why) },
        _ if by_hosts => Verdict::Pause { why, until_hosts: true },
        FailureAction::Rollback => Verdict::RollBack(why),
        FailureAction::Pause | FailureAction::Continue => Verdict::Pause { why, until_hosts: false },
    };
}

/// Whether `slot` waits for a host that is not well, and not for the generation that is rolled out.
fn is_held_up_by_its_host(
    record: &ServiceRecord,
    slot: Slot,
    slots: &Slots<'_>,
    observed: &Observations,
) -> bool {
    let is_away = |replica: &ReplicaRecord| observed.condition(&replica.node).standing != Standing::Ready;
    let is_new = |replica: &ReplicaRecord| replica.generation == record.generation;
    let replicas = slots.get(slot).unwrap_or_default();
    replicas.iter().any(|(replica, _)| is_new(replica) && is_away(replica))
        || !observed.may_be_updated(record, slot)
}
