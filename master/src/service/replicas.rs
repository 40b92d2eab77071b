//! The replicas of a service by their slots, and what is counted of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shef_common::ids::{Generation, ReplicaId, Slot};

use super::{
    pages::{Pages, page_of, pages_of, slots_on},
    replica::{ReplicaRecord, Want},
    slot_set::SlotSet,
};

/// Every replica that a host may hold, by slot; those of one slot in the order in which they were placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    pages: Pages<ReplicaRecord>,
    len: usize,
    /// The slots with a replica that is to run.
    filled: SlotSet,
    /// The slots with a replica that is not: one that is made ready, or to be removed.
    others: SlotSet,
    /// How many replicas run each generation.
    generations: BTreeMap<Generation, usize>,
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
        self.pages.iter()
    }

    /// Their pages.
    #[must_use]
    pub const fn pages(&self) -> &Pages<ReplicaRecord> {
        &self.pages
    }

    /// Those of `slot`.
    #[must_use]
    pub fn of(&self, slot: Slot) -> &[ReplicaRecord] {
        self.pages.of(slot)
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

    /// Whether all of them run `generation`, also those that are to be removed.
    #[must_use]
    pub fn runs_only(&self, generation: Generation) -> bool {
        self.generations.keys().all(|known| *known == generation)
    }

    /// One more, after the others of its slot.
    pub fn push(&mut self, replica: ReplicaRecord) {
        self.count(&replica);
        self.pages.push(replica);
    }

    /// Has `how` change those of which `which` is true.
    pub fn change(&mut self, which: impl Fn(&ReplicaRecord) -> bool, how: impl Fn(&mut ReplicaRecord)) {
        let ids: Vec<_> = self.iter().filter(|r| which(r)).map(ReplicaRecord::key).collect();
        self.change_these(&ids, how);
    }

    /// The same, of those in `slots`.
    pub fn change_in(
        &mut self,
        slots: &SlotSet,
        which: impl Fn(&ReplicaRecord) -> bool,
        how: impl Fn(&mut ReplicaRecord),
    ) {
        let ids: Vec<_> = self.of_all(slots).filter(|r| which(r)).map(ReplicaRecord::key).collect();
        self.change_these(&ids, how);
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
        let slots: SlotSet = self.iter().filter(|replica| !stays(replica)).map(|r| r.slot).collect();
        self.retain_in(&slots, stays);
    }

    /// Keeps those of `slots` of which `stays` is true, and all of the others.
    pub fn retain_in(&mut self, slots: &SlotSet, stays: impl Fn(&ReplicaRecord) -> bool) {
        let goes = |replica: &ReplicaRecord| slots.contains(replica.slot) && !stays(replica);
        for number in pages_of(slots) {
            if self.pages.page(number).iter().any(goes) {
                self.edit(number, |page| page.retain(|replica| !goes(replica)));
            }
        }
    }

    /// Changes a page, and what is counted of it.
    fn edit(&mut self, number: u32, how: impl FnOnce(&mut Vec<ReplicaRecord>)) {
        for replica in self.pages.page(number) {
            self.len -= 1;
            self.filled.remove(replica.slot);
            self.others.remove(replica.slot);
            if let Some(count) = self.generations.get_mut(&replica.generation) {
                *count -= 1;
            }
        }
        let mut pages = std::mem::take(&mut self.pages);
        pages.edit(number, how);
        pages.page(number).iter().for_each(|replica| self.count(replica));
        self.pages = pages;
        self.generations.retain(|_, count| *count > 0);
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
        let on_pages = self.pages.differing(&new.pages).into_iter().flat_map(slots_on);
        on_pages.filter(|slot| self.of(*slot) != new.of(*slot)).collect()
    }

    /// The replicas on the pages that differ between `self` and `new`, before and after.
    #[must_use]
    pub fn differing<'a>(&'a self, new: &'a Self) -> (Vec<&'a ReplicaRecord>, Vec<&'a ReplicaRecord>) {
        let numbers = self.pages.differing(&new.pages);
        let on = |of: &'a Self| numbers.iter().flat_map(|number| of.pages.page(*number)).collect();
        (on(self), on(new))
    }
}

#[cfg(test)]
impl std::ops::Index<usize> for Replicas {
    type Output = ReplicaRecord;

    fn index(&self, at: usize) -> &ReplicaRecord {
        &self.pages[at]
    }
}

impl FromIterator<ReplicaRecord> for Replicas {
    fn from_iter<I: IntoIterator<Item = ReplicaRecord>>(replicas: I) -> Self {
        let pages: Pages<ReplicaRecord> = replicas.into_iter().collect();
        let mut all = Self::default();
        pages.iter().for_each(|replica| all.count(replica));
        Self { pages, ..all }
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
        self.pages.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Pages::<ReplicaRecord>::deserialize(deserializer)?.iter().cloned().collect())
    }
}
