//! A store in memory, with the faults that real ones have, for tests and the simulator.
//!
//! It keeps the same promises as the real ones (the conformance suite says so), and answers at once: the test
//! decides about time.

use std::{
    collections::{BTreeMap, VecDeque},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use shef_common::ids::{ClusterId, Epoch, Fence, LeaderId, Version};

use super::{
    Backup, Key, LeadOutcome, Leadership, Look, Record, Store, StoreError, StoreFuture, Write, WriteOutcome,
    ahead_of_other_stores, epoch_above, epoch_before_load, withhold,
};

/// What happens to the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused; nothing happens.
    Refuse,
    /// It is carried out, and the answer is lost.
    UnconfirmedDone,
    /// It is lost, and nobody knows.
    UnconfirmedNotDone,
}

/// What the store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    lead: Option<(ClusterId, Fence)>,
    records: BTreeMap<Key, (Version, Bytes)>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// The states before the last calls that changed it, oldest first, at most [`HISTORY`].
    history: VecDeque<State>,
    faults: VecDeque<Fault>,
    /// Refuses everything while set.
    away: bool,
    /// Calls so far.
    calls: u64,
}

/// How many changes [`FakeStore::lose_tail`] can take back.
pub const HISTORY: usize = 64;

/// A store in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct FakeStore {
    inner: Arc<Mutex<Inner>>,
}

impl FakeStore {
    /// An empty one, without faults.
    pub fn new() -> Self {
        Self::default()
    }
    /// The next calls meet these faults, one each.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }
    /// Refuses every call from now on, or no longer.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }
    /// Forgets everything, as FLUSHALL or a lost volume does.
    pub fn empty(&self) {
        self.lock().state = State::default();
    }
    /// Takes back the last `changes` calls that changed something (at most
    /// [`HISTORY`]), as a crash without fsync does.
    pub fn lose_tail(&self, changes: usize) {
        let mut inner = self.lock();
        for _ in 0..changes {
            if let Some(state) = inner.history.pop_back() {
                inner.state = state;
            }
        }
    }
    /// What is stored now, in the order of the keys.
    pub fn records(&self) -> Vec<Record> {
        self.lock().state.all()
    }
    /// How many calls there have been.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, act: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let inner = &mut *self.lock();
        inner.calls += 1;
        let fault = inner.faults.pop_front();
        if inner.away || fault == Some(Fault::Refuse) {
            return Err(StoreError::Unavailable { why: "the fake store was told to refuse".into() });
        }
        if fault == Some(Fault::UnconfirmedNotDone) {
            return Err(StoreError::Unconfirmed { why: "the fake store was told to lose the call".into() });
        }
        let before = inner.state.clone();
        let result = act(&mut inner.state);
        if inner.state != before {
            inner.history.push_back(before);
            if inner.history.len() > HISTORY {
                inner.history.pop_front();
            }
        }
        if fault == Some(Fault::UnconfirmedDone) {
            return Err(StoreError::Unconfirmed { why: "the fake store was told to lose the answer".into() });
        }
        result
    }
}

impl State {
    fn all(&self) -> Vec<Record> {
        let record = |(key, (version, value)): (&Key, &(Version, Bytes))| Record {
            key: key.clone(),
            version: *version,
            value: value.clone(),
        };
        self.records.iter().map(record).collect()
    }

    fn check(&self, fence: &Fence) -> Result<(), StoreError> {
        match &self.lead {
            None => Err(StoreError::Emptied),
            Some((_, stored)) if !fence.admits_over(stored) => {
                Err(StoreError::Fenced { stored: stored.clone() })
            }
            Some(_) => Ok(()),
        }
    }

