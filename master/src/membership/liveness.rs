//! Whether one host is there: silence, doubt, probes, and what they bring.
//!
//! ```text
//!            silence            a window of probes brings nothing
//! reporting ---------> doubted ----------------------------------> down
//!     ^                  |  ^ \_ a probe is answered: the window begins anew
//!     +------------------+--+------------- a report ----------------+
//! ```
//!
//! A host that is down is asked seldom, by the master alone: its answer changes nothing here, but it may
//! follow another master by now.
//!
//! A probe that could not be made because the prober had no free socket is no silence. A round counts only if
//! the master's own probe was made.

use std::sync::Arc;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::NodeName,
    protocol::ProbeOutcome,
};

use super::Standing;

/// After a round that brought nothing, the next one begins so long after its start.
const AGAIN: DurationMs = DurationMs(300);
/// While probes are answered, and only reports do not come.
const WHILE_ANSWERED: DurationMs = DurationMs(500);
/// While the host is there and its agent is not.
const WHILE_AGENT_SILENT: DurationMs = DurationMs(1_000);
/// While the host is down: it comes back by a report, and says only whom it follows by now.
const WHILE_DOWN: DurationMs = DurationMs(15_000);
/// So many rounds in a row have to bring nothing.
pub const SILENT_ROUNDS: u32 = 2;
/// A slow way is allowed for: so many round trips …
const ROUND_TRIPS: u64 = 4;
/// … and at most this much.
const MOST_ALLOWANCE: DurationMs = DurationMs(3_000);

/// How long a host may go without a report before it is suspect.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without reports.
    pub suspect_after: DurationMs,
    /// Without an answer to any probe, for a host that is close.
    pub window: DurationMs,
}

/// What probes have brought last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The agent answers.
    Answers {
        /// To whom; `None`: to us.
        via: Option<NodeName>,
    },
    /// The host is there, its agent is not.
    AgentSilent {
        /// In the client's words.
        why: Arc<str>,
    },
}

#[derive(Debug)]
struct Round {
    number: u64,
    started: MonoMs,
    /// Probes that have not come back.
    waiting: usize,
    brought: bool,
    /// The master was late meanwhile, or could not probe: that nothing came says nothing.
    void: bool,
}

/// How likely a host can probe another one for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Helps {
    /// Its agent reported a moment ago.
    Surely,
    /// Nothing is known yet.
    Perhaps,
}

#[derive(Debug)]
struct Doubt {
    /// Since when no probe was answered: the suspicion, or the last evidence.
    quiet_since: MonoMs,
    silent_rounds: u32,
    evidence: Option<Evidence>,
    /// Whether our own last probe was answered, once one was made.
    reached: Option<bool>,
    /// Why our own last probe was not made, if it was not.
    not_probed: Option<Arc<str>>,
    round: Option<Round>,
    next_round_at: MonoMs,
}

#[derive(Debug)]
enum Phase {
    /// It has not reported since the master's start.
    Awaited {
        until: MonoMs,
    },
    Reporting {
        last_report: MonoMs,
        engine_ok: bool,
    },
    Doubted(Doubt),
    Down {
        next_round_at: MonoMs,
    },
}

/// One host's liveness.
#[derive(Debug)]
pub struct Liveness {
    phase: Phase,
    round_trip: DurationMs,
}

impl Liveness {
    /// A host that has time to call in until `until`.
    pub const fn awaited(until: MonoMs) -> Self {
        Self { phase: Phase::Awaited { until }, round_trip: DurationMs(0) }
    }

