//! The reporter's rules, event by event.

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{BootId, ClusterId, Epoch, Fence, LeaderId, NodeName, ReplicaId, Revision},
    protocol::{Accepted, Push, Registered, Report, ReportAck},
    status::{ReplicaState, ReplicaStatus},
};

use super::{
    core::*,
    events::{Effect, Event, Failure, Settings},
    messages::Observed,
};
use crate::engine::EngineFacts;

fn settings(masters: usize) -> Settings {
    Settings {
        node: NodeName::parse("h1").unwrap(),
        boot: BootId::parse("00000000000000b0").unwrap(),
        agent_url: "http://10.0.0.1:11044".into(),
        masters,
        debounce: DurationMs(20),
        seed: 7,
    }
}

fn at(ms: u64) -> Now {
    Now { mono: MonoMs(ms), wall: WallMs(ms) }
}

fn fence() -> Fence {
    Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000aa").unwrap() }
}

fn registered() -> Event {
    let cluster = ClusterId::parse("00000000000000cc").unwrap();
    Event::Registered(Ok(Registered { cluster, fence: fence(), report_interval_ms: 1_000 }))
}

fn ack() -> ReportAck {
    ReportAck {
        fence: fence(),
        want_full: false,
        want_registration: false,
        report_interval_ms: None,
        push: None,
        denied: Vec::new(),
        cas: Vec::new(),
    }
}

/// The newest report is answered.
fn answered(core: &Core, ack: ReportAck) -> Event {
    Event::Reported { seq: core.newest(), outcome: Ok(ack) }
}

fn acked(core: &Core) -> Event {
    answered(core, ack())
}

fn lost(core: &Core) -> Event {
    Event::Reported { seq: core.newest(), outcome: Err(Failure::Unreachable) }
}

fn ready() -> Event {
    Event::Observed(Box::new(Observed {
        facts: Some(EngineFacts::default()),
        listed: Some(true),
        ..Observed::default()
    }))
}

fn status(number: u32, state: ReplicaState) -> ReplicaStatus {
    ReplicaStatus::new(ReplicaId::parse(&format!("web-{number:06}")).unwrap(), state, WallMs(1))
}

fn observed(statuses: &[ReplicaStatus]) -> Event {
    Event::Observed(Box::new(Observed {
        statuses: statuses.iter().map(|s| (s.replica.clone(), s.clone())).collect(),
        ..Observed::default()
    }))
}

fn report(effects: &[Effect]) -> Option<&Report> {
    effects.iter().find_map(|effect| match effect {
        Effect::Report { report, .. } => Some(&**report),
        Effect::Register { .. }
        | Effect::Joined(_)
        | Effect::Acknowledged(_)
        | Effect::MasterAnswered
        | Effect::ApplyPush(_) => None,
    })
}

/// Registered, and its first, full report acknowledged, at 0 ms.
fn member() -> Core {
    let mut core = Core::new(settings(1));
    core.handle(Event::Begin, at(0));
    assert!(matches!(core.handle(ready(), at(0))[..], [Effect::Register { master: 0, .. }]));
    let effects = core.handle(registered(), at(0));
    assert!(report(&effects).unwrap().full, "the first report is full and goes out at once");
    core.handle(acked(&core), at(0));
    core
}

#[test]
fn the_first_registration_waits_for_the_engine_but_not_for_long() {
    let mut core = Core::new(settings(1));
    assert!(core.handle(Event::Begin, at(0)).is_empty());
    assert_eq!(core.next_wake(), Some(MonoMs(2_000)));
    assert!(core.handle(Event::Tick, at(1_999)).is_empty());
    assert!(matches!(core.handle(Event::Tick, at(2_000))[..], [Effect::Register { facts: None, .. }]));
    core.handle(registered(), at(2_000));
    // When the engine comes, it is told.
    core.handle(ready(), at(2_500));
    assert!(matches!(
        core.handle(acked(&core), at(2_501))[..],
        [Effect::MasterAnswered, Effect::Register { facts: Some(_), .. }]
    ));
}

