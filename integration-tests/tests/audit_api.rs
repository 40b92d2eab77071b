//! The audit log: every change and every refusal has one line, which holds no secret.

use std::{collections::BTreeMap, fs, io::Write as _, net::TcpStream, path::Path, time::Duration};

use awc::http::Method;
use serde_json::{Value, json};
use shef_common::{
    contents::CONTENT_PATH,
    protocol::{IMAGES_PATH, REGISTER_PATH, REPORT_PATH},
    tls::{JOIN_PATH, RENEW_PATH},
};
use shef_integration_tests::{
    cluster::{Cluster, PATIENCE, master_config},
    events::EventReader,
    lab::shef::binary,
};
use shef_master::{
    MasterHandle,
    audit::{AUDIT_LOG, read_log},
    config::MasterConfig,
};
use tempfile::TempDir;

/// A master that asks who calls, with a token of an administrator and one of a viewer.
struct Site {
    master: MasterHandle,
    dir: TempDir,
    url: String,
    tokens: BTreeMap<&'static str, String>,
}

fn guarded(dir: &Path) -> MasterConfig {
    MasterConfig { insecure: false, api_socket: Some(dir.join("shef.sock")), ..master_config(dir) }
}

impl Site {
    async fn start() -> Self {
        let open = Cluster::start(tempfile::tempdir().unwrap()).await;
        let mut tokens = BTreeMap::new();
        for role in ["admin", "viewer"] {
            let made = open.api.call("PUT", &format!("/v1/tokens/{role}"), json!({ "role": role })).await;
            tokens.insert(role, made.body["token"].as_str().unwrap().to_owned());
        }
        let dir = open.stop().await;
        let master = shef_master::start(guarded(dir.path())).await.unwrap();
        let url = format!("http://{}", master.address());
        let this = Self { master, dir, url, tokens };
        while this.call(Some("viewer"), "get", "/v1/services", "").await.0 != 200 {
            tokio::task::yield_now().await;
        }
        this
    }

    /// The status, and the body if it is one that ends.
    async fn call(&self, role: Option<&str>, method: &str, path: &str, body: &str) -> (u16, Value) {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let mut request = awc::Client::builder()
            .disable_timeout()
            .disable_redirects()
            .finish()
            .request(method, format!("{}{path}", self.url))
            .insert_header(("content-type", "application/json"));
        if let Some(role) = role {
            let token = self.tokens.get(role).map_or(role, String::as_str);
            request = request.insert_header(("authorization", format!("Bearer {token}")));
        }
        let mut answer = request.send_body(body.to_owned()).await.unwrap();
        let goes_on = path.starts_with("/v1/events") || path == "/v1/backup";
        let body = if goes_on { Value::Null } else { answer.json().await.unwrap_or_default() };
        (answer.status().as_u16(), body)
    }

    /// The lines of requests since this master's start, once it has stopped.
    async fn stop(self) -> (Vec<Value>, TempDir) {
        self.master.stop().await;
        let lines = lines(self.dir.path());
        let start = lines.iter().rposition(|line| line["event"] == "started").unwrap();
        (lines[start..].to_vec(), self.dir)
    }
}

