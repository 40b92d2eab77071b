//! A service as the store keeps it: a head, the template of each generation, and pages of slots. A commit
//! writes the head and what else has changed, all of it or nothing, so that its cost follows the change. See
//! `docs/decisions/0032-a-service-is-stored-in-parts.md`.

mod head;
mod page;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Serialize, de::Error as _};
use shef_common::{
    ids::{Generation, ServiceName, Slot, Version},
    spec::Template,
};

pub use self::{head::Head, page::Page};
use super::{
    pages::{page_of, pages_of},
    record::ServiceRecord,
    slot_set::SlotSet,
};
use crate::store::{Key, Part, Record, Write};

/// The version that each part of a service has in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<Part, Version>);

/// A service that was read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub record: ServiceRecord,
    /// What the next commit builds on.
    pub versions: Versions,
}

impl Versions {
    /// Of a service in one part, as format 1 had it.
    #[must_use]
    pub fn of_whole(version: Version) -> Self {
        Self(BTreeMap::from([(Part::Head, version)]))
    }

    /// How often the service was committed.
    #[must_use]
    pub fn of_head(&self) -> Option<Version> {
        self.0.get(&Part::Head).copied()
    }

    /// Whether all of the service is in one part: format 2 has a template at least.
    #[must_use]
    pub fn are_of_format_1(&self) -> bool {
        self.0.len() == 1
    }

    /// What they are once `writes` are durable.
    pub fn advance(&mut self, writes: &[Write]) {
        for write in writes {
            let Key::Service(_, part) = write.key else { continue };
            match write.value {
                Some(_) => self.0.insert(part, write.version_after()),
                None => self.0.remove(&part),
            };
        }
    }
}

/// What makes `new` of what was committed before, and has `versions`; `None`: nothing of the service is left.
///
/// # Errors
/// serde's, for what does not serialise: it is never stored as less than it is.
pub fn writes(
    name: &ServiceName,
    old: Option<&ServiceRecord>,
    new: Option<&ServiceRecord>,
    versions: &Versions,
) -> serde_json::Result<Vec<Write>> {
    let key = |part| Key::Service(name.clone(), part);
    let delete = |part: &Part| Write { key: key(*part), expect: versions.0.get(part).copied(), value: None };
    let Some(new) = new else { return Ok(versions.0.keys().map(delete).collect()) };
    let old = old.filter(|_| !versions.are_of_format_1());
    let (known, templates) = (old.map(templates).unwrap_or_default(), templates(new));

    let mut writes = vec![set(key(Part::Head), versions, &Head::of(new))?];
    for (generation, template) in &templates {
        if known.get(generation) != Some(template) {
            writes.push(set(key(Part::Template(*generation)), versions, template)?);
        }
    }
    let is_unused =
        |part: &&Part| matches!(part, Part::Template(generation) if !templates.contains_key(generation));
    writes.extend(versions.0.keys().filter(is_unused).map(delete));
    for number in changed_pages(old, new) {
        let page = Page::of(new, number);
        if !page.is_empty() {
            writes.push(set(key(Part::Slots(number)), versions, &page)?);
        } else if versions.0.contains_key(&Part::Slots(number)) {
            writes.push(delete(&Part::Slots(number)));
        }
    }
    Ok(writes)
}

fn set(key: Key, versions: &Versions, value: &impl Serialize) -> serde_json::Result<Write> {
    let expect = match &key {
        Key::Service(_, part) => versions.0.get(part).copied(),
        Key::Node(_)
        | Key::Registry(_)
        | Key::Token(_)
        | Key::Authority
        | Key::Identity(_)
        | Key::Content(_)
        | Key::Stats => None,
    };
    Write::of(key, expect, Some(value))
}

/// What each generation runs that runs, or can be gone back to.
fn templates(record: &ServiceRecord) -> BTreeMap<Generation, &Arc<Template>> {
    record.generations().collect()
}

