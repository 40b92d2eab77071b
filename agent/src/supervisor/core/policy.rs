//! Containers that the host's policy, or the agent's version, does not allow.

use shef_common::{clock::Now, ids::ReplicaId, policy::Policy};

use super::Core;
use crate::supervisor::replica::{Replica, Step};

impl Core {
    /// The host's policy from here on. What runs stays as it is.
    #[must_use]
    pub fn under(mut self, policy: Option<Policy>) -> Self {
        self.policy = policy;
        self
    }

    /// A replica whose container may not be made has failed. Returns whether it does.
    pub(super) fn refuses_to_make(&mut self, id: &ReplicaId, now: Now) -> bool {
        let Some(replica) = self.replicas.get(id) else { return false };
        if replica.next() != Some(Step::Create) {
            return false;
        }
        let Some(why) = self.why_not_to_make(replica) else { return false };
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.fail(why, now);
        }
        true
    }

    fn why_not_to_make(&self, replica: &Replica) -> Option<String> {
        let template = &replica.order.assignment()?.template;
        if let Some(newer) = &template.not_understood {
            return Some(format!(
                "this host's agent is of an older version and does not understand {}: upgrade it",
                newer.fields
            ));
        }
        // Masters check what users give them; an order may come from elsewhere. What runs already runs on.
        if let Some(violation) = template.violation() {
            return Some(format!("this host's agent refuses its spec: {violation}"));
        }
        let policy = self.policy.as_ref()?;
        let demands = template.demands();
        let refused = policy.refuses(&demands).and_then(|demand| policy.refusal(demand));
        refused
            .or_else(|| self.has_no_room(policy, template.resources.limit.memory_bytes))
            .map(|why| why.to_string())
    }

    /// Counts what is made already, whatever it was made for.
    fn has_no_room(&self, policy: &Policy, limit_bytes: u64) -> Option<shef_common::policy::Refusal> {
        if policy.max_replicas == 0 && policy.max_memory_bytes == 0 {
            return None;
        }
        let limits =
            self.replicas.values().filter(|replica| replica.has_or_makes_container()).map(|replica| {
                let assignment = replica.order.assignment();
                assignment.map_or(0, |assignment| assignment.template.resources.limit.memory_bytes)
            });
        let (replicas, bytes) = limits.fold((0, 0_u64), |(n, all), limit| (n + 1, all.saturating_add(limit)));
        policy.has_no_room(replicas, bytes, limit_bytes)
    }
}
