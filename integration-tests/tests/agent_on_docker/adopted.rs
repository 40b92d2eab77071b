//! What an agent reads of containers and volumes that it finds.

use super::*;

#[actix::test]
async fn no_label_holds_env_and_adoption_reads_it_from_the_container() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let mut template = shell(BUSYBOX, OBEDIENT, 5);
    template.env =
        [("PASSWORD".to_owned(), "hunter2".to_owned()), ("EMPTY".to_owned(), String::new())].into();
    let one = assignments("web", 1, 1, &template);
    site.master.snapshot(1, &one).await.unwrap();
    site.master.until_all(&one, ReplicaState::Running).await;
    let found = site.engine.client().inspect_container("web-000001", None).await.unwrap();
    let labels = found.config.unwrap().labels.unwrap();
    assert!(labels.values().all(|value| !value.contains("hunter2")), "{labels:?}");
    assert!(!labels.contains_key("shef.spec-hash"), "{labels:?}");
    agent.stop().await;

    let elsewhere = tempfile::tempdir().unwrap();
    let agent =
        start(config(&site.master, site.engine.url(), elsewhere.path()), EngineChoice::Docker).await.unwrap();
    let reports = |received: &shef_integration_tests::lab::scripted_master::Received| {
        received.registrations.iter().any(|one| one.accepted.is_none() && !one.holds.is_empty())
    };
    site.master.until("it registers with what it holds", reports).await;
    assert_eq!(site.master.received().registrations.last().unwrap().holds, one);
    agent.stop().await;
}

#[actix::test]
async fn a_volume_made_otherwise_by_hand_is_reported_by_the_next_agent_too() {
    let site = Site::new().await;
    let there = VolumeCreateRequest { name: Some("data".to_owned()), ..Default::default() };
    site.engine.client().create_volume(there).await.unwrap();
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
    let agent = site.agent().await;
    site.master.snapshot(1, &one).await.unwrap();
    let expected = "used as they are, though the spec defines them otherwise: volumes data (it was made \
                    with other options)";
    let tells = |received: &Received| {
        let warning = |of: &Assignment| received.statuses.get(&of.replica)?.warning.clone();
        one.iter().all(|of| warning(of).as_deref() == Some(expected))
    };
    site.master.until("the first agent tells of the volume", tells).await;
    site.master.until_all(&one, ReplicaState::Running).await;
    agent.stop().await;
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    site.master.until("the next agent tells of the volume", tells).await;
    assert!(site.master.received().illegal.is_empty(), "{:?}", site.master.received().illegal);
    agent.stop().await;
}
