//! Credentials go with what needs them, and with nothing else.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    clock::MonoMs,
    ids::Revision,
    image::ImageRef,
    protocol::{Accepted, Assignment, Push, Understands},
    registry::{Credentials, RegistryHost},
    spec::Template,
};

use super::model::{assignment, cluster, fence};
use crate::{registries::Known, runner::outbox::Outbox};

const NOW: MonoMs = MonoMs(1_000);

fn of(n: u32, image: &str) -> Assignment {
    Assignment { template: Template::of(ImageRef::parse(image).unwrap()).into(), ..assignment(n) }
}

fn known(all: &[(&str, &str)]) -> Known {
    let shown = |password: &str| Credentials { username: "me".into(), password: password.into() };
    Arc::new(
        all.iter().map(|&(host, password)| (RegistryHost::parse(host).unwrap(), shown(password))).collect(),
    )
}

/// The next push, accepted: what it sets, and what it shows to which registry.
fn pushed(outbox: &mut Outbox) -> Option<(Vec<String>, BTreeMap<String, String>)> {
    let push: Push = outbox.next_push(&cluster(), &fence(1), NOW)?;
    let accepted = Accepted { fence: fence(1), revision: push.revision };
    let _ = outbox.done(push.revision, Ok(accepted), &fence(1), NOW);
    let set = push.set.iter().map(|assignment| assignment.replica.to_string()).collect();
    Some((
        set,
        push.credentials.iter().map(|(host, shown)| (host.to_string(), shown.password.clone())).collect(),
    ))
}

fn shown(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|&(host, password)| (host.to_owned(), password.to_owned())).collect()
}

#[test]
fn a_push_brings_the_credentials_of_what_it_sets() {
    let mut outbox = Outbox::default();
    outbox.credentials_are(known(&[("a.b", "one"), ("c.d", "two")]));
    outbox.order(vec![of(1, "a.b/app"), of(2, "nginx")], vec![], NOW);
    let (set, credentials) = pushed(&mut outbox).unwrap();
    assert_eq!((set.len(), credentials), (2, shown(&[("a.b", "one")])));
    outbox.order(vec![of(3, "nginx")], vec![], NOW);
    assert_eq!(pushed(&mut outbox).unwrap(), (vec!["web-000003".to_owned()], shown(&[])));
    assert_eq!(pushed(&mut outbox), None);
}

#[test]
fn what_changes_for_a_registry_brings_what_is_of_it_once_more() {
    let mut outbox = Outbox::default();
    outbox.order(vec![of(1, "a.b/app"), of(2, "c.d/app"), of(3, "nginx")], vec![], NOW);
    assert_eq!(pushed(&mut outbox).unwrap().1, shown(&[]));
    let first = || vec!["web-000001".to_owned()];
    outbox.credentials_are(known(&[("a.b", "one")]));
    assert_eq!(pushed(&mut outbox).unwrap(), (first(), shown(&[("a.b", "one")])));
    outbox.credentials_are(known(&[("a.b", "two"), ("docker.io", "x")]));
    let both = vec!["web-000001".to_owned(), "web-000003".to_owned()];
    assert_eq!(pushed(&mut outbox).unwrap(), (both, shown(&[("a.b", "two"), ("docker.io", "x")])));
    outbox.credentials_are(known(&[("docker.io", "x")]));
    assert_eq!(pushed(&mut outbox).unwrap(), (first(), shown(&[])), "the agent is to forget them");
    outbox.credentials_are(known(&[("docker.io", "x")]));
    assert_eq!(pushed(&mut outbox), None);
}

#[test]
fn what_changes_while_a_push_is_under_way_goes_with_the_next() {
    let mut outbox = Outbox::default();
    outbox.order(vec![of(1, "a.b/app")], vec![], NOW);
    let push = outbox.next_push(&cluster(), &fence(1), NOW).unwrap();
    outbox.credentials_are(known(&[("a.b", "one")]));
    assert_eq!(push.revision, Revision(1));
    let _ =
        outbox.done(push.revision, Ok(Accepted { fence: fence(1), revision: push.revision }), &fence(1), NOW);
    assert_eq!(pushed(&mut outbox).unwrap().1, shown(&[("a.b", "one")]));
}

#[test]
fn an_agent_that_began_anew_gets_them_once_more() {
    let mut outbox = Outbox::default();
    outbox.credentials_are(known(&[("a.b", "one")]));
    outbox.order(vec![of(1, "a.b/app"), of(2, "nginx")], vec![], NOW);
    assert!(pushed(&mut outbox).is_some());
    let understands = Understands { removal_by_name: true, ..Understands::default() };
    outbox.registered(Some(Revision(1)), &understands, None);
    outbox.credentials_are_lost();
    assert_eq!(pushed(&mut outbox).unwrap(), (vec!["web-000001".to_owned()], shown(&[("a.b", "one")])));
}
