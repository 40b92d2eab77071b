//! Events and effects of the core.

use std::{collections::BTreeSet, sync::Arc};

use shef_common::{
    ids::{ClusterId, ReplicaId},
    image::{ImageDigest, ImageRef},
    protocol::{Accepted, Assignment, LedgerDigest, Push, PushRefused},
    spec::Template,
};

use crate::{
    engine::{
        Container, CreateOrder, Created, EngineError, EngineEvent, EngineFacts, Listing, RestartPolicy,
        WantedImage,
    },
    health::{CheckFailure, Probe},
    reporter::Observed,
    supervisor::ledger::{LedgerWrite, NotWritten},
};

/// What happens to the supervisor.
#[derive(Debug)]
pub enum Event {
    /// The agent has started.
    Begin,
    /// A master has taken the host into this cluster.
    Joined(ClusterId),
    /// A master orders; the answer goes to `ticket`.
    Pushed {
        /// The caller that waits for the answer.
        ticket: u64,
        /// The order.
        push: Push,
    },
    /// The write of the ledger is durable, and the log has so many bytes; or it has failed.
    LedgerWritten(Result<u64, NotWritten>),
    /// A master knows that these are stopped.
    Acknowledged(Vec<ReplicaId>),
    /// A master that knows this host has answered.
    MasterAnswered,
    /// The engine sends an event.
    Happened(EngineEvent),
    /// The event stream has ended.
    WatchEnded(EngineError),
    /// The list that was asked for.
    Listed(Result<Listing, EngineError>),
    /// The engine said who it is, or did not.
    Identified(Result<EngineFacts, EngineError>),
    /// The reporter asks what a registration contains.
    Describe {
        /// The caller that waits for the answer.
        ticket: u64,
    },
    /// An operation was answered.
    Done {
        /// For which replica.
        replica: ReplicaId,
        /// What came of it.
        outcome: Outcome,
    },
    /// Networks that nothing needs were removed.
    NetworksRemoved(Result<(), EngineError>),
    /// The last lines that a replica's container wrote.
    Logs {
        /// Of which replica.
        replica: ReplicaId,
        /// What came of asking.
        outcome: Result<Vec<String>, EngineError>,
    },
    /// A health check has passed, has failed, or could not be made.
    Checked {
        /// Of which replica.
        replica: ReplicaId,
        /// Of which of its runs.
        run: u64,
        /// What came of it.
        outcome: Result<(), CheckFailure>,
    },
    /// An image was fetched, or could not be.
    Pulled {
        /// The image.
        wanted: WantedImage,
        /// How many bytes it had on the engine before the pull; `None`: it was not there.
        before: Result<Option<u64>, EngineError>,
        /// What came of it.
        outcome: Result<Option<ImageDigest>, EngineError>,
    },
    /// Time has passed.
    Tick,
}

/// What came of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// The container was made.
    Create(Result<Created, EngineError>),
    /// It was started.
    Start(Result<(), EngineError>),
    /// It was stopped.
    Stop(Result<(), EngineError>),
    /// It was removed.
    Remove(Result<(), EngineError>),
    /// The engine knows who starts it again.
    SetPolicy(Result<(), EngineError>),
    /// The containers that have its name or its label.
    Inspect(Result<Vec<Container>, EngineError>),
}

impl Outcome {
    pub(super) fn error(&self) -> Option<&EngineError> {
        match self {
            Self::Create(outcome) => outcome.as_ref().err(),
            Self::Start(outcome) | Self::Stop(outcome) | Self::Remove(outcome) | Self::SetPolicy(outcome) => {
                outcome.as_ref().err()
            }
            Self::Inspect(outcome) => outcome.as_ref().err(),
        }
    }
}

/// What the supervisor wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable and say so. Never two at once.
    WriteLedger(LedgerWrite),
    /// Answer a push.
    Answer {
        /// The call that waits for the answer.
        ticket: u64,
        /// The answer.
        verdict: Result<Accepted, PushRefused>,
    },
    /// Open the engine's event stream, in place of any other.
    Watch,
    /// List all containers of ours. Never two at once.
    List,
    /// Carry out one operation for one replica.
    Run {
        /// For which.
        replica: ReplicaId,
        /// What.
        operation: Operation,
    },
    /// Read the last lines that a replica's container wrote. Never two at once.
    Logs {
        /// Of which replica.
        replica: ReplicaId,
        /// Its container.
        id: String,
    },
    /// Remove the cluster's networks that are not needed and that no container is in. Never two at once, and
    /// not beside a create or a start.
    RemoveNetworks {
        /// Whose networks.
        cluster: ClusterId,
        /// The names of those that stay.
        needed: BTreeSet<String>,
    },
    /// Make one health check.
    Check(Probe),
    /// Fetch an image.
    Pull(WantedImage),
    /// No replica waits for this image any more.
    CancelPull(WantedImage),
    /// Note durably that shef has brought this image here: it may be removed once nothing needs it.
    NotePulled(ImageRef),
    /// Ask the engine who it is.
    Identify,
    /// Answer what a registration contains.
    Describe {
        /// The call that waits for the answer.
        ticket: u64,
        /// The answer.
        description: Description,
    },
    /// Tell the reporter what changed in this step. At most one a step, and the last effect of it.
    Report(Box<Observed>),
}

