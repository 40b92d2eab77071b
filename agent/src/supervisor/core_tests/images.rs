//! Which images are noted as brought by shef.

use shef_common::image::ImageRef;

use super::bench::{Bench, Pending};
use crate::{engine::EngineError, supervisor::core::Event};

/// What is noted when the pull of an image that is not on the host ends so.
fn noted(before: Result<Option<u64>, EngineError>, refused: bool) -> bool {
    let mut bench = Bench::new();
    bench.push(None, &[1], &[]);
    while !bench.pending.iter().any(|pending| matches!(pending, Pending::Pull(_))) {
        bench.finish(0, super::bench::End::Well);
    }
    let Some(Pending::Pull(wanted)) = bench.pending.pop() else { panic!("{:?}", bench.pending) };
    let outcome = if refused { Err(EngineError::Refused("denied".into())) } else { Ok(None) };
    bench.images.insert(wanted.image.pinned());
    bench.feed(Event::Pulled { wanted, before, outcome });
    let image = ImageRef::parse("absent").unwrap();
    assert!(bench.noted.iter().all(|noted| *noted == image));
    !bench.noted.is_empty()
}

#[test]
fn only_an_image_that_was_not_there_before_is_noted_as_brought_by_shef() {
    assert!(noted(Ok(None), false));
    assert!(!noted(Ok(Some(1_000)), false), "somebody else had put it there");
    assert!(!noted(Ok(None), true), "it did not come");
    let unanswered = EngineError::TimedOut("no answer".into());
    assert!(!noted(Err(unanswered), false), "somebody else may have put it there");
}
