//! What becomes of services, and how they and hosts are shown.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::cluster::{Answer, Cluster};

use crate::{cluster, is_problem};

#[actix_rt::test]
async fn a_service_lives_from_post_to_delete() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let spec = json!({"name": "web", "image": "nginx:1", "replicas": 4, "command": ["serve"],
        "env": {"A": "1"}, "update": {"monitor_ms": 0}});
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
async fn a_service_made_anew_outlives_the_times_of_the_one_before() {
    let cluster = cluster().await;
    let api = &cluster.api;
    for life in 1..=2 {
        for version in 1..=2 {
            let spec = json!({"image": "nginx:1", "env": {"V": version.to_string()},
                "update": {"monitor_ms": 0, "probation_ms": 1_000}});
            let planned = api.call("PUT", "/v1/services/web?dry_run=true", spec.clone()).await;
            assert_eq!(planned.status, 200, "{planned:?}");
            let put = api.call("PUT", "/v1/services/web?wait=60s", spec).await;
            assert_eq!(put.body["converged"], true, "life {life}: {put:?}");
        }
        if life == 1 {
            let deleted = api.raw("DELETE", "/v1/services/web?wait=60s", &[], Vec::new()).await;
            assert_eq!(deleted.body["converged"], true, "{deleted:?}");
        }
    }
    assert!(!api.get("/v1/services/web").await.body["probation"].is_null());
    // It began after that of the first one, which has ended by then.
    let found = api.until("/v1/services/web", |answer| answer.body["probation"].is_null()).await;
    assert_eq!((found.status, &found.body["running"]), (200, &json!(1)), "{found:?}");
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
    let shown = api.get("/v1/services/web").await.body;
    for replica in shown["replica_states"].as_array().unwrap() {
        let mut ports = replica["ports"].as_array().unwrap().iter();
        let chosen = ports.find(|port| port["target"] == 80).unwrap()["published"].clone();
        let wanted = [
            // The hosts of this cluster have loopback addresses.
            format!("0.0.0.0:{chosen}->80/tcp"),
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
    let spec = json!({"image": "nginx:1", "replicas": 2, "env": {"A": "1"},
        "update": {"surge": 1, "monitor_ms": 500}});
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
