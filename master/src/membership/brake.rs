//! The brake: when many hosts go down together, the fault is probably ours, and
//! replacing everything would make it worse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::NodeName,
};

/// Fewer hosts than this never set the brake.
const AT_LEAST: usize = 3;

/// The brake as readers see it while it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BrakeState {
    /// Since when, by the master's clock.
    pub since: WallMs,
    /// The hosts that are down and whose replicas are not replaced for now.
    pub down: Vec<NodeName>,
    /// When replacement goes on though they have not come back, by the master's clock.
    pub releases_at: WallMs,
}

#[derive(Debug)]
struct On {
    since: Now,
    /// The hosts that set it, those that went down since, and those that were silent then; and when each of
    /// them was silent last.
    concerned: BTreeMap<NodeName, MonoMs>,
    /// Those of them that were called down.
    down: BTreeSet<NodeName>,
    /// Since when few enough of them are silent.
    few_since: Option<MonoMs>,
}

/// Whether replacement is held back.
#[derive(Debug)]
pub struct Brake {
    share_percent: u32,
    release_after: DurationMs,
    on: Option<On>,
    /// Who went down within the last window, at most one entry a host.
    recent: VecDeque<(MonoMs, NodeName)>,
}

impl Brake {
    /// A brake that is off. It comes on when more than `share_percent` of the
    /// hosts go down together, and goes off by itself `release_after` later.
    pub const fn new(share_percent: u32, release_after: DurationMs) -> Self {
        Self { share_percent, release_after, on: None, recent: VecDeque::new() }
    }

    /// Whether it is on.
    pub const fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// `node` goes down, as one of `known` hosts of which `silent` may follow it.
    /// Hosts that go down within `window` of each other went down together.
    /// Returns whether the brake comes on by this.
    pub fn goes_down(
        &mut self,
        node: &NodeName,
        silent: &BTreeSet<NodeName>,
        known: usize,
        window: DurationMs,
        now: Now,
    ) -> bool {
        self.recent.retain(|(at, other)| other != node && now.mono - *at <= window);
        self.recent.push_back((now.mono, node.clone()));
        let silent = silent.iter().map(|silent| (silent.clone(), now.mono));
        if let Some(on) = &mut self.on {
            on.concerned.extend(silent.chain([(node.clone(), now.mono)]));
            on.down.insert(node.clone());
            return false;
        }
        let down: BTreeSet<NodeName> = self.recent.iter().map(|(_, node)| node.clone()).collect();
        let concerned: BTreeMap<NodeName, MonoMs> =
            down.iter().map(|down| (down.clone(), now.mono)).chain(silent).collect();
        if !self.is_too_much(concerned.len(), known) {
            return false;
        }
        self.on = Some(On { since: now, concerned, down, few_since: None });
        true
    }

    /// Whether `node` went down within the last `window`.
    pub fn went_down_within(&self, window: DurationMs, node: &NodeName, now: Now) -> bool {
        self.recent.iter().any(|(at, other)| other == node && now.mono - *at <= window)
    }

    /// Goes off after its time, or when few enough of the hosts that it concerns are
    /// still `silent` since the given time. If too
    /// many of them were called down, the last of these have a `window` to come back
    /// after the first. Returns whether it goes off by this.
    pub fn look(
        &mut self,
        known: usize,
        silent: impl Fn(&NodeName, MonoMs) -> bool,
        window: DurationMs,
        now: Now,
    ) -> bool {
        let Some(on) = &self.on else { return false };
        let lost = on.concerned.iter().filter(|(node, since)| silent(node, **since)).count();
        if now.mono - on.since.mono >= self.release_after {
            return self.release();
        }
        let (too_much, went_down) = (self.is_too_much(lost, known), self.is_too_much(on.down.len(), known));
        let Some(on) = &mut self.on else { return false };
        on.few_since = if too_much { None } else { on.few_since.or(Some(now.mono)) };
        let waits = if lost > 0 && went_down { window } else { DurationMs(0) };
        let settled = on.few_since.is_some_and(|since| now.mono - since >= waits);
        // Hosts that go down soon went down together with those that are down: these are kept in mind.
        settled && self.on.take().is_some()
    }

    /// Goes off. Returns whether it was on.
    pub fn release(&mut self) -> bool {
        // Hosts that are down by now do not set it again.
        self.recent.clear();
        self.on.take().is_some()
    }

