//! Masters and agents that prove who they are: what goes on by itself, and what is refused to whom.

use awc::http::Method;
use serde_json::json;
use shef_agent::{
    AgentHandle, EngineChoice, IdentityFile, config::AgentConfig, engine::fake::FakeEngineOptions,
};
use shef_common::{
    client,
    clock::Now,
    tls::{Credential, Tls, TlsMode},
};
use shef_integration_tests::cluster::{Answer, Api, Cluster, agent_config, master_config};
use shef_master::{config::MasterConfig, identity::Ca};

/// A cluster whose members speak TLS alone.
async fn cluster(hosts: usize) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let config = MasterConfig { tls: Some(TlsMode::Required), ..master_config(dir.path()) };
    let mut cluster = Cluster::start_as(config, dir).await;
    for n in 0..hosts {
        add(&mut cluster, &format!("h{n}")).await;
    }
    cluster.ready(hosts).await;
    cluster
}

async fn add(cluster: &mut Cluster, name: &str) {
    cluster.add_agent(name, "unix:///nowhere", EngineChoice::Fake(FakeEngineOptions::default())).await;
}

async fn deploy(cluster: &Cluster, replicas: u32) {
    let body = json!({ "name": "web", "replicas": replicas, "image": "app", "update": { "monitor_ms": 0 } });
    let answer = cluster.api.call("POST", "/v1/services?wait=60s", body).await;
    assert_eq!(answer.body["converged"], true, "{answer:?}");
}

/// Starts the master again, as `tls` says, at its address.
async fn restart(cluster: &mut Cluster, tls: Option<TlsMode>) {
    let listen = cluster.master.address();
    let config = MasterConfig { tls, listen, ..master_config(cluster.dir.path()) };
    let idle =
        MasterConfig { tls: Some(TlsMode::Off), ..master_config(cluster.dir.path().join("idle").as_path()) };
    let old = std::mem::replace(&mut cluster.master, shef_master::start(idle).await.unwrap());
    old.stop().await;
    let idle = std::mem::replace(&mut cluster.master, shef_master::start(config).await.unwrap());
    idle.stop().await;
}

fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
}

fn api_of(agent: &AgentHandle) -> Api {
    Api::new(agent.address())
}