    /// What is said of the host.
    pub const fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Awaited { .. } => Standing::Awaited,
            Phase::Reporting { engine_ok: true, .. } => Standing::Ready,
            Phase::Reporting { engine_ok: false, .. } => Standing::EngineDown,
            Phase::Doubted(Doubt { evidence: Some(Evidence::AgentSilent { .. }), .. }) => Standing::AgentDown,
            Phase::Doubted(_) => Standing::Suspect,
            Phase::Down { .. } => Standing::Down,
        }
    }

    /// The latest outcomes of probes, while reports are missing.
    pub const fn evidence(&self) -> Option<&Evidence> {
        match &self.phase {
            Phase::Doubted(doubt) => doubt.evidence.as_ref(),
            Phase::Awaited { .. } | Phase::Reporting { .. } | Phase::Down { .. } => None,
        }
    }

    /// Why the master's own last probe could not be made.
    pub fn not_probed(&self) -> Option<&str> {
        match &self.phase {
            Phase::Doubted(doubt) => doubt.not_probed.as_deref(),
            Phase::Awaited { .. } | Phase::Reporting { .. } | Phase::Down { .. } => None,
        }
    }

    /// Whether its agent may probe others for us, and how likely: it reports, or our own last probe was
    /// answered, or none of ours was made yet.
    pub const fn can_help(&self) -> Option<Helps> {
        match &self.phase {
            Phase::Reporting { .. } => Some(Helps::Surely),
            Phase::Doubted(Doubt { reached: Some(true), .. }) => Some(Helps::Surely),
            Phase::Doubted(Doubt { reached: None, .. }) => Some(Helps::Perhaps),
            Phase::Doubted(Doubt { reached: Some(false), .. })
            | Phase::Awaited { .. }
            | Phase::Down { .. } => None,
        }
    }

    /// Whether it reports, for all that is known.
    pub const fn reports(&self) -> bool {
        matches!(self.phase, Phase::Reporting { .. })
    }

    /// Whether its reports have been missing for long enough that it is probed.
    pub const fn is_doubted(&self) -> bool {
        matches!(self.phase, Phase::Doubted(_))
    }

    /// Whether the host has shown no sign of life since `since`.
    pub fn is_silent_since(&self, since: MonoMs) -> bool {
        match &self.phase {
            Phase::Reporting { last_report, .. } => *last_report <= since,
            Phase::Doubted(Doubt { evidence: None, .. }) | Phase::Down { .. } => true,
            Phase::Doubted(doubt) => doubt.quiet_since <= since,
            Phase::Awaited { .. } => false,
        }
    }

    /// It has registered or reported.
    pub fn on_report(&mut self, engine_ok: bool, round_trip: Option<DurationMs>, now: MonoMs) {
        self.round_trip = round_trip.unwrap_or(self.round_trip);
        self.phase = Phase::Reporting { last_report: now, engine_ok };
    }

    /// The master was late by `by`: that time counts against no host.
    pub fn excuse(&mut self, by: DurationMs) {
        match &mut self.phase {
            Phase::Awaited { until } => *until = *until + by,
            Phase::Reporting { last_report, .. } => *last_report = *last_report + by,
            Phase::Doubted(doubt) => {
                doubt.quiet_since = doubt.quiet_since + by;
                doubt.silent_rounds = 0;
                if let Some(round) = &mut doubt.round {
                    round.void = true;
                }
            }
            Phase::Down { .. } => {}
        }
    }

    /// The extra time for a slow connection to the host.
    fn allowance(&self) -> DurationMs {
        DurationMs(self.round_trip.0.saturating_mul(ROUND_TRIPS)).min(MOST_ALLOWANCE)
    }

    /// How long a window of probes is.
    pub fn window(&self, patience: Patience) -> DurationMs {
        DurationMs(patience.window.0 + self.allowance().0)
    }

    /// How long one probe may take: two rounds fit into the window.
    pub fn probe_limit(&self, patience: Patience) -> DurationMs {
        DurationMs(self.window(patience).0 * 2 / 5)
    }

    /// Becomes doubted when it was silent for too long. Returns whether it does.
    pub fn doubt_if_silent(&mut self, patience: Patience, now: MonoMs) -> bool {
        let due = match self.phase {
            Phase::Awaited { until } => until,
            Phase::Reporting { last_report, .. } => last_report + patience.suspect_after,
            Phase::Doubted(_) | Phase::Down { .. } => return false,
        };
        if due > now {
            return false;
        }
        self.phase = Phase::Doubted(Doubt {
            quiet_since: now,
            silent_rounds: 0,
            evidence: None,
            reached: None,
            not_probed: None,
            round: None,
            next_round_at: now,
        });
        true
    }

    /// Whether a whole window of probes has brought nothing.
    pub fn is_lost(&self, patience: Patience, now: MonoMs) -> bool {
        match &self.phase {
            Phase::Doubted(doubt) => {
                doubt.silent_rounds >= SILENT_ROUNDS && doubt.quiet_since + self.window(patience) <= now
            }
            Phase::Awaited { .. } | Phase::Reporting { .. } | Phase::Down { .. } => false,
        }
    }

    /// It is down.
    pub fn goes_down(&mut self, now: MonoMs) {
        self.phase = Phase::Down { next_round_at: now + WHILE_DOWN };
    }

    /// Since when a round of probes is due, if it is.
    pub fn round_due(&self, now: MonoMs) -> Option<MonoMs> {
        match &self.phase {
            Phase::Doubted(doubt) if doubt.round.is_none() && doubt.next_round_at <= now => {
                Some(doubt.next_round_at)
            }
            Phase::Down { next_round_at } => Some(*next_round_at).filter(|at| *at <= now),
            Phase::Doubted(_) | Phase::Awaited { .. } | Phase::Reporting { .. } => None,
        }
    }

    /// A round of so many probes is under way.
    pub fn round_begins(&mut self, number: u64, probes: usize, now: MonoMs) {
        match &mut self.phase {
            Phase::Doubted(doubt) => {
                doubt.round =
                    Some(Round { number, started: now, waiting: probes, brought: false, void: false });
            }
            Phase::Down { next_round_at } => *next_round_at = now + WHILE_DOWN,
            Phase::Awaited { .. } | Phase::Reporting { .. } => {}
        }
    }

    /// A probe of round `number` came back. Late ones of earlier rounds count if they bring something.
    pub fn probed(&mut self, number: u64, via: Option<NodeName>, outcome: ProbeOutcome, now: MonoMs) {
        let Phase::Doubted(doubt) = &mut self.phase else { return };
        let mut not_probed = None;
        let found = match outcome {
            ProbeOutcome::Answered(_) => Some(Evidence::Answers { via: via.clone() }),
            ProbeOutcome::AgentSilent { why } => Some(Evidence::AgentSilent { why: why.into() }),
            ProbeOutcome::Unreachable { .. } => None,
            ProbeOutcome::NotProbed { why } => {
                not_probed = Some(Arc::from(why));
                None
            }
        };
        let brought = found.is_some();
        if via.is_none() {
            if not_probed.is_none() {
                doubt.reached = Some(matches!(found, Some(Evidence::Answers { .. })));
            } else if let Some(round) = doubt.round.as_mut().filter(|round| round.number == number) {
                round.void = true;
            }
            doubt.not_probed = not_probed;
        }
        if let Some(round) = doubt.round.as_mut().filter(|round| round.number != number && brought) {
            // It began before this sign of life.
            round.void = true;
        }
        let ours = doubt.round.as_mut().filter(|round| round.number == number);
        if let Some(found) = found {
            doubt.quiet_since = now;
            doubt.silent_rounds = 0;
            // In one round, an answer outweighs a refusal that another prober met.
            let outweighed = ours.as_ref().is_some_and(|round| round.brought)
                && matches!(doubt.evidence, Some(Evidence::Answers { .. }));
            if !outweighed {
                doubt.evidence = Some(found);
            }
        }
        let Some(round) = ours else { return };
        round.brought |= brought;
        round.waiting = round.waiting.saturating_sub(1);
        if round.waiting > 0 {
            return;
        }
        let pause = match (round.brought, &doubt.evidence) {
            (true, Some(Evidence::Answers { .. })) => WHILE_ANSWERED,
            (true, Some(Evidence::AgentSilent { .. })) => WHILE_AGENT_SILENT,
            (false, _) | (true, None) => AGAIN,
        };
        if !round.brought && !round.void {
            doubt.silent_rounds += 1;
        }
        doubt.next_round_at = (round.started + pause).max(now);
        doubt.round = None;
    }

    /// When time alone will change something.
    pub fn deadline(&self, patience: Patience) -> Option<MonoMs> {
        match &self.phase {
            Phase::Awaited { until } => Some(*until),
            Phase::Reporting { last_report, .. } => Some(*last_report + patience.suspect_after),
            Phase::Doubted(doubt) => {
                let round = doubt.round.is_none().then_some(doubt.next_round_at);
                let lost =
                    (doubt.silent_rounds >= SILENT_ROUNDS).then(|| doubt.quiet_since + self.window(patience));
                round.into_iter().chain(lost).min()
            }
            Phase::Down { next_round_at } => Some(*next_round_at),
        }
    }
}
