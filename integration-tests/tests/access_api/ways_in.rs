//! How callers come to be known: the first token, browsers, HTTPS, the socket, hosts without a token.

use std::{os::unix::fs::PermissionsExt as _, process::Stdio};

use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::{cluster::agent_config, lab::shef::binary};
use tokio::io::AsyncWriteExt as _;

use super::*;

#[actix_rt::test]
async fn a_master_that_no_administrator_could_enter_makes_a_token_at_its_start() {
    let open = Cluster::start(tempfile::tempdir().unwrap()).await;
    let made = open.api.call("PUT", "/v1/services/web", json!({ "image": "app", "replicas": 0 })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let dir = open.stop().await;
    let file = dir.path().join("admin-token");
    let start = async |config: MasterConfig| {
        let master = shef_master::start(config).await.unwrap();
        (Api::new(master.address()), master, std::fs::read_to_string(&file).unwrap_or_default())
    };
    let (_, master, token) = start(guarded(dir.path())).await;
    assert_eq!(token, "", "the socket makes as many as are wanted");
    master.stop().await;
    // Others could replace the socket, so there is none.
    let shared = dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
    let unusable = MasterConfig { api_socket: Some(shared.join("shef.sock")), ..guarded(dir.path()) };
    let (api, master, token) = start(unusable).await;
    assert_eq!(with_token(&api, token.trim(), "GET", "/v1/tokens", Value::Null).await.status, 200);
    // Nobody enters the next one by a token that expires now.
    let soon = json!({ "role": "admin", "expires_in": "1ms" });
    let made = with_token(&api, token.trim(), "PUT", "/v1/tokens/short", soon).await;
    assert_eq!(made.status, 201, "{made:?}");
    let revoked = with_token(&api, token.trim(), "DELETE", "/v1/tokens/admin", Value::Null).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    master.stop().await;
    let (api, master, again) = start(MasterConfig { api_socket: None, ..guarded(dir.path()) }).await;
    assert_ne!(again, token);
    assert_eq!(with_token(&api, again.trim(), "GET", "/v1/tokens", Value::Null).await.status, 200);
    master.stop().await;
}

#[actix_rt::test]
async fn every_page_and_answer_tells_browsers_what_it_may_be_used_for() {
    let site = Guarded::start().await;
    let client = awc::Client::builder().disable_redirects().finish();
    for path in ["/docs", "/docs/start.js", "/login", "/login/start.js", "/healthz", "/v1/nodes", "/none"] {
        for host in ["", "elsewhere.example"] {
            let mut asked = client.get(format!("{}{path}", site.api.url));
            if !host.is_empty() {
                asked = asked.insert_header(("host", host));
            }
            let answer = asked.send().await.unwrap();
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("referrer-policy"), Some("no-referrer"), "{path} {host}");
            assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path} {host}");
            let is_page = matches!(path, "/docs" | "/login") && host.is_empty();
            let policy = header("content-security-policy").unwrap_or_default();
            assert_eq!(is_page, policy.contains("frame-ancestors 'none'"), "{path} {host}");
        }
    }
    site.stop().await;
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
