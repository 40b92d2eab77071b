//! Secrets and configs in containers of a real engine: laid in memory by the agent, and gone with the last
//! replica.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bollard::{models::ContainerInspectResponse, query_parameters::ListContainersOptions};
use serde_json::{Value, json};
use shef_agent::{EngineChoice, config::AgentConfig};
use shef_common::{contents::Content, tls::TlsMode};
use shef_integration_tests::{
    cluster::{Answer, Api, Cluster, SECRETS_DIR, agent_config, master_config},
    lab::{
        door::Door,
        engine::{BUSYBOX, LabEngine},
        wait::until,
    },
};
use shef_master::config::MasterConfig;

const HUSH: &str = "an unprintable password";
/// Says in capitals what it reads, so that the word itself is nowhere but in the secret.
const READS: &str = "tr a-z A-Z < /run/secrets/db.key; cat /etc/web.conf
    stat -c 'mode %a of %u:%g' /run/secrets/db.key; echo x 2>/dev/null > /run/secrets/db.key || echo read-only
    trap 'exit 0' TERM INT; while :; do sleep 1 & wait $!; done";

async fn put(api: &Api, path: &str, content: &str) -> Value {
    let data = Content(content.to_owned().into()).to_base64();
    let stored = api.call("PUT", path, json!({ "data": data })).await;
    assert!(stored.status < 300, "{stored:?}");
    stored.body["version"].clone()
}

/// The file that is laid from this content of a secret: no other cluster has the version.
fn laid(version: &Value) -> Option<PathBuf> {
    let version = version.as_str().unwrap();
    let agents = fs::read_dir(SECRETS_DIR).into_iter().flatten().map(|agent| agent.unwrap().path());
    let files = |agent| fs::read_dir(agent).into_iter().flatten().map(|file| file.unwrap().path());
    agents.flat_map(files).find(|file| file.to_str().unwrap().contains(version))
}

