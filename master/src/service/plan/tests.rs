//! The plan of one step, case by case.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, WallMs},
    ids::{Generation, ServiceName},
    image::ImageRef,
    spec::{Order, RestartCondition, ServiceSpec, Template, Update},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::{
    super::{
        observations::AWAY_PATIENCE,
        rollout::{Phase, Rollout, Terms},
        slot_set::SlotSet,
        slots::slots,
    },
    *,
};
use crate::membership::{HostCondition, Intent};

/// Another generation without a rollout, as records of before rollouts have them.
fn bare_update(record: &mut ServiceRecord, template: Template) {
    record.set_template(template.into(), WallMs(0), Terms { good: false, history_limit: 0 });
    record.rollout = None;
}

/// One slot with a replica of each of these generations, of which the last is the newest.
fn record(generations: &[u32]) -> ServiceRecord {
    let name = ServiceName::parse("web").unwrap();
    let template = |n: u32| Template::of(ImageRef::parse(&format!("app:{n}")).unwrap());
    let update = Update { monitor_ms: 0, ..Update::default() };
    let spec = ServiceSpec { update, ..ServiceSpec::of(name.clone(), 1, template(1)) };
    let mut record = ServiceRecord::new(spec, WallMs(0));
    for (n, &generation) in (1..).zip(generations) {
        while record.generation < Generation(generation.into()) {
            bare_update(&mut record, template(generation));
        }
        record.replicas.push(ReplicaRecord {
            id: ReplicaId::new(&name, n),
            slot: Slot(0),
            generation: record.generation,
            node: NodeName::parse("h1").unwrap(),
            want: Want::Run,
            attempt: 0,
            moving: false,
            done: None,
        });
    }
    record
}

fn planned(record: &ServiceRecord, observed: &Observations) -> Plan {
    plan(record, &slots(record, observed), observed)
}

fn retired(record: &ServiceRecord, observed: &Observations) -> Vec<ReplicaId> {
    planned(record, observed).retire.into_iter().map(|(_, id)| id).collect()
}

/// One of the replicas is otherwise.
fn change(record: &mut ServiceRecord, at: usize, how: impl Fn(&mut ReplicaRecord)) {
    let mut all: Vec<_> = record.replicas.iter().cloned().collect();
    how(&mut all[at]);
    record.replicas = all.into_iter().collect();
}

fn hears(observed: &mut Observations, n: u32, state: ReplicaState, health: Health) -> ReplicaId {
    let id = ReplicaId::new(&ServiceName::parse("web").unwrap(), n);
    let status = ReplicaStatus { health, ..ReplicaStatus::new(id.clone(), state, WallMs(0)) };
    observed.statuses.insert(id.clone(), status);
    id
}

#[test]
fn of_several_earlier_generations_one_that_runs_stays() {
    let mut record = record(&[1, 2]);
    bare_update(&mut record, Template::of(ImageRef::parse("app:3").unwrap()));
    let mut observed = Observations::default();
    assert_eq!(retired(&record, &observed), [], "after a start of the master either may run");
    let first = hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    let second = record.replicas[1].id.clone();
    assert_eq!(retired(&record, &observed), [second]);
    hears(&mut observed, 2, ReplicaState::Running, Health::Healthy);
    assert_eq!(retired(&record, &observed), [first]);
}

#[test]
fn of_several_on_their_way_the_one_that_has_come_farthest_stays() {
    let record = record(&[1, 1]);
    let mut observed = Observations::default();
    let first = hears(&mut observed, 1, ReplicaState::Pulling, Health::Healthy);
    let second = hears(&mut observed, 2, ReplicaState::Running, Health::Unhealthy);
    assert_eq!(
        retired(&record, &observed),
        [first],
        "one that runs, though unwell, is worth more than a pull"
    );
    hears(&mut observed, 1, ReplicaState::Running, Health::Unhealthy);
    assert_eq!(retired(&record, &observed), [second]);
}

fn condition(standing: Standing) -> HostCondition {
    HostCondition::of(standing)
}
fn h1() -> NodeName {
    NodeName::parse("h1").unwrap()
}
fn placed(plan: &Plan) -> Vec<u32> {
    plan.place.iter().map(|(place, _)| place.slot.0).collect()
}

#[test]
fn only_a_host_that_is_lost_loses_its_replicas() {
    let record = record(&[1]);
    let mut observed = Observations::default();
    hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    let held = HostCondition { held: true, ..condition(Standing::Down) };
    let stay =
        [Standing::Awaited, Standing::Ready, Standing::Suspect, Standing::AgentDown, Standing::EngineDown];
    for kept in stay.map(condition).into_iter().chain([held]) {
        observed.host_changed(&h1(), kept, true);
        assert_eq!(planned(&record, &observed), Plan::default(), "{kept:?}");
    }
    observed.host_changed(&h1(), condition(Standing::Down), true);
    assert_eq!(placed(&planned(&record, &observed)), [0]);
}

#[test]
fn what_failed_on_a_host_that_is_lost_since_is_placed_without_a_delay() {
    let record = record(&[1]);
    let mut observed = Observations::default();
    let id = hears(&mut observed, 1, ReplicaState::Failed, Health::Healthy);
    observed.retry_at.insert(id, MonoMs(10_000));
    assert_eq!(planned(&record, &observed).wake_at, Some(MonoMs(10_000)));
    observed.host_changed(&h1(), condition(Standing::Down), true);
    assert_eq!(planned(&record, &observed).place, [(Place { slot: Slot(0), avoid: None }, 0)]);
}