#[test]
fn a_report_is_full_only_once_the_engine_has_shown_its_containers() {
    let mut core = Core::new(settings(1));
    core.handle(Event::Begin, at(0));
    core.handle(Event::Tick, at(2_000));
    let effects = core.handle(registered(), at(2_000));
    assert!(!report(&effects).unwrap().full, "the engine is away: what is missing says nothing");
    let want_full = answered(&core, ReportAck { want_full: true, ..ack() });
    assert_eq!(core.handle(want_full, at(2_001)), [Effect::MasterAnswered]);
    assert!(core.next_wake() > Some(MonoMs(2_500)), "asking again at once would not help");
    let mut shown = Observed { listed: Some(true), ..Observed::default() };
    shown.statuses.insert(status(1, ReplicaState::Running).replica, status(1, ReplicaState::Running));
    core.handle(Event::Observed(Box::new(shown)), at(2_100));
    let effects = core.handle(Event::Tick, at(2_120));
    assert!(report(&effects).unwrap().full);
    assert_eq!(report(&effects).unwrap().statuses.len(), 1);
}

#[test]
fn changes_are_gathered_and_go_out_in_one_report() {
    let mut core = member();
    assert!(core.handle(observed(&[status(1, ReplicaState::Starting)]), at(100)).is_empty());
    assert!(core.handle(observed(&[status(2, ReplicaState::Starting)]), at(105)).is_empty());
    assert!(core.handle(observed(&[status(1, ReplicaState::Running)]), at(110)).is_empty());
    assert_eq!(core.next_wake(), Some(MonoMs(120)));
    let effects = core.handle(Event::Tick, at(120));
    let report = report(&effects).unwrap();
    assert!(!report.full);
    assert_eq!(report.statuses, [status(1, ReplicaState::Running), status(2, ReplicaState::Starting)]);
}

#[test]
fn one_call_at_a_time_and_what_was_not_acknowledged_is_sent_again() {
    let mut core = member();
    core.handle(observed(&[status(1, ReplicaState::Starting)]), at(100));
    assert!(report(&core.handle(Event::Tick, at(120))).is_some());
    assert!(
        core.handle(observed(&[status(1, ReplicaState::Running), status(2, ReplicaState::Running)]), at(130))
            .is_empty()
    );
    assert!(core.handle(Event::Tick, at(500)).is_empty(), "one is in flight");
    assert!(core.handle(lost(&core), at(510)).is_empty());
    assert_eq!(core.next_wake(), Some(MonoMs(610)));
    let effects = core.handle(Event::Tick, at(610));
    assert_eq!(report(&effects).unwrap().statuses.len(), 2);
    core.handle(acked(&core), at(620));
    let effects = core.handle(Event::Tick, at(3_000));
    assert!(report(&effects).unwrap().statuses.is_empty(), "a heartbeat has nothing to say");
}

#[test]
fn what_stopped_is_forgotten_once_the_master_knows() {
    let mut core = member();
    core.handle(observed(&[status(1, ReplicaState::Stopped)]), at(100));
    core.handle(Event::Tick, at(120));
    let effects = core.handle(acked(&core), at(121));
    assert_eq!(
        effects,
        [Effect::MasterAnswered, Effect::Acknowledged(vec![status(1, ReplicaState::Stopped).replica])]
    );
    // A full report no longer names it.
    core.handle(observed(&[status(2, ReplicaState::Running)]), at(200));
    core.handle(Event::Tick, at(220));
    let want = answered(&core, ReportAck { want_full: true, want_registration: false, ..ack() });
    core.handle(want, at(221));
    let effects = core.handle(Event::Tick, at(241));
    let report = report(&effects).unwrap();
    assert!(report.full);
    assert_eq!(report.statuses, [status(2, ReplicaState::Running)]);
}

