//! The replicas of a service by their slots, in pages that copies share until one of them changes a page: a copy
//! costs a pointer for every 64 slots, and what differs between two copies is found without a look at the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shef_common::ids::{Generation, NodeName, ReplicaId, Slot};

use super::{
    record::{ReplicaRecord, Want},
    slot_set::SlotSet,
};

/// How many slots are on a page.
const PAGE: u32 = 64;

/// Every replica that a host may hold, by slot; those of one slot in the order in which they were placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    pages: BTreeMap<u32, Arc<Page>>,
    len: usize,
    /// The slots with a replica that is to run.
    filled: SlotSet,
    /// The slots with a replica that is not: one that is made ready, or to be removed.
    others: SlotSet,
    /// How many replicas run each generation.
    generations: BTreeMap<Generation, usize>,
}

/// The replicas of [`PAGE`] slots, by slot.
type Page = Vec<ReplicaRecord>;

const fn page_of(slot: Slot) -> u32 {
    slot.0 / PAGE
}

/// Where the replicas of `slot` are on their page.
fn range(page: &Page, slot: Slot) -> std::ops::Range<usize> {
    let start = page.partition_point(|replica| replica.slot < slot);
    let count = page[start..].partition_point(|replica| replica.slot == slot);
    start..start + count
}

impl Replicas {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, by slot.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &ReplicaRecord> {
        self.pages.values().flat_map(|page| page.iter())
    }

    /// Those of `slot`.
    #[must_use]
    pub fn of(&self, slot: Slot) -> &[ReplicaRecord] {
        self.pages.get(&page_of(slot)).map_or(&[], |page| &page[range(page, slot)])
    }

    /// Those of `slots`.
    pub fn of_all<'a>(&'a self, slots: &'a SlotSet) -> impl Iterator<Item = &'a ReplicaRecord> {
        slots.iter().flat_map(|slot| self.of(slot))
    }

    /// The slots that have a replica that is to run.
    #[must_use]
    pub const fn filled(&self) -> &SlotSet {
        &self.filled
    }

    /// The slots that have a replica that is not to run: one that is made ready, or to be removed.
    #[must_use]
    pub const fn others(&self) -> &SlotSet {
        &self.others
    }

    /// Whether any replica runs `generation`, or is to be removed that did.
    #[must_use]
    pub fn has_generation(&self, generation: Generation) -> bool {
        self.generations.contains_key(&generation)
    }

    /// One more, after the others of its slot.
    pub fn push(&mut self, replica: ReplicaRecord) {
        self.count(&replica);
        let page = Arc::make_mut(self.pages.entry(page_of(replica.slot)).or_default());
        page.insert(range(page, replica.slot).end, replica);
    }

