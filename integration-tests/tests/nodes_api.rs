//! What operators do with hosts: cordon, drain, activate, forget; and the cluster as a whole.

use serde_json::{Value, json};
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::cluster::{Answer, Cluster, master_config};
use shef_master::store::fake::FakeStore;

fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
}

async fn post(cluster: &Cluster, path: &str) -> Answer {
    cluster.api.raw("POST", path, &[], Vec::new()).await
}

async fn create(cluster: &Cluster, name: &str, replicas: u32) {
    let body = json!({ "name": name, "replicas": replicas, "image": "app", "update": { "monitor_ms": 0 } });
    let answer = cluster.api.call("POST", "/v1/services?wait=60s", body).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

#[actix_rt::test]
async fn a_cordoned_host_takes_nothing_new_until_it_is_activated() {
    let cluster = Cluster::fake(2, FakeEngineOptions::default()).await;
    let answer = post(&cluster, "/v1/nodes/h0/cordon").await;
    assert_eq!(
        (answer.status, &answer.body["intent"], &answer.body["state"]),
        (200, &json!("cordoned"), &json!("ready"))
    );
    assert_eq!(post(&cluster, "/v1/nodes/h0/cordon").await.status, 200, "twice is as good as once");
    create(&cluster, "web", 4).await;
    let shown = cluster.api.get("/v1/services/web").await;
    let nodes: Vec<&Value> =
        shown.body["replica_states"].as_array().unwrap().iter().map(|replica| &replica["node"]).collect();
    assert_eq!(nodes, [&json!("h1"); 4]);
    let answer = post(&cluster, "/v1/nodes/h0/activate").await;
    assert_eq!(answer.body["intent"], "active");
    create(&cluster, "api", 4).await;
    cluster.api.until("/v1/nodes/h0", |answer| answer.body["wanted"] == 2).await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn what_an_operator_wants_outlives_the_master() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let answer = cluster.api.call("POST", "/v1/nodes/h0/drain", json!({ "deadline_s": 3600 })).await;
    assert_eq!((answer.status, &answer.body["intent"]), (200, &json!("drained")), "{answer:?}");
    let deadline = answer.body["deadline"].clone();
    assert!(deadline.is_u64());
    let dir = std::mem::replace(&mut cluster.dir, tempfile::tempdir().unwrap());
    cluster.stop().await;
    let cluster = Cluster::start(dir).await;
    let answer = cluster.api.until("/v1/nodes/h0", |answer| answer.status == 200).await;
    assert_eq!((&answer.body["intent"], &answer.body["deadline"]), (&json!("drained"), &deadline));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_host_that_is_gone_is_forgotten_and_its_services_with_it() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    create(&cluster, "web", 2).await;
    is_problem(&cluster.api.raw("DELETE", "/v1/nodes/h0", &[], vec![]).await, 409, "node_present");
    cluster.agents.pop().unwrap().stop().await;
    cluster.api.until("/v1/nodes/h0", |answer| answer.body["state"] == "agent_down").await;
    let deleted = cluster.api.raw("DELETE", "/v1/services/web", &[], vec![]).await;
    assert!((200..300).contains(&deleted.status), "{deleted:?}");
    // It waits for the host, which is not going to confirm.
    assert_eq!(cluster.api.get("/v1/services/web").await.body["state"], "deleting");
    let answer = cluster.api.raw("DELETE", "/v1/nodes/h0", &[], vec![]).await;
    assert_eq!((answer.status, &answer.body["forgotten"]), (200, &json!("h0")), "{answer:?}");
    is_problem(&cluster.api.get("/v1/nodes/h0").await, 404, "node_not_found");
    cluster.api.until("/v1/services/web", |answer| answer.status == 404).await;
    assert_eq!(cluster.api.get("/v1/nodes").await.body["nodes"], json!([]));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_forgotten_host_without_tls_returns_as_a_new_and_empty_one() {
    let cluster = Cluster::plain(2, FakeEngineOptions::default()).await;
    create(&cluster, "web", 2).await;
    let before = cluster.api.get("/v1/nodes/h0").await.body["joined"].as_u64().unwrap();
    assert_eq!(cluster.api.raw("DELETE", "/v1/nodes/h0?force=true", &[], vec![]).await.status, 200);
    let back = cluster.api.until("/v1/nodes/h0", |answer| answer.body["state"] == "ready").await;
    assert!(back.body["joined"].as_u64().unwrap() > before);
    cluster.api.until("/v1/services/web", |answer| answer.body["running"] == 2).await;
    cluster
        .api
        .until("/v1/nodes/h0", |answer| answer.body["wanted"] == 0 && answer.body["removing"] == 0)
        .await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn wrong_requests_are_refused_and_change_nothing() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    for what in ["cordon", "drain", "activate"] {
        is_problem(&post(&cluster, &format!("/v1/nodes/nowhere/{what}")).await, 404, "node_not_found");
        let answer =
            cluster.api.call("POST", &format!("/v1/nodes/h0/{what}"), json!({ "dead_line": 1 })).await;
        is_problem(&answer, 400, "invalid_body");
        is_problem(&post(&cluster, &format!("/v1/nodes/h0/{what}?now=1")).await, 400, "invalid_parameter");
        is_problem(&cluster.api.get(&format!("/v1/nodes/h0/{what}")).await, 405, "method_not_allowed");
    }
    for deadline in [json!(0), json!(86_401), json!(-1), json!("soon"), json!(1.5)] {
        let answer = cluster.api.call("POST", "/v1/nodes/h0/drain", json!({ "deadline_s": deadline })).await;
        is_problem(&answer, 400, "invalid_body");
        assert_eq!(answer.body["errors"][0]["field"], "deadline_s", "{answer:?}");
    }
    is_problem(&cluster.api.call("POST", "/v1/nodes/h0/drain", json!([])).await, 400, "invalid_body");
    is_problem(&cluster.api.raw("DELETE", "/v1/nodes/nowhere", &[], vec![]).await, 404, "node_not_found");
    is_problem(
        &cluster.api.raw("DELETE", "/v1/nodes/h0?force=yes", &[], vec![]).await,
        400,
        "invalid_parameter",
    );
    let shown = cluster.api.get("/v1/nodes/h0").await;
    assert_eq!((&shown.body["intent"], &shown.body["state"]), (&json!("active"), &json!("ready")));
    cluster.stop().await;
}

#[actix_rt::test]
async fn the_cluster_says_who_leads_how_hosts_fare_and_whether_the_brake_is_on() {
    let cluster = Cluster::fake(2, FakeEngineOptions::default()).await;
    let shown = cluster.api.get("/v1/cluster").await;
    assert_eq!(
        (shown.status, &shown.body["epoch"], &shown.body["report_interval_ms"]),
        (200, &json!(1), &json!(200))
    );
    assert_eq!(
        (&shown.body["brake"], &shown.body["nodes"]),
        (&json!({ "on": false }), &json!({ "ready": 2 }))
    );
    let resumed = post(&cluster, "/v1/cluster/resume").await;
    assert_eq!((resumed.status, &resumed.body["resumed"]), (200, &json!(false)));
    is_problem(&cluster.api.get("/v1/cluster/resume").await, 405, "method_not_allowed");
    cluster.stop().await;
}

#[actix_rt::test]
async fn nothing_is_said_to_be_done_that_the_store_does_not_have() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(FakeStore::new());
    let mut config = master_config(dir.path());
    config.store_timeout_ms = 1_000;
    let master = shef_master::start_on(config, store.clone()).await.unwrap();
    let api = shef_integration_tests::cluster::Api::new(master.address());
    let mut cluster = Cluster { master, agents: Vec::new(), api, dir };
    cluster.add_agent("h0", "unix:///nowhere", EngineChoice::Fake(FakeEngineOptions::default())).await;
    cluster.ready(1).await;
    store.set_away(true);
    is_problem(&post(&cluster, "/v1/nodes/h0/cordon").await, 503, "store_unavailable");
    is_problem(
        &cluster.api.raw("DELETE", "/v1/nodes/h0?force=true", &[], vec![]).await,
        503,
        "store_unavailable",
    );
    let shown = cluster.api.get("/v1/nodes/h0").await;
    assert_eq!((shown.status, &shown.body["intent"]), (200, &json!("active")));
    store.set_away(false);
    cluster.stop().await;
}
