//! What the store keeps of a host.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{NodeName, NodeUid},
    protocol::HostInfo,
};

use crate::membership::{HostFacts, HostKnown, Intent};

/// What the store keeps of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeRecord {
    /// The host's name.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// What it is.
    pub host: HostInfo,
    /// The fields of templates that its agent understands beyond those of the first version.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub understands: BTreeSet<String>,
    /// When it joined.
    pub joined: WallMs,
    /// What the operator wants of it.
    #[serde(default, skip_serializing_if = "Intent::is_active")]
    pub intent: Intent,
    /// When the operator forgot it for good. The record stays, so that the host
    /// is not taken over with what it held should it come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<WallMs>,
}

impl NodeRecord {
    /// The host's facts for other actors.
    #[must_use]
    pub fn known(&self) -> HostKnown {
        HostKnown {
            node: self.node.clone(),
            uid: self.uid.clone(),
            agent_url: self.host.agent_url.clone(),
            intent: self.intent,
            facts: Arc::new(HostFacts {
                understands: self.understands.clone(),
                ..HostFacts::from(&self.host)
            }),
        }
    }
}