/// How many bytes the head and the templates of a service have together.
#[must_use]
pub fn bytes_without_slots(record: &ServiceRecord) -> usize {
    let bytes = |value: serde_json::Result<Vec<u8>>| value.map_or(usize::MAX, |json| json.len());
    let templates = templates(record).into_values().map(|template| bytes(serde_json::to_vec(template)));
    templates.fold(bytes(serde_json::to_vec(&Head::of(record))), usize::saturating_add)
}

/// The numbers of the pages on which something differs.
fn changed_pages(old: Option<&ServiceRecord>, new: &ServiceRecord) -> BTreeSet<u32> {
    let Some(old) = old else {
        let slots = page::sets(new).into_iter().fold(SlotSet::default(), |all, set| all.with(&set));
        let of_slots = slots.iter().chain(new.bindings.slots().iter()).map(page_of);
        return of_slots.chain(new.replicas.pages().numbers()).collect();
    };
    let mut pages: BTreeSet<u32> = new.replicas.pages().differing(old.replicas.pages()).into_iter().collect();
    for (old, new) in page::sets(old).iter().zip(&page::sets(new)) {
        let differing = new.without(old).with(&old.without(new));
        pages.extend(differing.iter().map(page_of));
    }
    pages.extend(pages_of(&old.bindings.changed_slots(&new.bindings)));
    let failures = |record: &ServiceRecord| record.rollout.as_ref().map(|rollout| rollout.failures.clone());
    let (before, after) = (failures(old).unwrap_or_default(), failures(new).unwrap_or_default());
    let differs = |slot: &&Slot| before.get(slot) != after.get(slot);
    pages.extend(before.keys().chain(after.keys()).filter(differs).map(|slot| page_of(*slot)));
    pages
}

impl Stored {
    /// All of it in parts, each with the version that it has, or its first.
    ///
    /// # Errors
    /// serde's, for what does not serialise.
    pub fn records(&self) -> serde_json::Result<Vec<Record>> {
        let writes = writes(&self.record.spec.name, None, Some(&self.record), &self.versions)?;
        let record = |write: Write| {
            Some(Record { version: write.expect.unwrap_or(Version(1)), key: write.key, value: write.value? })
        };
        Ok(writes.into_iter().filter_map(record).collect())
    }
}

/// Reads a service from all its parts.
///
/// # Errors
/// The part that cannot be read, and why.
pub fn read(parts: &[Record]) -> Result<Stored, (Key, serde_json::Error)> {
    let versions = parts.iter().filter_map(|record| match &record.key {
        Key::Service(_, part) => Some((*part, record.version)),
        Key::Node(_)
        | Key::Registry(_)
        | Key::Token(_)
        | Key::Authority
        | Key::Identity(_)
        | Key::Content(_)
        | Key::Stats => None,
    });
    let versions = Versions(versions.collect());
    let of =
        |wanted: Part| parts.iter().find(move |r| matches!(&r.key, Key::Service(_, part) if *part == wanted));
    let Some(head) = of(Part::Head) else {
        let key = parts.first().map_or(Key::Stats, |record| record.key.clone());
        return Err((key, serde_json::Error::custom("its service has no head")));
    };
    let unreadable = |record: &Record, error| (record.key.clone(), error);
    if head::is_whole(&head.value) {
        let record: ServiceRecord =
            serde_json::from_slice(&head.value).map_err(|error| unreadable(head, error))?;
        return Ok(Stored { record: record.brought_up_to_date(), versions });
    }
    let template = |generation: Generation| {
        let missing =
            || serde_json::Error::custom(format!("the template of its generation {generation} is missing"));
        let part = of(Part::Template(generation)).ok_or_else(|| unreadable(head, missing()))?;
        serde_json::from_slice(&part.value).map(Arc::new).map_err(|error| unreadable(part, error))
    };
    let read: Head = serde_json::from_slice(&head.value).map_err(|error| unreadable(head, error))?;
    let mut record = read.into_record(template)?;
    for part in parts {
        let Key::Service(name, Part::Slots(number)) = &part.key else { continue };
        let page: Page = serde_json::from_slice(&part.value).map_err(|error| unreadable(part, error))?;
        page.into_record(name, *number, &mut record)
            .map_err(|error| unreadable(part, serde_json::Error::custom(error)))?;
    }
    Ok(Stored { record, versions })
}
