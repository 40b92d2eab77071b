//! The effects of the engine's answers on a replica.

use shef_common::{
    backoff::Backoff,
    clock::Now,
    image::{ImageDigest, ImageRef},
    spec::Pull,
    status::ReplicaState,
};

use super::{DesiredState, Look, Replica, Seen, Step, Work};
use crate::engine::{ContainerState, Created, EngineError};

/// A name that stays taken by nothing we can see is given up after this many tries.
const MAX_NAME_CONFLICTS: u32 = 3;

impl Replica {
    /// The image it waited for is here, or cannot be had.
    pub fn image_came(
        &mut self,
        image: &ImageRef,
        outcome: &Result<Option<ImageDigest>, EngineError>,
        now: Now,
    ) {
        if self.work != Work::AwaitsImage {
            return;
        }
        self.work = Work::Idle;
        if !self.desired.is_to_run() {
            return;
        }
        match outcome {
            Ok(digest) => {
                self.pulled = true;
                // An image that was requested by its digest is nothing new.
                let by_name =
                    self.order.assignment().is_some_and(|assignment| !assignment.image().has_digest());
                self.status.image_digest = digest.clone().filter(|_| by_name);
                if !self.is_prepared_only() {
                    self.enter(ReplicaState::Starting, now);
                }
            }
            Err(error) => {
                let why = error.reason();
                let why =
                    if why.contains(image.as_str()) { why } else { format!("pulling {image} failed: {why}") };
                self.fail(why, now);
            }
        }
    }

    fn pull(&self) -> Pull {
        self.order.assignment().map(|assignment| assignment.template.pull).unwrap_or_default()
    }

    /// Whether its image is fetched before its container is made, whatever is there. It waits for that then.
    pub fn pulls_first(&mut self, now: Now) -> bool {
        let pulls = self.pull() == Pull::Always && !self.pulled && self.next() == Some(Step::Create);
        if pulls {
            self.enter(ReplicaState::Pulling, now);
            self.work = Work::AwaitsImage;
        }
        pulls
    }

    /// Create was answered. Returns whether the image must be pulled first.
    pub fn created(&mut self, outcome: Result<Created, EngineError>, now: Now) -> bool {
        match outcome {
            Ok(Created { id, volumes }) => {
                self.status.warning = None;
                self.learns_volumes(&volumes.unwrap_or_default());
                self.outside.ends_incident();
                self.seen = Seen::Present { id, state: ContainerState::Created };
                self.status.made_of = None;
                let rule = self.rule();
                self.restarts.created(&rule);
                if self.desired.is_to_run() {
                    self.enter(self.made(), now);
                }
            }
            Err(EngineError::NoSuchImage(words)) if self.pull() == Pull::Never => {
                self.seen = Seen::Absent;
                self.fail(format!("{} (pull is never)", EngineError::NoSuchImage(words).reason()), now);
            }
            Err(EngineError::NoSuchImage(_)) if !self.pulled && self.desired.is_to_run() => {
                self.enter(ReplicaState::Pulling, now);
                self.work = Work::AwaitsImage;
                return true;
            }
            Err(EngineError::NameTaken(words)) => {
                self.attempts.name_conflicts += 1;
                self.seen = Seen::Unknown;
                if self.attempts.name_conflicts > MAX_NAME_CONFLICTS {
                    self.fail(EngineError::NameTaken(words).reason(), now);
                }
                self.not_before = now.mono + Backoff::CALL.after(self.attempts.name_conflicts - 1);
            }
            Err(error) => self.unanswered_or(error, now, |replica, error, now| {
                replica.seen = Seen::Absent;
                replica.fail(error.reason(), now);
            }),
        }
        self.update_status(now);
        false
    }

    /// Start was answered; `event_seen`: an event of the container arrived after the request.
    pub fn started(&mut self, outcome: Result<(), EngineError>, event_seen: bool, now: Now) {
        match outcome {
            Ok(()) => {
                self.attempts.refusals = 0;
                if let (Seen::Present { state, .. }, false) = (&mut self.seen, event_seen) {
                    *state = ContainerState::Running;
                    self.restart_at = None;
                    self.outside.begins();
                    self.restarts.up(now.mono);
                    self.starts_settling(now);
                    self.begins();
                }
                if self.desired.is_to_run() && !self.waits() {
                    self.enter(ReplicaState::Running, now);
                    if self.seen == Seen::Absent {
                        self.repair("its container went missing and is made anew", now);
                    }
                }
            }
            Err(EngineError::NoSuchContainer(_)) => {
                self.seen = Seen::Absent;
                if self.desired.is_to_run() {
                    self.repair("its container went missing and is made anew", now);
                }
            }
            Err(error) => {
                self.unanswered_or(error, now, |replica, error, now| replica.fail(error.reason(), now));
            }
        }
        self.update_status(now);
    }

