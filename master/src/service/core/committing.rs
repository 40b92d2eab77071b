//! From a draft to a durable record, and what is then sent to users and hosts.

use shef_common::ids::Version;

use super::{Draft, STORE_RETRY, ServiceCore, Step};
use crate::service::{
    bound::Bindings,
    events::{Effect, Tally},
    record::{Changes, ServiceRecord, changes},
    replicas::Replicas,
    request::Refused,
    stored, volumes,
};

impl Draft {
    /// What is stored of it. Nothing to run, nothing to confirm: the tombstone goes too.
    fn kept(&self) -> Option<&ServiceRecord> {
        self.record.as_ref().filter(|record| !(record.deleted && record.replicas.is_empty()))
    }
}

impl ServiceCore {
    /// How often the service was committed.
    pub(super) fn version(&self) -> Option<Version> {
        self.versions.of_head()
    }

    /// The record that is on its way to the store, if one is; `Some(None)`: nothing of the service is to be
    /// left.
    #[must_use]
    pub fn committing(&self) -> Option<Option<&ServiceRecord>> {
        match &self.step {
            Step::Committing(draft) => Some(draft.kept()),
            Step::Idle | Step::Retired | Step::Scheduling(_) => None,
        }
    }

    /// It is stored as a format before had it.
    pub(super) fn is_to_be_rewritten(&self) -> bool {
        self.versions.are_of_format_1() && !self.is_dry_run
    }

    pub(super) fn commit(&mut self, mut draft: Draft, effects: &mut Vec<Effect>) {
        if draft.record == self.record && !self.is_to_be_rewritten() {
            self.forgotten.retain(|node| !draft.forgets.contains(node));
            self.keep_resolved();
            effects.extend(
                draft.answers.into_iter().map(|(ticket, accepted)| Effect::Reply(ticket, Ok(accepted))),
            );
            return;
        }
        let writes = if self.is_dry_run {
            Ok(Vec::new())
        } else {
            stored::writes(&self.name, self.record.as_ref(), draft.kept(), &self.versions)
        };
        match writes {
            Ok(writes) => {
                draft.writes.clone_from(&writes);
                effects.push(Effect::Commit(writes));
                self.step = Step::Committing(draft);
            }
            Err(error) => {
                let why = format!("the service cannot be written: {error}");
                self.step = Step::Committing(draft);
                self.commit_failed(&Refused::Store(why), effects);
            }
        }
    }

    pub(super) fn committed(&mut self, effects: &mut Vec<Effect>) {
        let Step::Committing(draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        let record = draft.kept().cloned();
        let mut changes = changes(self.record.as_ref(), record.as_ref());
        self.forgotten.retain(|node| !draft.forgets.contains(node));
        // The scheduler has forgotten them too, and no earlier event is to reach them.
        changes.load.retain(|change| {
            !draft.forgets.contains(change.node()) && !self.forgotten.contains(change.node())
        });
        changes.orders.retain(|node, _| !self.forgotten.contains(node));
        self.versions.advance(&draft.writes);
        let (none, unbound) = (Replicas::default(), Bindings::default());
        let old =
            self.record.as_ref().map_or((&none, &unbound), |record| (&record.replicas, &record.bindings));
        let new = record.as_ref().map_or((&none, &unbound), |record| (&record.replicas, &record.bindings));
        self.places.follow(old, new);
        for id in old.0.differing(new.0).0.into_iter().map(|replica| &replica.id) {
            if self.places.slot(id).is_none() {
                self.observed.forget(id);
            }
        }
        self.confirmed_gone.retain(|id| self.places.slot(id).is_some());
        self.record = record;
        self.hosts_due = true;
        self.keep_resolved();
        self.observed.placed(changes.placed.iter());
        if self.record.as_ref().is_none_or(|record| record.rollout.is_none()) {
            self.observed.retry_slot_at.clear();
        }
        self.pace.due |= self.record.as_ref().is_some_and(|record| record.moves_per_minute().is_some());
        self.publish_data_nodes(effects);
        effects
            .extend(draft.answers.into_iter().map(|(ticket, accepted)| Effect::Reply(ticket, Ok(accepted))));
        if draft.tally != Tally::default() {
            effects.push(Effect::Count(draft.tally));
        }
        orders(changes, effects);
    }

    /// Tells the cluster where the service has data, if that is somewhere else than it was.
    pub(super) fn publish_data_nodes(&mut self, effects: &mut Vec<Effect>) {
        let record = self.record.as_ref();
        let data_on = record.map(|record| volumes::hosts_with_data(record, &self.places)).unwrap_or_default();
        if !data_on.iter().copied().eq(&self.data_on) {
            self.data_on = data_on.into_iter().cloned().collect();
            effects.push(Effect::KeepsData(self.data_on.clone()));
        }
    }

    /// Drops what the record says by now, or has no use for.
    fn keep_resolved(&mut self) {
        let record = self.record.as_ref();
        self.resolved.retain(|generation, _| record.is_some_and(|record| record.lacks_digest(*generation)));
    }

    pub(super) fn commit_failed(&mut self, refused: &Refused, effects: &mut Vec<Effect>) {
        let Step::Committing(draft) = std::mem::replace(&mut self.step, Step::Idle) else { return };
        effects.extend(draft.answers.iter().map(|(ticket, _)| Effect::Reply(*ticket, Err(refused.clone()))));
        if !draft.reserved.is_empty() {
            effects.push(Effect::Load(draft.reserved));
        }
        self.store_retry_at = Some(self.observed.now() + STORE_RETRY);
        self.pace.due |= self.record.as_ref().is_some_and(|record| record.moves_per_minute().is_some());
    }
}

pub(super) fn orders(changes: Changes, effects: &mut Vec<Effect>) {
    if !changes.load.is_empty() {
        effects.push(Effect::Load(changes.load));
    }
    for (node, (set, remove)) in changes.orders {
        effects.push(Effect::Order { node, set, remove });
    }
}
