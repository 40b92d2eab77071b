//! `/docs` as a browser shows it.

use std::collections::BTreeSet;

use serde_json::Value;
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::Cluster;

use crate::{browser::Browser, calls, document};

/// Waits for the calls, opens everything that can be opened, three times over, and tells what is to be seen.
const LOOK: &str = r##"(async () => {
  const soon = () => new Promise((done) => setTimeout(done, 10));
  const until = async (reached) => { for (let i = 0; i < 1000 && !reached(); i++) await soon(); };
  await until(() => document.querySelector("#calls details"));
  const main = document.getElementById("calls");
  for (let depth = 0; depth < 3; depth++) {
    for (const box of document.querySelectorAll("details:not([open])")) box.open = true;
    await until(() => [...document.querySelectorAll("details[open]")].every((box) => box.children.length > 1));
  }
  const shown = () => [...main.children].filter((call) => call.offsetHeight > 0);
  const words = (call) => [".path", ".method"].map((part) => call.querySelector(part).textContent);
  const seen = { calls: shown().map(words), text: main.innerText };
  const find = document.getElementById("find");
  find.value = "Rebalance";
  find.dispatchEvent(new Event("input"));
  return { ...seen, found: shown().map(words) };
})()"##;

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
    assert_eq!(pairs(&seen["calls"]), known, "every call is a line of the page");
    let found = BTreeSet::from([("/v1/services/{name}/rebalance".to_owned(), "post".to_owned())]);
    assert_eq!(pairs(&seen["found"]), found, "the search finds by path");
    // Fields of the body, of the answer, and of types within them.
    let text = seen["text"].as_str().unwrap();
    for word in ["stop_grace_s", "replica_states", "last_log_lines", "cpu_millis"] {
        assert!(text.contains(word), "{word} is not to be seen");
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert!(browser.requests.len() >= 2, "{:?}", browser.requests);
    let elsewhere = browser.requests.iter().filter(|url| !url.starts_with(&format!("{}/", cluster.api.url)));
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<&String>::new());

    // That nothing was seen would say nothing if nothing could be.
    let bad = "<script>console.error('bad'); fetch('http://elsewhere.test/x'); no.such()</script><img src='http://else.test/y'>";
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
