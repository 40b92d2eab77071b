//! What carries out a runner's effects: one method an effect.

use std::net::SocketAddrV4;

use shef_common::{
    clock::MonoMs,
    ids::{ReplicaId, Version},
    protocol::{Push, Registered, ReportAck},
    status::ReplicaStatus,
};

use super::{
    events::{Effect, Ticket},
    messages::{OperateRefused, RegisterRefused},
    outbox::HigherFence,
    record::NodeRecord,
    view::NodeView,
};
use crate::membership::{HostKnown, HostReported};

/// Carries out the effects of one runner. The actor implements it with messages
/// and calls, the simulator with its queue.
pub trait RunnerEffects {
    /// Whether the next effect is to be carried out; the simulator ends a process here.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// Answers a registration.
    fn registered(&mut self, call: Ticket, answer: Result<Registered, RegisterRefused>);
    /// Answers a report.
    fn acknowledge(&mut self, call: Ticket, ack: ReportAck);
    /// Answers an operator.
    fn operated(&mut self, call: Ticket, answer: Result<(), OperateRefused>);
    /// Tells the cluster that an operator has forgotten the host, and hides it from readers.
    fn forgotten(&mut self);
    /// Tells the cluster that nothing is left of the host.
    fn erased(&mut self);
    /// Sends assignments to the agent. The outcome comes back as `PushDone`.
    fn push(&mut self, agent_url: String, push: Push);
    /// Tells the cluster what the host says of its replicas.
    fn statuses(&mut self, statuses: Vec<ReplicaStatus>);
    /// Tells the cluster what the host no longer holds.
    fn gone(&mut self, replicas: Vec<ReplicaId>);
    /// Asks, by way of the cluster, whether the host is to keep what it holds without an order.
    fn unknown(&mut self, replicas: Vec<ReplicaId>);
    /// Tells membership and cluster what the store knows of the host.
    fn known(&mut self, known: HostKnown);
    /// Tells the membership that the host has registered or reported.
    fn host_reported(&mut self, report: HostReported);
    /// Tells the membership where the host's replicas take connections.
    fn published(&mut self, addresses: Vec<SocketAddrV4>);
    /// Commits the host's record. The outcome comes back as `Committed` or `CommitFailed`.
    fn commit(&mut self, expect: Option<Version>, record: Option<NodeRecord>);
    /// Tells the cluster that the agent follows a higher fence.
    fn stale_fence(&mut self, higher: HigherFence);
    /// Shows the host to readers.
    fn publish(&mut self, view: NodeView);
    /// Sends `Wake` at that time, or earlier.
    fn wake_at(&mut self, at: MonoMs);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if !self.goes_on() {
                return;
            }
            match effect {
                Effect::Registered(call, answer) => self.registered(call, answer),
                Effect::Ack(call, ack) => self.acknowledge(call, ack),
                Effect::Operated(call, answer) => self.operated(call, answer),
                Effect::Forgotten => self.forgotten(),
                Effect::Erased => self.erased(),
                Effect::Push { agent_url, push } => self.push(agent_url, *push),
                Effect::Statuses(statuses) => self.statuses(statuses),
                Effect::Gone(replicas) => self.gone(replicas),
                Effect::Unknown(replicas) => self.unknown(replicas),
                Effect::Known(known) => self.known(*known),
                Effect::HostReported(report) => self.host_reported(report),
                Effect::Published(addresses) => self.published(addresses),
                Effect::Commit { expect, record } => self.commit(expect, record.map(|record| *record)),
                Effect::StaleFence(higher) => self.stale_fence(higher),
                Effect::Publish(view) => self.publish(*view),
                Effect::WakeAt(at) => self.wake_at(at),
            }
        }
    }
}
