//! What carries out a service's effects: one method an effect.

use std::collections::BTreeSet;

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId},
    protocol::Assignment,
};

use super::{
    events::{Effect, Tally, Ticket},
    request::{Accepted, Refused},
    view::ServiceView,
};
use crate::{
    scheduler::{LoadChange, PlacementRequest},
    store::Write,
};

/// Carries out the effects of one service. The actor implements it with
/// messages, the simulator with its queue.
pub trait ServiceEffects {
    /// Whether the next effect is to be carried out; the simulator ends a process here.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// Asks the scheduler. The answer comes back as `Scheduled`.
    fn schedule(&mut self, placement_request: PlacementRequest);
    /// Commits parts of the service. The outcome comes back as `Committed` or `CommitFailed`.
    fn commit(&mut self, writes: Vec<Write>);
    /// Tells the cluster the answer to a request.
    fn reply(&mut self, ticket: Ticket, answer: Result<Accepted, Refused>);
    /// Tells the cluster what a host is to run and to remove.
    fn order(&mut self, node: NodeName, set: Vec<Assignment>, remove: Vec<ReplicaId>);
    /// Tells the scheduler how the load of hosts changes.
    fn load(&mut self, changes: Vec<LoadChange>);
    /// Tells the cluster which hosts hold data that the service's replicas are to find again.
    fn keeps_data(&mut self, nodes: BTreeSet<NodeName>);
    /// Shows the service to readers; `None`: it is gone.
    fn publish(&mut self, view: Option<ServiceView>);
    /// Counts for `/stats`.
    fn count(&mut self, tally: Tally);
    /// Sends `Wake` at that time, or earlier.
    fn wake_at(&mut self, at: MonoMs);
    /// Tells the cluster that all that follows from the stored record has been said.
    fn recovered(&mut self);
    /// Tells the cluster that nothing is left of the service.
    fn retire(&mut self);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if !self.goes_on() {
                return;
            }
            match effect {
                Effect::Schedule(placement_request) => self.schedule(placement_request),
                Effect::Commit(writes) => self.commit(writes),
                Effect::Reply(ticket, answer) => self.reply(ticket, answer),
                Effect::Order { node, set, remove } => self.order(node, set, remove),
                Effect::Load(changes) => self.load(changes),
                Effect::KeepsData(nodes) => self.keeps_data(nodes),
                Effect::Publish(view) => self.publish(view.map(|view| *view)),
                Effect::Count(tally) => self.count(tally),
                Effect::WakeAt(at) => self.wake_at(at),
                Effect::Recovered => self.recovered(),
                Effect::Retire => self.retire(),
            }
        }
    }
}
