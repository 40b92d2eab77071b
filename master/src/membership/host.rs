//! One host: how long it has been silent, what probes bring, how often it went down.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{NodeName, NodeUid},
    protocol::ProbeOutcome,
};

use super::{HostCondition, Intent, Standing, events::Pulse, timing::Timing};

/// Rounds of probes that must have come back without anything before a host is down.
const ROUNDS: u32 = 2;
/// Rounds that may be under way at once.
const MAX_OPEN_ROUNDS: usize = 3;
/// From one round to the next while a host is not heard of at all.
const ROUND_EVERY: DurationMs = DurationMs(250);
/// The same while something answers.
const WATCH_EVERY: DurationMs = DurationMs(1_000);
/// No probe is given less.
const LEAST_LIMIT: DurationMs = DurationMs(250);
/// Over what time going down is counted.
const FLAP_MEMORY: DurationMs = DurationMs(10 * 60 * 1_000);
/// How often that makes a host one that flaps.
const FLAPS: usize = 3;

/// What a probe has shown of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sign {
    /// Its agent answers, directly or through this host.
    Answers { via: Option<NodeName> },
    /// The host is there, its agent is not.
    AgentSilent { why: String },
}

impl Sign {
    const fn weight(&self) -> u8 {
        match self {
            Self::Answers { via: None } => 2,
            Self::Answers { via: Some(_) } => 1,
            Self::AgentSilent { .. } => 0,
        }
    }
}

/// A host that does not report.
#[derive(Debug)]
struct Probing {
    since: MonoMs,
    round: u32,
    next_round: MonoMs,
    /// Rounds under way, and how many of their probes have not come back.
    open: BTreeMap<u32, usize>,
    /// Rounds since the last sign that came back without anything.
    fruitless: u32,
    sign: Option<(MonoMs, Sign)>,
    /// Whether the last sign came to the master itself.
    direct: bool,
}

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub uid: NodeUid,
    pub agent_url: Arc<str>,
    pub intent: Intent,
    pub standing: Standing,
    pub held: bool,
    pub down_at: Option<MonoMs>,
    /// When it was heard of last; for a host that is awaited: when it must be heard of, less the patience.
    heard: MonoMs,
    ever_heard: bool,
    round_trip: DurationMs,
    engine_error: Option<Arc<str>>,
    probing: Option<Probing>,
    downs: VecDeque<MonoMs>,
    flapping: bool,
    up_since: Option<MonoMs>,
}

impl Host {
    pub fn new(uid: NodeUid, agent_url: Arc<str>, intent: Intent, now: MonoMs, grace: DurationMs) -> Self {
        Self {
            uid,
            agent_url,
            intent,
            standing: Standing::Awaited,
            held: false,
            down_at: None,
            heard: now + grace,
            ever_heard: false,
            round_trip: DurationMs(0),
            engine_error: None,
            probing: None,
            downs: VecDeque::new(),
            flapping: false,
            up_since: None,
        }
    }

    /// It has reported.
    pub fn heard(&mut self, pulse: Pulse, now: MonoMs) {
        (self.uid, self.agent_url, self.engine_error) = (pulse.uid, pulse.agent_url, pulse.engine_error);
        // What a slow network needs shows in the worse of the last two.
        self.round_trip = DurationMs(pulse.round_trip.0.max(self.round_trip.0 / 2));
        self.heard = now;
        self.ever_heard = true;
        self.probing = None;
        self.down_at = None;
        self.held = false;
        self.up_since.get_or_insert(now);
        self.standing = if self.engine_error.is_some() { Standing::EngineDown } else { Standing::Ready };
    }

    /// The master was late by `lateness`: nobody else is to blame for that time.
    pub fn excuse(&mut self, lateness: DurationMs) {
        self.heard = self.heard + lateness;
        if let Some(probing) = &mut self.probing {
            probing.since = probing.since + lateness;
            probing.next_round = probing.next_round + lateness;
            if let Some((at, _)) = &mut probing.sign {
                *at = *at + lateness;
            }
        }
    }

    /// How long nothing at all must be heard until it is down, once it is probed.
    fn window(&self, timing: &Timing) -> DurationMs {
        timing.window(self.round_trip)
    }

    fn is_silent(&self, timing: &Timing, now: MonoMs) -> bool {
        now >= self.heard + timing.suspect_after()
    }

