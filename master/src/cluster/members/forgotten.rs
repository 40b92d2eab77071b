//! The hosts that an operator has forgotten: their names and identities are remembered, so that a host that
//! comes back is not taken over with what it held.

use std::collections::{BTreeMap, VecDeque};

use shef_common::ids::{NodeName, NodeUid};

/// The most forgotten hosts that a master remembers. Beyond, the one that was forgotten first is erased.
/// Should that one come back, it is taken over with what it holds.
pub const FORGOTTEN_LIMIT: usize = 1_000;

/// Forgotten hosts, up to a limit.
#[derive(Debug)]
pub struct Forgotten {
    hosts: BTreeMap<NodeName, NodeUid>,
    /// The same, the one forgotten first in front.
    order: VecDeque<NodeName>,
    limit: usize,
}

impl Forgotten {
    /// No host is forgotten.
    pub const fn new(limit: usize) -> Self {
        Self { hosts: BTreeMap::new(), order: VecDeque::new(), limit }
    }

    /// A host is forgotten. Returns the one to erase, if there are too many.
    pub fn insert(&mut self, node: NodeName, uid: NodeUid) -> Option<NodeName> {
        self.remove(&node);
        self.order.push_back(node.clone());
        self.hosts.insert(node, uid);
        if self.hosts.len() > self.limit { self.order.front().cloned() } else { None }
    }

    /// A host is not one of them any more.
    pub fn remove(&mut self, node: &NodeName) {
        if self.hosts.remove(node).is_some() {
            self.order.retain(|other| other != node);
        }
    }

    /// Whether a host of this name is forgotten.
    pub fn contains(&self, node: &NodeName) -> bool {
        self.hosts.contains_key(node)
    }

    /// Whether a host of this identity is forgotten, whatever its name.
    pub fn has_uid(&self, uid: &NodeUid) -> bool {
        self.hosts.values().any(|forgotten| forgotten == uid)
    }
}
