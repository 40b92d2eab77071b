//! Saves the counters when they have changed.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message, Recipient, WrapFuture,
};
use shef_common::ids::Version;

use super::{Counts, Stats};
use crate::store::{Commit, Key, commit_one};

/// How often changed counters are saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Save the counters now, if they have changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SaveNow;

/// Saves the counters about every second, and at the end.
pub struct StatsActor {
    stats: Arc<Stats>,
    store: Recipient<Commit>,
    saved: Option<(Version, Counts)>,
}

impl StatsActor {
    /// `saved` is what the store holds.
    #[must_use]
    pub const fn new(stats: Arc<Stats>, saved: Option<(Version, Counts)>, store: Recipient<Commit>) -> Self {
        Self { stats, store, saved }
    }
}

impl Actor for StatsActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SAVE_INTERVAL, |_, ctx| ctx.notify(SaveNow));
    }
}

impl Handler<SaveNow> for StatsActor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, _: SaveNow, _: &mut Self::Context) -> Self::Result {
        let counts = self.stats.counts();
        let (version, saved) = self.saved.unzip();
        if saved == Some(counts) || counts == Counts::default() {
            return AtomicResponse::new(Box::pin(actix::fut::ready(())));
        }
        let saved = commit_one(&self.store, Key::Stats, version, Some(&counts));
        AtomicResponse::new(Box::pin(saved.into_actor(self).map(move |saved, actor, _| match saved {
            Ok(()) => actor.saved = Some((version.map_or(Version(1), Version::next), counts)),
            Err(error) => log::debug!(error:%; "counters not saved"),
        })))
    }
}
