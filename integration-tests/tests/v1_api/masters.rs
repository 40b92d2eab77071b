//! What is known and done when masters and stores come and go.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use shef_agent::engine::fake::{FakeEngineOptions, FakeHost};
use shef_common::ids::{ClusterId, Epoch, Fence, LeaderId};
use shef_common::tls::TlsMode;
use shef_integration_tests::cluster::{Cluster, PATIENCE, master_config};
use shef_master::{
    config::MasterConfig,
    store::{
        Backup, LeadOutcome, Leadership, Look, Record, Store, StoreError, StoreFuture, Write, WriteOutcome,
        fake::FakeStore,
    },
};

use crate::{cluster, is_problem};

/// A cluster of one host whose engine outlives its agent, with a service web as `spec` says.
async fn with_a_service(spec: Value) -> (Cluster, FakeEngineOptions, FakeHost) {
    let host = FakeHost::default();
    let engine = FakeEngineOptions { host: Some(host.clone()), ..Default::default() };
    let cluster = Cluster::plain(1, engine.clone()).await;
    cluster.api.call("PUT", "/v1/services/web?wait=60s", spec).await;
    (cluster, engine, host)
}

#[actix_rt::test]
async fn a_service_says_what_is_done_when_masters_are_away_and_hosts_come() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let spec = json!({"image": "nginx:1", "replicas": 2, "on_disconnect": {"stop_after": {"seconds": 3600}},
        "rebalance": {"on": {"per_minute": 6}}, "update": {"monitor_ms": 100}});
    assert_eq!(api.call("PUT", "/v1/services/web?wait=60s", spec.clone()).await.body["converged"], true);
    let shown = api.get("/v1/services/web").await.body;
    assert_eq!((&shown["on_disconnect"], &shown["rebalance"]), (&spec["on_disconnect"], &spec["rebalance"]));
    assert!(
        shown["replica_states"].as_array().unwrap().iter().all(|replica| replica["host"] == "ready"),
        "{shown:#}"
    );

    let changed = api
        .call("PATCH", "/v1/services/web?wait=60s", json!({"on_disconnect": "keep", "rebalance": "off"}))
        .await;
    assert_eq!((changed.status, &changed.body["generation"]), (200, &json!(1)), "{changed:?}");
    let now = api.get("/v1/services/web").await.body;
    assert_eq!((now.get("on_disconnect"), now.get("rebalance"), &now["replicas"]), (None, None, &json!(2)));
    let ids = |body: &Value| -> Vec<Value> {
        body["replica_states"]
            .as_array()
            .unwrap()
            .iter()
            .map(|replica| replica["container_id"].clone())
            .collect()
    };
    assert_eq!(ids(&now), ids(&shown), "no container was touched");

    let said =
        api.call("PATCH", "/v1/services/web", json!({"resources": {"limit": {"memory_bytes": 1}}})).await;
    is_problem(&said, 400, "invalid_body");
    assert_eq!(said.body["errors"][0]["field"], "resources.limit.memory_bytes", "{said:?}");
    let patch = json!({"env": {"A": "1"}, "update": {"parallelism": 2}});
    let changed = api.call("PATCH", "/v1/services/web?wait=60s", patch).await;
    assert_eq!((changed.status, &changed.body["generation"]), (200, &json!(2)), "{changed:?}");
    let now = api.get("/v1/services/web").await.body;
    assert_eq!(
        (&now["env"], &now["update"]["parallelism"], &now["image"]),
        (&json!({"A": "1"}), &json!(2), &json!("nginx:1"))
    );

    let asked = api.call("POST", "/v1/services/web/rebalance", json!({"per_minute": 5})).await;
    assert_eq!((asked.status, &asked.body["name"]), (202, &json!("web")), "{asked:?}");
    api.until("/v1/services/web", |answer| {
        answer.body.get("rebalancing").is_none() && answer.body["state"] == "running"
    })
    .await;
    assert_eq!(
        api.raw("POST", "/v1/services/web/rebalance", &[], Vec::new()).await.status,
        202,
        "no body is the default"
    );
    is_problem(
        &api.call("POST", "/v1/services/web/rebalance", json!({"per_minute": 0})).await,
        400,
        "invalid_body",
    );
    is_problem(&api.call("POST", "/v1/services/gone/rebalance", json!({})).await, 404, "service_not_found");
    is_problem(&api.call("PATCH", "/v1/services/web", json!({})).await, 400, "invalid_body");
    is_problem(&api.call("PATCH", "/v1/services/web", json!({"rebalance": "on"})).await, 400, "invalid_body");
    is_problem(
        &api.raw("GET", "/v1/services/web/rebalance", &[], Vec::new()).await,
        405,
        "method_not_allowed",
    );
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_master_that_restarts_remembers_everything_and_restarts_nothing() {
    let spec = json!({"image": "nginx", "replicas": 5, "update": {"monitor_ms": 0}});
    let (cluster, engine, host) = with_a_service(spec).await;
    let before = host.containers();
    assert_eq!(before.len(), 5);
    let mut cluster = Cluster::start(cluster.stop().await).await;
    let shown = cluster.api.get("/v1/services/web").await.body;
    assert_eq!((&shown["replicas"], &shown["version"]), (&json!(5), &json!(1)));
    cluster.add_agent("h0", "unix:///nowhere", shef_agent::EngineChoice::Fake(engine)).await;
    let running = cluster.api.until("/v1/services/web", |answer| answer.body["state"] == "running").await;
    assert_eq!((&running.body["running"], &running.body["version"]), (&json!(5), &json!(1)));
    assert_eq!(host.containers(), before, "the same containers");
    cluster.stop().await;
}

