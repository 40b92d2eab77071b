//! Data is not left behind, whatever is asked for and in whatever order hosts come back.

use shef_common::{
    ids::{Generation, ReplicaId, ServiceName, Slot},
    protocol::Assignment,
    spec::{Mode, Operator, ServiceSpec, Update},
    status::ReplicaState,
};

use super::{
    super::{
        conflict::Conflict,
        record::ServiceRecord,
        request::{Expect, Refused, Request},
    },
    bindings::{DOWN, DRAINED, READY, in_zone, missing, model, on, put, running, sticky, zone},
    model::{Model, node, spec},
};
use crate::{
    membership::{HostCondition, HostFacts, Intent, Standing},
    scheduler::{Claim, LoadChange, Requirements},
};

fn with_env(mut spec: ServiceSpec) -> ServiceSpec {
    std::sync::Arc::make_mut(&mut spec.template).env.insert("A".into(), "1".into());
    spec
}
fn pass(model: &mut Model, seconds: u64) {
    for _ in 0..seconds {
        model.sleep(1_000);
        model.settle();
    }
}
fn record(model: &Model) -> ServiceRecord {
    model.durable.clone().unwrap().1
}
fn is_asked(model: &mut Model, request: Request) -> Result<(), Refused> {
    let ticket = model.ask(request);
    model.settle();
    model.answers[&ticket].clone().map(|_| ())
}
/// The field that `request` is refused for.
fn refused_for(model: &mut Model, request: Request) -> String {
    match is_asked(model, request) {
        Err(Refused::Invalid(errors)) => errors[0].field.clone(),
        other => panic!("{other:?}"),
    }
}
fn release() -> Request {
    Request::Release { slot: Slot(0), expect: Expect::Any }
}
/// Loads the host with `count` replicas of others.
fn fill_host(model: &mut Model, n: usize, count: u32) {
    let other = ServiceName::parse("busy").unwrap();
    for number in 0..count {
        let claim = Claim {
            replica: ReplicaId::new(&other, number),
            node: node(n),
            requires: Requirements::default(),
        };
        model.scheduler.load(&other, &LoadChange::Occupy(claim));
    }
}

#[test]
fn no_replica_stops_for_an_update_that_the_home_of_its_volume_cannot_run() {
    let mut model = model(&["a", "b"]);
    model.describe(1, HostFacts { memory_bytes: 9_000, ..in_zone("b") });
    model.ask(put(sticky(1)));
    model.settle();
    let serves = on(&[(0, 1)]);
    assert_eq!(running(&model), serves);
    let mut large = sticky(1);
    std::sync::Arc::make_mut(&mut large.template).resources.reserve.memory_bytes = 5_000;
    assert_eq!(refused_for(&mut model, put(large)), "resources.reserve.memory_bytes");
    // To exclude the host alone moves nothing; nor does what follows.
    let elsewhere = ServiceSpec { placement: zone(Operator::Is, "b"), ..sticky(1) };
    assert_eq!(is_asked(&mut model, put(elsewhere.clone())), Ok(()));
    assert_eq!(refused_for(&mut model, put(with_env(elsewhere.clone()))), "placement.constraints");
    pass(&mut model, 30);
    assert_eq!(running(&model), serves);
    // A host that comes to be excluded keeps what runs there, and says why nothing goes on.
    let here = ServiceSpec { placement: zone(Operator::Is, "a"), ..sticky(1) };
    assert_eq!(is_asked(&mut model, put(here.clone())), Ok(()));
    model.describe(0, in_zone("c"));
    model.ask(put(with_env(here)));
    pass(&mut model, 400);
    assert_eq!(running(&model), serves, "{}", missing(&model));
    // Whoever wants the slot elsewhere gives its data up.
    assert_eq!(is_asked(&mut model, put(elsewhere)), Ok(()));
    assert_eq!(is_asked(&mut model, release()), Ok(()));
    pass(&mut model, 30);
    assert_eq!(running(&model), on(&[(1, 1)]), "{}", missing(&model));
}

#[test]
fn data_is_given_up_only_if_its_host_is_lost_or_its_user_leaves_it() {
    for standing in [Standing::Suspect, Standing::Awaited, Standing::AgentDown, Standing::EngineDown] {
        let mut model = model(&["a", "a"]);
        model.ask(put(sticky(1)));
        model.settle();
        model.is(0, HostCondition::of(standing));
        let may_run_on = matches!(standing, Standing::AgentDown | Standing::EngineDown);
        let (slot, host) = (Slot(0), node(0));
        let conflict = if may_run_on {
            Conflict::MayRunOn { slot, host }
        } else {
            Conflict::HostNotKnown { slot, host }
        };
        assert_eq!(is_asked(&mut model, release()), Err(Refused::Conflict(conflict)), "{standing:?}");
        model.is(0, HostCondition { intent: Intent::Cordoned, ..HostCondition::of(standing) });
        assert_eq!(is_asked(&mut model, release()).is_ok(), may_run_on, "{standing:?}");
    }
    let mut model = model(&["a", "a"]);
    model.ask(put(sticky(1)));
    model.settle();
    let conflict = Conflict::HostIsThere { slot: Slot(0), host: node(0) };
    assert_eq!(is_asked(&mut model, release()), Err(Refused::Conflict(conflict)));
    model.is(0, DOWN);
    assert_eq!(is_asked(&mut model, release()), Ok(()));
}

