//! Rounds of probes: of suspects, and of the published ports of hosts without an agent.

use std::hash::Hasher as _;

use fnv::FnvHasher;
use shef_common::{
    clock::{MonoMs, Now},
    ids::NodeName,
};

use super::{HELPERS, Host, MAX_PROBES, MembershipCore};
use crate::membership::{
    Standing,
    events::{Effect, Helper},
    liveness::Patience,
    ports::PORTS_LIMIT,
};

impl MembershipCore {
    /// Begins rounds of probes that are due, the longest waiting first, as far as
    /// the bound of probes under way allows.
    pub(super) fn begin_rounds(&mut self, patience: Patience, now: Now, effects: &mut Vec<Effect>) {
        let mut due: Vec<(MonoMs, NodeName)> = self
            .hosts
            .iter()
            .filter_map(|(node, host)| Some((host.liveness.round_due(now.mono)?, node.clone())))
            .collect();
        if due.is_empty() {
            return;
        }
        due.sort_unstable();
        let all: Vec<Helper> = self.helpers();
        for (_, node) in due {
            if self.is_full() {
                return;
            }
            // No host is asked about itself.
            let others: Vec<&Helper> = all.iter().filter(|helper| helper.node != node).collect();
            let Some(host) = self.hosts.get_mut(&node) else { continue };
            let helpers = if host.liveness.is_doubted() { HELPERS.min(others.len()) } else { 0 };
            self.rounds += 1;
            let round = self.rounds;
            let limit = host.liveness.probe_limit(patience);
            host.liveness.round_begins(round, 1 + helpers, now.mono);
            self.probes += 1 + helpers;
            // Other hosts each round, evenly over all.
            let first = spread(&node, round) % others.len().max(1);
            let through = (0..helpers)
                .map(|n| Some(others[(first + n * others.len() / helpers) % others.len()].clone()));
            effects.extend(std::iter::once(None).chain(through).map(|via| Effect::Probe {
                node: node.clone(),
                agent_url: host.agent_url.clone(),
                via,
                limit,
                round,
            }));
        }
    }

    /// Begins rounds over the ports of hosts whose agents are gone, as far as the bound of probes allows.
    pub(super) fn begin_port_rounds(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = |host: &Host| host.ports.as_ref().is_some_and(|ports| ports.round_due(now.mono));
        let looked_at =
            |host: &Host| matches!(host.liveness.standing(), Standing::AgentDown | Standing::Ready);
        let nodes: Vec<NodeName> = self
            .hosts
            .iter()
            .filter(|(_, host)| looked_at(host) && due(host))
            .map(|(node, _)| node.clone())
            .collect();
        if nodes.is_empty() {
            return;
        }
        let ready = |node: &NodeName| {
            self.hosts.get(node).is_some_and(|host| host.liveness.standing() == Standing::Ready)
        };
        let all: Vec<Helper> = self.helpers().into_iter().filter(|helper| ready(&helper.node)).collect();
        for node in nodes {
            if self.is_full() {
                return;
            }
            self.rounds += 1;
            let round = self.rounds;
            let first = spread(&node, round) % all.len().max(1);
            let helpers = all.iter().cycle().skip(first).take(HELPERS.min(all.len())).cloned();
            let Some(ports) = self.hosts.get_mut(&node).and_then(|host| host.ports.as_mut()) else {
                continue;
            };
            let helpers = helpers.filter(|helper| ports.asks_others() && helper.node != node);
            let who: Vec<Option<Helper>> = std::iter::once(None).chain(helpers.map(Some)).collect();
            ports.round_begins(round, who.len() - 1, now.mono);
            self.probes += who.len();
            let addresses = ports.addresses().to_vec();
            effects.extend(who.into_iter().map(|via| {
                let (node, addresses) = (node.clone(), addresses.clone());
                Effect::ProbePorts { node, addresses, via, limit: PORTS_LIMIT, round }
            }));
        }
    }

    /// Hosts that can probe others: those that are ready; if they are few, others whose agents do their part
    /// too.
    fn helpers(&self) -> Vec<Helper> {
        let helper = |(node, host): (&NodeName, &Host)| Helper {
            node: node.clone(),
            agent_url: host.agent_url.clone(),
            probe_key: host.probe_key.clone(),
        };
        let is_ready = |host: &Host| host.liveness.standing() == Standing::Ready;
        let mut helpers: Vec<Helper> =
            self.hosts.iter().filter(|(_, host)| is_ready(host)).map(helper).collect();
        if helpers.len() < HELPERS {
            let mut others: Vec<_> = self
                .hosts
                .iter()
                .filter(|(_, host)| !is_ready(host))
                .filter_map(|entry| Some((entry.1.liveness.can_help()?, entry)))
                .collect();
            others.sort_by_key(|(helps, _)| *helps);
            let most = HELPERS + 1 - helpers.len();
            helpers.extend(others.into_iter().take(most).map(|(_, entry)| helper(entry)));
        }
        helpers
    }

    /// Whether another round of probes would exceed the bound.
    pub(super) const fn is_full(&self) -> bool {
        self.probes + 1 + HELPERS > MAX_PROBES
    }
}

/// A number for a host and a round: not a random one, so that the same run chooses the same helpers.
fn spread(node: &NodeName, round: u64) -> usize {
    let mut hash = FnvHasher::default();
    hash.write(node.as_str().as_bytes());
    hash.write(&round.to_le_bytes());
    usize::try_from(hash.finish() >> 32).unwrap_or_default()
}
