//! What a user can ask of a service, and what it means for the record.

mod rollout;
mod spec;

use serde_json::{Map, Value};
use shef_common::{
    clock::WallMs,
    contents::ContentId,
    ids::{Generation, NodeName, Slot, Version},
    problem::FieldError,
    protocol::Assignment,
    spec::ServiceSpec,
};

use self::{
    rollout::{command_rollout, roll_back},
    spec::{create, import, replace},
};
use super::{conflict::Conflict, record::ServiceRecord, rollout::Terms, size};
use crate::store::CommitError;

/// What the user wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create the service; refused if it is there.
    Create {
        /// The whole spec.
        spec: ServiceSpec,
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
    /// Pause, resume, abort or promote the rollout that is under way.
    RolloutCommand {
        /// The command.
        command: RolloutCommand,
        /// The condition on the version.
        expect: Expect,
    },
    /// Mount this content wherever the spec mounts its name.
    Remount(ContentId),
    /// Replace every replica by a new one of the same template.
    Restart {
        /// The condition on the version.
        expect: Expect,
    },
    /// Go back to an earlier generation.
    RollBack {
        /// Which one; `None`: the last good one before this.
        generation: Option<Generation>,
        /// The condition on the version.
        expect: Expect,
    },
    /// Give up the volumes that bind a slot to its host: the slot is placed anew.
    Release {
        /// The slot to place anew.
        slot: Slot,
        /// The condition on the version.
        expect: Expect,
    },
    /// Delete the service.
    Delete {
        /// The condition on the version.
        expect: Expect,
    },
    /// Say whether [`Request::Import`] would be refused; changes nothing.
    MayImport {
        /// The host.
        node: NodeName,
        /// What it holds of this service.
        holds: Vec<Assignment>,
    },
    /// Take over what a host holds that the store does not know.
    Import {
        /// The host.
        node: NodeName,
        /// What it holds of this service.
        holds: Vec<Assignment>,
    },
}

