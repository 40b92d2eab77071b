//! The contents as readers share them.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    clock::WallMs,
    contents::{Content, ContentId, ContentKind},
    ids::{ContentName, ContentVersion},
};

/// Every content that is kept. Of each name the newest is the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentTable(BTreeMap<(ContentKind, ContentName), Vec<Held>>);

/// One content of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its version.
    pub version: ContentVersion,
    /// Counts the contents of its name.
    pub number: u64,
    /// When it was stored.
    pub created: WallMs,
    /// How many bytes it has.
    pub bytes: u64,
    /// The bytes, or why they cannot be read.
    pub content: Result<Content, Arc<str>>,
}

impl ContentTable {
    /// Every content, under its kind and name.
    #[must_use]
    pub fn of(all: impl Iterator<Item = (ContentId, Held)>) -> Self {
        let mut table: BTreeMap<_, Vec<Held>> = BTreeMap::new();
        for (ContentId { kind, name, version: _ }, held) in all {
            table.entry((kind, name)).or_default().push(held);
        }
        table.values_mut().for_each(|held| held.sort_by_key(|held| held.number));
        Self(table)
    }

    /// The names of a kind with their contents, in the order of the names.
    pub fn names(&self, kind: ContentKind) -> impl Iterator<Item = (&ContentName, &[Held])> {
        let of_kind = self.0.iter().filter(move |((of, _), _)| *of == kind);
        of_kind.map(|((_, name), held)| (name, held.as_slice()))
    }

    /// The contents of a name, the newest last; none: there is no such name.
    #[must_use]
    pub fn all(&self, kind: ContentKind, name: &ContentName) -> &[Held] {
        self.0.get(&(kind, name.clone())).map(Vec::as_slice).unwrap_or_default()
    }

    /// One content.
    #[must_use]
    pub fn get(&self, id: &ContentId) -> Option<&Held> {
        self.all(id.kind, &id.name).iter().find(|held| held.version == id.version)
    }
}