#[test]
fn nothing_is_given_up_while_no_other_host_could_take_what_runs() {
    let mut model = model(&["a"]);
    model.ask(put(sticky(1)));
    model.settle();
    model.is(0, DRAINED);
    model.settle();
    let conflict = Conflict::NoOtherHost { slot: Slot(0), host: node(0) };
    assert_eq!(is_asked(&mut model, release()), Err(Refused::Conflict(conflict)));
    pass(&mut model, 10);
    assert_eq!(running(&model), on(&[(0, 1)]), "{}", missing(&model));
}

#[test]
fn a_job_that_is_done_has_its_volume_where_it_ran() {
    for updates in [false, true] {
        let mut model = model(&["a", "a", "a"]);
        model.ask(put(sticky(1)));
        while model.step() {}
        // It ends so fast that nobody has seen it run.
        let states = model.hosts.values_mut().flat_map(|holds| holds.values_mut());
        states.for_each(|state| *state = ReplicaState::Complete);
        model.settle();
        fill_host(&mut model, 0, 5);
        if updates {
            model.ask(put(with_env(sticky(1))));
        } else {
            model.ask(put(sticky(0)));
            model.settle();
            model.ask(put(sticky(1)));
        }
        pass(&mut model, 5);
        let record = record(&model);
        assert!(
            record.wanted().count() == 1 && record.wanted().all(|replica| replica.node == node(0)),
            "{record:?}"
        );
    }
}

#[test]
fn whoever_goes_back_to_a_generation_with_a_volume_finds_its_data() {
    let mut model = model(&["a", "a", "a"]);
    model.ask(put(sticky(1)));
    model.settle();
    let update = Update { monitor_ms: 0, probation_ms: 0, ..Update::default() };
    model.ask(put(ServiceSpec { update, ..spec(1, "app:2") }));
    pass(&mut model, 120);
    fill_host(&mut model, 0, 5);
    model.ask(Request::RollBack { generation: Some(Generation(1)), expect: Expect::Any });
    pass(&mut model, 60);
    assert_eq!((running(&model), record(&model).generation), (on(&[(0, 1)]), Generation(1)));
}

#[test]
fn slots_with_volumes_on_one_host_become_one_in_mode_global() {
    let mut model = model(&["a", "a"]);
    model.is(1, HostCondition { intent: Intent::Cordoned, ..READY });
    model.ask(put(sticky(2)));
    model.settle();
    model.is(1, READY);
    model.ask(put(ServiceSpec { mode: Mode::Global, ..sticky(0) }));
    pass(&mut model, 60);
    assert_eq!(running(&model), on(&[(0, 1), (1, 1)]));
}

#[test]
fn of_what_hosts_remember_the_newest_generation_is_what_the_service_runs() {
    let mut model = model(&["a", "a", "a"]);
    model.ask(put(spec(2, "app:1")));
    model.settle();
    let held = |record: &ServiceRecord, n: usize| -> Vec<Assignment> {
        record
            .wanted()
            .filter(|replica| replica.node == node(n))
            .map(|replica| record.assignment(replica))
            .collect()
    };
    let stale = held(&record(&model), 0);
    assert_eq!(stale.len(), 1);
    model.is(0, DOWN);
    model.settle();
    model.ask(put(spec(2, "app:2")));
    pass(&mut model, 30);
    let new = record(&model);
    let holds = [stale.clone(), held(&new, 1), held(&new, 2)];
    // The store is emptied, and the host that was away comes first.
    model.durable = None;
    model.restart();
    model.is(0, READY);
    for (n, holds) in holds.into_iter().enumerate() {
        for held in &holds {
            model.hosts.get_mut(&node(n)).unwrap().insert(held.replica.clone(), ReplicaState::Running);
        }
        model.ask(Request::Import { node: node(n), holds });
        while model.step() {}
    }
    pass(&mut model, 60);
    let after = record(&model);
    assert_eq!((after.spec.template.image.as_str(), after.generation), ("app:2", Generation(2)), "{after:?}");
    assert!(new.wanted().all(|kept| after.wanted().any(|replica| replica.id == kept.id)), "{after:?}");
    assert!(after.wanted().all(|replica| replica.id != stale[0].replica), "{after:?}");
}

#[test]
fn the_cluster_knows_where_data_is_also_while_nothing_runs() {
    let mut model = model(&["a", "b"]);
    model.ask(put(sticky(1)));
    pass(&mut model, 10);
    assert_eq!(model.data_on, [node(0)].into());
    model.ask(put(ServiceSpec { replicas: 0, ..sticky(1) }));
    pass(&mut model, 10);
    assert_eq!((running(&model), &model.data_on), (on(&[]), &[node(0)].into()));
    model.ask(Request::Delete { expect: Expect::Any });
    pass(&mut model, 10);
    assert!(model.data_on.is_empty());
}

#[test]
fn a_host_without_a_replica_of_a_global_service_holds_no_data_of_it() {
    let mut model = model(&["a", "b"]);
    model.describe(0, HostFacts { memory_bytes: 9_000, ..in_zone("a") });
    let mut global = ServiceSpec { mode: Mode::Global, ..sticky(0) };
    std::sync::Arc::make_mut(&mut global.template).resources.reserve.memory_bytes = 5_000;
    model.ask(put(global));
    pass(&mut model, 10);
    assert_eq!(running(&model), on(&[(0, 1)]));
    assert_eq!(record(&model).bindings.slots().len(), 2, "each host has its slot");
    assert_eq!(model.data_on, [node(0)].into());
    // Where one has run there is data, also while its host is away.
    model.describe(1, HostFacts { memory_bytes: 9_000, ..in_zone("b") });
    pass(&mut model, 10);
    model.is(1, DOWN);
    pass(&mut model, 600);
    assert_eq!(model.data_on, [node(0), node(1)].into());
}
