//! The thread that writes the audit log: whatever waits is written and made durable together.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use shef_common::clock::{DurationMs, MonoMs, Now, WallMs};
use tokio::sync::oneshot;

use super::{
    Shared,
    file::LogFile,
    line::{AuditEvent, AuditLine},
};

/// How often the thread looks at what is counted, and at a disk that took nothing.
const TICK: Duration = Duration::from_secs(1);
/// How many lines wait for the disk. Beyond them the queue fills up, and then lines are lost.
const WAITING: usize = 4_096;
/// How many lines are written at once.
const BATCH: usize = 256;

/// What the thread is told.
pub(super) enum Order {
    /// To write a line; who waits is told once it is durable.
    Write(WallMs, AuditEvent, Option<oneshot::Sender<()>>),
    /// To write what it has, and to end.
    Stop {
        /// Is told then.
        told: oneshot::Sender<()>,
        /// Whether each request that may have changed something has its line.
        is_tidy: bool,
    },
}

struct Waiting {
    time: WallMs,
    event: AuditEvent,
    told: Option<oneshot::Sender<()>>,
}

pub(super) struct Writer {
    file: LogFile,
    shared: Arc<Shared>,
    waiting: VecDeque<Waiting>,
    /// How many of those that were lost are in the log.
    told_lost: u64,
    /// When the disk last took nothing; `None`: it takes lines.
    failed_at: Option<MonoMs>,
}

impl Writer {
    /// Goes on behind what `file` holds, and tells so.
    pub fn new(file: LogFile, shared: Arc<Shared>) -> Self {
        let now = Now::read().wall;
        let mut waiting = VecDeque::new();
        let mut first = |event| waiting.push_back(Waiting { time: now, event, told: None });
        if let Some(closing) = file.closing() {
            first(closing);
        }
        first(AuditEvent::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tidy: file.was_stopped(),
        });
        Self { file, shared, waiting, told_lost: 0, failed_at: None }
    }

    /// Until the master stops.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let mut order = None;
            if self.waiting.len() >= WAITING {
                std::thread::sleep(TICK);
            } else {
                let is_idle = self.waiting.is_empty() || self.is_failing();
                match orders.recv_timeout(if is_idle { TICK } else { Duration::ZERO }) {
                    Ok(first) => order = Some(first),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return self.end(None, false),
                }
            }
            while let Some(next) = order {
                match next {
                    Order::Write(time, event, told) => {
                        // Nobody waits for a disk that takes nothing.
                        let told = told.filter(|_| !self.is_failing());
                        self.waiting.push_back(Waiting { time, event, told });
                    }
                    Order::Stop { told, is_tidy } => return self.end(Some(told), is_tidy),
                }
                order = (self.waiting.len() < WAITING).then(|| orders.try_recv().ok()).flatten();
            }
            let now = Now::read();
            let counted = self.shared.refusals().counted(now, false);
            self.add(now.wall, counted);
            if self.failed_at.is_none_or(|failed| now.mono - failed >= DurationMs::from(TICK)) {
                self.write(now);
            }
        }
    }

    const fn is_failing(&self) -> bool {
        self.failed_at.is_some()
    }

    fn add(&mut self, time: WallMs, events: impl IntoIterator<Item = AuditEvent>) {
        self.waiting.extend(events.into_iter().map(|event| Waiting { time, event, told: None }));
    }

    fn end(mut self, told: Option<oneshot::Sender<()>>, is_tidy: bool) {
        let now = Now::read();
        let counted = self.shared.refusals().counted(now, true);
        self.add(now.wall, counted);
        self.add(now.wall, is_tidy.then_some(AuditEvent::Stopped));
        while !self.waiting.is_empty() && self.write(now) {}
        if !self.waiting.is_empty() {
            let (lines, lost) = (self.waiting.len(), self.shared.state().lost - self.told_lost);
            let kinds = kinds(self.waiting.iter().map(|waiting| &waiting.event));
            log::error!(
                path:% = self.file.path().display(), lines, kinds, lost;
                "the audit log has not taken its last lines: they are gone, and the next master's first line \
                 tells of it by tidy = false alone"
            );
        }
        // The next master may open it.
        drop(self);
        if let Some(told) = told {
            let _ = told.send(());
        }
    }

    /// Writes a batch of what waits; whether the disk took it.
    fn write(&mut self, now: Now) -> bool {
        let lost = self.shared.state().lost;
        if lost > self.told_lost && self.waiting.len() < WAITING {
            self.add(now.wall, [AuditEvent::Lost { count: lost - self.told_lost }]);
            self.told_lost = lost;
        }
        if self.waiting.is_empty() {
            return true;
        }
        let count = self.waiting.len().min(BATCH);
        let batch = self.waiting.iter().take(count).map(|waiting| (waiting.time, waiting.event.clone()));
        match self.file.append(batch) {
            Ok(lines) => {
                if self.failed_at.take().is_some() {
                    log::info!("the audit log is written again");
                }
                let told: Vec<_> = self.waiting.drain(..count).filter_map(|waiting| waiting.told).collect();
                self.shared.written(lines.into_iter().map(Arc::new));
                told.into_iter().for_each(|told| _ = told.send(()));
                true
            }
            Err(error) => {
                self.failed(&error, now.mono);
                false
            }
        }
    }

    fn failed(&mut self, error: &io::Error, now: MonoMs) {
        if self.failed_at.replace(now).is_none() {
            log::error!(
                path:% = self.file.path().display(), error:%;
                "the audit log cannot be written: requests are served, and their lines wait; see audit in \
                 GET /v1/cluster"
            );
        }
        self.shared.state().error.get_or_insert_with(|| (error.to_string(), Now::read().wall));
        // The lines wait on, and nobody for them. Whoever waited finds the error told.
        self.waiting.iter_mut().for_each(|waiting| drop(waiting.told.take()));
    }
}

/// How many kinds of lines are named.
const MOST_KINDS: usize = 10;

/// How many lines of which kind, the most first.
fn kinds<'a>(events: impl Iterator<Item = &'a AuditEvent>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    events.for_each(|event| *counts.entry(event.kind()).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = counts.len().saturating_sub(MOST_KINDS);
    let named = counts.iter().take(MOST_KINDS).map(|(kind, count)| format!("{count} {kind}"));
    let more = (more > 0).then(|| format!("and {more} further kinds"));
    named.chain(more).collect::<Vec<_>>().join(", ")
}

/// A line that is durable.
pub(super) type Written = Arc<AuditLine>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditCaller, AuditedRequest};

    #[test]
    fn lines_that_are_gone_are_told_by_number_and_kind() {
        let request = |call: &str| AuditEvent::Request {
            request: AuditedRequest {
                by: AuditCaller::Anybody,
                from: None,
                method: "PUT".to_owned(),
                call: call.to_owned(),
                object: BTreeMap::new(),
                status: Some(201),
                code: None,
            },
        };
        let mut events =
            vec![AuditEvent::Stopped, request("/v1/tokens/{name}"), request("/v1/tokens/{name}")];
        assert_eq!(kinds(events.iter()), "2 PUT /v1/tokens/{name}, 1 stopped");
        events.extend((0..20).map(|n| request(&n.to_string())));
        assert!(kinds(events.iter()).ends_with("and 12 further kinds"), "{}", kinds(events.iter()));
    }
}
