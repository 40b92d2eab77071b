//! The identities of hosts, for readers.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, Now, WallMs},
    ids::{NodeName, NodeUid},
};

use super::IdentityRecord;

/// For how long a revoked identity is remembered: a day longer than its certificates live.
pub const REVOKED_KEPT: DurationMs = DurationMs(8 * 24 * 3_600_000);

/// The host among `known` that has this name and another uid, or this uid and another name.
pub fn known_otherwise<'a>(
    mut known: impl Iterator<Item = (&'a NodeName, &'a NodeUid)>,
    node: &NodeName,
    uid: &NodeUid,
) -> Option<NodeName> {
    known.find(|(name, of)| (*name == node) != (*of == uid)).map(|(name, _)| name.clone())
}

/// The hosts that are members by their identities, and those that were revoked.
#[derive(Debug, Default)]
pub struct IdentityTable {
    members: BTreeMap<NodeUid, NodeName>,
    revoked: BTreeMap<NodeUid, WallMs>,
    /// Those of the revoked ones that are not revoked in the store yet.
    unconfirmed: BTreeMap<NodeUid, NodeName>,
}

impl IdentityTable {
    /// Of these identities.
    pub fn of<'a>(identities: impl IntoIterator<Item = (&'a NodeUid, &'a IdentityRecord)>) -> Self {
        let mut table = Self::default();
        for (uid, record) in identities {
            match record.revoked {
                None => _ = table.members.insert(uid.clone(), record.node.clone()),
                Some(at) => _ = table.revoked.insert(uid.clone(), at),
            }
        }
        table
    }

    /// The same, knowing which hosts are not revoked in the store yet.
    #[must_use]
    pub fn with_unconfirmed(self, hosts: impl Iterator<Item = (NodeUid, NodeName)>) -> Self {
        Self { unconfirmed: hosts.collect(), ..self }
    }

    /// The name of a host whose identity counts.
    #[must_use]
    pub fn member(&self, uid: &NodeUid) -> Option<&NodeName> {
        self.members.get(uid)
    }

    /// The identities of hosts with this name that count, or that the store has not revoked yet.
    #[must_use]
    pub fn named(&self, node: &NodeName) -> Vec<NodeUid> {
        let known = self.members.iter().chain(&self.unconfirmed);
        known.filter(|(_, known)| *known == node).map(|(uid, _)| uid.clone()).collect()
    }

    /// Whether a host of this name has an identity that counts.
    #[must_use]
    pub fn has(&self, node: &NodeName) -> bool {
        self.members.values().any(|known| known == node)
    }

    /// Whether the host was forgotten, and its revocation is still kept.
    #[must_use]
    pub fn is_revoked(&self, uid: &NodeUid) -> bool {
        self.revoked.contains_key(uid)
    }

    /// Whose identity was revoked within the last 8 days, and may have a certificate that has not expired.
    #[must_use]
    pub fn revoked(&self) -> Vec<NodeUid> {
        let now = Now::read().wall;
        self.revoked.iter().filter(|(_, at)| now - **at <= REVOKED_KEPT).map(|(uid, _)| uid.clone()).collect()
    }
}
