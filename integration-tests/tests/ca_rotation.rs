//! The rotation of the cluster's CA, with real masters and agents: everything goes on, the old CA opens
//! nothing afterwards, and a host that was off comes back.

use std::{
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use awc::http::Method;
use serde_json::{Value, json};
use shef_agent::{EngineChoice, IdentityFile, config::AgentConfig, engine::fake::FakeEngineOptions};
use shef_common::{
    client,
    tls::{CaDigest, Credential, JoinToken, Tls, TlsMode, to_ca},
};
use shef_integration_tests::{
    cluster::{Answer, Api, Cluster, PATIENCE, agent_config, master_config},
    lab::{door::Door, redis::LabRedis, shef::binary},
};
use shef_master::{
    config::MasterConfig,
    store::{RedisOptions, StoreOptions},
};

/// A cluster whose members speak TLS alone.
async fn cluster(hosts: usize) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let config = MasterConfig { tls: Some(TlsMode::Required), ..master_config(dir.path()) };
    let mut cluster = Cluster::start_as(config, dir).await;
    for n in 0..hosts {
        cluster.add_agent(&format!("h{n}"), "unix:///nowhere", fake()).await;
    }
    cluster.ready(hosts).await;
    cluster
}

fn fake() -> EngineChoice {
    EngineChoice::Fake(FakeEngineOptions::default())
}

/// Starts a host again that was off.
async fn comes_back(cluster: &mut Cluster, name: &str, token: Option<JoinToken>) {
    let master = cluster.master.address();
    comes_to(master, cluster, name, token).await;
}

/// Starts an agent again that asks for the master at this address.
async fn comes_to(master: SocketAddr, cluster: &mut Cluster, name: &str, token: Option<JoinToken>) {
    let dir = cluster.dir.path().join(name);
    let config = agent_config(&dir, name, master, "unix:///nowhere");
    let config = AgentConfig { tls: TlsMode::Required, join_token: token, ..config };
    cluster.agents.push(shef_agent::start(config, fake()).await.unwrap());
}

/// Starts the master again, at its address.
async fn restart(cluster: &mut Cluster, between: impl FnOnce(&Path)) {
    let listen = cluster.master.address();
    let config = MasterConfig { tls: None, listen, ..master_config(cluster.dir.path()) };
    let idle =
        MasterConfig { tls: Some(TlsMode::Off), ..master_config(cluster.dir.path().join("idle").as_path()) };
    let old = std::mem::replace(&mut cluster.master, shef_master::start(idle).await.unwrap());
    old.stop().await;
    between(cluster.dir.path());
    let idle = std::mem::replace(&mut cluster.master, shef_master::start(config).await.unwrap());
    idle.stop().await;
}

fn identity(cluster: &Cluster, host: &str) -> IdentityFile {
    IdentityFile::read(&cluster.dir.path().join(host)).unwrap().unwrap()
}

async fn rotates(cluster: &Cluster, compromised: bool) {
    let begun = cluster.api.call("POST", "/v1/ca/rotate", json!({ "compromised": compromised })).await;
    assert_eq!((begun.status, &begun.body["rotation"]["phase"]), (202, &json!("trust")), "{begun:?}");
}

/// The hosts that are waited for are these alone.
fn waits_for(answer: &Answer, phase: &str, hosts: &[&str]) -> bool {
    let rotation = &answer.body["rotation"];
    let named = rotation["waits_for"].as_array().into_iter().flatten().map(|waits| &waits["node"]);
    rotation["phase"] == phase && named.eq(hosts.iter().map(|host| json!(host)).collect::<Vec<_>>().iter())
}

async fn is_over(cluster: &Cluster) -> Value {
    cluster.api.until("/v1/ca", |answer| answer.body["rotation"].is_null()).await.body
}

async fn go_on(cluster: &Cluster) {
    let next = cluster.api.call("POST", "/v1/ca/continue", json!({})).await;
    assert_eq!(next.status, 202, "{next:?}");
}

/// The status that an agent or a master answers to a client with this certificate; `None`: no connection.
async fn says(url: &str, credential: &Credential) -> Option<u16> {
    let tls = Tls::new(credential).unwrap();
    let client = client::raw(1, &Some(tls.to_members()));
    let answer = client::request(&client, Method::GET, url).send().await;
    answer.ok().map(|answer| answer.status().as_u16())
}

