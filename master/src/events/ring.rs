//! The ring that holds the latest events. Pure.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc};

use serde::{Serialize, Serializer};
use shef_common::{bounds, clock::WallMs, ids::Epoch};

use super::Change;

/// An event's place: the leadership that told it, and its number there, from 1 on. As text: `3-17`. For a
/// reader of the audit log there is the number of a line, too: `3-17-42`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The leadership.
    pub epoch: Epoch,
    /// Counts its events.
    pub seq: u64,
    /// Up to which line of the audit log its reader has read; `None`: it reads none.
    pub line: Option<u64>,
}

impl EventId {
    /// The place of an event, for who reads no audit log.
    #[must_use]
    pub const fn of(epoch: Epoch, seq: u64) -> Self {
        Self { epoch, seq, line: None }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)?;
        self.line.map_or(Ok(()), |line| write!(f, "-{line}"))
    }
}

impl schemars::JsonSchema for EventId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string",
            "description": "The leadership's epoch and the event's number in it, as in 3-17; for readers of \
                the audit log also the number of its line, as in 3-17-42." })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Why a text is no event's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event's id must be numbers such as 3-17 or 3-17-42, but is {0:?}")]
pub struct InvalidEventId(String);

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let number = |text: &str| bounds::parse("an event's id", text, bounds::MAX).ok();
        let numbers: Option<Vec<u64>> = text.splitn(4, '-').map(number).collect();
        match numbers.as_deref() {
            Some([epoch, seq]) => Ok(Self::of(Epoch(*epoch), *seq)),
            Some([epoch, seq, line]) => Ok(Self { line: Some(*line), ..Self::of(Epoch(*epoch), *seq) }),
            Some(_) | None => Err(InvalidEventId(text.chars().take(80).collect())),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Event {
    /// The event's id, by which a reader resumes.
    pub id: EventId,
    /// When the master noticed the change, by its clock.
    pub time: WallMs,
    /// What happened to what.
    #[serde(flatten)]
    pub change: Change,
}

/// The answer to a reader who has read up to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// How many events between are not known any more; `None` within: it cannot be said how many.
    pub skipped: Option<Option<u64>>,
    /// The later events, the oldest first.
    pub events: Vec<Arc<Event>>,
    /// Up to where the reader has read with this.
    pub at: EventId,
}

/// The latest events of one leadership.
#[derive(Debug)]
pub struct Ring {
    capacity: usize,
    epoch: Epoch,
    /// The number of the latest event.
    last: u64,
    events: VecDeque<Arc<Event>>,
}

impl Ring {
    /// An empty ring that holds at most `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, epoch: Epoch(0), last: 0, events: VecDeque::new() }
    }

    /// A leadership begins: earlier events belong to another one.
    pub fn begin(&mut self, epoch: Epoch) {
        if self.epoch != epoch {
            self.events.clear();
            (self.epoch, self.last) = (epoch, 0);
        }
    }

    /// Where the latest event stands.
    #[must_use]
    pub const fn last(&self) -> EventId {
        EventId::of(self.epoch, self.last)
    }

    /// Something happened.
    pub fn push(&mut self, time: WallMs, change: Change) {
        self.last += 1;
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(Event { id: self.last(), time, change }));
    }

    /// What came after `after`, at most `limit` events.
    #[must_use]
    pub fn read(&self, after: EventId, limit: usize) -> Read {
        let first = self.last + 1 - self.events.len() as u64;
        // What another leadership told, or what was never told, says nothing about where the reader stands.
        let is_known = after.epoch == self.epoch && after.seq <= self.last;
        let (skipped, next) = match is_known {
            false => (Some(None), first),
            true if after.seq + 1 < first => (Some(Some(first - after.seq - 1)), first),
            true => (None, after.seq + 1),
        };
        let from = usize::try_from(next - first).unwrap_or(usize::MAX);
        let events: Vec<_> = self.events.iter().skip(from).take(limit).cloned().collect();
        let at = events.last().map_or_else(|| self.last(), |event| event.id);
        Read { skipped, events, at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shef_common::ids::NodeName;

    use super::{
        super::{EventKind, Subject},
        *,
    };

    fn change() -> Change {
        Change::new(EventKind::HostJoined, Subject::of_host(&NodeName::parse("h1").unwrap()))
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = EventId::of(Epoch(3), 17);
        for (id, text) in [(id, "3-17"), (EventId { line: Some(42), ..id }, "3-17-42")] {
            assert_eq!((id.to_string().as_str(), text.parse()), (text, Ok(id)));
        }
        for bad in ["", "3", "3-", "-17", "3-17-1-1", "3-17-", "a-b", "3-+1", "99999999999999999999-1"] {
            let refused = bad.parse::<EventId>().unwrap_err().to_string();
            assert!(refused.ends_with(&format!("but is {bad:?}")), "{refused}");
        }
    }

    #[test]
    fn a_reader_of_an_earlier_leadership_learns_that_something_may_be_missing() {
        let mut ring = Ring::new(4);
        ring.begin(Epoch(2));
        ring.push(WallMs(1), change());
        let read = ring.read(EventId::of(Epoch(1), 1), 10);
        assert_eq!((read.skipped, read.events.len()), (Some(None), 1));
        assert_eq!(ring.read(EventId::of(Epoch(2), 9), 10).skipped, Some(None), "an id that was never given");
    }

    proptest! {
        #[test]
        fn a_reader_sees_every_event_once_in_order_or_learns_how_many_it_missed(
            capacity in 1..20_usize,
            steps in proptest::collection::vec((0..15_u32, 1..10_usize), 1..40),
        ) {
            let mut ring = Ring::new(capacity);
            ring.begin(Epoch(1));
            let (mut at, mut pushed) = (ring.last(), 0_u64);
            for (new, limit) in steps {
                for _ in 0..new {
                    ring.push(WallMs(0), change());
                    pushed += 1;
                }
                let read = ring.read(at, limit);
                let skipped = read.skipped.map_or(0, |skipped| skipped.expect("it is the same leadership"));
                prop_assert!(read.events.len() <= limit.min(capacity));
                for (nth, event) in read.events.iter().enumerate() {
                    prop_assert_eq!(event.id.seq, at.seq + skipped + 1 + nth as u64);
                }
                prop_assert!(skipped == 0 || read.events.len() == limit.min(capacity));
                prop_assert!(!read.events.is_empty() || at == ring.last());
                at = read.at;
            }
            prop_assert_eq!(ring.last().seq, pushed);
        }
    }
}