    /// The view that readers are shown, with the hosts that are `down` now.
    pub fn state(&self, down: impl Iterator<Item = NodeName>) -> Option<BrakeState> {
        let on = self.on.as_ref()?;
        Some(BrakeState {
            since: on.since.wall,
            down: down.collect(),
            releases_at: WallMs(on.since.wall.0.saturating_add(self.release_after.0)),
        })
    }

    /// Whether so many of `known` hosts set the brake.
    pub const fn is_too_much(&self, lost: usize, known: usize) -> bool {
        lost >= AT_LEAST && lost.saturating_mul(100) > known.saturating_mul(self.share_percent as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: DurationMs = DurationMs(2_000);

    fn node(n: usize) -> NodeName {
        NodeName::parse(&format!("h{n}")).unwrap()
    }
    fn at(ms: u64) -> Now {
        Now { mono: MonoMs(ms), wall: WallMs(ms) }
    }
    /// Which of so many hosts that go down, one every `apart`, sets the brake.
    fn sets_it(known: usize, apart: u64) -> Option<usize> {
        let mut brake = Brake::new(33, DurationMs(300_000));
        (1..=known)
            .find(|n| brake.goes_down(&node(*n), &BTreeSet::new(), known, WINDOW, at(*n as u64 * apart)))
    }

    #[test]
    fn it_comes_on_at_more_than_a_third_of_the_hosts_and_at_least_three() {
        let cases =
            [(1, None), (2, None), (3, Some(3)), (4, Some(3)), (9, Some(3)), (10, Some(4)), (100, Some(34))];
        for (known, expected) in cases {
            assert_eq!(sets_it(known, 1), expected, "{known} hosts");
        }
        assert_eq!(sets_it(9, 1_001), None, "never three within a window");
    }

    #[test]
    fn hosts_that_answer_nothing_count_as_those_that_are_down() {
        let mut brake = Brake::new(33, DurationMs(300_000));
        assert!(brake.goes_down(&node(1), &[node(2), node(3)].into(), 6, WINDOW, at(5)));
        assert!(!brake.look(6, |_, _| true, WINDOW, at(5)));
        assert!(
            brake.look(6, |lost, _| *lost == node(1), WINDOW, at(6)),
            "two are back, and were never down"
        );
    }

    #[test]
    fn hosts_that_fall_silent_while_the_brake_is_on_keep_it_on() {
        let mut brake = Brake::new(33, DurationMs(300_000));
        assert!(brake.goes_down(&node(1), &[node(2), node(3)].into(), 6, WINDOW, at(0)));
        assert!(!brake.goes_down(&node(4), &[node(5)].into(), 6, WINDOW, at(1_000)));
        // The second and the third are back, and the fifth was heard of when the brake was on already.
        let last_signs = [(node(2), 2_000), (node(3), 2_000), (node(5), 900)];
        let silent = |lost: &NodeName, since: MonoMs| {
            last_signs.iter().find(|(node, _)| node == lost).is_none_or(|(_, sign)| *sign <= since.0)
        };
        assert!(!brake.look(6, silent, WINDOW, at(2_000)));
    }

    #[test]
    fn hosts_that_went_together_have_a_window_to_come_back_one_by_one() {
        let mut brake = Brake::new(33, DurationMs(300_000));
        assert!(brake.goes_down(&node(1), &[node(2), node(3)].into(), 6, WINDOW, at(0)));
        assert!(!brake.goes_down(&node(2), &[node(3)].into(), 6, WINDOW, at(1)));
        assert!(!brake.goes_down(&node(3), &BTreeSet::new(), 6, WINDOW, at(2)));
        let first = |lost: &NodeName, _| *lost == node(1);
        assert!(!brake.look(6, first, WINDOW, at(10)), "two are back, the third may be about to");
        assert!(!brake.look(6, |_, _| true, WINDOW, at(20)), "they are gone again: the window begins anew");
        assert!(!brake.look(6, first, WINDOW, at(2_019)));
        assert!(!brake.look(6, first, WINDOW, at(4_018)));
        assert!(brake.look(6, first, WINDOW, at(4_019)), "the third stays away");
    }

    #[test]
    fn it_goes_off_by_itself_and_those_that_are_down_do_not_set_it_again() {
        let mut brake = Brake::new(33, DurationMs(300_000));
        assert!(brake.goes_down(&node(1), &[node(2), node(3)].into(), 6, WINDOW, at(0)));
        assert!(!brake.look(6, |_, _| true, WINDOW, at(299_999)));
        assert!(brake.look(6, |_, _| true, WINDOW, at(300_000)));
        assert!(!brake.goes_down(&node(4), &BTreeSet::new(), 6, WINDOW, at(300_001)));
        assert!(!brake.release());
    }
}
