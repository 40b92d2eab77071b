//! A record in the making: what users asked for and hosts confirmed, applied to what is durable.

use std::collections::BTreeSet;

use shef_common::{
    clock::Now,
    ids::{NodeName, ReplicaId, Version},
    protocol::Assignment,
};

use super::{Draft, ServiceCore};
use crate::{
    scheduler::LoadChange,
    service::{
        bindings,
        conflict::Conflict,
        events::Effect,
        observations::ReplicaClass,
        record::{ReplicaRecord, ServiceRecord, Want},
        request::{Accepted, Applied, Refused, Request},
        rollout::{self, Terms},
        slot_set::SlotSet,
    },
};

impl ServiceCore {
    /// The durable record with what users asked for and hosts confirmed applied.
    pub(super) fn draft(&mut self, now: Now, effects: &mut Vec<Effect>) -> Draft {
        let mut draft =
            Draft { record: self.record.clone(), forgets: self.forgotten.clone(), ..Draft::default() };
        let next_version = self.version().map_or(Version(1), Version::next);
        let mut version = self.version().unwrap_or_default();
        while let Some((_, request)) = self.waiting.front() {
            // A service that was never stored cannot be deleted: its creation must be durable first.
            let unborn = self.record.as_ref().is_none_or(|record| record.deleted)
                && matches!(request, Request::Delete { .. });
            if unborn && !draft.answers.is_empty() {
                break;
            }
            let Some((ticket, request)) = self.waiting.pop_front() else { break };
            let was_live = draft.record.as_ref().is_some_and(|record| !record.deleted);
            match self.apply(&request, &mut draft.record, version, now) {
                Err(refused) => effects.push(Effect::Reply(ticket, Err(refused))),
                Ok(applied) => {
                    if applied != Applied::Unchanged {
                        version = next_version;
                    }
                    let is_live = draft.record.as_ref().is_some_and(|record| !record.deleted);
                    draft.tally.services_created += u64::from(is_live && !was_live);
                    draft.tally.services_deleted += u64::from(was_live && !is_live);
                    let generation =
                        draft.record.as_ref().map(|record| record.generation).unwrap_or_default();
                    draft.answers.push((ticket, Accepted { generation, version, applied }));
                }
            }
        }
        let on_disconnect = |record: &Option<ServiceRecord>| record.as_ref().map(|r| r.spec.on_disconnect);
        if on_disconnect(&self.record) != on_disconnect(&draft.record) {
            // Before anything is planned by it.
            self.observed.on_disconnect_changed();
        }
        if let Some(record) = &mut draft.record {
            let gone = |replica: &ReplicaRecord| self.confirmed_gone.contains(&replica.id);
            let slots: SlotSet = self.confirmed_gone.iter().filter_map(|id| self.places.slot(id)).collect();
            // One that was never seen running is no container that was deleted.
            let deleted = |replica: &&ReplicaRecord| {
                replica.want == Want::Remove
                    && gone(replica)
                    && !self.observed.newly_placed.contains(&replica.id)
            };
            draft.tally.containers_deleted = record.replicas.of_all(&slots).filter(deleted).count() as u64;
            // Their hosts have reported that they hold nothing there any more, so this holds whether or not
            // the record is committed.
            let released = record
                .replicas
                .of_all(&slots)
                .filter(|replica| replica.want == Want::Remove && gone(replica));
            let released: Vec<_> =
                released.map(|r| LoadChange::Release(r.id.clone(), r.node.clone())).collect();
            if !released.is_empty() {
                effects.push(Effect::Load(released));
            }
            for (generation, digest) in &self.resolved {
                if record.lacks_digest(*generation) {
                    record.digests.insert(*generation, digest.clone());
                }
            }
            self.observed.settle_draft(record);
            let is_done = |r: &ReplicaRecord| r.done.is_none() && self.observed.done_since(r).is_some();
            let open = self.observed.open_slots(record);
            record.replicas.change_in(&open, is_done, |r| r.done = self.observed.done_since(r));
            record.drop_confirmed(&slots, gone);
            record.forget_hosts(&draft.forgets);
        }
        draft
    }

    /// Applies `request` to `record`, which has `version`. A refusal changes nothing.
    pub(super) fn apply(
        &self,
        request: &Request,
        record: &mut Option<ServiceRecord>,
        version: Version,
        now: Now,
    ) -> Result<Applied, Refused> {
        let terms = Terms { good: self.is_good(), history_limit: self.history_limit };
        let generation = record.as_ref().filter(|record| !record.deleted).map(|record| record.generation);
        if let (Request::Release { slot, .. }, Some(record)) =
            (request, record.as_ref().filter(|record| !record.deleted))
        {
            bindings::may_be_released(record, *slot, &self.observed)?;
        }
        if let (Request::Import { node, holds } | Request::MayImport { node, holds }, Some(record)) =
            (request, record.as_ref())
        {
            self.may_be_imported(record, node, holds).map_err(Refused::Conflict)?;
        }
        let before = record.clone();
        let applied = request.apply(record, version, now.wall, terms)?;
        let is_update =
            |record: &&ServiceRecord| generation.is_some_and(|generation| generation != record.generation);
        if let Some(error) =
            record.as_ref().filter(is_update).and_then(|record| rollout::impediment(record, &self.observed))
        {
            *record = before;
            return Err(Refused::Invalid(vec![error]));
        }
        Ok(applied)
    }

    /// Refuses what the record has on another member: the host is that member under another name, or a copy
    /// of it.
    fn may_be_imported(
        &self,
        record: &ServiceRecord,
        node: &NodeName,
        holds: &[Assignment],
    ) -> Result<(), Conflict> {
        let is_member =
            |node: &NodeName| self.observed.hosts().contains_key(node) && !self.forgotten.contains(node);
        let ids: BTreeSet<&ReplicaId> = holds.iter().map(|held| &held.replica).collect();
        let elsewhere = |r: &&ReplicaRecord| ids.contains(&r.id) && r.node != *node && is_member(&r.node);
        let Some(ReplicaRecord { id, node: recorded, .. }) = record.replicas.iter().find(elsewhere) else {
            return Ok(());
        };
        Err(Conflict::HeldElsewhere { recorded: recorded.clone(), node: node.clone(), replica: id.clone() })
    }

    /// Whether the generation that is wanted is worth going back to: it runs
    /// somewhere, or may, for all that is known.
    pub(super) fn is_good(&self) -> bool {
        let Some(record) = &self.record else { return false };
        let may_run = |replica: &ReplicaRecord| match self.observed.class(record, replica) {
            ReplicaClass::Ready | ReplicaClass::OnTrial | ReplicaClass::Lost => true,
            ReplicaClass::Migrating => self.observed.runs(replica),
            ReplicaClass::Starting => {
                !self.observed.has_status(replica) && !self.observed.newly_placed.contains(&replica.id)
            }
            ReplicaClass::Failed | ReplicaClass::Outdated | ReplicaClass::Unreachable => false,
        };
        let settled = self.observed.settled_in(record);
        let open = record.replicas.filled().without(&settled.current);
        let is_wanted = |r: &&ReplicaRecord| r.want == Want::Run && r.generation == record.generation;
        !settled.current.is_empty()
            || !settled.on_trial.is_empty()
            || record.replicas.of_all(&open).filter(is_wanted).any(may_run)
    }
}
