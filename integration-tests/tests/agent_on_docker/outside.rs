//! What others than the agent do to its containers.

use super::*;

#[actix::test]
async fn what_others_do_to_containers_is_seen_and_mended() {
    let site = Site::new().await;
    let docker = site.engine.client();
    let foreign = CreateContainerOptions { name: Some("taken-000001".into()), ..Default::default() };
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.into()),
        cmd: Some(vec!["/bin/true".into()]),
        ..Default::default()
    };
    docker.create_container(Some(foreign), body).await.unwrap();
    let agent = site.agent().await;
    let web = assignments("web", 1, 3, &shell(BUSYBOX, OBEDIENT, 5));
    let taken = assignments("taken", 1, 1, &shell(BUSYBOX, OBEDIENT, 5));
    site.master.snapshot(1, &[web.clone(), taken.clone()].concat()).await.unwrap();
    site.master.until_all(&web, ReplicaState::Running).await;
    site.master.until_all(&taken, ReplicaState::Failed).await;
    let before = site.containers().await;
    let turns_of = |id: &str| site.master.received().statuses[id].turns;
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
    site.master
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
        let received = site.master.received();
        let third = &received.statuses["web-000003"];
        assert_eq!(third.health, Health::Unhealthy);
        assert_eq!(third.reason.as_deref(), Some("exited with code 0; the engine restarts it"));
        // What somebody stops has not failed.
        for id in ["web-000001", "web-000002"] {
            let status = &received.statuses[id];
            assert_eq!((status.restarts, status.health), (0, Health::Healthy), "{status:?}");
        }
    }
    site.master
        .until("it settles", |received| received.statuses["web-000003"].health == Health::Healthy)
        .await;
    let after = site.containers().await;
    assert_ne!(after["web-000001"].0, before["web-000001"].0, "made anew");
    assert_eq!(after["web-000002"].0, before["web-000002"].0, "started again");
    assert!(
        ["web-000001", "web-000002", "web-000003"].iter().all(|id| after[*id].1 == "running"),
        "{after:?}"
    );

    // `docker kill` ends it without a stop event, and the engine does not restart it.
    let turns = turns_of("web-000003");
    docker.kill_container("web-000003", None::<KillContainerOptions>).await.unwrap();
    site.master
        .until("the killed one is started again", |received| {
            let status = &received.statuses["web-000003"];
            status.state == ReplicaState::Running && status.turns > turns && status.health == Health::Healthy
        })
        .await;
    assert_eq!(site.master.received().statuses["web-000003"].restarts, 1);
    assert_eq!(site.containers().await["web-000003"].1, "running");

    site.master.snapshot(2, &[]).await.unwrap();
    site.master.until_all(&web, ReplicaState::Stopped).await;
    site.master.until_all(&taken, ReplicaState::Stopped).await;
    let left = site.containers().await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["taken-000001"], "what is not ours stays");
    assert!(site.master.received().illegal.is_empty(), "{:?}", site.master.received().illegal);
    agent.stop().await;
}

/// By that, the agent finds out about starts that it has not heard of.

#[actix::test]
async fn each_start_has_other_network_endpoints_which_lists_and_looks_show() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let mut two = assignments("web", 1, 2, &shell(BUSYBOX, OBEDIENT, 1));
    let mut on_host = (*two[1].template).clone();
    on_host.networks = vec![Network::named("host")];
    two[1].template = on_host.into();
    until("the push is taken", async || site.master.snapshot(1, &two).await.ok()).await;
    site.master.until_all(&two, ReplicaState::Running).await;
    agent.stop().await;
    let engine = DockerEngine::new(&site.engine.url(), &DockerTls::default()).unwrap();
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
        site.engine.client().restart_container(name, None::<RestartContainerOptions>).await.unwrap();
    }
    let after = endpoints().await;
    assert!(before.iter().all(|(name, ends)| after[name].is_disjoint(ends)), "{before:?} {after:?}");
}

#[actix::test]
async fn a_crash_loop_changes_owner_and_a_new_agent_knows_whose_it_is() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let broken = assignments("broken", 1, 2, &shell(BUSYBOX, "echo no configuration; exit 3", 1));
    let good = assignments("good", 1, 2, &shell(BUSYBOX, OBEDIENT, 5));
    site.master.snapshot(1, &[broken.clone(), good.clone()].concat()).await.unwrap();
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
    site.master.until("both are taken over and say why", crash_loops).await;
    site.master.until_all(&good, ReplicaState::Running).await;
    let docker = site.engine.client();
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
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    site.master.until("the new agent knows", crash_loops).await;
    assert_eq!(policy("broken-000001").await.0, "no");
    assert_eq!(site.containers().await["broken-000001"].1, "exited");

    site.master.delta(1, &[], &broken).await.unwrap();
    site.master.until_all(&broken, ReplicaState::Stopped).await;
    assert_eq!(site.containers().await.len(), 2);
    assert!(site.master.received().illegal.is_empty(), "{:?}", site.master.received().illegal);
    agent.stop().await;
}

#[actix::test]
async fn a_container_renamed_by_hand_is_counted_and_its_copy_left_alone() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let both = assignments("web", 1, 2, &shell(BUSYBOX, OBEDIENT, 5));
    site.master.snapshot(1, &both).await.unwrap();
    site.master.until_all(&both, ReplicaState::Running).await;
    let docker = site.engine.client();
    let before = running(&site.engine).await;
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
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    site.master.until_all(&both, ReplicaState::Running).await;
    assert_eq!(running(&site.engine).await, before, "nothing is made beside it");
    site.master.delta(1, &[], &both).await.unwrap();
    site.master.until_all(&both, ReplicaState::Stopped).await;
    assert_eq!(site.containers().await.into_keys().collect::<Vec<_>>(), ["copy"]);
    assert!(site.master.received().illegal.is_empty(), "{:?}", site.master.received().illegal);
    agent.stop().await;
}
