//! Slots and the hosts to which they are bound, in pages that copies share.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shef_common::ids::{NodeName, Slot};

use super::{
    pages::{OfSlot, Pages, page_of, slots_on},
    slot_set::SlotSet,
};

/// Slots and the hosts to which they are bound; a slot to one at most. In JSON, an object of hosts by slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    pages: Pages<Bound>,
    slots: SlotSet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    slot: Slot,
    node: NodeName,
}

impl OfSlot for Bound {
    fn slot(&self) -> Slot {
        self.slot
    }
}

impl Bindings {
    /// The host to which `slot` is bound.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&NodeName> {
        self.pages.of(slot).first().map(|bound| &bound.node)
    }

    /// All of them, by slot.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Slot, &NodeName)> {
        self.pages.iter().map(|bound| (bound.slot, &bound.node))
    }

    /// The hosts, by slot.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.pages.iter().map(|bound| &bound.node)
    }

    /// The slots that are bound.
    #[must_use]
    pub const fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// Whether no slot is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Binds `slot` to `node`, and to no other.
    pub fn insert(&mut self, slot: Slot, node: NodeName) {
        self.remove(slot);
        self.slots.insert(slot);
        self.pages.push(Bound { slot, node });
    }

    /// Binds `slot` to nothing.
    pub fn remove(&mut self, slot: Slot) {
        if self.slots.contains(slot) {
            self.slots.remove(slot);
            self.pages.edit(page_of(slot), |page| page.retain(|bound| bound.slot != slot));
        }
    }

    /// Keeps those of which `stays` is true.
    pub fn retain(&mut self, stays: impl Fn(Slot, &NodeName) -> bool) {
        let goes: Vec<Slot> =
            self.iter().filter(|(slot, node)| !stays(*slot, node)).map(|(slot, _)| slot).collect();
        goes.into_iter().for_each(|slot| self.remove(slot));
    }

    /// The slots that are not bound as in `other`.
    #[must_use]
    pub fn changed_slots(&self, other: &Self) -> SlotSet {
        let on_pages = self.pages.differing(&other.pages).into_iter().flat_map(slots_on);
        on_pages.filter(|slot| self.get(*slot) != other.get(*slot)).collect()
    }
}

impl FromIterator<(Slot, NodeName)> for Bindings {
    fn from_iter<I: IntoIterator<Item = (Slot, NodeName)>>(bound: I) -> Self {
        let mut bindings = Self::default();
        bound.into_iter().for_each(|(slot, node)| bindings.insert(slot, node));
        bindings
    }
}

impl<const N: usize> From<[(Slot, NodeName); N]> for Bindings {
    fn from(bound: [(Slot, NodeName); N]) -> Self {
        bound.into_iter().collect()
    }
}

impl Serialize for Bindings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Bindings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn node(n: u32) -> NodeName {
        NodeName::parse(&format!("h{n}")).unwrap()
    }

    proptest! {
        /// They are what a map is, also in JSON, and what differs between two of them is found.
        #[test]
        fn property_bindings_are_a_map(
            steps in proptest::collection::vec(
                (select(vec![0_u32, 1, 63, 64, 4_095, 4_096, 9_000]), 0_u32..4),
                0..40,
            )
        ) {
            let (mut bindings, mut map) = (Bindings::default(), BTreeMap::new());
            for (slot, host) in steps {
                let (slot, before, map_before) = (Slot(slot), bindings.clone(), map.clone());
                if host == 0 {
                    bindings.remove(slot);
                    map.remove(&slot);
                } else {
                    bindings.insert(slot, node(host));
                    map.insert(slot, node(host));
                }
                let pairs: Vec<_> = bindings.iter().map(|(slot, node)| (slot, node.clone())).collect();
                prop_assert_eq!(&pairs, &map.clone().into_iter().collect::<Vec<_>>());
                let slots: Vec<_> = bindings.slots().iter().collect();
                prop_assert_eq!(slots, map.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(bindings.get(slot), map.get(&slot));
                prop_assert_eq!(bindings.is_empty(), map.is_empty());
                let differs = map_before.get(&slot) != map.get(&slot);
                let changed: Vec<Slot> = before.changed_slots(&bindings).iter().collect();
                prop_assert_eq!(changed, if differs { vec![slot] } else { vec![] });
                let json = serde_json::to_string(&bindings).unwrap();
                prop_assert_eq!(&json, &serde_json::to_string(&map).unwrap());
                prop_assert_eq!(&serde_json::from_str::<Bindings>(&json).unwrap(), &bindings);
            }
        }
    }
}
