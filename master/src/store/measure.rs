//! How many commits a store makes durable in a second, for the benchmark.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use futures_util::future::join_all;
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, Epoch, InvalidId, LeaderId, ServiceName, Version, random_hex16},
};

use super::{
    Key, Store, StoreActor, StoreError, Write,
    core::CoreOptions,
    messages::{Commit, CommitError, LostLeadership},
};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The store could not be led.
    #[error("the store could not be led")]
    Lead(#[from] StoreError),
    /// A commit failed.
    #[error("a commit failed")]
    Commit(#[from] CommitError),
    /// The actor ended.
    #[error("the store actor ended")]
    Actor(#[from] actix::MailboxError),
    /// A name of the measurement's own is not valid.
    #[error("a name of the measurement is not valid")]
    Name(#[from] InvalidId),
}

struct Nobody;

impl Actor for Nobody {
    type Context = Context<Self>;
}

impl Handler<LostLeadership> for Nobody {
    type Result = ();
    fn handle(&mut self, _: LostLeadership, _: &mut Context<Self>) {}
}

/// Durable commits per second through the store actor: `committers` writers, each
/// waiting for its answer before it commits again, for at least `span`. Each
/// commit changes the writer's own record of `value_bytes` bytes; the records
/// are named `bench-<n>` and stay. To be called in an actix system.
pub async fn commits_per_second(
    store: Arc<dyn Store>,
    committers: usize,
    span: Duration,
    value_bytes: usize,
) -> Result<f64, MeasureError> {
    let (leader, cluster) = (LeaderId::parse(&random_hex16())?, ClusterId::parse(&random_hex16())?);
    let led = store.lead(&leader, Epoch(0), &cluster).await?;
    let (actor, _health) = StoreActor::new(store, &led, CoreOptions::default(), Nobody.start().recipient());
    let actor = actor.start();
    let start = Now::read().mono;
    let end = start + DurationMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let writer = async |n: usize| -> Result<u64, MeasureError> {
        let key = Key::head(ServiceName::parse(&format!("bench-{n}"))?);
        let mut version: Option<Version> = led.records.iter().find(|r| r.key == key).map(|r| r.version);
        let mut commits = 0;
        while Now::read().mono < end {
            let text = format!("{commits:0>value_bytes$}");
            let write = Write { key: key.clone(), expect: version, value: Some(Bytes::from(text)) };
            version = Some(write.version_after());
            actor.send(Commit { writes: vec![write] }).await??;
            commits += 1;
        }
        Ok(commits)
    };
    let counts = join_all((0..committers).map(writer)).await;
    let elapsed: MonoMs = Now::read().mono;
    let commits: u64 = counts.into_iter().sum::<Result<u64, _>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    Ok(commits as f64 * 1000.0 / (elapsed - start).0.max(1) as f64)
}
