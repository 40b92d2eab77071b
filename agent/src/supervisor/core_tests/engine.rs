//! When an engine is said not to answer.

use shef_common::ids::Revision;

use super::world::{Pending, World};
use crate::{engine::EngineError, supervisor::core::Event};

#[test]
fn an_engine_is_away_after_failures_in_a_row_until_one_success() {
    let mut world = World::new();
    world.push(None, &[0], &[]);
    world.settle();
    let gone = || EngineError::Unreachable("connection refused".into());
    let fail_look = |world: &mut World, error: EngineError| {
        world.pending.retain(|p| !matches!(p, Pending::List(_)));
        world.feed(Event::Listed(Err(error)));
    };
    let died = world.now.mono;
    world.feed(Event::WatchEnded(gone()));
    while world.engine_error().is_none() {
        let wake = world.core.next_wake().unwrap();
        world.advance((wake - world.now.mono).0);
        fail_look(&mut world, gone());
        let silent_for = world.now.mono - died;
        assert!(
            silent_for.0 >= 1_000 || world.engine_error().is_none(),
            "a moment's absence is not reported"
        );
        assert!(silent_for.0 <= 2_000, "reported late");
    }
    world.settle();
    assert_eq!(world.engine_error(), None);
    // An operation without an answer is none that failed to reach it; a look that took too long is.
    world.push(Some(Revision(1)), &[2], &[]);
    world.feed(Event::WatchEnded(gone()));
    world.advance(200);
    fail_look(&mut world, gone());
    assert_eq!(world.engine_error(), None);
    world.settle();
    world.advance(60_000);
    fail_look(&mut world, EngineError::TimedOut("no answer within 20 s".into()));
    assert!(world.engine_error().is_some());
    world.settle();
    assert_eq!(world.engine_error(), None);
}
