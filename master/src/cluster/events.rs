//! What can happen to the cluster, and what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs},
    endpoint::Endpoint,
    ids::{ClusterId, Epoch, Fence, NodeName, NodeUid, ReplicaId, ServiceName},
    protocol::{Registered, Registration, Report, ReportAck},
    status::ReplicaStatus,
};

use super::first_life::Answer;
use crate::{
    membership::{HostChanged, HostKnown, MembershipEvent},
    registries::Known,
    runner::{
        HigherFence, OperateRefused, Operation, RegisterRefused, RunnerCore, RunnerEffect, RunnerEvent,
    },
    scheduler::SchedulerEvent,
    service::{Accepted, Orders, Refused, Request, ServiceCore, ServiceEffect, ServiceEvent, Ticket},
    store::{Leadership, StoreError},
};

/// Names a caller that waits for an answer. Every call is answered at most once.
pub type Call = u64;
/// Names an admission.
pub type AdmissionNumber = u64;
/// Names a claim of the leadership.
pub type ClaimNumber = u64;

/// How far a master is, for readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PhaseView {
    /// It reads what is stored; hosts and users wait.
    #[default]
    Recovering,
    /// It leads.
    Leading,
    /// Another master leads, under this fence; this one takes no writes and no hosts.
    Deposed(Fence),
}

/// What can happen to the cluster.
#[derive(Debug)]
pub enum Event {
    /// Goes on with the recovery, after [`Effect::Continue`].
    Continue,
    /// A recovered service has said everything that follows from its record.
    Recovered(ServiceName),
    /// A user asks something of a service.
    Ask {
        /// Whom to answer.
        call: Call,
        /// Of which service.
        name: ServiceName,
        /// What.
        request: Request,
    },
    /// A copy of a service is wanted, for a dry run.
    Copy {
        /// Whom to answer.
        call: Call,
        /// Of which service.
        name: ServiceName,
        /// Whether a missing service is copied as a new one.
        or_new: bool,
    },
    /// An agent introduces itself.
    Register {
        /// Whom to answer.
        call: Call,
        /// With what.
        registration: Box<Registration>,
    },
    /// An agent reports.
    Report {
        /// Whom to answer.
        call: Call,
        /// What.
        report: Box<Report>,
    },
    /// An operator asks something of a host.
    Operate {
        /// Whom to answer.
        call: Call,
        /// Of which host.
        node: NodeName,
        /// What.
        operation: Operation,
    },
    /// A service says what a host is to run and to remove.
    Orders(Orders),
    /// A host reports statuses of its replicas.
    Statuses {
        /// The host that reports.
        node: NodeName,
        /// The statuses of its replicas.
        statuses: Vec<ReplicaStatus>,
    },
    /// A host no longer holds these.
    Gone {
        /// The host that confirms.
        node: NodeName,
        /// The replicas that it has removed.
        replicas: Vec<ReplicaId>,
    },
    /// A host holds replicas without an order.
    Unknown {
        /// The host.
        node: NodeName,
        /// What it holds.
        replicas: Vec<ReplicaId>,
    },
    /// The store knows this of a host.
    Known(HostKnown),
    /// A host is in another condition, says the membership.
    HostChanged(HostChanged),
    /// An operator's word that a host is no member any more is durable.
    Forgotten(NodeName),
    /// Nothing is left of a forgotten host.
    Erased(NodeName),
    /// Registries are shown this from now on.
    Credentials(Known),
    /// Hosts report at this interval from now on.
    Interval(DurationMs),
    /// A host's agent says whom it follows; that may be a higher fence than ours.
    StaleFence(NodeName, HigherFence),
    /// The store is led under this fence, and not by us.
    Fenced(Fence),
    /// An operator says that this master is to lead even if another one leads too.
    TakeOver,
    /// A service answers a request.
    Answered {
        /// The service.
        name: ServiceName,
        /// The request.
        ticket: Ticket,
        /// What.
        answer: Result<Accepted, Refused>,
    },
    /// A service has data on these hosts that its replicas are to find again, and on no others.
    KeepsData {
        /// The service.
        name: ServiceName,
        /// All of these hosts.
        nodes: BTreeSet<NodeName>,
    },
    /// Nothing is left of a service.
    Retired(ServiceName),
    /// What became of [`Effect::ClaimLeadership`].
    LeadershipClaimed {
        /// The claim.
        number: ClaimNumber,
        /// The leadership from now on, or why it was not taken.
        result: Result<Leadership, StoreError>,
    },
    /// The outcome of [`Effect::AskFirstLife`]: it comes back exactly once.
    FirstLifeAnswered {
        /// The admission.
        number: AdmissionNumber,
        /// What the agent has answered.
        answer: Answer,
    },
    /// The time that was asked for has come.
    Wake,
}