    fn lead(
        &mut self,
        leader: &LeaderId,
        at_least: Epoch,
        cluster_if_new: &ClusterId,
    ) -> Result<LeadOutcome, StoreError> {
        let was_empty = self.lead.is_none();
        let (cluster, epoch) = match &self.lead {
            Some((cluster, fence)) if self.records.keys().any(Key::binds_cluster) => {
                (cluster.clone(), fence.epoch)
            }
            Some((_, fence)) => (cluster_if_new.clone(), fence.epoch),
            None => (cluster_if_new.clone(), Epoch(0)),
        };
        let fence = Fence { epoch: epoch_above(epoch, at_least)?, leader: leader.clone() };
        self.lead = Some((cluster.clone(), fence.clone()));
        Ok(LeadOutcome { cluster, fence, was_empty, records: self.all() })
    }

    fn stored(&self, key: &Key) -> Option<(Version, &Bytes)> {
        self.records.get(key).map(|(version, value)| (*version, value))
    }

    fn write(&mut self, writes: &[Write]) -> Vec<WriteOutcome> {
        let mut outcomes: Vec<_> =
            writes.iter().map(|write| write.outcome(self.stored(&write.key))).collect();
        withhold(writes, &mut outcomes);
        for (write, _) in writes.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == WriteOutcome::Done)
        {
            match &write.value {
                Some(value) => self.records.insert(write.key.clone(), (write.version_after(), value.clone())),
                None => self.records.remove(&write.key),
            };
        }
        outcomes
    }
}

impl Store for FakeStore {
    fn describe(&self) -> String {
        "a fake store in memory".into()
    }

    fn lead<'a>(
        &'a self,
        leader: &'a LeaderId,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome> {
        Box::pin(ready(self.call(|state| state.lead(leader, at_least, cluster_if_new))))
    }

    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, Leadership> {
        Box::pin(ready(self.call(|state| {
            state.check(fence)?;
            let led = state.lead(&fence.leader, at_least.max(fence.epoch), cluster_if_new)?;
            Ok(Leadership { cluster: led.cluster, fence: led.fence })
        })))
    }

    fn commit<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        writes: &'a [Write],
    ) -> StoreFuture<'a, Vec<WriteOutcome>> {
        Box::pin(ready(self.call(|state| {
            state.check(fence)?;
            if state.lead.as_ref().is_some_and(|(_, stored)| stored != fence) {
                state.lead = Some((cluster.clone(), fence.clone()));
            }
            Ok(state.write(writes))
        })))
    }

    fn look(&self) -> StoreFuture<'_, Look> {
        Box::pin(ready(self.call(|state| {
            let cluster = state.lead.as_ref().map(|(cluster, _)| cluster.clone());
            Ok(Look::of(cluster, state.all()))
        })))
    }

    fn authority(&self) -> StoreFuture<'_, Option<Record>> {
        let is_it = |record: &Record| record.key == Key::Authority;
        Box::pin(ready(self.call(|state| Ok(state.all().into_iter().find(is_it)))))
    }

    fn check<'a>(&'a self, fence: &'a Fence) -> StoreFuture<'a, ()> {
        Box::pin(ready(self.call(|state| state.check(fence))))
    }

    fn restore<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        records: &'a [Record],
    ) -> StoreFuture<'a, ()> {
        Box::pin(ready(self.call(|state| {
            if *state != State::default() {
                return Err(StoreError::NotEmpty);
            }
            state.lead = Some((cluster.clone(), fence.clone()));
            state.records = records.iter().map(|r| (r.key.clone(), (r.version, r.value.clone()))).collect();
            Ok(())
        })))
    }

    fn load<'a>(&'a self, backup: &'a Backup, replace: bool) -> StoreFuture<'a, Fence> {
        Box::pin(ready(self.call(|state| {
            if !replace && !state.records.is_empty() {
                return Err(StoreError::NotEmpty);
            }
            let stored = state.lead.as_ref().map(|(_, fence)| fence.epoch).unwrap_or_default();
            let fence = Fence {
                epoch: epoch_above(
                    epoch_before_load(stored, replace),
                    ahead_of_other_stores(backup.fence.epoch),
                )?,
                leader: LeaderId::none(),
            };
            state.lead = Some((backup.cluster.clone(), fence.clone()));
            state.records =
                backup.records.iter().map(|r| (r.key.clone(), (r.version, r.value.clone()))).collect();
            Ok(fence)
        })))
    }
}