#[test]
fn a_master_that_does_not_know_the_host_gets_a_registration_and_all() {
    let mut core = member();
    core.handle(observed(&[status(1, ReplicaState::Running)]), at(100));
    core.handle(Event::Tick, at(120));
    let want = answered(&core, ReportAck { want_full: false, want_registration: true, ..ack() });
    assert!(matches!(core.handle(want, at(121))[..], [Effect::Register { .. }]));
    let effects = core.handle(registered(), at(122));
    let report = report(&effects).unwrap();
    assert!(report.full);
    assert_eq!(report.statuses.len(), 1);
}

#[test]
fn masters_take_turns_and_a_refusal_waits_five_seconds() {
    let mut core = Core::new(settings(2));
    core.handle(Event::Begin, at(0));
    assert!(matches!(core.handle(ready(), at(0))[..], [Effect::Register { master: 0, .. }]));
    core.handle(Event::Registered(Err(Failure::Unreachable)), at(0));
    assert!(matches!(core.handle(Event::Tick, at(100))[..], [Effect::Register { master: 1, .. }]));
    core.handle(Event::Registered(Err(Failure::Refused)), at(100));
    assert_eq!(core.next_wake(), Some(MonoMs(5_100)));
    assert!(matches!(core.handle(Event::Tick, at(5_100))[..], [Effect::Register { master: 0, .. }]));
}

/// The newest report is not taken for now.
fn not_taken(core: &Core, retry_after: Option<u64>) -> Event {
    let later = Failure::Later { retry_after: retry_after.map(DurationMs) };
    Event::Reported { seq: core.newest(), outcome: Err(later) }
}

#[test]
fn heartbeats_go_on_while_a_report_is_not_taken() {
    let mut core = member();
    core.handle(observed(&[status(1, ReplicaState::Running)]), at(10));
    assert_eq!(report(&core.handle(Event::Tick, at(30))).unwrap().statuses.len(), 1);
    core.handle(not_taken(&core, Some(3_600_000)), at(40));
    // Without its statuses, and not in the hour that was asked for.
    let mut now = 40;
    loop {
        let wake = core.next_wake().unwrap().0;
        assert!(wake <= now + 1_200, "silent from {now} to {wake}");
        now = wake;
        let effects = core.handle(Event::Tick, at(now));
        if report(&effects).unwrap().statuses.len() == 1 {
            break;
        }
        core.handle(acked(&core), at(now));
    }
    assert_eq!(now, 30_040);
}

#[test]
fn a_member_that_is_told_to_come_later_is_silent_for_one_interval_at_most() {
    let mut core = member();
    core.handle(Event::Tick, at(1_100));
    core.handle(not_taken(&core, Some(60_000)), at(1_100));
    assert_eq!(core.next_wake(), Some(MonoMs(2_100)));
    assert!(report(&core.handle(Event::Tick, at(2_100))).is_some());
    core.handle(not_taken(&core, None), at(2_100));
    assert_eq!(core.next_wake(), Some(MonoMs(2_300)), "doubling from 100 ms");
}

#[test]
fn a_registration_that_is_not_taken_waits_as_asked_within_30_s() {
    let mut core = Core::new(settings(1));
    core.handle(Event::Begin, at(0));
    core.handle(ready(), at(0));
    let later = |ms| Event::Registered(Err(Failure::Later { retry_after: Some(DurationMs(ms)) }));
    core.handle(later(7_000), at(0));
    assert_eq!(core.next_wake(), Some(MonoMs(7_000)));
    core.handle(Event::Tick, at(7_000));
    core.handle(later(3_600_000), at(7_000));
    assert_eq!(core.next_wake(), Some(MonoMs(37_000)));
}

