//! The agent against a real Docker engine of its own, ordered by a scripted master.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{ContainerConfig, ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, KillContainerOptions, ListContainersOptions,
    RemoveContainerOptions, RenameContainerOptions, RestartContainerOptions,
};
use shef_agent::{
    AgentHandle, EngineChoice,
    config::AgentConfig,
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

fn config(master: &ScriptedMaster, docker_host: String, data_dir: &std::path::Path) -> AgentConfig {
    AgentConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host_ip: [127, 0, 0, 1].into(),
        node_name: Some(NodeName::parse("lab").unwrap()),
        masters: vec![master.url.clone()],
        docker_host,
        docker_tls: DockerTls::default(),
        data_dir: data_dir.to_owned(),
        labels: [].into(),
        engine_concurrency: 6,
        pull_concurrency: 3,
        relist_interval_ms: 60_000,
        image_cleanup_percent: 100,
        engine_disk_dir: None,
        image_cleanup_interval_ms: 60_000,
        report_debounce_ms: 20,
    }
}

struct Bench {
    master: ScriptedMaster,
    engine: LabEngine,
    data: tempfile::TempDir,
}

impl Bench {
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
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let six = assignments("web", 1, 6, &shell(BUSYBOX, OBEDIENT, 5));
    bench.master.snapshot(1, &six).await.unwrap();
    bench.master.until_all(&six, ReplicaState::Running).await;
    let before = bench.containers().await;
    assert_eq!(before.len(), 6);
    assert!(before.values().all(|(_, state)| state == "running"), "{before:?}");

    agent.stop().await;
    let agent = bench.agent().await;
    bench.master.until_all(&six, ReplicaState::Running).await;
    assert_eq!(bench.containers().await, before, "a restart of the agent restarts nothing");
    let registration = bench.master.received().registrations.last().unwrap().clone();
    assert_eq!(registration.holds.len(), 6);
    assert_eq!(registration.accepted.unwrap().revision.0, 1);

    bench.master.delta(1, &[], &six).await.unwrap();
    bench.master.until_all(&six, ReplicaState::Stopped).await;
    assert!(bench.containers().await.is_empty());
    assert!(bench.master.received().illegal.is_empty(), "{:?}", bench.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn an_agent_that_dies_in_the_middle_finishes_when_it_is_back() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let first = assignments("web", 1, 4, &shell(BUSYBOX, OBEDIENT, 5));
    bench.master.snapshot(1, &first).await.unwrap();
    bench.master.until_all(&first, ReplicaState::Running).await;
    agent.stop().await;
    let before = bench.containers().await;

    // An agent on a thread of its own, which ends with everything under way.
    let arbiter = actix::Arbiter::new();
    let config = config(&bench.master, bench.engine.url(), bench.data.path());
    let registrations = bench.master.received().registrations.len();
    arbiter.spawn_fn(move || {
        actix::spawn(async move {
            let _agent = start(config, EngineChoice::Docker).await.unwrap();
            std::future::pending::<()>().await;
        });
    });
    bench.master.until("a registration", |received| received.registrations.len() > registrations).await;
    let more = assignments("web", 5, 8, &shell(BUSYBOX, OBEDIENT, 5));
    bench.master.delta(1, &more, &first[..1]).await.unwrap();
    arbiter.stop();
    arbiter.join().unwrap();

    let agent = bench.agent().await;
    bench.master.until_all(&more, ReplicaState::Running).await;
    bench.master.until_all(&first[..1], ReplicaState::Stopped).await;
    let after = bench.containers().await;
    assert_eq!(after.len(), 11, "{after:?}");
    assert!(
        first[1..].iter().all(|a| after[a.replica.as_str()] == before[a.replica.as_str()]),
        "what ran runs on"
    );
    agent.stop().await;
}

#[actix::test]
async fn what_cannot_start_says_why_and_holds_up_nothing_else() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
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
    bench.master.snapshot(1, &all).await.unwrap();
    bench.master.until_all(&good, ReplicaState::Running).await;
    bench.master.until_all(&refusing, ReplicaState::Failed).await;
    bench.master.until_all(&no_command, ReplicaState::Failed).await;
    {
        let received = bench.master.received();
        let reason = |id: &str| received.statuses[id].reason.clone().unwrap_or_default();
        assert!(reason("refusing-000001").contains("connection refused"), "{}", reason("refusing-000001"));
        assert!(reason("nocmd-000001").contains("no such file"), "{}", reason("nocmd-000001"));
        assert_eq!(received.statuses["slow-000001"].state, ReplicaState::Pulling);
    }
    // Ordering it away ends the pull and the rest.
    bench.master.delta(1, &[], &all).await.unwrap();
    bench.master.until_all(&all, ReplicaState::Stopped).await;
    assert!(bench.containers().await.is_empty());
    assert!(bench.master.received().illegal.is_empty(), "{:?}", bench.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn what_others_do_to_containers_is_seen_and_mended() {
    let bench = Bench::new().await;
    let docker = bench.engine.client();
    let foreign = CreateContainerOptions { name: Some("taken-000001".into()), ..Default::default() };
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.into()),
        cmd: Some(vec!["/bin/true".into()]),
        ..Default::default()
    };
    docker.create_container(Some(foreign), body).await.unwrap();
    let agent = bench.agent().await;
    let web = assignments("web", 1, 3, &shell(BUSYBOX, OBEDIENT, 5));
    let taken = assignments("taken", 1, 1, &shell(BUSYBOX, OBEDIENT, 5));
    bench.master.snapshot(1, &[web.clone(), taken.clone()].concat()).await.unwrap();
    bench.master.until_all(&web, ReplicaState::Running).await;
    bench.master.until_all(&taken, ReplicaState::Failed).await;
    let before = bench.containers().await;
    let turns_of = |id: &str| bench.master.received().statuses[id].turns;
    let turns = ["web-000001", "web-000002"].map(turns_of);

