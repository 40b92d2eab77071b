//! Who may call what: every call of the API, by callers of every kind.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use serde_json::{Value, json};
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::{
    cluster::{Answer, Api, Cluster, agent_config, master_config},
    lab::shef::binary,
};
use shef_master::{MasterHandle, access::Role, config::MasterConfig};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

/// A master that asks who calls, and a token of each role.
struct Guarded {
    master: MasterHandle,
    api: Api,
    dir: TempDir,
    tokens: BTreeMap<&'static str, String>,
}

impl Guarded {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Tokens are made while everybody is an administrator.
        let open = Cluster::start(dir).await;
        let mut tokens = BTreeMap::new();
        for role in Role::ALL.map(Role::as_str) {
            tokens.insert(role, make(&open.api, role, &json!({ "role": role }), None).await);
        }
        let dir = open.stop().await;
        let master = shef_master::start(guarded(dir.path())).await.unwrap();
        let api = Api::new(master.address());
        let this = Self { master, api, dir, tokens };
        this.until_ready().await;
        this
    }

    async fn until_ready(&self) {
        while self.call("viewer", "GET", "/v1/services", Value::Null).await.status != 200 {
            tokio::task::yield_now().await;
        }
    }

    async fn call(&self, role: &str, method: &str, path: &str, body: Value) -> Answer {
        with_token(&self.api, &self.tokens[role], method, path, body).await
    }

    async fn stop(self) {
        self.master.stop().await;
        drop(self.dir);
    }
}

fn guarded(dir: &Path) -> MasterConfig {
    MasterConfig { insecure: false, api_socket: Some(dir.join("shef.sock")), ..master_config(dir) }
}

async fn with_token(api: &Api, token: &str, method: &str, path: &str, body: Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    api.raw(method, path, &headers, body).await
}

async fn make(api: &Api, name: &str, body: &Value, by: Option<&str>) -> String {
    let path = format!("/v1/tokens/{name}");
    let made = with_token(api, by.unwrap_or_default(), "PUT", &path, body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["token"].as_str().unwrap().to_owned()
}

fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
}

/// What is answered to everybody.
const OPEN: [&str; 11] = [
    "delete /v1/sessions",
    "get /docs",
    "get /docs/start.js",
    "get /docs/swagger-ui-bundle.js",
    "get /docs/swagger-ui.css",
    "get /healthz",
    "get /login",
    "get /login/start.js",
    "get /readyz",
    "post /node",
    "post /v1/sessions",
];

/// The least role of what does harm. Everything else that changes something is a deployer's.
fn expected(method: &str, path: &str) -> Option<&'static str> {
    let call = format!("{method} {path}");
    if OPEN.contains(&call.as_str()) {
        return None;
    }
    Some(match (method, path) {
        ("get", "/v1/backup") => "admin",
        (_, path) if path.starts_with("/v1/tokens") => "admin",
        ("get", path) if path.ends_with("/exec") => "deployer",
        ("get", _) | ("post", "/v1/login-links") => "viewer",
        (_, path) if path.starts_with("/v1/secrets") || path.starts_with("/v1/configs") => "deployer",
        (_, path) if path.starts_with("/v1/services") || path == "/service" => "deployer",
        (_, _) => "operator",
    })
}

#[actix_rt::test]
async fn every_call_is_served_from_its_role_on_and_to_nobody_else() {
    let site = Guarded::start().await;
    let document = site.call("viewer", "GET", "/openapi.json", Value::Null).await.body;
    let roles = Role::ALL.map(Role::as_str);
    let mut calls = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            // What streams, or is no JSON, is answered as any other while it is refused.
            let needed = expected(method, path);
            assert_eq!(call["x-role"].as_str(), needed, "{method} {path}");
            let Some(needed) = needed else { continue };
            let real = path.replace("{name}", "web").replace("{id}", "web-000001").replace("{slot}", "0");
            let real = real.replace("{lead}", "pause").replace("/registries/web", "/registries/r.example");
            let verb = method.to_uppercase();
            is(&site.api.raw(&verb, &real, &[], Vec::new()).await, 401, "unauthenticated");
            let wrong = with_token(&site.api, "shef_00000000_00", &verb, &real, Value::Null).await;
            is(&wrong, 401, "unauthenticated");
            for role in roles {
                let is_enough =
                    roles.iter().position(|r| *r == role) >= roles.iter().position(|r| *r == needed);
                if !is_enough {
                    is(&site.call(role, &verb, &real, Value::Null).await, 403, "forbidden");
                }
            }
            // Whether it goes on can be seen where the answer comes at once and is JSON.
            let is_a_page = path.starts_with("/docs");
            let goes_on =
                real.ends_with("/events") || path == "/v1/backup" || method == "delete" || is_a_page;
            if !goes_on {
                let answer = site.call(needed, &verb, &real, Value::Null).await;
                assert!(!matches!(answer.status, 401 | 403), "{method} {path} as {needed}: {answer:?}");
            }
            calls += 1;
        }
    }
    assert!(calls > 40, "only {calls} calls were tried");
    site.stop().await;
}

