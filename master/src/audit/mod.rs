//! Who has done what to what: a log whose lines follow each other, so that none can be changed or taken out
//! unnoticed.
//!
//! Invariants:
//!
//! - A request that has changed something is answered when its line is durable, or when the disk has not
//!   taken the line: then that is told, and the line waits.
//! - A line that could not be kept is counted, and the count is in the log.
//! - No line holds a body, a query, a token or a secret.

mod callers;
mod file;
mod line;
mod refusals;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use ring::hmac;
use shef_common::clock::{Now, WallMs};
use tokio::sync::{oneshot, watch};

use self::{
    callers::Callers,
    file::LogFile,
    refusals::Refusals,
    writer::{Order, Writer, Written},
};
pub use self::{
    file::{AUDIT_LOG, Kept, read_log},
    line::{AuditCaller, AuditEvent, AuditLine, AuditedRequest, Link},
    verify::{Broken, ClosedOff, Walked, walk},
};

/// How many lines are kept for readers of the API.
const RECENT: usize = 10_000;
/// How many lines may be on their way to the thread that writes.
const QUEUE: usize = 1_024;
/// How long a request waits for its line.
const WAIT: Duration = Duration::from_secs(5);

/// What writer and readers share.
struct Shared {
    state: Mutex<State>,
    refusals: Mutex<Refusals>,
    callers: Mutex<Callers>,
    /// The number of the latest line, for readers who follow.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    lost: u64,
    error: Option<(String, WallMs)>,
    recent: VecDeque<Written>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self, lines: impl Iterator<Item = Written>) {
        let mut state = self.state();
        state.error = None;
        for line in lines {
            state.last = line.n;
            if state.recent.len() == RECENT {
                state.recent.pop_front();
            }
            state.recent.push_back(line);
        }
        // Under the lock, so that the numbers come out in their order.
        self.last.send_replace(state.last);
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct AuditHealth {
    /// The number of the latest line.
    last: u64,
    /// How many lines could not be kept since the master's start.
    lost: u64,
    /// Why the log cannot be written now.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Since when it cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<WallMs>,
}

/// The answer to a reader who has read up to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesRead {
    /// How many lines between are not kept for readers any more; `None` within: it cannot be said how many.
    pub skipped: Option<Option<u64>>,
    /// The later lines, the oldest first.
    pub lines: Vec<Arc<AuditLine>>,
    /// Up to which line the reader has read with this.
    pub at: u64,
}

/// The audit log of this master.
pub struct Audit {
    queue: SyncSender<Order>,
    shared: Arc<Shared>,
    /// How many requests are to have a line that they do not have yet.
    unfinished: Arc<AtomicUsize>,
}

