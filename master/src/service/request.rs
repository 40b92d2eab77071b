//! What a user can ask of a service, and what it means for the record.

use std::collections::HashSet;

use serde_json::{Map, Value};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, Slot, Version},
    problem::FieldError,
    protocol::Assignment,
    spec::ServiceSpec,
};

use super::{
    record::{ReplicaRecord, ServiceRecord, Want},
    rollout::{Phase, Rollout, Terms},
    size::{self, MAX_RECORD_BYTES},
};
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
    /// No further slot has its turn.
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
    /// The rollout, or that there is none, does not allow it; why.
    Conflict(String),
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
    /// Whether a record may be larger after it, by a user's wish.
    const fn may_enlarge(&self) -> bool {
        match self {
            Self::Create { .. }
            | Self::Put { .. }
            | Self::Scale { .. }
            | Self::Change { .. }
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
            Self::Create { .. } | Self::Put { .. } | Self::Change { .. } | Self::Restart { .. } => true,
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
            return Err(Refused::Conflict(format!(
                "the templates of the service that are in use would come to {bytes} bytes, and at most \
                 {MAX_RECORD_BYTES} are stored: give it a smaller env, or ask again once hosts have removed replicas of \
                 earlier generations"
            )));
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
            let why = format!(
                "generation {last} is the last there is: delete the service, and create it once it is gone"
            );
            return Err(Refused::Conflict(why));
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
                // Nobody goes back: a tombstone is smaller than the service was.
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

fn create(record: &mut Option<ServiceRecord>, spec: &ServiceSpec, now: WallMs) -> Applied {
    let mut new = ServiceRecord::new(spec.clone(), now);
    if let Some(tombstone) = record.take() {
        // Created anew while hosts still have to confirm the removal of the old
        // replicas: those stay in the record, and generations go on counting.
        new.generation = tombstone.newest().next();
        new.next_number = tombstone.next_number;
        new.earlier = tombstone.earlier;
        new.earlier.insert(tombstone.generation, tombstone.spec.template);
        new.replicas = tombstone.replicas;
        new.retire(|_| true);
        new.forget_unused();
    }
    *record = Some(new);
    Applied::Created
}

fn replace(live: &mut ServiceRecord, spec: &ServiceSpec, now: WallMs, terms: Terms) -> Applied {
    // How often a restart was forced is not the user's to write.
    let mut template = spec.template.clone();
    if template.forced != live.spec.template.forced {
        std::sync::Arc::make_mut(&mut template).forced = live.spec.template.forced;
    }
    let spec = &ServiceSpec { template, ..spec.clone() };
    if live.spec == *spec {
        return Applied::Unchanged;
    }
    let before = live.spec.replicas;
    live.spec = ServiceSpec { template: live.spec.template.clone(), ..spec.clone() };
    live.imported = false;
    if live.spec.template == spec.template {
        if before != spec.replicas {
            live.keep_replicas();
        }
    } else {
        // What was asked for together is taken back together, unless it is the way back itself.
        let generation = live.newest();
        let earlier =
            live.rollout.as_ref().and_then(|rollout| rollout.replicas).map_or(before, |change| change.from);
        live.keep_replicas();
        live.set_template(spec.template.clone(), now, terms);
        if live.newest() != generation {
            live.note_replicas(earlier);
        }
    }
    live.updated = now;
    Applied::Changed
}

fn command_rollout(
    live: &mut ServiceRecord,
    command: RolloutCommand,
    now: WallMs,
) -> Result<Applied, String> {
    let canary = live.spec.update.canary;
    let Some(rollout) = &mut live.rollout else {
        return Err(format!("no rollout is under way: generation {} is everywhere", live.generation));
    };
    let Some(from) = rollout.from else {
        return Err(match &rollout.phase {
            Phase::RollingBack { failed, why } => {
                format!("generation {failed} is being rolled back ({why}), and a rollback only goes on")
            }
            Phase::Running | Phase::Paused { .. } => {
                "no earlier generation has run: there is nothing to go back to".to_owned()
            }
        });
    };
    let paused = match &rollout.phase {
        Phase::Paused { why, .. } => Some(why),
        Phase::Running | Phase::RollingBack { .. } => None,
    };
    match (command, paused) {
        (RolloutCommand::Pause, Some(why)) => return Err(format!("the rollout is paused already: {why}")),
        (RolloutCommand::Pause, None) => {
            rollout.phase = Phase::Paused { why: "its user paused it".to_owned(), until_hosts: false }
        }
        (RolloutCommand::Resume, Some(_)) => {
            rollout.phase = Phase::Running;
            rollout.failures.clear();
        }
        (RolloutCommand::Resume, None) => return Err("the rollout is not paused".to_owned()),
        (RolloutCommand::Abort, _) => {
            live.go_back(format!("its user aborted it, back to generation {from}"), now);
        }
        (RolloutCommand::Promote, _) if canary == 0 => {
            return Err("the rollout has no canary (update.canary is 0)".to_owned());
        }
        (RolloutCommand::Promote, _) if rollout.promoted => {
            return Err("the canary is promoted already".to_owned());
        }
        (RolloutCommand::Promote, _) => rollout.promoted = true,
    }
    live.updated = now;
    Ok(Applied::Changed)
}

fn roll_back(
    live: &mut ServiceRecord,
    to: Option<Generation>,
    now: WallMs,
    terms: Terms,
) -> Result<Applied, String> {
    let from = live.rollout.as_ref().and_then(|rollout| rollout.from);
    let kept = || live.history.iter().map(|kept| kept.generation.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(from) = from.filter(|from| to.is_none_or(|to| to == *from)) {
        live.go_back(format!("its user went back to generation {from}"), now);
    } else {
        // Asked twice, it goes back once.
        let goes_back = live.rollout.as_ref().is_some_and(Rollout::is_rolling_back);
        if to == Some(live.generation) || to.is_none() && goes_back {
            return Err(format!("generation {} is what the service is to run already", live.generation));
        }
        let Some(to) = to.or_else(|| live.history.last().map(|kept| kept.generation)) else {
            return Err("no earlier generation is kept: there is nothing to go back to".to_owned());
        };
        let kept = kept();
        if !live.return_to(to, now, terms) {
            let kept = if kept.is_empty() { "none is".to_owned() } else { format!("those are {kept}") };
            return Err(format!("generation {to} is not among the generations that are kept: {kept}"));
        }
    }
    live.updated = now;
    Ok(Applied::Changed)
}

/// The host's replicas join the record. A service that the store does not know
/// comes to life as the hosts remember it, with a replica wanted for every slot
/// that is found.
fn import(record: &mut Option<ServiceRecord>, node: &NodeName, holds: &[Assignment], now: WallMs) -> Applied {
    // What was made by a newer version is left alone: less of it would be stored than there is.
    let holds = || holds.iter().filter(|held| held.template.not_understood.is_none());
    // What is only made ready has not proved itself.
    let Some(newest) = holds().max_by_key(|held| (!held.prepare, held.generation)) else {
        return Applied::Unchanged;
    };
    let born = record.is_none();
    let record = record.get_or_insert_with(|| {
        let spec = ServiceSpec {
            on_disconnect: newest.on_disconnect,
            ..ServiceSpec::of(newest.service.clone(), 0, newest.template.clone())
        };
        ServiceRecord { generation: newest.generation, imported: true, ..ServiceRecord::new(spec, now) }
    });
    let mut changed = born;
    // Who was away during an update tells of an older generation, and may come first.
    if record.imported && record.rollout.is_none() && !newest.prepare && newest.generation > record.newest() {
        let older = std::mem::replace(&mut record.spec.template, newest.template.clone());
        record.earlier.insert(record.generation, older);
        record.generation = newest.generation;
        record.spec.on_disconnect = newest.on_disconnect;
    }
    let mut known: HashSet<ReplicaId> = record.replicas.iter().map(|replica| replica.id.clone()).collect();
    for held in holds() {
        if !known.insert(held.replica.clone()) {
            continue;
        }
        if record.imported && !held.prepare && !record.replicas.filled().contains(held.slot) {
            record.spec.replicas = record.spec.replicas.saturating_add(1);
        }
        record.counts_on_above(&held.replica);
        let generation = record.adopt(held.generation, &held.template);
        if let Some(digest) = held.image_digest.clone().filter(|_| record.lacks_digest(generation)) {
            record.digests.insert(generation, digest);
        }
        record.replicas.push(ReplicaRecord {
            id: held.replica.clone(),
            slot: held.slot,
            generation,
            node: node.clone(),
            // What was only made ready has nobody who waits for it.
            want: if held.prepare { Want::Remove } else { Want::Run },
            attempt: 0,
            moving: false,
            done: None,
        });
        changed = true;
    }
    if changed { Applied::Changed } else { Applied::Unchanged }
}
