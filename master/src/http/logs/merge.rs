//! Many logs into one, in the order of their times. Pure.
//!
//! A log is waited for until it has a line or has ended, so that what was written before comes out in order.
//! When following, a log that had nothing to tell for a moment has told what was before: from then on its
//! lines are printed as they arrive, and no other log waits for it.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::ReplicaId,
    logs::{LogLine, LogTime},
};

/// The merge's state: at most one line of each log.
#[derive(Debug)]
pub struct Merge {
    /// How long a log without a line is waited for; `None`: until it has one or ends.
    patience: Option<DurationMs>,
    logs: BTreeMap<ReplicaId, Log>,
    heads: BTreeSet<(LogTime, ReplicaId)>,
    /// The logs that are waited for, and since when.
    awaited: BTreeMap<ReplicaId, MonoMs>,
}

#[derive(Debug, Default)]
struct Log {
    head: Option<LogLine>,
    /// Whether it has told what was before.
    live: bool,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This line of that replica.
    Line(ReplicaId, LogLine),
    /// Nothing until a log tells more, or until this time.
    Wait(Option<MonoMs>),
    /// Nothing: there is no log.
    Done,
}

impl Merge {
    /// A merge without logs.
    #[must_use]
    pub fn new(patience: Option<DurationMs>) -> Self {
        Self { patience, logs: BTreeMap::new(), heads: BTreeSet::new(), awaited: BTreeMap::new() }
    }

    /// A log begins.
    pub fn open(&mut self, replica: ReplicaId, now: MonoMs) {
        if self.logs.insert(replica.clone(), Log::default()).is_none() {
            self.awaited.insert(replica, now);
        }
    }

    /// Whether the log is open and its next line can be taken.
    #[must_use]
    pub fn takes(&self, replica: &ReplicaId) -> bool {
        self.logs.get(replica).is_some_and(|log| log.head.is_none())
    }

    /// A log's next line, when [`Merge::takes`] says so.
    pub fn offer(&mut self, replica: &ReplicaId, line: LogLine) {
        if let Some(log) = self.logs.get_mut(replica) {
            debug_assert!(log.head.is_none(), "a line is taken only when there is none");
            self.awaited.remove(replica);
            self.heads.insert((line.time, replica.clone()));
            log.head = Some(line);
        }
    }

    /// A log has ended; its last line has been taken with [`Merge::next`], or is dropped.
    pub fn close(&mut self, replica: &ReplicaId) {
        if let Some(line) = self.logs.remove(replica).and_then(|log| log.head) {
            self.heads.remove(&(line.time, replica.clone()));
        }
        self.awaited.remove(replica);
    }

    /// No other log waits for this one: it cannot be read for now.
    pub fn do_not_wait(&mut self, replica: &ReplicaId) {
        if let Some(log) = self.logs.get_mut(replica) {
            log.live = true;
            self.awaited.remove(replica);
        }
    }

    /// What is next at `now`.
    pub fn next(&mut self, now: MonoMs) -> Next {
        if let Some(patience) = self.patience {
            while let Some((replica, _)) = self.awaited.iter().find(|(_, since)| **since + patience <= now) {
                let replica = replica.clone();
                self.do_not_wait(&replica);
            }
        }
        if self.awaited.is_empty()
            && let Some((_, replica)) = self.heads.pop_first()
            && let Some(log) = self.logs.get_mut(&replica)
            && let Some(line) = log.head.take()
        {
            if !log.live {
                self.awaited.insert(replica.clone(), now);
            }
            return Next::Line(replica, line);
        }
        if self.logs.is_empty() {
            return Next::Done;
        }
        let until =
            self.patience.and_then(|patience| self.awaited.values().min().map(|since| *since + patience));
        Next::Wait(until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shef_common::{ids::ServiceName, logs::Output};

    use super::*;

    fn id(n: usize) -> ReplicaId {
        ReplicaId::new(&ServiceName::parse("web").unwrap(), u32::try_from(n).unwrap())
    }

    fn line(time: u64) -> LogLine {
        LogLine { stream: Output::Stdout, time: LogTime(time), line: time.to_string() }
    }

    /// Feeds whole logs and takes what comes out, asking the logs in the order that `picks` says.
    fn merged(mut logs: Vec<Vec<u64>>, picks: &[usize]) -> Vec<u64> {
        let mut merge = Merge::new(None);
        (0..logs.len()).for_each(|n| merge.open(id(n), MonoMs(0)));
        logs.iter_mut().for_each(|log| log.reverse());
        let (mut out, mut picks) = (Vec::new(), picks.iter().cycle());
        loop {
            match merge.next(MonoMs(0)) {
                Next::Line(_, line) => out.push(line.time.0),
                Next::Done => return out,
                Next::Wait(_) => {
                    let ready: Vec<usize> = (0..logs.len()).filter(|n| merge.takes(&id(*n))).collect();
                    let n = ready[picks.next().unwrap() % ready.len()];
                    match logs[n].pop() {
                        Some(time) => merge.offer(&id(n), line(time)),
                        None => merge.close(&id(n)),
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whole_logs_come_out_complete_and_in_order_however_they_come_in(
            mut logs in proptest::collection::vec(proptest::collection::vec(0..1_000_u64, 0..20), 0..6),
            picks in proptest::collection::vec(0..100_usize, 1..20),
        ) {
            logs.iter_mut().for_each(|log| log.sort_unstable());
            let mut all = logs.concat();
            all.sort_unstable();
            prop_assert_eq!(merged(logs, &picks), all);
        }
    }

    #[test]
    fn a_silent_log_delays_the_others_once_and_for_a_moment_only() {
        let mut merge = Merge::new(Some(DurationMs(200)));
        merge.open(id(1), MonoMs(0));
        merge.open(id(2), MonoMs(0));
        merge.offer(&id(1), line(5));
        assert_eq!(merge.next(MonoMs(10)), Next::Wait(Some(MonoMs(200))));
        assert_eq!(merge.next(MonoMs(200)), Next::Line(id(1), line(5)));
        assert_eq!(
            merge.next(MonoMs(201)),
            Next::Wait(Some(MonoMs(400))),
            "the other one may have more of before"
        );
        assert_eq!(merge.next(MonoMs(400)), Next::Wait(None));
        for time in [9, 7] {
            merge.offer(&id(1), line(time));
            assert_eq!(merge.next(MonoMs(401)), Next::Line(id(1), line(time)));
        }
        merge.offer(&id(2), line(6));
        assert_eq!(merge.next(MonoMs(401)), Next::Line(id(2), line(6)));
    }

    #[test]
    fn a_log_that_cannot_be_read_holds_up_nobody() {
        let mut merge = Merge::new(None);
        merge.open(id(1), MonoMs(0));
        merge.open(id(2), MonoMs(0));
        merge.offer(&id(1), line(5));
        merge.do_not_wait(&id(2));
        assert_eq!(merge.next(MonoMs(0)), Next::Line(id(1), line(5)));
        merge.close(&id(1));
        merge.close(&id(2));
        assert_eq!(merge.next(MonoMs(0)), Next::Done);
    }
}
