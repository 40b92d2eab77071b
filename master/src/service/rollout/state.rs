//! What is stored of rollouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{Generation, Slot},
    spec::Template,
};

use crate::service::slot_set::SlotSet;

/// A rollout that is under way; to [`generation`](crate::service::ServiceRecord::generation).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rollout {
    /// The last good generation, to which a failure goes back. `None`: there is
    /// none, or this is a rollback; what fails is tried again then, and nothing is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Generation>,
    /// Where it stands.
    pub phase: Phase,
    /// When it began.
    pub started: WallMs,
    /// The slots that the rollout has started: they are to run the new generation. At most as many as there
    /// are slots.
    #[serde(default, skip_serializing_if = "SlotSet::is_empty", rename = "turned")]
    #[schemars(with = "BTreeSet<Slot>")]
    pub started_slots: SlotSet,
    /// How many new replicas of a slot failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<Slot, u32>,
    /// Where versions before 0.2 kept [`emptied`](crate::service::ServiceRecord::emptied).
    #[serde(default, skip_serializing_if = "SlotSet::is_empty", rename = "emptied")]
    #[schemars(with = "BTreeSet<Slot>")]
    pub(in crate::service) once_emptied: SlotSet,
    /// The latest of these failures, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Whether the user has seen the canary and wants the rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
    /// Whether `order: auto` stops old replicas first because no host has room for two replicas of a slot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_first: bool,
    /// The number of replicas that came with the new template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicaChange>,
}

/// A change of the number of replicas that came with a new template, and is taken back with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplicaChange {
    /// How many there were to be before.
    pub from: u32,
    /// How many there are to be since.
    pub to: u32,
}

/// The time after a rollout in which its generation may still be rolled back. It is timed by the master's
/// clock and begins anew with a new master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Probation {
    /// The generation before, to which failures go back.
    pub from: Generation,
    /// When it began.
    pub started: WallMs,
    /// The number of replicas that came with the generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicaChange>,
}

/// The states of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Phase {
    /// It goes on.
    Running,
    /// The rollout waits until a user resumes or aborts it.
    Paused {
        /// Why it stopped.
        why: String,
        /// It made no progress because of its hosts, and goes on by itself once it can.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        until_hosts: bool,
    },
    /// The rollout returns to the last good generation.
    RollingBack {
        /// The generation that is given up.
        failed: Generation,
        /// Why.
        why: String,
    },
}

/// An earlier generation that a rollback can return to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Kept {
    /// The generation.
    pub generation: Generation,
    /// The template of its replicas.
    pub template: Arc<Template>,
    /// When another generation replaced it.
    pub left: WallMs,
}

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ended {
    /// The generation that the rollout was for.
    pub generation: Generation,
    /// Why the rollout was rolled back; absent: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
    /// What was not in place when it ended because nothing more came of it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// When the rollout, or its rollback, began.
    pub started: WallMs,
    /// When the rollout ended.
    pub ended: WallMs,
}

/// What else a change of the template depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whether the generation that is left is one to go back to: for all that is known, it runs somewhere.
    pub good: bool,
    /// How many earlier generations are kept: 0 to [`shef_common::spec::MAX_HISTORY`].
    pub history_limit: usize,
}

impl Rollout {
    pub(super) fn new(from: Option<Generation>, phase: Phase, now: WallMs) -> Self {
        Self {
            from,
            phase,
            started: now,
            started_slots: SlotSet::default(),
            failures: BTreeMap::new(),
            once_emptied: SlotSet::default(),
            last_failure: None,
            promoted: false,
            stops_first: false,
            replicas: None,
        }
    }

    /// Whether it goes back.
    #[must_use]
    pub const fn is_rolling_back(&self) -> bool {
        matches!(self.phase, Phase::RollingBack { .. })
    }

    /// Whether the rollout has started a new replica in the slot. If the slot is empty, the rollout has
    /// emptied it.
    #[must_use]
    pub fn has_attempted(&self, slot: Slot) -> bool {
        self.started_slots.contains(slot) || self.failures.contains_key(&slot)
    }

    /// The slots in which the rollout has started a new replica. If one is empty, the rollout has emptied it.
    #[must_use]
    pub fn attempted(&self) -> SlotSet {
        self.started_slots.with(&self.failures.keys().copied().collect())
    }

    /// How many new replicas failed.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failures.values().copied().fold(0, u32::saturating_add)
    }
}
