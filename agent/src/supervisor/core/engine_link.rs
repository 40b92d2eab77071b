//! The link to the engine: whether it answers, when it is asked for a list, and which answers are outdated.

use std::collections::BTreeSet;

use shef_common::{
    backoff::Backoff,
    clock::{DurationMs, MonoMs},
    ids::{ClusterId, ReplicaId},
};

use crate::engine::EngineError;

/// An event stream that lasted this long was sound: its end is not counted as a failure in a row.
const SOUND_WATCH: DurationMs = DurationMs(10_000);
/// Between attempts to reach an engine: 100 ms doubling to 1 s.
const RECONNECT: Backoff = Backoff { first: DurationMs(100), most: DurationMs(1_000) };
/// So many looks in a row that fail, and the engine is said not to answer: with the waits
/// above about 1.5 s after it went. One that is merely slow answers them, however late.
const FAILED_LOOKS: u32 = 4;

/// The state of the engine, and of the inspection that is under way.
#[derive(Debug)]
pub(in crate::supervisor) struct EngineLink {
    relist_interval: DurationMs,
    state: State,
    look: Option<Look>,
    /// Whether it has shown its containers since the host knows which are its own.
    has_shown: bool,
    /// On a host that knows no cluster: the clusters of its containers.
    found: BTreeSet<ClusterId>,
    /// Containers that no ledger names and whose environment is still to be read.
    unread: BTreeSet<ReplicaId>,
    /// Numbers the engine's events and answers: a list is older than events with a higher number.
    sequence: u64,
    watch_since: Option<MonoMs>,
    /// How many attempts to reach it have failed in a row.
    failures: u32,
    reconnect_at: Option<MonoMs>,
    relist_at: Option<MonoMs>,
    is_unidentified: bool,
}

/// Whether the engine answers.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It has not been looked at yet.
    Unknown,
    /// The last look was answered, and no operation has failed to reach it since.
    Up,
    /// The engine did not answer the last list, or an operation after it.
    Failing {
        /// The engine's error.
        why: String,
        /// How many looks in a row have failed.
        looks: u32,
    },
}

/// A list that was asked for and has not come.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::supervisor) struct Look {
    /// The sequence number when it was asked for.
    pub asked_at: u64,
    /// What was forgotten since.
    pub forgotten: BTreeSet<ReplicaId>,
    /// Whether another one is to follow.
    pub again: bool,
}

/// The call to the engine whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Due {
    Nothing,
    /// A new event stream, and a look.
    Reconnect,
    /// A look.
    List,
}

impl EngineLink {
    pub const fn new(relist_interval: DurationMs) -> Self {
        Self {
            relist_interval,
            state: State::Unknown,
            look: None,
            has_shown: false,
            found: BTreeSet::new(),
            unread: BTreeSet::new(),
            sequence: 0,
            watch_since: None,
            failures: 0,
            reconnect_at: None,
            relist_at: None,
            is_unidentified: false,
        }
    }

    /// Whether operations can be asked of it.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Why it does not answer, once enough looks have failed to be sure.
    pub fn error(&self) -> Option<&str> {
        match &self.state {
            State::Failing { why, looks } if *looks >= FAILED_LOOKS => Some(why),
            State::Failing { .. } | State::Unknown | State::Up => None,
        }
    }

    /// When to ask [`EngineLink::due`] at the latest.
    pub fn wakes_at(&self) -> Option<MonoMs> {
        self.reconnect_at.into_iter().chain(self.relist_at).min()
    }

    /// What is due. Each due time is returned once.
    pub fn due(&mut self, now: MonoMs) -> Due {
        if self.reconnect_at.is_some_and(|at| at <= now) {
            Due::Reconnect
        } else if self.relist_at.take_if(|at| *at <= now).is_some() {
            Due::List
        } else {
            Due::Nothing
        }
    }

    /// The event stream is opened, in place of any other.
    pub const fn watch(&mut self, now: MonoMs) {
        (self.reconnect_at, self.relist_at) = (None, None);
        self.watch_since = Some(now);
    }

