//! The classes of replicas, as far as they are known from the last look, and which slots are settled.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{clock::MonoMs, ids::Slot};

use super::class::ReplicaClass;
use crate::service::{record::ServiceRecord, slot_set::SlotSet};

/// Slots that need no decision and no note now: with one replica each, or with a new one beside the one that
/// it is to replace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// It is good, and runs the generation that is wanted.
    pub current: SlotSet,
    /// It is good, and runs the generation before; the slot could start.
    pub outdated: SlotSet,
    /// It, or the new one, is on its trial.
    pub on_trial: SlotSet,
    /// It, or the new one, is being started.
    pub starting: SlotSet,
    /// Those on trial or being started in which the replica of the generation before still runs, and is well.
    pub doubled: SlotSet,
}

impl Settled {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> SlotSet {
        self.current.with(&self.outdated).with(&self.on_trial).with(&self.starting)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current.len() + self.outdated.len() + self.on_trial.len() + self.starting.len()
    }

    /// Those whose replica, or whose new one, is on its way.
    #[must_use]
    pub fn coming(&self) -> SlotSet {
        self.on_trial.with(&self.starting)
    }

    /// Those that a rollout replaces at the moment, or, where it is `gated`, fills.
    #[must_use]
    pub fn in_progress(&self, gated: bool) -> SlotSet {
        if gated { self.coming() } else { self.doubled.clone() }
    }

    /// The class of the replica of `slot`, or of its new one, if it is one of them.
    #[must_use]
    pub fn class(&self, slot: Slot) -> Option<ReplicaClass> {
        if self.current.contains(slot) || self.outdated.contains(slot) {
            Some(ReplicaClass::Ready)
        } else if self.on_trial.contains(slot) {
            Some(ReplicaClass::OnTrial)
        } else {
            self.starting.contains(slot).then_some(ReplicaClass::Starting)
        }
    }

    pub(super) fn sets(&mut self) -> [&mut SlotSet; 5] {
        let Self { current, outdated, on_trial, starting, doubled } = self;
        [current, outdated, on_trial, starting, doubled]
    }

    pub(super) fn without(mut self, slots: &SlotSet) -> Self {
        if !slots.is_empty() {
            self.sets().into_iter().for_each(|set| *set = set.without(slots));
        }
        self
    }
}

/// What the last look at a record found: its settled slots, and the classes of the replicas in the others.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotCache {
    /// The record.
    pub(super) of: Option<Box<ServiceRecord>>,
    pub(super) settled: Settled,
    /// When trials end.
    pub(super) trials: BTreeSet<(MonoMs, Slot)>,
    /// When what is being started is late.
    pub(super) starts: BTreeSet<(MonoMs, Slot)>,
    /// The same times, by slot.
    pub(super) due_at: BTreeMap<Slot, MonoMs>,
    /// The classes of the replicas that are to run in the slots that do need a look, in the replicas' order.
    pub(super) classes: BTreeMap<Slot, Vec<ReplicaClass>>,
    /// These slots.
    pub(super) open: SlotSet,
    /// When a class of these may change by time alone.
    pub(super) class_changes: BTreeSet<(MonoMs, Slot)>,
}

impl SlotCache {
    pub(super) fn remove(&mut self, slot: Slot) {
        self.settled.sets().into_iter().for_each(|set| set.remove(slot));
        self.classes.remove(&slot);
        self.open.remove(slot);
        self.is_not_due(slot);
    }

    pub(super) fn is_not_due(&mut self, slot: Slot) {
        if let Some(at) = self.due_at.remove(&slot) {
            self.trials.remove(&(at, slot));
            self.starts.remove(&(at, slot));
            self.class_changes.remove(&(at, slot));
        }
    }

    pub(super) fn remove_all(&mut self, slots: &SlotSet) {
        self.settled = std::mem::take(&mut self.settled).without(slots);
        self.open = self.open.without(slots);
        if !self.due_at.is_empty() || !self.classes.is_empty() {
            for slot in slots.iter() {
                self.classes.remove(&slot);
                self.is_not_due(slot);
            }
        }
    }

    /// A slot that needs a look has replicas of these classes until then, if nothing happens to it.
    pub(super) fn insert_open(&mut self, slot: Slot, classes: Vec<ReplicaClass>, until: Option<MonoMs>) {
        self.classes.insert(slot, classes);
        self.open.insert(slot);
        if let Some(at) = until {
            self.class_changes.insert((at, slot));
            self.due_at.insert(slot, at);
        }
    }

    pub(super) fn insert(&mut self, slot: Slot, kind: Kind) {
        let (settled, trials, starts) = (&mut self.settled, &mut self.trials, &mut self.starts);
        let (set, due) = match kind {
            Kind::Current => (&mut settled.current, None),
            Kind::Outdated => (&mut settled.outdated, None),
            Kind::OnTrial { until, .. } => (&mut settled.on_trial, Some((trials, until))),
            Kind::Starting { until, .. } => (&mut settled.starting, until.map(|until| (starts, until))),
        };
        set.insert(slot);
        if let Kind::OnTrial { doubled: true, .. } | Kind::Starting { doubled: true, .. } = kind {
            settled.doubled.insert(slot);
        }
        if let Some((times, at)) = due {
            times.insert((at, slot));
            self.due_at.insert(slot, at);
        }
    }

    /// The slots whose time has come.
    pub(super) fn due(&self, now: MonoMs) -> impl Iterator<Item = Slot> {
        let due = move |times: &BTreeSet<(MonoMs, Slot)>| {
            times.iter().take_while(|(at, _)| *at <= now).map(|(_, slot)| *slot).collect::<Vec<_>>()
        };
        due(&self.trials).into_iter().chain(due(&self.starts)).chain(due(&self.class_changes))
    }
}

/// In which of the sets a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Current,
    Outdated,
    OnTrial { until: MonoMs, doubled: bool },
    Starting { until: Option<MonoMs>, doubled: bool },
}
