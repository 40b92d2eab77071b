//! Sets of slots, as bitmaps: a copy of one with 100,000 slots takes a microsecond.

use std::fmt;

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shef_common::ids::Slot;

/// A set of slots, in their order. Stored as a list of their numbers.
#[derive(Clone, Default, PartialEq)]
pub struct SlotSet(RoaringBitmap);

// A set is equal to itself.
impl Eq for SlotSet {}

impl SlotSet {
    /// The first so many slots.
    #[must_use]
    pub fn first(count: usize) -> Self {
        let mut first = RoaringBitmap::new();
        first.insert_range(..u32::try_from(count).unwrap_or(u32::MAX));
        Self(first)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.0.len()).unwrap_or(usize::MAX)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `slot` is one of them.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.contains(slot.0)
    }

    /// Adds `slot`.
    pub fn insert(&mut self, slot: Slot) {
        self.0.insert(slot.0);
    }

    /// Takes `slot` out.
    pub fn remove(&mut self, slot: Slot) {
        self.0.remove(slot.0);
    }

    /// Has `slot` in it or not.
    pub fn set(&mut self, slot: Slot, is_in: bool) {
        if is_in {
            self.insert(slot);
        } else {
            self.remove(slot);
        }
    }

    /// The slots, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Slot> {
        self.0.iter().map(Slot)
    }

    /// Those that are in this set, and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return self.clone();
        }
        Self(&self.0 - &other.0)
    }

    /// Those that are in this set, in `other`, or in both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (_, true) => self.clone(),
            (true, false) => other.clone(),
            (false, false) => Self(&self.0 | &other.0),
        }
    }

    /// Those that are in both.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Whether all of them are in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl Extend<Slot> for SlotSet {
    fn extend<I: IntoIterator<Item = Slot>>(&mut self, slots: I) {
        self.0.extend(slots.into_iter().map(|slot| slot.0));
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        Self(slots.into_iter().map(|slot| slot.0).collect())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter()).finish()
    }
}

impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Slot>::deserialize(deserializer)?.into_iter().collect())
    }
}
