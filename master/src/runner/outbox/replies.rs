//! What an agent says of its orders: when it registers, with its reports, and in answer to a push.

use std::collections::BTreeMap;

use shef_common::{
    backoff::Backoff,
    bounds::is_within_reach,
    clock::{DurationMs, MonoMs},
    ids::{Fence, ReplicaId, Revision},
    protocol::{Accepted, LedgerDigest, Refusal, Understands},
    status::ReplicaState,
};

use super::{
    Aftermath, Agent, CONFIRMED_BY, DIRECT_AGAIN, HigherFence, InFlight, Outbox, PushFailure, Removing,
};
use crate::runner::wanted::WantedReplica;

/// How long after a ledger was found to hold something else the next one is looked at: longer each time.
const COMPARE_AGAIN: Backoff = Backoff { first: DurationMs(1_000), most: DurationMs(300_000) };

impl Outbox {
    /// The agent has introduced itself and follows `revision` of the present fence; its ledger holds `held`.
    pub fn registered(
        &mut self,
        revision: Option<Revision>,
        understands: &Understands,
        held: Option<LedgerDigest>,
    ) {
        let by_name = understands.removal_by_name;
        self.agent = Agent {
            by_name,
            in_parts: by_name && understands.templates_once,
            by_digest: by_name && understands.ledger_digest,
        };
        self.held = held.filter(|_| self.agent.by_digest);
        self.go_on_above(revision.unwrap_or_default());
        // A push in flight may have arrived or not: a snapshot or an equal digest settles it.
        let unsettled = self.in_flight.take().is_some();
        let unlike = !self.has_changes() && self.held.is_some_and(|held| held != self.digest());
        if revision != self.accepted || unsettled || unlike {
            self.accepted = None;
        }
        self.retry_at = None;
        self.failures = 0;
        self.unanswered = 0;
        self.unlike = (0, MonoMs::default());
    }

    /// The agent says that it has accepted this under our fence. One that no count comes to is not adopted:
    /// it would use up the revisions that are left.
    fn go_on_above(&mut self, theirs: Revision) {
        if is_within_reach(theirs.0, self.revision.0) {
            self.revision = self.revision.max(theirs);
        }
    }

    /// A report says that the host follows `accepted` of the present fence, and that its ledger holds `held`.
    /// Returns whether that is something else than it was sent: it is sent everything again then, and a full
    /// report is to tell what it holds besides.
    pub fn compare_ledger(
        &mut self,
        accepted: Option<Revision>,
        held: Option<LedgerDigest>,
        now: MonoMs,
    ) -> bool {
        self.held = held.filter(|_| self.agent.by_digest);
        // A revision ahead of the last answer comes from a push that this outbox does not know, perhaps
        // another master's.
        let is_settled = self.accepted.is_some()
            && accepted >= self.accepted
            && self.in_flight.is_none()
            && !self.has_changes();
        let Some(held) = self.held.filter(|_| is_settled) else { return false };
        if held == self.digest() {
            self.unlike = (0, now);
            return false;
        }
        let (times, next) = self.unlike;
        if now < next {
            return false;
        }
        self.unlike = (times.saturating_add(1), now + COMPARE_AGAIN.after(times.saturating_add(1)));
        self.accepted = None;
        true
    }