    // One is removed, one is stopped, and one's process is made to end.
    let force = RemoveContainerOptions { force: true, ..Default::default() };
    docker.remove_container("web-000001", Some(force)).await.unwrap();
    docker.stop_container("web-000002", None).await.unwrap();
    let exec = docker
        .create_exec(
            "web-000003",
            bollard::models::ExecConfig {
                cmd: Some(vec!["/bin/kill".into(), "-TERM".into(), "1".into()]),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    docker.start_exec(&exec.id, None).await.unwrap();
    bench
        .master
        .until("all three are mended", |received| {
            let third = &received.statuses["web-000003"];
            let mended = |(id, turns): (&str, u32)| {
                let status = &received.statuses[id];
                status.state == ReplicaState::Running && status.turns > turns
            };
            ["web-000001", "web-000002"].into_iter().zip(turns).all(mended)
                && third.state == ReplicaState::Running
                && third.restarts > 0
        })
        .await;
    {
        let received = bench.master.received();
        let third = &received.statuses["web-000003"];
        assert_eq!(third.health, Health::Unhealthy);
        assert_eq!(third.reason.as_deref(), Some("exited with code 0; the engine restarts it"));
        // What somebody stops has not failed.
        for id in ["web-000001", "web-000002"] {
            let status = &received.statuses[id];
            assert_eq!((status.restarts, status.health), (0, Health::Healthy), "{status:?}");
        }
    }
    bench
        .master
        .until("it settles", |received| received.statuses["web-000003"].health == Health::Healthy)
        .await;
    let after = bench.containers().await;
    assert_ne!(after["web-000001"].0, before["web-000001"].0, "made anew");
    assert_eq!(after["web-000002"].0, before["web-000002"].0, "started again");
    assert!(
        ["web-000001", "web-000002", "web-000003"].iter().all(|id| after[*id].1 == "running"),
        "{after:?}"
    );

    // `docker kill` ends it without a stop event, and the engine does not restart it.
    let turns = turns_of("web-000003");
    docker.kill_container("web-000003", None::<KillContainerOptions>).await.unwrap();
    bench
        .master
        .until("the killed one is started again", |received| {
            let status = &received.statuses["web-000003"];
            status.state == ReplicaState::Running && status.turns > turns && status.health == Health::Healthy
        })
        .await;
    assert_eq!(bench.master.received().statuses["web-000003"].restarts, 1);
    assert_eq!(bench.containers().await["web-000003"].1, "running");

    bench.master.snapshot(2, &[]).await.unwrap();
    bench.master.until_all(&web, ReplicaState::Stopped).await;
    bench.master.until_all(&taken, ReplicaState::Stopped).await;
    let left = bench.containers().await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["taken-000001"], "what is not ours stays");
    assert!(bench.master.received().illegal.is_empty(), "{:?}", bench.master.received().illegal);
    agent.stop().await;
}

/// By that, the agent finds out about starts that it has not heard of.
#[actix::test]
async fn each_start_has_other_network_endpoints_which_lists_and_looks_show() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let mut two = assignments("web", 1, 2, &shell(BUSYBOX, OBEDIENT, 1));
    let mut on_host = (*two[1].template).clone();
    on_host.networks = vec![Network::named("host")];
    two[1].template = on_host.into();
    until("the push is taken", async || bench.master.snapshot(1, &two).await.ok()).await;
    bench.master.until_all(&two, ReplicaState::Running).await;
    agent.stop().await;
    let engine = DockerEngine::new(&bench.engine.url(), &DockerTls::default()).unwrap();
    let endpoints = async || {
        let listed = engine.list().await.unwrap().containers;
        let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for container in listed {
            let id = two.iter().find(|of| of.replica.as_str() == container.name).unwrap().replica.clone();
            let looked = engine.inspect(&id, Some(&container.id)).await.unwrap();
            assert_eq!(looked[0].endpoints, container.endpoints, "{id}");
            shown.insert(container.name, container.endpoints);
        }
        shown
    };
    let before = endpoints().await;
    assert!(before.len() == 2 && before.values().all(|ends| ends.len() == 1), "{before:?}");
    assert_eq!(endpoints().await, before);
    for assignment in &two {
        let name = assignment.replica.as_str();
        bench.engine.client().restart_container(name, None::<RestartContainerOptions>).await.unwrap();
    }
    let after = endpoints().await;
    assert!(before.iter().all(|(name, ends)| after[name].is_disjoint(ends)), "{before:?} {after:?}");
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
async fn a_crash_loop_changes_owner_and_a_new_agent_knows_whose_it_is() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let broken = assignments("broken", 1, 2, &shell(BUSYBOX, "echo no configuration; exit 3", 1));
    let good = assignments("good", 1, 2, &shell(BUSYBOX, OBEDIENT, 5));
    bench.master.snapshot(1, &[broken.clone(), good.clone()].concat()).await.unwrap();
    let crash_loops = |received: &shef_integration_tests::lab::scripted_master::Received| {
        broken.iter().all(|a| {
            received.statuses.get(&a.replica).is_some_and(|status| {
                let why = status.reason.as_deref().unwrap_or_default();
                status.state == ReplicaState::Starting
                    && status.exit_code == Some(3)
                    && why.starts_with("crash-looping: exited with code 3; restart ")
                    && status.last_log_lines.last().is_some_and(|line| line == "no configuration")
            })
        })
    };
    bench.master.until("both are taken over and say why", crash_loops).await;
    bench.master.until_all(&good, ReplicaState::Running).await;
    let docker = bench.engine.client();
    let policy = async |name: &str| {
        let found = docker.inspect_container(name, None).await.unwrap();
        let restarts = found.restart_count.unwrap();
        (found.host_config.unwrap().restart_policy.unwrap().name.unwrap().to_string(), restarts)
    };
    for a in &broken {
        let (name, restarts) = policy(a.replica.as_str()).await;
        assert_eq!(name, "no");
        assert!(restarts <= 3, "the engine restarted it {restarts} times");
    }
    assert_eq!(policy("good-000001").await, ("unless-stopped".to_owned(), 0));

