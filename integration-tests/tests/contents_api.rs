//! Secrets and configs: stored, listed, mounted by services, and never answered where they are secret.

use std::{fs, path::Path};

use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_common::contents::Content;
use shef_integration_tests::cluster::{Answer, Api, Cluster, master_config};
use shef_master::config::MasterConfig;

const HUSH: &str = "an unprintable password";

fn base64(bytes: impl Into<Vec<u8>>) -> String {
    Content(bytes.into().into()).to_base64()
}

async fn put(api: &Api, path: &str, content: &str) -> Answer {
    api.call("PUT", path, json!({ "data": base64(content) })).await
}

/// Whether `content` has `word` in it, in clear, in base64 or in hexadecimal digits.
fn has(content: &[u8], word: &str) -> bool {
    let hex = word.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let forms = [word.to_owned(), base64(word), hex];
    forms.iter().any(|form| content.windows(form.len()).any(|part| part == form.as_bytes()))
}

/// Every file below `at` with `word` in it.
fn files_with(word: &str, at: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(word, &entry.path()));
        } else if kind.is_file() && has(&fs::read(entry.path()).unwrap(), word) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[actix_rt::test]
async fn a_secret_is_kept_over_restarts_and_stands_nowhere_in_clear() {
    let cluster = Cluster::fake(0, FakeEngineOptions::default()).await;
    let stored = put(&cluster.api, "/v1/secrets/db.key", HUSH).await;
    assert_eq!((stored.status, &stored.body["services"]), (201, &json!([])), "{stored:?}");
    let again = put(&cluster.api, "/v1/secrets/db.key", HUSH).await;
    assert_eq!((again.status, &again.body), (200, &stored.body));
    let other = put(&cluster.api, "/v1/secrets/other", HUSH).await;
    assert_ne!(other.body["version"], stored.body["version"], "nobody sees that two names have one content");
    assert_eq!(put(&cluster.api, "/v1/configs/web.conf", "listen 80").await.status, 201);

    let list = cluster.api.get("/v1/secrets").await;
    let first = &list.body["secrets"][0];
    assert_eq!(
        (&first["name"], &first["bytes"], &first["versions"], &first["readable"]),
        (&json!("db.key"), &json!(HUSH.len()), &json!(1), &json!(true)),
        "{list:?}"
    );
    let config = cluster.api.get("/v1/configs/web.conf").await;
    assert_eq!(config.body["data"], base64("listen 80"), "{config:?}");
    assert_eq!(cluster.api.get("/v1/secrets/db.key").await.status, 405, "no call answers a secret");
    let backup = awc::Client::default().get(format!("{}/v1/backup", cluster.api.url)).send().await;
    let backup = backup.unwrap().body().await.unwrap();
    assert!(has(&backup, "listen 80") && has(&backup, "secret/db.key/") && !has(&backup, HUSH));

    let dir = cluster.stop().await;
    assert_eq!(files_with(HUSH, dir.path()), Vec::<String>::new());
    let cluster = Cluster::start(dir).await;
    let now = cluster.api.get("/v1/secrets").await;
    assert_eq!(now.body, list.body);
    // What was lost is the same again once it is stored again.
    assert_eq!(cluster.api.call("DELETE", "/v1/secrets/other", Value::Null).await.status, 200);
    let again = put(&cluster.api, "/v1/secrets/other", HUSH).await;
    assert_eq!((again.status, &again.body["version"]), (201, &other.body["version"]));
    let dir = cluster.stop().await;

    // Without its key a secret is said to be unreadable, and a config is read all the same.
    fs::write(dir.path().join("secret.key"), [7; 32]).unwrap();
    fs::remove_file(dir.path().join("authority.json")).unwrap();
    let config = MasterConfig { tls: Some(shef_common::tls::TlsMode::Off), ..master_config(dir.path()) };
    let cluster = Cluster::start_as(config, dir).await;
    let secret = cluster.api.get("/v1/secrets").await.body["secrets"][0].clone();
    assert_eq!(secret["readable"], false);
    assert!(secret["reason"].as_str().unwrap().contains("another key"), "{secret}");
    assert_eq!(cluster.api.get("/v1/configs/web.conf").await.status, 200);
    cluster.stop().await;
}

