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
            self.is_open = true;
            self.stream = client.stream(path, "text/event-stream").await.ok();
            // What has changed before the first event is there to be seen.
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
