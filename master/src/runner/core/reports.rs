//! What a host's reports change.

use shef_common::{
    clock::{DurationMs, Now},
    ids::ReplicaId,
    protocol::{Report, ReportAck},
    status::{ReplicaState, ReplicaStatus},
};

use super::{IGNORED_UNTIL_REGISTRATION, RunnerCore};
use crate::{
    membership::HostReported,
    runner::events::{Effect, Ticket},
};

impl RunnerCore {
    pub(super) fn on_report(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.silent = false;
        self.last_report = Some(now.wall);
        if self.durable.is_some() {
            effects.push(Effect::HostReported(self.sign_of_life()));
        }
    }

    pub(super) fn sign_of_life(&self) -> HostReported {
        HostReported {
            node: self.record.node.clone(),
            engine_ok: self.engine_error.is_none(),
            round_trip: self.round_trip,
            probe_key: self.probe_key.clone(),
        }
    }

    /// Returns whether readers should see a change.
    pub(super) fn report(
        &mut self,
        call: Ticket,
        report: Report,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_run = self.link.as_ref().is_some_and(|link| link.boot == report.boot);
        let is_there = report.agent_url.as_ref().is_none_or(|url| *url == self.record.host.agent_url);
        let known = report.cluster == self.cluster && is_run && is_there;
        let mut ack = ReportAck {
            fence: self.fence.clone(),
            want_full: false,
            want_registration: !known,
            report_interval_ms: known.then_some(self.report_interval.0),
            push: None,
            denied: Vec::new(),
            cas: Vec::new(),
        };
        let Some(link) = self.link.as_mut().filter(|_| known) else {
            effects.push(Effect::Ack(call, ack));
            return false;
        };
        if report.seq <= link.last_seq {
            if report.seq > link.ignored.0 {
                link.ignored = (report.seq, link.ignored.1.saturating_add(1));
            }
            ack.want_registration = link.ignored.1 >= IGNORED_UNTIL_REGISTRATION;
            effects.push(Effect::Ack(call, ack));
            return false;
        }
        (link.last_seq, link.ignored) = (report.seq, (0, 0));
        link.full_seen |= report.full;
        let full_missing = !link.full_seen;
        let first = self.last_report.is_none();
        let engine_changed = self.engine_error != report.engine_error;
        self.engine_error = report.engine_error;
        self.round_trip = report.round_trip_ms.map(DurationMs);
        self.on_report(now, effects);
        let accepted =
            report.accepted.filter(|accepted| accepted.fence == self.fence).map(|accepted| accepted.revision);
        let (statuses, removing) = (!report.statuses.is_empty(), self.outbox.removing());
        self.outbox.reported(accepted);
        let is_unlike = self.outbox.compare_ledger(accepted, report.ledger, now.mono);
        if is_unlike {
            log::warn!(node:% = self.record.node; "the host's ledger holds something else than it was sent");
        }
        if report.full {
            let listed =
                report.statuses.iter().map(|status| (status.replica.clone(), status.state)).collect();
            let gone = self.outbox.compare_full(&listed, accepted);
            self.confirm_gone(gone, effects);
        }
        self.take_statuses(report.statuses, effects);
        if statuses {
            self.notify_published(effects);
        }
        ack.want_full = full_missing || is_unlike || self.outbox.is_overdue(now.mono);
        if self.durable.is_some() {
            ack.push = self.outbox.next_piggyback(&self.cluster, &self.fence, now.mono).map(Box::new);
        }
        effects.push(Effect::Ack(call, ack));
        statuses || first || engine_changed || removing != self.outbox.removing()
    }

    fn take_statuses(&mut self, statuses: Vec<ReplicaStatus>, effects: &mut Vec<Effect>) {
        let (mut news, mut gone, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for status in statuses {
            let id = &status.replica;
            if self.outbox.removes(id) && status.state == ReplicaState::Stopped {
                gone.push(id.clone());
                continue;
            }
            if !self.outbox.removes(id) && !self.outbox.wants(id) {
                if status.state != ReplicaState::Stopped && !self.left_alone.has(id) {
                    unknown.push(id.clone());
                }
                continue;
            }
            if self.statuses.get(id).is_none_or(|earlier| status.supersedes(earlier)) {
                self.statuses.insert(id.clone(), status.clone());
                news.push(status);
            }
        }
        if !news.is_empty() {
            effects.push(Effect::Statuses(news));
        }
        if !unknown.is_empty() && self.durable.is_some() {
            effects.push(Effect::Unknown(unknown));
        }
        self.confirm_gone(gone, effects);
    }

    fn confirm_gone(&mut self, gone: Vec<ReplicaId>, effects: &mut Vec<Effect>) {
        for id in &gone {
            self.outbox.confirm_gone(id);
            self.statuses.remove(id);
        }
        if !gone.is_empty() {
            effects.push(Effect::Gone(gone));
        }
    }
}