/// Every file below `at` with `word` in it.
fn files_with(word: &str, at: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(word, &entry.path(), found);
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap_or_default();
            if content.windows(word.len()).any(|part| part == word.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

async fn container(engine: &LabEngine) -> ContainerInspectResponse {
    let options = ListContainersOptions { all: true, ..Default::default() };
    let listed = engine.client().list_containers(Some(options)).await.unwrap();
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    engine.client().inspect_container(one.id.as_ref().unwrap(), None).await.unwrap()
}

fn is_running(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().unwrap().running == Some(true)
}

/// What the only replica has written last, a start after the other.
async fn written(api: &Api) -> String {
    let log = awc::Client::default().get(format!("{}/v1/services/web/logs?tail=20", api.url)).send().await;
    String::from_utf8(log.unwrap().body().await.unwrap().to_vec()).unwrap()
}

async fn cluster(engine: &LabEngine) -> Cluster {
    engine.import_busybox().await;
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    cluster.add_agent("h0", &engine.url(), EngineChoice::Docker).await;
    cluster.ready(1).await;
    cluster
}

fn spec(more: &Value) -> Value {
    let mut spec = json!({
        "name": "web", "image": BUSYBOX, "command": ["/bin/sh", "-c", READS], "stop_grace_s": 1,
        "update": {"monitor_ms": 0},
        "secrets": [{"source": "db", "target": "db.key", "mode": "0440", "uid": "82", "gid": 83}],
        "configs": [{"source": "web.conf", "target": "/etc/web.conf"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[actix_rt::test]
async fn a_container_reads_its_secret_and_nobody_else_does() {
    let engine = LabEngine::start().await;
    let cluster = cluster(&engine).await;
    let api = cluster.api.clone();
    let first = put(&api, "/v1/secrets/db", HUSH).await;
    put(&api, "/v1/configs/web.conf", "listen 80\n").await;
    let made = api.call("POST", "/v1/services?wait=60s", spec(&json!({}))).await;
    assert_eq!(made.body["converged"], true, "{made:?}");
    let log = until("the container has read", async || {
        let log = written(&api).await;
        log.contains("read-only").then_some(log)
    })
    .await;
    for line in ["AN UNPRINTABLE PASSWORD", "listen 80", "mode 440 of 82:83"] {
        assert!(log.contains(line), "{line} is missing in {log}");
    }
    let directory = laid(&first).unwrap().parent().unwrap().to_owned();
    let files = || fs::read_dir(&directory).unwrap().count();
    assert_eq!(files(), 2);

    // The engine shows paths alone, and starts it by no rule of its own.
    let shown = container(&engine).await;
    assert!(!format!("{shown:?}").contains(HUSH));
    assert!(shown.mounts.unwrap().iter().all(|mount| mount.rw == Some(false)));
    let policy = shown.host_config.unwrap().restart_policy.unwrap().name.unwrap();
    assert_eq!(policy.to_string(), "no");
    let mut found = Vec::new();
    files_with(HUSH, cluster.dir.path(), &mut found);
    files_with(HUSH, &engine.data_root().join("containers"), &mut found);
    assert_eq!(found, Vec::<String>::new());
    let views = [api.get("/v1/services/web").await, api.get("/v1/nodes").await, api.get("/v1/secrets").await];
    assert!(!format!("{views:?}").contains(HUSH));

    // What is new takes the place of what was, also on the host.
    let second = put(&api, "/v1/secrets/db", "another password").await;
    let is_second = |web: &Answer| web.body["observed_generation"] == 2 && web.body["state"] == "running";
    api.until("/v1/services/web", is_second).await;
    until("the container reads the new secret", async || {
        written(&api).await.contains("ANOTHER PASSWORD").then_some(())
    })
    .await;
    until("the old file is gone", async || (laid(&first).is_none() && files() == 2).then_some(())).await;
    assert!(laid(&second).is_some());
    let gone = api.call("DELETE", "/v1/services/web?wait=60s", Value::Null).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    until("no file is left", async || (files() == 0).then_some(())).await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn after_a_start_of_the_host_a_container_waits_for_its_files() {
    let mut engine = LabEngine::start().await;
    let mut cluster = cluster(&engine).await;
    let api = cluster.api.clone();
    let version = put(&api, "/v1/secrets/db", HUSH).await;
    put(&api, "/v1/configs/web.conf", "listen 81\n").await;
    let made = api.call("POST", "/v1/services?wait=60s", spec(&json!({}))).await;
    assert_eq!(made.body["converged"], true, "{made:?}");
    let before = container(&engine).await.id;

    // A process that ends is started again, by the agent.
    let kill = bollard::query_parameters::KillContainerOptions { signal: "KILL".to_owned() };
    let killed_at = container(&engine).await.state.unwrap().started_at;
    engine.client().kill_container(before.as_ref().unwrap(), Some(kill)).await.unwrap();
    until("the agent starts it again", async || {
        let state = container(&engine).await.state.unwrap();
        (state.running == Some(true) && state.started_at != killed_at).then_some(())
    })
    .await;

    // The host goes down, and comes back with an empty directory, and without its agent and master.
    cluster.agents.remove(0).stop().await;
    let listen = cluster.master.address();
    let config = MasterConfig { listen, ..master_config(cluster.dir.path()) };
    let idle =
        MasterConfig { tls: Some(TlsMode::Off), ..master_config(cluster.dir.path().join("idle").as_path()) };
    let old = std::mem::replace(&mut cluster.master, shef_master::start(idle).await.unwrap());
    old.stop().await;
    engine.terminate();
    fs::remove_dir_all(laid(&version).unwrap().parent().unwrap()).unwrap();
    engine.boot().await;
    let id = before.clone().unwrap();
    let refused =
        engine.client().start_container(&id, None::<bollard::query_parameters::StartContainerOptions>).await;
    assert!(refused.is_err(), "nobody starts it with an empty mount");
    assert!(!is_running(&container(&engine).await));
    let directory = cluster.dir.path().join("h0");
    let door = Door::before(listen).await;
    let config_of_agent = AgentConfig {
        tls: TlsMode::Required,
        ..agent_config(&directory, "h0", door.address(), &engine.url())
    };
    cluster.agents.push(shef_agent::start(config_of_agent, EngineChoice::Docker).await.unwrap());
    // It asks for a master once it has seen what its engine holds.
    door.have_gone(4).await;
    assert!(!is_running(&container(&engine).await), "without a master there is no secret");

    let idle = std::mem::replace(&mut cluster.master, shef_master::start(config).await.unwrap());
    idle.stop().await;
    until("the container runs again", async || is_running(&container(&engine).await).then_some(())).await;
    assert_eq!(container(&engine).await.id, before, "it is the same container");
    api.until("/v1/services/web", |web| web.body["state"] == "running").await;
    assert_eq!(api.call("DELETE", "/v1/services/web?wait=60s", Value::Null).await.status, 200);
    until("no file is left", async || laid(&version).is_none().then_some(())).await;
    cluster.stop().await;
}
