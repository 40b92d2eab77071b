//! The agent against a real Docker engine of its own, ordered by a scripted master.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{ContainerConfig, ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, KillContainerOptions, ListContainersOptions,
    RemoveContainerOptions, RenameContainerOptions, RestartContainerOptions,
};
use shef_agent::{
    AgentHandle, EngineChoice,
    config::{AgentConfig, PolicyConfig},
    engine::{Engine as _, docker::DockerEngine},
    start,
};
use shef_common::{
    docker::DockerTls,
    ids::NodeName,
    image::ImageRef,
    protocol::Assignment,
    spec::{Mount, Network, Template},
    status::{Health, ReplicaState},
};
use shef_integration_tests::lab::{
    engine::{BUSYBOX, LabEngine},
    scripted_master::{OBEDIENT, Received, ScriptedMaster, assignments, shell},
    wait::until,
};

mod adopted;
mod host_policy;
mod outside;

fn config(master: &ScriptedMaster, docker_host: String, data_dir: &std::path::Path) -> AgentConfig {
    AgentConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host_ip: [127, 0, 0, 1].into(),
        node_name: Some(NodeName::parse("lab").unwrap()),
        masters: vec![master.url.clone()],
        docker_host,
        docker_tls: DockerTls::default(),
        data_dir: data_dir.to_owned(),
        secrets_dir: shef_integration_tests::cluster::SECRETS_DIR.into(),
        labels: [].into(),
        engine_concurrency: 6,
        pull_concurrency: 3,
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

struct Site {
    master: ScriptedMaster,
    engine: LabEngine,
    data: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let engine = LabEngine::start().await;
        engine.import_busybox().await;
        Self { master: ScriptedMaster::start(), engine, data: tempfile::tempdir().unwrap() }
    }

    async fn agent(&self) -> AgentHandle {
        let before = self.master.received().registrations.len();
        let agent = start(config(&self.master, self.engine.url(), self.data.path()), EngineChoice::Docker)
            .await
            .unwrap();
        self.master.until("a registration", |received| received.registrations.len() > before).await;
        agent
    }

    /// Containers by name: id and state.
    async fn containers(&self) -> HashMap<String, (String, String)> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let list = self.engine.client().list_containers(Some(options)).await.unwrap();
        list.into_iter()
            .map(|c| {
                let name = c.names.unwrap()[0].trim_start_matches('/').to_owned();
                (name, (c.id.unwrap(), c.state.unwrap().to_string()))
            })
            .collect()
    }
}

/// The ids of what runs, in order.
async fn running(engine: &LabEngine) -> Vec<String> {
    let list = engine.client().list_containers(None::<ListContainersOptions>).await.unwrap();
    let mut ids: Vec<String> = list.into_iter().filter_map(|c| c.id).collect();
    ids.sort();
    ids
}

#[actix::test]
async fn replicas_are_made_adopted_and_removed() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let six = assignments("web", 1, 6, &shell(BUSYBOX, OBEDIENT, 5));
    site.master.snapshot(1, &six).await.unwrap();
    site.master.until_all(&six, ReplicaState::Running).await;
    let before = site.containers().await;
    assert_eq!(before.len(), 6);
    assert!(before.values().all(|(_, state)| state == "running"), "{before:?}");

    agent.stop().await;
    let agent = site.agent().await;
    site.master.until_all(&six, ReplicaState::Running).await;
    assert_eq!(site.containers().await, before, "a restart of the agent restarts nothing");
    let registration = site.master.received().registrations.last().unwrap().clone();
    assert_eq!(registration.holds.len(), 6);
    assert_eq!(registration.accepted.unwrap().revision.0, 1);

    site.master.delta(1, &[], &six).await.unwrap();
    site.master.until_all(&six, ReplicaState::Stopped).await;
    assert!(site.containers().await.is_empty());
    assert!(site.master.received().illegal.is_empty(), "{:?}", site.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn an_agent_that_dies_in_the_middle_finishes_when_it_is_back() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let first = assignments("web", 1, 4, &shell(BUSYBOX, OBEDIENT, 5));
    site.master.snapshot(1, &first).await.unwrap();
    site.master.until_all(&first, ReplicaState::Running).await;
    agent.stop().await;
    let before = site.containers().await;

    // An agent on a thread of its own, which ends with everything under way.
    let arbiter = actix::Arbiter::new();
    let config = config(&site.master, site.engine.url(), site.data.path());
    let registrations = site.master.received().registrations.len();
    arbiter.spawn_fn(move || {
        actix::spawn(async move {
            let _agent = start(config, EngineChoice::Docker).await.unwrap();
            std::future::pending::<()>().await;
        });
    });
    site.master.until("a registration", |received| received.registrations.len() > registrations).await;
    let more = assignments("web", 5, 8, &shell(BUSYBOX, OBEDIENT, 5));
    site.master.delta(1, &more, &first[..1]).await.unwrap();
    arbiter.stop();
    arbiter.join().unwrap();

    let agent = site.agent().await;
    site.master.until_all(&more, ReplicaState::Running).await;
    site.master.until_all(&first[..1], ReplicaState::Stopped).await;
    let after = site.containers().await;
    assert_eq!(after.len(), 11, "{after:?}");
    assert!(
        first[1..].iter().all(|a| after[a.replica.as_str()] == before[a.replica.as_str()]),
        "what ran runs on"
    );
    agent.stop().await;
}

