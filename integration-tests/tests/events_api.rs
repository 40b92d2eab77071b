//! What happens, as server-sent events: followed, filtered, resumed.

use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::{cluster::Cluster, events::EventReader};

fn words(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

async fn create(cluster: &Cluster, name: &str) {
    let body = json!({ "name": name, "replicas": 1, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", body).await.body["converged"], true);
}

#[actix_rt::test]
async fn a_services_life_is_told_in_order_and_only_to_whom_it_concerns() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let mut reader = EventReader::open(&cluster.api, "?service=web", None).await;
    create(&cluster, "other").await;
    create(&cluster, "web").await;
    let events = reader.until(|event| event["event"] == "service_state").await;
    assert_eq!((words(&events)[0], words(&events).last()), ("service_created", Some(&"service_state")));
    assert!(events.iter().all(|event| event["service"] == "web"), "{events:?}");
    let assigned = events.iter().find(|event| event["event"] == "replica_assigned").unwrap();
    assert_eq!((&assigned["host"], &assigned["generation"]), (&json!("h0"), &json!(1)));
    assert!(
        events.iter().any(|event| event["event"] == "replica_state" && event["state"] == "running"),
        "{events:?}"
    );
    cluster.api.raw("DELETE", "/v1/services/web?wait=60s", &[], vec![]).await;
    let events = reader.until(|event| event["event"] == "service_deleted").await;
    for word in ["replica_removing", "replica_gone"] {
        assert!(words(&events).contains(&word), "{word}: {events:?}");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_reader_resumes_where_it_was_and_is_told_when_it_cannot() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let mut reader = EventReader::open(&cluster.api, "", None).await;
    create(&cluster, "web").await;
    let first = reader.until(|event| event["event"] == "service_created").await;
    assert_eq!(first.last().unwrap()["id"], json!(reader.at()));
    let rest = reader.until(|event| event["event"] == "service_state" && event["state"] == "running").await;
    let mut again = EventReader::open(&cluster.api, "", first.last().unwrap()["id"].as_str()).await;
    assert_eq!(
        again.until(|event| event["event"] == "service_state" && event["state"] == "running").await,
        rest
    );
    let after = format!("?after={}", rest.last().unwrap()["id"].as_str().unwrap());
    let dir = std::mem::replace(&mut cluster.dir, tempfile::tempdir().unwrap());
    cluster.stop().await;
    // Another leadership: what it did not tell it cannot count.
    let cluster = Cluster::start(dir).await;
    let mut reader = EventReader::open(&cluster.api, &after, None).await;
    assert_eq!(reader.block().await.unwrap(), json!({ "event": "skipped", "skipped": null }));
    create_on_nobody(&cluster).await;
    let events = reader.until(|event| event["event"] == "service_created").await;
    assert!(
        !events.iter().any(|event| event["service"] == "web" && event["event"] == "service_created"),
        "{events:?}"
    );
    cluster.stop().await;
}

async fn create_on_nobody(cluster: &Cluster) {
    let body = json!({ "name": "late", "replicas": 1, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("POST", "/v1/services", body).await.status, 201);
}

#[actix_rt::test]
async fn what_operators_do_and_what_becomes_of_hosts_is_told() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let mut reader = EventReader::open(&cluster.api, "?host=h0", None).await;
    cluster.api.raw("POST", "/v1/nodes/h0/cordon", &[], vec![]).await;
    let events = reader.until(|event| event["event"] == "host_intent").await;
    assert_eq!(events.last().unwrap()["state"], "cordoned");
    cluster.agents.pop().unwrap().stop().await;
    reader.until(|event| event["event"] == "host_state" && event["state"] == "agent_down").await;
    assert_eq!(cluster.api.raw("DELETE", "/v1/nodes/h0", &[], vec![]).await.status, 200);
    reader.until(|event| event["event"] == "host_forgotten").await;
    for (path, code) in [
        ("?after=x", "invalid_parameter"),
        ("?service=UP", "invalid_parameter"),
        ("?hosts=h0", "invalid_parameter"),
    ] {
        let answer = cluster.api.get(&format!("/v1/events{path}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!(code)), "{answer:?}");
    }
    cluster.stop().await;
}
