//! Whether a push is accepted, and what the ledger says after it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    bounds,
    ids::ReplicaId,
    protocol::{Accepted, Assignment, LedgerDigest, Push, PushRefused, Refusal},
};

use super::{
    ledger::{Ledger, LedgerChange, Removal},
    replica::Replica,
};

/// What becomes of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It changes the ledger so.
    Change(LedgerChange),
    /// The ledger says already what it says.
    Known(Accepted),
    /// It is not for us, not now, or not on this base.
    Refused(PushRefused),
}

/// Decides whether `push` is accepted, and how it changes `ledger`, which has the digest `digest`. `listed`:
/// whether the engine has listed its containers yet; `replicas`: the replicas on the host, with those that
/// the ledger does not name.
pub(super) fn admit(
    ledger: &Ledger,
    digest: LedgerDigest,
    listed: bool,
    replicas: &BTreeMap<ReplicaId, Replica>,
    push: &Push,
) -> Verdict {
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
        if let Some(holds) = push.holds {
            // It was applied, and has changed what it built on.
            if accepted == Some(&now_accepted) {
                return Verdict::Known(now_accepted);
            }
            if holds != digest {
                return refused(Refusal::WrongBase);
            }
        }
        let change = snapshot(ledger, replicas, push);
        if change.is_empty() && accepted == Some(&now_accepted) {
            return Verdict::Known(now_accepted);
        }
        return Verdict::Change(LedgerChange { accepted: Some(now_accepted), ..change });
    };
    match same_fence {
        Some(accepted) if accepted.revision == push.revision => Verdict::Known(accepted.clone()),
        Some(accepted) if accepted.revision == base && push.revision > base => {
            let change = change(ledger, replicas, push);
            Verdict::Change(LedgerChange { accepted: Some(now_accepted), ..change })
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

/// Replicas that a push sets are to run, replicas that it removes are to go, and all others stay as they are.
/// Entries that the ledger has already are no part of the change.
fn change(ledger: &Ledger, replicas: &BTreeMap<ReplicaId, Replica>, push: &Push) -> LedgerChange {
    let removed: BTreeSet<&ReplicaId> = push.remove.iter().collect();
    let is_news = |assignment: &&Assignment| {
        let id = &assignment.replica;
        let is_known = ledger.assignments.get(id) == Some(assignment) && !ledger.unlisted.contains(id);
        !is_known && !removed.contains(id)
    };
    let removal_of = |id: &ReplicaId| -> Removal {
        ledger.removal_of(id, replicas.get(id).and_then(Replica::held_grace_s))
    };
    LedgerChange {
        set: push.set.iter().filter(is_news).cloned().collect(),
        remove: removed.into_iter().filter(|id| !ledger.removals.contains_key(*id)).map(removal_of).collect(),
        ..LedgerChange::default()
    }
}

/// A master without removal by name leaves out of a snapshot the replicas to remove, and also those that it
/// has not read from its store yet. Such replicas wait: see [`super::core::Core`]. For a master that names
/// removals, and for a push with a base, an omission means nothing.
fn snapshot(ledger: &Ledger, replicas: &BTreeMap<ReplicaId, Replica>, push: &Push) -> LedgerChange {
    let mut change = change(ledger, replicas, push);
    let mut unlisted = BTreeSet::new();
    if !push.by_name && push.holds.is_none() {
        let listed: BTreeSet<&ReplicaId> = push.set.iter().map(|assignment| &assignment.replica).collect();
        let removed: BTreeSet<&ReplicaId> = change.remove.iter().map(|removal| &removal.replica).collect();
        let is_left_out = |id: &&ReplicaId| {
            !listed.contains(*id) && !removed.contains(*id) && !ledger.removals.contains_key(*id)
        };
        let held = replicas.iter().filter(|(_, replica)| replica.held_grace_s().is_some());
        let held = ledger.assignments.keys().chain(held.map(|(id, _)| id));
        unlisted = held.filter(is_left_out).cloned().collect();
    }
    change.unlisted = (unlisted != ledger.unlisted).then_some(unlisted);
    change
}
