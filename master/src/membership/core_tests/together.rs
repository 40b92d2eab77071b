//! Hosts that are cut off together, in any order and spacing, until the first of them is due to be called
//! down.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Standing, events::Event};
use super::model::{Model, answered, is_due, unreachable};

/// How long a probe of a host that is cut off takes.
const EMPTY_MS: u64 = 340;

/// A host: when its reports come, and when it is cut off.
#[derive(Debug, Clone, Copy)]
struct Plan {
    phase: u64,
    cut_at: Option<u64>,
}

/// Lets `plans` happen, with probes that take their time and ticks that are late
/// by `late`, and returns whether any host counted as lost at any moment.
fn anything_is_lost(plans: &[Plan], late: u64) -> bool {
    let mut model = Model::ready(plans.len());
    let start = model.now;
    let mut due: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    let mut lost = false;
    while model.now < start + 8_000 {
        model.now += 1;
        let cut = |n: usize, now: u64| plans[n].cut_at.is_some_and(|at| start + at <= now);
        for (n, plan) in plans.iter().enumerate() {
            if (model.now - start) % 500 == plan.phase && !cut(n, model.now) {
                model.report(n);
            }
        }
        for probe in &model.probes {
            let takes = if cut(probe.node, model.now) { EMPTY_MS } else { 10 };
            due.entry((probe.node, probe.round)).or_insert(model.now + takes);
        }
        while let Some(at) = model.probes.iter().position(|probe| is_due(&due, probe, model.now)) {
            let now = model.now;
            model.bring(at, |n| if cut(n, now) { unreachable() } else { answered(n) });
        }
        if model.now >= model.wake_at.saturating_add(late) {
            model.wake_at = u64::MAX;
            model.event(Event::Tick);
        }
        lost |= model.hosts.values().any(|host| host.condition.is_some_and(|condition| condition.is_lost()));
    }
    lost
}

/// When the first host of `plans` is due to be called down: after its last report, suspicion and probes.
fn first_is_due(plans: &[Plan]) -> u64 {
    let last_report = |plan: &Plan| {
        let before = plan.cut_at?.checked_sub(1 + plan.phase)?;
        Some(before / 500 * 500 + plan.phase)
    };
    plans.iter().filter_map(last_report).map(|last| last + 1_200 + 850).min().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn more_hosts_cut_than_the_limit_lose_nothing_in_any_order(
        hosts in proptest::collection::vec((0_u64..500, 0_u64..2_050, any::<bool>()), 3..10),
        order in any::<proptest::sample::Index>(), late in 0_u64..100,
    ) {
        let limit = (hosts.len() * 33 / 100).max(2);
        let first = order.index(hosts.len());
        let mut plans: Vec<Plan> = hosts.iter().enumerate().map(|(n, (phase, cut_at, more))| {
            // At least one more than the limit, wherever they begin.
            let goes = (n + hosts.len() - first) % hosts.len() <= limit || *more;
            Plan { phase: *phase, cut_at: goes.then_some(1_000 + cut_at) }
        }).collect();
        let due = first_is_due(&plans);
        for plan in &mut plans {
            plan.cut_at = plan.cut_at.map(|at| at.min(due));
        }
        prop_assert!(!anything_is_lost(&plans, late), "{plans:?}");
    }
}

#[test]
fn hosts_cut_off_just_before_the_first_is_down_set_the_brake() {
    let cut_at = [Some(1_000), Some(2_800), Some(2_800), None];
    let plan = |cut_at| Plan { phase: 400, cut_at };
    // The last report of the first came at 0.9 s: it is due to be called down at 2.95 s.
    assert!(!anything_is_lost(&cut_at.map(plan), 0));
}

#[test]
fn a_host_lost_alone_is_down_as_soon_as_the_others_have_answered() {
    for hosts in [3, 40] {
        let up: Vec<usize> = (1..hosts).collect();
        let mut model = Model::ready(hosts);
        model.pass(1_200 + 850 - 1, &up, |_| unreachable());
        assert_eq!(model.condition(0).standing, Standing::Suspect);
        // A probe that is answered takes 10 ms.
        model.pass(12, &up, |_| unreachable());
        assert!(model.condition(0).is_lost(), "{hosts} hosts");
    }
}

#[test]
fn of_a_thousand_hosts_as_many_are_asked_at_once_as_the_bound_allows() {
    let up: Vec<usize> = (1..1_000).collect();
    let mut model = Model::new(1_000);
    (0..1_000).for_each(|n| model.report(n));
    let span = 1_200 * model.interval / 500 + 850;
    model.pass(span - 500, &up, |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Suspect);
    model.pass(600, &up, |_| unreachable());
    assert!(model.condition(0).is_lost());
}

#[test]
fn as_many_hosts_as_the_limit_allows_are_lost_as_ever() {
    let plan = |n: u64| Plan { phase: n * 50, cut_at: (n < 3).then_some(1_000 + n * 100) };
    assert!(anything_is_lost(&(0..9).map(plan).collect::<Vec<_>>()[1..], 0), "two of eight");
    assert!(!anything_is_lost(&(0..9).map(plan).collect::<Vec<_>>()[..8], 0), "three of eight");
}

#[test]
fn a_host_whose_report_was_only_late_releases_the_brake_when_it_reports() {
    let mut model = Model::ready(4);
    // One is cut off; the reports of two others are late just when it is called down.
    model.pass(1_400, &[1, 2, 3], |_| unreachable());
    model.pass(1_100, &[1], |_| unreachable());
    assert!(model.condition(0).held, "{:?}", model.condition(0));
    model.report(2);
    assert!(model.condition(0).is_lost(), "two of four are not more than three");
}

#[test]
fn a_suspect_that_answers_again_releases_the_brake() {
    let mut model = Model::ready(4);
    // Only the master gets no reports of two of them; then a third host dies.
    model.pass(3_000, &[0, 1], answered);
    model.pass(1_700, &[1], |n| if n == 0 { unreachable() } else { answered(n) });
    assert!(!model.condition(0).is_lost());
    model.pass(2_000, &[1], |n| if n == 0 { unreachable() } else { answered(n) });
    assert!(model.condition(0).is_lost(), "{:?}", model.condition(0));
}

#[test]
fn hosts_that_went_down_together_and_come_back_one_by_one_lose_nothing() {
    let mut model = Model::ready(4);
    model.pass(3_000, &[3], |_| unreachable());
    assert!((0..3).all(|n| model.condition(n).held), "{:?}", model.condition(0));
    // The network is mended: each reports when its turn comes.
    for n in 0..3 {
        model.report(n);
        assert!((0..3).all(|n| !model.condition(n).is_lost()), "after {n} came back");
        model.pass(200, &[3], |_| unreachable());
        assert!((0..3).all(|n| !model.condition(n).is_lost()), "after {n} came back");
    }
    // One that stays away is replaced soon after the others are back.
    model.pass(3_000, &[3], |_| unreachable());
    assert!((0..3).all(|n| model.condition(n).held));
    model.report(1);
    model.report(2);
    model.pass(2_500, &[1, 2, 3], |_| unreachable());
    assert!(model.condition(0).is_lost(), "{:?}", model.condition(0));
}
