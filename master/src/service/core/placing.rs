//! What the scheduler's choice makes of a draft.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shef_common::{
    ids::{Generation, NodeName, ReplicaId, Slot},
    spec::Order,
};

use super::{Draft, ServiceCore, Step};
use crate::{
    membership::Standing,
    scheduler::{Claim, Demand, LoadChange, Mover, Place, PlacementRequest, PlacementResult, Requirements},
    service::{
        events::Effect,
        observations::ReplicaClass,
        record::{ReplicaRecord, ServiceRecord, Want},
        slot_set::SlotSet,
        slots::slots,
    },
};

impl ServiceCore {
    /// The scheduler has answered.
    pub(super) fn scheduled(&mut self, scheduled: PlacementResult, effects: &mut Vec<Effect>) {
        let Step::Scheduling(mut draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        let Some(mut record) = draft.record.take() else { return };
        let chosen: BTreeSet<Slot> = scheduled.placed.chosen.iter().map(|(slot, _)| *slot).collect();
        self.note_unplaced(&draft, &chosen, scheduled.placed.refused);
        self.asked_again = None;
        self.stop_first_where_it_must(&scheduled.placed.needs_stop_first, &mut record);
        if draft.rebalances {
            self.moved(scheduled.moved, &mut record, &mut draft, effects);
        }
        let give_up: BTreeSet<Slot> = scheduled.give_up.into_iter().collect();
        let gone: Vec<_> =
            give_up.iter().flat_map(|slot| record.replicas.of(*slot)).map(ReplicaRecord::key).collect();
        record.retire_these(&gone);
        let failed = self.failed(&record);
        let mut replaced = Vec::new();
        for (slot, node) in scheduled.placed.chosen {
            let Some(id) = draft.ids.remove(&slot) else { continue };
            // Forgotten since: the scheduler has forgotten what it has just counted there.
            if self.forgotten.contains(&node) && !draft.forgets.contains(&node) {
                continue;
            }
            if give_up.contains(&slot) {
                effects.push(Effect::Load(vec![LoadChange::Release(id, node)]));
                continue;
            }
            record.emptied.remove(slot);
            replaced
                .extend(failed.get(&slot).into_iter().flatten().map(|failed| (slot, failed.replica.clone())));
            draft.reserved.push(LoadChange::Release(id.clone(), node.clone()));
            let attempt = draft.attempts.get(&slot).copied().unwrap_or(0);
            record.place(ReplicaRecord {
                id,
                slot,
                generation: record.target(slot),
                node,
                want: Want::Run,
                attempt,
                moving: false,
                done: None,
            });
        }
        record.retire_these(&replaced);
        if self.host_came {
            self.forget_refusal();
        }
        draft.record = Some(record);
        self.commit(draft, effects);
    }

    /// With `order: auto`, a rollout stops old replicas first from now on where no host has room for two of
    /// `slots`. These are to be started again: first their hosts make the new ones ready.
    fn stop_first_where_it_must(&mut self, slots: &[Slot], record: &mut ServiceRecord) {
        // What is on its way out soon gives its room back.
        let goes = |r: &ReplicaRecord| {
            r.want == Want::Remove && self.observed.condition(&r.node).standing == Standing::Ready
        };
        let waits = record.replicas.of_all(record.replicas.others()).any(goes);
        if slots.is_empty() || waits || record.spec.update.order != Order::Auto || record.stops_first() {
            return;
        }
        let Some(rollout) = &mut record.rollout else { return };
        rollout.stops_first = true;
        if rollout.from.is_some() {
            rollout.started_slots = rollout.started_slots.without(&slots.iter().copied().collect());
        }
        self.forget_refusal();
    }

    /// Hosts are to make something ready of what is rolled out.
    pub(super) fn prepare(&mut self, record: &mut ServiceRecord, hosts: Vec<(Slot, NodeName)>) {
        for (slot, node) in hosts {
            let (id, generation) = (self.new_id(record), record.generation);
            let made = ReplicaRecord {
                id,
                slot,
                generation,
                node,
                want: Want::Prepare,
                attempt: 0,
                moving: false,
                done: None,
            };
            record.place(made);
        }
    }

    /// The scheduler has chosen what moves where, or that all is balanced.
    fn moved(
        &mut self,
        moved: Option<(Slot, NodeName)>,
        record: &mut ServiceRecord,
        draft: &mut Draft,
        effects: &mut Vec<Effect>,
    ) {
        let (Some((slot, to)), Some(id)) = (moved, draft.mover.take()) else {
            record.rebalancing = None;
            return;
        };
        let good = |r: &ReplicaRecord| {
            r.slot == slot && r.want == Want::Run && self.observed.class(record, r) == ReplicaClass::Ready
        };
        let original =
            record.replicas.of(slot).iter().find(|replica| good(replica)).map(|r| (slot, r.id.clone()));
        let there = self.observed.condition(&to).takes_replicas() && !self.forgotten.contains(&to);
        let (Some(original), Some(per_minute), true) = (original, record.moves_per_minute(), there) else {
            // It fares otherwise since it was asked for.
            self.pace.due = true;
            return effects.push(Effect::Load(vec![LoadChange::Release(id, to)]));
        };
        self.pace.moves(self.observed.now(), per_minute);
        let generation = record.target(slot);
        draft.reserved.push(LoadChange::Release(id.clone(), to.clone()));
        record.replicas.change_these(&[original], |replica| replica.moving = true);
        record.place(ReplicaRecord {
            id,
            slot,
            generation,
            node: to,
            want: Want::Run,
            attempt: 0,
            moving: false,
            done: None,
        });
    }

    /// What is asked of the scheduler for `draft`.
    pub(super) fn placement_request(
        &mut self,
        draft: &mut Draft,
        place: Vec<Place>,
        candidates: Vec<(Slot, NodeName)>,
        give_up: usize,
    ) -> PlacementRequest {
        let Some(record) = draft.record.take() else { return PlacementRequest::default() };
        let mut failed = self.failed(&record);
        let mut demands = Vec::with_capacity(place.len());
        let mut required: BTreeMap<Generation, Requirements> = BTreeMap::new();
        for place in place {
            let slot = place.slot;
            let replica = self.new_id(&record);
            draft.ids.insert(slot, replica.clone());
            let generation = record.target(slot);
            let of_template = || Requirements::from(&**record.template(generation));
            let requires = required.entry(generation).or_insert_with(of_template);
            demands.push(Demand {
                bound_node: self.observed.bound_node(&record, slot).cloned(),
                replaces: failed.remove(&slot).unwrap_or_default(),
                beside: beside(&record, slot),
                requires: requires.clone(),
                place,
                replica,
            });
        }
        let placement = Arc::new(record.spec.placement.clone());
        // Of what is settled only what is outdated is to go.
        let settled = self.observed.settled_in(&record);
        let stays = settled.current.with(&settled.coming().without(&settled.doubled));
        let replaced =
            demands.iter().flat_map(|demand| &demand.replaces).map(|claim| &claim.replica).collect();
        let mut leaving = leaving(&record, &record.replicas.filled().without(&stays), &replaced);
        // The scheduler counts what the draft retires until that is durable.
        let counts = |gone: &ReplicaRecord| {
            let mut durable = self.record.iter().flat_map(|durable| durable.replicas.of(gone.slot));
            durable.any(|durable| durable.id == gone.id && durable.want == Want::Run)
        };
        let retired = record.replicas.of_all(record.replicas.others()).filter(|r| r.want == Want::Remove);
        for gone in retired.filter(|gone| !replaced.contains(&gone.id) && counts(gone)) {
            *leaving.entry(gone.node.clone()).or_default() += 1;
        }
        draft.record = Some(record);
        PlacementRequest { placement, place: demands, candidates, give_up, mover: None, leaving }
    }

    /// Which of `candidates` is to move, if one is.
    pub(super) fn move_request(
        &mut self,
        draft: &mut Draft,
        candidates: Vec<(Slot, NodeName)>,
    ) -> PlacementRequest {
        let Some(record) = draft.record.take() else { return PlacementRequest::default() };
        let replica = self.new_id(&record);
        draft.mover = Some(replica.clone());
        let mover = Some(Mover { replica, requires: Requirements::from(&*record.spec.template) });
        let placement = Arc::new(record.spec.placement.clone());
        draft.record = Some(record);
        PlacementRequest { placement, candidates, mover, ..PlacementRequest::default() }
    }

    /// What failed, by slot, and what it claims.
    fn failed(&self, record: &ServiceRecord) -> BTreeMap<Slot, Vec<Claim>> {
        let mut failed: BTreeMap<Slot, Vec<Claim>> = BTreeMap::new();
        for (slot, replicas) in slots(record, &self.observed).open {
            for (replica, _) in replicas.iter().filter(|(_, class)| *class == ReplicaClass::Failed) {
                failed.entry(slot).or_default().push(record.claim(replica));
            }
        }
        failed
    }
}

/// How many replicas each host is to lose once everything runs the generation that is wanted, beside those
/// that are replaced now.
fn leaving(
    record: &ServiceRecord,
    slots: &SlotSet,
    replaced: &BTreeSet<&ReplicaId>,
) -> BTreeMap<NodeName, u32> {
    let mut leaving: BTreeMap<&NodeName, u32> = BTreeMap::new();
    let goes = |r: &&ReplicaRecord| {
        r.want == Want::Run && (r.generation != record.generation || r.moving) && !replaced.contains(&r.id)
    };
    for replica in record.replicas.of_all(slots).filter(goes) {
        *leaving.entry(&replica.node).or_default() += 1;
    }
    leaving.into_iter().map(|(node, count)| (node.clone(), count)).collect()
}

/// What the replicas of other generations in `slot` claim, while a rollout could stop them first.
fn beside(record: &ServiceRecord, slot: Slot) -> Vec<Claim> {
    let old = |r: &&ReplicaRecord| r.want == Want::Run && r.generation != record.target(slot);
    let rolls_out = record.rollout.is_some();
    let of_slot = record.replicas.of(slot).iter();
    of_slot.filter(|replica| rolls_out && old(replica)).map(|replica| record.claim(replica)).collect()
}