/// Carries out the supervisor's effects, one method per effect. The agent's
/// actor and the simulator's driver implement it and decide nothing.
pub trait EffectHandler {
    /// [`Effect::WriteLedger`]; the core waits for [`Event::LedgerWritten`].
    fn write_ledger(&mut self, write: LedgerWrite);
    /// [`Effect::Answer`]: a ticket is answered once.
    fn answer(&mut self, ticket: u64, verdict: Result<Accepted, PushRefused>);
    /// [`Effect::Watch`]; brings [`Event::Happened`] until [`Event::WatchEnded`].
    fn watch(&mut self);
    /// [`Effect::List`]; brings [`Event::Listed`].
    fn list(&mut self);
    /// [`Effect::Run`]; brings [`Event::Done`].
    fn run(&mut self, replica: ReplicaId, operation: Operation);
    /// [`Effect::Logs`]; brings [`Event::Logs`].
    fn read_logs(&mut self, replica: ReplicaId, id: String);
    /// [`Effect::RemoveNetworks`]; brings [`Event::NetworksRemoved`].
    fn remove_networks(&mut self, cluster: ClusterId, needed: BTreeSet<String>);
    /// [`Effect::Check`]; brings [`Event::Checked`].
    fn check(&mut self, probe: Probe);
    /// [`Effect::Pull`]: the engine is asked for the image, and then to fetch it. Brings [`Event::Pulled`],
    /// unless it is cancelled.
    fn pull(&mut self, wanted: WantedImage);
    /// [`Effect::CancelPull`].
    fn cancel_pull(&mut self, wanted: &WantedImage);
    /// [`Effect::NotePulled`].
    fn note_pulled(&mut self, image: ImageRef);
    /// [`Effect::Identify`]; brings [`Event::Identified`].
    fn identify(&mut self);
    /// [`Effect::Describe`]: a ticket is answered once.
    fn describe(&mut self, ticket: u64, description: Description);
    /// [`Effect::Report`].
    fn report(&mut self, observed: Observed);
}

impl Effect {
    /// Has `handler` carry out this effect.
    pub fn dispatch(self, handler: &mut impl EffectHandler) {
        match self {
            Self::WriteLedger(write) => handler.write_ledger(write),
            Self::Answer { ticket, verdict } => handler.answer(ticket, verdict),
            Self::Watch => handler.watch(),
            Self::List => handler.list(),
            Self::Run { replica, operation } => handler.run(replica, operation),
            Self::Logs { replica, id } => handler.read_logs(replica, id),
            Self::RemoveNetworks { cluster, needed } => handler.remove_networks(cluster, needed),
            Self::Check(probe) => handler.check(probe),
            Self::Pull(wanted) => handler.pull(wanted),
            Self::CancelPull(wanted) => handler.cancel_pull(&wanted),
            Self::NotePulled(image) => handler.note_pulled(image),
            Self::Identify => handler.identify(),
            Self::Describe { ticket, description } => handler.describe(ticket, description),
            Self::Report(observed) => handler.report(*observed),
        }
    }
}

/// The contents of a registration: the host's cluster, the accepted push and the assignments that it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The cluster, once joined.
    pub cluster: Option<ClusterId>,
    /// What was accepted last.
    pub accepted: Option<Accepted>,
    /// Everything it holds.
    pub holds: Vec<Assignment>,
    /// The digest of the assignments in its ledger.
    pub ledger: LedgerDigest,
    /// Whether that is known: the engine has shown its containers since.
    pub complete: bool,
    /// On a host without a cluster: the clusters of its containers, two at most.
    pub found: Vec<ClusterId>,
    /// For how long nothing was heard of a leader, neither an answer nor an order, in milliseconds.
    pub leader_silent_ms: u64,
}

/// One engine operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make the container.
    Create(Box<CreateOrder>),
    /// Start it.
    Start {
        /// The container.
        id: String,
        /// What it is made of, if that is known.
        template: Option<Arc<Template>>,
    },
    /// Stop it.
    Stop {
        /// The container.
        id: String,
        /// Seconds between the signal and the kill.
        grace_s: u32,
    },
    /// Remove it.
    Remove(String),
    /// Say who starts it again when its process ends.
    SetPolicy {
        /// The container.
        id: String,
        /// The one who starts it again.
        policy: RestartPolicy,
    },
    /// Look at it.
    Inspect {
        /// Its container, if that is known.
        known: Option<String>,
    },
}
