//! `/docs` as a browser shows it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Api, Cluster, master_config};
use shef_master::config::MasterConfig;

use crate::{
    browser::{Browser, REBOUND},
    calls, document,
};

/// Waits for the calls, opens one, sends another, and tells what is to be seen.
const LOOK: &str = r#"(async () => {
  const soon = () => new Promise((done) => setTimeout(done, 10));
  const until = async (found) => {
    for (let i = 0; i < 4000; i++, await soon()) { const it = found(); if (it) return it; }
    throw new Error(`never: ${found}`);
  };
  const all = () => [...document.querySelectorAll(".opblock")];
  const words = (call) => [
    call.querySelector(".opblock-summary-path").dataset.path,
    call.querySelector(".opblock-summary-method").textContent.toLowerCase(),
  ];
  const open = async (path, method) => {
    const call = all().find((call) => String(words(call)) === String([path, method]));
    call.querySelector(".opblock-summary-control").click();
    await until(() => call.querySelector(".opblock-body"));
    return call;
  };
  await until(() => all().length > 0);
  const calls = all().map(words);
  const tags = [...document.querySelectorAll(".opblock-tag")].map((tag) => tag.dataset.tag);
  const put = await open("/v1/services/{name}", "put");
  await until(() => put.textContent.includes("stop_grace_s"));
  const tried = await open("/healthz", "get");
  (await until(() => tried.querySelector(".try-out__btn"))).click();
  (await until(() => tried.querySelector(".execute"))).click();
  const answer = await until(() => tried.querySelector(".live-responses-table tbody .response-col_status"));
  await until(() => /\d/.test(answer.textContent));
  const answered = tried.querySelector(".live-responses-table tbody").textContent;
  return { calls, tags, fields: put.textContent, answered };
})()"#;

#[actix_rt::test]
async fn the_page_shows_every_call_in_a_browser_and_asks_nobody_but_its_master() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let api = document(&cluster).await;
    let mut browser = Browser::start().await;
    browser.open(&format!("{}/docs", cluster.api.url)).await;
    let seen = browser.evaluate(LOOK).await;
    let pair = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned());
    let pairs = |seen: &Value| seen.as_array().unwrap().iter().map(pair).collect::<BTreeSet<_>>();
    let known: BTreeSet<_> =
        calls(&api).into_iter().map(|(path, method, _)| (path.to_owned(), method.to_owned())).collect();
    assert_eq!(pairs(&seen["calls"]), known, "the page shows every call");
    let names = |tags: &Value| tags.as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>();
    let tags: Value = api["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone()).collect();
    assert_eq!(names(&seen["tags"]), names(&tags), "calls are grouped");
    let answered = seen["answered"].as_str().unwrap();
    assert!(answered.contains("200") && answered.contains("\"ok\""), "a call can be tried: {answered}");
    assert_eq!(browser.complaints, Vec::<String>::new());
    for part in ["/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json", "/healthz"] {
        let asked = format!("{}{part}", cluster.api.url);
        assert!(browser.requests.contains(&asked), "{asked} is not in {:?}", browser.requests);
    }
    let is_here =
        |url: &String| url.starts_with(&format!("{}/", cluster.api.url)) || url.starts_with("data:");
    let elsewhere = browser.requests.iter().filter(|url| !is_here(url));
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<&String>::new());

    // That nothing was seen would say nothing if nothing could be.
    let bad = "<script>console.error('bad'); fetch('http://elsewhere.test/x'); no.such()</script><img \
               src='http://else.test/y'>";
    browser.open(&format!("data:text/html,{bad}")).await;
    browser.evaluate("fetch('http://elsewhere.test/x').catch(() => 0)").await;
    for url in ["http://elsewhere.test/x", "http://else.test/y"] {
        assert!(browser.requests.iter().any(|request| request == url), "{:?}", browser.requests);
    }
    for word in ["bad", "no is not defined"] {
        assert!(
            browser.complaints.iter().any(|complaint| complaint.contains(word)),
            "{:?}",
            browser.complaints
        );
    }
    browser.close().await;
    cluster.stop().await;
}

