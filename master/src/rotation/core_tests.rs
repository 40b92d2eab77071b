//! Rotations under faults: crashes, failing commits, hosts that are away or of an earlier version.

mod model;

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs, WallMs},
    ids::Version,
    tls::digests,
};

use self::model::{Model, Op, next};
use super::{
    RotationRefused,
    core::{RotationCore, SHORTEST_STEP},
    events::{Effect, Event, HostSays},
    view::{CaState, PhaseWord},
};
use crate::{identity::AuthorityRecord, membership::Standing, store::CommitError};

/// A CA as the store of a version without rotations has it.
fn first() -> AuthorityRecord {
    let next = next(0);
    let record = format!(r#"{{"certificate":{:?},"sealed":"00"}}"#, next.certificate);
    serde_json::from_str(&record).unwrap()
}

fn core() -> RotationCore {
    RotationCore::new(first(), Version(1), MonoMs(0))
}

fn rotate(core: &mut RotationCore, compromised: bool, now: MonoMs) -> Vec<Effect> {
    let event = Event::Rotate { ticket: 1, next: next(1), compromised, wall: WallMs(0) };
    core.handle(event, now)
}

/// Has what was committed stored and copied.
fn stored(core: &mut RotationCore, now: MonoMs) {
    assert!(!core.handle(Event::Committed(Ok(())), now).is_empty());
    let _ = core.handle(Event::Copied(true), now);
}

fn host(core: &RotationCore, standing: Standing) -> HostSays {
    let node = "h1".parse().unwrap();
    HostSays { node, standing, version: "0.2.0".to_owned(), cas: Some(core.record().cas()) }
}

#[test]
fn a_rotation_has_two_phases_and_each_waits_for_all_hosts_that_are_there() {
    let mut core = core();
    let old = core.record().cas();
    let before = host(&core, Standing::Ready);
    assert!(matches!(rotate(&mut core, false, MonoMs(0))[..], [Effect::Commit { expect: Version(1), .. }]));
    assert_eq!(core.record().cas(), old, "nothing counts before it is durable");
    stored(&mut core, MonoMs(0));
    let both = core.record().cas();
    assert_eq!((both.len(), &both[0]), (2, &old[0]), "the old one signs");

    let late = MonoMs(0) + DurationMs(3_600_000);
    assert_eq!(core.handle(Event::Look(vec![before.clone()]), late), []);
    let shown = core.view(WallMs(0)).rotation.unwrap();
    assert_eq!((shown.phase, shown.done, shown.waits_for.len()), (PhaseWord::Trust, 0, 1));
    let down = HostSays { standing: Standing::Down, ..before };
    let there = host(&core, Standing::Ready);
    let soon = MonoMs(0) + DurationMs(SHORTEST_STEP.0 - 1);
    assert_eq!(core.handle(Event::Look(vec![there.clone()]), soon), [], "not before its time");
    let [Effect::Commit { record, .. }] = &core.handle(Event::Look(vec![down, there]), late)[..] else {
        panic!("the next phase begins");
    };
    assert_eq!(record.cas(), [both[1].clone(), both[0].clone()], "the new one signs");
    stored(&mut core, late);

    let later = late + SHORTEST_STEP;
    let done = host(&core, Standing::Suspect);
    assert_eq!(core.view(WallMs(0)).rotation.unwrap().phase, PhaseWord::Certificates);
    assert!(matches!(core.handle(Event::Look(vec![done]), later)[..], [Effect::Commit { .. }]));
    stored(&mut core, later);
    assert_eq!(core.record().cas(), [both[1].clone()]);
    assert!(core.record().follows(&first()) && !first().follows(core.record()));
    let view = core.view(WallMs(0));
    let states: Vec<_> = view.cas.iter().map(|ca| ca.state).collect();
    assert_eq!((states, view.rotation), (vec![CaState::Signs, CaState::Former], None));
}

#[test]
fn after_a_theft_nothing_leads_from_the_old_ca_to_the_new_one() {
    let mut core = core();
    let _ = rotate(&mut core, true, MonoMs(0));
    for _ in 0..2 {
        stored(&mut core, MonoMs(0));
        let _ = core.handle(Event::Continue(2), MonoMs(0));
    }
    stored(&mut core, MonoMs(0));
    assert_eq!(core.record().vouching(WallMs(0)).count(), 0);
    assert_eq!(core.view(WallMs(0)).cas.len(), 1);
    assert!(!serde_json::to_string(core.record()).unwrap().contains("cross"));
}

#[test]
fn one_rotation_at_a_time_and_a_commit_that_fails_changes_nothing() {
    let mut core = core();
    let answer = |refused| vec![Effect::Answer(1, Err(refused))];
    let not_under_way = core.handle(Event::Continue(1), MonoMs(0));
    assert_eq!(not_under_way, answer(RotationRefused::NotUnderWay));
    let _ = rotate(&mut core, false, MonoMs(0));
    assert_eq!(rotate(&mut core, false, MonoMs(0)), answer(RotationRefused::UnderWay));
    let failed = CommitError::Busy;
    let refused = core.handle(Event::Committed(Err(failed.clone())), MonoMs(0));
    assert_eq!(refused, answer(failed.into()));
    assert_eq!(core.record(), &first());
    let _ = rotate(&mut core, false, MonoMs(0));
    let [Effect::Use(_), Effect::Copy(copy)] = &core.handle(Event::Committed(Ok(())), MonoMs(0))[..] else {
        panic!("it counts");
    };
    assert_eq!(rotate(&mut core, false, MonoMs(0)), answer(RotationRefused::UnderWay));
    assert_eq!(core.handle(Event::Copied(false), MonoMs(0)), [Effect::Answer(1, Ok(()))]);
    assert_eq!(core.handle(Event::Continue(1), MonoMs(0)), answer(RotationRefused::NotCopied));
    assert_eq!(core.handle(Event::Look(Vec::new()), MonoMs(1)), [Effect::Copy(copy.clone())]);
}

#[test]
fn a_host_whose_agent_knows_nothing_of_rotations_is_named() {
    let mut core = core();
    let _ = rotate(&mut core, false, MonoMs(0));
    stored(&mut core, MonoMs(0));
    let says = |cas, standing| HostSays { cas, ..host(&core, standing) };
    let hosts = vec![
        says(Some(Vec::new()), Standing::Ready),
        says(None, Standing::Awaited),
        says(Some(first().cas()), Standing::AgentDown),
        says(Some(first().cas()), Standing::Ready),
        says(None, Standing::Down),
    ];
    let late = MonoMs(0) + SHORTEST_STEP;
    assert_eq!(core.handle(Event::Look(hosts), late), []);
    let waits = core.view(WallMs(0)).rotation.unwrap().waits_for;
    let reasons: Vec<_> = waits.iter().map(|waits| waits.reason.as_str()).collect();
    assert!(reasons[0].starts_with("its agent (version 0.2.0) does not know of rotations"), "{reasons:?}");
    assert!(reasons[1].starts_with("it has not reported") && reasons[2].starts_with("its agent does not"));
    assert!(reasons[3].starts_with("it has not stored") && reasons.len() == 4, "{reasons:?}");
}

#[test]
fn records_of_versions_without_rotations_are_read_and_written_as_they_were() {
    let text = serde_json::to_value(first()).unwrap();
    assert_eq!(text.as_object().unwrap().keys().collect::<Vec<_>>(), ["certificate", "sealed"]);
    let trust = first().begin(next(1), false, WallMs(7));
    let leaves = trust.advance().unwrap();
    for record in [&trust, &leaves, &leaves.advance().unwrap()] {
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(serde_json::from_str::<AuthorityRecord>(&text).unwrap(), *record, "{text}");
    }
    assert_eq!(leaves.advance().unwrap().advance(), None);
    assert_eq!(digests(&trust.trusted()).len(), 2);
}

proptest! {
    #[test]
    fn no_member_is_left_with_a_certificate_that_another_does_not_trust_property(
        ops in proptest::collection::vec(Op::any(), 1..200),
    ) {
        let mut model = Model::new(first());
        for op in ops {
            model.carry_out(op);
            model.check();
        }
        model.ends();
    }
}
