//! Hosts that are cut off together, in any order and spacing within one probe window.

use super::*;

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
        while let Some(at) =
            model.probes.iter().position(|probe| due[&(probe.node, probe.round)] <= model.now)
        {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn more_hosts_than_the_limit_that_go_together_lose_nothing_in_any_order_and_spacing(
        hosts in proptest::collection::vec((0_u64..500, 0_u64..850, any::<bool>()), 3..10),
        order in any::<proptest::sample::Index>(), late in 0_u64..100,
    ) {
        let limit = (hosts.len() * 33 / 100).max(2);
        let first = order.index(hosts.len());
        let plans: Vec<Plan> = hosts.iter().enumerate().map(|(n, (phase, cut_at, more))| {
            // At least one more than the limit, wherever they begin.
            let goes = (n + hosts.len() - first) % hosts.len() <= limit || *more;
            Plan { phase: *phase, cut_at: goes.then_some(1_000 + cut_at) }
        }).collect();
        prop_assert!(!anything_is_lost(&plans, late), "{plans:?}");
    }
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
    model.pass(700, &[1], |_| unreachable());
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