/// What a user can have a rollout do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutCommand {
    /// No further slot starts.
    Pause,
    /// It goes on, and failures count from nothing.
    Resume,
    /// It goes back to the last good generation.
    Abort,
    /// The canary is well: the others follow.
    Promote,
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
    /// What it did to the record.
    pub applied: Applied,
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
    /// The service has no such slot.
    NoSlot {
        /// The one that was asked for.
        slot: Slot,
        /// The last one that it has; `None`: it has none.
        last: Option<Slot>,
    },
    /// The spec that would come out breaks these rules.
    Invalid(Vec<FieldError>),
    /// The state of the service does not allow it.
    Conflict(Conflict),
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
    /// Whether a record may be larger after it, by a user's request.
    const fn may_enlarge(&self) -> bool {
        match self {
            Self::Create { .. }
            | Self::Put { .. }
            | Self::Scale { .. }
            | Self::Change { .. }
            | Self::Remount(_)
            | Self::Restart { .. } => true,
            // What hosts hold is there, and what is deleted, led or gone back to becomes no larger.
            Self::RollBack { .. }
            | Self::Rebalance { .. }
            | Self::RolloutCommand { .. }
            | Self::Release { .. }
            | Self::Delete { .. }
            | Self::MayImport { .. }
            | Self::Import { .. } => false,
        }
    }

    /// Whether a record may be of a new generation after it.
    const fn may_begin_a_generation(&self) -> bool {
        match self {
            Self::Create { .. }
            | Self::Put { .. }
            | Self::Change { .. }
            | Self::Remount(_)
            | Self::Restart { .. } => true,
            Self::Scale { .. }
            | Self::Rebalance { .. }
            | Self::RolloutCommand { .. }
            | Self::RollBack { .. }
            | Self::Release { .. }
            | Self::Delete { .. }
            | Self::MayImport { .. }
            | Self::Import { .. } => false,
        }
    }

    /// Applies the request to `record`, which has `version` now, unless the record would become too large to
    /// be stored.
    pub fn apply(
        &self,
        record: &mut Option<ServiceRecord>,
        version: Version,
        now: WallMs,
        terms: Terms,
    ) -> Result<Applied, Refused> {
        if !self.may_enlarge() {
            return self.apply_whatever_its_size(record, version, now, terms);
        }
        let mut enlarged = record.clone();
        let applied = self.apply_whatever_its_size(&mut enlarged, version, now, terms)?;
        if let Some(Err(bytes)) = enlarged.as_mut().filter(|_| applied != Applied::Unchanged).map(size::fit) {
            return Err(Refused::Conflict(Conflict::TooLarge(bytes)));
        }
        *record = enlarged;
        Ok(applied)
    }

    fn apply_whatever_its_size(
        &self,
        record: &mut Option<ServiceRecord>,
        version: Version,
        now: WallMs,
        terms: Terms,
    ) -> Result<Applied, Refused> {
        if self.may_begin_a_generation()
            && let Some(last) =
                record.as_ref().map(ServiceRecord::newest).filter(|newest| newest.checked_next().is_none())
        {
            return Err(Refused::Conflict(Conflict::LastGeneration(last)));
        }
        let live = record.as_mut().filter(|record| !record.deleted);
        let check = |expect: &Expect| match expect {
            Expect::Exactly(expected) if *expected != version => {
                Err(Refused::VersionMismatch { current: version })
            }
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
                    Ok(replace(live, spec, now, terms))
                }
                None if *expect == Expect::Any => Ok(create(record, spec, now)),
                None => Err(Refused::NotFound),
            },
            Self::Scale { replicas, expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                if !live.spec.mode.is_replicated() {
                    let message = "must not be given in mode global: there is one replica a host".to_owned();
                    return Err(Refused::Invalid(vec![FieldError { field: "replicas".to_owned(), message }]));
                }
                if live.spec.replicas == *replicas {
                    return Ok(Applied::Unchanged);
                }
                live.spec.replicas = *replicas;
                live.keep_replicas();
                live.imported = false;
                live.updated = now;
                Ok(Applied::Changed)
            }
            Self::Change { change, expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                let spec = live.spec.patched(&change.0).map_err(Refused::Invalid)?;
                Ok(replace(live, &spec, now, terms))
            }
            Self::Remount(content) => {
                let live = live.ok_or(Refused::NotFound)?;
                Ok(replace(live, &live.spec.with_content(content), now, terms))
            }
            Self::Rebalance { per_minute } => {
                let live = live.ok_or(Refused::NotFound)?;
                let asked = live.rebalancing.replace(*per_minute);
                Ok(if asked == Some(*per_minute) { Applied::Unchanged } else { Applied::Changed })
            }
            Self::RolloutCommand { command, expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                command_rollout(live, *command, now).map_err(Refused::Conflict)
            }
            Self::Restart { expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                let mut template = live.spec.template.clone();
                let forced = std::sync::Arc::make_mut(&mut template);
                forced.forced = forced.forced.wrapping_add(1);
                live.set_template(template, now, terms);
                live.updated = now;
                Ok(Applied::Changed)
            }
            Self::RollBack { generation, expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                roll_back(live, *generation, now, terms).map_err(Refused::Conflict)
            }
            Self::Release { slot, expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                live.bindings.remove(*slot);
                live.retire(|replica| replica.slot == *slot);
                live.updated = now;
                Ok(Applied::Changed)
            }
            Self::Delete { expect } => {
                let live = live.ok_or(Refused::NotFound)?;
                check(expect)?;
                live.deleted = true;
                live.imported = false;
                // No rollback follows: a tombstone is smaller than the service was.
                live.history.clear();
                live.updated = now;
                Ok(Applied::Changed)
            }
            Self::MayImport { .. } => Ok(Applied::Unchanged),
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
