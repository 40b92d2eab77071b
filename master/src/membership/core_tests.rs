//! The membership core against hosts that report, answer probes, or do not.

mod ports;
mod together;

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, NodeName, NodeUid},
    protocol::{Alive, ProbeOutcome},
};

use super::{
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

fn node(n: usize) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}
fn uid(n: usize) -> NodeUid {
    NodeUid::parse(&format!("{n:016x}")).unwrap()
}
fn answered(n: usize) -> ProbeOutcome {
    ProbeOutcome::Answered(Alive {
        node: node(n),
        uid: uid(n),
        boot: BootId::parse("00000000000000bb").unwrap(),
    })
}
fn silent() -> ProbeOutcome {
    ProbeOutcome::AgentSilent { why: "refused".into() }
}
fn unreachable() -> ProbeOutcome {
    ProbeOutcome::Unreachable { why: "nothing".into() }
}

fn not_probed() -> ProbeOutcome {
    ProbeOutcome::NotProbed { why: "no socket is left: too many open files".into() }
}

#[derive(Debug)]
struct Probe {
    node: usize,
    via: Option<NodeName>,
    round: u64,
}

/// What is known of a host without asking the core.
#[derive(Debug, Default)]
struct Truth {
    condition: Option<HostCondition>,
    why: Option<String>,
    intent: Intent,
    /// The last report, answered probe or refused connection.
    sign: u64,
    last_report: u64,
    /// Rounds since then of which every probe came back empty.
    empty_rounds: BTreeMap<u64, usize>,
}

/// Whether a probe comes back now; one that began this moment takes its time.
fn is_due(due: &BTreeMap<(usize, u64), u64>, probe: &Probe, now: u64) -> bool {
    due.get(&(probe.node, probe.round)).is_some_and(|at| *at <= now)
}

struct Model {
    core: MembershipCore,
    now: u64,
    hosts: BTreeMap<usize, Truth>,
    probes: Vec<Probe>,
    /// Looks at ports under way: the host, the round, and whether the master itself looks.
    port_probes: Vec<(usize, u64, bool)>,
    wake_at: u64,
    interval: u64,
    lines: Vec<String>,
}

impl Model {
    fn new(hosts: usize) -> Self {
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
    fn ready(hosts: usize) -> Self {
        let mut model = Self::new(hosts);
        (0..hosts).for_each(|n| model.report(n));
        model
    }

    fn event(&mut self, event: Event) {
        let effects = self.core.handle(event, Now { mono: MonoMs(self.now), wall: WallMs(self.now) });
        self.carry_out(effects);
        if self.core.is_braking() {
            assert!(
                self.hosts.values().all(|host| host.condition.is_none_or(|condition| !condition.is_lost())),
                "lost under the brake"
            );
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
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
                Effect::Interval(interval) => self.interval = interval.0,
                Effect::Brake(state) => assert_eq!(state.is_some(), self.core.is_braking()),
            }
        }
    }

