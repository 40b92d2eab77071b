//! The membership core over hosts that report, fall silent and answer probes as a test says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, NodeName, NodeUid},
    protocol::{Alive, ProbeOutcome},
};

use super::{
    HostCondition, Intent, Standing,
    core::MembershipCore,
    events::{Effect, Event, Probe, Pulse},
    timing::Timing,
};

/// How a host fares in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Well,
    /// It reports; nothing reaches it.
    Deaf,
    /// Its reports do not arrive; others reach it, the master does not.
    CutFromMaster,
    /// Its reports do not arrive; everybody reaches it.
    Mute,
    NoAgent,
    Gone,
}

impl Truth {
    const fn reports(self) -> bool {
        matches!(self, Self::Well | Self::Deaf)
    }

    fn probed(self, node: &NodeName, direct: bool) -> ProbeOutcome {
        let why = String::new();
        match self {
            Self::Well | Self::Mute => answered(node),
            Self::CutFromMaster if !direct => answered(node),
            Self::NoAgent => ProbeOutcome::AgentSilent { why },
            Self::Deaf | Self::CutFromMaster | Self::Gone => ProbeOutcome::Unreachable { why },
        }
    }
}

fn answered(node: &NodeName) -> ProbeOutcome {
    let boot = BootId::parse("00000000000000b1").unwrap();
    ProbeOutcome::Answered(Alive { node: node.clone(), uid: uid(node), boot })
}

fn host(n: usize) -> NodeName {
    NodeName::parse(&format!("h{n}")).unwrap()
}

fn uid(node: &NodeName) -> NodeUid {
    let n: u64 = node.as_str().trim_start_matches('h').parse().unwrap();
    NodeUid::parse(&format!("{n:016x}")).unwrap()
}

struct World {
    core: MembershipCore,
    now: u64,
    truth: BTreeMap<NodeName, Truth>,
    told: BTreeMap<NodeName, HostCondition>,
    why: BTreeMap<NodeName, String>,
    /// Probes that come back then.
    probes: Vec<(u64, Probe)>,
    wake: Option<u64>,
    next_report: BTreeMap<NodeName, u64>,
    interval: u64,
    down_at: BTreeMap<NodeName, u64>,
}

impl World {
    fn new(hosts: usize) -> Self {
        Self::with(hosts, Timing::default())
    }

    fn with(hosts: usize, timing: Timing) -> Self {
        let core = MembershipCore::new(timing);
        let interval = core.interval().0;
        let mut world = Self {
            core,
            now: 1_000,
            truth: BTreeMap::new(),
            told: BTreeMap::new(),
            why: BTreeMap::new(),
            probes: Vec::new(),
            wake: None,
            next_report: BTreeMap::new(),
            interval,
            down_at: BTreeMap::new(),
        };
        for n in 0..hosts {
            let node = host(n);
            world.truth.insert(node.clone(), Truth::Well);
            world.next_report.insert(node.clone(), world.now + (n as u64 * 37) % 500);
            world.event(Event::Known { uid: uid(&node), node, agent_url: "http://10.0.0.1:1".into(), intent: Intent::Active });
        }
        world.run(1_000);
        world
    }

    fn clock(&self) -> Now {
        Now { mono: MonoMs(self.now), wall: WallMs(1_000_000 + self.now) }
    }

