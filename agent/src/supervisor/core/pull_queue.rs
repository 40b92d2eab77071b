//! Images that replicas wait for: each is pulled once, however many wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shef_common::ids::ReplicaId;

use crate::engine::WantedImage;

/// The images that are pulled, those that wait, and the replicas that wait for them.
#[derive(Debug)]
pub(in crate::supervisor) struct PullQueue {
    /// The most pulls at once.
    bound: usize,
    pulls: BTreeMap<WantedImage, Pull>,
    /// Those that have not begun, in their order.
    queue: VecDeque<WantedImage>,
    running: usize,
}

/// The pull of one image.
#[derive(Debug, Default)]
struct Pull {
    is_running: bool,
    waiters: BTreeSet<ReplicaId>,
}

impl PullQueue {
    pub const fn new(bound: usize) -> Self {
        Self { bound, pulls: BTreeMap::new(), queue: VecDeque::new(), running: 0 }
    }

    /// A replica waits for its image.
    pub fn wait(&mut self, image: WantedImage, replica: &ReplicaId) {
        let pull = self.pulls.entry(image.clone()).or_insert_with(|| {
            self.queue.push_back(image);
            Pull::default()
        });
        pull.waiters.insert(replica.clone());
    }

    /// A replica waits no longer, whatever its image was. Returns the pull to cancel, if it was the last one
    /// that waited for one under way.
    pub fn leave(&mut self, replica: &ReplicaId) -> Option<WantedImage> {
        // It may be known by its digest only since it waits.
        let (image, pull) = self.pulls.iter_mut().find(|(_, pull)| pull.waiters.contains(replica))?;
        pull.waiters.remove(replica);
        if !pull.waiters.is_empty() {
            return None;
        }
        let (image, is_running) = (image.clone(), pull.is_running);
        self.pulls.remove(&image);
        self.queue.retain(|queued| *queued != image);
        if is_running {
            self.running = self.running.saturating_sub(1);
        }
        is_running.then_some(image)
    }

    /// Begins the next pull, if the bound allows one.
    pub fn begin_next(&mut self) -> Option<WantedImage> {
        while self.running < self.bound {
            let image = self.queue.pop_front()?;
            if let Some(pull) = self.pulls.get_mut(&image) {
                pull.is_running = true;
                self.running += 1;
                return Some(image);
            }
        }
        None
    }

    /// A pull has ended. Returns the replicas that waited for it: none, if it was cancelled.
    pub fn end(&mut self, image: &WantedImage) -> BTreeSet<ReplicaId> {
        if !self.stop(image) {
            return BTreeSet::new();
        }
        self.pulls.remove(image).map(|pull| pull.waiters).unwrap_or_default()
    }

    /// The engine has gone away during a pull: the replicas wait on, and the image is asked for again.
    /// Returns whether somebody waits.
    pub fn begin_again(&mut self, image: &WantedImage) -> bool {
        let waits = self.stop(image);
        if waits {
            self.queue.push_back(image.clone());
        }
        waits
    }

    /// Whether it was running.
    fn stop(&mut self, image: &WantedImage) -> bool {
        let Some(pull) = self.pulls.get_mut(image).filter(|pull| pull.is_running) else { return false };
        pull.is_running = false;
        self.running = self.running.saturating_sub(1);
        true
    }

    /// Whether a pull is under way.
    #[cfg(test)]
    pub const fn is_running(&self) -> bool {
        self.running > 0
    }
}

#[cfg(test)]
mod tests {
    use shef_common::{ids::ServiceName, image::ImageRef, spec::Platform};

    use super::*;

    fn image(name: &str) -> WantedImage {
        WantedImage { image: ImageRef::parse(name).unwrap(), platform: None }
    }

    fn id(number: u32) -> ReplicaId {
        ReplicaId::new(&ServiceName::parse("web").unwrap(), number)
    }

    #[test]
    fn one_pull_serves_all_that_wait_for_its_image() {
        let mut queue = PullQueue::new(4);
        queue.wait(image("a"), &id(1));
        queue.wait(image("a"), &id(2));
        assert_eq!((queue.begin_next(), queue.begin_next()), (Some(image("a")), None));
        queue.wait(image("a"), &id(3));
        assert_eq!(queue.begin_next(), None, "it is under way");
        assert_eq!(queue.end(&image("a")), [id(1), id(2), id(3)].into());
        assert!(!queue.is_running() && queue.end(&image("a")).is_empty());
    }

    #[test]
    fn an_image_of_two_platforms_is_pulled_for_each() {
        let mut queue = PullQueue::new(4);
        let arm = WantedImage { platform: Platform::parse("linux/arm64").ok(), ..image("a") };
        queue.wait(image("a"), &id(1));
        queue.wait(arm.clone(), &id(2));
        assert_eq!((queue.begin_next(), queue.begin_next()), (Some(image("a")), Some(arm.clone())));
        assert_eq!(queue.end(&arm), [id(2)].into());
    }

    #[test]
    fn no_more_pulls_run_than_the_bound_allows() {
        let mut queue = PullQueue::new(2);
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            queue.wait(image(name), &id(u32::try_from(number).unwrap()));
        }
        let begun = [queue.begin_next(), queue.begin_next(), queue.begin_next()];
        assert_eq!(begun, [Some(image("a")), Some(image("b")), None]);
        queue.end(&image("b"));
        assert_eq!(queue.begin_next(), Some(image("c")));
    }

    #[test]
    fn a_pull_that_nobody_waits_for_is_cancelled_and_frees_its_place() {
        let mut queue = PullQueue::new(1);
        queue.wait(image("a"), &id(1));
        queue.wait(image("a"), &id(2));
        queue.wait(image("b"), &id(3));
        assert_eq!(queue.begin_next(), Some(image("a")));
        assert_eq!((queue.leave(&id(1)), queue.leave(&id(1))), (None, None));
        assert_eq!(queue.leave(&id(2)), Some(image("a")));
        assert!(queue.end(&image("a")).is_empty(), "its answer comes too late");
        assert_eq!(queue.begin_next(), Some(image("b")));
    }

    #[test]
    fn a_pull_that_has_not_begun_is_forgotten_with_the_last_that_waits() {
        let mut queue = PullQueue::new(1);
        queue.wait(image("a"), &id(1));
        assert_eq!((queue.leave(&id(1)), queue.begin_next()), (None, None));
    }

    #[test]
    fn an_engine_that_went_away_is_asked_for_the_image_again() {
        let mut queue = PullQueue::new(1);
        queue.wait(image("a"), &id(1));
        queue.begin_next();
        assert!(queue.begin_again(&image("a")) && !queue.is_running());
        assert_eq!(queue.begin_next(), Some(image("a")));
        assert_eq!(queue.end(&image("a")), [id(1)].into());
        assert!(!queue.begin_again(&image("a")), "nobody waits");
    }
}