#[actix_rt::test]
async fn another_way_of_writing_an_address_leads_to_the_same_question() {
    let site = Guarded::start().await;
    for path in
        ["/v1/%62ackup", "/v1/backup?x", "/v1/back%75p", "/%76%31/tokens", "/v1/tokens%2f", "//v1/backup"]
    {
        let nobody = site.api.raw("GET", path, &[], Vec::new()).await;
        assert!(matches!(nobody.status, 401 | 404), "{path}: {nobody:?}");
        let viewer = site.call("viewer", "GET", path, Value::Null).await;
        assert!(matches!(viewer.status, 403 | 404), "{path}: {viewer:?}");
    }
    let put = site.call("viewer", "PUT", "/v1/t%6fkens/mine", json!({ "role": "admin" })).await;
    is(&put, 403, "forbidden");
    for method in ["OPTIONS", "POST", "TRACE"] {
        let answer = site.api.attempt(method, "/v1/backup", &[], Vec::new()).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 405), "{method}");
    }
    site.stop().await;
}

#[actix_rt::test]
async fn a_deployer_of_some_services_changes_no_other_by_whatever_call_names_it() {
    let site = Guarded::start().await;
    let admin = Some(site.tokens["admin"].as_str());
    let body = json!({ "role": "deployer", "services": "team-a-" });
    let token = make(&site.api, "team-a", &body, admin).await;
    let call =
        async |method: &str, path: &str, body: Value| with_token(&site.api, &token, method, path, body).await;
    let spec = |name: &str| json!({ "name": name, "image": "app", "replicas": 0 });
    for name in ["web", "team-ab", "team-"] {
        let path = format!("/v1/services/{name}");
        let put = json!({ "image": "app", "replicas": 0 });
        if name != "team-" {
            is(&call("POST", "/v1/services", spec(name)).await, 403, "forbidden");
        }
        is(&call("PUT", &path, put.clone()).await, 403, "forbidden");
        is(&call("PUT", &path.replace("team", "%74eam"), put).await, 403, "forbidden");
        is(&call("PATCH", &path, json!({ "replicas": 1 })).await, 403, "forbidden");
        is(&call("DELETE", &path, Value::Null).await, 403, "forbidden");
        is(
            &call("GET", &format!("{path}/replicas/{name}-000001/exec?cmd=sh"), Value::Null).await,
            403,
            "forbidden",
        );
        let legacy = json!({ "serviceName": name, "image": "app", "replicas": 0 });
        if name != "team-" {
            assert_eq!(call("POST", "/service", legacy).await.status, 403);
        }
    }
    let made = call("POST", "/v1/services", spec("team-a-web")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let scaled = call("PATCH", "/v1/services/team-a-web", json!({ "replicas": 0, "labels": {} })).await;
    assert!(!matches!(scaled.status, 401 | 403), "{scaled:?}");
    let read = call("GET", "/v1/services", Value::Null).await;
    assert_eq!(read.body["services"].as_array().unwrap().len(), 1, "and reads everything: {read:?}");
    site.stop().await;
}

#[actix_rt::test]
async fn a_deployer_of_some_names_neither_stores_nor_mounts_secrets_of_others() {
    let site = Guarded::start().await;
    let admin = site.tokens["admin"].clone();
    let body = json!({ "role": "deployer", "services": "team-a-" });
    let token = make(&site.api, "team-a", &body, Some(&admin)).await;
    let call =
        async |method: &str, path: &str, body: Value| with_token(&site.api, &token, method, path, body).await;
    let data = json!({ "data": "aHVzaA==" });
    for path in ["/v1/secrets/team-b-db", "/v1/configs/team-b-conf"] {
        is(&call("PUT", path, data.clone()).await, 403, "forbidden");
        is(&call("DELETE", path, Value::Null).await, 403, "forbidden");
        assert_eq!(with_token(&site.api, &admin, "PUT", path, data.clone()).await.status, 201);
    }
    assert_eq!(call("PUT", "/v1/secrets/team-a-db", data.clone()).await.status, 201);
    let spec = |field: &str, source: &str| {
        let mounts = [json!({ "source": source })];
        json!({ "name": "team-a-web", "image": "app", "replicas": 0, field: mounts })
    };
    let foreign = spec("secrets", "team-b-db");
    is(&call("POST", "/v1/services", foreign.clone()).await, 403, "forbidden");
    is(&call("PUT", "/v1/services/team-a-web", foreign.clone()).await, 403, "forbidden");
    is(&call("POST", "/v1/services/team-a-web/plan", foreign.clone()).await, 403, "forbidden");
    // Everybody reads configs, so everybody mounts them.
    assert_eq!(call("POST", "/v1/services", spec("configs", "team-b-conf")).await.status, 201);
    assert_eq!(call("PUT", "/v1/services/team-a-web", spec("secrets", "team-a-db")).await.status, 200);
    let patch = json!({ "secrets": [{ "source": "team-b-db" }] });
    is(&call("PATCH", "/v1/services/team-a-web", patch).await, 403, "forbidden");
    // What mounts a name is changed by whoever may change both; who may not is told.
    let other =
        json!({ "name": "web", "image": "app", "replicas": 0, "secrets": [{ "source": "team-a-db" }] });
    assert_eq!(with_token(&site.api, &admin, "POST", "/v1/services", other).await.status, 201);
    let stored = call("PUT", "/v1/secrets/team-a-db", json!({ "data": "b3RoZXI=" })).await;
    let services = stored.body["services"].as_array().unwrap();
    assert_eq!(services[0], json!({ "name": "team-a-web", "generation": 3 }), "{stored:?}");
    assert!(services[1]["error"].as_str().unwrap().contains("names begin with team-a-"), "{stored:?}");
    site.stop().await;
}

#[actix_rt::test]
async fn a_revoked_or_expired_token_does_not_count_also_after_restarts() {
    let mut site = Guarded::start().await;
    let admin = site.tokens["admin"].clone();
    let body = json!({ "role": "viewer", "expires_in": "1ms" });
    let expired = make(&site.api, "short", &body, Some(&admin)).await;
    let token = make(&site.api, "ci", &json!({ "role": "viewer" }), Some(&admin)).await;
    let again = with_token(&site.api, &admin, "PUT", "/v1/tokens/ci", json!({ "role": "admin" })).await;
    is(&again, 409, "token_exists");
    let listed = with_token(&site.api, &admin, "GET", "/v1/tokens", Value::Null).await;
    assert_eq!(listed.body["tokens"].as_array().unwrap().len(), 6);
    let secret = token.rsplit('_').next().unwrap();
    assert!(!listed.body.to_string().contains(secret));

    site.master.stop().await;
    site.master = shef_master::start(guarded(site.dir.path())).await.unwrap();
    site.api = Api::new(site.master.address());
    site.until_ready().await;
    let read = async |token: &str| with_token(&site.api, token, "GET", "/v1/nodes", Value::Null).await.status;
    assert_eq!((read(&token).await, read(&expired).await), (200, 401));
    let revoked = with_token(&site.api, &admin, "DELETE", "/v1/tokens/ci", Value::Null).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(read(&token).await, 401);
    let twice = with_token(&site.api, &admin, "DELETE", "/v1/tokens/ci", Value::Null).await;
    is(&twice, 404, "token_not_found");
    site.stop().await;
}

#[actix_rt::test]
async fn who_may_not_call_hears_so_whatever_the_size_of_the_body() {
    let site = Guarded::start().await;
    let most = master_config(site.dir.path()).max_body_bytes;
    let oversized = vec![b' '; usize::try_from(most).unwrap() + 1];
    for (path, method) in [("/v1/services", "POST"), ("/v1/services/web", "PUT"), ("/v1/secrets/key", "PUT")]
    {
        let json = ("content-type", "application/json");
        is(&site.api.raw(method, path, &[json], oversized.clone()).await, 401, "unauthenticated");
        let viewer = format!("Bearer {}", site.tokens["viewer"]);
        let headers = [json, ("authorization", viewer.as_str())];
        is(&site.api.raw(method, path, &headers, oversized.clone()).await, 403, "forbidden");
    }
    site.stop().await;
}

#[actix_rt::test]
async fn a_token_counts_in_the_header_alone_and_is_asked_for_with_what_is_right() {
    let site = Guarded::start().await;
    let viewer = &site.tokens["viewer"];
    for path in [format!("/v1/nodes?token={viewer}"), format!("/v1/nodes?access_token={viewer}")] {
        is(&site.api.get(&path).await, 401, "unauthenticated");
    }
    let cookie = format!("token={viewer}");
    is(&site.api.raw("GET", "/v1/nodes", &[("cookie", &cookie)], Vec::new()).await, 401, "unauthenticated");
    for wrong in [
        json!({}),
        json!({ "role": "root" }),
        json!({ "role": "viewer", "services": "a-" }),
        json!({ "role": "deployer", "services": "Team A" }),
        json!({ "role": "viewer", "expires_in": "never" }),
        json!({ "role": "viewer", "expires_in": "0s" }),
        json!({ "role": "viewer", "hash": "00" }),
    ] {
        is(&site.call("admin", "PUT", "/v1/tokens/new", wrong).await, 400, "invalid_body");
    }
    is(
        &site.call("admin", "PUT", "/v1/tokens/Wrong", json!({ "role": "viewer" })).await,
        400,
        "invalid_parameter",
    );
    site.stop().await;
}

#[actix_rt::test]
async fn a_master_that_nobody_could_enter_does_not_start() {
    let open = Cluster::start(tempfile::tempdir().unwrap()).await;
    let made = open.api.call("PUT", "/v1/services/web", json!({ "image": "app", "replicas": 0 })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let dir = open.stop().await;
    let closed = MasterConfig { api_socket: None, ..guarded(dir.path()) };
    let error = shef_master::start(closed).await.err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("nobody could make one")), "no socket, and no token");
}

