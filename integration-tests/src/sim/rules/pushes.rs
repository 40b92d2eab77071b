//! What must hold of pushes on their way, and of the digests by which ledgers are known.

use shef_agent::supervisor::ledger::Ledger;
use shef_common::protocol::{Accepted, LedgerDigest, MAX_PUSH_BYTES, Push};

use super::{AcceptedKey, PushHead};
use crate::sim::{agent::PushForm, world::World};

fn key(host: usize, accepted: &Accepted) -> AcceptedKey {
    (host, accepted.fence.leader.to_string(), accepted.fence.epoch.0, accepted.revision)
}

impl World {
    /// A push goes to an address that is not its host's: to somebody who pretends, or to where it was.
    pub fn rules_push_elsewhere(&mut self, host: usize, agent_url: &str) {
        let there = &self.hosts[host];
        let node = there.node.clone();
        if let Some(since) = there.let_in_since
            && there.agent.is_some()
            && !there.is_cut_from_master()
        {
            self.violated(format!(
                "what {node} is to run is sent to {agent_url}, while {node} is there since {since}"
            ));
        } else {
            self.note(|| format!("a push for {node} goes to {agent_url}"));
        }
    }

    /// A push is as the agent understands it: what was read of it is what was sent.
    pub fn rules_push_form(&mut self, host: usize, push: &Push) {
        let node = self.hosts[host].node.clone();
        let sent = serde_json::to_vec(push).unwrap_or_default();
        if serde_json::from_slice::<Push>(&sent).ok().as_ref() != Some(push) {
            return self.violated(format!("{node} does not read push {} as it was meant", push.revision));
        }
        if push.templates_once && sent.len() > MAX_PUSH_BYTES {
            let bytes = sent.len();
            return self.violated(format!("push {} to {node} has {bytes} bytes", push.revision));
        }
        if self.hosts[host].form == PushForm::Whole && !self.hosts[host].knows_form(push) {
            let revision = push.revision;
            self.violated(format!("{node} is sent push {revision} in a form that its agent does not know"));
        }
    }

    /// An agent reports what it follows: this is what its ledger holds then. `same`: the digest of its last
    /// report, if the agent says that nothing has changed since; all digests are compared at the end.
    pub fn rules_follows(&mut self, host: usize, ledger: &Ledger, same: Option<LedgerDigest>) {
        if let Some(accepted) = &ledger.accepted {
            let same = same.filter(|same| same.count == ledger.assignments.len() as u64);
            let digest = same.unwrap_or_else(|| LedgerDigest::of(ledger.assignments.values()));
            self.rules.digests.insert(key(host, accepted), digest);
        }
    }

    /// An agent tells a master what it follows and holds: one belongs to the other.
    pub fn rules_reports_digest(
        &mut self,
        host: usize,
        accepted: Option<&Accepted>,
        reported: Option<LedgerDigest>,
    ) {
        let held = accepted.and_then(|accepted| self.rules.digests.get(&key(host, accepted)));
        if let (Some(held), Some(reported)) = (held, reported)
            && *held != reported
        {
            let node = self.hosts[host].node.clone();
            self.violated(format!("what {node} tells of its ledger is not the digest of what it holds"));
        }
    }

    /// An agent says yes to a push that builds on what its ledger held, which was `held`.
    pub fn rules_takes_over(&mut self, host: usize, push: &PushHead, held: Option<LedgerDigest>) {
        let (now, _) = self.rules.accepted.entry(host).or_default().clone();
        let is_last = now.is_some_and(|now| now.fence == push.fence && now.revision == push.revision);
        if let (Some(holds), Some(held)) = (push.holds, held)
            && is_last
            && holds != held
        {
            let node = self.hosts[host].node.clone();
            self.violated(format!(
                "{node} takes push {} as if its ledger held something else",
                push.revision
            ));
        }
    }
}
