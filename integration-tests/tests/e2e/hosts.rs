//! Hosts that hang, and a cluster without any. Hosts that are lost are the lab's (`tests/lab`).

use rustix::process::Signal;
use serde_json::json;
use shef_integration_tests::lab::{
    engine::BUSYBOX,
    shef::{HostLab, busybox},
};

#[actix::test]
async fn a_host_that_hangs_holds_up_nobody_else() {
    let site = HostLab::start(2, &[]).await;
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
    assert!(
        before.iter().all(|(name, seen)| !here.contains_key(name) || after.get(name) == Some(seen)),
        "{after:?}"
    );
}

#[actix::test]
async fn without_a_live_host_docker_shefs_create_is_refused_without_a_trace() {
    let mut site = HostLab::prepare(1, &[]).await;
    site.master.start().await;
    let body = json!({ "serviceName": "web", "image": BUSYBOX, "replicas": 1 });
    let refused = site.master.api.call("POST", "/service", body.clone()).await;
    assert_eq!(
        (refused.status, &refused.body),
        (409, &json!({ "error": "Couldn't create any container. No alive runner!" }))
    );
    assert_eq!(site.master.api.get("/service?serviceName=web").await.status, 404);
    // Ours takes it, and runs it when a host comes.
    let taken = site.master.api.call("PUT", "/v1/services/later", busybox(2)).await;
    assert_eq!(taken.status, 201, "{taken:?}");
    let service = site.master.service("later").await.unwrap();
    assert!(
        service["failing"].as_str().unwrap().contains("no host has joined the cluster yet"),
        "{service:#}"
    );
    site.agents[0].process.start();
    assert_eq!(site.settled(&["later"]).await.len(), 2);
    assert_eq!(site.master.api.call("POST", "/service", body).await.status, 200);
}
