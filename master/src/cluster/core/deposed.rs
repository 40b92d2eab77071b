//! Another master leads: this one sends no orders and takes no requests until it is
//! certain that the other one is gone. Then it starts again from the store.

use shef_common::{
    bounds::is_within_reach,
    clock::{DurationMs, Now},
    ids::{Fence, NodeName},
    protocol::Registration,
};

use super::{ClusterCore, TAKE_OVER_HOLDS};
use crate::{
    cluster::{
        events::{Call, Effect, Event, PhaseView, Succession},
        members::OtherLeader,
        state::{Deposed, Phase, ReplyTo},
    },
    runner::{HigherFence, OperateRefused, RegisterRefused},
    service::Refused,
    store::ahead_of_other_stores,
};

impl ClusterCore {
    /// A host's agent refuses our pushes: it follows a higher fence.
    pub(super) fn stale_fence(&mut self, node: &NodeName, higher: HigherFence, effects: &mut Vec<Effect>) {
        let ours = self.members.fence();
        if ours.admits_over(&higher.fence) {
            return;
        }
        if !is_within_reach(higher.fence.epoch.0, ours.epoch.0) {
            log::warn!(
                node:%, epoch:% = higher.fence.epoch;
                "no leadership of this cluster has had that epoch"
            );
            return;
        }
        let ours = higher.fence.leader == self.members.fence().leader;
        match if ours { OtherLeader::IsGone } else { self.members.other_leader(node, higher.silent) } {
            OtherLeader::IsGone => {
                self.next_admission += 1;
                let (number, cluster) = (self.next_admission, self.members.cluster().clone());
                let epoch = higher.fence.epoch;
                let above = if ours { epoch } else { ahead_of_other_stores(epoch) };
                effects.push(Effect::ClaimLeadership { number, above, cluster });
            }
            OtherLeader::LeadsFewer => {
                let HigherFence { fence, .. } = higher;
                log::warn!(
                    node:%, epoch:% = fence.epoch, leader:% = fence.leader;
                    "this host follows another leader; more hosts follow this one, which goes on"
                );
            }
            OtherLeader::IsDoubted => {}
            OtherLeader::Leads => self.stand_down(higher.fence, effects),
        }
    }

    /// The store is led by another one. A restored store has no leader.
    pub(super) fn fenced(&mut self, stored: Fence, effects: &mut Vec<Effect>) {
        let restored = stored.leader.is_none();
        self.members.shares_store();
        self.stand_down(stored, effects);
        if restored {
            self.start_again(true, effects);
        }
    }

    /// Stops leading: services and runners end, waiting callers are answered, and readers keep the last
    /// views.
    pub(super) fn stand_down(&mut self, by: Fence, effects: &mut Vec<Effect>) {
        log::error!(
            epoch:% = by.epoch, leader:% = by.leader;
            "another master leads; this one takes no hosts and no writes"
        );
        let waiting = match &mut self.phase {
            Phase::Recovering(recovery) => std::mem::take(&mut recovery.deferred),
            Phase::Leading => std::collections::VecDeque::new(),
            Phase::Deposed(_) => return,
        };
        self.phase = Phase::Deposed(Deposed { by: by.clone(), ends: false });
        // The present leader's decision is the later one.
        self.takes_over_until = None;
        self.members.stood_down();
        effects.push(Effect::ShowPhase(PhaseView::Deposed(by)));
        for event in waiting {
            self.refuse(event, effects);
        }
        for (name, waiting) in std::mem::take(&mut self.services) {
            for reply in waiting.into_values() {
                if let ReplyTo::Caller(call) = reply {
                    effects.push(Effect::Answer(call, Err(Refused::NotLeader)));
                }
            }
            effects.push(Effect::EndService(name));
        }
        effects.extend(std::mem::take(&mut self.runners).into_iter().map(Effect::EndRunner));
        for joining in std::mem::take(&mut self.admissions).into_values() {
            effects.push(Effect::AnswerRegistration(joining.call, Err(later())));
        }
        self.claims.clear();
        self.asked.clear();
    }

    /// What happens while another master leads.
    pub(super) fn while_deposed(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Register { call, registration } => {
                self.update_leader_silence(call, &registration, effects);
            }
            Event::Fenced(stored) if stored.leader.is_none() => self.start_again(true, effects),
            Event::Fenced(_) => self.members.shares_store(),
            Event::TakeOver => self.start_again(true, effects),
            other => self.refuse(other, effects),
        }
    }

    /// A host that registers here may have had no answer of the leader for long.
    fn update_leader_silence(&mut self, call: Call, registration: &Registration, effects: &mut Vec<Effect>) {
        let silent = registration.leader_silent_ms.map(DurationMs);
        if self.members.other_leader(&registration.node, silent) == OtherLeader::IsGone {
            self.start_again(false, effects);
        }
        effects.push(Effect::AnswerRegistration(call, Err(later())));
    }

    fn start_again(&mut self, takes_over: bool, effects: &mut Vec<Effect>) {
        if let Phase::Deposed(deposed) = &mut self.phase
            && !std::mem::replace(&mut deposed.ends, true)
        {
            log::warn!(
                epoch:% = deposed.by.epoch, leader:% = deposed.by.leader;
                "the other master is gone; starting again"
            );
            let above = ahead_of_other_stores(deposed.by.epoch);
            effects.push(Effect::StartAgain(Succession { takes_over, above }));
        }
    }

    /// Refuses requests, and ignores what actors of this master still send.
    fn refuse(&self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Ask { call, .. } => effects.push(Effect::Answer(call, Err(Refused::NotLeader))),
            Event::Copy { call, .. } => effects.push(Effect::AnswerCopy(call, Err(Refused::NotLeader))),
            Event::Register { call, .. } => effects.push(Effect::AnswerRegistration(call, Err(later()))),
            Event::Report { call, .. } => effects.push(Effect::Acknowledge(call, self.want_registration())),
            Event::Operate { call, .. } => {
                let reason = "another master leads the cluster; ask that one".to_owned();
                effects.push(Effect::AnswerOperator(call, Err(OperateRefused::Store(reason))));
            }
            Event::Continue
            | Event::Recovered(_)
            | Event::Orders(_)
            | Event::Statuses { .. }
            | Event::Gone { .. }
            | Event::Unknown { .. }
            | Event::Known(_)
            | Event::HostChanged(_)
            | Event::Forgotten(_)
            | Event::Erased(_)
            | Event::Credentials(_)
            | Event::Interval(_)
            | Event::StaleFence(..)
            | Event::Fenced(_)
            | Event::TakeOver
            | Event::Answered { .. }
            | Event::KeepsData { .. }
            | Event::Retired(_)
            | Event::LeadershipClaimed { .. }
            | Event::FirstLifeAnswered { .. }
            | Event::Wake => {}
        }
    }

    /// An operator wants this master to lead even if another one leads too.
    pub(super) fn take_over(&mut self, now: Now) {
        self.takes_over_until = Some(now.mono + TAKE_OVER_HOLDS);
        self.members.takes_over(true);
    }

    /// An operator's word holds for a while: hosts that come later say themselves whether they hear of
    /// another leader.
    pub(super) fn end_take_over(&mut self, now: Now) {
        if self.takes_over_until.is_some_and(|until| until <= now.mono) {
            self.takes_over_until = None;
            self.members.takes_over(false);
        }
    }
}

fn later() -> RegisterRefused {
    RegisterRefused::Later("another master leads the cluster; register with that one".to_owned())
}
