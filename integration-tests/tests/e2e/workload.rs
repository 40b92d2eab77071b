//! The image that shef makes of itself, and the ways in which containers misbehave.

use std::{path::PathBuf, process::Command};

use bollard::{
    Docker,
    container::LogOutput,
    query_parameters::{EventsOptions, ListNetworksOptions, LogsOptions},
};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use shef_common::{clock::Now, labels};
use shef_integration_tests::lab::{
    shef::{HostLab, binary},
    wait::until,
};

const IMAGE: &str = "shef/workload:lab";
/// The image that `shef up --demo` makes.
const DEMO_IMAGE: &str = concat!("shef/workload:", env!("CARGO_PKG_VERSION"));

/// A site whose engine has the image of `shef workload`.
async fn site() -> HostLab {
    let site = HostLab::start(1, &[]).await;
    let mut shef = Command::new(binary());
    shef.args(["workload-image", "--tag", IMAGE, "--docker-host", &site.engines[0].url()]);
    let made = shef.output().unwrap();
    assert!(made.status.success() && String::from_utf8_lossy(&made.stdout).trim() == IMAGE, "{made:?}");
    site
}

fn with(env: &[(&str, &str)], stop_grace_s: u32) -> Value {
    let env: serde_json::Map<String, Value> =
        env.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({ "image": IMAGE, "env": env, "stop_grace_s": stop_grace_s })
}

