//! Slots that are bound to a host: by a volume that stays there, or because in mode
//! `global` there is one slot a host.
//!
//! A bound slot is placed on its host or nowhere. While the host takes no replicas
//! the slot waits, and says so; neither a drain nor a rebalance nor a loss moves it.

use std::collections::BTreeSet;

use shef_common::{
    ids::{NodeName, Slot},
    spec::Mode,
};

use super::{
    bound::Bindings,
    conflict::Conflict,
    observations::Observations,
    record::{ReplicaRecord, ServiceRecord, Want},
    request::Refused,
    volumes,
};
use crate::membership::{Intent, Standing};

/// The bindings that `record` is to have, if they are to be others.
pub fn next(record: &ServiceRecord, observed: &Observations) -> Option<Bindings> {
    let bindings = match record.spec.mode {
        _ if record.deleted => return None,
        Mode::Global => of_hosts(record, observed),
        Mode::Replicated if volumes::keeps_volumes(record) => of_volumes(record, observed),
        Mode::Replicated => Bindings::default(),
    };
    (bindings != record.bindings).then_some(bindings)
}

/// One slot on every host that the constraints allow and that is not drained. One that takes nothing for now
/// keeps its slot, and gets none.
fn of_hosts(record: &ServiceRecord, observed: &Observations) -> Bindings {
    let stays = |node: &NodeName| {
        !observed.condition(node).is_leaving() && observed.allows(&record.spec.placement, node)
    };
    let (mut bindings, mut taken) = (record.bindings.clone(), BTreeSet::new());
    // Slots with volumes, of before the service became global, may have one host.
    for (slot, node) in record.bindings.iter() {
        if !stays(node) || !taken.insert(node) {
            bindings.remove(slot);
        }
    }
    // Of a service that has just become global, what runs already is kept.
    let unbound = record.replicas.filled().without(record.bindings.slots());
    for replica in record.replicas.of_all(&unbound).filter(|replica| replica.want == Want::Run) {
        if stays(&replica.node) && bindings.get(replica.slot).is_none() && taken.insert(&replica.node) {
            bindings.insert(replica.slot, replica.node.clone());
        }
    }
    let used = record.bindings.slots().with(record.replicas.filled());
    let mut free = (0..).map(Slot).filter(|slot| !used.contains(*slot));
    for node in observed.hosts().keys() {
        if !taken.contains(node) && stays(node) && observed.condition(node).takes_replicas() {
            free.next().into_iter().for_each(|slot| bindings.insert(slot, node.clone()));
        }
    }
    bindings
}

/// The host on which a slot's replica is seen running first, or done, is its home from then on.
fn of_volumes(record: &ServiceRecord, observed: &Observations) -> Bindings {
    let mut bindings = record.bindings.clone();
    let has_run = |replica: &&ReplicaRecord| {
        observed.runs(replica) || observed.done_since(replica).is_some() || replica.done.is_some()
    };
    // Slots that need no look have their bindings.
    let open = record.replicas.filled().without(&observed.settled_in(record).all());
    let wanted = record.replicas.of_all(&open).filter(|replica| replica.want == Want::Run);
    for replica in wanted.filter(has_run).filter(|replica| volumes::may_hold_volume(record, replica)) {
        if bindings.get(replica.slot).is_none() {
            bindings.insert(replica.slot, replica.node.clone());
        }
    }
    bindings
}

/// What `slot`, which has no replica, waits for, if it is for its home.
pub fn waits(record: &ServiceRecord, slot: Slot, observed: &Observations) -> Option<String> {
    let bound_node = observed.bound_node(record, slot)?;
    let why = why_not(observed, bound_node).map(str::to_owned);
    let why = why.or_else(|| {
        observed.never_takes(record, record.target(slot), bound_node).map(|unfit| unfit.to_string())
    })?;
    Some(match record.spec.mode {
        Mode::Replicated => format!(
            "slot {slot} waits for host {bound_node}, which holds its volume data and {why} (`shef service \
             release {} {slot}` gives the data up)",
            record.spec.name
        ),
        Mode::Global => format!("slot {slot} waits for host {bound_node}, which {why}"),
    })
}

/// Whether the data that binds `slot` to its host may be given up.
///
/// # Errors
/// [`Refused::NoSlot`], or the [`Conflict`].
pub fn may_be_released(record: &ServiceRecord, slot: Slot, observed: &Observations) -> Result<(), Refused> {
    let held = record.bindings.slots().with(record.replicas.filled());
    let wanted = if record.spec.mode.is_replicated() { record.spec.replicas } else { 0 };
    if slot.0 >= wanted && !held.contains(slot) {
        let last = held.iter().last().max(wanted.checked_sub(1).map(Slot));
        return Err(Refused::NoSlot { slot, last });
    }
    may_be_given_up(record, slot, observed).map_err(Refused::Conflict)
}

fn may_be_given_up(record: &ServiceRecord, slot: Slot, observed: &Observations) -> Result<(), Conflict> {
    let bound_node = if record.spec.mode.is_replicated() { observed.bound_node(record, slot) } else { None };
    let Some(bound_node) = bound_node else {
        return Err(Conflict::NotBound(slot));
    };
    let host = bound_node.clone();
    let condition = observed.condition(bound_node);
    let excluded = observed.never_takes(record, record.generation, bound_node).is_some();
    match condition.standing {
        Standing::Awaited | Standing::Suspect => Err(Conflict::HostNotKnown { slot, host }),
        Standing::AgentDown | Standing::EngineDown if condition.intent == Intent::Active => {
            Err(Conflict::MayRunOn { slot, host })
        }
        Standing::Ready if condition.takes_replicas() && !excluded => {
            Err(Conflict::HostIsThere { slot, host })
        }
        Standing::Ready
            if serves_there(record, slot, observed) && !has_place_elsewhere(record, bound_node, observed) =>
        {
            Err(Conflict::NoOtherHost { slot, host })
        }
        Standing::Ready | Standing::AgentDown | Standing::EngineDown | Standing::Down => Ok(()),
    }
}

fn serves_there(record: &ServiceRecord, slot: Slot, observed: &Observations) -> bool {
    record.replicas.of(slot).iter().any(|replica| replica.want == Want::Run && observed.is_well(replica))
}

/// Whether a host other than `node` could take a replica, as far as is known without asking for its load.
fn has_place_elsewhere(record: &ServiceRecord, node: &NodeName, observed: &Observations) -> bool {
    observed.hosts().keys().any(|other| {
        other != node
            && observed.condition(other).takes_replicas()
            && observed.never_takes(record, record.generation, other).is_none()
    })
}

/// Why a host takes no replicas.
fn why_not(observed: &Observations, node: &NodeName) -> Option<&'static str> {
    let condition = observed.condition(node);
    if condition.standing != Standing::Ready {
        return Some(condition.standing.is());
    }
    match condition.intent {
        Intent::Drained { .. } => Some("is drained"),
        Intent::Cordoned => Some("is cordoned"),
        Intent::Active => condition.flapping.then_some("is flapping"),
    }
}
