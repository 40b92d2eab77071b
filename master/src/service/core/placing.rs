//! What the scheduler's choice makes of a draft.

use shef_common::ids::{NodeName, ReplicaId, Slot};

use super::{AWAITED_PATIENCE, Draft, ServiceCore, Step};
use crate::{
    scheduler::{Refusal, Scheduled},
    service::{
        events::{Effect, Ticket},
        knowledge::Fare,
        rebalance,
        record::{ReplicaRecord, ServiceRecord, Want},
        request::{Refused, Request},
    },
};

impl ServiceCore {
    /// The scheduler has answered.
    pub(super) fn scheduled(&mut self, scheduled: Scheduled, effects: &mut Vec<Effect>) {
        let Step::Scheduling(mut draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        let Some(mut record) = draft.record.take() else { return };
        self.no_host = scheduled.placement.refused;
        if let Some(request) = draft.needs_host.take() {
            if let Some(refusal) = self.no_host.take() {
                let nodes = scheduled.placement.chosen.into_iter().map(|(_, node)| node).collect();
                effects.push(Effect::Vacate(nodes));
                return self.without_host(refusal, request, effects);
            }
            self.awaits_hosts_until = None;
        }
        if draft.rebalances {
            self.moved(scheduled.moved, &mut record, &mut draft, effects);
        }
        record.retire(|replica| scheduled.give_up.contains(&replica.slot));
        for (slot, node) in scheduled.placement.chosen {
            // Forgotten since: the scheduler has forgotten what it has just counted there.
            if self.forgotten.contains(&node) && !draft.forgets.contains(&node) {
                continue;
            }
            if scheduled.give_up.contains(&slot) {
                effects.push(Effect::Vacate(vec![node]));
                continue;
            }
            let failed: Vec<ReplicaId> = record
                .wanted()
                .filter(|replica| replica.slot == slot && self.know.fare(&record, replica) == Fare::Failed)
                .map(|replica| replica.id.clone())
                .collect();
            record.retire(|replica| failed.contains(&replica.id));
            let id = self.new_id(&record);
            draft.reserved.push(node.clone());
            let attempt = draft.attempts.get(&slot).copied().unwrap_or(0);
            record.replicas.push(ReplicaRecord {
                id,
                slot,
                generation: record.target(slot),
                node,
                want: Want::Run,
                attempt,
                moving: false,
            });
        }
        if self.host_came {
            self.no_host = None;
        }
        draft.record = Some(record);
        self.commit(draft, effects);
    }

    /// There is no host for a request that needs one: it is refused, unless
    /// hosts are awaited that may call in a moment.
    fn without_host(&mut self, refusal: Refusal, (ticket, request): (Ticket, Request), effects: &mut Vec<Effect>) {
        let until = *self.awaits_hosts_until.get_or_insert(self.know.now() + AWAITED_PATIENCE);
        if refusal.awaited && self.know.now() < until {
            self.waiting.push_front((ticket, request));
        } else {
            self.awaits_hosts_until = None;
            effects.push(Effect::Reply(ticket, Err(Refused::NoHost(refusal.reason))));
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
        let Some((slot, to)) = moved else {
            record.rebalancing = None;
            return;
        };
        let good = |r: &ReplicaRecord| r.slot == slot && r.want == Want::Run && self.know.fare(record, r) == Fare::Good;
        let original = record.replicas.iter().position(good);
        let there = self.know.condition(&to).takes_replicas() && !self.forgotten.contains(&to);
        let (Some(original), Some(per_minute), true) = (original, rebalance::rate(record), there) else {
            // It fares otherwise since it was asked for.
            self.pace.due = true;
            return effects.push(Effect::Vacate(vec![to]));
        };
        self.pace.moves(self.know.now(), per_minute);
        let id = self.new_id(record);
        let generation = record.target(slot);
        draft.reserved.push(to.clone());
        record.replicas[original].moving = true;
        record.replicas.push(ReplicaRecord { id, slot, generation, node: to, want: Want::Run, attempt: 0, moving: false });
    }

    /// Six digits that no replica of the record has; xorshift64* over the seed.
    fn new_id(&mut self, record: &ServiceRecord) -> ReplicaId {
        loop {
            self.random ^= self.random >> 12;
            self.random ^= self.random << 25;
            self.random ^= self.random >> 27;
            self.random = self.random.max(1);
            let digits = (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as u32;
            let id = ReplicaId::new(&self.name, digits);
            if record.replicas.iter().all(|replica| replica.id != id) {
                return id;
            }
        }
    }
}
