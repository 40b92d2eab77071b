//! `/v1`: the API to build on.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_common::ids::{ClusterId, Epoch, Fence, LeaderId};
use shef_integration_tests::cluster::{Answer, Cluster, PATIENCE, master_config};
use shef_master::{
    config::MasterConfig,
    store::{
        Backup, LeadOutcome, Led, Record, Store, StoreError, StoreFuture, Write, WriteOutcome,
        fake::FakeStore,
    },
};

const PROBLEM: &str = "application/problem+json";

fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.content_type.as_str()), (status, PROBLEM), "{answer:?}");
    assert_eq!((&answer.body["code"], &answer.body["status"]), (&json!(code), &json!(status)), "{answer:?}");
    assert_eq!(answer.body["type"], format!("urn:shef:problem:{code}"));
    assert!(!answer.body["detail"].as_str().unwrap().is_empty());
}

async fn cluster() -> Cluster {
    Cluster::fake(2, FakeEngineOptions::default()).await
}

#[actix_rt::test]
async fn a_service_lives_from_post_to_delete() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let spec = json!({"name": "web", "image": "nginx:1", "replicas": 4, "command": ["serve"], "env": {"A": "1"},
        "update": {"monitor_ms": 0}});
    let created = api.call("POST", "/v1/services?wait=60s", spec).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.body, json!({"name": "web", "generation": 1, "version": 1, "converged": true}));
    assert_eq!(created.etag.as_deref(), Some("\"1\""));

    let shown = api.get("/v1/services/web").await;
    assert_eq!((shown.status, shown.etag.as_deref()), (200, Some("\"1\"")));
    assert_eq!(
        (&shown.body["state"], &shown.body["running"], &shown.body["missing"]),
        (&json!("running"), &json!(4), &json!([]))
    );
    assert_eq!((&shown.body["command"], &shown.body["env"]), (&json!(["serve"]), &json!({"A": "1"})));
    let replicas = api.get("/v1/services/web/replicas").await.body["replicas"].clone();
    let on =
        |node: &str| replicas.as_array().unwrap().iter().filter(|replica| replica["node"] == node).count();
    assert_eq!((on("h0"), on("h1")), (2, 2), "spread over the hosts");

    let scaled = api.call("PATCH", "/v1/services/web?wait=60s", json!({"replicas": 1})).await;
    assert_eq!((scaled.status, &scaled.body["converged"]), (200, &json!(true)), "{scaled:?}");
    let replaced = api
        .call(
            "PUT",
            "/v1/services/web?wait=60s",
            json!({"image": "nginx:2", "replicas": 3, "update": {"monitor_ms": 100}}),
        )
        .await;
    assert_eq!((replaced.status, &replaced.body["generation"]), (200, &json!(2)), "{replaced:?}");
    assert_eq!(api.get("/v1/services/web").await.body["image"], "nginx:2");

    let deleted = api.raw("DELETE", "/v1/services/web?wait=60s", &[], Vec::new()).await;
    assert_eq!((deleted.status, &deleted.body["converged"]), (200, &json!(true)), "{deleted:?}");
    is_problem(&api.get("/v1/services/web").await, 404, "service_not_found");
    cluster.stop().await;
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
async fn every_replica_shows_the_address_that_it_really_has() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let ports =
        json!([{"target": 80}, {"target": 53, "published": 5353, "protocol": "udp", "host_ip": "127.0.0.9"}]);
    let spec = json!({"image": "nginx:1", "replicas": 2, "ports": ports, "update": {"monitor_ms": 0}});
    assert_eq!(api.call("PUT", "/v1/services/web?wait=60s", spec).await.body["converged"], true);
    let nodes = api.get("/v1/nodes").await.body["nodes"].clone();
    let shown = api.get("/v1/services/web").await.body;
    for replica in shown["replica_states"].as_array().unwrap() {
        let node = nodes.as_array().unwrap().iter().find(|node| node["name"] == replica["node"]).unwrap();
        let chosen = replica["ports"].as_array().unwrap().iter().find(|port| port["target"] == 80).unwrap()["published"].clone();
        let wanted = [
            format!("{}:{chosen}->80/tcp", node["address"].as_str().unwrap()),
            "127.0.0.9:5353->53/udp".to_owned(),
        ];
        let mut addresses: Vec<String> = serde_json::from_value(replica["addresses"].clone()).unwrap();
        addresses.sort_by_key(|address| address.ends_with("udp"));
        assert_eq!(addresses, wanted, "{shown:#}");
    }
    let listed = api.get("/v1/services/web/replicas").await.body;
    assert_eq!(listed["replicas"][0]["addresses"].as_array().unwrap().len(), 2, "{listed:#}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_rebalance_moves_replicas_to_a_host_that_has_come() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let spec = json!({"name": "web", "image": "nginx:1", "replicas": 4, "update": {"monitor_ms": 0}});
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", spec).await.body["converged"], true);
    cluster.add_agent("h1", "unix:///nowhere", EngineChoice::Fake(FakeEngineOptions::default())).await;
    cluster.ready(2).await;
    let asked = cluster.api.call("POST", "/v1/services/web/rebalance", json!({"per_minute": 1000})).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let on = |body: &Value, node: &str| {
        body["replica_states"].as_array().unwrap().iter().filter(|r| r["node"] == node).count()
    };
    let through =
        |answer: &Answer| answer.body.get("rebalancing").is_none() && answer.body["state"] == "running";
    let shown = cluster.api.until("/v1/services/web", through).await.body;
    assert_eq!((on(&shown, "h0"), on(&shown, "h1"), &shown["running"]), (2, 2, &json!(4)), "{shown:#}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn if_match_guards_every_write() {
    let cluster = cluster().await;
    let api = &cluster.api;
    api.call("PUT", "/v1/services/web", json!({"image": "nginx"})).await;
    let guarded = |version: &'static str| [("content-type", "application/json"), ("if-match", version)];
    let stale = guarded("\"7\"");
    for (method, body) in
        [("PUT", json!({"image": "other"})), ("PATCH", json!({"replicas": 3})), ("DELETE", json!({}))]
    {
        let answer = api.raw(method, "/v1/services/web", &stale, body.to_string().into_bytes()).await;
        is_problem(&answer, 412, "version_mismatch");
    }
    assert_eq!(api.get("/v1/services/web").await.body["image"], "nginx");
    let version = api.get("/v1/services/web").await.etag.unwrap();
    let headers = [("content-type", "application/json"), ("if-match", version.as_str())];
    let fits = api
        .raw("PUT", "/v1/services/web", &headers, json!({"image": "other"}).to_string().into_bytes())
        .await;
    assert_eq!(fits.status, 200);
    let new = api
        .raw("PUT", "/v1/services/new", &guarded("\"1\""), json!({"image": "x"}).to_string().into_bytes())
        .await;
    is_problem(&new, 404, "service_not_found");
    is_problem(
        &api.raw("PATCH", "/v1/services/web", &guarded("x"), b"{\"replicas\":1}".to_vec()).await,
        400,
        "invalid_parameter",
    );
    cluster.stop().await;
}

#[actix_rt::test]
async fn every_wrong_field_is_named_and_nothing_changes() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let fields = |answer: &Answer| -> Vec<String> {
        let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    };
    for (body, wrong) in [
        (json!({}), vec!["name", "image"]),
        (
            json!({"name": "Web", "image": "a b", "replicas": -1, "bogus": 1}),
            vec!["name", "image", "replicas", "bogus"],
        ),
        (json!({"name": "web", "image": "a", "replicas": 10_001}), vec!["replicas"]),
        (json!({"name": "web", "image": "a", "replicas": "2"}), vec!["replicas"]),
        (json!({"name": "web", "image": "a", "env": {"A=B": "1"}}), vec!["env"]),
        (json!({"name": "web", "image": "a", "env": {"A": 1}}), vec!["env.A"]),
        (
            json!({"name": "web", "image": "a", "ports": [{"target": 80}, {"target": 0}]}),
            vec!["ports[1].target"],
        ),
        (json!({"name": "web", "image": "a", "mode": "global", "replicas": 2}), vec!["replicas"]),
        (json!({"name": "web", "image": "a", "command": "sh"}), vec!["command"]),
        (json!({"name": "web", "image": "a", "stop_grace_s": 4_000}), vec!["stop_grace_s"]),
    ] {
        let answer = api.call("POST", "/v1/services", body.clone()).await;
        is_problem(&answer, 400, "invalid_body");
        assert_eq!(fields(&answer), wrong, "{body}: {answer:?}");
    }
    let other_name = api.call("PUT", "/v1/services/web", json!({"name": "db", "image": "a"})).await;
    assert_eq!(fields(&other_name), ["name"]);
    assert_eq!(api.get("/v1/services").await.body, json!({"services": [], "next": null}));
    cluster.stop().await;
}

