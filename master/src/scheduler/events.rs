//! What can happen to the scheduler, and what is to be done.

use shef_common::ids::NodeName;

use super::{LoadChanged, PlacementResult, Schedule, SchedulerCore};
use crate::membership::{HostChanged, HostKnown};

/// Names a question that waits for its answer.
pub type Ticket = u64;

/// What can happen to the scheduler.
#[derive(Debug)]
pub enum Event {
    /// A service asks.
    Ask(Ticket, Schedule),
    /// What hosts are loaded with changes.
    Load(LoadChanged),
    /// The store knows this of a host.
    Known(HostKnown),
    /// A host is in another condition.
    HostChanged(HostChanged),
    /// A host is no member any more.
    Forgotten(NodeName),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a question.
    Answer(Ticket, PlacementResult),
}

/// Carries out the scheduler's effects: one method an effect.
pub trait SchedulerEffects {
    /// Answers a question.
    fn answer(&mut self, ticket: Ticket, scheduled: PlacementResult);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, scheduled) => self.answer(ticket, scheduled),
            }
        }
    }
}

impl SchedulerCore {
    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Ask(ticket, ask) => {
                return vec![Effect::Answer(ticket, self.answer(&ask.service, &ask.placement_request))];
            }
            Event::Load(LoadChanged { service, changes }) => {
                changes.iter().for_each(|change| self.load(&service, change));
            }
            Event::Known(known) => self.host_known(known),
            Event::HostChanged(change) => self.host_changed(change.node, change.condition),
            Event::Forgotten(node) => self.forget(&node),
        }
        Vec::new()
    }
}
