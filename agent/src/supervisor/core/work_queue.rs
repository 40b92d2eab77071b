//! Replicas whose next step is due, in lanes with bounds: which one the engine is asked for next.

use std::collections::VecDeque;

use shef_common::ids::ReplicaId;

use crate::supervisor::replica::Lane;

/// The most stops at once: a stop mostly waits for the process, so it has a bound of its own.
/// With 64, removing 30 replicas took 1.2 times as long as with 12: the engine thrashes.
const MAX_STOPS: usize = 12;
/// The most steps of low priority at once: crash loops, and steps that are not urgent.
const MAX_BACKGROUND: usize = 2;

/// The waiting steps, and the number in progress.
#[derive(Debug)]
pub(in crate::supervisor) struct WorkQueue {
    /// The most steps at once that are no stops.
    bound: usize,
    work: VecDeque<ReplicaId>,
    background: VecDeque<ReplicaId>,
    stops: VecDeque<ReplicaId>,
    working: usize,
    in_background: usize,
    stopping: usize,
}

impl WorkQueue {
    pub const fn new(bound: usize) -> Self {
        Self {
            bound,
            work: VecDeque::new(),
            background: VecDeque::new(),
            stops: VecDeque::new(),
            working: 0,
            in_background: 0,
            stopping: 0,
        }
    }

    /// A replica waits for its next step, behind all others of the lane.
    pub fn push(&mut self, lane: Lane, id: ReplicaId) {
        match lane {
            Lane::Work => self.work.push_back(id),
            Lane::Background => self.background.push_back(id),
            Lane::Stops => self.stops.push_back(id),
        }
    }

    /// Moves a replica that was just pushed to the front of its lane, unless it is in a lane of low priority.
    pub fn hasten(&mut self, id: &ReplicaId) {
        if self.work.back() == Some(id)
            && let Some(id) = self.work.pop_back()
        {
            self.work.push_front(id);
        }
    }

    /// Takes the replica whose step is next, if a bound allows one. `only_stops`: nothing else may be done
    /// now.
    pub fn pop(&mut self, only_stops: bool) -> Option<(Lane, ReplicaId)> {
        if self.working < self.bound && !only_stops {
            if let Some(id) = self.work.pop_front() {
                return Some((Lane::Work, id));
            }
            if self.in_background < MAX_BACKGROUND
                && let Some(id) = self.background.pop_front()
            {
                return Some((Lane::Background, id));
            }
        }
        if self.stopping < MAX_STOPS { self.stops.pop_front().map(|id| (Lane::Stops, id)) } else { None }
    }

    /// A step is under way.
    pub const fn begin(&mut self, lane: Lane) {
        match lane {
            Lane::Work => self.working += 1,
            Lane::Background => {
                self.working += 1;
                self.in_background += 1;
            }
            Lane::Stops => self.stopping += 1,
        }
    }

    /// A step has ended.
    pub const fn end(&mut self, lane: Lane) {
        match lane {
            Lane::Work => self.working = self.working.saturating_sub(1),
            Lane::Background => {
                self.working = self.working.saturating_sub(1);
                self.in_background = self.in_background.saturating_sub(1);
            }
            Lane::Stops => self.stopping = self.stopping.saturating_sub(1),
        }
    }

    /// The steps that wait in the lane of high priority.
    pub fn waiting(&self) -> impl Iterator<Item = &ReplicaId> {
        self.work.iter()
    }

    /// Whether nothing but stops is under way or waits.
    pub fn is_idle(&self) -> bool {
        self.working == 0 && self.work.is_empty() && self.background.is_empty()
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub const fn is_at_rest(&self) -> bool {
        self.working == 0 && self.stopping == 0
    }
}

#[cfg(test)]
mod tests {
    use shef_common::ids::ServiceName;

    use super::*;

    fn id(number: u32) -> ReplicaId {
        ReplicaId::new(&ServiceName::parse("web").unwrap(), number)
    }

    /// A queue of that bound, with so many in each lane.
    fn queue(bound: usize, in_each: u32) -> WorkQueue {
        let mut queue = WorkQueue::new(bound);
        for number in 0..in_each {
            queue.push(Lane::Work, id(number));
            queue.push(Lane::Background, id(100 + number));
            queue.push(Lane::Stops, id(200 + number));
        }
        queue
    }

    /// Begins all that may begin, and says in which lanes.
    fn begin_all(queue: &mut WorkQueue, only_stops: bool) -> Vec<Lane> {
        let mut lanes = Vec::new();
        while let Some((lane, _)) = queue.pop(only_stops) {
            queue.begin(lane);
            lanes.push(lane);
        }
        lanes
    }

    fn count(lanes: &[Lane], lane: Lane) -> usize {
        lanes.iter().filter(|other| **other == lane).count()
    }

    #[test]
    fn no_lane_has_more_under_way_than_its_bound() {
        let mut queue = queue(5, 30);
        let lanes = begin_all(&mut queue, false);
        assert_eq!((count(&lanes, Lane::Work), count(&lanes, Lane::Background)), (5, 0));
        assert_eq!(count(&lanes, Lane::Stops), MAX_STOPS);
        queue.end(Lane::Stops);
        assert_eq!(queue.pop(false).map(|(lane, _)| lane), Some(Lane::Stops));
    }

    #[test]
    fn what_makes_way_gets_two_places_and_only_if_nothing_else_wants_them() {
        let mut queue = queue(5, 1);
        for number in 300..310 {
            queue.push(Lane::Background, id(number));
        }
        let lanes = begin_all(&mut queue, false);
        assert_eq!(lanes, [Lane::Work, Lane::Background, Lane::Background, Lane::Stops]);
        queue.end(Lane::Background);
        assert_eq!(queue.pop(false).map(|(lane, _)| lane), Some(Lane::Background));
    }

    #[test]
    fn where_only_stops_may_be_done_nothing_else_begins() {
        assert_eq!(begin_all(&mut queue(5, 3), true), [Lane::Stops; 3]);
    }

    #[test]
    fn who_has_begun_is_finished_first() {
        let mut queue = queue(5, 3);
        queue.hasten(&id(0));
        assert_eq!(queue.waiting().next(), Some(&id(0)), "it was not just pushed");
        queue.hasten(&id(2));
        assert_eq!(queue.pop(false), Some((Lane::Work, id(2))));
    }

    #[test]
    fn it_is_idle_when_nothing_but_stops_is_left() {
        let mut queue = queue(1, 1);
        assert!(!queue.is_idle() && queue.is_at_rest());
        for _ in 0..3 {
            let (lane, _) = queue.pop(false).unwrap();
            queue.begin(lane);
            assert!(!queue.is_at_rest());
            if lane != Lane::Stops {
                assert!(!queue.is_idle());
                queue.end(lane);
            }
        }
        assert!(queue.is_idle());
    }
}
