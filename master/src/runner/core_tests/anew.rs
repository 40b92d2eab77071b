//! A host that is set up anew under the name of one that was there before.

use std::sync::Arc;

use shef_common::{
    ids::NodeUid,
    protocol::{Assignment, Registration},
    spec::Mount,
};

use super::super::{
    events::{Effect, Event},
    messages::RegisterRefused,
};
use super::model::{Model, assignment};

/// A replica with a volume.
fn with_data(n: u32) -> Assignment {
    let mut assignment = assignment(n);
    let volume = serde_json::json!({ "type": "volume", "source": "data", "target": "/data", "sticky": true });
    let volume: Mount = serde_json::from_value(volume).unwrap();
    Arc::make_mut(&mut assignment.template).mounts.push(volume);
    assignment
}

/// What another host under the same name is told, which holds these.
fn told(model: &mut Model, holds: Vec<Assignment>) -> Option<RegisterRefused> {
    let uid = NodeUid::parse("00000000000000ff").unwrap();
    let registration = Registration { uid, holds, accepted: None, ..model.agent.registration() };
    let effects = model.core.handle(Event::Register(9, Box::new(registration)), model.now);
    effects.into_iter().find_map(|effect| match effect {
        Effect::Registered(9, answer) => answer.err(),
        _ => None,
    })
}

#[test]
fn it_is_refused_while_data_was_on_the_one_before_and_it_holds_none_of_it() {
    let mut model = Model::new();
    model.register();
    model.event(Event::Order { set: vec![assignment(1)], remove: vec![] });
    assert_eq!(told(&mut model, vec![]), None, "nothing is lost with it");
    let mut model = Model::new();
    model.register();
    model.event(Event::Order { set: vec![assignment(1), with_data(2), with_data(3)], remove: vec![] });
    let refused = told(&mut model, vec![assignment(1)]);
    let Some(RegisterRefused::Conflict(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("holds the volumes of web-000002") && why.contains("shef node rm h1"), "{why}");
    // Its agent has lost its ledger, and found its containers.
    assert_eq!(told(&mut model, vec![with_data(2)]), None);
}

#[test]
fn the_host_itself_is_let_in_whatever_it_holds() {
    let mut model = Model::new();
    model.register();
    model.event(Event::Order { set: vec![with_data(2)], remove: vec![] });
    let effects = model.core.handle(Event::Register(9, Box::new(model.agent.registration())), model.now);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Registered(9, Ok(_)))), "{effects:?}");
}