    /// Stop was answered.
    pub fn stopped(&mut self, outcome: Result<(), EngineError>, now: Now) {
        match outcome {
            Ok(()) => {
                if let Seen::Present { state, .. } = &mut self.seen {
                    *state = ContainerState::Exited;
                }
                self.stopped_for_remedy(now);
            }
            Err(EngineError::NoSuchContainer(_)) => {
                self.seen = Seen::Absent;
                if self.remedy.take().is_some() && self.desired.is_to_run() {
                    self.repair("its container went missing and is made anew", now);
                }
            }
            // It runs on, for all that is known, and is stopped later.
            Err(error) if self.remedy.take().is_some() && self.desired.is_to_run() => {
                self.unanswered_or(error, now, |_, _, _| {});
                self.refused(now);
            }
            Err(error) if matches!(self.desired, DesiredState::Rest { .. }) => {
                self.unanswered_or(error, now, |_, _, _| {});
                self.refused(now);
            }
            // Removing kills what would not stop.
            Err(EngineError::TimedOut(_)) => self.kills(),
            Err(error) => self.unanswered_or(error, now, |replica, _, _| replica.kills()),
        }
        self.update_status(now);
    }

    /// It would not stop: if it is to be removed, it is so without a grace.
    const fn kills(&mut self) {
        if let DesiredState::Remove { grace_s } = &mut self.desired {
            *grace_s = 0;
        }
    }

    /// Remove was answered.
    pub fn removed(&mut self, outcome: Result<(), EngineError>, now: Now) {
        match outcome {
            Ok(()) | Err(EngineError::NoSuchContainer(_)) => {
                self.seen = Seen::Absent;
                self.attempts.refusals = 0;
            }
            Err(error) => self.unanswered_or(error, now, |replica, error, now| {
                replica.status.reason = Some(error.reason());
                replica.seen = Seen::Unknown;
                replica.refused(now);
            }),
        }
        self.update_status(now);
    }

    /// Inspect was answered, or not; `event_seen`: an event of the container arrived after the request.
    pub fn inspected(&mut self, look: Result<Look<'_>, ()>, event_seen: bool, now: Now) {
        if look.is_ok() {
            self.restarts.was_asked();
        }
        let outside = self.outside.clone();
        match look {
            Ok(Look::Nothing) => self.show(None, now),
            Ok(Look::Ours(container)) => self.show(Some(container), now),
            Ok(Look::Foreign) => {
                self.seen = Seen::Absent;
                self.fail(
                    "the container's name is taken by one that does not belong to this cluster".to_owned(),
                    now,
                );
                self.update_status(now);
            }
            Err(()) => self.refused(now),
        }
        if let Ok(look) = look {
            self.looked_at_run(look);
        }
        if event_seen {
            // A container that was stopped since may be shown as still running.
            self.outside = outside;
            // It may have been started again since, with other addresses.
            self.runtime_info.look_again();
            self.update_status(now);
        }
    }

    pub(super) fn unanswered_or(
        &mut self,
        error: EngineError,
        now: Now,
        otherwise: impl FnOnce(&mut Self, EngineError, Now),
    ) {
        match error {
            EngineError::Unreachable(_) | EngineError::TimedOut(_) => {
                self.outside.ends_incident();
                self.seen = Seen::Unknown;
            }
            // Nothing was done: it is tried again.
            error @ EngineError::NotYet(_) => {
                self.status.reason = Some(error.reason());
                self.refused(now);
            }
            error @ (EngineError::NoSuchContainer(_)
            | EngineError::NoSuchImage(_)
            | EngineError::NameTaken(_)
            | EngineError::Refused(_)) => otherwise(self, error, now),
        }
    }

    pub(super) fn refused(&mut self, now: Now) {
        self.attempts.refusals += 1;
        self.not_before = now.mono + Backoff::CALL.after(self.attempts.refusals);
    }
}