#[test]
fn heartbeats_keep_their_interval_within_a_tenth_and_do_not_march_in_step() {
    let mut core = member();
    let mut now = 0;
    let mut gaps = Vec::new();
    for _ in 0..50 {
        let wake = core.next_wake().unwrap().0;
        gaps.push(wake - now);
        now = wake;
        assert!(report(&core.handle(Event::Tick, at(now))).is_some());
        core.handle(acked(&core), at(now));
    }
    assert!(gaps.iter().all(|gap| (900..=1_100).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().collect::<std::collections::BTreeSet<_>>().len() > 10, "{gaps:?}");
}

#[test]
fn a_heartbeat_goes_past_a_report_that_hangs_and_only_two_are_in_flight() {
    let mut core = member();
    core.handle(observed(&[status(1, ReplicaState::Running)]), at(100));
    let first = report(&core.handle(Event::Tick, at(120))).unwrap().seq;
    let wake = core.next_wake().unwrap();
    assert!(wake >= MonoMs(1_020), "its heartbeat is not due before: {wake:?}");
    let effects = core.handle(Event::Tick, at(1_300));
    let second = report(&effects).unwrap();
    assert_eq!((second.seq, second.statuses.len(), second.full), (first + 1, 0, false));
    assert_eq!(core.next_wake(), None, "two are in flight");
    assert!(core.handle(Event::Tick, at(1_900)).is_empty());
    // The second is answered, the first then fails: the master is there, and the status is told again.
    core.handle(acked(&core), at(1_910));
    let effects = core.handle(Event::Reported { seq: first, outcome: Err(Failure::Unreachable) }, at(2_120));
    assert!(
        matches!(&effects[..], [Effect::Report { master: 0, report }] if report.statuses.len() == 1),
        "{effects:?}"
    );
}

#[test]
fn a_report_that_was_overtaken_confirms_nothing() {
    let mut core = member();
    core.handle(observed(&[status(1, ReplicaState::Stopped)]), at(100));
    let first = report(&core.handle(Event::Tick, at(120))).unwrap().seq;
    core.handle(Event::Tick, at(1_300));
    let effects = core.handle(Event::Reported { seq: first, outcome: Ok(ack()) }, at(1_310));
    assert_eq!(effects, [Effect::MasterAnswered], "the master may have read the later one first");
    core.handle(acked(&core), at(1_311));
    let effects = core.handle(Event::Tick, at(1_340));
    assert_eq!(report(&effects).unwrap().statuses.len(), 1);
    assert_eq!(core.handle(acked(&core), at(1_350)).len(), 2, "answered, and forgotten");
}

#[test]
fn where_every_answer_takes_long_reports_are_given_the_time() {
    let mut core = Core::new(settings(1));
    core.handle(Event::Begin, at(0));
    core.handle(ready(), at(0));
    let cluster = ClusterId::parse("00000000000000cc").unwrap();
    core.handle(
        Event::Registered(Ok(Registered { cluster, fence: fence(), report_interval_ms: 500 })),
        at(0),
    );
    let mut flying = vec![(core.newest(), 0)];
    let mut round_trip = None;
    for now in 1..6_000 {
        let mut effects = core.handle(Event::Tick, at(now));
        if let Some(index) = flying.iter().position(|(_, sent)| now - sent == 900) {
            let (seq, _) = flying.remove(index);
            effects.extend(core.handle(Event::Reported { seq, outcome: Ok(ack()) }, at(now)));
        }
        if let Some(report) = report(&effects) {
            flying.push((report.seq, now));
            round_trip = report.round_trip_ms;
        }
        assert!(now < 3_000 || flying.len() <= 1, "at {now}: {flying:?}");
    }
    assert_eq!(round_trip, Some(900));
}

#[test]
fn the_master_sets_the_pace_and_learns_how_long_it_took_to_answer() {
    let mut core = member();
    core.handle(Event::Tick, at(1_100));
    core.handle(answered(&core, ReportAck { report_interval_ms: Some(100), ..ack() }), at(1_130));
    assert_eq!(core.next_wake(), Some(MonoMs(1_230)));
    let effects = core.handle(Event::Tick, at(1_230));
    assert_eq!(report(&effects).unwrap().round_trip_ms, Some(30));
    core.handle(acked(&core), at(1_232));
    let effects = core.handle(Event::Tick, at(1_400));
    assert_eq!(report(&effects).unwrap().round_trip_ms, Some(30), "the longer of the latest two");
    core.handle(acked(&core), at(1_401));
    let effects = core.handle(Event::Tick, at(1_600));
    assert_eq!(report(&effects).unwrap().round_trip_ms, Some(2));
}

#[test]
fn orders_that_come_with_an_answer_are_applied_and_reported_at_once() {
    let mut core = member();
    let push = Push {
        cluster: ClusterId::parse("00000000000000cc").unwrap(),
        fence: fence(),
        base: None,
        revision: Revision(4),
        set: vec![],
        remove: vec![],
        by_name: true,
        credentials: std::collections::BTreeMap::new(),
        holds: None,
        templates_once: false,
    };
    core.handle(Event::Tick, at(1_100));
    let with_push = ReportAck { push: Some(Box::new(push.clone())), ..ack() };
    let effects = core.handle(answered(&core, with_push), at(1_101));
    assert_eq!(effects, [Effect::MasterAnswered, Effect::ApplyPush(Box::new(push))]);
    let accepted = Accepted { fence: fence(), revision: Revision(4) };
    core.handle(
        Event::Observed(Box::new(Observed { accepted: Some(accepted.clone()), ..Observed::default() })),
        at(1_110),
    );
    let effects = core.handle(Event::PushApplied, at(1_110));
    assert_eq!(report(&effects).unwrap().accepted, Some(accepted));
}

proptest! {
    #[test]
    fn the_latest_status_of_every_replica_arrives_however_calls_end(
        steps in prop::collection::vec((0..4_u32, 0..6_usize, any::<bool>(), 0..900_u64), 1..60)
    ) {
        let states = [
            ReplicaState::Assigned, ReplicaState::Pulling, ReplicaState::Starting, ReplicaState::Running,
            ReplicaState::Failed, ReplicaState::Stopping,
        ];
        let mut core = member();
        let mut wanted = std::collections::BTreeMap::new();
        let mut arrived = std::collections::BTreeMap::new();
        let mut flying: std::collections::VecDeque<Report> = [].into();
        let mut now = 10;
        let (mut seq, mut read) = (0, 0);
        let mut take = |effects: Vec<Effect>, flying: &mut std::collections::VecDeque<Report>| {
            for effect in effects {
                if let Effect::Report { report, .. } = effect {
                    assert!(flying.len() < 2, "three calls in flight");
                    assert!(report.seq > seq);
                    seq = report.seq;
                    flying.push_back(*report);
                }
            }
        };
        for (number, state, lost, wait) in steps {
            now += wait;
            let reported = status(number, states[state]);
            wanted.insert(reported.replica.clone(), reported.clone());
            take(core.handle(observed(&[reported]), at(now)), &mut flying);
            take(core.handle(Event::Tick, at(now)), &mut flying);
            // Either of those in flight ends: unread, read and unanswered, or answered. The master reads none
            // after a later one.
            let next = if wait % 5 == 0 { flying.pop_back() } else { flying.pop_front() };
            if let Some(report) = next {
                if wait % 3 != 0 {
                    flying.push_front(report);
                    flying.make_contiguous().sort_by_key(|report| report.seq);
                    continue;
                }
                let failure = if wait % 2 == 0 {
                    Failure::Unreachable
                } else {
                    Failure::Later { retry_after: Some(DurationMs(10 * wait)) }
                };
                let outcome = if lost { Err(failure) } else { Ok(ack()) };
                if (!lost || wait % 2 == 0) && report.seq > read {
                    read = report.seq;
                    arrived.extend(report.statuses.into_iter().map(|s| (s.replica.clone(), s)));
                }
                take(core.handle(Event::Reported { seq: report.seq, outcome }, at(now)), &mut flying);
            }
        }
        for _ in 0..8 {
            now += 5_000;
            take(core.handle(Event::Tick, at(now)), &mut flying);
            while let Some(report) = flying.pop_front() {
                if report.seq > read {
                    read = report.seq;
                    arrived.extend(report.statuses.into_iter().map(|s| (s.replica.clone(), s)));
                }
                let reported = Event::Reported { seq: report.seq, outcome: Ok(ack()) };
                take(core.handle(reported, at(now)), &mut flying);
            }
        }
        prop_assert_eq!(arrived, wanted);
    }
}