    fn event(&mut self, event: Event) {
        for effect in self.core.handle(event, self.clock()) {
            match effect {
                Effect::Changed(change) => {
                    if change.condition.standing == Standing::Down {
                        self.down_at.entry(change.node.clone()).or_insert(self.now);
                    } else {
                        self.down_at.remove(&change.node);
                    }
                    self.why.insert(change.node.clone(), change.why.as_deref().unwrap_or_default().to_owned());
                    self.told.insert(change.node, change.condition);
                }
                Effect::Probe(probe) => {
                    let direct = probe.via.is_none();
                    let takes = match self.truth[&probe.node].probed(&probe.node, direct) {
                        ProbeOutcome::Unreachable { .. } => probe.limit.0,
                        ProbeOutcome::Answered(_) | ProbeOutcome::AgentSilent { .. } => 2,
                    };
                    self.probes.push((self.now + takes, probe));
                }
                Effect::Interval(interval) => self.interval = interval.0,
                Effect::Brake(_) => {}
                Effect::WakeAt(at) => self.wake = Some(self.wake.map_or(at.0, |wake| wake.min(at.0))),
            }
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, span: u64) {
        let end = self.now + span;
        while self.now < end {
            let report = self.next_report.values().min().copied();
            let probe = self.probes.iter().map(|(at, _)| *at).min();
            let next = [report, probe, self.wake].into_iter().flatten().min().unwrap_or(end).max(self.now);
            if next > end {
                break;
            }
            self.now = next;
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        if let Some(at) = self.probes.iter().position(|(at, _)| *at <= self.now) {
            let (_, Probe { node, round, via, .. }) = self.probes.remove(at);
            let through = via.as_ref().is_none_or(|(helper, _)| self.truth[helper] == Truth::Well);
            let outcome = self.truth[&node].probed(&node, via.is_none());
            let outcome = if through { outcome } else { ProbeOutcome::Unreachable { why: String::new() } };
            return self.event(Event::ProbeDone { node, round, via: via.map(|(helper, _)| helper), outcome });
        }
        if self.wake.is_some_and(|wake| wake <= self.now) {
            self.wake = None;
            return self.event(Event::Wake);
        }
        let due: Vec<NodeName> = self.next_report.iter().filter(|(_, at)| **at <= self.now).map(|(n, _)| n.clone()).collect();
        for node in due {
            self.next_report.insert(node.clone(), self.now + self.interval);
            if self.truth[&node].reports() {
                self.heard(&node, None);
            }
        }
    }

    fn heard(&mut self, node: &NodeName, engine_error: Option<&str>) {
        let pulse = Pulse {
            uid: uid(node),
            agent_url: "http://10.0.0.1:1".into(),
            engine_error: engine_error.map(Into::into),
            round_trip: DurationMs(1),
        };
        self.event(Event::Heard { node: node.clone(), pulse });
    }

    fn turns(&mut self, n: usize, truth: Truth) {
        self.truth.insert(host(n), truth);
    }

    fn standing(&self, n: usize) -> Standing {
        self.told[&host(n)].standing
    }
}

#[test]
fn a_host_that_is_gone_is_down_within_about_two_seconds() {
    let mut world = World::new(3);
    for _ in 0..20 {
        let cut = world.now;
        world.turns(1, Truth::Gone);
        world.run(3_000);
        let took = world.down_at[&host(1)] - cut;
        assert!((1_300..=2_100).contains(&took), "{took} ms");
        assert!(world.told[&host(1)].is_lost());
        world.turns(1, Truth::Well);
        // Another phase of its reports each time.
        world.run(700_037);
        assert_eq!(world.standing(1), Standing::Ready);
    }
}

#[test]
fn the_only_host_goes_down_too() {
    let mut world = World::new(1);
    world.turns(0, Truth::Gone);
    world.run(3_000);
    assert_eq!(world.standing(0), Standing::Down);
}

#[test]
fn a_host_that_others_reach_is_suspect_and_not_down() {
    for (truth, words) in [(Truth::CutFromMaster, "answers h"), (Truth::Mute, "answers probes")] {
        let mut world = World::new(3);
        world.turns(1, truth);
        world.run(60_000);
        assert_eq!(world.standing(1), Standing::Suspect);
        assert!(world.why[&host(1)].contains(words), "{}", world.why[&host(1)]);
        world.turns(1, Truth::Gone);
        world.run(4_000);
        assert_eq!(world.standing(1), Standing::Down, "then nobody reaches it any more");
        world.turns(1, Truth::Well);
        world.run(600);
        assert_eq!(world.standing(1), Standing::Ready);
    }
}

#[test]
fn a_silent_agent_is_told_from_a_silent_host() {
    let mut world = World::new(3);
    world.turns(1, Truth::NoAgent);
    world.run(3_000);
    assert_eq!(world.standing(1), Standing::AgentDown);
    world.run(600_000);
    assert_eq!(world.standing(1), Standing::AgentDown, "what runs there runs on, for as long as it takes");
    world.turns(1, Truth::Gone);
    world.run(4_000);
    assert_eq!(world.standing(1), Standing::Down);
}

#[test]
fn an_engine_that_is_away_is_told_from_a_silent_host() {
    let mut world = World::new(2);
    world.heard(&host(1), Some("cannot connect"));
    assert_eq!(world.standing(1), Standing::EngineDown);
    assert!(world.why[&host(1)].ends_with("cannot connect"));
    assert!(!world.told[&host(1)].is_lost() && !world.told[&host(1)].takes_replicas());
    world.heard(&host(1), None);
    assert_eq!(world.standing(1), Standing::Ready);
}

#[test]
fn another_host_at_its_address_does_not_speak_for_it() {
    let mut world = World::new(1);
    world.turns(0, Truth::Gone);
    world.run(1_900);
    let other =
        ProbeOutcome::Answered(Alive { node: host(5), uid: uid(&host(5)), boot: BootId::parse("00000000000000b1").unwrap() });
    world.event(Event::ProbeDone { node: host(0), round: 1, via: None, outcome: other });
    world.run(1_500);
    assert_eq!(world.standing(0), Standing::Down);
}

#[test]
fn a_master_that_was_stopped_blames_nobody() {
    let mut world = World::new(5);
    // Nothing of what is due happens for a minute, and then the timer rings first.
    world.now += 60_000;
    world.wake = None;
    world.event(Event::Wake);
    assert!((0..5).all(|n| world.standing(n) == Standing::Ready));
    world.run(10_000);
    assert!((0..5).all(|n| world.standing(n) == Standing::Ready));
}

#[test]
fn hosts_that_the_store_knows_are_waited_for() {
    let mut world = World::new(2);
    let node = host(7);
    world.truth.insert(node.clone(), Truth::Gone);
    world.event(Event::Known { uid: uid(&node), node, agent_url: "http://10.0.0.1:1".into(), intent: Intent::Active });
    world.run(6_000);
    assert_eq!(world.standing(7), Standing::Awaited);
    world.run(3_000);
    assert_eq!(world.standing(7), Standing::Down);
}

#[test]
fn a_third_of_the_hosts_lost_together_is_not_replaced_until_some_are_back() {
    let mut world = World::new(6);
    (0..3).for_each(|n| world.turns(n, Truth::Gone));
    world.run(4_000);
    assert!((0..3).all(|n| world.standing(n) == Standing::Down && !world.told[&host(n)].is_lost()));
    world.turns(0, Truth::Well);
    world.run(2_000);
    assert!((1..3).all(|n| world.told[&host(n)].is_lost()), "two of six are no catastrophe");
}

#[test]
fn two_hosts_lost_together_are_replaced_and_hosts_lost_one_by_one_too() {
    let mut world = World::new(3);
    (0..2).for_each(|n| world.turns(n, Truth::Gone));
    world.run(4_000);
    assert!((0..2).all(|n| world.told[&host(n)].is_lost()), "the brake is for three or more");
    let mut world = World::new(6);
    for n in 0..4 {
        world.turns(n, Truth::Gone);
        world.run(10_000);
        assert!(world.told[&host(n)].is_lost());
    }
}

#[test]
fn the_brake_is_released_by_time_and_by_an_operator() {
    for by_operator in [false, true] {
        let mut world = World::new(4);
        (0..3).for_each(|n| world.turns(n, Truth::Gone));
        world.run(290_000);
        assert!((0..3).all(|n| !world.told[&host(n)].is_lost()));
        if by_operator {
            world.event(Event::ReleaseBrake);
        } else {
            world.run(20_000);
        }
        assert!((0..3).all(|n| world.told[&host(n)].is_lost()));
    }
}

#[test]
fn a_host_that_flaps_takes_nothing_until_it_has_been_up_for_a_while() {
    let mut world = World::new(3);
    for _ in 0..3 {
        world.turns(1, Truth::Gone);
        world.run(4_000);
        world.turns(1, Truth::Well);
        world.run(4_000);
    }
    assert_eq!(world.standing(1), Standing::Ready);
    assert!(!world.told[&host(1)].takes_replicas());
    assert!(world.why[&host(1)].starts_with("it went down 3 times"), "{}", world.why[&host(1)]);
    world.run(299_000);
    assert!(world.told[&host(1)].takes_replicas());
}

#[test]
fn a_drains_deadline_passes_by_itself() {
    let mut world = World::new(1);
    let deadline = Some(WallMs(world.clock().wall.0 + 5_000));
    world.event(Event::IntentChanged { node: host(0), intent: Intent::Drained { deadline } });
    assert!(world.told[&host(0)].is_leaving() && !world.told[&host(0)].overdue);
    world.run(5_100);
    assert!(world.told[&host(0)].overdue);
}

#[test]
fn a_thousand_hosts_lost_at_once_are_probed_with_bounds() {
    let mut world = World::new(1_000);
    world.run(10_000);
    assert_eq!(world.interval, 2_000);
    (0..1_000).for_each(|n| world.turns(n, Truth::Gone));
    let mut most = 0;
    for _ in 0..400 {
        world.run(50);
        most = most.max(world.probes.len());
    }
    assert!(most <= 256, "{most} probes at once");
    assert!((0..1_000).all(|n| world.standing(n) == Standing::Down && !world.told[&host(n)].is_lost()));
}

fn truths() -> impl Strategy<Value = Truth> {
    prop_oneof![
        3 => Just(Truth::Well),
        1 => Just(Truth::Deaf),
        1 => Just(Truth::CutFromMaster),
        1 => Just(Truth::Mute),
        1 => Just(Truth::NoAgent),
        2 => Just(Truth::Gone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens: a host is down only when it was gone (or cut off with nobody left to reach it), what is
    /// gone for long is down, and what is well again is ready.
    #[test]
    fn down_is_what_nobody_reaches(
        hosts in 2_usize..7,
        turns in proptest::collection::vec((0_usize..7, truths(), 0_u64..6_000), 1..25),
    ) {
        let mut world = World::new(hosts);
        let mut reached: BTreeMap<usize, u64> = BTreeMap::new();
        for (n, truth, span) in turns {
            let n = n % hosts;
            if truth != Truth::Gone && truth != Truth::CutFromMaster {
                reached.insert(n, world.now);
            }
            if world.truth[&host(n)] != Truth::Gone && world.truth[&host(n)] != Truth::CutFromMaster {
                reached.insert(n, world.now);
            }
            world.turns(n, truth);
            world.run(span);
            for n in 0..hosts {
                let truth = world.truth[&host(n)];
                let told = world.told[&host(n)];
                if truth.reports() && !world.down_at.contains_key(&host(n)) {
                    prop_assert_ne!(told.standing, Standing::Down);
                }
                if let Some(at) = world.down_at.get(&host(n)) {
                    let since = reached.get(&n).copied().unwrap_or(0);
                    prop_assert!(*at < since || *at >= since + 750 || truth.reports(), "h{} down at {} though reached at {}", n, at, since);
                }
            }
        }
        (0..hosts).for_each(|n| world.turns(n, Truth::Well));
        world.run(2_000);
        prop_assert!((0..hosts).all(|n| world.standing(n) == Standing::Ready));
        world.turns(0, Truth::Gone);
        world.run(4_000);
        prop_assert_eq!(world.standing(0), Standing::Down);
    }
}
