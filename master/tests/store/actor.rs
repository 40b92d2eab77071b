//! The store actor before a real Redis that is killed, emptied, frozen or taken over.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Addr, Context, Handler};
use bytes::Bytes;
use deadpool_redis::redis::Value;
use futures_util::future::join_all;
use shef_common::{clock::DurationMs, ids::Version};
use shef_master::store::{
    Record, Store, StoreActor, Write,
    core::CoreOptions,
    fake::FakeStore,
    messages::{Commit, CommitError, Flush, LostLeadership, StoreHealth},
    redis::RedisStore,
};
use tokio::sync::{mpsc, watch};

use crate::{
    conformance::{lead, record, service, set},
    redis_server::RedisServer,
};

/// The longest any of it may take.
const LIMIT: Duration = Duration::from_secs(20);

struct Owner(mpsc::UnboundedSender<LostLeadership>);

impl Actor for Owner {
    type Context = Context<Self>;
}

impl Handler<LostLeadership> for Owner {
    type Result = ();
    fn handle(&mut self, message: LostLeadership, _: &mut Context<Self>) {
        let _ = self.0.send(message);
    }
}

struct Site {
    store: Arc<dyn Store>,
    actor: Addr<StoreActor>,
    health: watch::Receiver<StoreHealth>,
    lost: mpsc::UnboundedReceiver<LostLeadership>,
}

impl Site {
    async fn new(store: impl Store) -> Self {
        let store: Arc<dyn Store> = Arc::new(store);
        let led = lead(&*store, 1).await;
        let (sender, lost) = mpsc::unbounded_channel();
        let options = CoreOptions {
            away_check: DurationMs(100),
            idle_check: DurationMs(200),
            ..CoreOptions::default()
        };
        let owner = Owner(sender).start().recipient();
        let (actor, health) = StoreActor::new(store.clone(), &led, options, owner);
        Self { store, actor: actor.start(), health, lost }
    }

    async fn commit(&self, write: Write) -> Result<(), CommitError> {
        let answer = self.actor.send(Commit { writes: vec![write] });
        tokio::time::timeout(LIMIT, answer).await.expect("answered in time").unwrap()
    }

    async fn until(&mut self, available: bool) {
        let seen = self.health.wait_for(|health| health.available == available);
        tokio::time::timeout(LIMIT, seen).await.expect("seen in time").unwrap();
    }

    /// What a new leader finds.
    async fn found(&self) -> Vec<Record> {
        lead(&*self.store, 2).await.records
    }
}

async fn on_redis(server: &RedisServer) -> Site {
    Site::new(RedisStore::open(&server.options()).await.unwrap()).await
}

fn unavailable(result: &Result<(), CommitError>) -> bool {
    matches!(result, Err(CommitError::Unavailable { .. }))
}

#[actix_rt::test]
async fn a_killed_redis_refuses_writes_and_comes_back_with_everything() {
    let mut server = RedisServer::start(&[]);
    let mut site = on_redis(&server).await;
    for n in 1..=20 {
        site.commit(set(&service("web"), (n > 1).then_some(n - 1), &n.to_string())).await.unwrap();
    }
    server.kill();
    site.until(false).await;
    let refused = site.commit(set(&service("web"), Some(20), "x")).await;
    assert!(unavailable(&refused), "{refused:?}");
    server.restart();
    site.until(true).await;
    site.commit(set(&service("web"), Some(20), "21")).await.unwrap();
    assert_eq!(site.found().await, [record(&service("web"), 21, "21")]);
}

