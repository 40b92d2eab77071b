//! A real browser (Debian's chromium) at the end of two pipes, spoken to in its
//! `DevTools` protocol: JSON messages with a zero byte behind each.

use std::process::Stdio;

use serde_json::{Value, json};
use shef_integration_tests::cluster::PATIENCE;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The browser expects its pipes at 3 and 4; what it prints is noise.
const START: &str = "exec \"$@\" 3<&0 4>&1 >/dev/null 2>&1";

/// A name that somebody has pointed at this machine.
pub const REBOUND: &str = "rebound.test";

/// A browser with one page. It ends with its owner.
pub struct Browser {
    process: Child,
    input: ChildStdin,
    says: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    /// Every address that the page has asked for.
    pub requests: Vec<String>,
    /// Every error, exception and warning that a person would see in the console.
    pub complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts it with an empty profile; it finds 127.0.0.1, also as [`REBOUND`], and no other host.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let path = profile.path().display();
        let words = [
            "--headless".to_owned(),
            // Tests run as root, who cannot have its sandbox.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            format!("--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
            format!("--user-data-dir={path}"),
            "--remote-debugging-pipe".to_owned(),
        ];
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "sh", "-c", START, "sh", "chromium"])
            .args(words)
            .env("HOME", profile.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let (input, says) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let (requests, complaints) = (Vec::new(), Vec::new());
        let mut browser =
            Self { process, input, says, session: None, calls: 0, requests, complaints, _profile: profile };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attached = browser
            .call("Target.attachToTarget", json!({ "targetId": page["targetId"], "flatten": true }))
            .await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// From now on no page has a content security policy, as an attacker's own pages have none.
    pub async fn ignore_policies(&mut self) {
        self.call("Page.setBypassCSP", json!({ "enabled": true })).await;
    }

    /// Opens `url`.
    pub async fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// What an expression comes to in the page, promises awaited.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let outcome = self.call("Runtime.evaluate", params).await;
        assert!(outcome["exceptionDetails"].is_null(), "{outcome:#}");
        outcome["result"]["value"].clone()
    }

    /// Waits until the page is the one at this path. While it changes, it cannot be asked.
    pub async fn arrives_at(&mut self, path: &str) {
        let params = json!({ "expression": "location.pathname", "returnByValue": true });
        while self.ask("Runtime.evaluate", params.clone()).await["result"]["result"]["value"] != path {}
    }

    /// Ends it, and waits until it has.
    pub async fn close(mut self) {
        self.session = None;
        self.call("Browser.close", json!({})).await;
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("chromium ends").unwrap();
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let said = self.ask(method, params).await;
        assert!(said["error"].is_null(), "{method}: {said}");
        said["result"].clone()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).await.expect("chromium runs (Debian: install chromium)");
        loop {
            let said = tokio::time::timeout(PATIENCE, self.next()).await;
            let said = said.unwrap_or_else(|_| panic!("chromium says nothing to {method}"));
            if said["id"] == self.calls {
                return said;
            }
            self.note(&said);
        }
    }

    async fn next(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.says.read_until(0, &mut bytes).await.expect("chromium speaks");
        assert_eq!(bytes.pop(), Some(0), "chromium has ended (Debian: install chromium)");
        serde_json::from_slice(&bytes).unwrap()
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.requests.extend(params["request"]["url"].as_str().map(str::to_owned));
            }
            Some("Network.webSocketCreated") => {
                self.requests.extend(params["url"].as_str().map(str::to_owned));
            }
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" || params["type"] == "warning" => {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] != "verbose" => {
                self.complaints.push(params["entry"].to_string());
            }
            Some(_) | None => {}
        }
    }
}