    /// Suspects a host that has been silent for too long.
    pub fn suspect_if_silent(&mut self, timing: &Timing, now: MonoMs) {
        if self.probing.is_some() || self.standing == Standing::Down || !self.is_silent(timing, now) {
            return;
        }
        let open = BTreeMap::new();
        self.probing = Some(Probing { since: now, round: 0, next_round: now, open, fruitless: 0, sign: None, direct: false });
        self.standing = Standing::Suspect;
    }

    /// Whether it is suspect and nothing has answered for it.
    pub fn is_in_the_dark(&self) -> bool {
        self.probing.as_ref().is_some_and(|probing| probing.sign.is_none())
    }

    /// Whether other hosts are to look for it too.
    pub fn needs_helpers(&self) -> bool {
        self.probing.as_ref().is_some_and(|probing| !probing.direct)
    }

    /// The next round of probes, if one is due: its number and how long its probes may take.
    pub fn next_round(&mut self, timing: &Timing, now: MonoMs) -> Option<(u32, DurationMs)> {
        let window = self.window(timing);
        let probing = self.probing.as_mut()?;
        if now < probing.next_round || probing.open.len() >= MAX_OPEN_ROUNDS {
            return None;
        }
        probing.round += 1;
        let every = if probing.sign.is_some() { WATCH_EVERY } else { ROUND_EVERY };
        probing.next_round = now + every;
        let left = (probing.since + window) - now;
        let limit = if probing.sign.is_some() { window } else { left };
        Some((probing.round, DurationMs(limit.0.max(LEAST_LIMIT.0))))
    }

    /// So many probes of `round` are on their way.
    pub fn round_begun(&mut self, round: u32, probes: usize) {
        if let Some(probing) = &mut self.probing {
            probing.open.insert(round, probes);
        }
    }

    /// There was no room for the round; it is tried again.
    pub fn round_put_off(&mut self, now: MonoMs) {
        if let Some(probing) = &mut self.probing {
            probing.next_round = now + LEAST_LIMIT;
        }
    }

    /// A probe came back.
    pub fn probed(&mut self, round: u32, via: Option<NodeName>, outcome: ProbeOutcome, now: MonoMs) {
        let Some(probing) = &mut self.probing else { return };
        let direct = via.is_none();
        let sign = match outcome {
            ProbeOutcome::Answered(alive) if alive.uid == self.uid => Some(Sign::Answers { via }),
            // Another host has the address now.
            ProbeOutcome::Answered(_) | ProbeOutcome::Unreachable { .. } => None,
            ProbeOutcome::AgentSilent { why } => Some(Sign::AgentSilent { why }),
        };
        let left = probing.open.get_mut(&round).map(|left| {
            *left = left.saturating_sub(1);
            *left
        });
        if left == Some(0) {
            probing.open.remove(&round);
            probing.fruitless += 1;
        }
        let Some(sign) = sign else { return };
        probing.fruitless = 0;
        // What was shown a moment ago and says more is kept: an answer outweighs silence, one to us one to others.
        let kept = probing.sign.as_ref().is_some_and(|(at, shown)| now - *at < WATCH_EVERY && shown.weight() > sign.weight());
        if let (Some((at, _)), true) = (&mut probing.sign, kept) {
            *at = now;
            return;
        }
        self.standing = match &sign {
            Sign::Answers { .. } => Standing::Suspect,
            Sign::AgentSilent { .. } => Standing::AgentDown,
        };
        probing.direct = direct;
        probing.sign = Some((now, sign));
    }

    /// When nothing will have been heard for long enough, if nothing is.
    fn dark_at(&self, timing: &Timing) -> Option<MonoMs> {
        let probing = self.probing.as_ref()?;
        let window = self.window(timing);
        Some(match &probing.sign {
            Some((at, _)) => *at + DurationMs(WATCH_EVERY.0 + window.0),
            None => probing.since + window,
        })
    }

    /// Whether it is to be called down: the time is over, and rounds of probes have brought nothing.
    pub fn is_lost(&self, timing: &Timing, now: MonoMs) -> bool {
        let fruitless = self.probing.as_ref().is_some_and(|probing| probing.fruitless >= ROUNDS);
        fruitless && self.dark_at(timing).is_some_and(|at| now >= at)
    }