/// What a page attempts at `MASTER`: to change something without being asked whether it may, to open a
/// console, and to read.
const ATTEMPTS: &str = r#"(async () => {
  const API = "MASTER";
  const post = (path, body) =>
    fetch(`${API}${path}`, { method: "POST", mode: "no-cors", body }).then((got) => got.type, () => "failed");
  const restarted = await post("/v1/services/web/restart");
  const created = await post("/v1/services", JSON.stringify({ name: "evil", image: "app:1" }));
  const console = await new Promise((done) => {
    const socket = new WebSocket(`${API.replace("http", "ws")}/v1/services/web/exec?command=id`);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
  const read = await fetch(`${API}/v1/services/web`).then((got) => got.status, () => "failed");
  return { restarted, created, console, read };
})()"#;

#[actix_rt::test]
async fn pages_of_other_sites_and_rebound_names_change_and_read_nothing() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let web = json!({ "name": "web", "image": "app:1" });
    let made = cluster.api.call("POST", "/v1/services?wait=30s", web).await;
    assert_eq!(made.body["converged"], true, "{made:?}");
    let rebound = cluster.api.url.replace("127.0.0.1", REBOUND);
    let mut browser = Browser::start().await;
    // The refusal of a rebound name has a policy that the attacker's page does not have.
    browser.ignore_policies().await;
    let somebodys = "data:text/html,a page of somebody else".to_owned();
    for (page, master, reads) in
        [(somebodys, &cluster.api.url, json!("failed")), (format!("{rebound}/docs"), &rebound, json!(421))]
    {
        browser.open(&page).await;
        let seen = browser.evaluate(&ATTEMPTS.replace("MASTER", master)).await;
        assert_eq!((&seen["console"], &seen["read"]), (&json!("refused"), &reads), "{page}: {seen}");
        let services = cluster.api.get("/v1/services").await;
        assert_eq!(services.body["services"].as_array().unwrap().len(), 1, "{page}: {services:?}");
        assert_eq!(services.body["services"][0]["version"], made.body["version"], "{page}: {services:?}");
    }
    browser.close().await;
    cluster.stop().await;
}

/// Waits until the page shows calls, and tells what a call with the session, and what the browser keeps, say.
const LOGGED_IN: &str = r#"(async () => {
  for (let i = 0; i < 4000 && !document.querySelector(".opblock"); i++) {
    await new Promise((done) => setTimeout(done, 10));
  }
  const authorization = `Session ${sessionStorage.getItem("shef-session")}`;
  const answer = await fetch("/v1/nodes", { headers: { authorization } });
  const without = await fetch("/v1/nodes");
  return [location.pathname, answer.status, without.status, document.cookie];
})()"#;

#[actix_rt::test]
async fn a_browser_is_logged_in_by_a_link_and_keeps_no_cookie() {
    let dir = tempfile::tempdir().unwrap();
    let config = MasterConfig {
        insecure: false,
        api_socket: Some(dir.path().join("shef.sock")),
        ..master_config(dir.path())
    };
    let master = shef_master::start(config).await.unwrap();
    let api = Api::new(master.address());
    let token = std::fs::read_to_string(dir.path().join("admin-token")).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    let headers = [("authorization", authorization.as_str())];
    let link = api.raw("POST", "/v1/login-links", &headers, Vec::new()).await;
    let mut browser = Browser::start().await;
    browser.open(&format!("{}/docs", api.url)).await;
    browser.arrives_at("/login").await;
    browser.open("about:blank").await;
    browser.open(&format!("{}{}", api.url, link.body["path"].as_str().unwrap())).await;
    browser.arrives_at("/docs").await;
    let seen = browser.evaluate(LOGGED_IN).await;
    assert_eq!(seen, json!(["/docs", 200, 401, ""]));
    browser.close().await;
    master.stop().await;
}
