//! A cluster inside the test's own process: a real master with a real store, and
//! real agents over engines of the test's choice, all on free loopback ports.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use awc::{Client, http::Method};
use serde_json::Value;
use shef_agent::{
    AgentHandle, EngineChoice,
    config::{AgentConfig, PolicyConfig},
    engine::fake::FakeEngineOptions,
};
use shef_common::{
    browser_guard::KnownNames,
    docker::DockerTls,
    ids::NodeName,
    tls::{JoinToken, TlsMode},
};
use shef_master::{MasterHandle, config::MasterConfig, store::StoreOptions};
use tempfile::TempDir;

/// How long anything in a test may take before the test fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Where agents of tests lay the files of secrets and configs, each in a directory of its own.
pub const SECRETS_DIR: &str = "/dev/shm/shef-tests";

/// A master's configuration for tests: loopback, a free port, everything in `dir`.
#[must_use]
pub fn master_config(dir: &Path) -> MasterConfig {
    MasterConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_ip: Ipv4Addr::LOCALHOST,
        data_dir: dir.to_owned(),
        secret_key_file: dir.join("secret.key"),
        store: StoreOptions::Embedded { path: dir.to_owned() },
        report_interval_ms: 200,
        suspect_after_ms: 1_500,
        probe_window_ms: 850,
        brake_share_percent: 33,
        brake_release_after_ms: 300_000,
        unanswered_down_after_ms: 60_000,
        flap_hold_ms: 300_000,
        history_limit: 10,
        max_replicas_per_host: 1_000,
        push_timeout_ms: 5_000,
        store_timeout_ms: 5_000,
        max_waiting_requests: 1_024,
        max_streams: 16,
        token_requests_per_second: 1_000,
        token_changes_per_minute: 1_000_000,
        max_body_bytes: 262_144,
        api_names: KnownNames::default(),
        // Agents with a token join and speak TLS; what tests send by hand comes without.
        tls: Some(TlsMode::Optional),
        audit: true,
        audit_file_bytes: 16 << 20,
        audit_files: 15,
        audit_days: 7,
        audit_max_bytes: 2 << 30,
        insecure: true,
        api_socket: None,
        api_certificate: None,
        up_dir: None,
        http_workers: 1,
    }
}

/// An agent's configuration for tests.
#[must_use]
pub fn agent_config(dir: &Path, name: &str, master: SocketAddr, docker_host: &str) -> AgentConfig {
    AgentConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_ip: Ipv4Addr::LOCALHOST,
        node_name: NodeName::parse(name).ok(),
        masters: vec![format!("http://{master}")],
        docker_host: docker_host.to_owned(),
        docker_tls: DockerTls::default(),
        data_dir: dir.to_owned(),
        secrets_dir: SECRETS_DIR.into(),
        labels: BTreeMap::new(),
        engine_concurrency: 4,
        pull_concurrency: 2,
        relist_interval_ms: 60_000,
        image_cleanup_percent: 100,
        engine_disk_dir: None,
        image_cleanup_interval_ms: 60_000,
        report_debounce_ms: 20,
        policy: PolicyConfig::open(),
        tls: TlsMode::Off,
        join_token: None,
        only_tls: false,
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: String,
    /// The `ETag`, if there is one.
    pub etag: Option<String>,
    /// The `Retry-After`, if there is one.
    pub retry_after: Option<String>,
    /// The body, which is always JSON.
    pub body: Value,
}

/// Calls the API at `address`.
#[derive(Clone)]
pub struct Api {
    client: Client,
    /// As in `http://127.0.0.1:8044`.
    pub url: String,
}

