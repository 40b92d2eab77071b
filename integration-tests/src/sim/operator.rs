//! The operator: cordons, drains, activates and forgets hosts. And the rules for what the API has
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::DurationMs,
    ids::{NodeName, ReplicaId},
};
use shef_master::{
    cluster::ClusterEvent,
    membership::{HostChanged, HostCondition, Intent, Standing},
    runner::{IntentWord, NodeIntent, NodeRecord, OperateRefused, Operation},
    service::{ServiceRecord, Want},
    store::Key,
};

use super::{
    master::{Mail, Master},
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// How long what was on its way to the store when a host was forgotten may still arrive there.
const ON_ITS_WAY_MS: u64 = 30_000;

/// A master that starts gives a drain at least this part of the time that was asked for, whatever its wall
/// clock says.
const LEAST_PART_OF_A_DRAIN: u64 = 4;

/// A request that was acknowledged, with no other made since.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    /// A host that was forgotten is active when it joins anew.
    intended: IntentWord,
    at: u64,
}

/// The operators' requests and their answers.
#[derive(Debug, Default)]
pub struct Operators {
    next: u64,
    /// Requests without an answer yet, and which run of the master got them.
    open: BTreeMap<u64, (NodeName, Operation, u64)>,
    answered: BTreeSet<u64>,
    acknowledged: BTreeMap<NodeName, Acknowledged>,
    /// When a host was forgotten last.
    forgotten: BTreeMap<NodeName, u64>,
    /// What the store had on hosts when they were forgotten.
    left_behind: BTreeSet<(NodeName, ReplicaId)>,
    /// Where replicas were first stored to run, and when.
    placed: BTreeMap<ReplicaId, (NodeName, u64)>,
    /// Hosts whose drain is or was past its deadline, and when that was last said to be so.
    overdue: BTreeMap<NodeName, u64>,
    /// When the membership last said that a host is leaving, or no longer leaving.
    leaving: BTreeMap<NodeName, u64>,
    /// From when on the drains that were asked for may be overdue.
    due: BTreeMap<NodeName, Vec<u64>>,
}

impl World {
    /// The operator does something, and will again.
    pub fn operator_acts(&mut self) {
        if !self.faults {
            return;
        }
        let pause = self.rng.u64(500..6_000);
        self.at(pause, Ev::Operator);
        let Some(master) = &self.master else { return };
        let shown: Vec<(NodeName, Standing)> =
            master.hosts_shown.iter().map(|(node, view)| (node.clone(), view.state)).collect();
        if shown.is_empty() {
            return;
        }
        let (node, standing) = shown[self.rng.usize(..shown.len())].clone();
        let gone = matches!(standing, Standing::Down | Standing::AgentDown | Standing::Suspect);
        let operation = match self.rng.u32(0..10) {
            0 | 1 => Operation::Intend(NodeIntent::Cordon),
            2 | 3 => Operation::Intend(NodeIntent::Drain { within: None }),
            4 => {
                Operation::Intend(NodeIntent::Drain { within: Some(DurationMs(self.rng.u64(1_000..20_000))) })
            }
            5..=7 if gone => Operation::Forget { force: false },
            5 if self.chance(100) => Operation::Forget { force: self.rng.bool() },
            _ => Operation::Intend(NodeIntent::Activate),
        };
        self.operator_asks(node, operation);
    }

    /// The operator knows that no other master leads.
    pub fn operator_takes_over(&mut self) {
        if let Some(inc) = self.master.as_ref().map(|master| master.inc) {
            self.note(|| format!("the operator says that master {inc} leads"));
            self.master_mail(inc, Mail::Cluster(ClusterEvent::TakeOver));
        }
    }

    /// In the end some host is to take replicas: if none is active, the operator activates one.
    pub fn operator_leaves(&mut self) {
        let Some(master) = self.master.as_ref().filter(|_| self.profile.operators) else { return };
        let active = |node: &NodeName| {
            master.hosts_shown.get(node).is_some_and(|view| view.intent.intent == IntentWord::Active)
        };
        // One at least has to be able to run whatever there is.
        if !self.hosts.iter().any(|host| active(&host.node) && host.runs_everything()) {
            let node = self.hosts[0].node.clone();
            self.operator_asks(node, Operation::Intend(NodeIntent::Activate));
        }
    }

    fn operator_asks(&mut self, node: NodeName, operation: Operation) {
        let Some(inc) = self.master.as_ref().map(|master| master.inc) else { return };
        let operators = &mut self.operators;
        operators.next += 1;
        let number = operators.next;
        operators.acknowledged.remove(&node);
        operators.open.insert(number, (node.clone(), operation, inc));
        if let Operation::Intend(NodeIntent::Drain { within: Some(within) }) = operation {
            let due = self.now + within.0 / LEAST_PART_OF_A_DRAIN;
            operators.due.entry(node.clone()).or_default().push(due);
        }
        self.note(|| format!("operator asks {number}: {node}: {operation:?}"));
        self.master_mail(inc, Mail::Cluster(ClusterEvent::Operate { call: number, node, operation }));
    }