    /// The event stream has ended. The list that follows shows whether the engine answers.
    pub fn watch_ended(&mut self, now: MonoMs) {
        self.forgive_a_sound_watch(now);
        self.watch_since = None;
        self.reconnect_later(now);
    }

    /// The engine did not answer a list or an operation.
    pub fn failed(&mut self, error: &EngineError, now: MonoMs) {
        let looks = match self.state {
            State::Failing { looks, .. } => looks,
            State::Unknown | State::Up => 0,
        };
        self.state = State::Failing { why: error.reason(), looks };
        self.reconnect_later(now);
    }

    fn reconnect_later(&mut self, now: MonoMs) {
        if self.reconnect_at.is_none() {
            self.failures += 1;
            self.reconnect_at = Some(now + RECONNECT.after(self.failures));
        }
    }

    fn forgive_a_sound_watch(&mut self, now: MonoMs) {
        if self.watch_since.is_some_and(|since| now - since >= SOUND_WATCH) {
            self.failures = 0;
        }
    }

    /// Asks for a list. Returns whether it is to be asked for now, and not after the one that is under way.
    pub fn ask_for_list(&mut self) -> bool {
        if let Some(look) = &mut self.look {
            look.again = true;
            return false;
        }
        self.look = Some(Look { asked_at: self.sequence, forgotten: BTreeSet::new(), again: false });
        true
    }

    /// A list has come, or has failed. Returns what was asked for, if anything was.
    pub fn list_came(&mut self, now: MonoMs) -> Option<Look> {
        let look = self.look.take()?;
        self.relist_at = Some(now + self.relist_interval);
        Some(look)
    }

    /// The list could not be had.
    pub fn list_failed(&mut self, error: &EngineError, now: MonoMs) {
        self.failed(error, now);
        if let State::Failing { looks, .. } = &mut self.state {
            // One that took too long took as long as many.
            let counts = if matches!(error, EngineError::TimedOut(_)) { FAILED_LOOKS } else { 1 };
            *looks = looks.saturating_add(counts);
        }
    }

    /// The list was had. Returns whether the engine is to be asked who it is.
    pub fn list_was_had(&mut self, now: MonoMs) -> bool {
        self.forgive_a_sound_watch(now);
        self.state = State::Up;
        std::mem::take(&mut self.is_unidentified)
    }

    /// It did not say who it is.
    pub const fn not_identified(&mut self) {
        self.is_unidentified = true;
    }

    /// It shows its containers. Returns whether for the first time.
    pub const fn shows(&mut self) -> bool {
        !std::mem::replace(&mut self.has_shown, true)
    }

    /// It has containers of these clusters.
    pub fn finds(&mut self, clusters: impl IntoIterator<Item = ClusterId>) {
        self.found = clusters.into_iter().collect();
    }

    /// The clusters whose containers the engine has, while the host has not joined a cluster.
    pub const fn found(&self) -> &BTreeSet<ClusterId> {
        &self.found
    }

    /// The host now knows which of the engine's containers are its own.
    pub const fn shows_anew(&mut self) {
        self.has_shown = false;
    }

    /// Whether it has shown its containers.
    pub const fn has_shown(&self) -> bool {
        self.has_shown
    }

    /// Whether it has shown its containers, with all that has to be known of them.
    pub fn has_shown_all(&self) -> bool {
        self.has_shown && self.unread.is_empty()
    }

    /// Whether more is about to be known of its containers.
    pub fn is_looking(&self) -> bool {
        self.look.is_some() || !self.unread.is_empty()
    }

    /// The environment of a container is still to be read.
    pub fn has_to_read(&mut self, id: ReplicaId) {
        self.unread.insert(id);
    }

    /// It was read, or cannot be. Returns whether it was the last one.
    pub fn was_read(&mut self, id: &ReplicaId) -> bool {
        self.unread.remove(id) && self.unread.is_empty()
    }

    /// A replica is gone, and the list that is under way does not bring it back.
    pub fn forget(&mut self, id: &ReplicaId) {
        self.unread.remove(id);
        if let Some(look) = &mut self.look {
            look.forgotten.insert(id.clone());
        }
    }

