//! What others say to the scheduler.

use actix::Message;
use shef_common::ids::{NodeName, ServiceName, Slot};

use super::core::{Place, Placement};

/// Find hosts for slots, and choose slots to give up. Answered by [`Scheduled`].
#[derive(Debug, Message)]
#[rtype(result = "Scheduled")]
pub struct Schedule {
    /// Whose slots.
    pub service: ServiceName,
    /// What is asked.
    pub question: Question,
}

/// What a service asks of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Slots that want a host.
    pub place: Vec<Place>,
    /// Of these, `give_up` are to go, or one is to move.
    pub candidates: Vec<(Slot, NodeName)>,
    /// How many of the candidates are to go.
    pub give_up: usize,
    /// Whether one of the candidates is to move, if that makes the service more balanced.
    pub rebalance: bool,
}

/// The scheduler's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, actix::MessageResponse)]
pub struct Scheduled {
    /// Where the slots go; the load is counted already.
    pub placement: Placement,
    /// Which candidates go.
    pub give_up: Vec<Slot>,
    /// Which candidate moves, and where to; its place there is counted already.
    pub moved: Option<(Slot, NodeName)>,
}

/// A replica that the store remembers occupies a host.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Occupy(pub ServiceName, pub Vec<NodeName>);

/// Replicas are no longer to run on these hosts.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Vacate(pub ServiceName, pub Vec<NodeName>);
