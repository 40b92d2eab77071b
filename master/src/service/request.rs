//! What a user can ask of a service, and what it means for the record.

use serde_json::{Map, Value};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, Version},
    problem::FieldError,
    protocol::Assignment,
    spec::ServiceSpec,
};

use super::record::{ReplicaRecord, ServiceRecord, Want};
use crate::store::CommitError;

/// What the user wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create the service; refused if it is there.
    Create {
        /// The whole spec.
        spec: ServiceSpec,
        /// Refuse instead of waiting if no host could take a replica now.
        needs_host: bool,
    },
    /// Create the service or replace its spec.
    Put {
        /// The whole spec.
        spec: ServiceSpec,
        /// The condition on the version.
        expect: Expect,
    },
    /// Change the number of replicas.
    Scale {
        /// How many.
        replicas: u32,
        /// The condition on the version.
        expect: Expect,
        /// Refuse if that is the number already.
        must_change: bool,
    },
    /// Change some of the spec.
    Change {
        /// What is to be another.
        change: Change,
        /// The condition on the version.
        expect: Expect,
    },
    /// Move replicas to hosts with fewer of them, until they are balanced once.
    Rebalance {
        /// At most so many a minute: 1 to [`shef_common::spec::MAX_MOVES_PER_MINUTE`].
        per_minute: u32,
    },
    /// Delete the service.
    Delete {
        /// The condition on the version.
        expect: Expect,
    },
    /// Take over what a host holds that the store does not know.
    Import {
        /// The host.
        node: NodeName,
        /// What it holds of this service.
        holds: Vec<Assignment>,
    },
}

/// A JSON merge patch (RFC 7396) of the spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change(pub Map<String, Value>);

impl Change {
    /// The number of replicas that it asks for, if it names one.
    #[must_use]
    pub fn replicas(&self) -> Option<u32> {
        self.0.get("replicas").and_then(Value::as_u64).and_then(|number| number.try_into().ok())
    }
}

/// `If-Match`: which version the request was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any.
    Any,
    /// This one only.
    Exactly(Version),
}

/// A request that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The spec's generation after it.
    pub generation: Generation,
    /// The record's version after it.
    pub version: Version,
    /// Whether the service is new.
    pub created: bool,
}

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A service of that name is there.
    Exists,
    /// There is no such service.
    NotFound,
    /// The record has another version.
    VersionMismatch {
        /// The one it has.
        current: Version,
    },
    /// The spec that would come out breaks these rules.
    Invalid(Vec<FieldError>),
    /// The number of replicas is that already.
    Unchanged,
    /// No host could take a replica; the scheduler's reason.
    NoHost(String),
    /// The store does not take it now; its reason.
    Store(String),
    /// Too many requests wait for this service.
    Busy,
    /// Another master leads.
    NotLeader,
}

impl From<&CommitError> for Refused {
    fn from(error: &CommitError) -> Self {
        match error {
            CommitError::Fenced => Self::NotLeader,
            other => Self::Store(other.to_string()),
        }
    }
}

