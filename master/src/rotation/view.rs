//! The CA as administrators see it.

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::{DurationMs, WallMs},
    ids::NodeName,
    tls::{BACKDATED_MS, CaDigest, digests, validity_of},
};

use super::events::HostSays;
use crate::{
    identity::{AuthorityRecord, RotationPhase},
    membership::Standing,
};

/// How long before a CA expires it is said: a year.
const WARN_BEFORE: DurationMs = DurationMs(365 * 24 * 3_600_000);

/// The cluster's CA, and its rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CaView {
    /// The CAs that count or did: first the one that signs.
    pub cas: Vec<SomeCa>,
    /// Whether the CA that signs expires within a year: it is time for a rotation.
    pub expires_soon: bool,
    /// The rotation that is under way.
    pub rotation: Option<RotationView>,
}

/// One CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SomeCa {
    /// Its digest, by which commands and hosts know a master.
    pub digest: CaDigest,
    /// The part that it has in the cluster.
    pub state: CaState,
    /// When it was made.
    pub from: WallMs,
    /// When it expires; of a former one, when nothing leads from it to the present one any more.
    pub until: WallMs,
    /// How many hosts trust it.
    pub trusted_by: u64,
    /// How many hosts have a certificate of it.
    pub certificates: u64,
}

/// The part that a CA has in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaState {
    /// It signs, and is trusted.
    Signs,
    /// It is trusted, and will sign.
    Next,
    /// It is trusted, and signs no more.
    Previous,
    /// It is not trusted any more. Until its end those that know it alone find the present one by it.
    Former,
}

/// A rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RotationView {
    /// What is being done.
    pub phase: PhaseWord,
    /// When it began.
    pub begun: WallMs,
    /// Whether the key of the old CA may be known to others, so that nothing leads from it to the new one.
    pub compromised: bool,
    /// How many hosts are done with this phase.
    pub done: u64,
    /// The hosts that the next phase waits for.
    pub waits_for: Vec<WaitsFor>,
}

/// What a rotation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseWord {
    /// Hosts come to trust the next CA, too.
    Trust,
    /// Hosts get certificates of the new CA.
    Certificates,
}

/// A host that the next phase waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaitsFor {
    /// Its name.
    pub node: NodeName,
    /// The reason, in words.
    pub reason: String,
}

impl WaitsFor {
    /// `None`: the host has what is expected.
    pub(super) fn of(host: &HostSays, expected: &[CaDigest]) -> Option<Self> {
        let reason = match host.cas.as_deref() {
            Some(cas) if cas == expected => return None,
            Some(_) | None if host.standing == Standing::AgentDown => {
                "its agent does not answer: start it, or go on without the host".to_owned()
            }
            None => "it has not reported since this master has started".to_owned(),
            Some([]) => format!(
                "its agent (version {}) does not know of rotations: upgrade the agent, or forget the host",
                host.version
            ),
            Some(_) => "it has not stored the new certificates yet".to_owned(),
        };
        Some(Self { node: host.node.clone(), reason })
    }
}

impl CaView {
    pub(super) fn of(
        record: &AuthorityRecord,
        hosts: &[HostSays],
        waits_for: Vec<WaitsFor>,
        wall: WallMs,
    ) -> Self {
        let some = |certificate: &str, state: CaState, until: Option<WallMs>| {
            let digest = digests(certificate).pop()?;
            let (begins, ends) = validity_of(certificate)?;
            let from = WallMs(begins.0 + BACKDATED_MS);
            let count = |is: &dyn Fn(&[CaDigest]) -> bool| {
                hosts.iter().filter(|host| host.cas.as_deref().is_some_and(is)).count() as u64
            };
            let trusted_by = count(&|cas| cas.contains(&digest));
            let certificates = count(&|cas| cas.first() == Some(&digest));
            Some(SomeCa { state, from, until: until.unwrap_or(ends), trusted_by, certificates, digest })
        };
        let mut cas = vec![some(&record.certificate, CaState::Signs, None)];
        let rotation = record.rotation.as_ref().map(|rotation| {
            let phase = match &rotation.phase {
                RotationPhase::Trust(next) => {
                    cas.push(some(&next.certificate, CaState::Next, None));
                    PhaseWord::Trust
                }
                RotationPhase::Certificates(previous) => {
                    cas.push(some(&previous.certificate, CaState::Previous, None));
                    PhaseWord::Certificates
                }
            };
            let is_done = |host: &&HostSays| host.cas.as_deref() == Some(record.cas().as_slice());
            RotationView {
                phase,
                begun: rotation.begun,
                compromised: rotation.compromised,
                done: hosts.iter().filter(is_done).count() as u64,
                waits_for,
            }
        });
        for former in &record.former {
            let vouching = record.vouching(wall).find(|(vouching, _)| *vouching == former);
            if let Some((_, until)) = vouching.and_then(|(_, cross)| validity_of(cross))
                && until > wall
            {
                cas.push(some(&former.certificate, CaState::Former, Some(until)));
            }
        }
        let expires_soon =
            validity_of(&record.certificate).is_some_and(|(_, ends)| ends <= WallMs(wall.0 + WARN_BEFORE.0));
        Self { cas: cas.into_iter().flatten().collect(), expires_soon, rotation }
    }
}
