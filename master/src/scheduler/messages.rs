//! What others say to the scheduler.

use std::{collections::BTreeMap, sync::Arc};

use actix::Message;
use shef_common::{
    ids::{NodeName, ReplicaId, ServiceName, Slot},
    spec::Placement,
};

use super::{
    core::{Place, Placed, SchedulerCore},
    events::Event,
    requirements::{Claim, LoadChange, Requirements},
};

/// Find hosts for slots, and choose slots to give up. Answered by [`Scheduled`].
#[derive(Debug, Message)]
#[rtype(result = "PlacementResult")]
pub struct Schedule {
    /// Whose slots.
    pub service: ServiceName,
    /// What is asked.
    pub placement_request: PlacementRequest,
}

/// What a service asks of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementRequest {
    /// Where the service may and should run.
    pub placement: Arc<Placement>,
    /// Slots that want a host.
    pub place: Vec<Demand>,
    /// Of these, `give_up` are to go, or one is to move.
    pub candidates: Vec<(Slot, NodeName)>,
    /// How many of the candidates are to go.
    pub give_up: usize,
    /// What one of the candidates is to become elsewhere, if that makes the service more balanced.
    pub mover: Option<Mover>,
    /// How many replicas of the service each host is to lose once a rollout is through: the balance goes by
    /// what stays.
    pub leaving: BTreeMap<NodeName, u32>,
}

/// A slot that wants a host for a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The slot.
    pub place: Place,
    /// The only host that will do, if the slot is bound to one.
    pub bound_node: Option<NodeName>,
    /// The replica that is to be.
    pub replica: ReplicaId,
    /// What it takes.
    pub requires: Requirements,
    /// Failed replicas that are retired as soon as this one is placed.
    pub replaces: Vec<Claim>,
    /// The slot's replicas that run beside it and could be stopped first.
    pub beside: Vec<Claim>,
}

impl Demand {
    /// What the replica will claim of `node`.
    #[must_use]
    pub fn claim(&self, node: &NodeName) -> Claim {
        Claim { replica: self.replica.clone(), node: node.clone(), requires: self.requires.clone() }
    }
}

/// The replacement of a replica that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mover {
    /// The replica that is to be.
    pub replica: ReplicaId,
    /// What it takes.
    pub requires: Requirements,
}

impl Mover {
    /// What the replica will claim of `node`.
    #[must_use]
    pub fn claim(&self, node: &NodeName) -> Claim {
        Claim { replica: self.replica.clone(), node: node.clone(), requires: self.requires.clone() }
    }
}

/// The scheduler's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, actix::MessageResponse)]
pub struct PlacementResult {
    /// Where the slots go; the load is counted already.
    pub placed: Placed,
    /// The candidates that go.
    pub give_up: Vec<Slot>,
    /// Which candidate moves, and where to; its place there is counted already.
    pub moved: Option<(Slot, NodeName)>,
}

/// What hosts are loaded with changes.
#[derive(Debug)]
pub struct LoadChanged {
    /// Whose replicas.
    pub service: ServiceName,
    /// What changes, in this order.
    pub changes: Vec<LoadChange>,
}

/// Something happens to the scheduler.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ToScheduler(pub Event);

/// Asks for a copy of the load of all hosts: what is asked of that is counted nowhere.
#[derive(Debug, Message)]
#[rtype(result = "Box<SchedulerCore>")]
pub struct CopyScheduler;
