//! Things by slot, in pages that copies share until one of them changes a page. Pages are bound in chapters,
//! which are shared alike: a copy costs a pointer for every 4,096 slots, a change copies a page and its
//! chapter's pointers, and what differs between two copies is found without a look at the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shef_common::ids::Slot;

use super::slot_set::SlotSet;

/// How many slots are on a page.
const PAGE: u32 = 64;
/// How many pages are in a chapter.
const CHAPTER: u32 = 64;

/// Pages by their numbers.
type Chapter<T> = BTreeMap<u32, Arc<Vec<T>>>;

/// What belongs to a slot.
pub trait OfSlot {
    /// The slot.
    fn slot(&self) -> Slot;
}

/// Things by slot; those of one slot in the order in which they came. In JSON, one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages<T>(BTreeMap<u32, Arc<Chapter<T>>>);

/// Where one goes on that reads things piece by piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    page: u32,
    at: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// The number of the page with `slot`.
pub const fn page_of(slot: Slot) -> u32 {
    slot.0 / PAGE
}

/// The numbers of the pages with `slots`.
pub fn pages_of(slots: &SlotSet) -> BTreeSet<u32> {
    slots.iter().map(page_of).collect()
}

/// The slots on a page.
pub fn slots_on(page: u32) -> impl Iterator<Item = Slot> {
    (page * PAGE..(page + 1) * PAGE).map(Slot)
}

fn range<T: OfSlot>(page: &[T], slot: Slot) -> Range<usize> {
    let start = page.partition_point(|item| item.slot() < slot);
    let count = page[start..].partition_point(|item| item.slot() == slot);
    start..start + count
}

impl<T> Pages<T> {
    fn get(&self, number: u32) -> Option<&Arc<Vec<T>>> {
        self.0.get(&(number / CHAPTER))?.get(&number)
    }

    /// All of them, by slot.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.values().flat_map(|chapter| chapter.values()).flat_map(|page| page.iter())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of the pages that hold anything.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.values().flat_map(|chapter| chapter.keys().copied())
    }

    /// What is on a page.
    #[must_use]
    pub fn page(&self, number: u32) -> &[T] {
        self.get(number).map_or(&[], |page| page.as_slice())
    }

    /// The one at `cursor` or the next one after it, and where to go on.
    #[must_use]
    pub fn next(&self, cursor: Cursor) -> Option<(&T, Cursor)> {
        let chapters = self.0.range(cursor.page / CHAPTER..);
        let mut pages = chapters.flat_map(|(_, chapter)| chapter.range(cursor.page..));
        pages.find_map(|(&page, items)| {
            let at = if page == cursor.page { cursor.at } else { 0 };
            items.get(at).map(|item| (item, Cursor { page, at: at + 1 }))
        })
    }

    /// The numbers of the pages that are not shared with `other`.
    pub fn differing(&self, other: &Self) -> Vec<u32> {
        let mut differing = Vec::new();
        let none = Chapter::new();
        each_differing(&self.0, &other.0, |_, own, others| {
            let (own, others) = (own.unwrap_or(&none), others.unwrap_or(&none));
            each_differing(own, others, |number, _, _| differing.push(number));
        });
        differing
    }
}

/// Calls `with` for each key under which the two hold something that they do not share.
fn each_differing<T>(
    own: &BTreeMap<u32, Arc<T>>,
    others: &BTreeMap<u32, Arc<T>>,
    mut with: impl FnMut(u32, Option<&T>, Option<&T>),
) {
    for (number, item) in own {
        let other = others.get(number);
        if !other.is_some_and(|other| Arc::ptr_eq(item, other)) {
            with(*number, Some(item), other.map(|other| &**other));
        }
    }
    for (number, item) in others.iter().filter(|(number, _)| !own.contains_key(number)) {
        with(*number, None, Some(item));
    }
}

impl<T: Clone> Pages<T> {
    /// Has `how` change a page; one that is not there is empty.
    pub fn edit(&mut self, number: u32, how: impl FnOnce(&mut Vec<T>)) {
        let chapter = Arc::make_mut(self.0.entry(number / CHAPTER).or_default());
        let page = chapter.entry(number).or_default();
        how(Arc::make_mut(page));
        if page.is_empty() {
            chapter.remove(&number);
        }
        if chapter.is_empty() {
            self.0.remove(&(number / CHAPTER));
        }
    }
}

impl<T: OfSlot> Pages<T> {
    /// Those of `slot`.
    #[must_use]
    pub fn of(&self, slot: Slot) -> &[T] {
        self.get(page_of(slot)).map_or(&[], |page| &page[range(page, slot)])
    }
}

impl<T: OfSlot + Clone> Pages<T> {
    /// One more, after the others of its slot.
    pub fn push(&mut self, item: T) {
        self.edit(page_of(item.slot()), |page| page.insert(range(page, item.slot()).end, item));
    }
}

#[cfg(test)]
impl<T> std::ops::Index<usize> for Pages<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.iter().nth(at).unwrap()
    }
}

impl<T: OfSlot> FromIterator<T> for Pages<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut pages: BTreeMap<u32, Vec<T>> = BTreeMap::new();
        for item in items {
            pages.entry(page_of(item.slot())).or_default().push(item);
        }
        let mut chapters: BTreeMap<u32, Chapter<T>> = BTreeMap::new();
        for (number, mut page) in pages {
            page.sort_by_key(T::slot);
            chapters.entry(number / CHAPTER).or_default().insert(number, Arc::new(page));
        }
        Self(chapters.into_iter().map(|(number, chapter)| (number, Arc::new(chapter))).collect())
    }
}

impl<'a, T> IntoIterator for &'a Pages<T> {
    type Item = &'a T;
    type IntoIter = Box<dyn Iterator<Item = &'a T> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<T: Serialize> Serialize for Pages<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, T: OfSlot + Deserialize<'de>> Deserialize<'de> for Pages<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<T>::deserialize(deserializer)?.into_iter().collect())
    }
}
