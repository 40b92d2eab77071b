//! Everything around the membership core: hosts that report, answer probes, or do not.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, NodeName, NodeUid},
    protocol::{Alive, ProbeOutcome},
};

use super::super::{
    HostCondition, HostKnown, HostReported, Intent, Standing,
    core::{MAX_PROBES, MembershipCore, Settings},
    events::{Effect, Event},
};

const SETTINGS: Settings = Settings {
    report_interval: DurationMs(500),
    suspect_after: DurationMs(1_200),
    probe_window: DurationMs(850),
    brake_share_percent: 33,
    brake_release_after: DurationMs(300_000),
    unanswered_down_after: DurationMs(60_000),
    flap_hold: DurationMs(300_000),
};

pub(super) fn node(n: usize) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}
pub(super) fn uid(n: usize) -> NodeUid {
    NodeUid::parse(&format!("{n:016x}")).unwrap()
}
pub(super) fn answered(n: usize) -> ProbeOutcome {
    ProbeOutcome::Answered(Alive {
        node: node(n),
        uid: uid(n),
        boot: BootId::parse("00000000000000bb").unwrap(),
        agent_url: None,
        follows: None,
    })
}
pub(super) fn silent() -> ProbeOutcome {
    ProbeOutcome::AgentSilent { why: "refused".into() }
}
pub(super) fn unreachable() -> ProbeOutcome {
    ProbeOutcome::Unreachable { why: "nothing".into() }
}

pub(super) fn not_probed() -> ProbeOutcome {
    ProbeOutcome::NotProbed { why: "no socket is left: too many open files".into() }
}

#[derive(Debug)]
pub(super) struct Probe {
    pub(super) node: usize,
    pub(super) via: Option<NodeName>,
    pub(super) round: u64,
}

/// What is known of a host without asking the core.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) condition: Option<HostCondition>,
    pub(super) why: Option<String>,
    pub(super) intent: Intent,
    /// The last report, answered probe or refused connection.
    pub(super) sign: u64,
    pub(super) last_report: u64,
    /// Rounds since then of which every probe came back empty.
    pub(super) empty_rounds: BTreeMap<u64, usize>,
}

/// Whether a probe comes back now; one that began this moment takes its time.
pub(super) fn is_due(due: &BTreeMap<(usize, u64), u64>, probe: &Probe, now: u64) -> bool {
    due.get(&(probe.node, probe.round)).is_some_and(|at| *at <= now)
}

pub(super) struct Model {
    pub(super) core: MembershipCore,
    pub(super) now: u64,
    pub(super) hosts: BTreeMap<usize, Truth>,
    pub(super) probes: Vec<Probe>,
    /// Looks at ports under way: the host, the round, and whether the master itself looks.
    pub(super) port_probes: Vec<(usize, u64, bool)>,
    pub(super) wake_at: u64,
    pub(super) interval: u64,
    pub(super) lines: Vec<String>,
}

impl Model {
    pub(super) fn new(hosts: usize) -> Self {
        let (core, effects) = MembershipCore::new(SETTINGS, Now { mono: MonoMs(1_000), wall: WallMs(1_000) });
        let mut model = Self {
            core,
            now: 1_000,
            hosts: BTreeMap::new(),
            probes: vec![],
            port_probes: vec![],
            wake_at: u64::MAX,
            interval: 500,
            lines: vec![],
        };
        model.carry_out(effects);
        for n in 0..hosts {
            model.know(n, Intent::Active);
        }
        model
    }

    /// One whose hosts all report.
    pub(super) fn ready(hosts: usize) -> Self {
        let mut model = Self::new(hosts);
        (0..hosts).for_each(|n| model.report(n));
        model
    }

