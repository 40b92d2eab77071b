//! What registries are shown: set by users, kept encrypted, handed to agents alone.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bollard::query_parameters::{CreateImageOptions, ListContainersOptions, RemoveImageOptions};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use shef_agent::{
    EngineChoice,
    config::{AgentConfig, PolicyConfig},
    engine::fake::FakeEngineOptions,
    start,
};
use shef_common::{policy::Policy, tls::TlsMode};
use shef_integration_tests::{
    cluster::{Answer, Cluster, agent_config, master_config},
    lab::{
        engine::{BUSYBOX, LabEngine, OBEDIENT, busybox_tar},
        registry::LabRegistry,
        wait::until,
    },
};
use shef_master::config::MasterConfig;

/// In standard base64 its login has both letters that base64 for addresses has not.
const PASSWORD: &str = "p~~?>ü≥÷ÿ?~>";
/// `htpasswd -B` of it, and of `lab`.
const LOGINS: [&str; 2] = [
    "me:$2y$05$abcdefghijklmnopqrstuuCtBS.JVnTK3/9rJ5SdFI9uJupRUMYAq",
    "lab:$2y$05$abcdefghijklmnopqrstuup1vlAAUDMpgzvqmIu/m0vJZ3muqfVsK",
];

/// Every file below `at` with `word` in it.
fn files_with(word: &str, at: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(word, &entry.path(), found);
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap();
            if content.windows(word.len()).any(|part| part == word.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

#[actix_rt::test]
async fn credentials_are_kept_over_restarts_and_never_answered() {
    let cluster = Cluster::fake(0, FakeEngineOptions::default()).await;
    let api = cluster.api.clone();
    let put = async |host: &str, body: Value| api.call("PUT", &format!("/v1/registries/{host}"), body).await;
    let set = put("registry.local:5000", json!({"username": "me", "password": "unprintable"})).await;
    assert_eq!(
        (set.status, &set.body["username"], &set.body["readable"]),
        (201, &json!("me"), &json!(true)),
        "{set:?}"
    );
    let again = put("Registry.Local:5000", json!({"username": "me", "password": "unprintable"})).await;
    assert_eq!((again.status, &again.body["updated"]), (200, &set.body["updated"]), "{again:?}");
    assert_eq!(put("docker.io", json!({"username": "hub", "password": "unprintable"})).await.status, 201);
    let list = api.get("/v1/registries").await;
    let hosts: Vec<_> =
        list.body["registries"].as_array().unwrap().iter().map(|one| one["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["docker.io", "registry.local:5000"]);
    assert!(!list.body.to_string().contains("unprintable"));

    let dir = cluster.stop().await;
    let mut found = Vec::new();
    files_with("unprintable", dir.path(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    let mode = fs::metadata(dir.path().join("secret.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let cluster = Cluster::start(dir).await;
    let api = cluster.api.clone();
    let ready = |answer: &Answer| answer.body["registries"].as_array().is_some_and(|all| all.len() == 2);
    let list = api.until("/v1/registries", ready).await;
    assert!(
        list.body["registries"].as_array().unwrap().iter().all(|one| one["readable"] == true),
        "{list:?}"
    );
    let gone = api.call("DELETE", "/v1/registries/docker.io", Value::Null).await;
    assert_eq!((gone.status, &gone.body), (200, &json!({"deleted": "docker.io"})));
    assert_eq!(
        api.call("DELETE", "/v1/registries/docker.io", Value::Null).await.body["code"],
        "registry_not_found"
    );
    cluster.stop().await;
}

#[actix_rt::test]
async fn refused_credentials_are_kept_only_if_the_check_is_skipped() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let put = async |query: &str, password: &str| {
        let body = json!({"username": "me", "password": password});
        cluster.api.call("PUT", &format!("/v1/registries/a.b:1{query}"), body).await
    };
    let refused = put("?check=true", "wrong").await;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("credentials_refused")), "{refused:?}");
    assert_eq!(cluster.api.get("/v1/registries").await.body["registries"], json!([]));
    let accepted = put("?check=true", "right").await;
    assert_eq!(
        (accepted.status, &accepted.body["check"]["outcome"]),
        (201, &json!("accepted")),
        "{accepted:?}"
    );
    let unasked = put("", "wrong").await;
    assert_eq!((unasked.status, unasked.body.get("check")), (200, None), "{unasked:?}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_host_asks_no_registry_that_its_policy_refuses() {
    let mut cluster = Cluster::plain(0, FakeEngineOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = agent_config(dir.path(), "h0", cluster.master.address(), "unix:///nowhere");
    let policy = Some(Policy { registries: vec!["r.example".to_owned()], ..Policy::default() });
    config.policy = PolicyConfig { policy, ..PolicyConfig::open() };
    cluster.agents.push(start(config, EngineChoice::Fake(FakeEngineOptions::default())).await.unwrap());
    cluster.ready(1).await;
    let check = async |registry: &str| {
        let body = json!({"username": "me", "password": "right"});
        let path = format!("/v1/registries/{registry}?check=true");
        cluster.api.call("PUT", &path, body).await.body["check"].clone()
    };
    assert_eq!(check("r.example").await["outcome"], "accepted");
    let refused = check("169.254.169.254:80").await;
    assert_eq!(refused["outcome"], "unknown");
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("policy refuses images of 169.254.169.254:80"), "{reason}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn without_the_key_credentials_are_unreadable_and_all_else_works() {
    let cluster = Cluster::plain(0, FakeEngineOptions::default()).await;
    let body = json!({"username": "me", "password": "word"});
    assert_eq!(cluster.api.call("PUT", "/v1/registries/a.b:1", body.clone()).await.status, 201);
    let dir = cluster.stop().await;
    let key = dir.path().join("secret.key");

    fs::write(&key, "no key").unwrap();
    let config = MasterConfig { tls: Some(TlsMode::Off), ..master_config(dir.path()) };
    let mut cluster = Cluster::start_as(config, dir).await;
    cluster.add_agent("h0", "unix:///nowhere", EngineChoice::Fake(FakeEngineOptions::default())).await;
    cluster.ready(1).await;
    let listed = |answer: &Answer| answer.body["registries"].as_array().is_some_and(|all| !all.is_empty());
    let list = cluster.api.until("/v1/registries", listed).await.body["registries"][0].clone();
    assert_eq!((&list["username"], &list["readable"]), (&json!("me"), &json!(false)), "{list}");
    assert!(list["reason"].as_str().unwrap().contains("secret.key must be 32 bytes, but is 6"), "{list}");
    let refused = cluster.api.call("PUT", "/v1/registries/a.b:1", body.clone()).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("secret_key_unavailable")),
        "{refused:?}"
    );
    let made = cluster
        .api
        .call(
            "POST",
            "/v1/services?wait=60s",
            json!({"name": "web", "image": "a.b:1/app", "update": {"monitor_ms": 0}}),
        )
        .await;
    assert_eq!((made.status, &made.body["converged"]), (201, &json!(true)), "{made:?}");
    let dir = cluster.stop().await;

    // A new key: what is kept can be set again.
    fs::remove_file(&key).unwrap();
    let cluster = Cluster::start(dir).await;
    let list = cluster.api.until("/v1/registries", listed).await.body["registries"][0].clone();
    assert!(list["reason"].as_str().unwrap().contains("encrypted with another key"), "{list}");
    let set = cluster.api.call("PUT", "/v1/registries/a.b:1", body).await;
    assert_eq!((set.status, &set.body["readable"]), (200, &json!(true)), "{set:?}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn what_is_no_registry_or_login_is_refused_without_the_password() {
    let cluster = Cluster::fake(0, FakeEngineOptions::default()).await;
    let put = async |host: &str, body: Value| {
        let refused = cluster.api.call("PUT", &format!("/v1/registries/{host}"), body).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        refused.body["detail"].as_str().unwrap().to_owned()
    };
    let good = json!({"username": "me", "password": "x"});
    assert!(
        put("nginx", good.clone())
            .await
            .contains("such as registry.local:5000 or docker.io, but is \"nginx\"")
    );
    assert_eq!(put("a.b", json!({})).await, "username: is required; password: is required");
    let number = put("a.b", json!({"username": "a:b", "password": 123_456})).await;
    assert!(number.starts_with("username: must be of 1 to 255 bytes without a colon"), "{number}");
    assert!(
        number.contains("password: must be a string of 1 to 8192 bytes") && !number.contains("123456"),
        "{number}"
    );
    assert!(
        put("a.b", json!({"username": "me", "password": "x".repeat(9_000)}))
            .await
            .starts_with("password: must be")
    );
    assert_eq!(
        put("a.b", json!({"username": "me", "password": "x", "email": "e"})).await,
        "email: is not a field of this body: its fields are password, username"
    );
    assert_eq!(cluster.api.get("/v1/registries").await.body, json!({"registries": []}));
    cluster.stop().await;
}

#[actix_rt::test]
async fn an_image_of_a_registry_that_asks_is_fetched_with_credentials_alone() {
    let (engine, registry) = (LabEngine::start().await, LabRegistry::start_guarded(&LOGINS).await);
    engine.import_busybox().await;
    registry.push(&engine.client(), BUSYBOX, "app:1").await;
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    cluster.add_agent("h0", &engine.url(), EngineChoice::Docker).await;
    cluster.ready(1).await;
    let api = cluster.api.clone();
    let image = registry.image("app:1");
    let host = image.split('/').next().unwrap().to_owned();
    let command = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 1 & wait $!; done"];
    let spec = json!({"name": "web", "image": image, "replicas": 1, "command": command});
    assert_eq!(api.call("POST", "/v1/services", spec).await.status, 201);
    let failed = |answer: &Answer| answer.body["replicas"].to_string().contains("no basic auth credentials");
    let unauthorized = api.until("/v1/services/web/replicas", failed).await;
    assert!(!unauthorized.body.to_string().contains(PASSWORD));

    // A wrong password is refused by the registry itself, through the host's engine, and nothing is kept.
    let path = format!("/v1/registries/{host}?check=true");
    let wrong = api.call("PUT", &path, json!({"username": "me", "password": "another"})).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (400, &json!("credentials_refused")), "{wrong:?}");
    assert_eq!(api.get("/v1/registries").await.body["registries"], json!([]));
    let set = api.call("PUT", &path, json!({"username": "me", "password": PASSWORD})).await;
    assert_eq!((set.status, &set.body["check"]["outcome"]), (201, &json!("accepted")), "{set:?}");
    // Where nobody listens, nothing is checked, and it is said why.
    let nowhere = json!({"username": "me", "password": "any"});
    let unknown = api.call("PUT", "/v1/registries/127.0.0.1:1?check=true", nowhere).await;
    assert_eq!((unknown.status, &unknown.body["check"]["outcome"]), (201, &json!("unknown")), "{unknown:?}");
    assert!(unknown.body["check"]["reason"].as_str().unwrap().contains("refused"), "{unknown:?}");
    let running = |answer: &Answer| answer.body["running"] == 1;
    api.until("/v1/services/web", running).await;

    // Nowhere but in memory.
    let seen = [
        api.get("/v1/registries").await,
        api.get("/v1/services/web").await,
        api.get("/v1/services/web/replicas").await,
    ];
    assert!(seen.iter().all(|answer| !answer.body.to_string().contains(PASSWORD)), "{seen:?}");
    let listed = engine.client().list_containers(None::<ListContainersOptions>).await.unwrap();
    for container in listed {
        let found = engine.client().inspect_container(&container.id.unwrap(), None).await.unwrap();
        assert!(!format!("{found:?}").contains(PASSWORD));
    }
    let mut found = Vec::new();
    files_with(PASSWORD, cluster.dir.path(), &mut found);
    assert_eq!(found, Vec::<String>::new());

    // An agent that starts anew has what it needs again.
    registry.push(&engine.client(), BUSYBOX, "app:2").await;
    cluster.agents.remove(0).stop().await;
    cluster.add_agent("h0", &engine.url(), EngineChoice::Docker).await;
    cluster.ready(1).await;
    let update =
        api.call("PATCH", "/v1/services/web?wait=60s", json!({"image": registry.image("app:2")})).await;
    assert_eq!((update.status, &update.body["converged"]), (200, &json!(true)), "{update:?}");

    // Once they are deleted, nothing more is fetched.
    registry.push(&engine.client(), BUSYBOX, "app:3").await;
    let gone = api.call("DELETE", &format!("/v1/registries/{host}"), Value::Null).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let update = api.call("PATCH", "/v1/services/web", json!({"image": registry.image("app:3")})).await;
    assert_eq!(update.status, 200, "{update:?}");
    api.until("/v1/services/web/replicas", failed).await;
    cluster.stop().await;
}

/// The images that run, by their ids.
async fn running(engines: &[LabEngine; 2]) -> Vec<String> {
    let mut images = Vec::new();
    for engine in engines {
        for container in engine.client().list_containers(None::<ListContainersOptions>).await.unwrap() {
            images.extend(container.image_id);
        }
    }
    images
}

#[actix_rt::test]
async fn replicas_of_a_generation_run_the_same_bytes_though_their_tag_has_moved() {
    let (engines, registry) =
        ([LabEngine::start().await, LabEngine::start().await], LabRegistry::start().await);
    let docker = engines[0].client();
    engines[0].import_busybox().await;
    registry.push(&docker, BUSYBOX, "app:1").await;
    let first = docker.inspect_image(BUSYBOX).await.unwrap().id.unwrap();
    docker.remove_image(BUSYBOX, None::<RemoveImageOptions>, None).await.unwrap();
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    for (n, engine) in engines.iter().enumerate() {
        cluster.add_agent(&format!("h{n}"), &engine.url(), EngineChoice::Docker).await;
    }
    cluster.ready(2).await;
    let api = cluster.api.clone();
    let command = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 1 & wait $!; done"];
    let spec = json!({"name": "web", "image": registry.image("app:1"), "replicas": 1, "pull": "always",
        "command": command,
        "update": {"monitor_ms": 0}});
    let made = api.call("POST", "/v1/services?wait=60s", spec).await;
    assert_eq!((made.status, &made.body["converged"]), (201, &json!(true)), "{made:?}");
    let known = |answer: &Answer| {
        answer.body["image_digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:"))
    };
    let digest = api.until("/v1/services/web", known).await.body["image_digest"].clone();

    // Something else goes by that name from now on.
    let command = json!(["/bin/sh", "-c", OBEDIENT]);
    engines[0]
        .import("other:1", &busybox_tar(), vec![format!("CMD {command}"), "ENV VERSION=2".to_owned()])
        .await;
    let second = docker.inspect_image("other:1").await.unwrap().id.unwrap();
    registry.push(&docker, "other:1", "app:1").await;
    let scaled = api.call("PATCH", "/v1/services/web?wait=60s", json!({"replicas": 3})).await;
    assert_eq!((scaled.status, &scaled.body["converged"]), (200, &json!(true)), "{scaled:?}");
    assert_eq!(running(&engines).await, vec![first.clone(); 3]);
    assert_eq!(api.get("/v1/services/web").await.body["image_digest"], digest);

    // The next generation finds out anew.
    let restarted = api.call("POST", "/v1/services/web/restart?wait=60s", json!({})).await;
    assert_eq!((restarted.status, &restarted.body["converged"]), (200, &json!(true)), "{restarted:?}");
    api.until("/v1/services/web", |answer| known(answer) && answer.body["image_digest"] != digest).await;
    assert_eq!(running(&engines).await, vec![second; 3]);

    // And a rollback returns to the bytes of before.
    let back = api.call("POST", "/v1/services/web/rollback?wait=60s", json!({})).await;
    assert_eq!((back.status, &back.body["converged"]), (200, &json!(true)), "{back:?}");
    assert_eq!(running(&engines).await, vec![first; 3]);
    cluster.stop().await;
}

#[actix_rt::test]
async fn on_a_full_disk_images_that_shef_pulled_and_nothing_needs_are_removed() {
    let (engine, registry) = (LabEngine::start().await, LabRegistry::start().await);
    engine.import_busybox().await;
    let docker = engine.client();
    let command = json!(["/bin/sh", "-c", OBEDIENT]);
    for tag in ["app:1", "app:2", "app:3"] {
        // Each has bytes of its own.
        engine
            .import("made:1", &busybox_tar(), vec![format!("CMD {command}"), format!("ENV TAG={tag}")])
            .await;
        registry.push(&docker, "made:1", tag).await;
    }
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    let dir = cluster.dir.path().join("h0");
    fs::create_dir_all(&dir).unwrap();
    // Every disk is above this mark.
    let config = AgentConfig {
        image_cleanup_percent: 1,
        image_cleanup_interval_ms: 200,
        ..agent_config(&dir, "h0", cluster.master.address(), &engine.url())
    };
    cluster.agents.push(start(config, EngineChoice::Docker).await.unwrap());
    cluster.ready(1).await;
    let api = cluster.api.clone();
    for (name, tag) in [("web", "app:1"), ("other", "app:2")] {
        let spec = json!({"name": name, "image": registry.image(tag), "update": {"monitor_ms": 0}});
        let made = api.call("POST", "/v1/services?wait=30s", spec).await;
        assert_eq!((made.status, &made.body["converged"]), (201, &json!(true)), "{made:?}");
    }
    let update =
        api.call("PATCH", "/v1/services/web?wait=30s", json!({"image": registry.image("app:3")})).await;
    assert_eq!((update.status, &update.body["converged"]), (200, &json!(true)), "{update:?}");
    assert_eq!(api.call("DELETE", "/v1/services/other?wait=30s", Value::Null).await.status, 200);
    let is_there = async |tag: &str| docker.inspect_image(&registry.image(tag)).await.is_ok();
    until("the deleted service's image is gone", async || (!is_there("app:2").await).then_some(())).await;
    assert!(is_there("app:3").await, "it runs");
    assert!(is_there("app:1").await, "web can go back to it");
    let df = api.get("/v1/system/df").await;
    let host = &df.body["hosts"][0];
    assert_eq!(
        (&host["host"], &host["images"], &host["unneeded_images"]),
        (&json!("h0"), &json!(2), &json!(0)),
        "{df:?}"
    );
    assert!(host["image_bytes"].as_u64().unwrap() > 0 && host["used_percent"].as_u64().is_some(), "{df:?}");
    let others = [docker.inspect_image("made:1").await, docker.inspect_image(BUSYBOX).await];
    assert!(others.iter().all(Result::is_ok), "shef did not pull these");
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_prune_removes_what_nothing_needs_whatever_is_free() {
    let (engine, registry) = (LabEngine::start().await, LabRegistry::start().await);
    engine.import_busybox().await;
    let docker = engine.client();
    let command = json!(["/bin/sh", "-c", OBEDIENT]);
    engine.import("made:1", &busybox_tar(), vec![format!("CMD {command}")]).await;
    registry.push(&docker, "made:1", "app:1").await;
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    cluster.add_agent("h0", &engine.url(), EngineChoice::Docker).await;
    cluster.ready(1).await;
    let api = cluster.api.clone();
    let spec = json!({"name": "web", "image": registry.image("app:1"), "update": {"monitor_ms": 0}});
    assert_eq!(api.call("POST", "/v1/services?wait=30s", spec).await.status, 201);
    let kept = api.call("POST", "/v1/system/prune", Value::Null).await;
    assert_eq!((kept.status, &kept.body["hosts"][0]["removed"]), (200, &json!([])), "{kept:?}");
    assert_eq!(api.call("DELETE", "/v1/services/web?wait=30s", Value::Null).await.status, 200);
    let pruned = async || {
        let answer = api.call("POST", "/v1/system/prune", Value::Null).await;
        (answer.body["hosts"][0]["removed"] == json!([registry.image("app:1")])).then_some(())
    };
    until("the image is removed", pruned).await;
    assert!(docker.inspect_image(&registry.image("app:1")).await.is_err());
    assert!(docker.inspect_image("made:1").await.is_ok(), "shef did not pull this one");
    cluster.stop().await;
}

#[actix_rt::test]
async fn hosts_that_had_other_bytes_under_the_images_name_are_told_apart() {
    let (engines, registry) =
        ([LabEngine::start().await, LabEngine::start().await], LabRegistry::start().await);
    let command = json!(["/bin/sh", "-c", OBEDIENT]);
    for (n, engine) in engines.iter().enumerate() {
        engine
            .import("made:1", &busybox_tar(), vec![format!("CMD {command}"), format!("ENV VERSION={n}")])
            .await;
        registry.push(&engine.client(), "made:1", "app:1").await;
        // Somebody pulls it there by hand, before it means something else.
        let pull = CreateImageOptions { from_image: Some(registry.image("app:1")), ..Default::default() };
        let _: Vec<_> = engine.client().create_image(Some(pull), None, None).try_collect().await.unwrap();
    }
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    for (n, engine) in engines.iter().enumerate() {
        cluster.add_agent(&format!("h{n}"), &engine.url(), EngineChoice::Docker).await;
    }
    cluster.ready(2).await;
    let api = cluster.api.clone();
    let spec =
        json!({"name": "web", "image": registry.image("app:1"), "replicas": 2, "update": {"monitor_ms": 0}});
    let made = api.call("POST", "/v1/services?wait=60s", spec).await;
    assert_eq!((made.status, &made.body["converged"]), (201, &json!(true)), "{made:?}");
    let differs = |answer: &Answer| {
        answer.body["differing_images"].as_object().is_some_and(|digests| digests.len() == 2)
    };
    let seen = api.until("/v1/services/web", differs).await;
    let mut hosts: Vec<_> = seen.body["differing_images"].as_object().unwrap().values().cloned().collect();
    hosts.sort_by_key(Value::to_string);
    assert_eq!(hosts, [json!(["h0"]), json!(["h1"])]);

    // What is fetched is the same everywhere.
    let made = api.call("PATCH", "/v1/services/web?wait=60s", json!({"pull": "always"})).await;
    assert_eq!((made.status, &made.body["converged"]), (200, &json!(true)), "{made:?}");
    assert_eq!(api.get("/v1/services/web").await.body["differing_images"], Value::Null);
    cluster.stop().await;
}