fn lines(dir: &Path) -> Vec<Value> {
    let files = read_log(dir).unwrap();
    let text: String = files.into_iter().map(|(_, file)| String::from_utf8(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shown(line: &Value) -> (String, u64, String) {
    let call = format!("{} {}", line["method"].as_str().unwrap(), line["call"].as_str().unwrap());
    let who = line["by"]["token"].as_str().or(line["by"]["kind"].as_str()).unwrap();
    (call, line["status"].as_u64().unwrap_or(0), who.to_owned())
}

fn requests(lines: &[Value]) -> Vec<(String, u64, String)> {
    lines.iter().filter(|line| line["event"] == "request").map(shown).collect()
}

/// What has a line whoever makes the call, by another rule than the master's own.
fn is_audited(method: &str, path: &str) -> bool {
    match (method, path) {
        ("get", path) => {
            path.ends_with("/exec") || ["/v1/backup", "/v1/secrets", "/v1/tokens"].contains(&path)
        }
        ("post", "/node" | "/v1/services/{name}/plan") => false,
        (_, _) => true,
    }
}

#[actix_rt::test]
async fn every_call_that_may_change_something_and_every_refusal_has_exactly_one_line() {
    let site = Site::start().await;
    let document = site.call(Some("viewer"), "get", "/openapi.json", "").await.1;
    let mut expected = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            let real = path.replace("{name}", "web").replace("{id}", "web-000001").replace("{slot}", "0");
            let real = real.replace("{lead}", "pause").replace("/registries/web", "/registries/r.example");
            let role = call["x-role"].as_str();
            let name = format!("{} {path}", method.to_uppercase());
            for who in [None, Some("viewer"), Some("admin")] {
                let status = u64::from(site.call(who, method, &real, "").await.0);
                let is_refused = matches!(status, 401 | 403);
                assert_eq!(is_refused && who.is_none(), role.is_some() && who.is_none(), "{name} {status}");
                if is_refused || is_audited(method, path) {
                    expected.push((name.clone(), status, who.unwrap_or("unknown").to_owned()));
                }
            }
        }
    }
    // The calls of agents stand in no document.
    for (path, status) in [(JOIN_PATH, 400), (CONTENT_PATH, 400), (RENEW_PATH, 0), (IMAGES_PATH, 0)] {
        site.call(None, "post", path, "{}").await;
        if status > 0 {
            expected.push((format!("POST {path}"), status, "unknown".to_owned()));
        }
    }
    for path in [REGISTER_PATH, REPORT_PATH] {
        assert_eq!(site.call(None, "post", path, "{}").await.0, 400, "no line: nothing is said in it");
    }
    let join = json!({ "id": "0a1b2c3d", "secret": "0".repeat(32), "node": "h1", "uid": "0".repeat(16), "csr": "x" });
    assert_eq!(site.call(None, "post", JOIN_PATH, &join.to_string()).await.0, 401);
    expected.push((format!("POST {JOIN_PATH}"), 401, "unknown".to_owned()));
    let (lines, _dir) = site.stop().await;
    assert!(expected.len() > 100, "{}", expected.len());
    let found = requests(&lines);
    for (nth, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "line {nth}");
    }
    assert_eq!(found.len(), expected.len(), "{:?}", found.last());
    let join = &lines[lines.len() - 2];
    assert_eq!(join["object"], json!({ "node": "h1", "uid": "0000000000000000", "token": "0a1b2c3d" }));
}

