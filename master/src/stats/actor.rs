//! Saves the counters when they have changed.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message, Recipient, WrapFuture,
};
use bytes::Bytes;
use shef_common::ids::Version;

use super::{Counts, Stats};
use crate::store::{Commit, Key, Write};

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
        let version = self.saved.map(|(version, _)| version);
        let value = match serde_json::to_vec(&counts) {
            Ok(value)
                if self.saved.is_none_or(|(_, saved)| saved != counts) && counts != Counts::default() =>
            {
                Bytes::from(value)
            }
            _ => return AtomicResponse::new(Box::pin(actix::fut::ready(()))),
        };
        let write = Write { key: Key::Stats, expect: version, value: Some(value) };
        let saved = self.store.send(Commit { writes: vec![write] });
        AtomicResponse::new(Box::pin(saved.into_actor(self).map(move |saved, actor, _| match saved {
            Ok(Ok(())) => actor.saved = Some((version.map_or(Version(1), Version::next), counts)),
            Ok(Err(error)) => log::debug!(error:%; "counters not saved"),
            Err(_) => {}
        })))
    }
}