#[actix_rt::test]
async fn a_redis_that_is_killed_under_load_loses_nothing_and_does_nothing_twice() {
    let mut server = RedisServer::start(&[]);
    let site = on_redis(&server).await;
    let writers = (0..16).map(async |writer: u32| {
        let (mut version, mut refused) = (0_u64, 0);
        let key = service(&format!("w-{writer}"));
        while version < 60 {
            match site.commit(set(&key, (version > 0).then_some(version), &version.to_string())).await {
                Ok(()) => version += 1,
                Err(CommitError::Unavailable { .. }) => {
                    refused += 1;
                    site.health.clone().wait_for(|health| health.available).await.unwrap();
                }
                Err(other) => panic!("{other}"),
            }
        }
        refused
    });
    let killer = async {
        for _ in 0..3 {
            site.commit(set(&service("gate"), None, "x")).await.ok();
            server.kill();
            site.health.clone().wait_for(|health| !health.available).await.unwrap();
            server.restart();
            site.health.clone().wait_for(|health| health.available).await.unwrap();
        }
    };
    let (refused, ()) =
        tokio::time::timeout(LIMIT, futures_util::future::join(join_all(writers), killer)).await.unwrap();
    assert!(refused.iter().sum::<u32>() > 0, "the kills were felt");
    let found = site.found().await;
    let counters: Vec<_> = found.iter().filter(|r| r.key != service("gate")).collect();
    assert_eq!(counters.len(), 16);
    for record in counters {
        assert_eq!((record.version, &record.value), (Version(60), &Bytes::from("59")), "{}", record.key);
    }
}

#[actix_rt::test]
async fn a_flushed_redis_is_given_everything_back_without_a_write() {
    let server = RedisServer::start(&[]);
    let site = on_redis(&server).await;
    site.commit(set(&service("web"), None, "1")).await.unwrap();
    site.commit(set(&service("web"), Some(1), "2")).await.unwrap();
    server.run::<()>(&["FLUSHALL"]);
    let restored = async {
        while server.run::<i64>(&["EXISTS", "shef:store"]) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, restored).await.unwrap();
    site.commit(set(&service("web"), Some(2), "3")).await.unwrap();
    assert_eq!(site.found().await, [record(&service("web"), 3, "3")]);
}

#[actix_rt::test]
async fn a_frozen_redis_leaves_a_write_open_and_resolves_it_once() {
    let server = RedisServer::start(&[]);
    let mut site = Site::new(RedisStore::open(&server.trusting_options()).await.unwrap()).await;
    site.commit(set(&service("web"), None, "1")).await.unwrap();
    server.signal("STOP");
    let open = site.actor.send(Commit { writes: vec![set(&service("web"), Some(1), "2")] });
    let mut open = Box::pin(tokio::time::timeout(LIMIT, open));
    tokio::select! {
        answer = &mut open => panic!("nobody can know yet: {answer:?}"),
        () = site.until(false) => {}
    }
    assert!(unavailable(&site.commit(set(&service("other"), None, "1")).await), "refused at once meanwhile");
    let mut flush = Box::pin(site.actor.send(Flush));
    tokio::select! {
        _ = &mut flush => panic!("something is open"),
        () = tokio::task::yield_now() => {}
    }
    server.signal("CONT");
    open.await.unwrap().unwrap().unwrap();
    tokio::time::timeout(LIMIT, flush).await.unwrap().unwrap();
    site.until(true).await;
    assert_eq!(site.found().await, [record(&service("web"), 2, "2")]);
}

#[actix_rt::test]
async fn a_redis_that_does_not_write_is_told_by_its_own_words() {
    let server = RedisServer::start(&[]);
    let site = on_redis(&server).await;
    server.run::<Value>(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = site.commit(set(&service("web"), None, "1")).await.unwrap_err().to_string();
    assert!(refused.contains("OOM"), "{refused}");
    server.run::<Value>(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut health = site.health.clone();
    tokio::time::timeout(LIMIT, health.wait_for(|h| h.available)).await.unwrap().unwrap();
    site.commit(set(&service("web"), None, "1")).await.unwrap();
}

#[actix_rt::test]
async fn the_owner_hears_that_another_leads() {
    let mut site = Site::new(FakeStore::new()).await;
    let other = lead(&*site.store, 2).await.fence;
    assert_eq!(site.commit(set(&service("web"), None, "1")).await, Err(CommitError::Fenced));
    let lost = tokio::time::timeout(LIMIT, site.lost.recv()).await.unwrap().unwrap();
    assert_eq!(lost.stored, other);
}