#[actix_rt::test]
async fn what_runs_goes_on_under_a_master_that_starts_again() {
    let mut cluster = cluster(2).await;
    deploy(&cluster, 4).await;
    // Nothing needs to be said of TLS any more.
    restart(&mut cluster, None).await;
    cluster.ready(2).await;
    let scaled = cluster.api.call("PATCH", "/v1/services/web?wait=60s", json!({ "replicas": 6 })).await;
    assert_eq!(scaled.body["converged"], true, "{scaled:?}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn without_a_certificate_nobody_commands_a_host_or_speaks_for_one() {
    let cluster = cluster(1).await;
    let agent = api_of(&cluster.agents[0]);
    let health = agent.get("/health").await;
    assert_eq!((health.status, &health.body["node"]), (200, &json!("h0")));
    for (method, path) in [
        ("GET", "/v1/probe"),
        ("POST", "/v1/probe"),
        ("POST", "/v1/probe/ports"),
        ("POST", "/v1/assignments"),
        ("POST", "/v1/usage"),
        ("POST", "/v1/disk"),
        ("POST", "/v1/registry-login"),
        ("GET", "/v1/replicas/web-000001/logs"),
        ("GET", "/v1/replicas/web-000001/exec?cmd=id"),
        ("GET", "/v1/elsewhere"),
    ] {
        is_problem(&agent.call(method, path, json!({})).await, 400, "tls_required");
    }
    for path in ["/agent/v1/register", "/agent/v1/report", "/agent/v1/images"] {
        is_problem(&cluster.api.call("POST", path, json!({})).await, 400, "tls_required");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_forgotten_host_is_refused_until_it_is_set_up_anew_with_another_token() {
    let mut cluster = cluster(2).await;
    deploy(&cluster, 2).await;
    let gone = cluster.api.raw("DELETE", "/v1/nodes/h0?force=true", &[], vec![]).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    // Its replica runs elsewhere, and its agent goes on asking all the while.
    cluster.api.until("/v1/services/web", |answer| answer.body["running"] == 2).await;
    assert_eq!(cluster.api.get("/v1/nodes/h0").await.status, 404);
    let agent = cluster.agents.remove(0);
    agent.stop().await;
    std::fs::remove_dir_all(cluster.dir.path().join("h0")).unwrap();
    add(&mut cluster, "h0").await;
    cluster.ready(2).await;
    cluster.stop().await;
}

/// The status that an agent or a master answers to a client with this certificate; `None`: no connection.
async fn says(url: &str, method: Method, credential: &Credential) -> Option<u16> {
    let tls = Tls::new(credential).unwrap();
    let client = client::raw(1, &Some(tls.to_members()));
    let answer = client::request(&client, method, url).send_json(&json!({})).await;
    answer.ok().map(|answer| answer.status().as_u16())
}

#[actix_rt::test]
async fn a_certificate_that_does_not_count_opens_nothing_on_any_port() {
    let mut cluster = cluster(2).await;
    let identity = |host: &str| IdentityFile::read(&cluster.dir.path().join(host)).unwrap().unwrap();
    let (stolen, other) = (identity("h0"), identity("h1"));
    let id = &other.cluster;
    let agent = format!("https://{}.agent.{id}.shef@{}", other.uid, cluster.agents[1].address());
    let (probe, assignments) = (format!("{agent}/v1/probe"), format!("{agent}/v1/assignments"));
    let master = format!("https://master.{id}.shef@{}/agent/v1/report", cluster.master.address());

    // Another CA's certificate of the same names is none, whatever its holder trusts.
    let forger = Ca::make(id).unwrap();
    let (certificate, key) = forger.master_leaf(id, &[], &[]).unwrap();
    let is_of = |ca| IdentityFile::is_of(ca, &cluster.dir.path().join("h1"));
    assert!(is_of(cluster.master.ca().unwrap()) && !is_of(forger.digest()));
    let forged = Credential { certificate, key, roots: format!("{}{}", forger.roots_pem(), other.roots) };
    // A member's certificate is no master's.
    let member = stolen.credential();
    for (url, method, credential, said) in [
        (&probe, Method::GET, &member, Some(200)),
        (&assignments, Method::POST, &member, Some(403)),
        (&probe, Method::GET, &forged, None),
        (&assignments, Method::POST, &forged, None),
        (&master, Method::POST, &forged, None),
    ] {
        assert_eq!(says(url, method.clone(), credential).await, said, "{method} {url}");
    }

    let gone = cluster.api.raw("DELETE", "/v1/nodes/h0?force=true", &[], vec![]).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let since = Now::read().mono;
    assert_eq!(says(&master, Method::POST, &member).await, Some(403), "a master refuses it at once");
    while says(&probe, Method::GET, &member).await == Some(200) {}
    let after = Now::read().mono - since;
    println!("a forgotten host's certificate was refused by other agents after {} ms", after.0);
    // An agent that starts again remembers it, and no master has to answer for that.
    cluster.agents.remove(1).stop().await;
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let config = agent_config(&cluster.dir.path().join("h1"), "h1", nowhere, "unix:///nowhere");
    let config = AgentConfig { tls: TlsMode::Required, ..config };
    let again = shef_agent::start(config, EngineChoice::Fake(FakeEngineOptions::default())).await.unwrap();
    let probe = format!("https://{}.agent.{id}.shef@{}/v1/probe", other.uid, again.address());
    assert_eq!(says(&probe, Method::GET, &member).await, Some(403));
    assert_eq!(says(&probe, Method::GET, &other.credential()).await, Some(200));
    again.stop().await;
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_cluster_without_tls_is_upgraded_host_by_host_and_nothing_stops() {
    let dir = tempfile::tempdir().unwrap();
    let config = MasterConfig { tls: Some(TlsMode::Off), ..master_config(dir.path()) };
    let mut cluster = Cluster::start_as(config, dir).await;
    add(&mut cluster, "h0").await;
    add(&mut cluster, "h1").await;
    cluster.ready(2).await;
    deploy(&cluster, 4).await;
    let ran = cluster.api.get("/v1/services/web").await.body["replica_states"].clone();
    restart(&mut cluster, Some(TlsMode::Optional)).await;
    cluster.ready(2).await;
    for (n, name) in ["h0", "h1"].into_iter().enumerate() {
        let agent = cluster.agents.remove(0);
        agent.stop().await;
        add(&mut cluster, name).await;
        cluster.ready(2).await;
        let secured = api_of(&cluster.agents[1]).get("/v1/probe").await;
        is_problem(&secured, 400, "tls_required");
        assert_eq!(cluster.agents.len(), 2, "{n}");
    }
    restart(&mut cluster, Some(TlsMode::Required)).await;
    cluster.ready(2).await;
    let runs = cluster.api.until("/v1/services/web", |answer| answer.body["state"] == "running").await;
    let ids = |states: &serde_json::Value| -> Vec<_> {
        states.as_array().unwrap().iter().map(|replica| replica["id"].clone()).collect()
    };
    assert_eq!(ids(&runs.body["replica_states"]), ids(&ran), "no replica was replaced");
    cluster.stop().await;
}
