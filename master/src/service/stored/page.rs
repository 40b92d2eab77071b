//! The part of a service that belongs to the slots of one page.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shef_common::{
    bounds::{OutOfBounds, at_most},
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, ServiceName, Slot},
};

use crate::service::{
    pages::{page_of, slots_on},
    record::{ReplicaRecord, ServiceRecord, Want},
    slot_set::SlotSet,
};

/// The slots of a page. Hosts are named once and meant by their places in that list.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Page {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<Replica>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    bindings: BTreeMap<Slot, u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    emptied: Vec<Slot>,
    /// Of the rollout that is under way: the slots that it has started, and those of which new replicas
    /// failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "turned")]
    started_slots: Vec<Slot>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    failures: BTreeMap<Slot, u32>,
}

/// Why a page is not one of its service.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidPage {
    #[error("it names {count} hosts, and none at {place}")]
    NoHost { count: usize, place: u32 },
    #[error("slot {slot} is not on page {page}")]
    OtherPage { slot: Slot, page: u32 },
    #[error("the replica in slot {slot}: {error}")]
    Replica { slot: Slot, error: OutOfBounds },
}

/// A replica. Its id is the service's name with its number.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct Replica {
    slot: Slot,
    number: u32,
    generation: Generation,
    node: u32,
    #[serde(default = "runs", skip_serializing_if = "is_to_run")]
    want: Want,
    #[serde(default, skip_serializing_if = "is_first")]
    attempt: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    moving: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<WallMs>,
}

const fn runs() -> Want {
    Want::Run
}

fn is_to_run(want: &Want) -> bool {
    *want == Want::Run
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_first(attempt: &u32) -> bool {
    *attempt == 0
}

/// The sets of slots that pages hold a part of.
pub(super) fn sets(record: &ServiceRecord) -> [SlotSet; 2] {
    let started_slots = record.rollout.as_ref().map(|rollout| rollout.started_slots.clone());
    [record.emptied.clone(), started_slots.unwrap_or_default()]
}

impl Page {
    /// What is on the page with this number.
    pub(super) fn of(record: &ServiceRecord, number: u32) -> Self {
        let mut page = Self::default();
        for replica in record.replicas.pages().page(number) {
            let ReplicaRecord { id, slot, generation, node, want, attempt, moving, done } = replica;
            let node = page.place_of(node);
            page.replicas.push(Replica {
                slot: *slot,
                number: id.number(),
                generation: *generation,
                node,
                want: *want,
                attempt: *attempt,
                moving: *moving,
                done: *done,
            });
        }
        let on = |set: &SlotSet| slots_on(number).filter(|slot| set.contains(*slot)).collect();
        let [emptied, started_slots] = sets(record);
        (page.emptied, page.started_slots) = (on(&emptied), on(&started_slots));
        for slot in slots_on(number) {
            if let Some(node) = record.bindings.get(slot) {
                let node = page.place_of(node);
                page.bindings.insert(slot, node);
            }
            if let Some(failures) = record.rollout.as_ref().and_then(|rollout| rollout.failures.get(&slot)) {
                page.failures.insert(slot, *failures);
            }
        }
        page
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { nodes: _, replicas, bindings, emptied, started_slots, failures } = self;
        replicas.is_empty()
            && bindings.is_empty()
            && emptied.is_empty()
            && started_slots.is_empty()
            && failures.is_empty()
    }

    fn place_of(&mut self, node: &NodeName) -> u32 {
        let place = self.nodes.iter().position(|known| known == node).unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        });
        // A page has 64 slots: it never names so many hosts.
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Puts everything on it into the record of the service `name`.
    pub(super) fn into_record(
        self,
        name: &ServiceName,
        number: u32,
        record: &mut ServiceRecord,
    ) -> Result<(), InvalidPage> {
        let nodes = &self.nodes;
        let node = |place: u32| {
            let count = nodes.len();
            nodes.get(place as usize).cloned().ok_or(InvalidPage::NoHost { count, place })
        };
        let slot = |slot: Slot| {
            let is_here = page_of(slot) == number;
            is_here.then_some(slot).ok_or(InvalidPage::OtherPage { slot, page: number })
        };
        for replica in self.replicas {
            at_most("its number", replica.number.into(), ReplicaId::MAX_NUMBER.into())
                .map_err(|error| InvalidPage::Replica { slot: replica.slot, error })?;
            record.replicas.push(ReplicaRecord {
                id: ReplicaId::new(name, replica.number),
                slot: slot(replica.slot)?,
                generation: replica.generation,
                node: node(replica.node)?,
                want: replica.want,
                attempt: replica.attempt,
                moving: replica.moving,
                done: replica.done,
            });
        }
        for (of, place) in self.bindings {
            record.bindings.insert(slot(of)?, node(place)?);
        }
        for emptied in self.emptied {
            record.emptied.insert(slot(emptied)?);
        }
        if let Some(rollout) = &mut record.rollout {
            for started in self.started_slots {
                rollout.started_slots.insert(slot(started)?);
            }
            for (of, failures) in self.failures {
                rollout.failures.insert(slot(of)?, failures);
            }
        }
        Ok(())
    }
}
