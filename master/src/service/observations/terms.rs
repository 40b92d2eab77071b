//! By what all slots of a record are judged, and what is known of them when that changes.

use shef_common::spec::{ServiceSpec, Template};

use super::slot_cache::{Settled, SlotCache};
use crate::service::{record::ServiceRecord, rollout::state::Rollout, slot_set::SlotSet, volumes};

/// Whether a slot of which nothing differs between the two is seen alike in both.
pub(super) fn has_same_terms(of: &ServiceRecord, record: &ServiceRecord) -> bool {
    let alone = |record: &ServiceRecord| record.replicas.runs_only(record.generation);
    has_same_terms_when_ready(of, record) && (record.rollout.is_some() || alone(of) == alone(record))
}

/// The same of a slot whose only replica is ready: that others run another generation does not matter to it.
fn has_same_terms_when_ready(of: &ServiceRecord, record: &ServiceRecord) -> bool {
    // Whatever is new in the record is to be judged here.
    let ServiceRecord {
        spec,
        generation,
        earlier: _,
        rollout,
        rebalancing,
        // Only the volumes of these matter: `keeps_volumes`.
        history: _,
        probation: _,
        // These are looked at slot by slot.
        bindings: _,
        emptied: _,
        replicas: _,
        // A rebalance ends with it, and nothing else that is seen of a slot.
        deleted: _,
        // And on these nothing depends.
        created: _,
        updated: _,
        imported: _,
        next_number: _,
        digests: _,
        newest: _,
        last_rollout: _,
    } = record;
    let from = |record: &ServiceRecord| record.rollout.as_ref().map(|rollout| rollout.from);
    has_same_spec(&of.spec, spec)
        && of.spec.template == spec.template
        && of.generation == *generation
        && have_same_templates(of, record)
        && from(of) == rollout.as_ref().map(|rollout| rollout.from)
        && of.stops_first() == record.stops_first()
        && of.rebalancing == *rebalancing
        && of.moves_per_minute().is_none() == record.moves_per_minute().is_none()
}

/// Whether both say the same but for the template.
fn has_same_spec(of: &ServiceSpec, spec: &ServiceSpec) -> bool {
    // How many there are to be decides of no slot that is there.
    let ServiceSpec { name, replicas: _, template: _, on_disconnect, rebalance, mode, placement, update } =
        spec;
    of.name == *name
        && of.on_disconnect == *on_disconnect
        && of.rebalance == *rebalance
        && of.mode == *mode
        && of.placement == *placement
        && of.update == *update
}

/// Whether a replica of another generation than the one that is wanted runs the same by both. A template that
/// only one of them has is that of no replica that both have.
fn have_same_templates(of: &ServiceRecord, record: &ServiceRecord) -> bool {
    let is_same = |(generation, template): (_, &std::sync::Arc<Template>)| {
        of.earlier.get(generation).is_none_or(|known| known == template)
    };
    record.earlier.iter().all(is_same) && volumes::keeps_volumes(of) == volumes::keeps_volumes(record)
}

/// What still holds in `record` of what is `settled` in `of`, though all slots are judged by something else:
/// when a rollout ends, or the last replica of another generation is gone, what is current stays so; when a
/// rollout begins, what was current is outdated.
pub(super) fn carried_over(of: &ServiceRecord, settled: &Settled, record: &ServiceRecord) -> SlotCache {
    let mut kept = Settled::default();
    let current = settled.current.without(&changed_but_for_rollouts(of, record));
    let same_spec = has_same_spec(&of.spec, &record.spec) && have_same_templates(of, record);
    if has_same_terms_when_ready(of, record) || same_spec && ends_rollout(of, record) {
        kept.current = current;
    } else if same_spec && begins_rollout(of, record) {
        kept.outdated = current;
    }
    SlotCache { of: Some(Box::new(record.clone())), settled: kept, ..SlotCache::default() }
}

/// Whether all that differs for what is current is that no rollout is under way any more.
fn ends_rollout(of: &ServiceRecord, record: &ServiceRecord) -> bool {
    of.rollout.is_some()
        && record.rollout.is_none()
        && of.generation == record.generation
        && of.spec.template == record.spec.template
}

/// Whether a rollout has just begun to replace what was wanted, and no slot is bound to a host.
fn begins_rollout(of: &ServiceRecord, record: &ServiceRecord) -> bool {
    let is_new = |rollout: &Rollout| {
        rollout.from == Some(of.generation) && rollout.started_slots.is_empty() && rollout.failures.is_empty()
    };
    of.rollout.is_none()
        && record.rollout.as_ref().is_some_and(is_new)
        && of.generation != record.generation
        && record.earlier.get(&of.generation) == Some(&of.spec.template)
        && record.spec.mode.is_replicated()
        && !volumes::keeps_volumes(record)
}

/// The slots of which something differs between the two.
pub(super) fn changed_slots(of: &ServiceRecord, record: &ServiceRecord) -> SlotSet {
    let started = |rollout: &Option<Rollout>| {
        rollout.as_ref().map(|rollout| rollout.started_slots.clone()).unwrap_or_default()
    };
    let mut changed = changed_but_for_rollouts(of, record);
    changed = changed.with(&differing(&started(&of.rollout), &started(&record.rollout)));
    for rollout in of.rollout.iter().chain(&record.rollout) {
        changed.extend(rollout.failures.keys().copied());
    }
    changed
}

fn changed_but_for_rollouts(of: &ServiceRecord, record: &ServiceRecord) -> SlotSet {
    let replicas = of.replicas.changed_slots(&record.replicas);
    let bindings = of.bindings.changed_slots(&record.bindings);
    replicas.with(&bindings).with(&differing(&of.emptied, &record.emptied))
}

/// The slots that are in one of them only.
fn differing(before: &SlotSet, after: &SlotSet) -> SlotSet {
    if before == after {
        return SlotSet::default();
    }
    before.without(after).with(&after.without(before))
}