    /// A request of the operator's is answered: what was acknowledged is in the store.
    pub fn operator_is_answered(&mut self, number: u64, answer: &Result<(), OperateRefused>) {
        self.note(|| format!("operator is answered {number}: {answer:?}"));
        if !self.operators.answered.insert(number) {
            return self.violated(format!("the operator's request {number} is answered twice"));
        }
        let Some((node, operation, inc)) = self.operators.open.remove(&number) else { return };
        if answer.is_err() {
            return;
        }
        let stored = self.node_stored(&node);
        // Those that were asked for while it was written may have gone with it.
        let later = self.operators.open.range(number..).map(|(_, open)| open);
        let together: Vec<Operation> =
            later.filter(|open| open.0 == node && open.2 == inc).map(|open| open.1).collect();
        let holds =
            |operation: &Operation| stored.as_ref().is_some_and(|record| is_stored(record, *operation));
        if !holds(&operation) && !together.iter().any(holds) {
            return self
                .violated(format!("{operation:?} of {node} was acknowledged, but the store has {stored:?}"));
        }
        let is_forgotten = |record: &NodeRecord| record.forgotten.is_some();
        if let (Operation::Forget { .. }, Some(record)) = (operation, stored.filter(is_forgotten)) {
            self.rules_out(record.uid);
        }
        if together.is_empty() {
            let intended = match operation {
                Operation::Intend(NodeIntent::Cordon) => IntentWord::Cordoned,
                Operation::Intend(NodeIntent::Drain { .. }) => IntentWord::Drained,
                Operation::Intend(NodeIntent::Activate) | Operation::Forget { .. } => IntentWord::Active,
            };
            self.operators.acknowledged.insert(node, Acknowledged { intended, at: self.now });
        }
    }

    /// Whether the store has `node` as a member.
    pub(super) fn is_member(&self, node: &NodeName) -> bool {
        self.node_stored(node).is_some_and(|record| record.forgotten.is_none())
            && !self.operators.forgotten.contains_key(node)
    }

    fn node_stored(&self, node: &NodeName) -> Option<NodeRecord> {
        let records = self.store.records();
        let record = records.iter().find(|record| matches!(&record.key, Key::Node(name) if name == node))?;
        serde_json::from_slice(&record.value).ok()
    }

    /// A host was forgotten, and its runner knows: what the store has there is left behind.
    pub fn rules_forgotten(&mut self, node: &NodeName) {
        let replicas = self.rules.stored.values().flat_map(|(_, record)| &record.replicas);
        let there: Vec<_> =
            replicas.filter(|replica| replica.node == *node).map(|r| (node.clone(), r.id.clone())).collect();
        self.note(|| format!("{node} is forgotten, with {} replicas", there.len()));
        self.operators.left_behind.extend(there);
        self.operators.forgotten.insert(node.clone(), self.now);
    }

    /// Nobody knows any more that a host was forgotten: should it come back, it is taken over with what it
    /// holds.
    pub fn rules_erased(&mut self, node: &NodeName) {
        self.note(|| format!("{node} is erased"));
        self.operators.left_behind.retain(|(there, _)| there != node);
        let placed = &self.operators.placed;
        self.rules.dropped.retain(|id| placed.get(id).is_none_or(|(there, _)| there != node));
    }

    /// A master starts from a store that has these hosts: it may have erased others, and nobody was told.
    pub fn rules_still_stored(&mut self, nodes: &BTreeSet<NodeName>) {
        let forgotten = self.operators.forgotten.keys();
        let erased: Vec<NodeName> = forgotten.filter(|node| !nodes.contains(*node)).cloned().collect();
        erased.iter().for_each(|node| self.rules_erased(node));
    }

    /// A host is a member again, and the master starts anew: what the services had not yet
    /// dropped of it by then is theirs again, as the store no longer tells it from the rest.
    pub fn rules_recovered(&mut self, node: &NodeName) {
        let stored: BTreeSet<ReplicaId> = self
            .rules
            .stored
            .values()
            .flat_map(|(_, record)| &record.replicas)
            .map(|replica| replica.id.clone())
            .collect();
        self.operators.left_behind.retain(|(there, id)| there != node || !stored.contains(id));
    }

    /// Whether `id` was on `node` when that was forgotten, or on its way there.
    pub fn is_left_behind(&self, node: &NodeName, id: &ReplicaId) -> bool {
        let before = |at: u64| {
            let placed = self.operators.placed.get(id);
            placed.is_some_and(|(there, placed)| there == node && *placed <= at + ON_ITS_WAY_MS)
        };
        self.operators.forgotten.get(node).is_some_and(|at| before(*at))
            || self.operators.left_behind.contains(&(node.clone(), id.clone()))
    }

