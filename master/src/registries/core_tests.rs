//! What the core of registries promises.

use std::sync::Arc;

use shef_common::{
    clock::WallMs,
    ids::Version,
    registry::{Credentials, RegistryHost},
};

use super::{
    core::{MAX_REGISTRIES, RegistriesCore},
    events::{Effect, Event, RecoveredRegistry, RegistryRecord},
    key_file::KeyError,
    messages::{RegistryRefused, Stored},
};
use crate::store::CommitError;

fn host(text: &str) -> RegistryHost {
    RegistryHost::parse(text).unwrap()
}

fn credentials(password: &str) -> Credentials {
    Credentials { username: "me".into(), password: password.into() }
}

fn record(password: &str) -> RegistryRecord {
    RegistryRecord { username: "me".into(), sealed: format!("sealed {password}"), updated: WallMs(7) }
}

fn put(ticket: u64, at: &str, password: &str) -> Event {
    Event::Put { ticket, host: host(at), credentials: credentials(password), record: Ok(record(password)) }
}

fn handed(effects: &[Effect]) -> Vec<(String, String)> {
    let known =
        effects.iter().find_map(|effect| if let Effect::Hand(known) = effect { Some(known) } else { None });
    known.unwrap().iter().map(|(host, shown)| (host.to_string(), shown.password.clone())).collect()
}

fn answer(effects: &[Effect]) -> (u64, Result<Stored, RegistryRefused>) {
    let [.., Effect::Answer(ticket, answer)] = effects else { panic!("{effects:?}") };
    (*ticket, answer.clone())
}

#[test]
fn nobody_is_answered_and_nothing_handed_out_before_it_is_durable() {
    let (mut core, _) = RegistriesCore::recover(Vec::new(), |_, _| unreachable!());
    let commit = Effect::Commit { host: host("a.b"), expect: None, record: Some(record("one")) };
    assert_eq!(core.handle(put(1, "a.b", "one")), [commit]);
    let refused = answer(&core.handle(put(2, "a.b", "two")));
    assert_eq!(refused, (2, Err(RegistryRefused::Busy(host("a.b")))));
    let effects = core.handle(Event::Committed(host("a.b"), Ok(())));
    assert_eq!(handed(&effects), [("a.b".to_owned(), "one".to_owned())]);
    let (ticket, stored) = answer(&effects);
    assert!(ticket == 1 && stored.unwrap().is_new);

    let again = core.handle(put(3, "a.b", "one"));
    assert!(
        matches!(again.as_slice(), [Effect::Answer(3, Ok(Stored { is_new: false, .. }))]),
        "nothing to write: {again:?}"
    );
    let commit = Effect::Commit { host: host("a.b"), expect: Some(Version(1)), record: Some(record("two")) };
    assert_eq!(core.handle(put(4, "a.b", "two")), [commit]);
    let away = CommitError::Unavailable { why: "away".into() };
    let effects = core.handle(Event::Committed(host("a.b"), Err(away.clone())));
    assert_eq!(effects, [Effect::Answer(4, Err(RegistryRefused::Store(away)))]);

    let commit = Effect::Commit { host: host("a.b"), expect: Some(Version(1)), record: None };
    assert_eq!(core.handle(Event::Delete { ticket: 5, host: host("a.b") }), [commit]);
    let effects = core.handle(Event::Committed(host("a.b"), Ok(())));
    assert_eq!((handed(&effects), answer(&effects)), (vec![], (5, Ok(Stored { view: None, is_new: false }))));
    let gone = answer(&core.handle(Event::Delete { ticket: 6, host: host("a.b") }));
    assert_eq!(gone, (6, Err(RegistryRefused::NotFound(host("a.b")))));
}

#[test]
fn what_cannot_be_decrypted_is_shown_and_can_be_replaced() {
    let stored = |at: &str, version| RecoveredRegistry {
        host: host(at),
        version: Version(version),
        record: record(at),
    };
    let open = |at: &RegistryHost, _: &RegistryRecord| match at.as_str() {
        "a.b" => Err(Arc::from("another key")),
        _ => Ok(credentials("kept")),
    };
    let (mut core, effects) = RegistriesCore::recover(vec![stored("a.b", 3), stored("c.d", 9)], open);
    assert_eq!(handed(&effects), [("c.d".to_owned(), "kept".to_owned())]);
    let Effect::Publish(views) = &effects[0] else { panic!("{effects:?}") };
    let shown: Vec<_> =
        views.iter().map(|view| (view.host.as_str(), view.readable, view.reason.as_deref())).collect();
    assert_eq!(shown, [("a.b", false, Some("another key")), ("c.d", true, None)]);
    let commit = Effect::Commit { host: host("a.b"), expect: Some(Version(3)), record: Some(record("new")) };
    assert_eq!(core.handle(put(1, "a.b", "new")), [commit]);
    assert_eq!(handed(&core.handle(Event::Committed(host("a.b"), Ok(())))).len(), 2);
}

#[test]
fn without_a_key_nothing_is_written_and_the_reason_is_given() {
    let (mut core, _) = RegistriesCore::recover(Vec::new(), |_, _| unreachable!());
    let event = Event::Put {
        ticket: 1,
        host: host("a.b"),
        credentials: credentials("x"),
        record: Err(KeyError::NoRandomBytes),
    };
    assert_eq!(core.handle(event), [Effect::Answer(1, Err(RegistryRefused::NoKey(KeyError::NoRandomBytes)))]);
}

#[test]
fn the_number_of_registries_is_bounded_those_under_way_included() {
    let (mut core, _) = RegistriesCore::recover(Vec::new(), |_, _| unreachable!());
    for n in 0..MAX_REGISTRIES {
        let effects = core.handle(put(n as u64, &format!("a.b:{}", n + 1), "x"));
        assert!(matches!(effects.as_slice(), [Effect::Commit { .. }]));
    }
    let refused = answer(&core.handle(put(999, "c.d", "x")));
    assert_eq!(refused, (999, Err(RegistryRefused::TooMany(MAX_REGISTRIES))));
    let refused = answer(&core.handle(put(998, "a.b:1", "x")));
    assert_eq!(refused, (998, Err(RegistryRefused::Busy(host("a.b:1")))));
}