#[actix_rt::test]
async fn an_emptied_store_deletes_nothing() {
    let spec = json!({"image": "nginx", "replicas": 3, "env": {"A": "1"}, "update": {"monitor_ms": 0}});
    let (cluster, engine, host) = with_a_service(spec).await;
    let before = host.containers();
    let dir = cluster.stop().await;
    std::fs::remove_file(dir.path().join("shef.redb")).unwrap();
    // With TLS: see lost_store.rs.
    let config = MasterConfig { tls: Some(TlsMode::Off), ..master_config(dir.path()) };
    let mut cluster = Cluster::start_as(config, dir).await;
    assert_eq!(cluster.api.get("/v1/services").await.body["services"], json!([]));
    cluster.add_agent("h0", "unix:///nowhere", shef_agent::EngineChoice::Fake(engine)).await;
    let found = cluster.api.until("/v1/services/web", |answer| answer.body["state"] == "running").await.body;
    assert_eq!(
        (&found["replicas"], &found["image"], &found["env"]),
        (&json!(3), &json!("nginx"), &json!({"A": "1"}))
    );
    assert_eq!(host.containers(), before, "the same containers");
    cluster.stop().await;
}

/// A store that refuses to commit for a while.
#[derive(Default)]
struct Stubborn {
    store: FakeStore,
    refuses: AtomicBool,
    refused: AtomicU32,
}

impl Store for Stubborn {
    fn describe(&self) -> String {
        "a stubborn store".to_owned()
    }
    fn lead<'a>(
        &'a self,
        leader: &'a LeaderId,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome> {
        self.store.lead(leader, at_least, cluster_if_new)
    }
    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, Leadership> {
        self.store.raise(fence, at_least, cluster_if_new)
    }
    fn commit<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        writes: &'a [Write],
    ) -> StoreFuture<'a, Vec<WriteOutcome>> {
        if self.refuses.load(SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            return Box::pin(std::future::ready(Err(StoreError::Unavailable { why: "not now".to_owned() })));
        }
        self.store.commit(cluster, fence, writes)
    }
    fn look(&self) -> StoreFuture<'_, Look> {
        self.store.look()
    }
    fn authority(&self) -> StoreFuture<'_, Option<Record>> {
        self.store.authority()
    }
    fn check<'a>(&'a self, fence: &'a Fence) -> StoreFuture<'a, ()> {
        self.store.check(fence)
    }
    fn restore<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fence: &'a Fence,
        records: &'a [Record],
    ) -> StoreFuture<'a, ()> {
        self.store.restore(cluster, fence, records)
    }
    fn load<'a>(&'a self, backup: &'a Backup, replace: bool) -> StoreFuture<'a, Fence> {
        self.store.load(backup, replace)
    }
}

#[actix_rt::test]
async fn a_host_gets_no_orders_until_it_is_taken_over() {
    let mut cluster = Cluster::plain(2, FakeEngineOptions::default()).await;
    let created = cluster
        .api
        .call(
            "POST",
            "/v1/services?wait=60s",
            json!({"name": "web", "image": "nginx", "replicas": 4, "update": {"monitor_ms": 0}}),
        )
        .await;
    assert_eq!(created.body["converged"], true, "{created:?}");
    let ids = |service: &Value| -> BTreeSet<String> {
        service["replica_states"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = ids(&cluster.api.get("/v1/services/web").await.body);

    // The master comes back at the same address with an empty store that does not take anything yet.
    let address = cluster.master.address();
    cluster.master.stop().await;
    let store = Arc::new(Stubborn { refuses: true.into(), ..Default::default() });
    let config =
        MasterConfig { listen: address, tls: Some(TlsMode::Off), ..master_config(cluster.dir.path()) };
    cluster.master = shef_master::start_on(config, store.clone()).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        // Several tries of each host.
        while store.refused.load(SeqCst) < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the hosts register again and again");
    store.refuses.store(false, SeqCst);
    let found = cluster.api.until("/v1/services/web", |answer| answer.body["running"] == 4).await.body;
    assert_eq!(ids(&found), before, "{found:#}");
    cluster.stop().await;
}
