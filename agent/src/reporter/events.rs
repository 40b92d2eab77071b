//! What happens to the reporter, and what it wants done.

use shef_common::{
    clock::DurationMs,
    ids::{BootId, ClusterId, NodeName, ReplicaId},
    protocol::{Push, Registered, Report, ReportAck},
};

use super::messages::Observed;
use crate::engine::EngineFacts;

/// What a reporter is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host.
    pub node: NodeName,
    /// This run of the agent.
    pub boot: BootId,
    /// Where it listens.
    pub agent_url: String,
    /// How many masters there are to choose from; at least one.
    pub masters: usize,
    /// How long changes are gathered.
    pub debounce: DurationMs,
    /// Spreads the heartbeats of many hosts.
    pub seed: u64,
}

/// What happens to the reporter.
#[derive(Debug)]
pub enum Event {
    /// The agent has started.
    Begin,
    /// The supervisor reports changes.
    Observed(Box<Observed>),
    /// A registration was answered.
    Registered(Result<Registered, Failure>),
    /// A report was answered.
    Reported {
        /// The number of the report.
        seq: u64,
        /// With what.
        outcome: Result<ReportAck, Failure>,
    },
    /// The supervisor has accepted or refused the orders that came with an answer.
    PushApplied,
    /// Time has passed.
    Tick,
}

/// Why a call to a master failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or that of a master that fails, starts, or does not lead.
    Unreachable,
    /// The master does not take it now: it is too busy, or the message too large.
    Later {
        /// After how long the master wants to be asked again.
        retry_after: Option<DurationMs>,
    },
    /// The master does not want it.
    Refused,
}

/// What the reporter wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Register with this master.
    Register {
        /// The one of the masters.
        master: usize,
        /// What is known of the engine.
        facts: Option<EngineFacts>,
    },
    /// Send this report.
    Report {
        /// To which of the masters.
        master: usize,
        /// What to say.
        report: Box<Report>,
    },
    /// Tell the supervisor that the host belongs to this cluster.
    Joined(ClusterId),
    /// Tell the supervisor that the master knows these are stopped.
    Acknowledged(Vec<ReplicaId>),
    /// Tell the supervisor that a master that knows this host has answered.
    MasterAnswered,
    /// Hand these orders to the supervisor as if they had been posted; brings [`Event::PushApplied`].
    ApplyPush(Box<Push>),
}

/// Carries out the reporter's effects, one method per effect. The agent's actor
/// and the simulator's driver implement it and decide nothing.
pub trait EffectHandler {
    /// [`Effect::Register`]; brings [`Event::Registered`].
    fn register(&mut self, master: usize, facts: Option<EngineFacts>);
    /// [`Effect::Report`]; brings [`Event::Reported`].
    fn report(&mut self, master: usize, report: Box<Report>);
    /// [`Effect::Joined`].
    fn joined(&mut self, cluster: ClusterId);
    /// [`Effect::Acknowledged`].
    fn acknowledged(&mut self, replicas: Vec<ReplicaId>);
    /// [`Effect::MasterAnswered`].
    fn master_answered(&mut self);
    /// [`Effect::ApplyPush`]; brings [`Event::PushApplied`].
    fn apply_push(&mut self, push: Push);
}

impl Effect {
    /// Has `handler` carry out this effect.
    pub fn dispatch(self, handler: &mut impl EffectHandler) {
        match self {
            Self::Register { master, facts } => handler.register(master, facts),
            Self::Report { master, report } => handler.report(master, report),
            Self::Joined(cluster) => handler.joined(cluster),
            Self::Acknowledged(replicas) => handler.acknowledged(replicas),
            Self::MasterAnswered => handler.master_answered(),
            Self::ApplyPush(push) => handler.apply_push(*push),
        }
    }
}