#[actix_rt::test]
async fn addresses_methods_and_parameters_that_do_not_exist_are_problems() {
    let cluster = cluster().await;
    let api = &cluster.api;
    is_problem(&api.get("/nowhere").await, 404, "not_found");
    is_problem(&api.raw("PUT", "/v1/services", &[], Vec::new()).await, 405, "method_not_allowed");
    is_problem(&api.raw("PATCH", "/service", &[], Vec::new()).await, 405, "method_not_allowed");
    is_problem(&api.get("/v1/services/Bad").await, 400, "invalid_parameter");
    is_problem(&api.get("/v1/services/a%2Fb").await, 400, "invalid_parameter");
    is_problem(&api.get("/v1/services/a%0Ab").await, 400, "invalid_parameter");
    is_problem(&api.get("/v1/services?limit=0").await, 400, "invalid_parameter");
    is_problem(&api.get("/v1/services?bogus=1").await, 400, "invalid_parameter");
    is_problem(&api.get("/v1/nodes/gone").await, 404, "node_not_found");
    is_problem(
        &api.call("PUT", "/v1/services/web?wait=forever", json!({"image": "a"})).await,
        400,
        "invalid_parameter",
    );
    is_problem(
        &api.call("PUT", "/v1/services/web?wait=11m", json!({"image": "a"})).await,
        400,
        "invalid_parameter",
    );
    is_problem(&api.call("POST", "/v1/services", json!([])).await, 400, "invalid_body");
    let exists = json!({"name": "web", "image": "a"});
    assert_eq!(api.call("POST", "/v1/services", exists.clone()).await.status, 201);
    is_problem(&api.call("POST", "/v1/services", exists).await, 409, "service_exists");
    is_problem(
        &api.raw("POST", "/v1/services", &[("content-type", "application/json")], vec![b' '; 300_000]).await,
        413,
        "body_too_large",
    );
    is_problem(
        &api.raw("POST", "/v1/services", &[("content-type", "text/plain")], b"{}".to_vec()).await,
        415,
        "unsupported_media_type",
    );
    cluster.stop().await;
}