impl Request {
    /// Applies the request to `record`, which has `version` now.
    pub fn apply(&self, record: &mut Option<ServiceRecord>, version: Version, now: WallMs) -> Result<Applied, Refused> {
        let live = record.as_mut().filter(|record| !record.deleted);
        let check = |expect: &Expect| match expect {
            Expect::Exactly(expected) if *expected != version => Err(Refused::VersionMismatch { current: version }),
            Expect::Any | Expect::Exactly(_) => Ok(()),
        };
        match self {
            Self::Create { spec, .. } => match live {
                Some(_) => Err(Refused::Exists),
                None => Ok(create(record, spec, now)),
            },
            Self::Put { spec, expect } => match live {
                Some(live) => {
                    check(expect)?;
                    Ok(replace(live, spec, now))
                }
                None if *expect == Expect::Any => Ok(create(record, spec, now)),
                None => Err(Refused::NotFound),
            },
            Self::Scale { replicas, expect, must_change } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                if !live.spec.mode.is_replicated() {
                    let message = "must not be given in mode global: there is one replica a host".to_owned();
                    return Err(Refused::Invalid(vec![FieldError { field: "replicas".to_owned(), message }]));
                }
                if live.spec.replicas == *replicas {
                    return if *must_change { Err(Refused::Unchanged) } else { Ok(Applied::Unchanged) };
                }
                live.spec.replicas = *replicas;
                live.imported = false;
                live.updated = now;
                Ok(Applied::Changed)
            }
            Self::Change { change, expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                let spec = live.spec.patched(&change.0).map_err(Refused::Invalid)?;
                Ok(replace(live, &spec, now))
            }
            Self::Rebalance { per_minute } => {
                let live = live.ok_or(Refused::NotFound)?;
                let asked = live.rebalancing.replace(*per_minute);
                Ok(if asked == Some(*per_minute) { Applied::Unchanged } else { Applied::Changed })
            }
            Self::Delete { expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                live.deleted = true;
                live.imported = false;
                live.updated = now;
                Ok(Applied::Changed)
            }
            Self::Import { node, holds } => Ok(import(record, node, holds, now)),
        }
    }
}

/// What a request did to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The service is new.
    Created,
    /// The record is another now.
    Changed,
    /// Everything is as it was.
    Unchanged,
}

fn create(record: &mut Option<ServiceRecord>, spec: &ServiceSpec, now: WallMs) -> Applied {
    let mut new = ServiceRecord::new(spec.clone(), now);
    if let Some(tombstone) = record.take() {
        // Created anew while hosts still have to confirm the removal of the old
        // replicas: those stay in the record, and generations go on counting.
        new.generation = tombstone.generation.next();
        new.earlier = tombstone.earlier;
        new.earlier.insert(tombstone.generation, tombstone.spec.template);
        new.replicas = tombstone.replicas;
        new.retire(|_| true);
        new.forget_unused();
    }
    *record = Some(new);
    Applied::Created
}

fn replace(live: &mut ServiceRecord, spec: &ServiceSpec, now: WallMs) -> Applied {
    if live.spec == *spec {
        return Applied::Unchanged;
    }
    (live.spec.on_disconnect, live.spec.rebalance) = (spec.on_disconnect, spec.rebalance);
    (live.spec.mode, live.spec.update) = (spec.mode, spec.update);
    live.spec.placement.clone_from(&spec.placement);
    live.spec.replicas = spec.replicas;
    live.imported = false;
    if live.spec.template != spec.template {
        live.set_template(spec.template.clone());
    }
    live.updated = now;
    Applied::Changed
}

/// The host's replicas join the record. A service that the store does not know
/// comes to life as the hosts remember it, with a replica wanted for every slot
/// that is found.
fn import(record: &mut Option<ServiceRecord>, node: &NodeName, holds: &[Assignment], now: WallMs) -> Applied {
    let Some(newest) = holds.iter().max_by_key(|held| held.generation) else { return Applied::Unchanged };
    let born = record.is_none();
    let record = record.get_or_insert_with(|| {
        let spec = ServiceSpec {
            on_disconnect: newest.on_disconnect,
            ..ServiceSpec::of(newest.service.clone(), 0, newest.template.clone())
        };
        ServiceRecord { generation: newest.generation, imported: true, ..ServiceRecord::new(spec, now) }
    });
    let mut changed = born;
    for held in holds {
        if record.replicas.iter().any(|replica| replica.id == held.replica) {
            continue;
        }
        if record.imported && !record.wanted().any(|replica| replica.slot == held.slot) {
            record.spec.replicas += 1;
        }
        if held.generation < record.generation {
            record.earlier.entry(held.generation).or_insert_with(|| held.template.clone());
        }
        record.replicas.push(ReplicaRecord {
            id: held.replica.clone(),
            slot: held.slot,
            generation: held.generation,
            node: node.clone(),
            want: Want::Run,
            attempt: 0,
            moving: false,
        });
        changed = true;
    }
    if changed { Applied::Changed } else { Applied::Unchanged }
}