/// A request that is to have a line; dropped once it has it.
pub struct Unfinished(Arc<AtomicUsize>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Audit {
    /// Opens the log in `directory` and begins to write.
    ///
    /// # Errors
    /// What the system says, or that another master writes it.
    pub fn start(directory: &Path, kept: Kept, key: Option<hmac::Key>) -> io::Result<Self> {
        let mut file = LogFile::open(directory, kept, key)?;
        let recent = file.take_recent().into_iter().map(Arc::new).collect();
        let state = Mutex::new(State { last: file.last(), recent, ..State::default() });
        let last = watch::Sender::new(file.last());
        let (refusals, callers) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { state, refusals, callers, last });
        log::info!(after = file.last(); "the audit log goes on");
        let writer = Writer::new(file, shared.clone());
        let (queue, orders) = sync_channel(QUEUE);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&orders))?;
        Ok(Self { queue, shared, unfinished: Arc::default() })
    }

    /// A request has begun that is to have a line.
    pub fn begun(&self) -> Unfinished {
        self.unfinished.fetch_add(1, SeqCst);
        Unfinished(self.unfinished.clone())
    }

    /// Whether a request of `from` that changed nothing has a line of its own. Otherwise it is counted.
    pub fn has_a_line(&self, from: Option<IpAddr>) -> bool {
        self.shared.refusals().has_a_line(from, Now::read())
    }

    /// Has a line written, and does not wait for it.
    pub fn note(&self, time: WallMs, event: AuditEvent) {
        self.send(time, event, None);
    }

    /// Has a line written, and waits until it is durable. Waits no longer than the disk takes lines.
    pub async fn write(&self, time: WallMs, event: AuditEvent) {
        let (told, durable) = oneshot::channel();
        self.send(time, event, Some(told));
        if tokio::time::timeout(WAIT, durable).await.is_err() {
            log::error!("the audit log has not taken a line within {} s", WAIT.as_secs());
        }
    }

    fn send(&self, time: WallMs, event: AuditEvent, told: Option<oneshot::Sender<()>>) {
        match self.queue.try_send(Order::Write(time, event, told)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let lost = {
                    let mut state = self.shared.state();
                    state.lost += 1;
                    state.lost
                };
                if lost.is_power_of_two() {
                    log::error!(lost; "the audit log has lost lines: it does not take them in time");
                }
            }
        }
    }

    /// The state of the log.
    #[must_use]
    pub fn health(&self) -> AuditHealth {
        let state = self.shared.state();
        let (error, since) = state.error.clone().unzip();
        AuditHealth { last: state.last, lost: state.lost, error, since }
    }

    /// The number of the latest line, now and later.
    #[must_use]
    pub fn last(&self) -> watch::Receiver<u64> {
        self.shared.last.subscribe()
    }

    /// At most `limit` of the lines after the line `after`, the oldest first.
    #[must_use]
    pub fn after(&self, after: u64, limit: usize) -> LinesRead {
        let state = self.shared.state();
        // A line that is not written yet is one of another master's log.
        let is_known = after <= state.last;
        let first = state.recent.front().map_or(state.last + 1, |line| line.n);
        let skipped = match is_known {
            false => Some(None),
            true if after + 1 < first => Some(Some(first - after - 1)),
            true => None,
        };
        let later = state.recent.iter().filter(|line| !is_known || line.n > after);
        let lines: Vec<_> = later.take(limit).cloned().collect();
        let at = lines.last().map_or(state.last, |line| line.n);
        LinesRead { skipped, lines, at }
    }

    /// Whether the holder of the token `id` may have another line, if it makes so many changes a minute at
    /// most.
    #[must_use]
    pub fn has_room(&self, id: &str, per_minute: u32) -> bool {
        self.shared.callers().has_room(id, per_minute, Now::read().mono)
    }

    /// The holder of the token `id` has another line.
    pub fn counts(&self, id: &str, per_minute: u32) {
        self.shared.callers().count(id, per_minute, Now::read().mono);
    }

    /// When a known caller made the latest of the requests that are kept for readers.
    #[must_use]
    pub fn newest(&self) -> Option<WallMs> {
        let is_known = |line: &&Written| match &line.event {
            AuditEvent::Request { request } => match request.by {
                AuditCaller::Socket { .. }
                | AuditCaller::Token { .. }
                | AuditCaller::Session { .. }
                | AuditCaller::Host { .. } => true,
                AuditCaller::Anybody | AuditCaller::Unknown { .. } => false,
            },
            AuditEvent::Repeated { .. }
            | AuditEvent::Lost { .. }
            | AuditEvent::Removed { .. }
            | AuditEvent::TakenOver { .. }
            | AuditEvent::Started { .. }
            | AuditEvent::Stopped
            | AuditEvent::ClosedOff { .. } => false,
        };
        self.shared.state().recent.iter().filter(is_known).map(|line| line.time).max()
    }

    /// At most `limit` of the latest lines before the line `before`, the latest first.
    #[must_use]
    pub fn latest(&self, before: Option<u64>, limit: usize) -> Vec<Arc<AuditLine>> {
        let state = self.shared.state();
        let earlier = state.recent.iter().rev().filter(|line| before.is_none_or(|before| line.n < before));
        earlier.take(limit).cloned().collect()
    }

    /// Writes what is left, and tells that the master has stopped; unless a request that may have changed
    /// something has no line yet.
    pub async fn stop(&self) {
        let (told, ended) = oneshot::channel();
        let (queue, is_tidy) = (self.queue.clone(), self.unfinished.load(SeqCst) == 0);
        let stopped = async {
            // The queue may be full.
            let send = move || queue.send(Order::Stop { told, is_tidy }).is_ok();
            tokio::task::spawn_blocking(send).await.unwrap_or(false) && ended.await.is_ok()
        };
        if tokio::time::timeout(WAIT, stopped).await != Ok(true) {
            log::error!("the audit log has not taken its last lines within {} s", WAIT.as_secs());
        }
    }
}
