//! When an engine is said not to answer.

use shef_common::ids::Revision;

use super::bench::{Bench, Pending};
use crate::{engine::EngineError, supervisor::core::Event};

#[test]
fn an_engine_is_away_after_failures_in_a_row_until_one_success() {
    let mut bench = Bench::new();
    bench.push(None, &[0], &[]);
    bench.settle();
    let gone = || EngineError::Unreachable("connection refused".into());
    let fail_look = |bench: &mut Bench, error: EngineError| {
        bench.pending.retain(|p| !matches!(p, Pending::List(_)));
        bench.feed(Event::Listed(Err(error)));
    };
    let died = bench.now.mono;
    bench.feed(Event::WatchEnded(gone()));
    while bench.engine_error().is_none() {
        let wake = bench.core.next_wake().unwrap();
        bench.advance((wake - bench.now.mono).0);
        fail_look(&mut bench, gone());
        let silent_for = bench.now.mono - died;
        assert!(
            silent_for.0 >= 1_000 || bench.engine_error().is_none(),
            "a moment's absence is not reported"
        );
        assert!(silent_for.0 <= 2_000, "reported late");
    }
    bench.settle();
    assert_eq!(bench.engine_error(), None);
    // An operation without an answer is none that failed to reach it; a look that took too long is.
    bench.push(Some(Revision(1)), &[2], &[]);
    bench.feed(Event::WatchEnded(gone()));
    bench.advance(200);
    fail_look(&mut bench, gone());
    assert_eq!(bench.engine_error(), None);
    bench.settle();
    bench.advance(60_000);
    fail_look(&mut bench, EngineError::TimedOut("no answer within 20 s".into()));
    assert!(bench.engine_error().is_some());
    bench.settle();
    assert_eq!(bench.engine_error(), None);
}
