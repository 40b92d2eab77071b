//! Wakes a waiting command when something has changed, and ends the waiting when its user stops it.

use std::{future::Future, time::Duration};

use futures_util::StreamExt as _;

use crate::{
    Failure,
    client::{Client, Parts},
    signals::StopSignals,
};

/// The events about what is waited for. Without them the command looks by time alone.
#[derive(Default)]
pub(super) struct Watch {
    is_open: bool,
    stream: Option<Parts>,
}

impl Watch {
    /// Waits for `rest`, as a rollout makes many events, and then for an event at `path`, but no longer than
    /// `limit`.
    pub(super) async fn wait(&mut self, client: &Client, path: &str, (rest, limit): (Duration, Duration)) {
        tokio::time::sleep(rest).await;
        if !self.is_open {
            let opening = client.stream(path, "text/event-stream");
            // What has changed before the first event is there to be seen.
            if let Ok(opened) = tokio::time::timeout(limit, opening).await {
                *self = Self { is_open: true, stream: opened.ok() };
            }
            return;
        }
        let Some(stream) = &mut self.stream else { return tokio::time::sleep(limit).await };
        match tokio::time::timeout(limit, stream.next()).await {
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(Some(Err(_)) | None) => *self = Self::default(),
        }
    }
}

/// Waits as long as its user lets it; `on_its_own` says what goes on and how to follow it.
///
/// # Errors
/// Those of `waiting`, or that it was stopped.
pub(crate) async fn unless_stopped<T>(
    waiting: impl Future<Output = Result<T, Failure>>,
    on_its_own: &str,
) -> Result<T, Failure> {
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        outcome = waiting => outcome,
        name = signals.next() => Err(Failure::new(format!("{name}: stopped waiting; {on_its_own}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use shef_common::clock::{DurationMs, Now};

    use super::*;

    #[actix_rt::test]
    async fn a_master_that_does_not_answer_keeps_nobody_longer_than_wanted() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(format!("http://{}", silent.local_addr().unwrap()));
        let (mut watch, started) = (Watch::default(), Now::read().mono);
        for _ in 0..2 {
            watch.wait(&client, "/v1/events", (Duration::ZERO, Duration::from_millis(50))).await;
        }
        assert!(Now::read().mono - started < DurationMs(5_000));
    }
}
