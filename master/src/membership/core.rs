//! The state machine over all hosts: the one place that says what is true of a host.

mod down;
mod reason;
mod rounds;

use std::{collections::BTreeMap, net::SocketAddrV4, sync::Arc};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{NodeName, NodeUid},
    protocol::{Alive, ProbeKey, ProbeOutcome},
};

use super::{
    HostChanged, HostCondition, HostKnown, HostReported, Intent, Standing,
    brake::Brake,
    confirmation::Confirmation,
    events::{Effect, Event},
    flapping::Flapping,
    liveness::{Liveness, Patience},
    ports::PortWatch,
};
use reason::why;

/// So many other hosts probe a suspect for us.
pub const HELPERS: usize = 3;
/// The most probes under way.
pub const MAX_PROBES: usize = 256;
/// It looks at least this often, so that a master that was stopped notices it.
const LOOK_EVERY: DurationMs = DurationMs(250);
/// A tick that comes so much later than asked for means that the master itself was late.
const LATE: DurationMs = DurationMs(150);
/// Hosts known from the store have at least this long to call in.
const CALL_IN: DurationMs = DurationMs(5_000);
/// How often the words about a host change while its condition does not.
const WORDS_EVERY: DurationMs = DurationMs(1_000);
/// The bound on the cost of reports: the master takes one report of one host in this time.
const REPORT_SHARE: DurationMs = DurationMs(2);
/// Report intervals above the configured one are multiples of this.
const INTERVAL_STEP: u64 = 250;

/// What the membership goes by.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The shortest interval of reports.
    pub report_interval: DurationMs,
    /// After how long without a report a host is suspect, at that interval.
    pub suspect_after: DurationMs,
    /// How long a suspect that is close is probed before it is down.
    pub probe_window: DurationMs,
    /// The share of hosts that go down together above which replacement stops.
    pub brake_share_percent: u32,
    /// After how long replacement goes on by itself.
    pub brake_release_after: DurationMs,
    /// How long the agent and every published port of a host may be silent, though the host is there, before
    /// it is down. 0: it is never called down for that.
    pub unanswered_down_after: DurationMs,
    /// How long a flapping host has to be ready before it takes replicas.
    pub flap_hold: DurationMs,
}

#[derive(Debug)]
struct Host {
    uid: NodeUid,
    agent_url: String,
    intent: Intent,
    /// When its drain ends: the wall clock is asked once, as it may jump.
    drained_by: Option<MonoMs>,
    overdue: bool,
    liveness: Liveness,
    /// The key with which its agent probes other hosts' addresses.
    probe_key: Option<ProbeKey>,
    /// When it reported last, by the master's clock.
    last_report: Option<WallMs>,
    flapping: Flapping,
    /// Its replicas' published ports.
    ports: Option<PortWatch>,
    /// Whether it was called down because none of them answered.
    unanswered: bool,
    /// The condition and the reason that were published last, and when.
    notified: Option<(HostCondition, Option<Arc<str>>, MonoMs)>,
}

/// All hosts of the cluster.
#[derive(Debug)]
pub struct MembershipCore {
    settings: Settings,
    hosts: BTreeMap<NodeName, Host>,
    brake: Brake,
    /// While some hosts are about to be called down, and the others are asked for a sign of life.
    confirmation: Option<Confirmation>,
    interval: DurationMs,
    /// When the interval may become shorter again.
    shorter_at: MonoMs,
    rounds: u64,
    probes: usize,
    /// The tick that was asked for.
    asked: MonoMs,
    brake_shown: Option<super::BrakeState>,
}

