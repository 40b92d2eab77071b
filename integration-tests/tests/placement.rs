//! Placement by the spec: a real master, real agents, engines in memory.

use serde_json::{Value, json};
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::cluster::{Answer, Cluster};

async fn cluster() -> Cluster {
    Cluster::fake(2, FakeEngineOptions::default()).await
}
async fn join(cluster: &mut Cluster, name: &str) {
    cluster.add_agent(name, "unix:///nonexistent", EngineChoice::Fake(FakeEngineOptions::default())).await;
}

/// Where replicas run, in order.
fn hosts(service: &Value) -> Vec<String> {
    let replicas = service["replica_states"].as_array().into_iter().flatten();
    let runs = replicas.filter(|replica| replica["state"] == "running" && replica["want"] == "run");
    let mut hosts: Vec<String> =
        runs.filter_map(|replica| replica["node"].as_str().map(str::to_owned)).collect();
    hosts.sort_unstable();
    hosts
}
fn runs_on(wanted: &'static [&'static str]) -> impl Fn(&Answer) -> bool {
    move |answer| hosts(&answer.body) == wanted && answer.body["state"] == "running"
}

#[actix_rt::test]
async fn a_global_service_comes_to_hosts_that_join_and_leaves_those_that_go() {
    let mut cluster = cluster().await;
    let all = json!({"name": "logs", "image": "app:1", "mode": "global", "update": {"monitor_ms": 0}});
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", all).await.status, 201);
    let shown = cluster.api.until("/v1/services/logs", runs_on(&["h0", "h1"])).await;
    assert_eq!(shown.body["wanted"], 2);
    join(&mut cluster, "h2").await;
    cluster.api.until("/v1/services/logs", runs_on(&["h0", "h1", "h2"])).await;
    assert_eq!(cluster.api.raw("POST", "/v1/nodes/h0/drain", &[], vec![]).await.status, 200);
    cluster.api.until("/v1/services/logs", runs_on(&["h1", "h2"])).await;
    assert_eq!(cluster.api.raw("POST", "/v1/nodes/h0/activate", &[], vec![]).await.status, 200);
    cluster.api.until("/v1/services/logs", runs_on(&["h0", "h1", "h2"])).await;
    let only = json!({"placement": {"constraints": [{"key": "node.name", "op": "!=", "values": ["h1"]}]}});
    cluster.api.call("PATCH", "/v1/services/logs?wait=60s", only).await;
    cluster.api.until("/v1/services/logs", runs_on(&["h0", "h2"])).await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_port_is_given_once_a_host_and_again_when_it_is_free() {
    let cluster = cluster().await;
    let web = |name: &str, replicas: u32| {
        json!({"name": name, "image": "app:1", "replicas": replicas,
        "ports": [{"target": 80, "published": 8080}], "update": {"monitor_ms": 0}})
    };
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", web("web", 2)).await.status, 201);
    assert_eq!(cluster.api.call("POST", "/v1/services", web("other", 1)).await.status, 201);
    let refused =
        |answer: &Answer| answer.body["missing"].to_string().contains("2 of 2 hosts have port 8080 taken");
    cluster.api.until("/v1/services/other", refused).await;
    cluster.api.call("PATCH", "/v1/services/web?wait=60s", json!({"replicas": 1})).await;
    let other = cluster.api.until("/v1/services/other", |answer| answer.body["state"] == "running").await;
    let web = cluster.api.get("/v1/services/web").await;
    assert_ne!(hosts(&other.body), hosts(&web.body));
    cluster.stop().await;
}

#[actix_rt::test]
async fn more_memory_than_a_host_has_is_never_reserved() {
    let cluster = cluster().await;
    let has = cluster.api.get("/v1/nodes/h0").await.body["memory_bytes"].as_u64().unwrap();
    let service = json!({
        "name": "big", "image": "app:1", "replicas": 3,
        "resources": {"reserve": {"memory_bytes": has / 2 + 1}},
    });
    assert_eq!(cluster.api.call("POST", "/v1/services", service).await.status, 201);
    let refused = |answer: &Answer| {
        hosts(&answer.body) == ["h0", "h1"]
            && answer.body["missing"].to_string().contains("2 of 2 hosts lack")
    };
    cluster.api.until("/v1/services/big", refused).await;
    cluster.stop().await;
}
