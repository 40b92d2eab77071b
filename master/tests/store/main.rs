//! The stores against their promises: the fake one, the file, and a real Redis
//! that is started for it. Needs `redis-server` on the PATH.

mod actor;
mod conformance;
mod embedded;
mod follow;
mod redis;
mod redis_server;

use shef_master::store::fake::FakeStore;

#[tokio::test]
async fn the_fake_store_conforms() {
    let store = FakeStore::new();
    conformance::conforms(&store, &store.clone(), async || (), async || store.empty()).await;
}