impl MembershipCore {
    /// A membership without members.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> (Self, Vec<Effect>) {
        let core = Self {
            settings,
            hosts: BTreeMap::new(),
            brake: Brake::new(settings.brake_share_percent, settings.brake_release_after),
            confirmation: None,
            interval: settings.report_interval,
            shorter_at: now.mono,
            rounds: 0,
            probes: 0,
            asked: now.mono + LOOK_EVERY,
            brake_shown: None,
        };
        let effects = vec![Effect::WakeAt(core.asked)];
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.excuse_lateness(now);
        match event {
            Event::HostReported(report) => {
                let node = report.node.clone();
                self.on_report(&report, now);
                // Reports are frequent: each concerns its own host only.
                if !self.release_brake_if_due(now) && !self.is_confirmed(now) {
                    self.notify(&node, now, &mut effects);
                    self.show_brake(&mut effects);
                    return effects;
                }
            }
            Event::Known(known) => self.known(known, now),
            Event::ProbeDone { node, round, via, outcome } => {
                let rounds_wait = self.is_full();
                self.probes = self.probes.saturating_sub(1);
                self.probed(&node, round, via, outcome, now, &mut effects);
                // When many hosts are suspect, probes are frequent: each concerns its own host only.
                if !rounds_wait && !self.is_confirmed(now) {
                    self.notify(&node, now, &mut effects);
                    self.look_again_for(&node, now, &mut effects);
                    return effects;
                }
            }
            Event::Published { node, addresses } => self.published(&node, addresses, now),
            Event::PortsProbed { node, round, by_us, outcome } => {
                self.probes = self.probes.saturating_sub(1);
                if let Some(ports) = self.hosts.get_mut(&node).and_then(|host| host.ports.as_mut()) {
                    ports.probed(round, by_us, &outcome, now.mono);
                }
            }
            Event::Forgotten(node) => {
                self.hosts.remove(&node);
                self.confirmation.iter_mut().for_each(|asks| asks.counts_out(&node));
            }
            Event::ReleaseBrake => {
                self.brake.release();
            }
            Event::Tick => {}
        }
        self.advance(now, &mut effects);
        effects
    }

    /// Whether replacement is held back.
    #[must_use]
    pub const fn is_braking(&self) -> bool {
        self.brake.is_on()
    }

    fn patience(&self) -> Patience {
        let scaled = self.settings.suspect_after.0.saturating_mul(self.interval.0)
            / self.settings.report_interval.0.max(1);
        Patience { suspect_after: DurationMs(scaled), window: self.settings.probe_window }
    }

    /// Within this time of each other hosts went down together.
    fn together(&self) -> DurationMs {
        let patience = self.patience();
        DurationMs(patience.suspect_after.0 + patience.window.0)
    }

    /// A master whose tick comes late was stopped, or had no processor: that time counts against no host
    /// (Lifeguard's local health, arXiv 1707.00788).
    fn excuse_lateness(&mut self, now: Now) {
        let late = now.mono - self.asked;
        if late > LATE {
            for host in self.hosts.values_mut() {
                host.liveness.excuse(late);
                host.ports.iter_mut().for_each(|ports| ports.excuse(late));
            }
            // A probe without an answer in that time means nothing.
            self.confirmation = None;
            self.asked = now.mono;
        }
    }

    fn known(&mut self, known: HostKnown, now: Now) {
        let HostKnown { node, uid, agent_url, intent, facts: _ } = known;
        if let Some(host) = self.hosts.get_mut(&node) {
            if host.intent != intent {
                host.overdue = false;
                host.drained_by = drained_by(intent, now);
            }
            (host.uid, host.agent_url, host.intent) = (uid, agent_url, intent);
            return;
        }
        let call_in = DurationMs(self.together().0.saturating_mul(2)).max(CALL_IN);
        let liveness = Liveness::awaited(now.mono + call_in);
        let (drained_by, flapping) = (drained_by(intent, now), Flapping::default());
        let host = Host {
            uid,
            agent_url,
            intent,
            drained_by,
            overdue: false,
            liveness,
            probe_key: None,
            last_report: None,
            flapping,
            ports: None,
            unanswered: false,
            notified: None,
        };
        self.hosts.insert(node, host);
    }

    fn on_report(&mut self, report: &HostReported, now: Now) {
        if let Some(host) = self.hosts.get_mut(&report.node) {
            host.liveness.on_report(report.engine_ok, report.round_trip, now.mono);
            host.last_report = Some(now.wall);
            host.probe_key.clone_from(&report.probe_key);
            host.unanswered = false;
        }
        self.confirmation.iter_mut().for_each(|asks| asks.counts_out(&report.node));
    }

    fn probed(
        &mut self,
        node: &NodeName,
        round: u64,
        via: Option<NodeName>,
        outcome: ProbeOutcome,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        let outcome = match outcome {
            ProbeOutcome::Answered(alive) if alive.uid != host.uid => {
                ProbeOutcome::Unreachable { why: format!("another host answers at {}", host.agent_url) }
            }
            ProbeOutcome::Answered(_)
            | ProbeOutcome::AgentSilent { .. }
            | ProbeOutcome::Unreachable { .. }
            | ProbeOutcome::NotProbed { .. } => outcome,
        };
        // Another host's word for it does not count.
        if let ProbeOutcome::Answered(Alive { follows: Some(follows), .. }) = &outcome
            && via.is_none()
        {
            effects.push(Effect::Follows(node.clone(), follows.clone()));
        }
        if via.is_none() {
            self.confirmation.iter_mut().for_each(|asks| asks.probed(node, round, &outcome));
        }
        host.liveness.probed(round, via, outcome, now.mono);
    }

    /// A watch over the published ports of a host begins, or ends where it publishes none.
    fn published(&mut self, node: &NodeName, addresses: Vec<SocketAddrV4>, now: Now) {
        let watched = self.settings.unanswered_down_after.0 > 0 && !addresses.is_empty();
        if let Some(host) = self.hosts.get_mut(node) {
            host.ports = watched.then(|| PortWatch::new(addresses, now.mono));
        }
    }

    /// Whatever follows from the time and from what happened.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let patience = self.patience();
        for host in self.hosts.values_mut() {
            host.liveness.doubt_if_silent(patience, now.mono);
            host.overdue |= host.drained_by.is_some_and(|at| at <= now.mono);
            let is_gone = host.liveness.standing() == Standing::AgentDown;
            host.ports.iter_mut().for_each(|ports| ports.agent_is_gone(is_gone, now.mono));
        }
        // A host that goes down when its time is over sets it again.
        self.release_brake_if_due(now);
        self.call_down(patience, now);
        self.fit_interval(now, effects);
        self.begin_rounds(patience, now, effects);
        self.ask_for_signs(patience, effects);
        self.begin_port_rounds(now, effects);
        let nodes: Vec<NodeName> = self.hosts.keys().cloned().collect();
        for node in &nodes {
            self.notify(node, now, effects);
        }
        self.show_brake(effects);
        self.asked = self.next_look(patience, now);
        effects.push(Effect::WakeAt(self.asked));
    }

    fn release_brake_if_due(&mut self, now: Now) -> bool {
        let window = self.together();
        let hosts = &self.hosts;
        let silent =
            |node: &NodeName, since| hosts.get(node).is_some_and(|host| host.liveness.is_silent_since(since));
        self.brake.look(hosts.len(), silent, window, now)
    }

    /// Longer at once when there are more hosts; shorter by a step at a time, so
    /// that no host is suspected for keeping to the interval that it was sent last.
    fn fit_interval(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let least = self.settings.report_interval;
        let fitting = |slack: u64| {
            let wanted = (self.hosts.len() as u64).saturating_mul(REPORT_SHARE.0) + slack;
            if wanted <= least.0 { least } else { DurationMs(wanted.div_ceil(INTERVAL_STEP) * INTERVAL_STEP) }
        };
        let interval = if fitting(0) > self.interval {
            fitting(0)
        } else if fitting(INTERVAL_STEP / 2) < self.interval && self.shorter_at <= now.mono {
            DurationMs(self.interval.0.saturating_sub(INTERVAL_STEP)).max(least)
        } else {
            return;
        };
        self.shorter_at = now.mono + DurationMs(self.interval.0.max(interval.0) * 2);
        self.interval = interval;
        effects.push(Effect::Interval(interval));
    }

    /// Tells all actors about `node` if its condition has changed.
    fn notify(&mut self, node: &NodeName, now: Now, effects: &mut Vec<Effect>) {
        let braking = self.brake.is_on();
        let Some(host) = self.hosts.get_mut(node) else { return };
        let standing = host.liveness.standing();
        let condition = HostCondition {
            standing,
            intent: host.intent,
            overdue: host.overdue,
            flapping: host.flapping.look(standing == Standing::Ready, self.settings.flap_hold, now.mono),
            held: braking && standing == Standing::Down,
        };
        let why = why(host, condition, self.settings.flap_hold).map(Arc::from);
        if let Some((notified, words, at)) = &host.notified {
            let same = *notified == condition;
            if same && (*words == why || now.mono - *at < WORDS_EVERY) {
                return;
            }
        }
        host.notified = Some((condition, why.clone(), now.mono));
        effects.push(Effect::Changed(HostChanged { node: node.clone(), condition, why }));
    }

    fn show_brake(&mut self, effects: &mut Vec<Effect>) {
        let down = self.hosts.iter().filter(|(_, host)| host.liveness.standing() == Standing::Down);
        let state =
            self.brake.is_on().then(|| self.brake.state(down.map(|(node, _)| node.clone()))).flatten();
        if state != self.brake_shown {
            self.brake_shown.clone_from(&state);
            effects.push(Effect::Brake(state));
        }
    }

    /// Looks at everything when this host's next deadline comes, if that is earlier than was asked for.
    fn look_again_for(&mut self, node: &NodeName, now: Now, effects: &mut Vec<Effect>) {
        let deadline = self.hosts.get(node).and_then(|host| host.liveness.deadline(self.patience()));
        if let Some(at) = deadline.map(|at| at.max(now.mono + DurationMs(1))).filter(|at| *at < self.asked) {
            self.asked = at;
            effects.push(Effect::WakeAt(at));
        }
    }

    fn next_look(&self, patience: Patience, now: Now) -> MonoMs {
        let full = self.is_full();
        let ports = |host: &Host| {
            host.ports.as_ref().and_then(|ports| ports.deadline(self.settings.unanswered_down_after))
        };
        let deadlines = self.hosts.values().filter_map(|host| {
            let ports = ports(host)
                .filter(|_| matches!(host.liveness.standing(), Standing::AgentDown | Standing::Ready));
            host.liveness.deadline(patience).into_iter().chain(ports).min()
        });
        // A round that waits for its turn is begun when a probe comes back, and so is a host called down that
        // waits for signs of life.
        let waits = full || self.confirmation.is_some();
        let until = self.confirmation.as_ref().map(Confirmation::until);
        let ahead = deadlines.chain(until).filter(|at| *at > now.mono || !waits).min();
        ahead.map_or(now.mono + LOOK_EVERY, |at| at.clamp(now.mono + DurationMs(1), now.mono + LOOK_EVERY))
    }
}

/// The deadline of a drain on this master's monotonic clock.
fn drained_by(intent: Intent, now: Now) -> Option<MonoMs> {
    intent.left(now.wall).map(|left| now.mono + left)
}
