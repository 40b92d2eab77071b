//! Prints the durable commits per second on each store. Needs `redis-server` on the PATH.

#[path = "../tests/store/redis_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod redis_server;

use std::{sync::Arc, time::Duration};

use shef_master::store::{Store, StoreOptions, measure::commits_per_second, open};

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
}
