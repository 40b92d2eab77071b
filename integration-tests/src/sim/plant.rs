//! Bugs put in on purpose, each in the driver's place where a core or a shell
//! could have it: what proves that the simulator would find them.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// docker-shef 1: a removal takes the first managed container of the host.
    RemovesTheFirst,
    /// docker-shef 2: told that the master does not know it, an agent removes all it has.
    DeletesOnAbsence,
    /// docker-shef 2, the master's half: a host that an emptied store does not know is told to run nothing.
    SkipsImport,
    /// docker-shef 3: a lost host's replicas are placed again at every sweep.
    MigratesAgain,
    /// docker-shef 4: what fails is tried again at once, for ever.
    RetriesAtOnce,
    /// docker-shef 5: hosts are told before the record is durable.
    OrdersBeforeCommit,
    /// docker-shef 6: the store takes writes without looking at versions and fences.
    WritesUnchecked,
    /// docker-shef 7: one report that does not come means that the host is dead.
    OneLostReport,
    /// A host that is suspected counts as down.
    SuspectIsDown,
    /// A probe that could not be made for want of a socket counts as one without an answer.
    NoSocketIsSilence,
    /// docker-shef 10: a service is gone while hosts still hold its containers.
    DeletedWhileHeld,
    /// A request is acknowledged before its record is durable.
    AcknowledgesEarly,
    /// An agent follows a leader older than one it has accepted.
    AcceptsStaleFence,
    /// An agent applies a change to a ledger that it does not build on.
    WrongBase,
    /// An agent starts with an empty ledger.
    ForgetsLedger,
    /// The original goes before its replacement runs.
    RemovesOriginalFirst,
    /// A drained host's replicas are removed before others run in their place.
    DrainStopsFirst,
    /// What a forgotten host brings when it is back is taken over.
    ImportsForgotten,
    /// An agent does not notice that a master answers, and stops what is to run on.
    MissesMaster,
    /// A replica that crashes counts as good in between.
    CrashesAreGood,
    /// A rollback leaves those slots as they are that were replaced already.
    ForgetsReplaced,
    /// The scheduler is not told of the ports that a replica publishes.
    PortTwice,
    /// The scheduler is not told of the memory that a replica reserves.
    OverReserves,
    /// The scheduler is not told of the host that has a replica's volume.
    StickyMoves,
    /// An update that starts first knows no bound.
    SurgesTooMuch,
    /// An update that stops first knows no bound.
    StopsTooMany,
    /// A canary is promoted though nobody has said so.
    CanaryGoesOn,
}

impl Plant {
    /// Every one.
    pub const ALL: [Self; 27] = [
        Self::RemovesTheFirst,
        Self::DeletesOnAbsence,
        Self::SkipsImport,
        Self::MigratesAgain,
        Self::RetriesAtOnce,
        Self::OrdersBeforeCommit,
        Self::WritesUnchecked,
        Self::OneLostReport,
        Self::SuspectIsDown,
        Self::NoSocketIsSilence,
        Self::DeletedWhileHeld,
        Self::AcknowledgesEarly,
        Self::AcceptsStaleFence,
        Self::WrongBase,
        Self::ForgetsLedger,
        Self::RemovesOriginalFirst,
        Self::DrainStopsFirst,
        Self::ImportsForgotten,
        Self::MissesMaster,
        Self::CrashesAreGood,
        Self::ForgetsReplaced,
        Self::PortTwice,
        Self::OverReserves,
        Self::StickyMoves,
        Self::SurgesTooMuch,
        Self::StopsTooMany,
        Self::CanaryGoesOn,
    ];
}
