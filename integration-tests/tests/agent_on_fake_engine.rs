//! The whole agent over HTTP, on an engine in memory.

use std::{collections::BTreeSet, time::Duration};

use shef_agent::{
    AgentHandle, EngineChoice, StartError,
    config::{AgentConfig, PolicyConfig},
    engine::{
        ContainerState, EngineError, RestartPolicy,
        fake::{CrashLoop, FakeEngineOptions, FakeHost, FakeLatency},
    },
    start,
};
use shef_common::{
    docker::DockerTls,
    ids::{Epoch, Fence, LeaderId, NodeName, Revision},
    image::ImageRef,
    problem::{Code, MEDIA_TYPE, Problem},
    protocol::{Assignment, Push, Refusal},
    spec::{OnDisconnect, Template},
    status::{Health, ReplicaState},
};
use shef_integration_tests::lab::{
    scripted_master::{ScriptedMaster, assignments},
    wait,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[path = "agent_on_fake_engine/pushes.rs"]
mod pushes;

fn config(masters: &[&str], data_dir: &std::path::Path) -> AgentConfig {
    AgentConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host_ip: [127, 0, 0, 1].into(),
        node_name: Some(NodeName::parse("h1").unwrap()),
        masters: masters.iter().map(|&url| url.to_owned()).collect(),
        docker_host: "unix:///nonexistent".into(),
        docker_tls: DockerTls::default(),
        data_dir: data_dir.to_owned(),
        secrets_dir: shef_integration_tests::cluster::SECRETS_DIR.into(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
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
    }
}

fn fake(host: &FakeHost) -> EngineChoice {
    let latency = FakeLatency {
        create: Duration::from_millis(2),
        start: Duration::from_millis(2),
        ..FakeLatency::default()
    };
    EngineChoice::Fake(FakeEngineOptions {
        host: Some(host.clone()),
        latency,
        ..FakeEngineOptions::default()
    })
}

fn template(image: &str) -> Template {
    Template::of(ImageRef::parse(image).unwrap())
}

async fn agent(master: &ScriptedMaster, host: &FakeHost, data: &tempfile::TempDir) -> AgentHandle {
    let before = master.received().registrations.len();
    let agent = start(config(&[&master.url], data.path()), fake(host)).await.unwrap();
    master.until("a registration", |received| received.registrations.len() > before).await;
    agent
}

#[actix::test]
async fn thirty_assignments_run_in_two_calls_each_and_few_reports() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let agent = agent(&master, &host, &data).await;
    master.snapshot(1, &[]).await.unwrap();
    let reports = master.received().reports_of_statuses;
    let thirty = assignments("web", 1, 30, &template("nginx"));
    master.delta(1, &thirty, &[]).await.unwrap();
    master.until_all(&thirty, ReplicaState::Running).await;
    let reports = master.received().reports_of_statuses - reports;
    assert!(reports < 60, "{reports} reports for thirty replicas that were created and started");
    let counts = host.counts();
    assert_eq!((counts["create"], counts["start"]), (30, 30));
    // Whether the image has a health check is asked until it is known, not of every replica.
    assert!(counts.get("inspect").copied().unwrap_or_default() <= 12, "{counts:?}");
    assert!(host.peak() <= 4, "{}", host.peak());

    // The same push again, and pushes that do not fit.
    assert_eq!(master.delta(1, &thirty, &[]).await.unwrap().revision, Revision(2));
    assert_eq!(master.delta(5, &[], &thirty).await.unwrap_err().why, Refusal::WrongBase);
    let usurper = Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000ff").unwrap() };
    assert_eq!(master.push(usurper, None, 9, &[], &[]).await.unwrap_err().why, Refusal::StaleFence);
    assert_eq!(host.containers().len(), 30);

    master.delta(2, &[], &thirty).await.unwrap();
    master.until_all(&thirty, ReplicaState::Stopped).await;
    assert!(host.containers().is_empty());
    assert!(master.received().illegal.is_empty(), "{:?}", master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn a_host_says_who_it_is_and_keeps_its_identity() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let first = agent(&master, &host, &data).await;
    let address = first.address();
    {
        let received = master.received();
        let registered = &received.registrations[0];
        assert_eq!(registered.host.agent_url, format!("http://{address}"));
        assert_eq!(registered.host.labels["zone"], "a");
        assert_eq!((registered.host.cpus, registered.host.engine_version.as_str()), (2, "fake"));
        assert_eq!((registered.cluster.as_ref(), registered.accepted.as_ref()), (None, None));
    }
    master.snapshot(1, &assignments("web", 1, 1, &template("nginx"))).await.unwrap();
    first.stop().await;
    let second = agent(&master, &host, &data).await;
    {
        let received = master.received();
        let [registered, again] = &received.registrations[..] else { panic!("two registrations") };
        assert_eq!(registered.uid, again.uid);
        assert_ne!(registered.boot, again.boot);
        assert_eq!(again.cluster.as_ref(), Some(&master.cluster));
        assert_eq!(again.holds.len(), 1);
    }
    second.stop().await;
}

#[actix::test]
async fn a_missing_image_is_pulled_once_and_one_that_cannot_be_had_says_why() {
    let (master, data) = (ScriptedMaster::start(), tempfile::tempdir().unwrap());
    let host = FakeHost::new(Some(BTreeSet::new()));
    let options = FakeEngineOptions {
        host: Some(host.clone()),
        registry: Some(["nginx:latest".to_owned()].into()),
        ..FakeEngineOptions::default()
    };
    let agent = start(config(&[&master.url], data.path()), EngineChoice::Fake(options)).await.unwrap();
    master.until("a registration", |received| !received.registrations.is_empty()).await;
    let good = assignments("good", 1, 10, &template("nginx"));
    let bad = assignments("bad", 1, 3, &template("nginx:missing"));
    master.snapshot(1, &[good.clone(), bad.clone()].concat()).await.unwrap();
    master.until_all(&good, ReplicaState::Running).await;
    master.until_all(&bad, ReplicaState::Failed).await;
    assert_eq!(host.counts()["pull"], 2);
    let reason = master.received().statuses["bad-000001"].reason.clone();
    assert_eq!(reason.as_deref(), Some("manifest for nginx:missing not found: manifest unknown"));
    assert!(master.received().illegal.is_empty(), "{:?}", master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn a_master_that_goes_and_comes_back_changes_nothing_on_the_host() {
    let (host, data) = (FakeHost::default(), tempfile::tempdir().unwrap());
    let master = ScriptedMaster::start();
    let agent = agent(&master, &host, &data).await;
    let three = assignments("web", 1, 3, &template("nginx"));
    master.snapshot(1, &three).await.unwrap();
    master.until_all(&three, ReplicaState::Running).await;
    let before = host.containers();
    let address = master.url.trim_start_matches("http://").to_owned();
    master.stop().await;
    host.exit("web-000001", 7, true);
    let master = ScriptedMaster::start_on(&address);
    // The new master knows nobody: it asks for a registration.
    master.received().want_registration = true;
    master.until_all(&three, ReplicaState::Running).await;
    master
        .until("what happened meanwhile is reported", |received| {
            received.statuses.get("web-000001").is_some_and(|s| s.health == Health::Unhealthy)
        })
        .await;
    assert_eq!(host.containers(), before);
    agent.stop().await;
}

#[actix::test]
async fn a_refused_host_runs_on_and_an_engine_that_fails_is_told() {
    let (host, data) = (FakeHost::default(), tempfile::tempdir().unwrap());
    let (refusing, master) = (ScriptedMaster::start(), ScriptedMaster::start());
    refusing.received().refuse = Some("another node holds the name h1".into());
    // Masters take turns; the refusal of the first is waited out.
    let agent = start(config(&[&master.url, &refusing.url], data.path()), fake(&host)).await.unwrap();
    master.until("a registration", |received| !received.registrations.is_empty()).await;
    host.fail_next("start", EngineError::Refused("OCI runtime create failed".into()));
    let one = assignments("web", 1, 1, &template("nginx"));
    master.snapshot(1, &one).await.unwrap();
    master.until_all(&one, ReplicaState::Failed).await;
    assert_eq!(master.received().statuses["web-000001"].reason.as_deref(), Some("OCI runtime create failed"));
    host.set_away(true);
    let two = assignments("web", 2, 1, &template("nginx"));
    master.delta(1, &two, &one).await.unwrap();
    master
        .until("the engine's absence is reported", |received| {
            received.last_report.as_ref().is_some_and(|report| report.engine_error.is_some())
        })
        .await;
    host.set_away(false);
    master.until_all(&two, ReplicaState::Running).await;
    master.until_all(&one, ReplicaState::Stopped).await;
    agent.stop().await;
}

#[actix::test]
async fn http_errors_are_problems() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let agent = agent(&master, &host, &data).await;
    let client = awc::Client::default();
    let url = |path: &str| format!("http://{}{path}", agent.address());
    let mut health = client.get(url("/health")).send().await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!((&health["OK"], &health["node"]), (&serde_json::json!(true), &serde_json::json!("h1")));
    assert_eq!(health.as_object().unwrap().len(), 4, "{health}");
    let push = || client.post(url("/v1/assignments")).timeout(Duration::from_secs(20));
    let cases = [
        (push().insert_header(("content-type", "application/json")).send_body("{"), Code::InvalidBody),
        (push().insert_header(("content-type", "application/json")).send_body("\u{fffd}"), Code::InvalidBody),
        (push().insert_header(("content-type", "text/plain")).send_body("{}"), Code::UnsupportedMediaType),
        (client.get(url("/v1/assignments")).send(), Code::MethodNotAllowed),
        (client.post(url("/health")).send(), Code::MethodNotAllowed),
        (client.get(url("/")).send(), Code::NotFound),
        (
            client.post(url("/v1/probe")).insert_header(("origin", "http://elsewhere.example")).send(),
            Code::ForeignPage,
        ),
        (client.get(url("/v1/probe")).insert_header(("host", "rebound.example")).send(), Code::UnknownHost),
    ];
    for (call, code) in cases {
        let mut answer = call.await.unwrap();
        assert_eq!(answer.headers().get("content-type").unwrap(), MEDIA_TYPE);
        let problem: Problem = serde_json::from_slice(&answer.body().await.unwrap()).unwrap();
        assert_eq!((problem.code, problem.status), (code, answer.status().as_u16()));
    }
    // A body that is too large is refused by its length, before it is sent.
    let mut stream = tokio::net::TcpStream::connect(agent.address()).await.unwrap();
    let head = "POST /v1/assignments HTTP/1.1\r\nhost: x\r\ncontent-type: \
                application/json\r\ncontent-length: 34000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    agent.stop().await;
}

#[actix::test]
async fn what_waiting_does_not_mend_is_an_error_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let good = config(&["http://127.0.0.1:1"], data.path());
    let with = |change: fn(&mut AgentConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    let docker = |config| start(config, EngineChoice::Docker);
    assert!(matches!(
        docker(with(|c| c.docker_host = "ftp://x".into())).await,
        Err(StartError::DockerHost(_))
    ));
    assert!(matches!(docker(with(|c| c.masters.clear())).await, Err(StartError::NoMaster)));
    assert!(matches!(docker(with(|c| c.masters = vec!["host:1".into()])).await, Err(StartError::Master(_))));
    // Neither the engine nor the master is there.
    let first = docker(good.clone()).await.unwrap();
    assert!(matches!(docker(good.clone()).await, Err(StartError::Ledger(_))), "one agent to a directory");
    let taken = first.address();
    let mut second = good.clone();
    second.listen = taken;
    assert!(matches!(docker(second).await, Err(StartError::Listen { .. })));
    first.stop().await;
}

/// Every agent lives on one thread and needs none of its own.
#[actix::test]
async fn two_hundred_agents_live_in_one_process() {
    let (master, data) = (ScriptedMaster::start(), tempfile::tempdir().unwrap());
    let mut agents = Vec::new();
    for number in 0..200 {
        let mut config = config(&[&master.url], &data.path().join(format!("{number}")));
        config.node_name = Some(NodeName::parse(&format!("h{number}")).unwrap());
        agents.push(start(config, EngineChoice::Fake(FakeEngineOptions::default())).await.unwrap());
    }
    master
        .until("all have registered", |received| {
            received.registrations.iter().map(|r| &r.node).collect::<BTreeSet<_>>().len() == 200
        })
        .await;
    futures_util::future::join_all(agents.into_iter().map(AgentHandle::stop)).await;
}

#[actix::test]
async fn a_crash_loop_is_taken_over_and_others_run_undisturbed() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let crash =
        CrashLoop { after: Duration::from_millis(30), exit_code: 3, log: vec!["no configuration".into()] };
    host.set_crash_loop(&ImageRef::parse("broken").unwrap(), crash);
    let agent = agent(&master, &host, &data).await;
    let broken = assignments("broken", 1, 5, &template("broken"));
    master.snapshot(1, &broken).await.unwrap();
    master
        .until("all are taken over and say why", |received| {
            received.statuses.len() == 5
                && received.statuses.values().all(|status| {
                    status.state == ReplicaState::Starting
                        && status.exit_code == Some(3)
                        && status.last_log_lines == ["no configuration"]
                        && status
                            .reason
                            .as_deref()
                            .is_some_and(|why| why.starts_with("crash-looping: exited with code 3; restart "))
                })
        })
        .await;
    assert!(
        host.containers()
            .values()
            .all(|c| c.policy == RestartPolicy::Never && c.state == ContainerState::Exited)
    );
    let good = assignments("good", 1, 10, &template("nginx"));
    master.delta(1, &good, &[]).await.unwrap();
    master.until_all(&good, ReplicaState::Running).await;
    assert!(
        good.iter().all(|a| host.containers()[a.replica.as_str()].policy == RestartPolicy::UnlessStopped)
    );
    master.delta(2, &[], &broken).await.unwrap();
    master.until_all(&broken, ReplicaState::Stopped).await;
    assert_eq!(host.containers().len(), 10);
    assert!(master.received().illegal.is_empty(), "{:?}", master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn an_engine_that_is_slow_holds_up_no_report_and_is_not_called_away() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let slow = Duration::from_secs(3);
    let latency = FakeLatency { create: slow, start: slow, look: slow, ..FakeLatency::default() };
    let options = FakeEngineOptions { host: Some(host.clone()), latency, ..FakeEngineOptions::default() };
    let agent = start(config(&[&master.url], data.path()), EngineChoice::Fake(options)).await.unwrap();
    master.until("a registration without the engine", |received| !received.registrations.is_empty()).await;
    let three = assignments("web", 1, 3, &template("nginx"));
    master.snapshot(1, &three).await.unwrap();
    let before = master.received().reports;
    master
        .until("reports while it creates", |received| {
            received.reports > before && received.count(ReplicaState::Running) == 0
        })
        .await;
    master.until_all(&three, ReplicaState::Running).await;
    assert_eq!(master.received().engine_errors, [] as [&str; 0]);
    agent.stop().await;
}

#[actix::test]
async fn orders_that_come_with_an_answer_are_applied_as_posted_ones() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let agent = agent(&master, &host, &data).await;
    let two = assignments("web", 1, 2, &template("nginx"));
    let push = |revision: u64, base: Option<u64>, set: &[Assignment]| Push {
        cluster: master.cluster.clone(),
        fence: master.fence.clone(),
        base: base.map(Revision),
        revision: Revision(revision),
        set: set.to_vec(),
        remove: vec![],
        by_name: true,
        credentials: std::collections::BTreeMap::new(),
        holds: None,
        templates_once: false,
    };
    let accepted = |revision: u64| {
        master.until("the next report answers", move |received| {
            let accepted = received.last_report.as_ref().and_then(|report| report.accepted.as_ref());
            accepted.is_some_and(|accepted| accepted.revision == Revision(revision))
        })
    };
    master.received().push_with_ack = Some(push(1, None, &two[..1]));
    accepted(1).await;
    // One that does not fit changes nothing; the next does.
    master.received().push_with_ack = Some(push(9, Some(8), &[]));
    master.until("it was taken", |received| received.push_with_ack.is_none()).await;
    master.received().push_with_ack = Some(push(2, Some(1), &two[1..]));
    accepted(2).await;
    master.until_all(&two, ReplicaState::Running).await;
    agent.stop().await;
}

#[actix::test]
async fn without_a_master_what_may_not_run_alone_is_stopped_until_one_answers() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let agent = agent(&master, &host, &data).await;
    let mut two = assignments("web", 1, 2, &template("nginx"));
    two[0].on_disconnect = OnDisconnect::StopAfter { seconds: 1 };
    master.snapshot(1, &two).await.unwrap();
    master.until_all(&two, ReplicaState::Running).await;
    let state = |name: &str| host.containers()[name].state;
    master.received().deaf = true;
    wait::until("it is stopped", async || (state("web-000001") == ContainerState::Exited).then_some(()))
        .await;
    assert_eq!(state("web-000002"), ContainerState::Running);
    master.received().deaf = false;
    wait::until("it is started again", async || {
        (state("web-000001") == ContainerState::Running).then_some(())
    })
    .await;
    master.until_all(&two, ReplicaState::Running).await;
    assert!(master.received().illegal.is_empty(), "{:?}", master.received().illegal);
    assert_eq!(host.counts().get("remove"), None);
    agent.stop().await;
}