#[actix_rt::test]
async fn a_new_cluster_has_a_first_token_in_a_file_of_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let start = async || {
        let closed = MasterConfig { api_socket: None, ..guarded(dir.path()) };
        let master = shef_master::start(closed).await.unwrap();
        let file = dir.path().join("admin-token");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        (Api::new(master.address()), master, std::fs::read_to_string(file).unwrap().trim().to_owned())
    };
    let (api, master, token) = start().await;
    let listed = with_token(&api, &token, "GET", "/v1/tokens", Value::Null).await;
    let first = &listed.body["tokens"][0];
    assert_eq!((listed.status, &first["role"]), (200, &json!("admin")), "{listed:?}");
    assert!(first["expires"].to_string().len() > 4, "it is for the first days: {listed:?}");
    let told = api.get("/readyz").await;
    assert_eq!(told.body.as_object().unwrap().len(), 2, "who is not known is told no more: {told:?}");
    let told = with_token(&api, &token, "GET", "/readyz", Value::Null).await;
    assert!(told.body["store"]["available"].is_boolean() && told.body["insecure"] == false, "{told:?}");
    master.stop().await;
    let (api, master, again) = start().await;
    assert_eq!(again, token, "it is made once");
    assert_eq!(with_token(&api, &token, "GET", "/v1/tokens", Value::Null).await.status, 200);
    master.stop().await;
}

