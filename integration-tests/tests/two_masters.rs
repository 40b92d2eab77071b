//! Two real masters at once, on one Redis and on two stores: they do not fight,
//! and nothing that the newer leader has acknowledged is removed.

use std::{collections::BTreeSet, path::Path};

use serde_json::json;
use shef_agent::{
    AgentHandle, EngineChoice,
    config::AgentConfig,
    engine::fake::{FakeEngineOptions, FakeHost},
};
use shef_common::{clock::Now, tls::TlsMode};
use shef_integration_tests::{
    cluster::{Answer, Api, agent_config, master_config},
    lab::redis::LabRedis,
};
use shef_master::{
    MasterHandle,
    config::MasterConfig,
    store::{Backup, RedisOptions, StoreOptions},
};
use tempfile::TempDir;

/// A host that outlives its agent.
struct Host {
    engine: FakeHost,
    config: AgentConfig,
    agent: Option<AgentHandle>,
    _data: TempDir,
}

impl Host {
    async fn start(masters: &[&MasterHandle]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = agent_config(data.path(), "h1", masters[0].address(), "unix:///nowhere");
        let mut host = Self { engine: FakeHost::default(), config, agent: None, _data: data };
        host.goes_to(masters).await;
        host
    }

    /// The agent starts again, and calls these masters in this order.
    async fn goes_to(&mut self, masters: &[&MasterHandle]) {
        if let Some(agent) = self.agent.take() {
            self.config.listen = agent.address();
            agent.stop().await;
        }
        self.config.masters = masters.iter().map(|master| format!("http://{}", master.address())).collect();
        let engine = FakeEngineOptions { host: Some(self.engine.clone()), ..FakeEngineOptions::default() };
        self.agent = Some(shef_agent::start(self.config.clone(), EngineChoice::Fake(engine)).await.unwrap());
    }

    fn containers(&self) -> BTreeSet<String> {
        self.engine.containers().keys().cloned().collect()
    }

    fn removed(&self) -> u64 {
        self.engine.counts().get("remove").copied().unwrap_or(0)
    }
}

/// A master with its store in `dir`, its API, and its only host, which runs the service web.
async fn with_a_service(dir: &Path) -> (MasterHandle, Api, Host) {
    with_a_service_on(master_config(dir)).await
}

async fn with_a_service_on(config: MasterConfig) -> (MasterHandle, Api, Host) {
    let master = shef_master::start(config).await.unwrap();
    let api = Api::new(master.address());
    let host = Host::start(&[&master]).await;
    is_ready(&api).await;
    deploy(&api, "web").await;
    (master, api, host)
}

/// A master whose members have no certificates.
fn plain(dir: &Path) -> MasterConfig {
    MasterConfig { tls: Some(TlsMode::Off), ..master_config(dir) }
}

/// Another master of the same cluster needs the key that its first master has made.
fn shares_its_key(first: &TempDir, other: &TempDir) {
    std::fs::copy(first.path().join("secret.key"), other.path().join("secret.key")).unwrap();
}

async fn deploy(api: &Api, name: &str) {
    let put = api
        .call("PUT", &format!("/v1/services/{name}?wait=20s"), json!({"image": "nginx:1", "replicas": 2}))
        .await;
    assert_eq!(put.body["converged"], true, "{put:?}");
}

async fn is_ready(api: &Api) {
    api.until("/v1/stats", |answer| answer.body["now"]["nodes_ready"] == 1).await;
}

async fn epoch(api: &Api) -> u64 {
    api.get("/v1/cluster").await.body["epoch"].as_u64().unwrap()
}

fn on(redis: &LabRedis, dir: &TempDir) -> MasterConfig {
    let store = StoreOptions::Redis(RedisOptions {
        password: Some(redis.password().to_owned()),
        prefix: "shef:".to_owned(),
        ..RedisOptions::new(redis.url())
    });
    MasterConfig { store, ..master_config(dir.path()) }
}

