//! Probes over real sockets: what they tell apart, and what they refuse.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::json;
use shef_agent::{
    AgentHandle, EngineChoice,
    config::{AgentConfig, PolicyConfig},
    engine::fake::FakeEngineOptions,
    start,
};
use shef_common::{
    client::HostClient,
    docker::DockerTls,
    ids::NodeName,
    problem::{Code, Problem},
    protocol::{PORTS_PATH, PROBE_PATH, ProbeKey, ProbeOutcome, ProbeThrough},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Above what anything on the loopback needs.
const PATIENT: Duration = Duration::from_secs(30);
/// For what never answers.
const SHORT: Duration = Duration::from_secs(2);

async fn agent(name: &str, data: &tempfile::TempDir) -> (AgentHandle, String) {
    let config = AgentConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host_ip: [127, 0, 0, 1].into(),
        node_name: Some(NodeName::parse(name).unwrap()),
        masters: vec!["http://127.0.0.1:1".into()],
        docker_host: "unix:///nonexistent".into(),
        docker_tls: DockerTls::default(),
        data_dir: data.path().join(name),
        secrets_dir: shef_integration_tests::cluster::SECRETS_DIR.into(),
        labels: [].into(),
        engine_concurrency: 4,
        pull_concurrency: 2,
        relist_interval_ms: 60_000,
        image_cleanup_percent: 100,
        engine_disk_dir: None,
        image_cleanup_interval_ms: 60_000,
        report_debounce_ms: 20,
        policy: PolicyConfig::open(),
        tls: shef_common::tls::TlsMode::Off,
        join_token: None,
        only_tls: false,
    };
    let agent = start(config, EngineChoice::Fake(FakeEngineOptions::default())).await.unwrap();
    let url = format!("http://{}", agent.address());
    (agent, url)
}

/// A listener that hands every connection to `serve`.
async fn server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            if let Some(answer) = answer {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    url
}

fn silence(outcome: &ProbeOutcome) -> &str {
    match outcome {
        ProbeOutcome::AgentSilent { why } => why,
        ProbeOutcome::Answered(_) | ProbeOutcome::Unreachable { .. } | ProbeOutcome::NotProbed { .. } => {
            panic!("{outcome:?}")
        }
    }
}

#[actix::test]
async fn an_agent_that_is_up_says_who_it_is_also_through_another() {
    let data = tempfile::tempdir().unwrap();
    let (first, first_url) = agent("h1", &data).await;
    let (second, second_url) = agent("h2", &data).await;
    let client = HostClient::new(None);
    let ProbeOutcome::Answered(direct) = client.probe(&second_url, PATIENT).await else {
        panic!("no answer")
    };
    assert_eq!(direct.node.as_str(), "h2");
    let through = ProbeThrough {
        agent_url: second_url.clone(),
        limit_ms: 10_000,
        key: Some(first.probe_key().clone()),
    };
    let url = format!("{first_url}{PROBE_PATH}");
    assert_eq!(
        client.post::<_, ProbeOutcome>(&url, &through, PATIENT).await.unwrap(),
        ProbeOutcome::Answered(direct)
    );
    second.stop().await;
    // Its port is closed now, and its host is there.
    silence(&client.post::<_, ProbeOutcome>(&url, &through, PATIENT).await.unwrap());
    silence(&client.probe(&second_url, PATIENT).await);
    first.stop().await;
}