async fn said(docker: &Docker, container: &str) -> String {
    let options = LogsOptions { stdout: true, stderr: true, ..Default::default() };
    let parts: Result<Vec<LogOutput>, _> = docker.logs(container, Some(options)).try_collect().await;
    parts.map(|parts| parts.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// The signals that the engine has sent to a container, and when, in nanoseconds.
async fn signals(docker: &Docker, container: &str) -> Vec<(i64, String)> {
    let filters = [("container", container), ("event", "kill")]
        .map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
    let until = (Now::read().wall.0 / 1000 + 1).to_string();
    let options =
        EventsOptions { since: Some("1".to_owned()), until: Some(until), filters: Some(filters.into()) };
    let events: Vec<_> = docker.events(Some(options)).try_collect().await.unwrap();
    events
        .iter()
        .filter_map(|event| {
            Some((event.time_nano?, event.actor.as_ref()?.attributes.as_ref()?.get("signal")?.clone()))
        })
        .collect()
}

#[actix::test]
async fn the_workload_runs_ends_hangs_and_starts_slowly_as_it_is_told() {
    let site = site().await;
    let (master, docker) = (&site.master, site.engines[0].client());

    // One that keeps ending: reported with its code, and started again by the engine.
    let created = master
        .api
        .call(
            "PUT",
            "/v1/services/ends",
            with(&[("WORKLOAD_EXIT_AFTER", "0.5"), ("WORKLOAD_EXIT_CODE", "7")], 1),
        )
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    let replica = until("it is reported unhealthy with its exit code", async || {
        let service = master.service("ends").await?;
        let replica = service["replica_states"].get(0)?.clone();
        let has_reason =
            replica["reason"].as_str().is_some_and(|why| why == "exited with code 7; the engine restarts it");
        (has_reason && replica["health"] == "unhealthy" && replica["state"] == "running").then_some(replica)
    })
    .await;
    let name = replica["id"].as_str().unwrap();
    let id = replica["container_id"].as_str().unwrap().to_owned();
    until("the engine has restarted it twice", async || {
        let found = docker.inspect_container(name, None).await.ok()?;
        (found.restart_count? >= 2 && found.id? == id).then_some(())
    })
    .await;
    let service = master.service("ends").await.unwrap();
    assert_eq!(
        (&service["state"], service["replica_states"].as_array().unwrap().len()),
        (&json!("pending"), 1),
        "{service:#}"
    );

    // One that starts slowly, and one that does not hear SIGTERM.
    master.deploy("slow", with(&[("WORKLOAD_START_DELAY", "1.5")], 1)).await;
    master.deploy("deaf", with(&[("WORKLOAD_IGNORE_SIGTERM", "true")], 2)).await;
    let replica = async |service: &str| {
        let view = master.service(service).await.unwrap();
        view["replica_states"][0]["id"].as_str().unwrap().to_owned()
    };
    let (slow, deaf) = (replica("slow").await, replica("deaf").await);
    until("it listens once it has started", async || {
        said(&docker, &slow).await.contains("listening on 0.0.0.0:8080").then_some(())
    })
    .await;
    until("the deaf one listens", async || said(&docker, &deaf).await.contains("listening").then_some(()))
        .await;

    for name in ["deaf", "ends", "slow"] {
        let deleted = master.api.call("DELETE", &format!("/v1/services/{name}?wait=60s"), json!({})).await;
        assert_eq!((deleted.status, &deleted.body["converged"]), (200, &json!(true)), "{deleted:?}");
    }
    assert!(site.engines[0].all().await.is_empty());
    let deaf = signals(&docker, &deaf).await;
    let [(term, "15"), (kill, "9")] = [&deaf[0], &deaf[1]].map(|(at, signal)| (*at, signal.as_str())) else {
        panic!("it is asked to end, and then killed: {deaf:?}")
    };
    assert!((2_000..).contains(&((kill - term) / 1_000_000)), "killed after its grace of 2 s: {deaf:?}");
    let slow = signals(&docker, &slow).await;
    assert!(slow.len() == 1 && slow[0].1 == "15", "one that hears SIGTERM is not killed: {slow:?}");
}

/// What `shef up` started in the background; it ends with the test.
struct Background {
    data: PathBuf,
}

impl Background {
    fn shef(&self, words: &[&str]) -> (bool, String) {
        let mut shef = Command::new(binary());
        shef.env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SHEF_INSECURE", "true")
            .args(words)
            .arg("--data-dir")
            .arg(&self.data);
        let output = shef.output().unwrap();
        (
            output.status.success(),
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat(),
        )
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shef(&["down"]);
    }
}

#[actix::test]
async fn shef_down_with_services_leaves_no_network_and_no_image() {
    let site = HostLab::prepare(1, &[]).await;
    let background = Background { data: site.dir.path().join("up") };
    let (api, engine) = (site.master.address.to_string(), site.engines[0].url());
    let docker = site.engines[0].client();
    let up = ["up", "-d", "--demo", "--api", &api, "--agent", "127.0.0.1:0", "--docker-host", &engine];
    let networks = async || {
        let ours = [("label".to_owned(), vec![format!("{}=true", labels::MANAGED_NETWORK)])];
        let options = ListNetworksOptions { filters: Some(ours.into()) };
        let found = docker.list_networks(Some(options)).await.unwrap();
        found.into_iter().filter_map(|network| network.name).collect::<Vec<_>>()
    };
    let (fine, words) = background.shef(&up);
    assert!(fine, "{words}");
    let spec =
        json!({ "name": "web", "image": DEMO_IMAGE, "networks": [{ "name": "back" }, { "name": "front" }] });
    let made = site.master.api.call("POST", "/v1/services?wait=60s", spec).await;
    assert_eq!((made.status, &made.body["converged"]), (201, &json!(true)), "{made:?}");
    assert_eq!(networks().await.len(), 2);

    // Their containers run on, and need both.
    let (fine, words) = background.shef(&["down"]);
    assert!(fine && words.contains(&format!("image rm {DEMO_IMAGE}")), "{words}");
    assert_eq!(networks().await.len(), 2, "{words}");

    let (fine, words) = background.shef(&up);
    assert!(fine, "{words}");
    let (fine, words) = background.shef(&["down", "--services"]);
    assert!(fine, "{words}");
    assert!(words.contains(&format!("removed the image {DEMO_IMAGE}")), "{words}");
    assert!(networks().await.is_empty(), "{words}");
    assert!(docker.inspect_image(DEMO_IMAGE).await.is_err(), "{words}");
    assert!(site.engines[0].all().await.is_empty());
}

#[actix::test]
async fn shef_up_brings_a_demo_on_a_real_engine_and_down_leaves_it_running() {
    let mut site = HostLab::prepare(1, &[]).await;
    let background = Background { data: site.dir.path().join("up") };
    let (api, engine) = (site.master.address.to_string(), site.engines[0].url());
    let (fine, words) = background.shef(&[
        "up",
        "-d",
        "--demo",
        "--api",
        &api,
        "--agent",
        "127.0.0.1:0",
        "--docker-host",
        &engine,
    ]);
    assert!(fine && words.contains(&api), "{words}");
    let services = site.master.api.get("/v1/services").await.body;
    assert_eq!(
        (&services["services"][0]["state"], &services["services"][0]["name"]),
        (&json!("running"), &json!("demo"))
    );
    let before = site.containers().await;
    assert!(!before.is_empty() && before.keys().all(|name| name.starts_with("demo-")), "{before:?}");
    let (fine, words) = background.shef(&["down"]);
    assert!(fine, "{words}");
    assert_eq!(site.containers().await, before, "containers run on");

    // What one process began, a master of its own takes over.
    site.master.process.set("SHEF_MASTER_DATA_DIR", background.data.join("master").display());
    site.master.process.set("SHEF_TLS", "auto");
    site.master.start().await;
    assert_eq!(site.master.service("demo").await.unwrap()["replicas"], 3);
}