    // The policy is the record of who owns it.
    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    bench.master.until("the new agent knows", crash_loops).await;
    assert_eq!(policy("broken-000001").await.0, "no");
    assert_eq!(bench.containers().await["broken-000001"].1, "exited");

    bench.master.delta(1, &[], &broken).await.unwrap();
    bench.master.until_all(&broken, ReplicaState::Stopped).await;
    assert_eq!(bench.containers().await.len(), 2);
    assert!(bench.master.received().illegal.is_empty(), "{:?}", bench.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn a_container_renamed_by_hand_is_counted_and_its_copy_left_alone() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let both = assignments("web", 1, 2, &shell(BUSYBOX, OBEDIENT, 5));
    bench.master.snapshot(1, &both).await.unwrap();
    bench.master.until_all(&both, ReplicaState::Running).await;
    let docker = bench.engine.client();
    let before = running(&bench.engine).await;
    let options = RenameContainerOptions { name: "mine".to_owned() };
    docker.rename_container("web-000001", options).await.unwrap();
    let options = CommitContainerOptions {
        container: Some("mine".to_owned()),
        repo: Some("copy".to_owned()),
        ..Default::default()
    };
    docker.commit_container(options, ContainerConfig::default()).await.unwrap();
    let options = CreateContainerOptions { name: Some("copy".to_owned()), ..Default::default() };
    let body = ContainerCreateBody { image: Some("copy".to_owned()), ..Default::default() };
    docker.create_container(Some(options), body).await.unwrap();

    // A new agent looks at everything.
    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    bench.master.until_all(&both, ReplicaState::Running).await;
    assert_eq!(running(&bench.engine).await, before, "nothing is made beside it");
    bench.master.delta(1, &[], &both).await.unwrap();
    bench.master.until_all(&both, ReplicaState::Stopped).await;
    assert_eq!(bench.containers().await.into_keys().collect::<Vec<_>>(), ["copy"]);
    assert!(bench.master.received().illegal.is_empty(), "{:?}", bench.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn no_label_holds_env_and_adoption_reads_it_from_the_container() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let mut template = shell(BUSYBOX, OBEDIENT, 5);
    template.env =
        [("PASSWORD".to_owned(), "hunter2".to_owned()), ("EMPTY".to_owned(), String::new())].into();
    let one = assignments("web", 1, 1, &template);
    bench.master.snapshot(1, &one).await.unwrap();
    bench.master.until_all(&one, ReplicaState::Running).await;
    let found = bench.engine.client().inspect_container("web-000001", None).await.unwrap();
    let labels = found.config.unwrap().labels.unwrap();
    assert!(labels.values().all(|value| !value.contains("hunter2")), "{labels:?}");
    assert!(!labels.contains_key("shef.spec-hash"), "{labels:?}");
    agent.stop().await;

    let elsewhere = tempfile::tempdir().unwrap();
    let agent = start(config(&bench.master, bench.engine.url(), elsewhere.path()), EngineChoice::Docker)
        .await
        .unwrap();
    let reports = |received: &shef_integration_tests::lab::scripted_master::Received| {
        received.registrations.iter().any(|one| one.accepted.is_none() && !one.holds.is_empty())
    };
    bench.master.until("it registers with what it holds", reports).await;
    assert_eq!(bench.master.received().registrations.last().unwrap().holds, one);
    agent.stop().await;
}

#[actix::test]
async fn a_volume_made_otherwise_by_hand_is_reported_by_the_next_agent_too() {
    let bench = Bench::new().await;
    let there = VolumeCreateRequest { name: Some("data".to_owned()), ..Default::default() };
    bench.engine.client().create_volume(there).await.unwrap();
    let volume = |source: &str| Mount::Volume {
        source: source.to_owned(),
        target: format!("/{source}"),
        read_only: false,
        driver: String::new(),
        options: [("type".to_owned(), "tmpfs".to_owned()), ("device".to_owned(), "tmpfs".to_owned())].into(),
        sticky: false,
    };
    let template = Template { mounts: vec![volume("data"), volume("own")], ..shell(BUSYBOX, OBEDIENT, 5) };
    let one = assignments("web", 1, 1, &template);
    let agent = bench.agent().await;
    bench.master.snapshot(1, &one).await.unwrap();
    let expected = "used as they are, though the spec defines them otherwise: volumes data (it was made \
                    with other options)";
    let tells = |received: &Received| {
        let warning = |of: &Assignment| received.statuses.get(&of.replica)?.warning.clone();
        one.iter().all(|of| warning(of).as_deref() == Some(expected))
    };
    bench.master.until("the first agent tells of the volume", tells).await;
    bench.master.until_all(&one, ReplicaState::Running).await;
    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    bench.master.until("the next agent tells of the volume", tells).await;
    assert!(bench.master.received().illegal.is_empty(), "{:?}", bench.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn an_engine_names_the_directory_of_its_images() {
    let engine = LabEngine::start().await;
    let docker = DockerEngine::new(&engine.url(), &DockerTls::default()).unwrap();
    assert_eq!(docker.root_dir().await, Ok(Some(engine.data_root())));
}
