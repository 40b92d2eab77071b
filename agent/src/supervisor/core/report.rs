//! After each step, tells the reporter what has changed.

use shef_common::protocol::{Accepted, LedgerDigest};

use super::{Core, Description, Effect};
use crate::supervisor::Followed;

/// The supervisor's own state as last reported. Statuses are compared replica by replica.
#[derive(Debug, Default)]
pub(super) struct Reported {
    engine_error: Option<String>,
    listed: bool,
    accepted: Option<Accepted>,
    ledger: Option<LedgerDigest>,
}

impl Core {
    pub(super) fn description(&self) -> Description {
        Description {
            cluster: self.ledger().cluster.clone(),
            accepted: self.ledger().accepted.clone(),
            holds: self.holds().cloned().collect(),
            ledger: self.ledger_digest(),
            complete: self.has_listed(),
            found: self.engine.found().iter().take(2).cloned().collect(),
            leader_silent_ms: self.disconnect.silent_ms(),
        }
    }

    /// Shows whom the host follows.
    pub fn show_followed(&self, followed: &Followed) {
        let fence = self.ledger().accepted.as_ref().map(|accepted| &accepted.fence);
        followed.set(fence, self.disconnect.silent_since(), self.disconnect.answered());
    }

    /// Adds the step's last effect, a report, if there is anything to report.
    pub(super) fn report(&mut self) {
        if self.engine.error() != self.reported.engine_error.as_deref() {
            self.reported.engine_error = self.engine.error().map(str::to_owned);
            self.unreported.engine_error = Some(self.reported.engine_error.clone());
        }
        // Who joins a cluster has still to find out which containers are its own.
        let is_joining = self.ledger.is_joining() || !self.engine.has_shown();
        if self.reported.listed && is_joining || !self.reported.listed && self.has_listed() {
            self.reported.listed = !is_joining;
            self.unreported.listed = Some(!is_joining);
        }
        let accepted = &self.ledger.ledger().accepted;
        if *accepted != self.reported.accepted {
            self.reported.accepted.clone_from(accepted);
            self.unreported.accepted.clone_from(accepted);
        }
        let digest = Some(self.ledger_digest());
        if digest != self.reported.ledger {
            (self.reported.ledger, self.unreported.ledger) = (digest, digest);
        }
        if !self.unreported.is_empty() {
            let observed = std::mem::take(&mut self.unreported);
            self.effects.push(Effect::Report(Box::new(observed)));
        }
    }
}