#[actix_rt::test]
async fn lists_are_paged_in_the_order_of_names() {
    let cluster = cluster().await;
    let api = &cluster.api;
    for n in 0..7 {
        api.call("PUT", &format!("/v1/services/s{n}"), json!({"image": "a", "replicas": 0})).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/services?limit=3{after}")).await.body;
        seen.extend(
            page["services"]
                .as_array()
                .unwrap()
                .iter()
                .map(|service| service["name"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]);

    assert_eq!(
        api.call("PUT", "/v1/services/s0?wait=60s", json!({"image": "a", "replicas": 3})).await.status,
        200
    );
    let first = |page: Value| page["services"][0].clone();
    let listed = first(api.get("/v1/services?limit=1").await.body);
    assert_eq!(
        (&listed["name"], &listed["running"], listed.get("replica_states")),
        (&json!("s0"), &json!(3), None)
    );
    let full = first(api.get("/v1/services?limit=1&replicas=true").await.body);
    assert_eq!(
        full,
        api.get("/v1/services/s0").await.body,
        "with its replicas a service is listed as it is shown alone"
    );
    assert_eq!(full["replica_states"].as_array().unwrap().len(), 3);
    is_problem(&api.get("/v1/services?replicas=yes").await, 400, "invalid_parameter");
    is_problem(&api.get("/v1/services?limit=1001").await, 400, "invalid_parameter");
    cluster.stop().await;
}

#[actix_rt::test]
async fn plans_beyond_their_bound_are_refused_and_the_others_are_made() {
    let cluster = cluster().await;
    let ask = |n: usize| {
        let api = cluster.api.clone();
        async move {
            api.call("POST", &format!("/v1/services/s{n}/plan"), json!({"image": "a", "replicas": 3_000}))
                .await
        }
    };
    let answers = futures_util::future::join_all((0..24).map(ask)).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!made.is_empty() && !refused.is_empty(), "{} made, {} refused", made.len(), refused.len());
    for answer in refused {
        is_problem(answer, 503, "overloaded");
        assert!(answer.retry_after.is_some(), "{answer:?}");
    }
    // What is through gives its place back.
    let path = "/v1/services/web/plan";
    assert_eq!(cluster.api.call("POST", path, json!({"image": "a", "replicas": 1})).await.status, 200);
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_wait_that_ends_too_early_says_what_is_missing() {
    let engine =
        FakeEngineOptions { images: Some([].into()), registry: Some([].into()), ..Default::default() };
    let cluster = Cluster::fake(1, engine).await;
    let answer = cluster.api.call("PUT", "/v1/services/web?wait=1s", json!({"image": "nope"})).await;
    assert_eq!((answer.status, &answer.body["converged"]), (201, &json!(false)));
    assert!(answer.body["missing"][0].is_string(), "{answer:?}");
    let shown = cluster
        .api
        .until("/v1/services/web", |answer| answer.body["missing"].to_string().contains("failed on h0: "))
        .await;
    let missing = shown.body["missing"][0].as_str().unwrap();
    assert!(missing.contains("nope"), "{missing}");
    let replica = cluster.api.get("/v1/services/web/replicas").await.body["replicas"][0].clone();
    assert_eq!(replica["state"], "failed");
    assert!(replica["reason"].as_str().unwrap().contains("nope"), "{replica}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn nodes_and_health_are_shown() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let nodes = api.get("/v1/nodes").await.body;
    let names: Vec<&Value> = nodes["nodes"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["h0", "h1"]);
    let node = api.get("/v1/nodes/h1").await.body;
    assert_eq!((&node["state"], &node["address"]), (&json!("ready"), &json!("127.0.0.1")));
    assert_eq!(api.get("/healthz").await.body, json!({"status": "ok"}));
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["store"]["available"]), (200, &json!(true)));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_master_that_restarts_remembers_everything_and_restarts_nothing() {
    let host = shef_agent::engine::fake::FakeHost::default();
    let engine = FakeEngineOptions { host: Some(host.clone()), ..Default::default() };
    let cluster = Cluster::fake(1, engine.clone()).await;
    cluster
        .api
        .call(
            "PUT",
            "/v1/services/web?wait=60s",
            json!({"image": "nginx", "replicas": 5, "update": {"monitor_ms": 0}}),
        )
        .await;
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
    let host = shef_agent::engine::fake::FakeHost::default();
    let engine = FakeEngineOptions { host: Some(host.clone()), ..Default::default() };
    let cluster = Cluster::fake(1, engine.clone()).await;
    cluster
        .api
        .call(
            "PUT",
            "/v1/services/web?wait=60s",
            json!({"image": "nginx", "replicas": 3, "env": {"A": "1"}, "update": {"monitor_ms": 0}}),
        )
        .await;
    let before = host.containers();
    let dir = cluster.stop().await;
    std::fs::remove_file(dir.path().join("shef.redb")).unwrap();
    let mut cluster = Cluster::start(dir).await;
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
    ) -> StoreFuture<'a, Led> {
        self.store.lead(leader, at_least, cluster_if_new)
    }
    fn raise<'a>(
        &'a self,
        fence: &'a Fence,
        at_least: Epoch,
        cluster_if_new: &'a ClusterId,
    ) -> StoreFuture<'a, LeadOutcome> {
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
async fn a_host_that_could_not_be_taken_over_at_once_is_told_nothing_until_it_is() {
    let mut cluster = cluster().await;
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
    let config = MasterConfig { listen: address, ..master_config(cluster.dir.path()) };
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

#[actix_rt::test]
async fn a_client_that_goes_away_gives_its_place_back() {
    use tokio::io::AsyncWriteExt as _;

    let engine =
        FakeEngineOptions { images: Some([].into()), registry: Some([].into()), ..Default::default() };
    let cluster = Cluster::fake(1, engine).await;
    // One after the other, many requests, each left in the middle of a long wait.
    for n in 0..40 {
        let mut client = tokio::net::TcpStream::connect(cluster.master.address()).await.unwrap();
        let head = format!(
            "PUT /v1/services/s{n}?wait=10m HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        );
        client
            .write_all(format!("{head}content-length: 14\r\n\r\n{{\"image\":\"no\"}}").as_bytes())
            .await
            .unwrap();
        // It has arrived when the service is there.
        cluster.api.until(&format!("/v1/services/s{n}"), |answer| answer.status == 200).await;
    }
    cluster.api.until("/v1/stats", |answer| answer.body["waiting_requests"] == 1).await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn an_update_that_cannot_start_is_rolled_back_and_says_so() {
    let there = || Some(BTreeSet::from(["nginx:1".to_owned()]));
    let engine = FakeEngineOptions { images: there(), registry: there(), ..FakeEngineOptions::default() };
    let cluster = Cluster::fake(2, engine).await;
    let api = &cluster.api;
    api.call(
        "PUT",
        "/v1/services/web?wait=60s",
        json!({"image": "nginx:1", "replicas": 2, "update": {"monitor_ms": 100}}),
    )
    .await;
    let bad = api
        .call(
            "PUT",
            "/v1/services/web?wait=60s",
            json!({"image": "missing:1", "replicas": 2, "update": {"monitor_ms": 100}}),
        )
        .await;
    assert_eq!((&bad.body["generation"], &bad.body["converged"]), (&json!(2), &json!(false)), "{bad:?}");
    let why = bad.body["missing"][0].as_str().unwrap();
    assert!(why.starts_with("generation 2 was rolled back to 1: web-") && why.contains("not found"), "{why}");
    let shown = api.get("/v1/services/web").await.body;
    assert_eq!(
        (
            &shown["image"],
            &shown["generation"],
            &shown["observed_generation"],
            &shown["state"],
            &shown["running"]
        ),
        (&json!("nginx:1"), &json!(1), &json!(1), &json!("running"), &json!(2)),
        "{shown}"
    );
    assert_eq!(shown["last_rollout"]["generation"], 2);
    is_problem(&api.call("POST", "/v1/services/web/rollout/pause", json!({})).await, 409, "rollout_conflict");
    is_problem(&api.call("POST", "/v1/services/web/rollback", json!({})).await, 409, "rollout_conflict");
    is_problem(&api.call("POST", "/v1/services/web/rollout/hurry", json!({})).await, 404, "not_found");
    let restarted = api.call("POST", "/v1/services/web/restart?wait=20s", json!({})).await;
    assert_eq!(
        (&restarted.body["generation"], &restarted.body["converged"]),
        (&json!(3), &json!(true)),
        "{restarted:?}"
    );
    let back = api.call("POST", "/v1/services/web/rollback?wait=20s", json!({"generation": 1})).await;
    assert_eq!((&back.body["generation"], &back.body["converged"]), (&json!(1), &json!(true)), "{back:?}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_plan_says_what_the_change_then_does() {
    let cluster = cluster().await;
    let api = &cluster.api;
    // One slot after the other: otherwise the host of the next may depend on who is through first.
    let spec = json!({"image": "nginx:1", "replicas": 2, "env": {"A": "1"}, "update": {"surge": 1, "monitor_ms": 500}});
    let planned = api.call("POST", "/v1/services/web/plan", spec.clone()).await;
    assert_eq!(
        (planned.status, &planned.body["version"], &planned.etag),
        (200, &Value::Null, &None),
        "{planned:?}"
    );
    let actions = |body: &Value| -> Vec<String> {
        body["actions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|action| action["action"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(actions(&planned.body), ["create", "create"]);
    is_problem(&api.get("/v1/services/web").await, 404, "service_not_found");
    is_problem(
        &api.call("PATCH", "/v1/services/web?dry_run=true", json!({"replicas": 1})).await,
        404,
        "service_not_found",
    );

    assert_eq!(
        api.call("PUT", "/v1/services/web?wait=60s&dry_run=false", spec.clone()).await.body["converged"],
        true
    );
    let same = api.call("PUT", "/v1/services/web?dry_run=true", spec).await;
    assert_eq!(
        (&same.body["changes"], actions(&same.body)),
        (&json!([]), vec!["keep".to_owned(); 2]),
        "{same:?}"
    );

    let patch = json!({"replicas": 3, "env": {"A": "2"}});
    let planned = api.call("PATCH", "/v1/services/web?dry_run=true", patch.clone()).await;
    let changes =
        json!([{"path": "env.A", "from": "1", "to": "2"}, {"path": "replicas", "from": 2, "to": 3}]);
    assert_eq!(planned.body["changes"], changes, "{planned:?}");
    assert_eq!(
        (&planned.body["starts_rollout"], &planned.body["order"]),
        (&json!(true), &json!("start-first"))
    );
    assert_eq!(
        (&planned.body["generation"], actions(&planned.body)),
        (&json!(2), vec!["replace".into(), "replace".into(), "create".into()])
    );
    let version = planned.etag.clone().unwrap();
    assert_eq!(api.get("/v1/services/web").await.body["generation"], 1, "nothing was done");
    let body = serde_json::to_vec(&patch).unwrap();
    let headers = [("If-Match", version.as_str()), ("Content-Type", "application/json")];
    let done = api.raw("PATCH", "/v1/services/web?wait=20s", &headers, body).await;
    assert_eq!((&done.body["generation"], &done.body["converged"]), (&json!(2), &json!(true)), "{done:?}");
    let shown = api.get("/v1/services/web").await.body;
    for action in planned.body["actions"].as_array().unwrap() {
        let replica = shown["replica_states"]
            .as_array()
            .unwrap()
            .iter()
            .find(|replica| replica["slot"] == action["slot"]);
        assert_eq!(replica.unwrap()["node"], action["to_host"], "{shown:#} {planned:?}");
    }
    let outdated = [("If-Match", version.as_str()), ("Content-Type", "application/json")];
    let late = api
        .raw("POST", "/v1/services/web/plan", &outdated, b"{\"image\":\"nginx:1\",\"replicas\":1}".to_vec())
        .await;
    is_problem(&late, 412, "version_mismatch");
    is_problem(
        &api.call("POST", "/v1/services/web/plan", json!({"image": "nginx:1", "replicas": -1})).await,
        400,
        "invalid_body",
    );
    is_problem(
        &api.call("PUT", "/v1/services/web?dry_run=yes", json!({"image": "nginx:1"})).await,
        400,
        "invalid_parameter",
    );
    is_problem(&api.raw("GET", "/v1/services/web/plan", &[], Vec::new()).await, 405, "method_not_allowed");
    cluster.stop().await;
}