#[actix_rt::test]
async fn a_line_names_caller_and_object_and_holds_nothing_that_was_sent() {
    let site = Site::start().await;
    let admin = Some("admin");
    let spec =
        json!({ "name": "shop", "image": "app", "replicas": 0, "env": { "KEY": "body-hush" } }).to_string();
    assert_eq!(site.call(admin, "post", "/v1/services", &spec).await.0, 201);
    let data = json!({ "data": "Ym9keS1odXNo" }).to_string();
    assert_eq!(site.call(admin, "put", "/v1/%73ecrets/db?", &data).await.0, 201);
    let token = site.call(admin, "put", "/v1/tokens/ci", r#"{"role": "viewer"}"#).await.1;
    let token = token["token"].as_str().unwrap();
    site.call(admin, "get", "/v1/services/shop/replicas/shop-000001/exec?cmd=query-hush", "").await;
    site.call(Some("shef_0a1b2c3d_wrong-hush"), "delete", "/v1/services/a%0a%7b%22n%22:1%1b[2J", "").await;
    site.call(None, "delete", &format!("/v1/services/{}", "x".repeat(5_000)), "").await;
    site.call(admin, "delete", &format!("/v1/tokens/{}", site.tokens["viewer"]), "").await;
    site.call(admin, "put", "/v1/registries/me:word-hush@r.example", "{}").await;
    let link = site.call(admin, "post", "/v1/login-links", "").await.1;
    let code = link["path"].as_str().unwrap().strip_prefix("/login#").unwrap().to_owned();
    assert_eq!(site.call(None, "post", "/v1/sessions", &json!({ "code": code }).to_string()).await.0, 201);
    assert_eq!(site.call(None, "post", "/v1/sessions", &json!({ "code": code }).to_string()).await.0, 401);
    let put = r#"{"image": "app", "replicas": 0}"#;
    assert_eq!(site.call(admin, "put", "/v1/services/shop?dry_run=true", put).await.0, 200);
    let foreign = awc::Client::default().post(format!("{}/v1/login-links", site.url));
    let foreign = foreign.insert_header(("origin", "http://elsewhere.example")).send().await.unwrap();
    assert_eq!(foreign.status().as_u16(), 403);
    let (tokens, token) = (site.tokens.clone(), token.to_owned());
    let (lines, dir) = site.stop().await;
    let text = fs::read_to_string(dir.path().join(AUDIT_LOG)).unwrap();
    let secrets = tokens.values().chain([&token]).map(|token| token.rsplit('_').next().unwrap());
    for secret in secrets.chain(["hush", "Ym9keS1odXNo", code.as_str(), "dry_run", "elsewhere"]) {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.lines().all(|line| line.len() < 1_000 && !line.chars().any(char::is_control)));
    let of = |n: usize| &lines.iter().filter(|line| line["event"] == "request").nth(n).unwrap()["object"];
    assert_eq!(of(0), &json!({ "service": "shop" }));
    assert_eq!(of(1), &json!({ "name": "db" }));
    assert_eq!(of(4)["name"], "(no name: 12 bytes)");
    assert_eq!(of(5)["name"], "(no name: 5000 bytes)");
    let found = requests(&lines);
    let statuses: Vec<u64> = found.iter().map(|(_, status, _)| *status).collect();
    assert_eq!(statuses, [201, 201, 201, 404, 401, 401, 400, 400, 201, 201, 401, 403], "{found:?}");
    let request = |n: usize| lines.iter().filter(|line| line["event"] == "request").nth(n).unwrap();
    assert_eq!(request(0)["by"]["role"], "admin");
    assert_eq!(request(0)["from"], "127.0.0.1");
    assert_eq!(request(9)["by"]["kind"], "session");
    assert_eq!(request(9)["by"]["token"], "admin");
    assert_eq!((&request(11)["code"], &request(11)["call"]), (&json!("foreign_page"), &json!("")));
}

#[actix_rt::test]
async fn a_flood_of_refusals_is_counted_and_a_change_beside_it_has_its_line() {
    let site = Site::start().await;
    for _ in 0..600 {
        assert_eq!(site.call(None, "get", "/v1/nodes", "").await.0, 401);
    }
    assert_eq!(site.call(Some("admin"), "put", "/v1/tokens/ci", r#"{"role": "viewer"}"#).await.0, 201);
    let (lines, _dir) = site.stop().await;
    let of_their_own = requests(&lines).len() - 1;
    assert!((100..400).contains(&of_their_own), "{of_their_own}");
    assert_eq!(requests(&lines).last().unwrap().0, "PUT /v1/tokens/{name}");
    let counted: Vec<&Value> = lines.iter().filter(|line| line["event"] == "repeated").collect();
    assert_eq!(
        counted.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>(),
        600 - of_their_own as u64
    );
    assert_eq!(counted[0]["from"], "127.0.0.1");
}

/// The latest line of a call.
async fn latest(site: &Site, call: &str) -> Value {
    let line = tokio::time::timeout(PATIENCE, async {
        loop {
            let page = site.call(Some("admin"), "get", "/v1/audit?limit=5", "").await.1;
            let of_call = |line: &&Value| line["call"] == call;
            if let Some(line) = page["lines"].as_array().unwrap().iter().find(of_call) {
                return line.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    line.await.unwrap()
}

#[actix_rt::test]
async fn a_change_has_its_line_before_its_answer_has_waited_and_though_its_client_leaves() {
    let site = Site::start().await;
    // Without a host it does not converge.
    let (body, token) = (r#"{"image": "app", "replicas": 1}"#, &site.tokens["admin"]);
    let length = body.len();
    let request = format!(
        "PUT /v1/services/web?wait=60s HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut client = TcpStream::connect(site.master.address()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let line = latest(&site, "/v1/services/{name}").await;
    assert_eq!((&line["status"], &line["object"]["name"]), (&json!(202), &json!("web")), "{line}");
    drop(client);
    let (lines, dir) = site.stop().await;
    assert_eq!(requests(&lines).len(), 1, "one line: {lines:?}");
    assert_eq!(lines.last().unwrap()["event"], "stopped");
    drop(dir);
}

/// docker-shef's calls answer 409 when a service does not run in time: it was changed all the same.
#[actix_rt::test]
async fn a_flood_hides_no_change_that_is_answered_as_a_failure() {
    let site = Site::start().await;
    let admin = Some("admin");
    let spec = json!({ "name": "leg", "image": "app", "replicas": 0 }).to_string();
    assert_eq!(site.call(admin, "post", "/v1/services", &spec).await.0, 201);
    for _ in 0..300 {
        assert_eq!(site.call(None, "get", "/v1/nodes", "").await.0, 401);
    }
    let body = json!({ "serviceName": "leg", "replicas": 7 }).to_string();
    assert_eq!(site.call(admin, "put", "/service", &body).await.0, 409, "there is no host");
    assert_eq!(site.call(admin, "get", "/v1/services/leg", "").await.1["replicas"], 7);
    let line = latest(&site, "/service").await;
    assert_eq!((&line["status"], &line["by"]["token"]), (&json!(202), &json!("admin")), "{line}");
    site.stop().await;
}

#[actix_rt::test]
async fn a_token_makes_no_more_changes_than_the_log_has_room_for() {
    let mut site = Site::start().await;
    site.master.stop().await;
    let config = MasterConfig { token_changes_per_minute: 1, ..guarded(site.dir.path()) };
    site.master = shef_master::start(config).await.unwrap();
    site.url = format!("http://{}", site.master.address());
    let admin = Some("admin");
    let put = r#"{"image": "app", "replicas": 0}"#;
    let mut made = 0;
    let refused = loop {
        let (status, body) = site.call(admin, "put", "/v1/services/web", put).await;
        if !matches!(status, 200 | 201) {
            break (status, body);
        }
        made += 1;
        assert!(made < 200, "it is never refused");
    };
    assert_eq!((refused.0, &refused.1["code"]), (429, &json!("too_many_requests")), "{refused:?}");
    assert!(refused.1["detail"].as_str().unwrap().contains("token_changes_per_minute"), "{refused:?}");
    assert!((100..110).contains(&made), "{made}");
    assert_eq!(site.call(admin, "get", "/v1/services/web", "").await.0, 200, "reads have no line");
    assert_eq!(site.call(admin, "post", "/v1/services/web/plan", put).await.0, 200, "nor have plans");
    let (lines, _dir) = site.stop().await;
    let changes = requests(&lines).into_iter().filter(|(_, status, _)| *status != 429).count();
    assert_eq!(changes, made, "each change has its line");
}

#[actix_rt::test]
async fn lines_of_the_log_push_no_events_out_and_a_reader_of_both_misses_neither() {
    let open = Cluster::start(tempfile::tempdir().unwrap()).await;
    let body = json!({ "image": "app", "replicas": 0 });
    let mut events = EventReader::open(&open.api, "", None).await;
    let change = async |name: &str| {
        let path = format!("/v1/services/{name}");
        assert_eq!(open.api.call("PUT", &path, body.clone()).await.status, 201);
    };
    change("a").await;
    events.until(|event| event["service"] == "a").await;
    let number = |id: &str| id.split('-').nth(1).unwrap().parse::<u64>().unwrap();
    let (first, both) = (events.at().to_owned(), EventReader::open(&open.api, "?audit=true", None).await);
    let (resumed, before) = (both.at().to_owned(), number(&first));
    assert_eq!(resumed.split('-').count(), 3, "{resumed}");
    drop(both);
    for n in 0..20 {
        let path = format!("/v1/tokens/t{n}");
        assert_eq!(open.api.call("PUT", &path, json!({ "role": "viewer" })).await.status, 201);
    }
    change("b").await;
    let told = events.until(|event| event["service"] == "b").await;
    assert!(number(events.at()) - before <= told.len() as u64, "lines take no numbers of events");
    // Who resumes hears of all that came meanwhile, each once.
    let mut both = EventReader::open(&open.api, "?audit=true", Some(&resumed)).await;
    let (mut lines, mut is_told) = (0, false);
    while lines < 21 || !is_told {
        let Some(event) = both.block().await else { continue };
        assert_ne!(event["event"], "skipped", "{event}");
        lines += u64::from(event["event"] == "audited");
        is_told |= event["event"] == "service_created" && event["service"] == "b";
        assert_eq!(event["id"], both.at());
    }
    open.stop().await;
}

#[actix_rt::test]
async fn lines_are_read_by_administrators_alone_page_by_page_and_as_events() {
    let site = Site::start().await;
    let reader = |query: &str, role: &str| {
        let client = awc::Client::builder().disable_timeout().finish();
        let token = format!("Bearer {}", site.tokens[role]);
        client.get(format!("{}/v1/events{query}", site.url)).insert_header(("authorization", token)).send()
    };
    let refused = reader("?audit=true", "viewer").await.unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    for n in 0..5 {
        let path = format!("/v1/tokens/t{n}");
        assert_eq!(site.call(Some("admin"), "put", &path, r#"{"role": "viewer"}"#).await.0, 201);
    }
    let page = site.call(Some("admin"), "get", "/v1/audit?limit=3", "").await.1;
    let (lines, next) = (page["lines"].as_array().unwrap(), page["next"].as_u64().unwrap());
    assert_eq!((lines.len(), lines[2]["n"].as_u64()), (3, Some(next)));
    let page = site.call(Some("admin"), "get", &format!("/v1/audit?limit=3&before={next}"), "").await.1;
    assert_eq!(page["lines"][0]["n"], next - 1);
    assert_eq!(page["lines"][1]["object"]["name"], "t0");
    assert_eq!(site.call(Some("admin"), "get", "/v1/audit?limit=0", "").await.0, 400);
    assert_eq!(site.call(Some("viewer"), "get", "/v1/audit", "").await.0, 403);
    let health = site.call(Some("viewer"), "get", "/v1/cluster", "").await.1;
    assert_eq!((&health["audit"]["lost"], &health["audit"]["error"]), (&json!(0), &Value::Null));
    site.stop().await;

    let open = Cluster::start(tempfile::tempdir().unwrap()).await;
    let mut with_audit = EventReader::open(&open.api, "?audit=true", None).await;
    let mut without = EventReader::open(&open.api, "", None).await;
    let body = json!({ "image": "app", "replicas": 0 });
    assert_eq!(open.api.call("PUT", "/v1/services/web", body).await.status, 201);
    let told = with_audit.until(|event| event["event"] == "audited").await;
    let line = &told.last().unwrap()["audit"];
    assert_eq!((&line["object"]["name"], &line["by"]["kind"]), (&json!("web"), &json!("anybody")));
    open.api.raw("DELETE", "/v1/services/web", &[], vec![]).await;
    let told = without.until(|event| event["event"] == "service_deleted").await;
    assert!(told.iter().all(|event| event["event"] != "audited"), "{told:?}");
    open.stop().await;
}

#[actix_rt::test]
async fn the_log_is_verified_by_a_command_and_a_change_is_found_at_its_line() {
    let site = Site::start().await;
    let shef = async |words: &[&str]| {
        let mut shef = tokio::process::Command::new(binary());
        shef.args(words).env_remove("HOST_IP").env_remove("PORT");
        let said = shef.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (said.status.code(), text(&said.stdout), text(&said.stderr))
    };
    let socket = format!("unix://{}", site.dir.path().join("shef.sock").display());
    let (code, _, said) = shef(&["token", "create", "mine", "--role", "viewer", "--api", &socket]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, listed, said) = shef(&["audit", "ls", "--limit", "1", "--api", &socket]).await;
    let own = fs::metadata(site.dir.path()).map(|dir| std::os::unix::fs::MetadataExt::uid(&dir)).unwrap();
    let line = listed.lines().last().unwrap_or_default();
    assert!(
        line.contains(&format!("socket {own}")) && line.contains("PUT /v1/tokens/mine"),
        "{code:?} {listed} {said}"
    );
    let (_, dir) = site.stop().await;
    let (path, key) = (dir.path().to_str().unwrap(), dir.path().join("secret.key"));
    let key = ["--key", key.to_str().unwrap()];
    let count = lines(dir.path()).len();
    let (code, fine, said) = shef(&["audit", "verify", path, key[0], key[1]]).await;
    assert_eq!((code, said.as_str()), (Some(0), ""), "{fine}");
    assert_eq!(fine, format!("{count} lines are fine, and written with this key: 1 to {count}, in 1 files"));
    let file = dir.path().join(AUDIT_LOG);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("/v1/tokens/{name}", "/v1/tokens/{nane}", 1)).unwrap();
    let changed = 1 + text.lines().position(|line| line.contains("/v1/tokens/{name}")).unwrap();
    let (code, _, said) = shef(&["audit", "verify", path]).await;
    let line = format!("line {} does not follow", changed + 1);
    assert!(
        code == Some(1) && said.contains(&line) && said.contains(&format!("{changed} lines before")),
        "{said}"
    );
    let (code, _, said) = shef(&["audit", "verify", path, key[0], key[1]]).await;
    assert!(code == Some(1) && said.contains(&format!("line {changed} was not written with")), "{said}");
    let (code, _, said) = shef(&["audit", "verify", "/nowhere/at/all"]).await;
    assert!(code == Some(1) && said.contains("cannot read /nowhere/at/all"), "{said}");
}

#[actix_rt::test]
async fn hosts_that_speak_without_tls_are_named_and_an_open_api_too() {
    let mut cluster = Cluster::fake(1, shef_agent::engine::fake::FakeEngineOptions::default()).await;
    let config = shef_integration_tests::cluster::agent_config(
        &cluster.dir.path().join("plain"),
        "plain",
        cluster.master.address(),
        "unix:///nowhere",
    );
    let engine = shef_agent::EngineChoice::Fake(shef_agent::engine::fake::FakeEngineOptions::default());
    cluster.agents.push(shef_agent::start(config, engine).await.unwrap());
    cluster.ready(2).await;
    let shown = cluster.api.get("/v1/cluster").await.body;
    assert_eq!((&shown["tls"], &shown["plain_nodes"]), (&json!("optional"), &json!(["plain"])));
    for (host, speaks_tls) in [("h0", true), ("plain", false)] {
        assert_eq!(cluster.api.get(&format!("/v1/nodes/{host}")).await.body["tls"], speaks_tls);
    }
    let shef = async |words: &[&str]| {
        let mut shef = tokio::process::Command::new(binary());
        let said = shef.args(words).args(["--api", &cluster.api.url]).output().await.unwrap();
        (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap())
    };
    let (_, warned) = shef(&["node", "ls"]).await;
    assert!(warned.contains("insecure = true") && warned.contains("tls = optional: plain speak"), "{warned}");
    let (shown, _) = shef(&["node", "show", "plain"]).await;
    assert!(shown.contains("encryption:     none"), "{shown}");
    cluster.stop().await;
}
