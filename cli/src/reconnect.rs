//! What is followed is followed on when the master was away.

use std::{fmt::Display, time::Duration};

/// Between two tries: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

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
    pub(crate) async fn wait(&mut self, why: impl Display) {
        if !self.is_away {
            eprintln!("==> {why}; asking again until it answers");
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
