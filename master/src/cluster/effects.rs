//! What carries out the cluster's effects: one method an effect.

use std::collections::BTreeMap;

use shef_common::{
    clock::MonoMs,
    endpoint::Endpoint,
    ids::{ClusterId, Epoch, NodeName, NodeUid, ServiceName},
    protocol::{Registered, ReportAck},
};

use super::events::{AdmissionNumber, Call, ClaimNumber, Effect, PhaseView, Succession};
use crate::{
    membership::MembershipEvent,
    runner::{OperateRefused, RegisterRefused, RunnerCore, RunnerEffect, RunnerEvent},
    scheduler::SchedulerEvent,
    service::{Accepted, Refused, ServiceCore, ServiceEffect, ServiceEvent},
    store::Leadership,
};

/// Carries out the effects of the cluster. The actor implements it with the
/// addresses of the others, the simulator with its mailboxes.
pub trait ClusterEffects {
    /// Whether the next effect is to be carried out; the simulator ends a process here.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// Sends `Continue`, behind what has come meanwhile.
    fn continue_later(&mut self);
    /// Shows readers how far the master is.
    fn show_phase(&mut self, phase: PhaseView);
    /// Ends this master, and starts another one in its place from what is stored.
    fn start_again(&mut self, how: Succession);
    /// Shows readers the leadership.
    fn show_leadership(&mut self, leadership: Leadership);
    /// Makes a service's actor, which begins with `initial`.
    fn spawn_service(&mut self, name: ServiceName, core: ServiceCore, initial: Vec<ServiceEffect>);
    /// Ends a service's actor.
    fn end_service(&mut self, name: ServiceName);
    /// Makes a host's runner, which begins with `initial`.
    fn spawn_runner(&mut self, node: NodeName, core: RunnerCore, initial: Vec<RunnerEffect>);
    /// Ends a host's runner.
    fn end_runner(&mut self, node: NodeName);
    /// Tells a service.
    fn to_service(&mut self, name: ServiceName, event: ServiceEvent);
    /// Has a service's actor answer `call` with a copy of its core.
    fn copy_service(&mut self, name: ServiceName, call: Call);
    /// Tells a host's runner.
    fn to_runner(&mut self, node: NodeName, event: RunnerEvent);
    /// Tells the scheduler.
    fn to_scheduler(&mut self, event: SchedulerEvent);
    /// Tells the membership.
    fn to_membership(&mut self, event: MembershipEvent);
    /// Has no certificate of this host count any more.
    fn revoke_identity(&mut self, uid: NodeUid);
    /// Takes the leadership anew. The outcome comes back as `LeadershipClaimed`.
    fn claim_leadership(&mut self, number: ClaimNumber, above: Epoch, cluster: ClusterId);
    /// Sees whether an agent answers at `address`. The outcome comes back as `FirstLifeAnswered`.
    fn ask_first_life(&mut self, number: AdmissionNumber, endpoint: Endpoint);
    /// Has the audit log tell that services take over what a host holds.
    fn note_takeover(&mut self, node: NodeName, uid: NodeUid, services: BTreeMap<ServiceName, u32>);
    /// Answers a user.
    fn answer(&mut self, call: Call, answer: Result<Accepted, Refused>);
    /// Answers who wanted a copy of a service.
    fn answer_copy(&mut self, call: Call, answer: Result<Box<ServiceCore>, Refused>);
    /// Answers an agent that registers.
    fn answer_registration(&mut self, call: Call, answer: Result<Registered, RegisterRefused>);
    /// Answers an agent that reports.
    fn acknowledge(&mut self, call: Call, ack: ReportAck);
    /// Answers an operator.
    fn answer_operator(&mut self, call: Call, answer: Result<(), OperateRefused>);
    /// Sends `Wake` at that time, or earlier.
    fn wake_at(&mut self, at: MonoMs);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if !self.goes_on() {
                return;
            }
            match effect {
                Effect::Continue => self.continue_later(),
                Effect::ShowPhase(phase) => self.show_phase(phase),
                Effect::StartAgain(how) => self.start_again(how),
                Effect::ShowLeadership(leadership) => self.show_leadership(leadership),
                Effect::SpawnService { name, core, initial } => self.spawn_service(name, *core, initial),
                Effect::EndService(name) => self.end_service(name),
                Effect::SpawnRunner { node, core, initial } => self.spawn_runner(node, *core, initial),
                Effect::EndRunner(node) => self.end_runner(node),
                Effect::ToService(name, event) => self.to_service(name, event),
                Effect::CopyService(name, call) => self.copy_service(name, call),
                Effect::ToRunner(node, event) => self.to_runner(node, event),
                Effect::ToScheduler(event) => self.to_scheduler(event),
                Effect::ToMembership(event) => self.to_membership(event),
                Effect::RevokeIdentity(uid) => self.revoke_identity(uid),
                Effect::ClaimLeadership { number, above, cluster } => {
                    self.claim_leadership(number, above, cluster);
                }
                Effect::AskFirstLife { number, endpoint } => self.ask_first_life(number, endpoint),
                Effect::NoteTakeover { node, uid, services } => self.note_takeover(node, uid, services),
                Effect::Answer(call, answer) => self.answer(call, answer),
                Effect::AnswerCopy(call, answer) => self.answer_copy(call, answer),
                Effect::AnswerRegistration(call, answer) => self.answer_registration(call, answer),
                Effect::Acknowledge(call, ack) => self.acknowledge(call, ack),
                Effect::AnswerOperator(call, answer) => self.answer_operator(call, answer),
                Effect::WakeAt(at) => self.wake_at(at),
            }
        }
    }
}
