//! Signs of life of all other hosts, before a host is called down.
//!
//! A host that was cut off a moment ago seems to be well until its next report is
//! missed. Whether many hosts are lost together is known only once each of them was
//! asked and has had time to answer.

use std::collections::BTreeSet;

use shef_common::{clock::MonoMs, ids::NodeName, protocol::ProbeOutcome};

/// All hosts that report are asked for a sign of life, once.
#[derive(Debug)]
pub struct Confirmation {
    round: u64,
    /// It is over then, whether or not all have answered.
    until: MonoMs,
    /// How many hosts may be lost, by what was known before hosts were asked.
    in_doubt: usize,
    /// Hosts that have shown no sign of life since it began.
    silent: BTreeSet<NodeName>,
    /// Those of them that are still to be asked.
    to_ask: BTreeSet<NodeName>,
    /// Those of them whose probes are under way.
    asked: BTreeSet<NodeName>,
}

impl Confirmation {
    /// Round `round` of probes: each of `hosts` is to be asked, beside `in_doubt` others.
    pub fn new(round: u64, hosts: BTreeSet<NodeName>, in_doubt: usize, until: MonoMs) -> Self {
        Self { round, until, in_doubt, silent: hosts.clone(), to_ask: hosts, asked: BTreeSet::new() }
    }

    /// The number of its probes.
    pub const fn round(&self) -> u64 {
        self.round
    }

    /// The next host to ask.
    pub fn ask_next(&mut self) -> Option<NodeName> {
        let node = self.to_ask.pop_first()?;
        self.asked.insert(node.clone());
        Some(node)
    }

    /// `node` was heard of, or is no member any more.
    pub fn counts_out(&mut self, node: &NodeName) {
        self.silent.remove(node);
        self.to_ask.remove(node);
        self.asked.remove(node);
    }

    /// A probe of round `round` came back. A host that is there without its agent is not cut off.
    pub fn probed(&mut self, node: &NodeName, round: u64, outcome: &ProbeOutcome) {
        if round != self.round {
            return;
        }
        match outcome {
            ProbeOutcome::Answered(_) | ProbeOutcome::AgentSilent { .. } => self.counts_out(node),
            ProbeOutcome::Unreachable { .. } | ProbeOutcome::NotProbed { .. } => {
                self.asked.remove(node);
            }
        }
    }

    /// Hosts that have shown no sign of life since it began.
    pub const fn silent(&self) -> &BTreeSet<NodeName> {
        &self.silent
    }

    /// How many hosts may be lost, as far as answers have come.
    pub fn at_most(&self) -> usize {
        self.in_doubt + self.silent.len()
    }

    /// Whether no answer is awaited any more.
    pub fn is_over(&self, now: MonoMs) -> bool {
        self.to_ask.is_empty() && self.asked.is_empty() || self.until <= now
    }

    /// When it is over at the latest.
    pub const fn until(&self) -> MonoMs {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: usize) -> NodeName {
        NodeName::parse(&format!("h{n}")).unwrap()
    }

    #[test]
    fn it_is_over_when_everybody_was_asked_and_has_answered_or_not() {
        let mut asks = Confirmation::new(7, (0..4).map(node).collect(), 1, MonoMs(850));
        assert_eq!(asks.at_most(), 5);
        while asks.ask_next().is_some() {}
        let refused = ProbeOutcome::AgentSilent { why: "refused".into() };
        asks.probed(&node(0), 6, &refused);
        assert_eq!(asks.at_most(), 5, "of another round");
        asks.probed(&node(0), 7, &refused);
        asks.counts_out(&node(1));
        asks.probed(&node(2), 7, &ProbeOutcome::Unreachable { why: "nothing".into() });
        assert!(!asks.is_over(MonoMs(849)) && asks.is_over(MonoMs(850)));
        asks.probed(&node(3), 7, &ProbeOutcome::NotProbed { why: "no socket is left".into() });
        assert!(asks.is_over(MonoMs(0)));
        assert_eq!(asks.silent(), &[node(2), node(3)].into());
    }
}