#[actix_rt::test]
async fn a_browser_logs_in_by_a_link_with_the_rights_of_who_made_it() {
    let site = Guarded::start().await;
    let link = site.call("viewer", "POST", "/v1/login-links", Value::Null).await;
    assert_eq!(link.status, 201, "{link:?}");
    let code = link.body["path"].as_str().unwrap().strip_prefix("/login#").unwrap();
    let client = awc::Client::builder().disable_redirects().finish();
    let log_in = || client.post(format!("{}/v1/sessions", site.api.url)).send_json(&json!({ "code": code }));
    let mut entered = log_in().await.unwrap();
    assert_eq!(entered.status().as_u16(), 201);
    assert!(!entered.headers().contains_key("set-cookie"), "it would go to every port of the address");
    let entered: Value = entered.json().await.unwrap();
    assert_eq!(log_in().await.unwrap().status().as_u16(), 401, "a link counts once");

    let session = format!("Session {}", entered["session"].as_str().unwrap());
    let call = async |method: &str, path: &str, origin: &str| {
        let headers =
            [("authorization", session.as_str()), ("origin", origin), ("content-type", "application/json")];
        site.api.raw(method, path, &headers, b"{}".to_vec()).await
    };
    let own = site.api.url.as_str();
    assert_eq!(call("GET", "/v1/nodes", own).await.status, 200);
    is(&call("DELETE", "/v1/services/web", own).await, 403, "forbidden");
    is(&call("POST", "/v1/login-links", own).await, 403, "forbidden");
    is(&call("POST", "/v1/login-links", "http://elsewhere.example").await, 403, "foreign_page");
    let page =
        client.get(format!("{own}/v1/nodes")).insert_header(("accept", "text/html")).send().await.unwrap();
    let to = page.headers().get("location").and_then(|to| to.to_str().ok());
    assert_eq!((page.status().as_u16(), to), (303, Some("/login")), "a page leads to the login");

    let revoked = site.call("admin", "DELETE", "/v1/tokens/viewer", Value::Null).await;
    assert_eq!(revoked.status, 200);
    is(&call("GET", "/v1/nodes", own).await, 401, "unauthenticated");
    // Another token of this name is another one.
    make(&site.api, "viewer", &json!({ "role": "admin" }), Some(&site.tokens["admin"])).await;
    is(&call("GET", "/v1/nodes", own).await, 401, "unauthenticated");
    site.stop().await;
}

