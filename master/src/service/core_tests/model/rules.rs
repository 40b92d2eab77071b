//! What must hold for every order and every commit of the model.

use std::collections::BTreeSet;

use shef_common::{
    ids::{NodeName, ReplicaId},
    protocol::Assignment,
};

use super::{Model, brief};
use crate::service::record::{ReplicaRecord, ServiceRecord, Want};

impl Model {
    pub(super) fn order(&mut self, node: &NodeName, set: &[Assignment], remove: &[ReplicaId]) {
        let record = self.durable.as_ref().map(|(_, record)| record);
        for assignment in set {
            let wanted =
                |r: &ReplicaRecord| (r.want == Want::Prepare) == assignment.prepare && r.want != Want::Remove;
            let ordered = |r: &ReplicaRecord| r.id == assignment.replica && r.node == *node && wanted(r);
            let durable = record.is_some_and(|record| {
                record
                    .replicas
                    .iter()
                    .any(|replica| ordered(replica) && record.assignment(replica) == *assignment)
            });
            assert!(durable, "{} is ordered on {node} before that is durable", assignment.replica);
        }
        for id in remove {
            let stays = |r: &ReplicaRecord| r.id == *id && r.want != Want::Remove;
            let wanted = record.is_some_and(|record| record.replicas.iter().any(stays));
            assert!(!wanted, "{id} is removed although it is wanted");
        }
        if self.unreachable.contains(node) {
            self.undelivered.entry(node.clone()).or_default().push((set.to_vec(), remove.to_vec()));
        } else {
            self.deliver(node, set, remove);
        }
    }

    /// At most a quarter is doubled at a time. What runs is retired only because fewer or other replicas are
    /// wanted, because another of its slot runs, or because a deadline has passed.
    pub(super) fn changes_only_what_may_change(&mut self, new: Option<&ServiceRecord>) {
        // An update ends with the surge that it began with.
        self.most_replicas = self.most_replicas.max(new.map_or(0, |new| new.spec.replicas));
        self.most_parallel = self.most_parallel.max(new.map_or(1, |new| new.spec.update.parallelism));
        self.most_surge = self.most_surge.max(new.map_or(0, |new| new.spec.update.surge(self.most_replicas)));
        let Some((_, old)) = &self.durable else { return };
        let Some(new) = new.filter(|new| !new.deleted && new.created == old.created && !old.deleted) else {
            return;
        };
        let slots = new.wanted().map(|replica| replica.slot).collect::<BTreeSet<_>>();
        let beside = |placed: &ReplicaRecord| {
            new.wanted().any(|other| {
                let stays = !self.away.contains(&other.node) && !self.given_up.contains(&other.node);
                other.id != placed.id && other.slot == placed.slot && stays && self.runs(&other.id)
            })
        };
        let placed = new.wanted().filter(|new| old.replicas.iter().all(|known| known.id != new.id));
        let (doubled, surge) = (
            placed.filter(|placed| beside(placed)).count(),
            self.most_replicas.div_ceil(4).max(self.most_surge),
        );
        assert!(
            doubled <= surge as usize,
            "{doubled} are placed beside one that runs: {} => {}",
            brief(old),
            brief(new)
        );
        let is_serving = |kept: &ReplicaRecord| self.runs(&kept.id) || self.away.contains(&kept.node);
        // A replica that was reported while it was up counted as ready when this was planned. Later reports
        // came too late.
        let seemed_well = |kept: &ReplicaRecord| self.reported_well.contains(&kept.id);
        let serving: BTreeSet<_> =
            new.wanted().filter(|kept| is_serving(kept)).map(|kept| kept.slot).collect();
        let is_stopped_first =
            |gone: &ReplicaRecord| new.stops_first() && gone.generation != new.target(gone.slot);
        let retired = old.wanted().filter(|old| new.wanted().all(|kept| kept.id != old.id));
        let emptied = retired.filter(|gone| is_stopped_first(gone)).map(|gone| gone.slot);
        let emptied: BTreeSet<_> =
            emptied.chain(self.unserved.iter().copied()).filter(|slot| !slots.contains(slot)).collect();
        let mut unserved = self.unserved.clone();
        unserved.retain(|slot| {
            !new.wanted().any(|kept| kept.slot == *slot && (is_serving(kept) || seemed_well(kept)))
                && slots.len() <= new.spec.replicas as usize
                && slot.0 < self.most_replicas
        });
        for gone in old.wanted().filter(|old| new.wanted().all(|kept| kept.id != old.id)) {
            let scaled_down =
                !slots.contains(&gone.slot) && slots.len() + emptied.len() >= new.spec.replicas as usize;
            let runs = |kept: &ReplicaRecord| {
                self.runs(&kept.id) || seemed_well(kept) || self.given_up.contains(&kept.node)
            };
            let replaced = new.wanted().any(|kept| kept.slot == gone.slot && runs(kept));
            let stopped_first = is_stopped_first(gone);
            if stopped_first && !replaced && !scaled_down && self.runs(&gone.id) {
                unserved.insert(gone.slot);
            }
            let released = self.released.contains(&gone.slot);
            let may_go =
                scaled_down || replaced || stopped_first || released || self.given_up.contains(&gone.node);
            assert!(
                may_go || !self.runs(&gone.id),
                "{} runs and is retired: {} => {}",
                gone.id,
                brief(old),
                brief(new)
            );
        }
        let parallel = self.most_parallel.max(self.most_replicas.div_ceil(4)) as usize;
        let missing = unserved.len().min((new.spec.replicas as usize).saturating_sub(serving.len()));
        assert!(missing <= parallel, "{unserved:?} serve nobody: {} => {}", brief(old), brief(new));
        self.unserved = unserved;
    }
}
