//! docker-shef's API: every row of its table and every validation message.

use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Answer, Api, Cluster};

async fn cluster() -> Cluster {
    Cluster::fake(3, FakeEngineOptions::default()).await
}

async fn post(api: &Api, body: Value) -> Answer {
    api.call("POST", "/service", body).await
}

fn error(answer: &Answer) -> &str {
    answer.body["error"].as_str().unwrap_or_else(|| panic!("no error in {answer:?}"))
}

#[actix_rt::test]
async fn a_service_is_created_shown_scaled_and_deleted() {
    let cluster = cluster().await;
    let api = &cluster.api;

    let created = post(api, json!({"serviceName": "web", "image": "nginx", "replicas": 4})).await;
    assert_eq!(created.status, 200, "{created:?}");
    let service = &created.body["service"];
    assert_eq!(
        (&service["serviceName"], &service["image"], &service["replicas"]),
        (&json!("web"), &json!("nginx"), &json!(4))
    );
    let containers = service["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 4);
    for container in containers {
        assert_eq!(container["runner"], "runner.127.0.0.1");
        let name = container["containerName"].as_str().unwrap();
        assert!(
            name.strip_prefix("web-")
                .is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|c| c.is_ascii_digit()))
        );
    }

    for shown in [
        api.call("GET", "/service", json!({"serviceName": "web"})).await,
        api.get("/service?serviceName=web").await,
    ] {
        assert_eq!((shown.status, &shown.body), (200, service));
    }

    let scaled = api.call("PUT", "/service", json!({"serviceName": "web", "replicas": 6})).await;
    assert_eq!((scaled.status, scaled.body["service"]["containers"].as_array().unwrap().len()), (200, 6));
    let scaled = api.call("PUT", "/service", json!({"serviceName": "web", "replicas": 2})).await;
    assert_eq!((scaled.status, scaled.body["service"]["containers"].as_array().unwrap().len()), (200, 2));

    let deleted = api.call("DELETE", "/service", json!({"serviceName": "web"})).await;
    assert_eq!((deleted.status, deleted.body), (200, json!({"message": "Service web deleted."})));
    assert_eq!(api.get("/service?serviceName=web").await.status, 404);
    cluster.stop().await;
}

#[actix_rt::test]
async fn replicas_default_to_one_and_may_be_zero() {
    let cluster = cluster().await;
    let one = post(&cluster.api, json!({"serviceName": "one", "image": "nginx"})).await;
    assert_eq!((one.status, &one.body["service"]["replicas"]), (200, &json!(1)));
    let none = post(&cluster.api, json!({"serviceName": "none", "image": "nginx", "replicas": 0})).await;
    let expected =
        json!({"service": {"serviceName": "none", "image": "nginx", "replicas": 0, "containers": []}});
    assert_eq!((none.status, none.body), (200, expected));
    cluster.stop().await;
}

