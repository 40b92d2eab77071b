//! Several hosts: spread, loss and return.

use std::collections::BTreeMap;

use bollard::query_parameters::{RemoveImageOptions, TagImageOptions};
use rustix::process::Signal;
use serde_json::json;
use shef_integration_tests::lab::{
    engine::BUSYBOX,
    shef::{Site, busybox},
    wait::until,
};

#[actix::test]
async fn replicas_of_a_lost_host_are_replaced_and_its_return_leaves_the_exact_count() {
    let mut site = Site::start(2, &[("SHEF_MASTER_NODE_DOWN_AFTER_MS", "1000")]).await;
    site.master.deploy("web", busybox(6)).await;
    site.master.deploy("db", busybox(2)).await;
    let before = site.settled(&["web", "db"]).await;
    let spread: Vec<BTreeMap<_, _>> = vec![site.engines[0].managed().await, site.engines[1].managed().await];
    for host in &spread {
        let of = |service: &str| host.keys().filter(|name| name.starts_with(service)).count();
        assert_eq!((of("web"), of("db")), (3, 1), "{host:?}");
    }

    // A host is lost: its agent, its engine.
    site.agents[1].process.kill();
    site.engines[1].crash();
    let node = site.master.api.until("/v1/nodes/h2", |answer| answer.body["state"] == "down").await;
    assert_eq!(node.status, 200);
    let elsewhere = until("what was there runs on the other host", async || {
        let found = site.engines[0].managed().await;
        let runs = found.values().filter(|seen| seen.state == "running").count();
        (runs == 8).then_some(found)
    })
    .await;
    assert!(spread[0].iter().all(|(name, seen)| elsewhere.get(name) == Some(seen)), "what ran there was left alone");
    let said = "is still to be removed from h2, which is down";
    site.master.api.until("/v1/services/web", |answer| answer.body["missing"].to_string().matches(said).count() == 3).await;
    let shown = site.master.api.get("/service?serviceName=web").await.body;
    assert_eq!((&shown["state"], shown["containers"].as_array().unwrap().len()), (&json!(null), 6), "as wanted: {shown}");

    // It comes back with its containers: only they go.
    site.engines[1].boot().await;
    assert!(!site.engines[1].managed().await.is_empty(), "they are there when it comes back");
    site.agents[1].process.start();
    site.master.hosts(2).await;
    let after = site.settled(&["web", "db"]).await;
    assert_eq!(after, elsewhere, "the replacements stay, and what they replaced is gone");
    assert_ne!(after, before);

    // From now on it takes its share again.
    site.master.deploy("new", busybox(4)).await;
    site.settled(&["web", "db", "new"]).await;
    assert_eq!(site.engines[1].managed().await.len(), 2, "half of the new ones");
}

#[actix::test]
async fn a_host_that_comes_back_keeps_what_was_not_replaced() {
    let mut site = Site::start(1, &[("SHEF_MASTER_NODE_DOWN_AFTER_MS", "1000")]).await;
    site.master.deploy("web", busybox(4)).await;
    let before = site.settled(&["web"]).await;
    site.agents[0].process.kill();
    site.master.api.until("/v1/nodes/h1", |answer| answer.body["state"] == "down").await;
    // There is nowhere else to go.
    let service = site.master.api.until("/v1/services/web", |answer| answer.body["state"] == "pending").await.body;
    assert!(service["replica_states"].as_array().unwrap().iter().all(|r| r["host_down"] == true), "{service:#}");
    // What is asked meanwhile is taken, and done when the host is back.
    let answer = site.master.api.call("PATCH", "/v1/services/web", json!({ "replicas": 5 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    site.agents[0].process.start();
    let after = site.settled(&["web"]).await;
    assert!(after.len() == 5 && before.iter().all(|(name, seen)| after.get(name) == Some(seen)), "{before:#?} {after:#?}");
}

#[actix::test]
async fn a_host_that_hangs_holds_up_nobody_else() {
    let site = Site::start(2, &[("SHEF_MASTER_NODE_DOWN_AFTER_MS", "1000")]).await;
    site.master.deploy("web", busybox(2)).await;
    let before = site.settled(&["web"]).await;
    // It takes connections, and answers nothing.
    site.agents[1].process.signal(Signal::STOP);
    site.master.deploy("more", busybox(2)).await;
    let meanwhile = site.engines[0].managed().await;
    assert!(meanwhile.keys().filter(|name| name.starts_with("more-")).count() == 2, "{meanwhile:?}");
    site.agents[1].process.signal(Signal::CONT);
    site.master.hosts(2).await;
    let after = site.settled(&["web", "more"]).await;
    assert_eq!(after.len(), 4);
    let here = site.engines[0].managed().await;
    assert!(before.iter().all(|(name, seen)| !here.contains_key(name) || after.get(name) == Some(seen)), "{after:?}");
}

#[actix::test]
async fn a_returning_host_keeps_what_could_not_be_replaced() {
    let mut site = Site::start(2, &[("SHEF_MASTER_NODE_DOWN_AFTER_MS", "1000")]).await;
    // An image that the first host will no longer have when it is to take over.
    let (repo, tag) = ("127.0.0.1:1/other", "1");
    for engine in &site.engines {
        let name = TagImageOptions { repo: Some(repo.into()), tag: Some(tag.into()) };
        engine.client().tag_image(BUSYBOX, Some(name)).await.unwrap();
    }
    let image = format!("{repo}:{tag}");
    site.master.deploy("web", json!({ "image": image, "replicas": 2 })).await;
    let before = site.settled(&["web"]).await;
    site.engines[0].client().remove_image(&image, None::<RemoveImageOptions>, None).await.unwrap();

    site.agents[1].process.kill();
    let failed = site.master.api.until("/v1/services/web", |answer| answer.body["failing"].is_string()).await.body;
    assert!(failed["failing"].as_str().unwrap().contains("connection refused"), "{failed:#}");
    assert_eq!(site.containers().await, before, "it runs on, though its host is down");
    site.agents[1].process.start();
    site.master.hosts(2).await;
    assert_eq!(site.settled(&["web"]).await, before);
}

#[actix::test]
async fn while_no_host_is_alive_docker_shefs_create_is_refused_and_leaves_nothing() {
    let mut site = Site::prepare(1, &[]).await;
    site.master.start().await;
    let body = json!({ "serviceName": "web", "image": BUSYBOX, "replicas": 1 });
    let refused = site.master.api.call("POST", "/service", body.clone()).await;
    assert_eq!((refused.status, &refused.body), (409, &json!({ "error": "Couldn't create any container. No alive runner!" })));
    assert_eq!(site.master.api.get("/service?serviceName=web").await.status, 404);
    // Ours takes it, and runs it when a host comes.
    let taken = site.master.api.call("PUT", "/v1/services/later", busybox(2)).await;
    assert_eq!(taken.status, 201, "{taken:?}");
    let service = site.master.service("later").await.unwrap();
    assert!(service["failing"].as_str().unwrap().contains("no host has joined the cluster yet"), "{service:#}");
    site.agents[0].process.start();
    assert_eq!(site.settled(&["later"]).await.len(), 2);
    assert_eq!(site.master.api.call("POST", "/service", body).await.status, 200);
}