#[actix_rt::test]
async fn commands_know_a_master_over_https_by_the_digest_of_its_ca() {
    let dir = tempfile::tempdir().unwrap();
    let master = shef_master::start(guarded(dir.path())).await.unwrap();
    let (https, socket) = (
        format!("https://{}", master.address()),
        format!("unix://{}", dir.path().join("shef.sock").display()),
    );
    let shef = async |words: &[&str]| {
        let mut shef = tokio::process::Command::new(binary());
        shef.args(words).env("XDG_CONFIG_HOME", dir.path()).env_remove("HOST_IP").env_remove("PORT");
        let said = shef.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (said.status.success(), text(&said.stdout), text(&said.stderr))
    };
    let (_, shown, _) = shef(&["cluster", "show", "--json", "--api", &socket]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let ca = shown["ca"].as_str().unwrap();
    let token = std::fs::read_to_string(dir.path().join("admin-token")).unwrap();

    let login = |ca: &str| {
        let words = ["login", &https, "--ca", ca, "--token", token.trim()].map(str::to_owned);
        let shef = &shef;
        async move { shef(&words.each_ref().map(String::as_str)).await }
    };
    let (is_well, _, said) = shef(&["login", &https, "--token", token.trim()]).await;
    assert!(!is_well && said.contains("--ca DIGEST"), "{said}");
    let other = "0".repeat(40);
    let (is_well, _, said) = login(&other).await;
    assert!(!is_well, "another CA is told nothing: {said}");
    let (is_well, _, said) = login(ca).await;
    assert!(is_well, "{said}");
    let (is_well, _, said) = shef(&["token", "ls"]).await;
    assert!(is_well, "{said}");
    let (is_well, link, said) = shef(&["login", "--web"]).await;
    assert!(is_well && link.starts_with(&format!("{https}/login#")), "{link} {said}");
    master.stop().await;
}

#[actix_rt::test]
async fn hosts_join_and_report_without_a_token() {
    let site = Guarded::start().await;
    let config = agent_config(&site.dir.path().join("h0"), "h0", site.master.address(), "unix:///nowhere");
    let engine = EngineChoice::Fake(FakeEngineOptions::default());
    let agent = shef_agent::start(config, engine).await.unwrap();
    while site.call("viewer", "GET", "/v1/stats", Value::Null).await.body["now"]["nodes_ready"] != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    agent.stop().await;
    site.stop().await;
}

#[actix_rt::test]
async fn users_of_the_socket_are_administrators_and_commands_take_tokens() {
    let site = Guarded::start().await;
    let socket = format!("unix://{}", site.dir.path().join("shef.sock").display());
    let shef = async |words: &[&str], api: &str, token: (&str, &str)| {
        let mut shef = tokio::process::Command::new(binary());
        shef.args(words).args(["--api", api]).env(token.0, token.1);
        let said = shef.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (said.status.success(), text(&said.stdout), text(&said.stderr))
    };
    let none = ("SHEF_TOKEN", "");
    let make = ["token", "create", "mine", "--role", "viewer", "--expires-in", "1h"];
    let (_, token, _) = shef(&make, &socket, none).await;
    let (is_well, listed, _) = shef(&["token", "ls"], &socket, none).await;
    assert!(is_well && listed.contains("mine") && !listed.contains(&token), "{listed}");
    let (is_well, backup, said) = shef(&["backup"], &socket, none).await;
    assert!(is_well && backup.contains("token/mine") && !backup.contains(&token), "{said}");

    let (is_well, _, said) = shef(&["ls"], &site.api.url, none).await;
    assert!(!is_well && said.contains("needs a token"), "{said}");
    assert!(shef(&["ls"], &site.api.url, ("SHEF_TOKEN", &token)).await.0);
    let file = site.dir.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    assert!(shef(&["ls"], &site.api.url, ("SHEF_TOKEN_FILE", file.to_str().unwrap())).await.0);
    let (is_well, _, said) = shef(&["rm", "web"], &site.api.url, ("SHEF_TOKEN", &token)).await;
    assert!(!is_well, "{said}");
    let (is_well, _, said) = shef(&["ls"], &site.api.url, ("SHEF_TOKEN", "a b")).await;
    assert!(!is_well && said.contains("SHEF_TOKEN holds no token") && !said.contains("a b"), "{said}");
    let (is_well, ..) = shef(&["token", "revoke", "mine"], &socket, none).await;
    assert!(is_well && !shef(&["ls"], &site.api.url, ("SHEF_TOKEN", &token)).await.0);
    site.stop().await;
}

#[actix_rt::test]
async fn a_login_is_its_owners_and_its_token_goes_to_its_own_master_alone() {
    let site = Guarded::start().await;
    let home = tempfile::tempdir().unwrap();
    let shef = async |words: &[&str], input: &str| {
        let mut shef = tokio::process::Command::new(binary());
        shef.args(words).env("XDG_CONFIG_HOME", home.path()).env_remove("HOST_IP").env_remove("PORT");
        let mut shef =
            shef.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        shef.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let said = shef.wait_with_output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (said.status.success(), text(&said.stdout), text(&said.stderr))
    };
    let url = site.api.url.as_str();
    let viewer = &site.tokens["viewer"];
    let (is_well, _, said) = shef(&["login", url], "shef_0_0\n").await;
    assert!(!is_well && said.contains("needs a token"), "{said}");
    assert!(shef(&["context", "ls"], "").await.1.lines().count() <= 1, "nothing was kept");
    let (is_well, _, said) = shef(&["login", url, "--name", "prod"], &format!("{viewer}\n")).await;
    assert!(is_well, "{said}");
    let kept = home.path().join("shef/config.toml");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(kept.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let (_, listed, _) = shef(&["context", "ls"], "").await;
    assert!(listed.contains("prod") && listed.contains(url) && !listed.contains(viewer), "{listed}");
    assert!(shef(&["ls"], "").await.0, "commands go there");
    let (is_well, _, said) = shef(&["ls", "--api", url], "").await;
    assert!(!is_well && said.contains("needs a token"), "another address gets no token: {said}");

    let (is_well, answer, _) = shef(&["api", "get", "/v1/nodes"], "").await;
    assert!(is_well && answer.contains("\"nodes\""), "{answer}");
    let body = ["api", "POST", "/v1/services", "--data", "-"];
    let (is_well, _, said) = shef(&body, r#"{"name": "web", "image": "app"}"#).await;
    assert!(!is_well && said.contains("role deployer"), "{said}");

    let socket = format!("unix://{}", site.dir.path().join("shef.sock").display());
    assert!(shef(&["login", &socket, "--name", "here"], "").await.0, "by the socket nobody is asked");
    assert!(shef(&body, r#"{"name": "web", "image": "app", "replicas": 0}"#).await.0);
    assert!(shef(&["context", "use", "prod"], "").await.0);
    let (is_well, _, said) = shef(&["context", "use", "nope"], "").await;
    assert!(!is_well && said.contains("there are: here, prod"), "{said}");
    assert!(shef(&["context", "rm", "prod"], "").await.0);
    assert!(!std::fs::read_to_string(&kept).unwrap().contains(viewer));
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (is_well, _, said) = shef(&["ls"], "").await;
    assert!(!is_well && said.contains("chmod 600"), "{said}");
    site.stop().await;
}
