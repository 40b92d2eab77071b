//! Which hosts are called down.

use shef_common::{
    clock::{DurationMs, Now},
    ids::NodeName,
};

use super::{Host, MembershipCore, REPORT_JITTER};
use crate::membership::{Standing, liveness::Patience, ports::PortWatch};

impl MembershipCore {
    pub(super) fn call_down(&mut self, patience: Patience, now: Now) {
        let lost: Vec<NodeName> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.liveness.is_lost(patience, now.mono) || self.is_unanswered(host, now))
            .map(|(node, _)| node.clone())
            .collect();
        if lost.is_empty() {
            return;
        }
        let due_after = DurationMs(self.interval.0 + self.interval.0 / REPORT_JITTER);
        let may_follow = |host: &Host| host.liveness.may_go_down(due_after, now.mono);
        let silent: Vec<NodeName> =
            self.hosts.iter().filter(|(_, host)| may_follow(host)).map(|(node, _)| node.clone()).collect();
        for node in lost {
            let unanswered = self.hosts.get(&node).is_some_and(|host| self.is_unanswered(host, now));
            self.brake.goes_down(&node, silent.clone(), self.hosts.len(), self.together(), now);
            if let Some(host) = self.hosts.get_mut(&node) {
                host.unanswered = unanswered;
                host.liveness.goes_down();
                host.flapping.went_down(now.mono);
            }
        }
    }

    /// Whether a host that is there counts as down: its agent is gone, and so is everything that it
    /// published.
    fn is_unanswered(&self, host: &Host, now: Now) -> bool {
        let closed = |ports: &PortWatch| ports.are_closed(self.settings.unanswered_down_after, now.mono);
        host.liveness.standing() == Standing::AgentDown && host.ports.as_ref().is_some_and(closed)
    }
}