/// How a master starts anew in the place of one that another had deposed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Succession {
    /// Whether an operator wants it to lead even if another one leads too.
    pub takes_over: bool,
    /// The epoch that hosts follow, which the store may not know of: it leads above that one.
    pub above: Epoch,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Services take over what a host holds, so many replicas of each.
    NoteTakeover {
        /// The host.
        node: NodeName,
        /// Its lasting identity.
        uid: NodeUid,
        /// How many replicas of which services.
        services: BTreeMap<ServiceName, u32>,
    },
    /// Send [`Event::Continue`], behind what has come meanwhile.
    Continue,
    /// Show readers how far the master is.
    ShowPhase(PhaseView),
    /// End this master, and start another one in its place from what is stored.
    StartAgain(Succession),
    /// Show readers under which leadership this is.
    ShowLeadership(Leadership),
    /// Make a service's actor, which begins with `initial`.
    SpawnService {
        /// The service.
        name: ServiceName,
        /// Its core.
        core: Box<ServiceCore>,
        /// The effects that its making asked for.
        initial: Vec<ServiceEffect>,
    },
    /// End a service's actor.
    EndService(ServiceName),
    /// Make a host's runner, which begins with `initial`.
    SpawnRunner {
        /// The host.
        node: NodeName,
        /// Its core.
        core: Box<RunnerCore>,
        /// The effects that its making asked for.
        initial: Vec<RunnerEffect>,
    },
    /// End a host's runner.
    EndRunner(NodeName),
    /// Tell a service.
    ToService(ServiceName, ServiceEvent),
    /// Have a service's actor answer with a copy.
    CopyService(ServiceName, Call),
    /// Tell a host's runner.
    ToRunner(NodeName, RunnerEvent),
    /// Tell the scheduler.
    ToScheduler(SchedulerEvent),
    /// Tell the membership.
    ToMembership(MembershipEvent),
    /// Have no certificate of this host count any more: it was forgotten.
    RevokeIdentity(NodeUid),
    /// Claim the leadership again; comes back as [`Event::LeadershipClaimed`].
    ClaimLeadership {
        /// Names it.
        number: ClaimNumber,
        /// The epoch to exceed.
        above: Epoch,
        /// The cluster to be, if the store knows no services and no hosts.
        cluster: ClusterId,
    },
    /// See whether the agent of a host answers at the address where it was known so far; comes back as
    /// [`Event::FirstLifeAnswered`] in any case.
    AskFirstLife {
        /// The admission that asks.
        number: AdmissionNumber,
        /// Where, and who has to answer.
        endpoint: Endpoint,
    },
    /// Answer a user.
    Answer(Call, Result<Accepted, Refused>),
    /// Answer who wanted a copy.
    AnswerCopy(Call, Result<Box<ServiceCore>, Refused>),
    /// Answer an agent that registers.
    AnswerRegistration(Call, Result<Registered, RegisterRefused>),
    /// Answer an agent that reports.
    Acknowledge(Call, ReportAck),
    /// Answer an operator.
    AnswerOperator(Call, Result<(), OperateRefused>),
    /// Send [`Event::Wake`] then, or earlier.
    WakeAt(MonoMs),
}
