//! Images from a real registry: fetched once, and what cannot be fetched said and tried again.

use std::net::TcpListener;

use bollard::query_parameters::RemoveImageOptions;
use serde_json::json;
use shef_common::clock::Now;
use shef_integration_tests::{
    cluster::PATIENCE,
    lab::{
        engine::BUSYBOX,
        registry::LabRegistry,
        shef::{HostLab, busybox},
        wait::until_within,
    },
};

/// The shortest time between two tries of a replica.
const RETRY_MS: u64 = 10_000;

#[actix::test]
async fn an_image_is_fetched_once_however_many_replicas_wait_for_it() {
    let (site, registry) = (HostLab::start(1, &[]).await, LabRegistry::start().await);
    let docker = site.engines[0].client();
    registry.push(&docker, BUSYBOX, "app:1").await;
    docker.remove_image(BUSYBOX, None::<RemoveImageOptions>, None).await.unwrap();
    let pushed = registry.requests("GET", "app", "/").len();

    // Two services of six replicas, ordered at once.
    let create = |name: &str| {
        let body = json!({ "name": name, "image": registry.image("app:1"), "replicas": 6,
            "update": { "monitor_ms": 0 } });
        let api = site.master.api.clone();
        actix::spawn(async move { api.call("POST", "/v1/services?wait=60s", body).await })
    };
    for answer in [create("one"), create("two")] {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, &answer.body["converged"]), (201, &json!(true)), "{answer:?}");
    }
    assert_eq!(site.settled(&["one", "two"]).await.len(), 12);
    let asked: Vec<String> = registry.requests("GET", "app", "/").split_off(pushed);
    let count = |part: &str| asked.iter().filter(|line| line.contains(part)).count();
    // One manifest; its configuration and its one layer.
    assert_eq!((count("/manifests/"), count("/blobs/")), (1, 2), "{asked:#?}");
    assert_eq!(registry.requests("HEAD", "app", "/manifests/1").len(), 1, "one look for the tag");
}

#[actix::test]
async fn what_cannot_be_pulled_says_why_and_runs_once_it_can_be() {
    let (site, registry) = (HostLab::start(1, &[]).await, LabRegistry::start().await);
    let (master, docker) = (&site.master, site.engines[0].client());
    registry.push(&docker, BUSYBOX, "app:1").await;
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let post = |name: &str, image: String| {
        let body = json!({ "serviceName": name, "image": image, "replicas": 2 });
        let api = master.api.clone();
        actix::spawn(async move { api.call("POST", "/service", body).await })
    };
    let asked = Now::read().mono;
    let missing = post("missing", registry.image("app:2"));
    let nowhere = post("nowhere", format!("{nobody}/app:1"));
    // Meanwhile others are served.
    master.deploy("good", busybox(2)).await;
    let missing = missing.await.unwrap();
    assert_eq!(missing.status, 409, "{missing:?}");
    let reason = missing.body["error"].as_str().unwrap();
    assert!(
        reason.contains("manifest for") && reason.contains("app:2 not found"),
        "the engine's own words: {reason}"
    );
    let nowhere = nowhere.await.unwrap();
    assert_eq!(nowhere.status, 409, "{nowhere:?}");
    assert!(nowhere.body["error"].as_str().unwrap().contains("connection refused"), "{nowhere:?}");

    // The records stay, and say why on service and replica.
    for (name, words) in [("missing", "app:2 not found"), ("nowhere", "connection refused")] {
        let legacy = master.api.get(&format!("/service?serviceName={name}")).await;
        assert_eq!((legacy.status, &legacy.body["state"]), (200, &json!("pending")), "{legacy:?}");
        let service = master.service(name).await.unwrap();
        assert_eq!(service["state"], "pending");
        assert!(service["failing"].as_str().unwrap().contains(words), "{service:#}");
        let replicas = service["replica_states"].as_array().unwrap();
        assert!(
            replicas.iter().all(|r| r["state"] == "failed" && r["reason"].as_str().unwrap().contains(words)),
            "{service:#}"
        );
    }
    let looks = registry.requests("HEAD", "app", "/manifests/2").len();
    let tries = 1 + usize::try_from((Now::read().mono - asked).0 / RETRY_MS).unwrap();

    registry.push(&docker, BUSYBOX, "app:2").await;
    until_within(3 * PATIENCE, "a later try runs", async || {
        let service = master.service("missing").await?;
        (service["state"] == "running").then_some(())
    })
    .await;
    // A look is repeated by the engine's own fallbacks; what counts is that nobody asked in a tight loop.
    assert!(looks <= 4 * tries, "{looks} looks for two replicas that were tried {tries} times at most");
    assert_eq!(site.settled(&["missing", "good"]).await.len(), 4);
}