#[actix_rt::test]
async fn conflicts_are_told_in_the_originals_words() {
    let cluster = cluster().await;
    let api = &cluster.api;
    post(api, json!({"serviceName": "web", "image": "nginx"})).await;
    for (method, body, status, message) in [
        ("POST", json!({"serviceName": "web", "image": "nginx"}), 409, "Service already exist!"),
        ("GET", json!({"serviceName": "gone"}), 404, "No service in this name"),
        ("PUT", json!({"serviceName": "gone", "replicas": 1}), 409, "No service in this name!"),
        ("PUT", json!({"serviceName": "web", "replicas": 1}), 409, "Same replica count already exist!"),
        ("DELETE", json!({"serviceName": "gone"}), 409, "No service in this name!"),
    ] {
        let answer = api.call(method, "/service", body.clone()).await;
        assert_eq!((answer.status, error(&answer)), (status, message), "{method} {body}");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn without_a_runner_nothing_is_created() {
    let cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    let answer = post(&cluster.api, json!({"serviceName": "web", "image": "nginx"})).await;
    assert_eq!((answer.status, error(&answer)), (409, "Couldn't create any container. No alive runner!"));
    assert_eq!(cluster.api.get("/service?serviceName=web").await.status, 404);
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_bad_image_is_told_with_the_engines_reason_and_the_record_stays() {
    let engine = FakeEngineOptions {
        images: Some(["nginx:latest".to_owned()].into()),
        registry: Some([].into()),
        ..Default::default()
    };
    let cluster = Cluster::fake(1, engine).await;
    let answer = post(&cluster.api, json!({"serviceName": "web", "image": "nope:1", "replicas": 2})).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(error(&answer).contains("nope"), "{answer:?}");
    let shown = cluster.api.get("/service?serviceName=web").await;
    assert_eq!(
        (shown.status, &shown.body["state"], &shown.body["containers"]),
        (200, &json!("pending"), &json!([]))
    );
    // Nobody else waits for it.
    let other = post(&cluster.api, json!({"serviceName": "other", "image": "nginx"})).await;
    assert_eq!(other.status, 200, "{other:?}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn state_and_stats_show_the_cluster() {
    let cluster = cluster().await;
    let api = &cluster.api;
    post(api, json!({"serviceName": "web", "image": "nginx", "replicas": 3})).await;
    let state = api.get("/state").await.body;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&state), ["nodes", "runners", "services"]);
    assert_eq!(keys(&state["nodes"][0]), ["alive", "lastAlive", "master", "node"]);
    assert_eq!(
        (&state["nodes"][0]["node"], &state["nodes"][0]["master"]),
        (&json!("127.0.0.1"), &json!(true))
    );
    assert_eq!(keys(&state["runners"][0]), ["alive", "containers", "lastAlive", "runnerName"]);
    let container = &state["runners"][0]["containers"][0];
    assert_eq!(keys(container), ["id", "image", "name", "serviceName", "state"]);
    assert_eq!(
        (&container["serviceName"], &container["state"], &container["image"]),
        (&json!("web"), &json!("running"), &json!("nginx"))
    );
    assert_eq!(state["services"], json!([api.get("/service?serviceName=web").await.body]));
    assert_eq!(state["services"][0]["containers"].as_array().unwrap().len(), 3);

    api.call("DELETE", "/service", json!({"serviceName": "web"})).await;
    post(api, json!({"serviceName": "bad name", "image": "nginx"})).await;
    api.get("/service?serviceName=gone").await;
    let stats = api.get("/stats").await.body;
    // POST, GET /state, GET, DELETE; GET of what is not there. What is no request (400) does not count.
    let expected = json!({
        "processedRequests": {"Total": 5, "Succeeded": 4, "Failed": 1},
        "containers": {"Created": 3, "Deleted": 3},
        "services": {"Created": 1, "Deleted": 1},
    });
    assert_eq!(stats, expected);
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_bootstrap_that_calls_is_shown_among_the_nodes() {
    let cluster = cluster().await;
    let api = &cluster.api;
    let before = api.get("/state").await.body;
    let counted = api.get("/stats").await.body["processedRequests"]["Total"].as_u64().unwrap();
    let called = api.call("POST", "/node", json!({"node": "10.0.0.7", "master": true})).await;
    assert_eq!((called.status, called.body), (200, json!({})));
    let after = api.get("/state").await.body;
    let (nodes, known) = (after["nodes"].as_array().unwrap(), before["nodes"].as_array().unwrap().len());
    assert_eq!(nodes.len(), known + 1);
    assert_eq!(
        (&nodes[known]["node"], &nodes[known]["master"], &nodes[known]["alive"]),
        (&json!("10.0.0.7"), &json!(true), &json!(true))
    );
    for (body, message) in [
        (json!({}), "node is a required field, master is a required field"),
        (json!({"node": "h1", "master": true}), "node: must be an IPv4 address such as 10.0.0.5"),
        (
            json!({"node": "10.0.0.7", "master": "yes"}),
            "master must be a `boolean` type, but the final value was: `\"yes\"`.",
        ),
        (json!({"node": "10.0.0.7", "master": true, "x": 1}), "this field has unspecified keys: x"),
    ] {
        let answer = api.call("POST", "/node", body.clone()).await;
        assert_eq!((answer.status, error(&answer)), (400, message), "{body}");
    }
    let now = api.get("/stats").await.body["processedRequests"]["Total"].as_u64().unwrap();
    assert_eq!(now, counted + 2, "one GET /stats and one GET /state");
    cluster.stop().await;
}

#[actix_rt::test]
async fn every_invalid_body_is_refused_with_its_message() {
    let cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    let api = &cluster.api;
    let web = |rest: Value| {
        let mut body = json!({"serviceName": "web", "image": "nginx"});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    for (body, message) in [
        (json!({"serviceName": "web"}), "image is a required field"),
        (json!({"image": "nginx"}), "serviceName is a required field"),
        (json!({}), "serviceName is a required field, image is a required field"),
        (web(json!({"serviceName": ""})), "serviceName is a required field"),
        (web(json!({"serviceName": " web"})), "serviceName must be a trimmed string"),
        (web(json!({"image": "nginx "})), "image must be a trimmed string"),
        (
            web(json!({"serviceName": 5})),
            "serviceName must be a `string` type, but the final value was: `5`.",
        ),
        (web(json!({"image": null})), "image must be a `string` type, but the final value was: `null`."),
        (web(json!({"replicas": -1})), "replicas must be greater than or equal to 0"),
        (web(json!({"replicas": 1.5})), "replicas must be an integer"),
        (web(json!({"replicas": 10_001})), "replicas must be less than or equal to 10000"),
        (
            web(json!({"replicas": "3"})),
            "replicas must be a `number` type, but the final value was: `\"3\"`.",
        ),
        (web(json!({"bogus": 1})), "this field has unspecified keys: bogus"),
        (web(json!({"bogus": 1, "also": 2})), "this field has unspecified keys: also, bogus"),
    ] {
        let answer = post(api, body.clone()).await;
        assert_eq!((answer.status, error(&answer)), (400, message), "{body}");
    }
    for (method, body, message) in [
        ("PUT", json!({"serviceName": "web"}), "replicas is a required field"),
        (
            "PUT",
            json!({"serviceName": "web", "replicas": 1, "image": "x"}),
            "this field has unspecified keys: image",
        ),
        ("GET", json!({}), "serviceName is a required field"),
        ("DELETE", json!({"serviceName": ""}), "serviceName is a required field"),
    ] {
        let answer = api.call(method, "/service", body.clone()).await;
        assert_eq!((answer.status, error(&answer)), (400, message), "{method} {body}");
    }
    for name in ["Web", "a.b", "../images", "a/b", "-a", "a_b", "é", &"x".repeat(64)] {
        let answer = post(api, json!({"serviceName": name, "image": "nginx"})).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(error(&answer).starts_with("serviceName: service name must be 1 to 63"), "{answer:?}");
    }
    for image in ["../images/x", "a?b", "UPPER", "a:b:c", "nginx@sha256:00"] {
        let answer = post(api, json!({"serviceName": "web", "image": image})).await;
        assert_eq!(answer.status, 400, "{image}");
        assert!(error(&answer).contains("image must be a Docker image reference"), "{answer:?}");
    }
    assert_eq!(api.get("/state").await.body["services"], json!([]), "nothing was changed");
    cluster.stop().await;
}

#[actix_rt::test]
async fn bodies_that_are_no_json_are_refused_as_json() {
    let cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    let json_type = [("content-type", "application/json")];
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (headers, body, status) in [
        (&json_type[..], b"{".to_vec(), 400),
        (&json_type, b"[1]".to_vec(), 400),
        (&json_type, vec![b'"', 0xff, b'"'], 400),
        (&json_type, deep.into_bytes(), 400),
        (&json_type, vec![b' '; 300_000], 413),
        (&[("content-type", "text/plain")], b"{}".to_vec(), 415),
        (&[("content-type", "application/x-www-form-urlencoded")], b"serviceName=web".to_vec(), 415),
    ] {
        for (method, path) in
            [("POST", "/service"), ("PUT", "/service"), ("GET", "/service"), ("DELETE", "/service")]
        {
            let answer = cluster.api.raw(method, path, headers, body.clone()).await;
            assert_eq!(answer.status, status, "{method} {path} {headers:?}: {answer:?}");
            assert!(
                answer.body["error"].is_string() && answer.content_type == "application/json",
                "{answer:?}"
            );
        }
    }
    cluster.stop().await;
}
