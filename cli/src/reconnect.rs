//! What is followed is followed on when the master was away.

use std::time::Duration;

use crate::client::CallError;

/// Between two tries: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Why an answer that goes on has come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// It has broken off, or could not be had.
    #[error(transparent)]
    Broken(#[from] CallError),
    /// The master has ended it.
    #[error("{url} has ended")]
    Ended {
        /// What was asked for.
        url: String,
    },
    /// The master has ended what never ends while it runs.
    #[error("{url} has ended: the master stops")]
    Stopped {
        /// What was asked for.
        url: String,
    },
    /// Nothing has come for too long.
    #[error("{url} has said nothing for {} s", .limit.as_secs())]
    Silent {
        /// What was asked for.
        url: String,
        /// How long nothing came.
        limit: Duration,
    },
}

/// Asks again and again, and says so: on standard error, once for each time that the master is away.
#[derive(Debug)]
pub(crate) struct Reconnect {
    pause: Duration,
    is_away: bool,
}

impl Reconnect {
    /// The master is there.
    pub(crate) const fn new() -> Self {
        Self { pause: PAUSE.0, is_away: false }
    }

    /// It does not answer, or has broken off, for this reason: waits until it is to be asked again.
    pub(crate) async fn wait(&mut self, why: impl Into<StreamEnd>) {
        if !self.is_away {
            eprintln!("==> {}; asking again until it answers", why.into());
        }
        self.is_away = true;
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// The master answers again.
    pub(crate) fn answered(&mut self) {
        if self.is_away {
            eprintln!("==> it answers again; going on");
        }
        *self = Self::new();
    }
}