#[actix::test]
async fn a_second_start_by_mistake_takes_neither_address_nor_socket_nor_the_lead() {
    let redis = LabRedis::start().await;
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let socket = dir_a.path().join("shef.sock");
    let of = |dir| MasterConfig { api_socket: Some(socket.clone()), ..on(&redis, dir) };
    let a = shef_master::start(of(&dir_a)).await.unwrap();
    let api = Api::new(a.address());
    let refused = async |config| shef_master::start(config).await.err().map(|error| error.to_string());
    let other_key = refused(on(&redis, &dir_b)).await.unwrap();
    assert!(other_key.contains("was encrypted with another key"), "{other_key}");
    shares_its_key(&dir_a, &dir_b);
    let off = MasterConfig { tls: Some(TlsMode::Off), ..on(&redis, &dir_b) };
    let off = refused(off).await.unwrap();
    assert!(off.starts_with("tls is off, and the members of this cluster have certificates"), "{off}");
    let field = |value: Option<&str>| match value {
        Some(value) => redis.run::<()>(0, &["HSET", "shef::store", "token/odd", value]),
        None => redis.run::<()>(0, &["HDEL", "shef::store", "token/odd"]),
    };
    for odd in ["no version", "1 {\"format\":99}", "1 no json"] {
        field(Some(odd));
        let unreadable = refused(on(&redis, &dir_b)).await.unwrap();
        assert!(unreadable.contains("token/odd"), "{unreadable}");
        field(None);
    }
    // A new administrator's token would have to be written there.
    std::fs::create_dir_all(dir_b.path().join("admin-token/not-a-file")).unwrap();
    let guarded = MasterConfig { insecure: false, api_socket: None, ..on(&redis, &dir_b) };
    let unwritten = refused(guarded).await.unwrap();
    assert!(unwritten.contains("admin-token cannot be written"), "{unwritten}");
    let taken = refused(MasterConfig { listen: a.address(), ..of(&dir_b) }).await.unwrap();
    assert!(taken.starts_with(&format!("cannot listen on {}", a.address())), "{taken}");
    let taken = refused(of(&dir_b)).await.unwrap();
    let expected = format!("the socket {} belongs to a program that runs", socket.display());
    assert!(taken.starts_with(&expected) && taken.contains("api_socket"), "{taken}");
    assert_eq!(epoch(&api).await, 1, "it leads as before");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    // One that was killed leaves its socket behind.
    a.stop().await;
    assert!(socket.exists());
    let b = shef_master::start(of(&dir_b)).await.unwrap().start_again().await.unwrap();
    b.stop().await;
}

#[actix::test]
async fn of_two_masters_on_one_redis_the_newer_leads() {
    let redis = LabRedis::start().await;
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = shef_master::start(on(&redis, &dir_a)).await.unwrap();
    let api_a = Api::new(a.address());
    let mut host = Host::start(&[&a]).await;
    is_ready(&api_a).await;
    deploy(&api_a, "web").await;

    shares_its_key(&dir_a, &dir_b);
    let b = shef_master::start(on(&redis, &dir_b)).await.unwrap();
    let api_b = Api::new(b.address());
    let deposed = api_a.until("/readyz", |answer| answer.status == 503).await;
    assert!(deposed.body["reason"].as_str().unwrap().contains("another master leads"), "{deposed:?}");
    let refused = api_a.call("PUT", "/v1/services/late", json!({"image": "nginx:1"})).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("not_leader")), "{refused:?}");
    host.goes_to(&[&b, &a]).await;
    is_ready(&api_b).await;
    deploy(&api_b, "db").await;
    let (all, led) = (host.containers(), epoch(&api_b).await);
    assert_eq!(all.len(), 4);

    // The host calls the older master first: it is sent on to the newer one.
    host.goes_to(&[&a, &b]).await;
    api_b.until("/v1/nodes/h1", |answer| answer.body["state"] == "ready").await;
    deploy(&api_b, "cache").await;
    assert_eq!((epoch(&api_b).await, host.removed()), (led, 0), "the older master has taken nothing");
    assert_eq!(api_a.get("/readyz").await.status, 503);
    let all = host.containers();

    // The newer one is gone: the older one starts again, and leads what the newer one has acknowledged.
    b.stop().await;
    a.must_start_again().await;
    let a = a.start_again().await.unwrap();
    is_ready(&api_a).await;
    for name in ["web", "db", "cache"] {
        api_a.until(&format!("/v1/services/{name}"), |answer| answer.body["running"] == 2).await;
    }
    assert_eq!((host.containers(), host.removed()), (all, 0), "what runs is not touched");
    assert_eq!(api_a.get("/readyz").await.status, 200);
    if let Some(agent) = host.agent.take() {
        agent.stop().await;
    }
    a.stop().await;
}