/// Calls the API again and again, each time by a connection of its own, as one that knows this CA.
async fn calls(url: String, ca: CaDigest, ends: Rc<AtomicBool>, made: Rc<AtomicU32>) {
    let client = client::raw(4, &Some(to_ca(vec![ca])));
    while !ends.load(SeqCst) {
        let replicas = made.fetch_add(1, SeqCst) % 3 + 1;
        let scaled = client.patch(format!("{url}/v1/services/web")).timeout(PATIENCE).force_close();
        let answer = scaled.send_json(&json!({ "replicas": replicas })).await.expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[actix_rt::test]
async fn the_ca_is_replaced_while_everything_goes_on_and_a_host_that_was_off_comes_back() {
    let mut cluster = cluster(3).await;
    let body = json!({ "name": "web", "replicas": 2, "image": "app", "update": { "monitor_ms": 0 } });
    let deployed = cluster.api.call("POST", "/v1/services?wait=60s", body).await;
    assert_eq!(deployed.body["converged"], true, "{deployed:?}");
    let (before, other) = (identity(&cluster, "h0"), identity(&cluster, "h1"));
    let old = before.cas();
    let agent = format!(
        "https://{}.agent.{}.shef@{}/v1/probe",
        other.uid,
        other.cluster,
        cluster.agents[1].address()
    );
    assert_eq!(says(&agent, &before.credential()).await, Some(200));
    cluster.agents.remove(2).stop().await;

    let (ends, made) = (Rc::new(AtomicBool::new(false)), Rc::new(AtomicU32::new(0)));
    let url = cluster.api.url.replace("http://", "https://");
    let load = actix_rt::spawn(calls(url, old[0].clone(), ends.clone(), made.clone()));
    rotates(&cluster, false).await;
    let again = cluster.api.call("POST", "/v1/ca/rotate", json!({})).await;
    assert_eq!((again.status, &again.body["code"]), (409, &json!("rotation_conflict")), "{again:?}");
    let says_why = |answer: &Answer| {
        let reason = answer.body["rotation"]["waits_for"][0]["reason"].as_str();
        reason.is_some_and(|reason| reason.starts_with("its agent does not answer"))
    };
    let waits = |answer: &Answer| waits_for(answer, "trust", &["h2"]) && says_why(answer);
    cluster.api.until("/v1/ca", waits).await;
    assert_eq!(identity(&cluster, "h0").cas().len(), 2);
    go_on(&cluster).await;
    cluster.api.until("/v1/ca", |answer| waits_for(answer, "certificates", &["h2"])).await;
    go_on(&cluster).await;
    let ca = is_over(&cluster).await;
    assert_eq!((&ca["cas"][0]["state"], &ca["cas"][1]["state"]), (&json!("signs"), &json!("former")), "{ca}");
    // The hosts that are there let go of the old one.
    cluster.api.until("/v1/ca", |answer| answer.body["cas"][1]["trusted_by"] == 1).await;
    ends.store(true, SeqCst);
    load.await.unwrap();
    assert!(made.load(SeqCst) > 20, "{made:?}");

    let now = identity(&cluster, "h0");
    assert!(now.cas().len() == 1 && now.cas() != old && now.key() == before.key());
    assert_eq!(says(&agent, &now.credential()).await, Some(200));
    let stolen = Credential { roots: now.roots.clone(), ..before.credential() };
    assert_eq!(says(&agent, &stolen).await, None, "a certificate of the old CA opens nothing");
    let master = format!("https://master.{}.shef@{}/v1/stats", now.cluster, cluster.master.address());
    assert_eq!(says(&master, &stolen).await, None);

    // It comes back by its key, whatever its token says.
    comes_back(&mut cluster, "h2", None).await;
    cluster.ready(3).await;
    assert_eq!(identity(&cluster, "h2").cas(), now.cas());
    let runs = cluster.api.until("/v1/services/web", |answer| answer.body["state"] == "running").await;
    assert_eq!(runs.status, 200);
    restart(&mut cluster, |_| {}).await;
    cluster.ready(3).await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_rotation_goes_on_under_a_master_that_starts_again_and_by_itself() {
    let mut cluster = cluster(2).await;
    rotates(&cluster, false).await;
    restart(&mut cluster, |_| {}).await;
    cluster.api.until("/v1/ca", |answer| answer.body["rotation"]["phase"] == "certificates").await;
    let backup = cluster.dir.path().join("earlier.backup");
    let mut shef = tokio::process::Command::new(binary());
    shef.args(["backup", "--api", &cluster.api.url, "--out"]).arg(&backup);
    assert!(shef.status().await.unwrap().success());
    restart(&mut cluster, |_| {}).await;
    let ca = is_over(&cluster).await;
    cluster.ready(2).await;
    // A backup of before the rotation's end is restored: the data directory knows which CA hosts have.
    cluster.api.until("/v1/ca", |answer| answer.body["cas"][1]["trusted_by"] == 0).await;
    let restore = |dir: &Path| {
        let mut shef = std::process::Command::new(binary());
        let own = format!("data_dir={}", dir.display());
        shef.arg("restore").arg(&backup).args(["--set", &own, "--replace"]);
        assert!(shef.status().unwrap().success());
    };
    restart(&mut cluster, restore).await;
    cluster.ready(2).await;
    let found = cluster.api.get("/v1/ca").await.body;
    assert_eq!((&found["cas"][0]["digest"], &found["rotation"]), (&ca["cas"][0]["digest"], &Value::Null));
    cluster.stop().await;
}

#[actix_rt::test]
async fn after_a_theft_a_host_that_was_off_needs_a_token_and_commands_the_new_digest() {
    let mut cluster = cluster(2).await;
    let (home, url) = (tempfile::tempdir().unwrap(), cluster.api.url.replace("http://", "https://"));
    let shef = async |words: &[&str]| {
        let mut shef = tokio::process::Command::new(binary());
        shef.args(words).env("XDG_CONFIG_HOME", home.path()).env_remove("SHEF_API").env_remove("SHEF_CA");
        let said = shef.output().await.unwrap();
        let [out, err] = [&said.stdout, &said.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        (said.status.success(), format!("{out}{err}"))
    };
    let context = || std::fs::read_to_string(home.path().join("shef/config.toml")).unwrap();
    let digest = async || {
        let ca = cluster.api.get("/v1/ca").await.body;
        ca["cas"][0]["digest"].as_str().unwrap().to_owned()
    };
    let first = digest().await;
    let said = shef(&["login", &url, "--ca", &first, "--token", "none"]).await;
    assert!(said.0, "{said:?}");

    // A context follows a rotation.
    rotates(&cluster, false).await;
    is_over(&cluster).await;
    let second = digest().await;
    assert_ne!(second, first);
    let said = shef(&["ca", "ls"]).await;
    assert!(said.0 && said.1.contains(&second) && said.1.contains("former"), "{said:?}");
    assert!(context().contains(&second) && !context().contains(&first), "{}", context());

    let before = identity(&cluster, "h1");
    cluster.agents.remove(1).stop().await;
    rotates(&cluster, true).await;
    cluster.api.until("/v1/ca", |answer| waits_for(answer, "trust", &["h1"])).await;
    go_on(&cluster).await;
    cluster.api.until("/v1/ca", |answer| waits_for(answer, "certificates", &["h1"])).await;
    go_on(&cluster).await;
    is_over(&cluster).await;
    let said = shef(&["ls"]).await;
    assert!(!said.0 && said.1.contains("another CA") && said.1.contains("shef ca ls"), "{said:?}");

    let door = Door::before(cluster.master.address()).await;
    comes_to(door.address(), &mut cluster, "h1", None).await;
    door.have_gone(2).await;
    assert_eq!(identity(&cluster, "h1"), before, "nothing vouches for the new CA");
    cluster.agents.remove(1).stop().await;
    let token = JoinToken::parse(&cluster.master.join_token().await.unwrap());
    comes_back(&mut cluster, "h1", token).await;
    cluster.ready(2).await;
    let after = identity(&cluster, "h1");
    assert_eq!((after.key(), &after.uid), (before.key(), &before.uid));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_master_that_does_not_lead_follows_a_rotation() {
    let redis = LabRedis::start().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let on = |dir: &Path| {
        let store = StoreOptions::Redis(RedisOptions {
            password: Some(redis.password().to_owned()),
            ..RedisOptions::new(redis.url())
        });
        MasterConfig { store, ..master_config(dir) }
    };
    let deposed = shef_master::start(on(first.path())).await.unwrap();
    std::fs::copy(first.path().join("secret.key"), second.path().join("secret.key")).unwrap();
    let leader = shef_master::start(on(second.path())).await.unwrap();
    let (api, other) = (Api::new(leader.address()), Api::new(deposed.address()));
    other.until("/readyz", |answer| answer.status == 503).await;
    let refused = other.call("POST", "/v1/ca/rotate", json!({})).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("not_leader")), "{refused:?}");
    assert_eq!(api.call("POST", "/v1/ca/rotate", json!({})).await.status, 202);
    let ca = api.until("/v1/ca", |answer| answer.body["rotation"].is_null()).await.body;
    let new = CaDigest::parse(ca["cas"][0]["digest"].as_str().unwrap()).unwrap();
    let is_followed = |answer: &Answer| answer.body["cas"][0]["digest"] == json!(new);
    other.until("/v1/ca", is_followed).await;
    let client = client::raw(1, &Some(to_ca(vec![new])));
    let url = format!("https://{}/healthz", deposed.address());
    assert!(client.get(url).send().await.unwrap().status().is_success());
    deposed.stop().await;
    leader.stop().await;
}