    /// A host gets orders: none of them is for a replica that it had when it was forgotten.
    pub fn rules_not_ordered_again(&mut self, node: &NodeName, set: &[shef_common::protocol::Assignment]) {
        let again = |id: &ReplicaId| self.operators.left_behind.contains(&(node.clone(), id.clone()));
        if let Some(again) = set.iter().find(|set| again(&set.replica)) {
            self.violated(format!(
                "{node} is told to run {}, which was there when it was forgotten",
                again.replica
            ));
        }
    }

    /// A service's record is stored: nothing is taken over again from a host that was forgotten.
    pub fn rules_placed(&mut self, old: Option<&ServiceRecord>, new: Option<&ServiceRecord>) {
        for replica in new.iter().flat_map(|record| &record.replicas) {
            let first = (replica.node.clone(), self.now);
            self.operators.placed.entry(replica.id.clone()).or_insert(first);
            let was = old.is_some_and(|old| old.replicas.iter().any(|old| old.id == replica.id));
            let left = self.operators.left_behind.contains(&(replica.node.clone(), replica.id.clone()));
            if left && !was && replica.want == Want::Run {
                let (id, node) = (&replica.id, &replica.node);
                return self.violated(format!(
                    "{id} is to run again on {node}, where it was when that host was forgotten"
                ));
            }
        }
    }

    /// The change of a host is about to reach the services.
    pub fn rules_told_of(&mut self, master: &Master, change: &HostChanged) {
        let before = master.cluster.members().conditions().get(&change.node).copied();
        let is_due = |due: &Vec<u64>| due.iter().any(|due| *due <= self.now);
        if change.condition.overdue
            && !self.is_seeded(SeededBug::DrainStopsFirst)
            && !self.operators.due.get(&change.node).is_some_and(is_due)
        {
            return self.violated(format!("the drain of {} is overdue too early", change.node));
        }
        let operators = &mut self.operators;
        if change.condition.overdue || before.is_some_and(|before| before.overdue) {
            operators.overdue.insert(change.node.clone(), self.now);
        }
        if change.condition.is_leaving() || before.is_some_and(|before| before.is_leaving()) {
            operators.leaving.insert(change.node.clone(), self.now);
        }
    }

    /// Whether the drain of `node` is past its deadline, or was a moment ago.
    pub fn is_overdue(&self, master: &Master, node: &NodeName) -> bool {
        master.cluster.members().conditions().get(node).is_some_and(|condition| condition.overdue)
            || self.operators.overdue.get(node) == Some(&self.now)
    }

    /// Whether `node` is drained, or was a moment ago.
    pub fn is_leaving(&self, master: &Master, node: &NodeName) -> bool {
        master.cluster.members().conditions().get(node).is_some_and(HostCondition::is_leaving)
            || self.operators.leaving.get(node) == Some(&self.now)
    }

    /// Why nothing new may be placed on `node`, if that was acknowledged to an operator before this moment.
    pub fn closed(&self, node: &NodeName) -> Option<String> {
        let acknowledged =
            self.operators.acknowledged.get(node).filter(|acknowledged| acknowledged.at < self.now)?;
        match acknowledged.intended {
            IntentWord::Active => None,
            IntentWord::Cordoned | IntentWord::Drained => {
                Some(format!("{:?} since {} ms", acknowledged.intended, acknowledged.at))
            }
        }
    }

    /// In the end hosts have the intents that were acknowledged last, and drained hosts are empty.
    pub fn check_operators(&self, master: &Master) -> Result<(), String> {
        for (node, view) in &master.hosts_shown {
            let intended = view.intent.intent;
            if let Some(acknowledged) =
                self.operators.acknowledged.get(node).filter(|acknowledged| acknowledged.intended != intended)
            {
                return Err(format!(
                    "{node} is {intended:?}, but {:?} was acknowledged",
                    acknowledged.intended
                ));
            }
            // Where nobody else understands what it runs, it stays.
            let takes = |host: &super::agent::Host| {
                let intent = master.hosts_shown.get(&host.node).map(|view| view.intent.intent);
                host.runs_everything() && intent == Some(IntentWord::Active)
            };
            let is_fit = !self.profile.demanding && self.hosts.iter().any(takes);
            if intended == IntentWord::Drained && view.wanted > 0 && is_fit {
                return Err(format!("{node} is drained and still runs {}", view.wanted));
            }
        }
        Ok(())
    }
}

fn is_stored(record: &NodeRecord, operation: Operation) -> bool {
    match operation {
        Operation::Intend(NodeIntent::Activate) => record.intent == Intent::Active,
        Operation::Intend(NodeIntent::Cordon) => record.intent == Intent::Cordoned,
        Operation::Intend(NodeIntent::Drain { within }) => match record.intent {
            Intent::Drained { deadline, .. } => deadline.is_some() == within.is_some(),
            Intent::Active | Intent::Cordoned => false,
        },
        Operation::Forget { .. } => record.forgotten.is_some(),
    }
}
