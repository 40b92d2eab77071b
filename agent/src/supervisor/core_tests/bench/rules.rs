//! What must hold after every event, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{ids::ReplicaId, labels, status::ReplicaState};

use super::{BOUND, Bench, End, Pending, assignment, cluster};
use crate::{
    engine::{Container, ContainerState, Listing, fake::listed},
    supervisor::core::*,
};

impl Bench {
    pub fn check_operation(&self, replica: &ReplicaId, operation: &Operation) {
        let (id, ending) = match operation {
            Operation::Create(_) => {
                assert!(self.disk.assignments.contains_key(replica), "created without a durable order");
                return;
            }
            Operation::Inspect { .. } | Operation::SetPolicy { .. } => return,
            Operation::Start { id, .. } => (id, false),
            Operation::Stop { id, .. } | Operation::Remove(id) => (id, true),
        };
        assert!(!id.starts_with("foreign"), "touches what is not ours");
        if ending && !self.rests.contains(replica) {
            assert!(self.disk.removals.contains_key(replica), "ends {replica} without a durable order");
            assert!(!self.is_new || self.named.contains(replica), "ends {replica}, which nobody has named");
        }
    }

    pub fn check_invariants(&self) {
        let runs = |wanted: fn(&Operation) -> bool| {
            self.pending
                .iter()
                .filter(|p| matches!(p, Pending::Run(_, operation) if wanted(operation)))
                .count()
        };
        assert!(runs(|o| !matches!(o, Operation::Stop { .. })) <= BOUND, "the bound holds");
        let mut in_progress = BTreeSet::new();
        for pending in &self.pending {
            if let Pending::Run(replica, _) = pending {
                assert!(in_progress.insert(replica.clone()), "two operations at once for {replica}");
            }
        }
        assert!(self.pending.iter().filter(|p| matches!(p, Pending::Pull(_))).count() <= 1);
        for name in self.containers.keys().filter(|name| name.starts_with("foreign")) {
            assert_eq!(self.containers[name], Self::foreign(name));
        }
    }

    pub fn containers_of_ours(&self) -> Vec<Container> {
        self.containers.values().map(listed).collect()
    }

    /// The containers of the cluster by name, whatever their names are now.
    pub fn ours(&self) -> BTreeMap<&str, ContainerState> {
        let ours = self.containers.values().filter(|c| labels::are_ours(&cluster(), &c.labels));
        ours.map(|c| (c.name.as_str(), c.state)).collect()
    }

    /// The containers of the cluster by replica.
    fn by_replica(&self) -> Vec<(String, ContainerState)> {
        let ours = self.containers.values().filter(|c| labels::are_ours(&cluster(), &c.labels));
        let mut all: Vec<_> = ours
            .map(|c| {
                (
                    c.assignment(&cluster()).map_or_else(|| c.name.clone(), |of| of.replica.to_string()),
                    c.state,
                )
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The running containers are the desired ones, and a further list leads to no operation.
    pub fn assert_as_desired(&mut self) {
        let wanted: Vec<(String, ContainerState)> = self
            .desired
            .iter()
            .map(|&n| (assignment(n).replica.to_string(), ContainerState::Running))
            .collect();
        let have = self.by_replica();
        let failed: BTreeSet<_> = self
            .reported
            .statuses
            .values()
            .filter(|s| s.state == ReplicaState::Failed)
            .map(|s| &s.replica)
            .collect();
        assert!(failed.is_empty(), "failed: {failed:?}");
        assert_eq!(have, wanted);
        let needed: BTreeSet<String> = self
            .desired
            .iter()
            .flat_map(|&n| assignment(n).template.networks.clone())
            .map(|of| of.name)
            .collect();
        assert_eq!(
            *self.networks.names(),
            needed,
            "networks are there as long as they are needed, and no longer"
        );
        assert_eq!(self.disk.assignments.len(), self.desired.len());
        while !self.pending.is_empty() {
            self.finish(0, End::Well);
        }
        self.feed(Event::Listed(Ok(Listing { containers: self.containers_of_ours(), complete: true })));
        assert!(
            !self.pending.iter().any(|p| matches!(p, Pending::Run(..))),
            "a second plan is empty: {:?}",
            self.pending
        );
    }
}
