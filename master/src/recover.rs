//! What a leadership starts from: the records of the store, read.

use serde::de::DeserializeOwned;
use shef_common::{clock::WallMs, ids::Version};

use crate::{
    access::RecoveredToken,
    cluster::Recovered,
    contents::RecoveredContent,
    identity::{AuthorityRecord, RecoveredIdentity},
    registries::RecoveredRegistry,
    service::read_stored,
    stats::Counts,
    store::{Key, Record},
};

/// A record that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("{key}, which this version cannot read: {source}")]
pub struct Unreadable {
    /// The record.
    pub key: Key,
    /// What is wrong with it.
    pub source: serde_json::Error,
}

/// Services, hosts, registries, contents, tokens and identities, and the counters.
///
/// # Errors
/// [`Unreadable`] names the first record that this version cannot read.
pub fn recover(records: &[Record]) -> Result<(Recovered, Option<(Version, Counts)>), Unreadable> {
    let mut recovered = Recovered::default();
    let mut counts = None;
    // The parts of a service are neighbours.
    let are_of_one = |one: &Record, other: &Record| {
        one.key.service().is_some() && one.key.service() == other.key.service()
    };
    for parts in records.chunk_by(are_of_one) {
        let [record, ..] = parts else { continue };
        match &record.key {
            Key::Service(..) => {
                let stored = read_stored(parts);
                recovered.services.push(stored.map_err(|(key, source)| Unreadable { key, source })?);
            }
            Key::Node(_) => recovered.nodes.push((record.version, read(record)?)),
            Key::Registry(host) => recovered.registries.push(RecoveredRegistry {
                host: host.clone(),
                version: record.version,
                record: read(record)?,
            }),
            Key::Token(name) => recovered.tokens.push(RecoveredToken {
                name: name.clone(),
                version: record.version,
                record: read(record)?,
            }),
            Key::Authority => recovered.authority = Some(read_authority(record)?),
            Key::Identity(uid) => recovered.identities.push(RecoveredIdentity {
                uid: uid.clone(),
                version: record.version,
                record: read(record)?,
            }),
            Key::Content(id) => recovered.contents.push(RecoveredContent {
                id: id.clone(),
                version: record.version,
                record: read(record)?,
            }),
            Key::Stats => counts = Some((record.version, read(record)?)),
        }
    }
    Ok((recovered, counts))
}

/// The latest time at which somebody changed something that is stored. Tokens that masters make by themselves
/// do not count: their clocks may have been wrong.
#[must_use]
pub fn newest(recovered: &Recovered) -> Option<WallMs> {
    let services = recovered.services.iter().map(|stored| stored.record.updated);
    let nodes = recovered.nodes.iter().map(|(_, node)| node.forgotten.unwrap_or(node.joined));
    let registries = recovered.registries.iter().map(|registry| registry.record.updated);
    let contents = recovered.contents.iter().map(|content| content.record.created);
    let tokens = recovered.tokens.iter().filter(|token| !token.is_masters_own());
    let tokens = tokens.map(|token| token.record.created);
    services.chain(nodes).chain(registries).chain(contents).chain(tokens).max()
}

/// The record of the cluster's CA, and its version.
///
/// # Errors
/// [`Unreadable`]: this version cannot read it.
fn read_authority(record: &Record) -> Result<(Version, AuthorityRecord), Unreadable> {
    Ok((record.version, read(record)?))
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, Unreadable> {
    serde_json::from_slice(&record.value).map_err(|source| Unreadable { key: record.key.clone(), source })
}
