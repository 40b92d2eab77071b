//! The ring as the view writes it and readers follow it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use shef_common::{clock::WallMs, ids::Epoch};
use tokio::sync::watch;

use super::{CAPACITY, Change, EventId, Read, Ring};

/// The latest events, for one writer and many readers.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    last: watch::Sender<EventId>,
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Mutex::new(Ring::new(CAPACITY)), last: watch::Sender::default() }
    }
}

impl Events {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leadership begins.
    pub fn begin(&self, epoch: Epoch) {
        let mut ring = self.ring();
        ring.begin(epoch);
        self.last.send_replace(ring.last());
    }

    /// Publishes the events of these changes.
    pub fn publish(&self, time: WallMs, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut ring = self.ring();
        changes.into_iter().for_each(|change| ring.push(time, change));
        // Under the lock, so that the numbers come out in their order.
        self.last.send_replace(ring.last());
    }

    /// What came after `after`, at most `limit` events.
    #[must_use]
    pub fn read(&self, after: EventId, limit: usize) -> Read {
        self.ring().read(after, limit)
    }

    /// Where the latest event stands, now and later.
    #[must_use]
    pub fn last(&self) -> watch::Receiver<EventId> {
        self.last.subscribe()
    }
}
