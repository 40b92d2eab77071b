//! Whether the replicas of a host whose agent is gone still answer at their published ports.
//!
//! The host is there, but no agent reports what runs on it. Its published ports are tried by the master and
//! by other hosts, round after round. A port that takes a connection shows that replicas run. If no port does
//! for long enough, in at least [`CLOSED_ROUNDS`] rounds, no visible replica runs there.
//!
//! Only ports that the master has reached while the agent was there say anything:
//! a firewall may keep it from them for good.

use std::net::SocketAddrV4;

use shef_common::{
    clock::{DurationMs, MonoMs},
    protocol::PortsOutcome,
};

/// A round begins so long after the one before has begun.
const ROUND_EVERY: DurationMs = DurationMs(2_000);
/// So many rounds in a row have to find every port closed.
const CLOSED_ROUNDS: u32 = 2;
/// While the agent is there, ports that were never reached are tried so often.
const FIRST_LOOK_EVERY: DurationMs = DurationMs(10_000);
/// How long one port may take to answer.
pub const PORTS_LIMIT: DurationMs = DurationMs(1_000);

#[derive(Debug)]
struct Round {
    number: u64,
    /// Probes that have not come back.
    waiting: usize,
    /// Whether other hosts were asked, and have found every port closed.
    others: Option<bool>,
    /// Whether the master has found every port closed.
    ours: bool,
    open: bool,
}

/// The published ports of one host, while its agent does not answer.
#[derive(Debug)]
pub struct PortWatch {
    addresses: Vec<SocketAddrV4>,
    /// Whether a port has taken a connection while the agent was there.
    reached: bool,
    /// Whether the agent is gone.
    counts: bool,
    /// The last sign of life: a port that took a connection, or the beginning.
    alive: MonoMs,
    closed_rounds: u32,
    round: Option<Round>,
    next_round_at: MonoMs,
}

impl PortWatch {
    /// A watch over `addresses`, of which there is at least one.
    pub const fn new(addresses: Vec<SocketAddrV4>, now: MonoMs) -> Self {
        Self {
            addresses,
            reached: false,
            counts: false,
            alive: now,
            closed_rounds: 0,
            round: None,
            next_round_at: now,
        }
    }

    /// The agent is gone, or back.
    pub const fn agent_is_gone(&mut self, gone: bool, now: MonoMs) {
        if self.counts != gone {
            (self.counts, self.alive, self.closed_rounds, self.next_round_at) = (gone, now, 0, now);
        }
    }

    /// Whether other hosts are to look as well.
    pub const fn asks_others(&self) -> bool {
        self.counts
    }

    /// Whether there is anything to find out: a first look, or what a host without agent publishes.
    const fn looks(&self) -> bool {
        self.counts == self.reached
    }

    /// What is to be tried.
    pub fn addresses(&self) -> &[SocketAddrV4] {
        &self.addresses
    }

    /// Whether a round is due.
    pub fn round_due(&self, now: MonoMs) -> bool {
        self.looks() && self.round.is_none() && self.next_round_at <= now
    }

    /// A round is under way, by the master and by `helpers` other hosts.
    pub fn round_begins(&mut self, number: u64, helpers: usize, now: MonoMs) {
        let others = (helpers > 0).then_some(false);
        self.round = Some(Round { number, waiting: 1 + helpers, others, ours: false, open: false });
        self.next_round_at = now + if self.counts { ROUND_EVERY } else { FIRST_LOOK_EVERY };
    }

    /// A probe of round `number` came back, from another host or from the master itself (`by_us`).
    pub fn probed(&mut self, number: u64, by_us: bool, outcome: &PortsOutcome, now: MonoMs) {
        if *outcome == PortsOutcome::Open {
            (self.alive, self.closed_rounds) = (now, 0);
            self.reached |= !self.counts;
        }
        let Some(round) = self.round.as_mut().filter(|round| round.number == number) else { return };
        match outcome {
            PortsOutcome::Open => round.open = true,
            PortsOutcome::Closed if by_us => round.ours = true,
            PortsOutcome::Closed => round.others = Some(true),
            PortsOutcome::NotProbed { .. } => {}
        }
        round.waiting = round.waiting.saturating_sub(1);
        if round.waiting == 0 {
            let closed = !round.open && round.ours && round.others.unwrap_or(true);
            self.closed_rounds = if closed { self.closed_rounds.saturating_add(1) } else { 0 };
            self.round = None;
        }
    }

    /// The master was late by `by`: nothing is concluded from that time.
    pub fn excuse(&mut self, by: DurationMs) {
        self.alive = self.alive + by;
        self.closed_rounds = 0;
    }

    /// Whether no port has taken a connection for `after`, from anywhere.
    pub fn are_closed(&self, after: DurationMs, now: MonoMs) -> bool {
        self.counts && self.reached && self.closed_rounds >= CLOSED_ROUNDS && self.alive + after <= now
    }

    /// When time alone will change something; `None`: a probe has to come back first.
    pub fn deadline(&self, after: DurationMs) -> Option<MonoMs> {
        let round = (self.looks() && self.round.is_none()).then_some(self.next_round_at);
        let closed = (self.counts && self.closed_rounds >= CLOSED_ROUNDS).then(|| self.alive + after);
        round.into_iter().chain(closed).min()
    }
}