    pub(super) fn event(&mut self, event: Event) {
        let effects = self.core.handle(event, Now { mono: MonoMs(self.now), wall: WallMs(self.now) });
        self.carry_out(effects);
        if self.core.is_braking() {
            assert!(
                self.hosts.values().all(|host| host.condition.is_none_or(|condition| !condition.is_lost())),
                "lost under the brake"
            );
        }
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.lines.push(format!("{} {effect:?}", self.now));
            match effect {
                Effect::Changed(change) => {
                    let n: usize = change.node.as_str()[1..].parse().unwrap();
                    let truth = self.hosts.get_mut(&n).expect("a member");
                    let was_down =
                        truth.condition.is_some_and(|condition| condition.standing == Standing::Down);
                    if change.condition.standing == Standing::Down && !was_down {
                        assert!(
                            self.now - truth.last_report >= 1_200 + 850,
                            "{} ms after a report",
                            self.now - truth.last_report
                        );
                        let unanswered =
                            change.why.as_ref().is_some_and(|why| why.contains("published port"));
                        let empty = truth.empty_rounds.values().filter(|left| **left == 0).count();
                        if !unanswered {
                            assert!(
                                self.now - truth.sign >= 850,
                                "{} ms after a sign of life",
                                self.now - truth.sign
                            );
                            assert!(empty >= 2, "after {empty} rounds");
                        }
                    }
                    truth.condition = Some(change.condition);
                    truth.why = change.why.map(|why| why.to_string());
                }
                Effect::Probe { node, via, limit, round, .. } => {
                    assert!(limit.0 > 0 && via.as_ref().is_none_or(|via| via.node != node));
                    let n: usize = node.as_str()[1..].parse().unwrap();
                    if let Some(host) = self.hosts.get_mut(&n) {
                        *host.empty_rounds.entry(round).or_default() += 1;
                    }
                    self.probes.push(Probe { node: n, via: via.map(|via| via.node), round });
                    assert!(self.probes.len() <= MAX_PROBES);
                }
                Effect::ProbePorts { node, addresses, via, round, .. } => {
                    assert!(!addresses.is_empty() && via.as_ref().is_none_or(|via| via.node != node));
                    let n: usize = node.as_str()[1..].parse().unwrap();
                    self.port_probes.push((n, round, via.is_none()));
                }
                Effect::WakeAt(at) => self.wake_at = self.wake_at.min(at.0),
                Effect::Follows(..) => {}
                Effect::Interval(interval) => self.interval = interval.0,
                Effect::Brake(state) => assert_eq!(state.is_some(), self.core.is_braking()),
            }
        }
    }

    pub(super) fn know(&mut self, n: usize, intent: Intent) {
        let now = self.now;
        let truth =
            self.hosts.entry(n).or_insert_with(|| Truth { last_report: now, sign: now, ..Truth::default() });
        truth.intent = intent;
        let known = HostKnown {
            node: node(n),
            uid: uid(n),
            agent_url: format!("http://{n}"),
            intent,
            facts: Arc::default(),
        };
        self.event(Event::Known(known));
        assert_eq!(self.condition(n).intent, intent);
    }

    pub(super) fn report(&mut self, n: usize) {
        let Some(truth) = self.hosts.get_mut(&n) else { return };
        (truth.last_report, truth.sign) = (self.now, self.now);
        truth.empty_rounds.clear();
        self.event(Event::HostReported(HostReported {
            node: node(n),
            engine_ok: true,
            round_trip: None,
            probe_key: None,
        }));
        assert_eq!(self.condition(n).standing, Standing::Ready);
    }

    /// The probe at `at` of those under way comes back.
    pub(super) fn bring(&mut self, at: usize, outcome: impl Fn(usize) -> ProbeOutcome) {
        let probe = self.probes.remove(at);
        let outcome = outcome(probe.node);
        if let Some(truth) = self.hosts.get_mut(&probe.node) {
            let sign = match &outcome {
                ProbeOutcome::Answered(alive) => alive.uid == uid(probe.node),
                ProbeOutcome::AgentSilent { .. } => true,
                ProbeOutcome::Unreachable { .. } | ProbeOutcome::NotProbed { .. } => false,
            };
            if probe.via.is_none() && matches!(outcome, ProbeOutcome::NotProbed { .. }) {
                // A round in which the master itself has not looked is no evidence.
                truth.empty_rounds.remove(&probe.round);
            }
            if sign {
                truth.sign = self.now;
                truth.empty_rounds.clear();
            } else if let Some(left) = truth.empty_rounds.get_mut(&probe.round) {
                *left -= 1;
            }
        }
        self.event(Event::ProbeDone { node: node(probe.node), round: probe.round, via: probe.via, outcome });
    }

    pub(super) fn condition(&self, n: usize) -> HostCondition {
        self.hosts[&n].condition.unwrap_or_else(|| panic!("nothing was published of h{n}"))
    }

    pub(super) fn why(&self, n: usize) -> &str {
        self.hosts[&n].why.as_deref().unwrap_or_default()
    }

    /// Lets `span` pass with ticks in time; `up` report every 500 ms and answer probes. Probes of others come
    /// back with what `outcome` says: after 10 ms, or after 340 ms if that is nothing.
    pub(super) fn pass(&mut self, span: u64, up: &[usize], outcome: impl Fn(usize) -> ProbeOutcome + Copy) {
        let end = self.now + span;
        let mut due: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        let outcome = |n| if up.contains(&n) { answered(n) } else { outcome(n) };
        while self.now < end {
            self.now += 1;
            if self.now.is_multiple_of(500) {
                up.iter().for_each(|n| self.report(*n));
            }
            for probe in &self.probes {
                let slow = matches!(outcome(probe.node), ProbeOutcome::Unreachable { .. });
                let takes = if slow { 340 } else { 10 };
                due.entry((probe.node, probe.round)).or_insert(self.now + takes);
            }
            while let Some(at) = self.probes.iter().position(|probe| is_due(&due, probe, self.now)) {
                self.bring(at, outcome);
            }
            if self.now >= self.wake_at {
                self.wake_at = u64::MAX;
                self.event(Event::Tick);
            }
        }
    }
}
