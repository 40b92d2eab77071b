//! Streams go on after the master was away.

use std::time::Duration;

use crate::{client::CallError, say};

/// Between two tries: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Why an answer that goes on has come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// It has broken off, or could not be had.
    #[error(transparent)]
    Broken(#[from] CallError),
    /// It has ended: the master stops, was killed, or has no more to say.
    #[error("{url} has ended")]
    Ended {
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
            say::note(format_args!("==> {}; asking again until it answers", why.into()));
        }
        self.is_away = true;
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// The master answers again.
    pub(crate) fn answered(&mut self) {
        if self.is_away {
            say::note("==> it answers again; going on");
        }
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_stream_that_has_ended_only_that_is_said() {
        let end = StreamEnd::Ended { url: "http://h:1/v1/events".to_owned() };
        assert_eq!(end.to_string(), "http://h:1/v1/events has ended", "its master may stop or be killed");
    }
}
