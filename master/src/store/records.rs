//! Records and the writes that change them.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Serialize;
use shef_common::{
    contents::ContentId,
    ids::{Generation, NodeName, NodeUid, ServiceName, TokenName, Version},
    registry::RegistryHost,
};

/// What a record is about. Its text form is the key in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A part of a service.
    Service(ServiceName, Part),
    /// A host: identity and what the operator wants of it.
    Node(NodeName),
    /// What a registry is shown.
    Registry(RegistryHost),
    /// A token of the API.
    Token(TokenName),
    /// The cluster's CA, its key encrypted.
    Authority,
    /// The identity of a host: its key and name.
    Identity(NodeUid),
    /// One content of a secret or config.
    Content(ContentId),
    /// The counters of `/stats`.
    Stats,
}

/// The part of a service that a record holds. One that is there has a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What does not grow with its replicas, but for the templates. In format 1: all of the service.
    Head,
    /// What the replicas of a generation run.
    Template(Generation),
    /// A page of slots, by its number.
    Slots(u32),
}

impl Key {
    /// The head of a service.
    #[must_use]
    pub const fn head(service: ServiceName) -> Self {
        Self::Service(service, Part::Head)
    }

    /// The service that it is a part of: its parts are written together.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(name, _) => Some(name),
            Self::Node(_)
            | Self::Registry(_)
            | Self::Token(_)
            | Self::Authority
            | Self::Identity(_)
            | Self::Content(_)
            | Self::Stats => None,
        }
    }

    /// Whether it binds the store to its cluster: it is about a service or a host, or it is the CA, in whose
    /// certificates the cluster stands.
    #[must_use]
    pub const fn binds_cluster(&self) -> bool {
        match self {
            Self::Service(..) | Self::Node(_) | Self::Authority => true,
            Self::Registry(_) | Self::Token(_) | Self::Identity(_) | Self::Content(_) | Self::Stats => false,
        }
    }
}

/// One record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// How often it was committed.
    pub version: Version,
    /// JSON.
    pub value: Bytes,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What it is about.
    pub key: Key,
    /// The version it builds on; `None`: the record must not exist. The version
    /// after it is one more, or 1.
    pub expect: Option<Version>,
    /// The new value; `None` deletes the record.
    pub value: Option<Bytes>,
}

impl Write {
    /// Sets `key` to `record`, or deletes it.
    ///
    /// # Errors
    /// The record does not serialise.
    pub fn of<T: Serialize>(
        key: Key,
        expect: Option<Version>,
        record: Option<&T>,
    ) -> serde_json::Result<Self> {
        let value = record.map(serde_json::to_vec).transpose()?.map(Bytes::from);
        Ok(Self { key, expect, value })
    }
}

/// The outcome of one write of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is durable (or was already).
    Done,
    /// The record has another version; nothing was changed.
    Conflict {
        /// The version that is stored, if any.
        found: Option<Version>,
    },
    /// It would have been done, and another part of its service conflicts; nothing was changed.
    Withheld,
}

/// Which writes are not applied because another part of their service conflicts; `outcomes` are those of each
/// write alone.
pub(super) fn withhold(writes: &[Write], outcomes: &mut [WriteOutcome]) {
    let conflicting: BTreeSet<&ServiceName> = writes
        .iter()
        .zip(outcomes.iter())
        .filter(|(_, outcome)| matches!(outcome, WriteOutcome::Conflict { .. }))
        .filter_map(|(write, _)| write.key.service())
        .collect();
    for (write, outcome) in writes.iter().zip(outcomes) {
        if *outcome == WriteOutcome::Done
            && write.key.service().is_some_and(|name| conflicting.contains(name))
        {
            *outcome = WriteOutcome::Withheld;
        }
    }
}

impl Write {
    /// What would become of it alone where this is `stored`.
    #[must_use]
    pub fn outcome(&self, stored: Option<(Version, &Bytes)>) -> WriteOutcome {
        let found = stored.map(|(version, _)| version);
        if self.is_there(stored) || found == self.expect {
            WriteOutcome::Done
        } else {
            WriteOutcome::Conflict { found }
        }
    }

    /// The version of the record after this write.
    #[must_use]
    pub fn version_after(&self) -> Version {
        self.expect.map_or(Version(1), Version::next)
    }

    /// Whether its exact outcome is what is `stored` already: then it counts as
    /// done, so that a batch whose answer was lost can be sent again.
    #[must_use]
    pub fn is_there(&self, stored: Option<(Version, &Bytes)>) -> bool {
        match (&self.value, stored) {
            (None, None) => true,
            (Some(value), Some((version, there))) => version == self.version_after() && there == value,
            _ => false,
        }
    }
}
