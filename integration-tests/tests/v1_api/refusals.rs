//! What is refused: how it is said, and that nothing changes by it.

use serde_json::json;
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Answer, Cluster};

use crate::{cluster, is_problem};

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
    is_problem(&api.raw("POST", "/v1/services", &[], b"{}".to_vec()).await, 415, "unsupported_media_type");
    cluster.stop().await;
}

#[actix_rt::test]
async fn what_a_web_page_of_another_site_has_a_browser_send_is_refused() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let path = "/v1/services/web/restart";
    let post = |headers: &'static [(&str, &str)]| api.raw("POST", path, headers, Vec::new());
    is_problem(&post(&[("origin", "https://elsewhere.example")]).await, 403, "foreign_page");
    is_problem(&post(&[("origin", "null")]).await, 403, "foreign_page");
    is_problem(&post(&[("sec-fetch-site", "cross-site")]).await, 403, "foreign_page");
    let rebound = [("host", "rebound.example"), ("origin", "http://rebound.example")];
    is_problem(&api.raw("POST", path, &rebound, Vec::new()).await, 421, "unknown_host");
    let read = async |name: &str| api.raw("GET", "/v1/services", &[("host", name)], Vec::new()).await;
    is_problem(&read("rebound.example").await, 421, "unknown_host");
    for known in ["localhost", "10.0.0.1:8044", "master1"] {
        assert_eq!(read(known).await.status, 200, "{known}");
    }
    // A program may call by any name: it sends no origin.
    is_problem(
        &api.raw("POST", path, &[("host", "rebound.example")], Vec::new()).await,
        404,
        "service_not_found",
    );
    assert_eq!(api.raw("GET", "/healthz", &[("host", "rebound.example")], Vec::new()).await.status, 200);
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