    /// The number of the event or answer that the engine has just sent.
    pub const fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use shef_common::ids::ServiceName;

    use super::*;

    fn id(number: u32) -> ReplicaId {
        ReplicaId::new(&ServiceName::parse("web").unwrap(), number)
    }

    fn gone() -> EngineError {
        EngineError::Unreachable("gone".into())
    }

    fn link() -> EngineLink {
        let mut link = EngineLink::new(DurationMs(30_000));
        link.watch(MonoMs(0));
        link
    }

    /// A look at `now` fails.
    fn fails(link: &mut EngineLink, error: &EngineError, now: MonoMs) {
        link.ask_for_list();
        link.list_came(now).unwrap();
        link.list_failed(error, now);
    }

    #[test]
    fn an_engine_counts_as_away_after_four_looks_and_as_back_after_one() {
        let mut link = link();
        for looks in 1..=FAILED_LOOKS {
            assert_eq!((link.is_up(), link.error()), (false, None), "{looks}");
            fails(&mut link, &gone(), MonoMs(1));
        }
        assert!(link.error().is_some());
        link.list_was_had(MonoMs(2));
        assert_eq!((link.is_up(), link.error()), (true, None));
        link.failed(&gone(), MonoMs(3));
        assert_eq!((link.is_up(), link.error()), (false, None), "an operation alone says little");
    }

    #[test]
    fn a_look_that_took_too_long_took_as_long_as_many() {
        let mut link = link();
        fails(&mut link, &EngineError::TimedOut("30 s".into()), MonoMs(1));
        assert!(link.error().is_some());
    }

    #[test]
    fn attempts_to_reach_it_come_ever_more_slowly_until_a_stream_was_sound() {
        let mut link = link();
        let mut now = MonoMs(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            link.watch_ended(now);
            let at = link.wakes_at().unwrap();
            waits.push((at - now).0);
            assert_eq!(link.due(at), Due::Reconnect);
            now = at;
            link.watch(now);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        now = now + SOUND_WATCH;
        link.watch_ended(now);
        assert_eq!(link.wakes_at(), Some(now + DurationMs(100)));
    }

    #[test]
    fn one_list_is_under_way_and_another_follows_it() {
        let mut link = link();
        assert!(link.ask_for_list() && !link.ask_for_list());
        assert!(link.list_came(MonoMs(1)).unwrap().again);
        assert_eq!(link.list_came(MonoMs(1)), None, "it was not asked for");
        assert_eq!((link.due(MonoMs(30_000)), link.due(MonoMs(30_001))), (Due::Nothing, Due::List));
        assert_eq!(link.due(MonoMs(30_001)), Due::Nothing, "it is returned once");
    }

    #[test]
    fn a_list_does_not_bring_back_what_was_forgotten_after_its_request() {
        let mut link = link();
        let before = link.next_sequence();
        link.ask_for_list();
        let since = link.next_sequence();
        link.forget(&id(1));
        let look = link.list_came(MonoMs(1)).unwrap();
        assert!(before <= look.asked_at && look.asked_at < since);
        assert_eq!(look.forgotten, [id(1)].into());
    }

    #[test]
    fn all_is_known_when_the_last_environment_was_read() {
        let mut link = link();
        assert!(!link.has_shown_all() && link.shows() && !link.shows());
        link.has_to_read(id(1));
        link.has_to_read(id(2));
        assert!(link.has_shown() && !link.has_shown_all() && link.is_looking());
        assert!(!link.was_read(&id(1)) && !link.was_read(&id(1)) && link.was_read(&id(2)));
        assert!(link.has_shown_all() && !link.is_looking());
        link.shows_anew();
        assert!(!link.has_shown_all() && link.shows());
    }

    #[test]
    fn who_did_not_say_who_it_is_is_asked_once_more_when_it_answers() {
        let mut link = link();
        link.not_identified();
        assert!(link.list_was_had(MonoMs(1)) && !link.list_was_had(MonoMs(1)));
    }
}