#[actix::test]
async fn what_cannot_start_says_why_and_holds_up_nothing_else() {
    let site = Site::new().await;
    let agent = site.agent().await;
    // A registry that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow_image = format!("{}/x:1", silent.local_addr().unwrap());
    let slow = assignments("slow", 1, 1, &Template::of(ImageRef::parse(&slow_image).unwrap()));
    let refusing = assignments("refusing", 1, 2, &Template::of(ImageRef::parse("127.0.0.1:1/x:1").unwrap()));
    let no_command = assignments("nocmd", 1, 1, &{
        let mut template = shell(BUSYBOX, "", 1);
        template.command = vec!["/bin/no-such-program".into()];
        template
    });
    let good = assignments("good", 1, 2, &shell(BUSYBOX, OBEDIENT, 5));
    let all = [slow.clone(), refusing.clone(), no_command.clone(), good.clone()].concat();
    site.master.snapshot(1, &all).await.unwrap();
    site.master.until_all(&good, ReplicaState::Running).await;
    site.master.until_all(&refusing, ReplicaState::Failed).await;
    site.master.until_all(&no_command, ReplicaState::Failed).await;
    {
        let received = site.master.received();
        let reason = |id: &str| received.statuses[id].reason.clone().unwrap_or_default();
        assert!(reason("refusing-000001").contains("connection refused"), "{}", reason("refusing-000001"));
        assert!(reason("nocmd-000001").contains("no such file"), "{}", reason("nocmd-000001"));
        assert_eq!(received.statuses["slow-000001"].state, ReplicaState::Pulling);
    }
    // Ordering it away ends the pull and the rest.
    site.master.delta(1, &[], &all).await.unwrap();
    site.master.until_all(&all, ReplicaState::Stopped).await;
    assert!(site.containers().await.is_empty());
    assert!(site.master.received().illegal.is_empty(), "{:?}", site.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn an_engine_that_comes_late_or_goes_away_is_waited_for() {
    let master = ScriptedMaster::start();
    let data = tempfile::tempdir().unwrap();
    let mut engine = LabEngine::start().await;
    engine.import_busybox().await;
    engine.crash();
    let agent = start(config(&master, engine.url(), data.path()), EngineChoice::Docker).await.unwrap();
    master
        .until("the host registers without its engine", |received| !received.registrations.is_empty())
        .await;
    master
        .until("the report says so", |received| {
            received.last_report.as_ref().is_some_and(|report| report.engine_error.is_some())
        })
        .await;
    engine.boot().await;
    master
        .until("the engine is known", |received| {
            received.registrations.last().is_some_and(|r| r.host.engine_version != "unknown")
        })
        .await;
    let two = assignments("web", 1, 2, &shell(BUSYBOX, OBEDIENT, 5));
    until("the push is taken", async || master.snapshot(1, &two).await.ok()).await;
    master.until_all(&two, ReplicaState::Running).await;

    // The engine dies; what is ordered meanwhile is done when it is back.
    engine.crash();
    let third = assignments("web", 3, 1, &shell(BUSYBOX, OBEDIENT, 5));
    master.delta(1, &third, &two[..1]).await.unwrap();
    master
        .until("the report says so", |received| {
            received.last_report.as_ref().is_some_and(|report| report.engine_error.is_some())
        })
        .await;
    engine.boot().await;
    master.until_all(&third, ReplicaState::Running).await;
    master.until_all(&two[..1], ReplicaState::Stopped).await;
    master.until_all(&two[1..], ReplicaState::Running).await;
    let before = running(&engine).await;

    // The engine is restarted in good order: it starts its containers again, and no replica fails.
    engine.terminate();
    engine.boot().await;
    let reports = master.received().reports;
    master
        .until("the engine answers and all are well", |received| {
            let healthy = |a: &Assignment| received.statuses[&a.replica].health == Health::Healthy;
            received.reports > reports
                && received.last_report.as_ref().is_some_and(|report| report.engine_error.is_none())
                && received.count(ReplicaState::Running) == 2
                && [&two[1], &third[0]].into_iter().all(healthy)
        })
        .await;
    assert_eq!(running(&engine).await, before);
    let failed = master.received().histories.values().any(|states| states.contains(&ReplicaState::Failed));
    assert!(!failed, "{:?}", master.received().histories);
    assert!(master.received().illegal.is_empty(), "{:?}", master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn an_engine_names_the_directory_of_its_images() {
    let engine = LabEngine::start().await;
    let docker = DockerEngine::new(&engine.url(), &DockerTls::default()).unwrap();
    assert_eq!(docker.root_dir().await, Ok(Some(engine.data_root())));
}