    /// The push of `revision` came back.
    pub fn done(
        &mut self,
        revision: Revision,
        outcome: Result<Accepted, PushFailure>,
        fence: &Fence,
        now: MonoMs,
    ) -> Aftermath {
        // A registration in between has made the push void.
        let Some(in_flight) =
            self.in_flight.take_if(|sent| sent.revision == revision && sent.piggybacked.is_none())
        else {
            return Aftermath::default();
        };
        let unanswered = std::mem::take(&mut self.unanswered);
        let mut stale = None;
        let error = match outcome {
            Ok(accepted) if accepted.fence == *fence && accepted.revision == revision => {
                self.accepted = Some(revision);
                self.failures = 0;
                self.error = None;
                return Aftermath::default();
            }
            Ok(accepted) => {
                (self.accepted, self.held) = (None, None);
                if accepted.fence == *fence {
                    self.go_on_above(accepted.revision);
                }
                format!("the agent accepted revision {} instead of {revision}", accepted.revision)
            }
            Err(PushFailure::Refused(refused)) => {
                // Its ledger is not what it was said to be, either.
                (self.accepted, self.held) = (None, None);
                let theirs = refused.accepted.as_ref();
                // Ours must be above that revision, whichever master pushed it.
                if let Some(theirs) = theirs.filter(|theirs| theirs.fence == *fence) {
                    self.go_on_above(theirs.revision);
                }
                match theirs.filter(|_| refused.why == Refusal::StaleFence).map(|accepted| &accepted.fence) {
                    Some(theirs) if !is_within_reach(theirs.epoch.0, fence.epoch.0) => format!(
                        "the agent follows epoch {}, which no leadership of this cluster has had (ours is \
                         {}); stop it, move its ledger away and start it anew",
                        theirs.epoch, fence.epoch
                    ),
                    theirs => {
                        let silent = refused.leader_silent_ms.map(DurationMs);
                        stale = theirs.cloned().map(|fence| HigherFence { fence, silent });
                        format!("the agent refused: {}", refused.why)
                    }
                }
            }
            Err(PushFailure::Unknown(why)) => {
                // It may have been applied. Sent again as a change on the same
                // base, it is refused in that case, and a snapshot mends it.
                self.again(in_flight);
                self.unanswered = unanswered.saturating_add(1);
                self.direct_at = now + DIRECT_AGAIN;
                why
            }
        };
        self.error = Some(error);
        let at = now + Backoff::CALL.after(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(at);
        Aftermath { stale, retry_at: Some(at) }
    }

    /// What `sent` held is still to be sent.
    fn again(&mut self, sent: InFlight) {
        self.to_set.extend(sent.set.into_iter().filter(|id| self.wanted.replicas().contains_key(id)));
        self.to_remove.extend(sent.remove.into_iter().filter(|id| self.removing.contains_key(id)));
    }

    /// A report says that the host follows `accepted` under the present fence. It confirms the orders that
    /// were piggybacked on the answer to an earlier report, or does not.
    pub fn reported(&mut self, accepted: Option<Revision>) {
        self.go_on_above(accepted.unwrap_or_default());
        let Some((revision, reports)) =
            self.in_flight.as_mut().and_then(|sent| Some((sent.revision, sent.piggybacked.as_mut()?)))
        else {
            return;
        };
        if accepted == Some(revision) {
            (self.in_flight, self.accepted, self.error, self.failures, self.retry_at) =
                (None, accepted, None, 0, None);
            return;
        }
        *reports += 1;
        if *reports < CONFIRMED_BY {
            return;
        }
        if accepted != self.accepted {
            self.accepted = None;
        }
        // If it was applied nevertheless, the next push is refused, and a snapshot corrects that.
        if let Some(sent) = self.in_flight.take() {
            self.again(sent);
        }
    }

    /// A full report lists `listed`, and follows `accepted`. Returns the removals that it confirms by not
    /// listing them. If something is missing that the host was ordered to run, everything is sent again. A
    /// removal that the host has accepted, of a replica that it still keeps up, is ordered again: a push of
    /// another master may have had the same revision.
    pub fn compare_full(
        &mut self,
        listed: &BTreeMap<ReplicaId, ReplicaState>,
        accepted: Option<Revision>,
    ) -> Vec<ReplicaId> {
        let followed = |sent: Option<Revision>| sent.is_some() && sent <= accepted;
        let gone =
            |(id, removing): &(&ReplicaId, &Removing)| followed(removing.sent) && !listed.contains_key(*id);
        let gone = self.removing.iter().filter(gone).map(|(id, _)| id.clone()).collect();
        let is_up = |id: &ReplicaId| match listed.get(id) {
            Some(ReplicaState::Stopping | ReplicaState::Stopped) | None => false,
            Some(_) => true,
        };
        let kept = self.removing.iter().filter(|(id, removing)| followed(removing.sent) && is_up(id));
        self.to_remove.extend(kept.map(|(id, _)| id.clone()));
        let is_missing =
            |(id, wanted): (&ReplicaId, &WantedReplica)| followed(wanted.sent) && !listed.contains_key(id);
        if self.wanted.replicas().iter().any(is_missing) {
            (self.accepted, self.held) = (None, None);
        }
        gone
    }

    /// The host no longer holds `id`.
    pub fn confirm_gone(&mut self, id: &ReplicaId) {
        self.removing.remove(id);
        self.to_remove.remove(id);
    }
}