#[actix::test]
async fn a_host_whose_agent_does_not_serve_is_told_from_one_that_is_gone() {
    let client = HostClient::new(None);
    // As a stopped process: the kernel takes the connection, nobody reads it.
    let stopped = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let outcome = client.probe(&format!("http://{}", stopped.local_addr().unwrap()), SHORT).await;
    assert_eq!(silence(&outcome), "the connection was made, but nothing answered within 2000 ms");
    // One that hangs up, one that is no agent, and one that answers an error.
    silence(&client.probe(&server(None).await, PATIENT).await);
    let other = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"OK\":true}")).await;
    assert!(silence(&client.probe(&other, PATIENT).await).starts_with("it answered something else"));
    let busy = server(Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")).await;
    assert!(silence(&client.probe(&busy, PATIENT).await).contains("503"));
    // An address that no packet comes back from: a listener whose queue is full drops them.
    let full = socket_with_full_queue();
    let outcome = client.probe(&format!("http://{}", full.0.local_addr().unwrap()), SHORT).await;
    assert!(matches!(outcome, ProbeOutcome::Unreachable { .. }), "{outcome:?}");
}

/// A listener that takes no more connections, and those that fill it.
fn socket_with_full_queue() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let address: std::net::SocketAddrV4 = "127.0.0.1:0".parse().unwrap();
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 0).unwrap();
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut open = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        open.push(stream);
        assert!(open.len() < 100, "the queue never fills");
    }
    (listener, open)
}

#[actix::test]
async fn nobody_but_its_master_has_an_agent_try_addresses() {
    let data = tempfile::tempdir().unwrap();
    let (agent, url) = agent("h1", &data).await;
    // Whoever is tried would take the connection.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    port.set_nonblocking(true).unwrap();
    let address = port.local_addr().unwrap();
    let client = awc::Client::default();
    for key in [None, Some(ProbeKey::random())] {
        let through =
            ProbeThrough { agent_url: format!("http://{address}"), limit_ms: 100, key: key.clone() };
        let ports = json!({ "addresses": [address], "limit_ms": 100, "key": key });
        for (path, body) in [(PROBE_PATH, json!(through)), (PORTS_PATH, ports)] {
            let mut answer = client.post(format!("{url}{path}")).send_json(&body).await.unwrap();
            let problem: Problem = serde_json::from_slice(&answer.body().await.unwrap()).unwrap();
            assert!(problem.status == 503 && problem.detail.contains("only for the master"), "{problem:?}");
        }
    }
    assert!(port.accept().is_err(), "nobody was tried");
    agent.stop().await;
}

#[actix::test]
async fn probes_go_to_agents_only_and_so_many_at_once() {
    let data = tempfile::tempdir().unwrap();
    let (agent, url) = agent("h1", &data).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", silent.local_addr().unwrap());
    let client = awc::Client::builder().timeout(Duration::from_secs(20)).finish();
    let key = agent.probe_key().clone();
    let ask = |agent_url: &str, limit_ms: u64| {
        client.post(format!("{url}{PROBE_PATH}")).send_json(&ProbeThrough {
            agent_url: agent_url.to_owned(),
            limit_ms,
            key: Some(key.clone()),
        })
    };
    for (agent_url, limit_ms) in [
        ("http://localhost:1", 100),
        ("http://127.0.0.1:1/health", 100),
        (target.as_str(), 0),
        (target.as_str(), 10_001),
    ] {
        let mut answer = ask(agent_url, limit_ms).await.unwrap();
        let problem: Problem = serde_json::from_slice(&answer.body().await.unwrap()).unwrap();
        assert_eq!((problem.code, problem.status), (Code::InvalidBody, 400), "{agent_url} {limit_ms}");
    }
    let mut many: FuturesUnordered<_> = (0..40).map(|_| ask(&target, 10_000)).collect();
    let mut statuses = Vec::new();
    while statuses.len() < 8 {
        statuses.push(many.next().await.unwrap().unwrap().status().as_u16());
    }
    assert_eq!(statuses, [503; 8], "those beyond 32 are refused at once, and the others wait");
    // The agent itself answers meanwhile.
    assert!(matches!(HostClient::new(None).probe(&url, PATIENT).await, ProbeOutcome::Answered(_)));
    // What was waited for hangs up.
    drop(silent);
    while let Some(answer) = many.next().await {
        assert_eq!(answer.unwrap().status().as_u16(), 200);
    }
    agent.stop().await;
}
