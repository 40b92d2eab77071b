//! How a replica fares, in one word.

/// The class of a replica that is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaClass {
    /// Runs the generation of its slot, is healthy and past its trial, on a host that is not known to be
    /// lost.
    Ready,
    /// Is ready but for its trial: nothing is removed for it yet.
    OnTrial,
    /// Is to run that generation, on such a host, and is not ready: unhealthy, or not reported yet.
    Starting,
    /// Has failed.
    Failed,
    /// Runs another generation, for all that is known.
    Outdated,
    /// Runs the generation of its slot, and is to run elsewhere: its host is drained or excluded, or a
    /// rebalance moves it.
    Migrating,
    /// Was placed by this master on a host that has been out of reach for
    /// [`AWAY_PATIENCE`](super::AWAY_PATIENCE), and was not begun.
    Unreachable,
    /// Its host is down.
    Lost,
}
