//! What a host holds that breaks a rule of specs, and that nobody ordered of it.

use shef_common::{
    protocol::{Assignment, Registration},
    spec::Template,
};

use super::*;

/// A replica that a master of this version would order of nobody.
fn breaks_a_rule(n: u32) -> Assignment {
    let mut template = Template::clone(&assignment(n).template);
    template.labels.insert("shef.system".into(), "agent".into());
    Assignment { template: template.into(), ..assignment(n) }
}

fn registers(model: &mut Model, holds: Vec<Assignment>) {
    model.agent.holds.extend(holds.iter().map(|held| held.replica.clone()));
    let registration = Registration { holds, ..model.agent.registration() };
    let condition = HostCondition::of(Standing::Ready);
    model.event(Event::HostChanged(HostChanged { node: registration.node.clone(), condition, why: None }));
    model.event(Event::Register(1, Box::new(registration)));
}

#[test]
fn what_breaks_a_rule_is_left_alone_and_shown() {
    let mut model = Model::new();
    registers(&mut model, vec![breaks_a_rule(1), assignment(2)]);
    let reason = model.shown_why.clone().expect("readers are told");
    assert!(reason.contains("web-000001") && reason.contains("labels must have no key"), "{reason}");
    model.settle();
    assert!(model.agent.holds.contains(&replica(1)), "it is named for removal by nobody");
    assert!(!model.agent.holds.contains(&replica(2)), "what nobody wants is removed");
}

#[test]
fn what_services_want_is_theirs_whatever_rules_came_since() {
    let mut model = Model::new();
    model.event(Event::Order { set: vec![breaks_a_rule(1)], remove: vec![] });
    model.wanted.insert(replica(1));
    registers(&mut model, vec![breaks_a_rule(1)]);
    assert_eq!(model.shown_why, None);
    model.settle();
    assert!(model.agent.holds.contains(&replica(1)));
    model.wanted.clear();
    model.removing.insert(replica(1));
    model.event(Event::Order { set: vec![], remove: vec![replica(1)] });
    model.settle();
    assert!(model.agent.holds.is_empty());
}
