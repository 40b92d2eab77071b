//! Services on a real engine: through docker-shef's API, and beside what others do there.

use std::collections::BTreeMap;

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptions, RemoveContainerOptions},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use shef_common::labels;
use shef_integration_tests::{
    cluster::PATIENCE,
    lab::{
        engine::{BUSYBOX, LabEngine, Seen},
        shef::{HostLab, busybox},
        wait::until,
    },
};

/// Whether `name` is `<service>-<six digits>`.
fn is_replica_of(name: &str, service: &str) -> bool {
    let digits = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('-'));
    digits.is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|c| c.is_ascii_digit()))
}

fn names(containers: &Value) -> Vec<&str> {
    let mut names: Vec<_> =
        containers.as_array().unwrap().iter().map(|c| c["containerName"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[actix::test]
async fn docker_shefs_calls_deploy_scale_and_delete_on_a_real_engine() {
    let site = HostLab::start(1, &[]).await;
    let api = &site.master.api;
    let created =
        api.call("POST", "/service", json!({ "serviceName": "web", "image": BUSYBOX, "replicas": 3 })).await;
    assert_eq!(created.status, 200, "{created:?}");
    let service = &created.body["service"];
    assert_eq!((service["serviceName"].as_str(), service["replicas"].as_u64()), (Some("web"), Some(3)));
    assert!(
        service["containers"].as_array().unwrap().iter().all(|c| c["runner"] == "runner.127.0.0.1"),
        "{service}"
    );

    let found = site.engines[0].all().await;
    assert!(found.keys().eq(names(&service["containers"])), "{found:?} is what the answer names: {service}");
    for (name, seen) in &found {
        assert!(is_replica_of(name, "web"), "{name}");
        assert_eq!(
            (seen.state.as_str(), seen.restart_policy.as_str(), seen.image.as_str()),
            ("running", "unless-stopped", BUSYBOX)
        );
        assert_eq!(
            (seen.labels[labels::MANAGED].as_str(), seen.labels[labels::SERVICE_NAME].as_str()),
            ("true", "web")
        );
    }

    let scaled = api.call("PUT", "/service", json!({ "serviceName": "web", "replicas": 5 })).await;
    assert_eq!(scaled.status, 200, "{scaled:?}");
    let five = site.settled(&["web"]).await;
    assert_eq!(five.len(), 5);
    assert!(
        found.iter().all(|(name, seen)| five.get(name) == Some(seen)),
        "the first three are as they were"
    );
    let state = api.get("/state").await.body;
    assert_eq!(state["runners"][0]["containers"].as_array().unwrap().len(), 5, "{state}");

    let scaled = api.call("PUT", "/service", json!({ "serviceName": "web", "replicas": 1 })).await;
    assert_eq!(scaled.status, 200, "{scaled:?}");
    assert_eq!(site.settled(&["web"]).await.len(), 1);

    let deleted = api.call("DELETE", "/service", json!({ "serviceName": "web" })).await;
    assert_eq!((deleted.status, &deleted.body), (200, &json!({ "message": "Service web deleted." })));
    assert!(site.engines[0].all().await.is_empty());
    let stats = api.get("/stats").await.body;
    assert_eq!(stats["containers"], json!({ "Created": 5, "Deleted": 5 }));
    assert_eq!(stats["services"], json!({ "Created": 1, "Deleted": 1 }));
}

/// Makes a container that is not ours.
async fn foreign(engine: &LabEngine, name: &str, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let body =
        ContainerCreateBody { image: Some(BUSYBOX.into()), labels: Some(labels), ..Default::default() };
    let options = CreateContainerOptions { name: Some(name.into()), ..Default::default() };
    let made = engine.client().create_container(Some(options), body).await.unwrap();
    engine.client().start_container(&made.id, None).await.unwrap();
}

fn only(all: BTreeMap<String, Seen>, names: &[&str]) -> BTreeMap<String, Seen> {
    all.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect()
}

#[actix::test]
async fn containers_of_others_are_never_touched() {
    let mut site = HostLab::prepare(1, &[]).await;
    let engine = &site.engines[0];
    let other = [
        (labels::MANAGED, "true"),
        (labels::SERVICE_NAME, "web"),
        (labels::CLUSTER, "0123456789abcdef"),
        (labels::SERVICE, "web"),
        (labels::SLOT, "0"),
        (labels::GENERATION, "1"),
        (labels::SPEC, r#"{"image":"shef-lab/busybox:1"}"#),
    ];
    // None of ours in any way; docker-shef's own; one of another cluster of ours.
    foreign(engine, "plain", &[]).await;
    foreign(engine, "web-000001", &[(labels::MANAGED, "true"), (labels::SERVICE_NAME, "web")]).await;
    foreign(engine, "web-000002", &other).await;
    let theirs = ["plain", "web-000001", "web-000002"];
    let before = only(engine.all().await, &theirs);

    site.master.start().await;
    site.agents[0].process.start();
    site.master.hosts(1).await;
    let (master, engine) = (&site.master, &site.engines[0]);
    master.deploy("web", busybox(2)).await;
    let ours = |service: &Value| -> Vec<String> {
        service["replica_states"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = ours(&master.running("web").await);

    // Somebody takes the name of a replica: ours is removed, and theirs made in its place at once.
    let force = RemoveContainerOptions { force: true, ..Default::default() };
    engine.client().pause_container(&first[0]).await.unwrap();
    site.agents[0].process.signal(Signal::STOP);
    engine.client().remove_container(&first[0], Some(force)).await.unwrap();
    foreign(engine, &first[0], &[]).await;
    site.agents[0].process.signal(Signal::CONT);
    let taken = only(engine.all().await, &[&first[0]]);
    until("the replica whose name was taken is replaced by one of another name", async || {
        let service = master.service("web").await?;
        let now = ours(&service);
        (service["state"] == "running" && now.len() == 2 && !now.contains(&first[0])).then_some(())
    })
    .await;

    let deleted = master.api.call("DELETE", "/v1/services/web?wait=60s", json!({})).await;
    assert_eq!((deleted.status, &deleted.body["converged"]), (200, &json!(true)), "{deleted:?}");
    let mut expected = before;
    expected.extend(taken);
    assert_eq!(engine.all().await, expected, "theirs are there, and ours are gone");
}

#[actix::test]
async fn what_people_do_to_replicas_is_mended() {
    let site = HostLab::start(1, &[]).await;
    let (master, docker) = (&site.master, site.engines[0].client());
    master.deploy("web", busybox(3)).await;
    let before = site.settled(&["web"]).await;
    let ids: Vec<&String> = before.keys().collect();

    let force = RemoveContainerOptions { force: true, ..Default::default() };
    docker.remove_container(ids[0], Some(force)).await.unwrap();
    docker.stop_container(ids[1], None).await.unwrap();
    let mended = until("both run again", async || {
        let found = site.containers().await;
        let is_mended = |id: &String, other: &dyn Fn(&Seen, &Seen) -> bool| {
            found.get(id).is_some_and(|seen| seen.state == "running" && other(seen, &before[id]))
        };
        let anew = is_mended(ids[0], &|now, before| now.id != before.id);
        let again =
            is_mended(ids[1], &|now, before| now.id == before.id && now.started_at != before.started_at);
        (found.len() == 3 && anew && again).then_some(found)
    })
    .await;
    assert_eq!(mended[ids[2]], before[ids[2]], "the third is as it was");
    master.running("web").await;
}

#[actix::test]
async fn a_graceful_stop_finishes_what_waits_and_leaves_containers_running() {
    let mut site = HostLab::start(1, &[]).await;
    site.master.deploy("web", busybox(2)).await;
    let before = site.settled(&["web"]).await;
    // A registry that takes connections and never answers: what pulls from it comes to nothing for long.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stuck = json!({ "name": "stuck", "image": format!("{}/x:1", silent.local_addr().unwrap()) });
    let api = site.master.api.clone();
    let waiting = actix::spawn(async move { api.call("POST", "/v1/services?wait=3s", stuck).await });
    site.master.api.until("/v1/services/stuck", |answer| answer.status == 200).await;

    site.master.process.signal(Signal::TERM);
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, &answer.body["converged"]), (201, &json!(false)), "{answer:?}");
    let status = site.master.process.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", site.master.process.said());

    // One that waits for longer than the bound does not hold up the end.
    site.master.start().await;
    site.master.hosts(1).await;
    let api = site.master.api.clone();
    let waiting = actix::spawn(async move {
        api.attempt(
            "PATCH",
            "/v1/services/stuck?wait=5m",
            &[("content-type", "application/json")],
            br#"{"replicas":2}"#.into(),
        )
        .await
    });
    site.master.api.until("/v1/services/stuck", |answer| answer.body["replicas"] == 2).await;
    site.master.process.signal(Signal::TERM);
    site.agents[0].process.signal(Signal::TERM);
    assert_eq!(site.master.process.ended(PATIENCE).await.code(), Some(0));
    assert_eq!(site.agents[0].process.ended(PATIENCE).await.code(), Some(0));
    drop(waiting.await);
    assert_eq!(site.containers().await, before, "containers run on");
}