#[test]
fn what_is_done_and_what_its_restart_policy_gave_up_is_not_placed_again() {
    let mut record = record(&[1]);
    let mut template = (*record.spec.template).clone();
    template.restart.condition = RestartCondition::Never;
    record.spec.template = template.into();
    let mut observed = Observations::default();
    let id = hears(&mut observed, 1, ReplicaState::Complete, Health::Healthy);
    assert_eq!(observed.class(&record, &record.replicas[0]), ReplicaClass::Ready);
    observed.host_changed(&h1(), condition(Standing::Down), true);
    assert_eq!(planned(&record, &observed), Plan::default(), "what is done on a lost host is done");
    observed.host_changed(&h1(), condition(Standing::Ready), true);

    hears(&mut observed, 1, ReplicaState::Failed, Health::Healthy);
    assert_eq!(placed(&planned(&record, &observed)), [0], "what never ran is tried again");
    observed.statuses.get_mut(&id).unwrap().exit_code = Some(1);
    assert_eq!(planned(&record, &observed), Plan::default());
}

#[test]
fn what_a_lost_host_has_not_begun_is_placed_again_after_a_while() {
    let record = record(&[1]);
    let id = record.replicas[0].id.clone();
    for standing in [Standing::Suspect, Standing::AgentDown, Standing::EngineDown] {
        let mut observed = Observations::default();
        observed.newly_placed.insert(id.clone());
        observed.host_changed(&h1(), condition(standing), true);
        let at = MonoMs(0) + AWAY_PATIENCE;
        assert_eq!(
            planned(&record, &observed),
            Plan { wake_at: Some(at), ..Plan::default() },
            "{standing:?}"
        );
        observed.set_now(at);
        assert_eq!(placed(&planned(&record, &observed)), [0], "{standing:?}");
        assert_eq!(retired(&record, &observed), [], "it goes when another runs");
        hears(&mut observed, 1, ReplicaState::Starting, Health::Healthy);
        assert_eq!(planned(&record, &observed), Plan::default(), "it has come about after all");
        // Placed before our own start, it may have run there for long.
        let mut observed = Observations::default();
        observed.host_changed(&h1(), condition(standing), true);
        observed.set_now(at + DurationMs(1));
        assert_eq!(planned(&record, &observed), Plan::default());
    }
}

#[test]
fn a_drained_host_keeps_what_it_runs_until_its_deadline() {
    let record = record(&[1]);
    let mut observed = Observations::default();
    let id = hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    let drained = HostCondition {
        intent: Intent::Drained { deadline: None, within: None },
        ..condition(Standing::Ready)
    };
    observed.host_changed(&h1(), drained, true);
    assert_eq!((placed(&planned(&record, &observed)), retired(&record, &observed)), (vec![0], vec![]));
    observed.host_changed(&h1(), HostCondition { overdue: true, ..drained }, true);
    assert_eq!((placed(&planned(&record, &observed)), retired(&record, &observed)), (vec![0], vec![id]));
}

#[test]
fn nothing_that_runs_goes_for_one_on_a_suspect_host() {
    let record = record(&[1, 1]);
    let mut record = record;
    change(&mut record, 1, |replica| replica.node = NodeName::parse("h2").unwrap());
    let mut observed = Observations::default();
    let drained = HostCondition {
        intent: Intent::Drained { deadline: None, within: None },
        ..condition(Standing::Ready)
    };
    observed.host_changed(&h1(), drained, true);
    observed.host_changed(&record.replicas[1].node, condition(Standing::Suspect), true);
    let first = hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    hears(&mut observed, 2, ReplicaState::Running, Health::Healthy);
    assert_eq!(planned(&record, &observed), Plan::default());
    observed.host_changed(&record.replicas[1].node, condition(Standing::Ready), true);
    assert_eq!(retired(&record, &observed), [first]);
}

#[test]
fn a_move_that_fails_leaves_the_original_where_it_is() {
    let mut record = record(&[1, 1]);
    change(&mut record, 0, |replica| replica.moving = true);
    let mut observed = Observations::default();
    let first = hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    assert_eq!(planned(&record, &observed), Plan::default(), "its replacement is on its way");
    let second = hears(&mut observed, 2, ReplicaState::Failed, Health::Healthy);
    assert_eq!(planned(&record, &observed), Plan { cancel_moves: vec![(Slot(0), first)], ..Plan::default() });
    change(&mut record, 0, |replica| replica.moving = false);
    assert_eq!(retired(&record, &observed), [second]);
}

#[test]
fn what_was_only_just_placed_serves_nobody_yet() {
    let mut record = record(&[1, 2]);
    record.spec.replicas = 2;
    record.spec.update = Update { order: Order::StopFirst, parallelism: 1, ..record.spec.update };
    change(&mut record, 0, |replica| replica.slot = Slot(1));
    record.rollout = Some(Rollout {
        from: None,
        phase: Phase::RollingBack { failed: Generation(3), why: String::new() },
        started: WallMs(0),
        started_slots: SlotSet::default(),
        failures: BTreeMap::new(),
        once_emptied: SlotSet::default(),
        last_failure: None,
        promoted: false,
        stops_first: false,
        replicas: None,
    });
    let mut observed = Observations::default();
    let old = hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    observed.placed([&record.replicas[0].id].into_iter());
    assert_eq!(planned(&record, &observed), Plan::default(), "one slot at a time");
    hears(&mut observed, 2, ReplicaState::Running, Health::Healthy);
    assert_eq!(retired(&record, &observed), [old]);
}

#[test]
fn a_lost_replacement_does_not_block_its_slot() {
    let mut record = record(&[1, 2]);
    change(&mut record, 1, |replica| replica.node = NodeName::parse("h2").unwrap());
    let mut observed = Observations::default();
    hears(&mut observed, 1, ReplicaState::Running, Health::Healthy);
    observed.host_changed(&record.replicas[1].node, condition(Standing::Down), true);
    assert_eq!(placed(&planned(&record, &observed)), [0]);
}
