//! The store of a cluster with certificates is lost: the cluster, its CA and its members are the same all the
//! same.

use std::{path::Path, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use shef_agent::{
    AgentHandle, EngineChoice, IdentityFile,
    config::AgentConfig,
    engine::fake::{FakeEngineOptions, FakeHost},
};
use shef_common::{
    client::HostClient,
    ids::NodeUid,
    tls::{JOIN_PATH, JoinToken, Joined, RENEW_PATH, Tls, TlsMode, to_ca},
};
use shef_integration_tests::{
    cluster::{Answer, Api, agent_config, master_config},
    lab::redis::LabRedis,
};
use shef_master::{
    MasterHandle,
    audit::read_log,
    config::MasterConfig,
    store::{RedisOptions, StoreOptions},
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(10);

/// A master that speaks TLS, at one address.
struct Site {
    dir: TempDir,
    config: MasterConfig,
    master: MasterHandle,
    api: Api,
}

impl Site {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = MasterConfig { tls: Some(TlsMode::Required), ..master_config(dir.path()) };
        let master = shef_master::start(config.clone()).await.unwrap();
        config.listen = master.address();
        let api = Api::new(master.address());
        api.until("/v1/services", |answer| answer.status == 200).await;
        Self { dir, config, master, api }
    }

    /// The master stops, loses its store and these files, and starts again, as an installation does that says
    /// nothing of TLS.
    async fn loses(self, files: &[&str]) -> Self {
        let Self { dir, config, master, .. } = self;
        master.stop().await;
        for lost in files.iter().chain(&["shef.redb"]) {
            std::fs::remove_file(dir.path().join(lost)).unwrap();
        }
        let config = MasterConfig { tls: None, ..config };
        let master = shef_master::start(config.clone()).await.unwrap();
        let api = Api::new(master.address());
        api.until("/v1/services", |answer| answer.status == 200).await;
        Self { dir, config, master, api }
    }

    /// How many replicas of web the audit log tells to be taken over from this host. Its registration has a
    /// line, too.
    fn taken_over(&self, identity: &IdentityFile) -> u64 {
        let files = read_log(self.dir.path()).unwrap();
        let text: String = files.into_iter().map(|(_, file)| String::from_utf8(file).unwrap()).collect();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let uid = json!(identity.uid);
        let registers = |line: &&Value| line["call"] == "/agent/v1/register" && line["by"]["uid"] == uid;
        assert!(lines.iter().any(|line| registers(&line)), "{text}");
        let taken = lines.iter().filter(|line| line["event"] == "taken_over" && line["uid"] == uid);
        taken.filter_map(|line| line["services"]["web"].as_u64()).sum()
    }

    async fn cluster(&self) -> Value {
        self.api.get("/v1/cluster").await.body["cluster"].clone()
    }

    /// Waits until so many hosts are ready. A master on an empty store may find that its hosts follow an
    /// earlier leadership; once that is silent for long enough it starts again, as the program has it do.
    async fn ready(self, count: u64) -> Self {
        let Self { dir, config, mut master, api } = self;
        let starts_again = {
            let (ready, again) = (are_ready(&api, count), master.must_start_again());
            matches!(select(pin!(ready), pin!(again)).await, Either::Right(_))
        };
        if starts_again {
            master = master.start_again().await.unwrap();
            are_ready(&api, count).await;
        }
        Self { dir, config, master, api }
    }

    /// A call with `identity`, as an agent makes it: the answer, or the error.
    async fn call(&self, identity: &IdentityFile, path: &str, body: &Value) -> Result<Value, String> {
        let client = HostClient::new(Some(Tls::new(&identity.credential()).unwrap().to_masters()));
        let url = format!("https://{}/agent/v1/{path}", self.master.address());
        client.post::<_, Value>(&url, body, LIMIT).await.map_err(|error| error.to_string())
    }

    async fn join(&self, uid: &str, node: &str) -> IdentityFile {
        let key = KeyPair::generate().unwrap();
        let JoinToken { id, secret, ca } =
            JoinToken::parse(&self.master.join_token().await.unwrap()).unwrap();
        let body = json!({ "id": id, "secret": secret, "node": node, "uid": uid, "csr": csr(&key) });
        let url = format!("https://{}{JOIN_PATH}", self.master.address());
        let joined: Joined = HostClient::new(Some(to_ca(vec![ca]))).post(&url, &body, LIMIT).await.unwrap();
        IdentityFile::of(NodeUid::parse(uid).unwrap(), key.serialize_pem(), joined)
    }

    async fn renew(&self, identity: &IdentityFile) -> Answer {
        let key = KeyPair::from_pem(&identity.credential().key).unwrap();
        self.api.call("POST", RENEW_PATH, json!({ "uid": identity.uid, "csr": csr(&key) })).await
    }
}

async fn are_ready(api: &Api, count: u64) {
    api.until("/v1/stats", |answer| answer.body["now"]["nodes_ready"] == count).await;
}

fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

/// A host with its agent.
struct Host {
    engine: FakeHost,
    agent: AgentHandle,
    data: TempDir,
}

impl Host {
    async fn join(name: &str, site: &Site) -> Self {
        let token = JoinToken::parse(&site.master.join_token().await.unwrap());
        let (data, engine) = (tempfile::tempdir().unwrap(), FakeHost::default());
        let config = AgentConfig { join_token: token, ..config(name, data.path(), site) };
        let agent = shef_agent::start(config, on(&engine)).await.unwrap();
        Self { engine, agent, data }
    }

    /// Without a token.
    async fn starts_again(self, name: &str, site: &Site) -> Self {
        let Self { engine, agent, data } = self;
        agent.stop().await;
        let agent = shef_agent::start(config(name, data.path(), site), on(&engine)).await.unwrap();
        Self { engine, agent, data }
    }

    fn identity(&self) -> IdentityFile {
        IdentityFile::read(self.data.path()).unwrap().unwrap()
    }

    fn containers(&self) -> Vec<String> {
        self.engine.containers().keys().cloned().collect()
    }
}

fn config(name: &str, data: &Path, site: &Site) -> AgentConfig {
    let config = agent_config(data, name, site.master.address(), "unix:///nowhere");
    AgentConfig { tls: TlsMode::Required, ..config }
}

fn on(engine: &FakeHost) -> EngineChoice {
    EngineChoice::Fake(FakeEngineOptions { host: Some(engine.clone()), ..FakeEngineOptions::default() })
}

/// As the agent of `identity` registers, under this name.
fn registration(identity: &IdentityFile, node: &str) -> Value {
    let (uid, cluster) = (&identity.uid, &identity.cluster);
    json!({
        "node": node, "uid": uid, "boot": "00000000000000b1", "cluster": cluster, "accepted": null,
        "holds": [], "host": {
            "address": "127.0.0.1", "agent_url": format!("https://{uid}.agent.{cluster}.shef@127.0.0.1:1"),
            "labels": {}, "cpus": 1, "memory_bytes": 1, "engine_version": "", "engine_api": "", "os": "",
            "arch": "", "shef_version": "",
        },
    })
}

fn report(identity: &IdentityFile, node: &str, boot: &str) -> Value {
    json!({
        "cluster": identity.cluster, "node": node, "boot": boot, "seq": 1_000_000, "accepted": null,
        "full": true, "statuses": [], "engine_error": "a lie",
    })
}

#[actix_rt::test]
async fn members_are_the_same_after_the_store_is_lost() {
    let site = Site::start().await;
    let (one, two) = (Host::join("h1", &site).await, Host::join("h2", &site).await);
    let site = site.ready(2).await;
    let spec = json!({ "image": "nginx:1", "replicas": 4 });
    let put = site.api.call("PUT", "/v1/services/web?wait=20s", spec).await;
    assert_eq!(put.body["converged"], true, "{put:?}");
    let (cluster, containers) = (site.cluster().await, [one.containers(), two.containers()]);
    assert_eq!(containers.concat().len(), 4);

    let site = site.loses(&[]).await;
    assert_eq!(site.cluster().await, cluster);
    // One agent runs on, the other one starts again.
    let two = two.starts_again("h2", &site).await;
    let site = site.ready(2).await;
    site.api.until("/v1/services/web", |answer| answer.body["running"] == 4).await;
    assert_eq!([one.containers(), two.containers()], containers, "what runs is not touched");
    let taken = [&one, &two].map(|host| site.taken_over(&host.identity()));
    assert_eq!(taken.iter().sum::<u64>(), 4, "each host's replicas have a line in the audit log");
    for (host, name) in [(&one, "h1"), (&two, "h2")] {
        let renewed = site.renew(&host.identity()).await;
        assert_eq!((renewed.status, &renewed.body["node"]), (200, &json!(name)), "{renewed:?}");
    }
    let spec = json!({ "image": "nginx:1", "replicas": 6 });
    let put = site.api.call("PUT", "/v1/services/web?wait=20s", spec).await;
    assert_eq!(put.body["converged"], true, "{put:?}");
    assert_eq!(one.containers().len() + two.containers().len(), 6);

    // Without the copy of the CA it is another cluster: its members are asked to join.
    let site = site.loses(&["authority.json"]).await;
    assert_ne!(site.cluster().await, cluster);
    let refused = site.renew(&one.identity()).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body["detail"].as_str().unwrap().contains("shef token join"), "{refused:?}");
    let refused = site.call(&one.identity(), "register", &registration(&one.identity(), "h1")).await;
    assert!(refused.as_ref().is_err_and(|why| why.contains("does not answer")), "{refused:?}");
    assert_eq!(site.api.get("/v1/nodes").await.body["nodes"], json!([]));
    one.agent.stop().await;
    two.agent.stop().await;
    site.master.stop().await;
}

