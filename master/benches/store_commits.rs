//! Prints the durable commits per second on each store, and what one replica more takes until it is
//! durable, by the size of the service. Needs `redis-server` on the PATH.

#[path = "../tests/store/redis_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod redis_server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use shef_common::ids::{ClusterId, Epoch, LeaderId, random_hex16};
use shef_master::{
    service::{
        ServiceEffect,
        measure::{Kind, LargeService},
    },
    store::{LeadOutcome, Store, StoreOptions, measure::commits_per_second, open},
};

/// How often a step is measured.
const TIMES: usize = 101;

/// The service takes all events that are there, and its commits go to the store.
async fn settle(service: &mut LargeService, store: &dyn Store, led: &LeadOutcome) {
    while let Some(event) = service.next_in_time() {
        let effects = service.handle(event);
        for effect in &effects {
            if let ServiceEffect::Commit(writes) = effect {
                store.commit(&led.cluster, &led.fence, writes).await.expect("a commit");
            }
        }
        service.carry_out(effects);
    }
}

/// The median time of one replica more, from the request until all that follows is durable, and the bytes
/// that it writes.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn scale_step(store: &dyn Store, replicas: u32) -> (Duration, usize) {
    let leader = LeaderId::parse(&random_hex16()).expect("an id");
    let cluster = ClusterId::parse(&random_hex16()).expect("an id");
    let led = store.lead(&leader, Epoch(0), &cluster).await.expect("the leadership");
    let mut service = LargeService::unborn(Kind::Stateless, replicas).expect("a service");
    service.is_created();
    settle(&mut service, store, &led).await;
    let before = service.written();
    let mut all = Vec::new();
    for _ in 0..TIMES {
        service.scales_up(1);
        let since = Instant::now();
        settle(&mut service, store, &led).await;
        all.push(since.elapsed());
    }
    let written = service.written() - before;
    service.is_deleted();
    settle(&mut service, store, &led).await;
    all.sort_unstable();
    (all[all.len() / 2], written / TIMES)
}

#[actix_rt::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = redis_server::RedisServer::start(&[]);
    let embedded =
        open(&StoreOptions::Embedded { path: directory.path().into() }).await.expect("the embedded store");
    let redis = open(&StoreOptions::Redis(server.options())).await.expect("Redis");
    println!("durable commits of 1,000 bytes per second");
    println!("{:>12} {:>10} {:>24}", "committers", "embedded", "Redis, appendfsync always");
    for committers in [1, 16, 64] {
        let rate = async |store: &Arc<dyn Store>| {
            commits_per_second(store.clone(), committers, Duration::from_secs(2), 1000).await.expect("a rate")
        };
        println!("{committers:>12} {:>10.0} {:>24.0}", rate(&embedded).await, rate(&redis).await);
    }
    println!("one replica more, until it is durable: milliseconds (bytes written), median of {TIMES}");
    println!("{:>12} {:>18} {:>24}", "replicas", "embedded", "Redis, appendfsync always");
    for replicas in [10, 1_000, 10_000, 100_000] {
        let step = async |store: &Arc<dyn Store>| {
            let (took, bytes) = scale_step(&**store, replicas).await;
            format!("{:.2} ({bytes})", took.as_secs_f64() * 1e3)
        };
        println!("{replicas:>12} {:>18} {:>24}", step(&embedded).await, step(&redis).await);
    }
}