impl Api {
    /// A client for the API at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let client =
            Client::builder().timeout(PATIENCE + Duration::from_secs(5)).disable_redirects().finish();
        Self { client, url: format!("http://{address}") }
    }

    /// One call with `headers` and a raw body.
    ///
    /// # Panics
    /// If there is no answer, or one whose body is not JSON.
    pub async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.attempt(method, path, headers, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// One call to a master that may not answer.
    ///
    /// # Errors
    /// Why there is no answer.
    ///
    /// # Panics
    /// If there is one whose body is not JSON.
    pub async fn attempt(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for header in headers {
            request = request.insert_header(*header);
        }
        let mut answer = request.send_body(body).await.map_err(|error| error.to_string())?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (content_type, etag, retry_after) =
            (header("content-type").unwrap_or_default(), header("etag"), header("retry-after"));
        let bytes = answer.body().limit(64 << 20).await.map_err(|error| error.to_string())?;
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            panic!("{path}: {} is not JSON: {error}", String::from_utf8_lossy(&bytes))
        });
        Ok(Answer { status: answer.status().as_u16(), content_type, etag, retry_after, body })
    }

    /// One call with a JSON body.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.raw(method, path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    /// One call without a body.
    pub async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, &[], Vec::new()).await
    }

    /// Asks again until `done` says so.
    ///
    /// # Panics
    /// After [`PATIENCE`], with the last answer.
    pub async fn until(&self, path: &str, done: impl Fn(&Answer) -> bool) -> Answer {
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let answer = self.get(path).await;
                if done(&answer) {
                    return answer;
                }
                last = Some(answer);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("{path} never came to what was waited for; last: {last:?}"))
    }
}

/// A master and its agents.
pub struct Cluster {
    /// The master.
    pub master: MasterHandle,
    /// The agents.
    pub agents: Vec<AgentHandle>,
    /// The API.
    pub api: Api,
    /// Where everything is kept.
    pub dir: TempDir,
}

impl Cluster {
    /// A cluster of `hosts` fake hosts, all of them ready.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn fake(hosts: usize, engine: FakeEngineOptions) -> Self {
        Self::hosts(Self::start(tempfile::tempdir().expect("a directory")).await, hosts, engine).await
    }

    /// The same without TLS.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn plain(hosts: usize, engine: FakeEngineOptions) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = MasterConfig { tls: Some(TlsMode::Off), ..master_config(dir.path()) };
        Self::hosts(Self::start_as(config, dir).await, hosts, engine).await
    }

    async fn hosts(mut cluster: Self, hosts: usize, engine: FakeEngineOptions) -> Self {
        for n in 0..hosts {
            cluster.add_agent(&format!("h{n}"), "unix:///nowhere", EngineChoice::Fake(engine.clone())).await;
        }
        cluster.ready(hosts).await;
        cluster
    }

    /// A master without agents, with its data in `dir`.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(dir: TempDir) -> Self {
        Self::start_as(master_config(dir.path()), dir).await
    }

    /// The same as `config` says.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start_as(config: MasterConfig, dir: TempDir) -> Self {
        let master = shef_master::start(config).await.expect("the master starts");
        let api = Api::new(master.address());
        // Until a master knows its services again, it says 503 of those that it does not.
        api.until("/v1/services", |answer| answer.status == 200).await;
        Self { master, agents: Vec::new(), api, dir }
    }

    /// Starts another agent.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add_agent(&mut self, name: &str, docker_host: &str, engine: EngineChoice) {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut config = agent_config(&dir, name, self.master.address(), docker_host);
        if self.master.ca().is_some() {
            let token = self.master.join_token().await.expect("a join token");
            (config.tls, config.join_token) = (TlsMode::Required, JoinToken::parse(&token));
        }
        self.agents.push(shef_agent::start(config, engine).await.expect("the agent starts"));
    }

    /// Waits until `hosts` hosts are ready.
    pub async fn ready(&self, hosts: usize) {
        self.api.until("/v1/stats", |answer| answer.body["now"]["nodes_ready"] == hosts).await;
    }

    /// Stops everything gracefully, and hands back the directory.
    pub async fn stop(self) -> TempDir {
        for agent in self.agents {
            agent.stop().await;
        }
        self.master.stop().await;
        self.dir
    }
}