#[actix_rt::test]
async fn a_forgotten_host_does_not_come_back_by_its_certificate() {
    let site = Site::start().await;
    let host = Host::join("h1", &site).await;
    let site = site.ready(1).await;
    let identity = host.identity();
    let forgotten = site.api.raw("DELETE", "/v1/nodes/h1?force=true", &[], vec![]).await;
    assert_eq!(forgotten.status, 200, "{forgotten:?}");
    let host = host.starts_again("h1", &site).await;
    for node in ["h1", "h2"] {
        let refused = site.call(&identity, "register", &registration(&identity, node)).await.unwrap_err();
        assert!(refused.contains("not_a_member"), "{refused}");
        let refused = site.call(&identity, "report", &report(&identity, node, "00000000000000b1")).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    assert_eq!(site.renew(&identity).await.status, 403);
    assert_eq!(site.api.get("/v1/nodes/h1").await.status, 404);
    host.agent.stop().await;
    site.master.stop().await;
}

#[actix_rt::test]
async fn a_member_without_a_record_is_no_other_member() {
    let site = Site::start().await;
    let host = Host::join("h1", &site).await;
    let other = site.join("00000000000000a9", "h9").await;
    let site = site.ready(1).await;

    let site = site.loses(&[]).await;
    let site = site.ready(1).await;
    let boot =
        site.api.get("/v1/nodes/h1").await.body["boot"].as_str().unwrap_or("00000000000000b1").to_owned();
    // Its name is recorded, and the other one's is not.
    for node in ["h1", "h9"] {
        let ack = site.call(&other, "report", &report(&other, node, &boot)).await.unwrap();
        assert_eq!(ack["want_registration"], true, "{ack}");
    }
    assert_eq!(site.renew(&other).await.status, 403, "a renewal is bound to a record");
    let taken = site.call(&other, "register", &registration(&other, "h1")).await.unwrap_err();
    assert!(taken.contains("cannot register as h1"), "{taken}");
    let mut elsewhere = registration(&other, "h9");
    elsewhere["host"]["agent_url"] = json!("http://127.0.0.1:1");
    assert!(site.call(&other, "register", &elsewhere).await.is_err());
    let mut posing = registration(&other, "h9");
    posing["uid"] = json!(host.identity().uid);
    assert!(site.call(&other, "register", &posing).await.is_err());
    let node = site.api.get("/v1/nodes/h1").await.body;
    assert_eq!((&node["state"], &node["uid"]), (&json!("ready"), &json!(host.identity().uid)), "{node}");

    // Under its own name it is a member as before.
    site.call(&other, "register", &registration(&other, "h9")).await.unwrap();
    assert_eq!(site.renew(&other).await.status, 200);
    for node in ["h1", "h8"] {
        let refused = site.call(&other, "report", &report(&other, node, &boot)).await.unwrap_err();
        assert!(refused.contains("speaks for itself alone"), "{refused}");
    }
    host.agent.stop().await;
    site.master.stop().await;
}

#[actix_rt::test]
async fn an_emptied_store_gets_the_ca_and_the_members_back_from_its_master() {
    let (redis, dir) = (LabRedis::start().await, tempfile::tempdir().unwrap());
    let options = RedisOptions {
        password: Some(redis.password().to_owned()),
        prefix: "shef:".to_owned(),
        ..RedisOptions::new(redis.url())
    };
    let config = MasterConfig { store: StoreOptions::Redis(options), ..master_config(dir.path()) };
    let config = MasterConfig { tls: Some(TlsMode::Required), ..config };
    let master = shef_master::start(config.clone()).await.unwrap();
    let api = Api::new(master.address());
    api.until("/v1/services", |answer| answer.status == 200).await;
    let site = Site { dir, config, master, api };
    let host = Host::join("h1", &site).await;
    let site = site.ready(1).await;
    let cluster = site.cluster().await;
    redis.run::<()>(0, &["FLUSHALL"]);
    let spec = json!({ "image": "nginx:1", "replicas": 1 });
    let put = site.api.call("PUT", "/v1/services/web?wait=20s", spec).await;
    assert_eq!(put.body["converged"], true, "{put:?}");

    // The store alone is enough for the next master.
    host.agent.stop().await;
    let Site { dir, config, master, .. } = site;
    master.stop().await;
    std::fs::remove_file(dir.path().join("authority.json")).unwrap();
    let master = shef_master::start(config.clone()).await.unwrap();
    let api = Api::new(master.address());
    let site = Site { dir, config, master, api };
    site.api.until("/v1/services", |answer| answer.status == 200).await;
    assert_eq!(site.cluster().await, cluster);
    let identity = IdentityFile::read(host.data.path()).unwrap().unwrap();
    assert_eq!(site.renew(&identity).await.status, 200);
    assert!(site.dir.path().join("authority.json").exists(), "it is kept again");
    site.master.stop().await;
}