    /// It is called down.
    pub fn goes_down(&mut self, held: bool, now: MonoMs) {
        self.standing = Standing::Down;
        self.probing = None;
        self.held = held;
        self.down_at = Some(now);
        self.up_since = None;
        self.downs.push_back(now);
        while self.downs.len() > FLAPS || self.downs.front().is_some_and(|at| now - *at > FLAP_MEMORY) {
            self.downs.pop_front();
        }
        self.flapping |= self.downs.len() >= FLAPS;
    }

    /// When a host that flapped takes replicas again, if it stays up.
    fn settles_at(&self, timing: &Timing) -> Option<MonoMs> {
        self.up_since.filter(|_| self.flapping).map(|since| since + timing.flap_hold)
    }

    /// Ends what time alone ends.
    pub fn settle(&mut self, timing: &Timing, now: MonoMs) {
        if self.standing == Standing::Ready && self.settles_at(timing).is_some_and(|at| now >= at) {
            self.flapping = false;
            self.downs.clear();
        }
    }

    fn deadline(&self) -> Option<shef_common::clock::WallMs> {
        match self.intent {
            Intent::Drained { deadline } => deadline,
            Intent::Active | Intent::Cordoned => None,
        }
    }

    /// When something is to be looked at again.
    pub fn wake_at(&self, timing: &Timing, now: Now) -> Option<MonoMs> {
        let silence = match (&self.probing, self.standing) {
            (Some(probing), _) => {
                let dark = self.dark_at(timing).filter(|_| probing.fruitless >= ROUNDS);
                let round = Some(probing.next_round).filter(|_| probing.open.len() < MAX_OPEN_ROUNDS);
                dark.into_iter().chain(round).min()
            }
            (None, Standing::Down) => None,
            (None, Standing::Awaited | Standing::Ready | Standing::Suspect | Standing::AgentDown | Standing::EngineDown) => {
                Some(self.heard + timing.suspect_after())
            }
        };
        let deadline = self.deadline().filter(|at| *at > now.wall).map(|at| now.mono + (at - now.wall));
        silence.into_iter().chain(deadline).chain(self.settles_at(timing)).min()
    }

    /// What the others need to know.
    pub fn condition(&self, now: Now) -> HostCondition {
        HostCondition {
            standing: self.standing,
            intent: self.intent,
            overdue: self.deadline().is_some_and(|at| at <= now.wall),
            flapping: self.flapping,
            held: self.held,
        }
    }

    /// What led to that, for people.
    pub fn why(&self, timing: &Timing) -> Option<String> {
        let probed = self.probing.as_ref().and_then(|probing| probing.sign.as_ref()).map(|(_, sign)| sign);
        match (self.standing, probed) {
            (Standing::Awaited, _) => Some("not heard of since the master's start".to_owned()),
            (Standing::Suspect, Some(Sign::Answers { via: Some(via) })) => Some(format!(
                "its reports do not arrive, but its agent answers {via}; the network between it and the master is to be looked at"
            )),
            (Standing::Suspect, Some(Sign::Answers { via: None })) => Some(
                "its reports do not arrive, but its agent answers probes; the way from it to the master is to be looked at"
                    .to_owned(),
            ),
            (Standing::Suspect, Some(Sign::AgentSilent { .. }) | None) => {
                Some("its reports do not arrive; it is being probed".to_owned())
            }
            (Standing::AgentDown, Some(Sign::AgentSilent { why })) => {
                Some(format!("the host is there, its agent does not answer ({why}); what runs there runs on"))
            }
            (Standing::AgentDown, _) => Some("the host is there, its agent does not answer; what runs there runs on".to_owned()),
            (Standing::EngineDown, _) => Some(format!(
                "its engine does not answer; what runs there may run on: {}",
                self.engine_error.as_deref().unwrap_or("no reason given")
            )),
            (Standing::Down, _) if self.held => Some(
                "neither reports nor probes reach it; replacement is on hold because too many hosts went down together"
                    .to_owned(),
            ),
            (Standing::Down, _) => Some("neither reports nor probes reach it, ours or other agents'".to_owned()),
            (Standing::Ready, _) if self.flapping => Some(format!(
                "it went down {FLAPS} times within {} minutes; it takes replicas again when it has been up for {} s",
                FLAP_MEMORY.0 / 60_000,
                timing.flap_hold.0 / 1_000
            )),
            (Standing::Ready, _) => None,
        }
    }
}
