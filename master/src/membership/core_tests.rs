//! The membership core against hosts that report, answer probes, or do not.

mod model;
mod ports;
mod property;
mod together;

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{Epoch, Fence, LeaderId},
    protocol::{Alive, Follows, ProbeOutcome},
};

use self::model::{Model, answered, node, not_probed, silent, uid, unreachable};
use super::{
    HostReported, Intent, Standing,
    events::{Effect, Event},
};

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
fn an_agent_that_answers_a_probe_says_whom_it_follows() {
    let mut model = Model::new(1);
    let fence = Fence { epoch: Epoch(9), leader: LeaderId::none() };
    let follows = Some(Follows { fence, leader_silent_ms: 5 });
    let ProbeOutcome::Answered(alive) = answered(0) else { panic!("it answers") };
    let outcome = |uid| ProbeOutcome::Answered(Alive { uid, follows: follows.clone(), ..alive.clone() });
    let probed = |model: &mut Model, outcome| {
        let event = Event::ProbeDone { node: node(0), round: 0, via: None, outcome };
        let effects = model.core.handle(event, Now { mono: MonoMs(2_000), wall: WallMs(2_000) });
        effects.into_iter().any(|effect| matches!(effect, Effect::Follows(of, _) if of == node(0)))
    };
    assert!(probed(&mut model, outcome(uid(0))));
    assert!(!probed(&mut model, outcome(uid(1))), "another host, at the same address");
    assert!(!probed(&mut model, answered(0)), "it does not say");
}

#[test]
fn a_host_that_is_down_is_asked_seldom_and_by_the_master_alone() {
    let mut model = Model::ready(3);
    model.pass(4_000, &[1, 2], |_| unreachable());
    assert_eq!(model.condition(0).standing, Standing::Down);
    let before = model.lines.len();
    model.pass(60_000, &[1, 2], |_| unreachable());
    let asked = model.lines[before..].iter().filter(|line| line.contains("Probe {")).collect::<Vec<_>>();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked.iter().all(|line| line.contains("via: None")), "{asked:?}");
    // Its answer says whom it follows, and that it is there its reports say.
    model.pass(20_000, &[1, 2], answered);
    assert_eq!(model.condition(0).standing, Standing::Down);
    model.report(0);
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
    model.event(Event::HostReported(HostReported {
        node: node(0),
        engine_ok: false,
        round_trip: None,
        probe_key: None,
    }));
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
fn a_master_without_sockets_calls_nobody_down_and_says_why() {
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
    let slow =
        HostReported { node: node(0), engine_ok: true, round_trip: Some(DurationMs(400)), probe_key: None };
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