    fn know(&mut self, n: usize, intent: Intent) {
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

    fn report(&mut self, n: usize) {
        let Some(truth) = self.hosts.get_mut(&n) else { return };
        (truth.last_report, truth.sign) = (self.now, self.now);
        truth.empty_rounds.clear();
        self.event(Event::HostReported(HostReported { node: node(n), engine_ok: true, round_trip: None }));
        assert_eq!(self.condition(n).standing, Standing::Ready);
    }

    /// The probe at `at` of those under way comes back.
    fn bring(&mut self, at: usize, outcome: impl Fn(usize) -> ProbeOutcome) {
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

    fn condition(&self, n: usize) -> HostCondition {
        self.hosts[&n].condition.unwrap_or_else(|| panic!("nothing was published of h{n}"))
    }

    fn why(&self, n: usize) -> &str {
        self.hosts[&n].why.as_deref().unwrap_or_default()
    }

    /// Lets `span` pass with ticks in time; `up` report every 500 ms and answer probes. Probes of others come
    /// back with what `outcome` says: after 10 ms, or after 340 ms if that is nothing.
    fn pass(&mut self, span: u64, up: &[usize], outcome: impl Fn(usize) -> ProbeOutcome + Copy) {
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

#[test]
fn a_host_that_is_cut_is_suspected_and_then_down_within_its_time() {
    let mut model = Model::ready(3);
    model.pass(1_190, &[1, 2], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Ready);
    model.pass(20, &[1, 2], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    assert!(!model.condition(0).is_lost() && !model.condition(0).takes_replicas());
    model.pass(830, &[1, 2], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    model.pass(35, &[1, 2], |_| unreachable());
    assert!(model.condition(0).is_lost());
    assert_eq!(model.why(0), "neither reports nor probes reach it");
    model.report(0);
    assert!(model.condition(0).takes_replicas());
}

#[test]
fn a_host_that_answers_probes_is_never_down_and_the_reason_says_so() {
    let mut model = Model::ready(3);
    model.pass(60_000, &[1, 2], answered);
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    assert!(model.why(0).ends_with("but its reports do not arrive"), "{}", model.why(0));
    model.pass(2_000, &[1, 2], |_| unreachable());
    assert!(model.condition(0).is_lost());
}

#[test]
fn one_helper_that_reaches_it_is_enough() {
    let mut model = Model::ready(3);
    model.pass(1_220, &[1, 2], |_| unreachable());
    for _ in 0..20 {
        while let Some(at) = (!model.probes.is_empty()).then_some(0) {
            let through = model.probes[at].via == Some(node(2));
            model.bring(at, |n| if through { answered(n) } else { unreachable() });
        }
        model.now += 500;
        model.report(1);
        model.report(2);
        model.event(Event::Tick);
    }
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    assert_eq!(model.why(0), "it answers probes (through h2), but its reports do not arrive");
}

#[test]
fn a_host_that_answers_probes_helps_though_its_own_reports_do_not_arrive() {
    let mut model = Model::ready(2);
    for _ in 0..40 {
        model.now += 250;
        model.event(Event::Tick);
        while !model.probes.is_empty() {
            // We reach the second directly, the first nobody but the second.
            let (direct, of) = (model.probes[0].via.is_none(), model.probes[0].node);
            let answers = of == 1 && direct || of == 0 && !direct;
            model.bring(0, |n| if answers { answered(n) } else { unreachable() });
        }
    }
    assert_eq!(
        (model.condition(0).standing, model.condition(1).standing),
        (Standing::Suspect, Standing::Suspect)
    );
    assert_eq!(model.why(0), "it answers probes (through h1), but its reports do not arrive");
}

#[test]
fn an_agent_that_died_alone_is_distinguished_from_a_host_that_died() {
    let mut model = Model::ready(2);
    model.pass(30_000, &[1], |_| silent());
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
    assert!(!model.condition(0).is_lost() && !model.condition(0).takes_replicas());
    let since = "is not known since 1970-01-01T00:00:01.000Z";
    assert_eq!(
        model.why(0),
        format!("the host is there, its agent is not (refused); what runs there {since}")
    );
    model.pass(3_000, &[1], |_| unreachable());
    assert!(model.condition(0).is_lost());
}

#[test]
fn an_engine_that_died_alone_takes_nothing_and_loses_nothing() {
    let mut model = Model::ready(1);
    model.event(Event::HostReported(HostReported { node: node(0), engine_ok: false, round_trip: None }));
    assert_eq!(model.condition(0).standing, Standing::EngineDown);
    assert!(!model.condition(0).is_lost() && !model.condition(0).takes_replicas());
}

#[test]
fn another_host_at_its_address_is_no_sign_of_it() {
    let mut model = Model::ready(2);
    model.pass(3_000, &[1], |_| answered(7));
    assert!(model.condition(0).is_lost());
}

#[test]
fn a_master_without_sockets_calls_nobody_down_says_why_and_calls_down_when_it_has_some() {
    let mut model = Model::ready(3);
    model.pass(60_000, &[1, 2], |_| not_probed());
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    assert!(model.why(0).contains("too many open files"), "{}", model.why(0));
    model.pass(2_000, &[1, 2], |_| unreachable());
    assert!(model.condition(0).is_lost());
    // Nor does it call down all hosts at once, whose reports it cannot take.
    let mut model = Model::ready(5);
    model.pass(60_000, &[], |_| not_probed());
    assert!((0..5).all(|n| model.condition(n).standing == Standing::Suspect));
}

#[test]
fn helpers_without_sockets_neither_save_a_dead_host_nor_condemn_one() {
    let mut model = Model::ready(3);
    model.pass(1_220, &[1, 2], |_| unreachable());
    for _ in 0..30 {
        while let Some(at) = (!model.probes.is_empty()).then_some(0) {
            let direct = model.probes[at].via.is_none();
            model.bring(at, |_| if direct { unreachable() } else { not_probed() });
        }
        model.now += 100;
        model.report(1);
        model.report(2);
        model.event(Event::Tick);
    }
    assert!(model.condition(0).is_lost(), "the master has looked itself, and nobody was able to contradict");
    let mut model = Model::ready(3);
    model.pass(1_220, &[1, 2], |_| unreachable());
    for _ in 0..30 {
        while let Some(at) = (!model.probes.is_empty()).then_some(0) {
            let direct = model.probes[at].via.is_none();
            model.bring(at, |_| if direct { not_probed() } else { unreachable() });
        }
        model.now += 100;
        model.report(1);
        model.report(2);
        model.event(Event::Tick);
    }
    assert_eq!(model.condition(0).standing, Standing::Suspect, "the master has not looked itself");
}

#[test]
fn a_slow_way_is_given_more_time() {
    let mut model = Model::ready(2);
    let slow = HostReported { node: node(0), engine_ok: true, round_trip: Some(DurationMs(400)) };
    model.event(Event::HostReported(slow));
    model.pass(3_600, &[1], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    model.pass(100, &[1], |_| unreachable());
    assert!(model.condition(0).is_lost());
}

#[test]
fn a_master_that_was_stopped_blames_nobody() {
    let mut model = Model::ready(4);
    model.pass(1_000, &[0, 1, 2, 3], answered);
    model.now += 60_000;
    model.event(Event::Tick);
    for n in 0..4 {
        assert_eq!(model.condition(n).standing, Standing::Ready);
    }
    // In the middle of a round, what did not come back meanwhile does not count.
    let mut model = Model::ready(2);
    model.pass(1_300, &[1], |_| unreachable());
    model.now += 10_000;
    while !model.probes.is_empty() {
        model.bring(0, |_| unreachable());
    }
    model.event(Event::Tick);
    assert_eq!(model.condition(0).standing, Standing::Suspect);
}

#[test]
fn a_host_from_the_store_has_time_to_call_in() {
    let mut model = Model::new(1);
    model.pass(4_900, &[], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Awaited);
    assert!(!model.condition(0).is_lost() && !model.condition(0).takes_replicas());
    model.pass(200, &[], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    model.pass(1_000, &[], |_| unreachable());
    assert!(model.condition(0).is_lost());
}

#[test]
fn the_brake_holds_what_goes_down_together_until_enough_are_back() {
    let mut model = Model::ready(6);
    model.pass(10_000, &[0, 1, 2], |_| unreachable());
    assert!(model.core.is_braking());
    for n in 3..6 {
        assert!(model.condition(n).held && model.condition(n).standing == Standing::Down);
        assert!(model.why(n).contains("not replaced for now"));
    }
    model.report(5);
    assert!(model.core.is_braking(), "the others may be about to come back");
    model.pass(2_500, &[0, 1, 2, 5], |_| unreachable());
    assert!(!model.core.is_braking(), "two of six are no more than a third");
    assert!(model.condition(3).is_lost() && model.condition(4).is_lost());
}

#[test]
fn the_brake_goes_off_by_an_operators_word_and_by_itself() {
    let mut model = Model::ready(3);
    model.pass(5_000, &[], |_| unreachable());
    assert!(model.core.is_braking());
    model.event(Event::ReleaseBrake);
    assert!((0..3).all(|n| model.condition(n).is_lost()));
    let mut model = Model::ready(3);
    model.pass(302_000, &[], |_| unreachable());
    assert!(model.core.is_braking());
    model.pass(3_000, &[], |_| unreachable());
    assert!((0..3).all(|n| model.condition(n).is_lost()));
}

#[test]
fn one_of_one_and_two_of_two_never_set_the_brake() {
    for hosts in 1..3 {
        let mut model = Model::ready(hosts);
        model.pass(5_000, &[], |_| unreachable());
        assert!((0..hosts).all(|n| model.condition(n).is_lost()));
    }
}

#[test]
fn a_flapping_host_takes_nothing_new_for_a_while_and_the_reason_says_so() {
    let mut model = Model::ready(2);
    for _ in 0..3 {
        model.pass(5_000, &[1], |_| unreachable());
        assert!(model.condition(0).is_lost());
        model.report(0);
    }
    assert!(model.condition(0).flapping && !model.condition(0).takes_replicas());
    assert_eq!(
        model.why(0),
        "it went down three times within ten minutes, and takes new replicas once it has been up for 5 min"
    );
    model.pass(301_000, &[0, 1], answered);
    assert!(model.condition(0).takes_replicas());
}

#[test]
fn the_deadline_of_a_drain_is_not_moved_by_a_wall_clock_that_jumps() {
    let mut model = Model::ready(1);
    let within = Some(DurationMs(5_000));
    model.know(0, Intent::Drained { deadline: Some(WallMs(6_000)), within });
    model.pass(4_900, &[0], answered);
    assert!(model.condition(0).is_leaving() && !model.condition(0).overdue);
    let jumped = Now { mono: MonoMs(model.now), wall: WallMs(3_600_000) };
    let effects = model.core.handle(Event::Tick, jumped);
    model.carry_out(effects);
    assert!(!model.condition(0).overdue);
    model.pass(400, &[0], answered);
    assert!(model.condition(0).overdue);
    model.know(0, Intent::Active);
    assert!(!model.condition(0).overdue && model.condition(0).takes_replicas());
}

#[test]
fn a_drain_is_not_overdue_at_once_at_a_master_whose_wall_clock_is_ahead() {
    let mut model = Model::ready(0);
    let within = Some(DurationMs(8_000));
    model.know(0, Intent::Drained { deadline: Some(WallMs(1)), within });
    model.report(0);
    model.pass(1_500, &[0], answered);
    assert!(model.condition(0).is_leaving() && !model.condition(0).overdue);
    model.pass(1_000, &[0], answered);
    assert!(model.condition(0).overdue, "a quarter of the time that was asked for is over");
}

#[test]
fn more_hosts_report_less_often_and_a_few_more_or_less_change_nothing() {
    let mut model = Model::new(249);
    assert_eq!(model.interval, 500);
    (249..1_000).for_each(|n| model.know(n, Intent::Active));
    assert_eq!(model.interval, 2_000);
    for n in 970..1_000 {
        model.hosts.remove(&n);
        model.event(Event::Forgotten(node(n)));
    }
    model.event(Event::Tick);
    assert_eq!(model.interval, 2_000);
}

#[derive(Debug, Clone)]
enum Act {
    Report(usize),
    Bring(usize, u8),
    Pass(u64),
    Stopped(u64),
    Intend(usize, u8),
    Forget(usize),
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..6).prop_map(Act::Report),
        12 => (0_usize..24, 0_u8..12).prop_map(|(at, what)| Act::Bring(at, what)),
        12 => (1_u64..400).prop_map(Act::Pass),
        1 => (200_u64..10_000).prop_map(Act::Stopped),
        1 => (0_usize..6, 0_u8..3).prop_map(|(n, intent)| Act::Intend(n, intent)),
        1 => (0_usize..6).prop_map(Act::Forget),
        1 => Just(Act::Release),
    ]
}

fn play(hosts: usize, acts: &[Act]) -> Model {
    let mut model = Model::ready(hosts);
    for act in acts {
        match act {
            Act::Report(n) => model.report(*n),
            Act::Bring(at, what) if !model.probes.is_empty() => {
                let at = at % model.probes.len();
                model.bring(at, |n| match what {
                    0 => answered(n),
                    1 => silent(),
                    2 | 3 => not_probed(),
                    _ => unreachable(),
                });
            }
            Act::Bring(..) => {}
            Act::Pass(span) => {
                let end = model.now + span;
                while model.wake_at <= end {
                    model.now = model.now.max(model.wake_at);
                    model.wake_at = u64::MAX;
                    model.event(Event::Tick);
                }
                model.now = end;
            }
            Act::Stopped(span) => model.now += span,
            Act::Intend(n, intent) if model.hosts.contains_key(n) => {
                let intents =
                    [Intent::Active, Intent::Cordoned, Intent::Drained { deadline: None, within: None }];
                model.know(*n, intents[*intent as usize]);
            }
            Act::Intend(..) => {}
            Act::Forget(n) => {
                model.hosts.remove(n);
                model.event(Event::Forgotten(node(*n)));
            }
            Act::Release => model.event(Event::ReleaseBrake),
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The model asserts at every step: down only by the rule, never while reports
    /// arrive, nobody lost under the brake; here besides, intents and determinism.
    #[test]
    fn whatever_happens_the_rules_hold_and_the_same_leads_to_the_same(
        hosts in 1_usize..6, acts in proptest::collection::vec(act(), 0..200),
    ) {
        let (first, second) = (play(hosts, &acts), play(hosts, &acts));
        for host in first.hosts.values() {
            prop_assert_eq!(host.condition.map(|condition| condition.intent), Some(host.intent));
        }
        prop_assert_eq!(first.lines, second.lines);
    }
}
