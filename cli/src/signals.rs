//! SIGTERM and SIGINT: the first stops gracefully within a bound, the second at once.

use std::{future::Future, time::Duration};

use shef_master::MasterHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Failure;

/// The longest a graceful stop may take.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The two signals that ask a process to end.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::because("cannot listen for signals", &error));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for either, and tells which.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Runs `stop` to its end, but no longer than [`STOP_LIMIT`] and not past a second signal.
    pub(crate) async fn stop_within(&mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::select! {
            () = stop => Ok(()),
            name = self.next() => Err(Failure::new(format!("{name} a second time: stopped at once"))),
            () = tokio::time::sleep(STOP_LIMIT) => {
                Err(Failure::new(format!("did not stop within {} s: stopped at once", STOP_LIMIT.as_secs())))
            }
        }
    }
}

/// Waits for a signal. A master whose store was restored from a backup meanwhile, or that may lead again
/// after another one, is started again from the store, in this process: there may be nothing else to start
/// it.
pub(crate) async fn until_signal(
    signals: &mut StopSignals,
    mut master: MasterHandle,
) -> Result<(&'static str, MasterHandle), Failure> {
    loop {
        tokio::select! {
            name = signals.next() => return Ok((name, master)),
            () = master.must_start_again() => {}
        }
        log::warn!("starting again from what is stored; containers go on running");
        let again = master.start_again().await;
        master = again.map_err(|error| Failure::because("the master does not start again", &error))?;
        log::info!(address:% = master.address(); "master is up again");
    }
}
