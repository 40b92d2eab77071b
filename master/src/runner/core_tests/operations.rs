//! What operators ask of a host.

use super::super::{
    events::{Effect, Event},
    messages::{NodeIntent, OperateRefused, Operation},
};
use super::{changed, model::*};
use crate::membership::Standing;

#[test]
fn what_an_operator_wants_is_answered_once_it_is_durable() {
    let mut model = Model::new();
    model.event(Event::Operate(1, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated, []);
    model.event(Event::Committed);
    assert_eq!(model.operated, [Ok(())]);
    model.event(Event::Operate(2, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated, [Ok(()), Ok(())], "it is so already");
    model.event(Event::Operate(3, Operation::Intend(NodeIntent::Activate)));
    model.event(Event::CommitFailed);
    assert!(matches!(model.operated[2], Err(OperateRefused::Store(_))));
    model.sleep(5_000);
    model.event(Event::Operate(4, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated[3], Ok(()), "nothing has changed");
    // The earlier intent is asked for again while its opposite is on its way to the store.
    model.event(Event::Operate(5, Operation::Intend(NodeIntent::Activate)));
    model.event(Event::Operate(6, Operation::Intend(NodeIntent::Cordon)));
    assert_eq!(model.operated.len(), 4, "the store may yet come to have the other");
    model.event(Event::Committed);
    assert_eq!(model.operated.len(), 4);
    model.event(Event::Committed);
    assert_eq!(model.operated[4..], [Ok(()), Ok(())]);
}

#[test]
fn a_live_host_is_forgotten_only_by_force_and_comes_back_empty() {
    let mut model = Model::new();
    model.register();
    model.order(1, true);
    model.settle();
    model.event(changed(Standing::Ready));
    model.event(Event::Operate(1, Operation::Forget { force: false }));
    assert!(matches!(&model.operated[0], Err(OperateRefused::NotNow(why)) if why.contains("force=true")));
    model.event(Event::Operate(2, Operation::Forget { force: true }));
    assert_eq!((model.operated.len(), model.forgotten), (1, 0), "not before it is durable");
    model.event(Event::Committed);
    assert_eq!((model.operated[1].clone(), model.forgotten), (Ok(()), 1));
    model.event(Event::Operate(3, Operation::Intend(NodeIntent::Cordon)));
    assert!(matches!(model.operated[2], Err(OperateRefused::Store(_) | OperateRefused::NotFound)));
    let before = model.host_reports;
    model.wanted.clear();
    model.report();
    assert_eq!(
        (model.host_reports, model.push.clone()),
        (before, None),
        "nothing is said before it is durable again"
    );
    model.event(Event::Committed);
    assert!(model.host_reports > before);
    assert_eq!(model.push.as_ref().map(|push| (push.base, push.set.len())), Some((None, 0)));
    model.settle();
    assert!(model.agent.holds.is_empty());
}

#[test]
fn only_the_record_of_a_forgotten_host_can_be_erased() {
    let mut model = Model::new();
    assert!(
        !model
            .core
            .handle(Event::Erase, model.now)
            .iter()
            .any(|effect| matches!(effect, Effect::Commit { .. }))
    );
    model.event(Event::Operate(1, Operation::Forget { force: true }));
    model.event(Event::Committed);
    let erases = model.core.handle(Event::Erase, model.now);
    assert!(matches!(erases[..], [Effect::Commit { record: None, .. }]), "{erases:?}");
    let late = model.core.handle(Event::Register(1, Box::new(model.agent.registration())), model.now);
    assert!(late.iter().any(|effect| matches!(effect, Effect::Registered(_, Err(_)))));
    assert_eq!(model.core.handle(Event::Committed, model.now), [Effect::Erased]);
}
