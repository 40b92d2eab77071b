//! What the core of contents promises.

use std::collections::BTreeSet;

use bytes::Bytes;
use shef_common::{
    clock::WallMs,
    contents::{Content, ContentKind},
    ids::{ContentName, ContentVersion, ServiceName, Version},
};

use super::{
    core::{ContentsCore, MAX_BYTES, MAX_CONTENTS},
    events::{ContentRecord, Effect, Event, RecoveredContent},
    messages::{ContentRefused, Stored},
};
use crate::{registries::KeyError, store::CommitError};

const KIND: ContentKind = ContentKind::Secret;

fn name(text: &str) -> (ContentKind, ContentName) {
    (KIND, ContentName::parse(text).unwrap())
}

fn version(digit: char) -> ContentVersion {
    ContentVersion::parse(&digit.to_string().repeat(32)).unwrap()
}

fn put_of(ticket: u64, at: &str, digit: char, mounted: &[char], bytes: usize) -> Event {
    Event::Put {
        ticket,
        name: name(at),
        content: Content(Bytes::from(vec![0; bytes])),
        sealed: Ok((version(digit), format!("sealed {digit}"))),
        mounted: mounted.iter().copied().map(version).collect(),
        now: WallMs(ticket),
    }
}

fn put(ticket: u64, at: &str, digit: char, mounted: &[char]) -> Event {
    put_of(ticket, at, digit, mounted, 4)
}

fn empty() -> ContentsCore {
    ContentsCore::recover(Vec::new(), |_, _| unreachable!()).0
}

/// Stores, and what the commit wrote: versions with the number of the content, or without where it was
/// removed.
fn stored(core: &mut ContentsCore, event: Event, at: &str) -> Vec<(ContentVersion, Option<u64>)> {
    let effects = core.handle(event);
    let [Effect::Commit(_, writes)] = effects.as_slice() else { panic!("{effects:?}") };
    let written = writes
        .iter()
        .map(|write| (write.id.version.clone(), write.record.as_ref().map(|record| record.number)));
    let written = written.collect();
    let effects = core.handle(Event::Committed(name(at), Ok(())));
    assert!(matches!(effects.as_slice(), [Effect::Publish(_), Effect::Answer(_, Ok(_))]), "{effects:?}");
    written
}

fn kept(core: &ContentsCore, at: &str) -> Vec<ContentVersion> {
    core.table().all(KIND, &name(at).1).iter().map(|held| held.version.clone()).collect()
}

fn refusal(effects: &[Effect]) -> ContentRefused {
    let [Effect::Answer(_, Err(refused))] = effects else { panic!("{effects:?}") };
    refused.clone()
}

#[test]
fn nobody_is_answered_and_nothing_is_shown_before_it_is_durable() {
    let mut core = empty();
    assert!(matches!(core.handle(put(1, "db", 'a', &[])).as_slice(), [Effect::Commit(..)]));
    assert_eq!(refusal(&core.handle(put(2, "db", 'b', &[]))), ContentRefused::Busy(KIND, name("db").1));
    let failed = core.handle(Event::Committed(name("db"), Err(CommitError::Busy)));
    assert_eq!(refusal(&failed), ContentRefused::Store(CommitError::Busy));
    assert_eq!(kept(&core, "db"), []);
}

#[test]
fn the_same_content_is_stored_once_and_an_earlier_one_can_come_back() {
    let mut core = empty();
    assert_eq!(stored(&mut core, put(1, "db", 'a', &[]), "db"), [(version('a'), Some(1))]);
    let again = core.handle(put(2, "db", 'a', &[]));
    let [Effect::Answer(2, Ok(Stored::Content { created, is_new: false, .. }))] = again.as_slice() else {
        panic!("{again:?}")
    };
    assert_eq!(*created, WallMs(1));
    // What a kept generation mounts stays.
    assert_eq!(stored(&mut core, put(3, "db", 'b', &['a']), "db"), [(version('b'), Some(2))]);
    assert_eq!(kept(&core, "db"), [version('a'), version('b')]);
    let back = stored(&mut core, put(4, "db", 'a', &['a']), "db");
    assert_eq!(back, [(version('a'), Some(3)), (version('b'), None)]);
    assert_eq!(kept(&core, "db"), [version('a')]);
}

#[test]
fn what_services_mount_is_not_removed_and_they_are_named() {
    let mut core = empty();
    let delete = |users: &[&str]| Event::Delete {
        ticket: 7,
        name: name("db"),
        users: users.iter().map(|user| ServiceName::parse(user).unwrap()).collect(),
    };
    assert_eq!(refusal(&core.handle(delete(&[]))), ContentRefused::NotFound(KIND, name("db").1));
    stored(&mut core, put(1, "db", 'a', &[]), "db");
    let refused = refusal(&core.handle(delete(&["api", "web"]))).to_string();
    assert!(refused.starts_with("secret db is mounted by api, web ("), "{refused}");
    assert_eq!(stored(&mut core, delete(&[]), "db"), [(version('a'), None)]);
    assert_eq!(kept(&core, "db"), []);
}

#[test]
fn what_is_kept_has_bounds_that_count_what_is_on_its_way() {
    let record = |bytes: u64| ContentRecord { number: 1, created: WallMs(1), bytes, content: String::new() };
    let recovered = |count: usize, bytes: u64| {
        let one = |n: usize| RecoveredContent {
            id: shef_common::contents::ContentId {
                kind: KIND,
                name: ContentName::parse(&format!("n{n}")).unwrap(),
                version: version('0'),
            },
            version: Version(1),
            record: record(bytes),
        };
        ContentsCore::recover((0..count).map(one).collect(), |_, _| Ok(Content(Bytes::new()))).0
    };
    let mut core = recovered(MAX_CONTENTS - 1, 1);
    assert!(matches!(core.handle(put(1, "db", 'a', &[])).as_slice(), [Effect::Commit(..)]));
    let refused = refusal(&core.handle(put(2, "web", 'a', &[])));
    assert_eq!(refused, ContentRefused::TooMany { found: MAX_CONTENTS + 1, most: MAX_CONTENTS });

    let mut core = recovered(2, MAX_BYTES / 2);
    let refused = refusal(&core.handle(put(1, "db", 'a', &[])));
    assert_eq!(refused, ContentRefused::TooManyBytes { found: MAX_BYTES + 4, most: MAX_BYTES });
    // What a new content takes the place of does not count.
    assert_eq!(stored(&mut core, put(1, "n0", 'a', &[]), "n0").len(), 2);
}

#[test]
fn without_a_key_nothing_is_stored() {
    let mut core = empty();
    let event = Event::Put {
        ticket: 1,
        name: name("db"),
        content: Content(Bytes::from_static(b"hush")),
        sealed: Err(KeyError::NoRandomBytes),
        mounted: BTreeSet::new(),
        now: WallMs(1),
    };
    assert!(!format!("{event:?}").contains("hush"));
    assert_eq!(refusal(&core.handle(event)), ContentRefused::NoKey(KeyError::NoRandomBytes));
}
