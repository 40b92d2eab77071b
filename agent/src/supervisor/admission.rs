//! Whether a push is accepted, and what the ledger says after it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    bounds,
    ids::ReplicaId,
    protocol::{Accepted, Push, PushRefused, Refusal},
};

use super::ledger::Ledger;

/// What becomes of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It changes the ledger to this.
    Change(Box<Ledger>),
    /// It has been accepted before.
    Known(Accepted),
    /// It is not for us, not now, or not on this base.
    Refused(PushRefused),
}

/// Judges `push` by `ledger`. `listed`: whether the engine has shown its
/// containers yet; `holds`: those of this cluster that the ledger does not
/// name, with their grace in seconds.
pub(super) fn judge(ledger: &Ledger, listed: bool, holds: &BTreeMap<ReplicaId, u32>, push: &Push) -> Verdict {
    let refused = |why| {
        Verdict::Refused(PushRefused { why, accepted: ledger.accepted.clone(), leader_silent_ms: None })
    };
    match &ledger.cluster {
        None => return refused(Refusal::NotReady),
        Some(ours) if *ours != push.cluster => return refused(Refusal::OtherCluster),
        Some(_) => {}
    }
    let accepted = ledger.accepted.as_ref();
    if is_out_of_bounds(accepted, push) {
        return refused(Refusal::OutOfBounds);
    }
    if accepted.is_some_and(|accepted| !push.fence.admits_over(&accepted.fence)) {
        return refused(Refusal::StaleFence);
    }
    let same_fence = accepted.filter(|accepted| accepted.fence == push.fence);
    let now_accepted = Accepted { fence: push.fence.clone(), revision: push.revision };
    let Some(base) = push.base else {
        // A snapshot that was overtaken by what came after it.
        if same_fence.is_some_and(|accepted| push.revision < accepted.revision) {
            return refused(Refusal::WrongBase);
        }
        if !listed {
            return refused(Refusal::NotReady);
        }
        return Verdict::Change(Box::new(snapshot(ledger, holds, push, now_accepted)));
    };
    match same_fence {
        Some(accepted) if accepted.revision == push.revision => Verdict::Known(accepted.clone()),
        Some(accepted) if accepted.revision == base && push.revision > base => {
            Verdict::Change(Box::new(change(ledger, holds, push, now_accepted)))
        }
        Some(_) | None => refused(Refusal::WrongBase),
    }
}

/// Whether the push would have the ledger say a number that no honest count has come to: no leader could
/// follow that epoch, and no push that revision.
fn is_out_of_bounds(accepted: Option<&Accepted>, push: &Push) -> bool {
    let fits = |number: u64, known: Option<u64>| {
        known.map_or(number <= bounds::MOST_ADOPTED, |known| bounds::is_within_reach(number, known))
    };
    let same_fence = accepted.filter(|accepted| accepted.fence == push.fence);
    !fits(push.fence.epoch.0, accepted.map(|accepted| accepted.fence.epoch.0))
        || !fits(push.revision.0, same_fence.map(|accepted| accepted.revision.0))
}

/// What a push sets is to run, what it removes is to go, and everything else stays as it is.
fn change(ledger: &Ledger, holds: &BTreeMap<ReplicaId, u32>, push: &Push, accepted: Accepted) -> Ledger {
    let mut next = ledger.clone();
    next.accepted = Some(accepted);
    for assignment in &push.set {
        next.removals.remove(&assignment.replica);
        next.unlisted.remove(&assignment.replica);
        next.assignments.insert(assignment.replica.clone(), assignment.clone());
    }
    for replica in &push.remove {
        next.remove(replica, holds);
    }
    next
}

/// A master of before removal by name leaves out of a snapshot what is to go, and
/// also what it has not read from its store yet. What it leaves out waits: see
/// [`super::core::Core`]. A master that names removals says nothing by leaving out.
fn snapshot(ledger: &Ledger, holds: &BTreeMap<ReplicaId, u32>, push: &Push, accepted: Accepted) -> Ledger {
    let mut next = change(ledger, holds, push, accepted);
    next.unlisted.clear();
    if !push.by_name {
        let listed: BTreeSet<&ReplicaId> = push.set.iter().map(|assignment| &assignment.replica).collect();
        let held = next.assignments.keys().chain(holds.keys());
        let unlisted =
            held.filter(|id| !listed.contains(id) && !next.removals.contains_key(*id)).cloned().collect();
        next.unlisted = unlisted;
    }
    next
}
