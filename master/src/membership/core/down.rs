//! Which hosts are called down: first all others are asked for a sign of life, so that the brake knows how
//! many are lost together.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{clock::Now, ids::NodeName};

use super::{Host, MembershipCore};
use crate::membership::{
    Standing, confirmation::Confirmation, events::Effect, liveness::Patience, ports::PortWatch,
};

impl MembershipCore {
    /// Calls down the hosts that are lost, once it is known how many others may be lost with them.
    pub(super) fn call_down(&mut self, patience: Patience, now: Now) {
        let lost: Vec<NodeName> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.liveness.is_lost(patience, now.mono) || self.is_unanswered(host, now))
            .map(|(node, _)| node.clone())
            .collect();
        if lost.is_empty() {
            self.confirmation = None;
            return;
        }
        if self.confirmation.is_none() {
            self.begin_confirmation(patience, now);
        }
        if !self.is_confirmed(now) {
            return;
        }
        let silent = self.may_follow();
        self.confirmation = None;
        for node in lost {
            let unanswered = self.hosts.get(&node).is_some_and(|host| self.is_unanswered(host, now));
            self.brake.goes_down(&node, &silent, self.hosts.len(), self.together(), now);
            if let Some(host) = self.hosts.get_mut(&node) {
                host.unanswered = unanswered;
                host.liveness.goes_down(now.mono);
                host.flapping.went_down(now.mono);
            }
        }
    }

    /// Every host that reports is to be asked, if the brake could come on at all.
    fn begin_confirmation(&mut self, patience: Patience, now: Now) {
        let (all, window) = (self.hosts.len(), self.together());
        let may_brake = self.brake.is_too_much(all, all);
        let went_down = |node: &NodeName| self.brake.went_down_within(window, node, now);
        let is_in_doubt = |node: &NodeName, host: &Host| host.liveness.is_doubted() || went_down(node);
        let in_doubt = self.hosts.iter().filter(|(node, host)| is_in_doubt(node, host)).count();
        let asked: BTreeMap<&NodeName, &Host> = self
            .hosts
            .iter()
            .filter(|(node, host)| may_brake && host.liveness.reports() && !went_down(node))
            .collect();
        let longest =
            asked.values().map(|host| host.liveness.probe_limit(patience)).max().unwrap_or_default();
        // Where hosts are many, some wait for their turn.
        let until = now.mono + longest + patience.window;
        let asked = asked.into_keys().cloned().collect();
        self.rounds += 1;
        self.confirmation = Some(Confirmation::new(self.rounds, asked, in_doubt, until));
    }

    /// Whether so many hosts have shown a sign of life that the brake does not come on, or no answer is
    /// awaited any more. While the brake is on, all answers are awaited: silent hosts are among those that it
    /// concerns.
    pub(super) fn is_confirmed(&self, now: Now) -> bool {
        let Some(asks) = &self.confirmation else { return false };
        let few = !self.brake.is_too_much(asks.at_most(), self.hosts.len());
        asks.is_over(now.mono) || few && !self.brake.is_on()
    }

    /// Hosts that may be about to go down: those in doubt, and those that have shown no sign of life since
    /// they were asked.
    fn may_follow(&self) -> BTreeSet<NodeName> {
        let doubted = self.hosts.iter().filter(|(_, host)| host.liveness.is_doubted());
        let silent = self.confirmation.iter().flat_map(Confirmation::silent);
        doubted.map(|(node, _)| node).chain(silent).cloned().collect()
    }

    /// Asks for signs of life, as far as the bound of probes under way allows.
    pub(super) fn ask_for_signs(&mut self, patience: Patience, effects: &mut Vec<Effect>) {
        while !self.is_full() {
            let Some(asks) = &mut self.confirmation else { return };
            let Some(node) = asks.ask_next() else { return };
            let round = asks.round();
            let Some(host) = self.hosts.get(&node) else { continue };
            let (agent_url, limit) = (host.agent_url.clone(), host.liveness.probe_limit(patience));
            self.probes += 1;
            effects.push(Effect::Probe { node, agent_url, via: None, limit, round });
        }
    }

    /// Whether a host that is there counts as down: its agent is gone, and so is everything that it
    /// published.
    fn is_unanswered(&self, host: &Host, now: Now) -> bool {
        let closed = |ports: &PortWatch| ports.are_closed(self.settings.unanswered_down_after, now.mono);
        host.liveness.standing() == Standing::AgentDown && host.ports.as_ref().is_some_and(closed)
    }
}