#[actix_rt::test]
async fn what_is_no_content_is_refused_and_not_repeated() {
    let cluster = Cluster::fake(0, FakeEngineOptions::default()).await;
    let large = base64(vec![0; 512_001]);
    for (body, message) in [
        (json!({}), "data: is required"),
        (json!({"data": "hush!"}), "data: must be base64"),
        (json!({"data": 7}), "data: must be a string in base64"),
        (json!({"data": ""}), "data: must be 1 to 512000 bytes, but is 0"),
        (json!({ "data": large }), "data: must be 1 to 512000 bytes, but is 512001"),
        (json!({"data": "aHVzaA==", "mode": 1}), "mode: is not a field of this body"),
    ] {
        let refused = cluster.api.call("PUT", "/v1/secrets/db", body).await;
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(refused.status == 400 && detail.starts_with(message), "{refused:?}");
        assert!(!detail.contains("hush"), "{detail}");
    }
    let wrong = put(&cluster.api, "/v1/secrets/-db", "x").await;
    assert_eq!((wrong.status, &wrong.body["code"]), (400, &json!("invalid_parameter")));
    let gone = cluster.api.call("DELETE", "/v1/secrets/db", Value::Null).await;
    assert_eq!((gone.status, &gone.body["code"]), (404, &json!("content_not_found")));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_new_content_rolls_out_and_a_rollback_brings_the_old_one_back() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let api = &cluster.api;
    let spec = json!({
        "name": "web", "image": "nginx", "update": {"monitor_ms": 0},
        "secrets": [{"source": "db", "target": "db.key", "mode": "0400", "uid": "82"}],
    });
    let refused = api.call("POST", "/v1/services", spec.clone()).await;
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(refused.status == 400 && detail.contains("shef secret create db FILE"), "{refused:?}");
    let first = put(api, "/v1/secrets/db", HUSH).await.body["version"].clone();
    let made = api.call("POST", "/v1/services?wait=30s", spec.clone()).await;
    assert_eq!((made.status, &made.body["converged"]), (201, &json!(true)), "{made:?}");
    let mounted = async || api.get("/v1/services/web").await.body["secrets"][0]["version"].clone();
    assert_eq!(mounted().await, first);

    let same = api.call("PUT", "/v1/services/web", spec.clone()).await;
    assert_eq!(same.body["unchanged"], true, "{same:?}");
    let second = put(api, "/v1/secrets/db", "another").await;
    assert_eq!(second.body["services"], json!([{"name": "web", "generation": 2}]), "{second:?}");
    assert_eq!(mounted().await, second.body["version"]);
    let web = api.until("/v1/services/web", |web| web.body["observed_generation"] == 2).await;
    assert!(!web.body.to_string().contains(HUSH));

    let back = api.call("POST", "/v1/services/web/rollback?wait=30s", json!({"generation": 1})).await;
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(mounted().await, first);
    let in_use = api.call("DELETE", "/v1/secrets/db", Value::Null).await;
    assert_eq!((in_use.status, &in_use.body["code"]), (409, &json!("content_in_use")), "{in_use:?}");
    assert!(in_use.body["detail"].as_str().unwrap().contains("web"), "{in_use:?}");

    let gone = api.call("DELETE", "/v1/services/web?wait=30s", Value::Null).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    api.until("/v1/services/web", |web| web.status == 404).await;
    assert_eq!(api.call("DELETE", "/v1/secrets/db", Value::Null).await.status, 200);
    assert_eq!(api.get("/v1/secrets").await.body["secrets"], json!([]));
    cluster.stop().await;
}

#[actix_rt::test]
async fn secrets_go_to_no_host_that_does_not_speak_tls() {
    let cluster = Cluster::plain(1, FakeEngineOptions::default()).await;
    let api = &cluster.api;
    put(api, "/v1/secrets/db", HUSH).await;
    put(api, "/v1/configs/conf", "listen 80").await;
    let spec =
        |field: &str, source: &str| json!({"name": field, "image": "nginx", field: [{"source": source}]});
    assert_eq!(api.call("POST", "/v1/services", spec("secrets", "db")).await.status, 201);
    let waits = |web: &Answer| {
        web.body["missing"]
            .to_string()
            .contains("runs an agent that does not speak TLS, without which no secrets are sent")
    };
    api.until("/v1/services/secrets", waits).await;
    assert_eq!(api.call("POST", "/v1/services", spec("configs", "conf")).await.status, 201);
    let version = api.get("/v1/services/secrets").await.body["secrets"][0]["version"].clone();
    let content = |kind: &str, name: &str, version: &Value| {
        let content = json!({"kind": kind, "name": name, "version": version});
        json!({"node": "h0", "content": content})
    };
    let secret = api.call("POST", "/agent/v1/content", content("secret", "db", &version)).await;
    assert_eq!((secret.status, &secret.body["code"]), (400, &json!("tls_required")), "{secret:?}");
    let version = api.get("/v1/services/configs").await.body["configs"][0]["version"].clone();
    let config = api.call("POST", "/agent/v1/content", content("config", "conf", &version)).await;
    assert_eq!((config.status, &config.body["data"]), (200, &json!(base64("listen 80"))), "{config:?}");
    for (node, version) in [("h1", &version), ("h0", &json!("0".repeat(32)))] {
        let mut other = content("config", "conf", version);
        other["node"] = node.into();
        let refused = api.call("POST", "/agent/v1/content", other).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (404, &json!("replica_not_found")),
            "{refused:?}"
        );
    }
    cluster.stop().await;
}
