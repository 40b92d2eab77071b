//! Which contents are kept. Pure: what is encrypted comes with the event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shef_common::{
    contents::{Content, ContentId},
    ids::{ContentVersion, ServiceName, Version},
};

use super::{
    events::{ContentRecord, ContentWrite, Effect, Event, Name, RecoveredContent},
    messages::{ContentRefused, Stored},
    table::{ContentTable, Held},
};
use crate::{calls::Ticket, store::CommitError};

/// How many contents are kept at most, of all names.
pub const MAX_CONTENTS: usize = 1_000;
/// How many bytes all of them have at most.
pub const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone)]
struct Kept {
    version: Version,
    record: ContentRecord,
    /// The bytes, or why they cannot be read.
    opened: Result<Content, Arc<str>>,
}

/// On its way to the store.
#[derive(Debug)]
struct Change {
    ticket: Ticket,
    /// `None`: the name is removed.
    to: Option<(ContentVersion, Kept)>,
    gone: Vec<ContentVersion>,
}

/// The state machine of contents.
#[derive(Debug, Default)]
pub struct ContentsCore {
    kept: BTreeMap<Name, BTreeMap<ContentVersion, Kept>>,
    /// One of a name at a time.
    changes: BTreeMap<Name, Change>,
}

impl ContentsCore {
    /// What the store remembers, read by `open`, which says why it cannot be.
    #[must_use]
    pub fn recover(
        recovered: Vec<RecoveredContent>,
        open: impl Fn(&ContentId, &ContentRecord) -> Result<Content, Arc<str>>,
    ) -> (Self, Arc<ContentTable>) {
        let mut core = Self::default();
        for RecoveredContent { id, version, record } in recovered {
            let opened = open(&id, &record);
            let of_name = core.kept.entry((id.kind, id.name)).or_default();
            of_name.insert(id.version, Kept { version, record, opened });
        }
        let table = core.table();
        (core, table)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Put { ticket, name, content, sealed, mounted, now } => {
                let decided = sealed.map_err(ContentRefused::from).and_then(|(version, sealed)| {
                    let record = |number| ContentRecord {
                        number,
                        created: now,
                        bytes: content.0.len() as u64,
                        content: sealed,
                    };
                    self.put(ticket, name, version, &mounted, record, content.clone())
                });
                decided.unwrap_or_else(|refused| vec![Effect::Answer(ticket, Err(refused))])
            }
            Event::Delete { ticket, name, users } => {
                let decided = self.delete(ticket, name, users);
                decided.unwrap_or_else(|refused| vec![Effect::Answer(ticket, Err(refused))])
            }
            Event::Committed(name, outcome) => self.committed(&name, outcome),
        }
    }

    fn put(
        &mut self,
        ticket: Ticket,
        name: Name,
        version: ContentVersion,
        mounted: &BTreeSet<ContentVersion>,
        record: impl FnOnce(u64) -> ContentRecord,
        content: Content,
    ) -> Result<Vec<Effect>, ContentRefused> {
        self.is_free(&name)?;
        let none = BTreeMap::new();
        let there = self.kept.get(&name).unwrap_or(&none);
        let newest = there.iter().max_by_key(|(_, kept)| kept.record.number);
        if let Some((_, kept)) = newest.filter(|(newest, kept)| **newest == version && kept.opened.is_ok()) {
            let stored = Stored::Content { version, created: kept.record.created, is_new: false };
            return Ok(vec![Effect::Answer(ticket, Ok(stored))]);
        }
        let record = record(newest.map_or(1, |(_, kept)| kept.record.number.saturating_add(1)));
        let expect = there.get(&version).map(|kept| kept.version);
        let is_gone = |known: &&ContentVersion| !mounted.contains(*known) && **known != version;
        let gone: Vec<ContentVersion> = there.keys().filter(is_gone).cloned().collect();
        self.has_room(&name, &version, &record, &gone)?;
        let id = ContentId { kind: name.0, name: name.1.clone(), version: version.clone() };
        let mut writes = vec![ContentWrite { id, expect, record: Some(record.clone()) }];
        writes.extend(removals(&name, there, &gone));
        let kept = Kept { version: expect.map_or(Version(1), Version::next), record, opened: Ok(content) };
        self.changes.insert(name.clone(), Change { ticket, to: Some((version, kept)), gone });
        Ok(vec![Effect::Commit(name, writes)])
    }

    /// Whether the bounds let `record` be kept where those that are `gone` go.
    fn has_room(
        &self,
        name: &Name,
        version: &ContentVersion,
        record: &ContentRecord,
        gone: &[ContentVersion],
    ) -> Result<(), ContentRefused> {
        let stays =
            |of: &Name, known: &ContentVersion| of != name || known != version && !gone.contains(known);
        let kept =
            self.kept.iter().flat_map(|(of, all)| all.iter().map(move |(known, kept)| (of, known, kept)));
        let staying = kept.filter(|(of, known, _)| stays(of, known)).map(|(_, _, kept)| kept.record.bytes);
        // What is on its way counts, and what it removes counts until it is gone.
        let coming = self.changes.values().filter_map(|change| Some(change.to.as_ref()?.1.record.bytes));
        let (found, bytes) = staying
            .chain(coming)
            .fold((1, record.bytes), |(found, bytes), one| (found + 1, bytes.saturating_add(one)));
        if found > MAX_CONTENTS {
            return Err(ContentRefused::TooMany { found, most: MAX_CONTENTS });
        }
        if bytes > MAX_BYTES {
            return Err(ContentRefused::TooManyBytes { found: bytes, most: MAX_BYTES });
        }
        Ok(())
    }

    fn delete(
        &mut self,
        ticket: Ticket,
        name: Name,
        users: Vec<ServiceName>,
    ) -> Result<Vec<Effect>, ContentRefused> {
        self.is_free(&name)?;
        let Some(there) = self.kept.get(&name) else {
            return Err(ContentRefused::NotFound(name.0, name.1));
        };
        if !users.is_empty() {
            return Err(ContentRefused::InUse { kind: name.0, name: name.1, users });
        }
        let gone: Vec<ContentVersion> = there.keys().cloned().collect();
        let writes = removals(&name, there, &gone).collect();
        self.changes.insert(name.clone(), Change { ticket, to: None, gone });
        Ok(vec![Effect::Commit(name, writes)])
    }

    fn is_free(&self, name: &Name) -> Result<(), ContentRefused> {
        if self.changes.contains_key(name) {
            return Err(ContentRefused::Busy(name.0, name.1.clone()));
        }
        Ok(())
    }

    fn committed(&mut self, name: &Name, outcome: Result<(), CommitError>) -> Vec<Effect> {
        let Some(Change { ticket, to, gone }) = self.changes.remove(name) else { return Vec::new() };
        if let Err(error) = outcome {
            return vec![Effect::Answer(ticket, Err(error.into()))];
        }
        let mut there = self.kept.remove(name).unwrap_or_default();
        there.retain(|version, _| !gone.contains(version));
        let mut stored = Stored::Removed;
        if let Some((version, kept)) = to {
            let created = kept.record.created;
            stored = Stored::Content { version: version.clone(), created, is_new: true };
            there.insert(version, kept);
        }
        if !there.is_empty() {
            self.kept.insert(name.clone(), there);
        }
        // The answer comes after the change is visible.
        vec![Effect::Publish(self.table()), Effect::Answer(ticket, Ok(stored))]
    }

    pub(super) fn table(&self) -> Arc<ContentTable> {
        let all = self.kept.iter().flat_map(|((kind, name), versions)| {
            versions.iter().map(|(version, kept)| {
                let id = ContentId { kind: *kind, name: name.clone(), version: version.clone() };
                let held = Held {
                    version: version.clone(),
                    number: kept.record.number,
                    created: kept.record.created,
                    bytes: kept.record.bytes,
                    content: kept.opened.clone(),
                };
                (id, held)
            })
        });
        Arc::new(ContentTable::of(all))
    }
}

/// The writes that remove those contents of `name` that are `gone`.
fn removals(
    name: &Name,
    there: &BTreeMap<ContentVersion, Kept>,
    gone: &[ContentVersion],
) -> impl Iterator<Item = ContentWrite> {
    gone.iter().map(move |version| ContentWrite {
        id: ContentId { kind: name.0, name: name.1.clone(), version: version.clone() },
        expect: there.get(version).map(|kept| kept.version),
        record: None,
    })
}
