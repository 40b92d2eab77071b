//! What carries out the effects of the store's core: one method an effect.

use std::sync::Arc;

use shef_common::ids::{ClusterId, Epoch, Fence};

use super::{
    Record, StoreError, Write,
    events::Effect,
    messages::{CommitError, Leadership, StoreHealth},
    queue::Ticket,
};

/// Carries out the effects of the store's core. The actor implements it with
/// calls of [`super::Store`], the simulator with its queue.
pub trait StoreEffects {
    /// Whether the next effect is to be carried out; the simulator ends a process here.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// Calls [`super::Store::commit`]. The answer comes back as `Committed`.
    fn commit(&mut self, writes: Arc<[Write]>);
    /// Calls [`super::Store::check`]. The answer comes back as `Checked`.
    fn check(&mut self);
    /// Calls [`super::Store::restore`]. The answer comes back as `Restored`.
    fn restore(&mut self, records: Vec<Record>);
    /// Calls [`super::Store::raise`]. The answer comes back as `LeadershipClaimed`.
    fn claim_leadership(&mut self, ticket: Ticket, above: Epoch, cluster: ClusterId);
    /// Answers a commit.
    fn answer(&mut self, ticket: Ticket, result: Result<(), CommitError>);
    /// Answers who wanted the leadership anew.
    fn leadership_claimed(&mut self, ticket: Ticket, result: Result<Leadership, StoreError>);
    /// Answers a flush.
    fn flushed(&mut self, ticket: Ticket);
    /// Tells the owner that another master leads.
    fn lost_leadership(&mut self, stored: Fence);
    /// Warns that the store had lost records that were durable, and has them back.
    fn lost_tail(&mut self, records: usize);
    /// Publishes the store's health.
    fn health(&mut self, health: StoreHealth);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if !self.goes_on() {
                return;
            }
            match effect {
                Effect::Commit(writes) => self.commit(writes),
                Effect::Check => self.check(),
                Effect::Restore(records) => self.restore(records),
                Effect::ClaimLeadership { ticket, above, cluster } => {
                    self.claim_leadership(ticket, above, cluster);
                }
                Effect::Answer { ticket, result } => self.answer(ticket, result),
                Effect::LeadershipClaimed { ticket, result } => self.leadership_claimed(ticket, result),
                Effect::Flushed { ticket } => self.flushed(ticket),
                Effect::LostLeadership { stored } => self.lost_leadership(stored),
                Effect::LostTail { records } => self.lost_tail(records),
                Effect::Health(health) => self.health(health),
            }
        }
    }
}