    /// Has `how` change those of which `which` is true.
    pub fn change(&mut self, which: impl Fn(&ReplicaRecord) -> bool, how: impl Fn(&mut ReplicaRecord)) {
        let pages = self.pages.iter().filter(|(_, page)| page.iter().any(&which));
        for number in pages.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.edit(number, |page| page.iter_mut().filter(|replica| which(replica)).for_each(&how));
        }
    }

    /// Has `how` change the replicas `ids`.
    pub fn change_these(&mut self, ids: &[(Slot, ReplicaId)], how: impl Fn(&mut ReplicaRecord)) {
        let mut by_page: BTreeMap<u32, BTreeSet<&ReplicaId>> = BTreeMap::new();
        for (slot, id) in ids {
            by_page.entry(page_of(*slot)).or_default().insert(id);
        }
        for (number, ids) in by_page {
            self.edit(number, |page| {
                page.iter_mut().filter(|replica| ids.contains(&replica.id)).for_each(&how);
            });
        }
    }

    /// Keeps those of which `stays` is true.
    pub fn retain(&mut self, stays: impl Fn(&ReplicaRecord) -> bool) {
        let pages = self.pages.iter().filter(|(_, page)| !page.iter().all(&stays));
        for number in pages.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.edit(number, |page| page.retain(&stays));
        }
    }

    /// Keeps those of `slots` of which `stays` is true, and all of the others.
    pub fn retain_in(&mut self, slots: &SlotSet, stays: impl Fn(&ReplicaRecord) -> bool) {
        let goes = |replica: &ReplicaRecord| slots.contains(replica.slot) && !stays(replica);
        for number in slots.iter().map(page_of).collect::<BTreeSet<_>>() {
            if self.pages.get(&number).is_some_and(|page| page.iter().any(goes)) {
                self.edit(number, |page| page.retain(|replica| !goes(replica)));
            }
        }
    }

    /// Changes a page, and what is counted of it.
    fn edit(&mut self, number: u32, how: impl FnOnce(&mut Page)) {
        let Some(mut page) = self.pages.remove(&number) else { return };
        for replica in page.iter() {
            self.len -= 1;
            self.filled.remove(replica.slot);
            self.others.remove(replica.slot);
            if let Some(count) = self.generations.get_mut(&replica.generation) {
                *count -= 1;
            }
        }
        how(Arc::make_mut(&mut page));
        page.iter().for_each(|replica| self.count(replica));
        self.generations.retain(|_, count| *count > 0);
        if !page.is_empty() {
            self.pages.insert(number, page);
        }
    }

    fn count(&mut self, replica: &ReplicaRecord) {
        self.len += 1;
        let slots = if replica.want == Want::Run { &mut self.filled } else { &mut self.others };
        slots.insert(replica.slot);
        *self.generations.entry(replica.generation).or_default() += 1;
    }

    /// The slots of which something differs between `self` and `new`.
    #[must_use]
    pub fn changed_slots(&self, new: &Self) -> SlotSet {
        let mut changed = SlotSet::default();
        for number in self.pages_that_differ(new) {
            let slots = (number * PAGE..(number + 1) * PAGE).map(Slot);
            changed.extend(slots.filter(|slot| self.of(*slot) != new.of(*slot)));
        }
        changed
    }

    /// The replicas on the pages that differ between `self` and `new`, before and after.
    pub fn differing<'a>(
        &'a self,
        new: &'a Self,
    ) -> (Vec<&'a ReplicaRecord>, Vec<&'a ReplicaRecord>) {
        let numbers = self.pages_that_differ(new);
        let on = |of: &'a Self| numbers.iter().filter_map(|number| of.pages.get(number)).flat_map(|p| p.iter());
        (on(self).collect(), on(new).collect())
    }

    fn pages_that_differ(&self, new: &Self) -> Vec<u32> {
        let is_same = |number: &u32, page: &Arc<Page>| {
            new.pages.get(number).is_some_and(|other| Arc::ptr_eq(page, other))
        };
        let before = self.pages.iter().filter(|(number, page)| !is_same(number, page)).map(|(n, _)| *n);
        let came = new.pages.keys().filter(|number| !self.pages.contains_key(number)).copied();
        before.chain(came).collect()
    }

    /// The slots that have a replica on `node`.
    pub fn slots_on<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = Slot> + 'a {
        self.iter().filter(move |replica| replica.node == *node).map(|replica| replica.slot)
    }
}

#[cfg(test)]
impl std::ops::Index<usize> for Replicas {
    type Output = ReplicaRecord;

    fn index(&self, at: usize) -> &ReplicaRecord {
        self.iter().nth(at).unwrap()
    }
}

impl FromIterator<ReplicaRecord> for Replicas {
    fn from_iter<I: IntoIterator<Item = ReplicaRecord>>(replicas: I) -> Self {
        let mut by_page: BTreeMap<u32, Page> = BTreeMap::new();
        for replica in replicas {
            by_page.entry(page_of(replica.slot)).or_default().push(replica);
        }
        let mut all = Self::default();
        for (number, mut page) in by_page {
            page.sort_by_key(|replica| replica.slot);
            page.iter().for_each(|replica| all.count(replica));
            all.pages.insert(number, Arc::new(page));
        }
        all
    }
}

impl<'a> IntoIterator for &'a Replicas {
    type Item = &'a ReplicaRecord;
    type IntoIter = Box<dyn Iterator<Item = &'a ReplicaRecord> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl Serialize for Replicas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<ReplicaRecord>::deserialize(deserializer)?.into_iter().collect())
    }
}