#[actix::test]
async fn the_master_of_a_store_restored_elsewhere_stands_down() {
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut a, api_a, mut host) = with_a_service(dir_a.path()).await;

    // The first host seems to be lost: its backup goes into another store, and a new master leads that.
    let mut taken = awc::Client::new().get(format!("http://{}/v1/backup", a.address())).send().await.unwrap();
    let backup = Backup::read(&taken.body().await.unwrap()).unwrap();
    let config = master_config(dir_b.path());
    shef_master::restore(&config.store, &backup, false).await.unwrap();
    shares_its_key(&dir_a, &dir_b);
    let b = shef_master::start(config).await.unwrap();
    let api_b = Api::new(b.address());
    host.goes_to(&[&b]).await;
    is_ready(&api_b).await;
    deploy(&api_b, "db").await;
    let (all, led) = (host.containers(), epoch(&api_b).await);

    // The first host is there again, and the agent calls it.
    host.goes_to(&[&a, &b]).await;
    api_a.until("/readyz", |answer| answer.status == 503).await;
    api_b.until("/v1/nodes/h1", |answer| answer.body["state"] == "ready").await;
    deploy(&api_b, "cache").await;
    assert_eq!((epoch(&api_b).await, host.removed()), (led, 0));
    assert!(host.containers().is_superset(&all));
    assert_eq!(api_b.get("/readyz").await.status, 200);

    // Only an operator's word makes the old one lead again.
    let took = api_a.call("POST", "/v1/cluster/take-over", json!({})).await;
    assert_eq!((took.status, &took.body["took_over"]), (202, &json!(true)), "{took:?}");
    a.must_start_again().await;
    if let Some(agent) = host.agent.take() {
        agent.stop().await;
    }
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn an_empty_master_takes_a_host_only_when_its_leader_is_gone() {
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // With TLS a host follows no master of another CA.
    let (a, api_a, mut host) = with_a_service_on(plain(dir_a.path())).await;
    let (all, led) = (host.containers(), epoch(&api_a).await);

    // The agent starts again, and calls the empty master first.
    let b = shef_master::start(plain(dir_b.path())).await.unwrap();
    let api_b = Api::new(b.address());
    host.goes_to(&[&b, &a]).await;
    let since = Now::read().wall.0;
    let reports = |answer: &Answer| answer.body["last_report"].as_u64().is_some_and(|at| at > since);
    api_a.until("/v1/nodes/h1", |answer| answer.body["state"] == "ready" && reports(answer)).await;
    deploy(&api_a, "cache").await;
    let nodes = api_b.get("/v1/nodes").await;
    assert_eq!(nodes.body["nodes"], json!([]), "{nodes:?}");
    assert_eq!((epoch(&api_a).await, api_a.get("/readyz").await.status), (led, 200), "it leads as before");
    assert!(host.containers().is_superset(&all) && host.removed() == 0);

    // The leader is gone for good: the empty master leads its cluster, and takes over what the host holds.
    let all = host.containers();
    a.stop().await;
    is_ready(&api_b).await;
    for name in ["web", "cache"] {
        api_b.until(&format!("/v1/services/{name}"), |answer| answer.body["running"] == 2).await;
    }
    assert_eq!((host.containers(), host.removed()), (all, 0), "what runs is not touched");
    assert!(epoch(&api_b).await > led);
    if let Some(agent) = host.agent.take() {
        agent.stop().await;
    }
    b.stop().await;
}

/// Its certificates would name another cluster than its store, and its epoch would rise with each registration.
#[actix::test]
async fn a_master_with_a_ca_refuses_a_host_of_another_cluster_and_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let master = shef_master::start(master_config(dir.path())).await.unwrap();
    let api = Api::new(master.address());
    api.until("/v1/services", |answer| answer.status == 200).await;
    let led = async || {
        let told = api.get("/v1/cluster").await.body;
        (told["cluster"].as_str().unwrap().to_owned(), told["epoch"].as_u64().unwrap())
    };
    let (ours, epoch) = led().await;
    let theirs = "00000000000000c9";
    let registration = json!({
        "node": "h9", "uid": "00000000000000a9", "boot": "00000000000000b9", "cluster": theirs,
        "accepted": { "fence": { "epoch": 7, "leader": "00000000000000bb" }, "revision": 3 }, "holds": [],
        "leader_silent_ms": 60_000, "complete": true, "host": {
            "address": "127.0.0.1", "agent_url": "http://127.0.0.1:1", "labels": {}, "cpus": 1,
            "memory_bytes": 1, "engine_version": "", "engine_api": "", "os": "", "arch": "",
            "shef_version": "",
        },
    });
    // Also when an operator says that it is to lead.
    let said = api.call("POST", "/v1/cluster/take-over", json!({})).await;
    assert!(said.status < 300, "{said:?}");
    for _ in 0..5 {
        let refused = api.call("POST", "/agent/v1/register", registration.clone()).await;
        let why = refused.body["detail"].as_str().unwrap_or_default();
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("node_conflict")), "{refused:?}");
        assert!(why.contains(theirs) && why.contains(&ours) && why.contains("authority.json"), "{why}");
    }
    assert_eq!(led().await, (ours, epoch));
    master.stop().await;
}
