//! Measures how long 30 containers take to be made and started, and to be
//! removed, on one private engine: by the agent and by its library alone, at
//! several bounds. `engine_concurrency`'s default was chosen by it.
//!
//! `cargo run --example engine_concurrency -- [rounds] [bounds, as 1,2,4]`

use std::{collections::HashMap, time::Duration};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum},
    query_parameters::{CreateContainerOptions, RemoveContainerOptions, StopContainerOptions},
};
use futures_util::StreamExt as _;
use shef_agent::{
    EngineChoice,
    config::{AgentConfig, PolicyConfig},
    start,
};
use shef_common::{clock::Now, docker::DockerTls, ids::NodeName, status::ReplicaState};
use shef_integration_tests::lab::{
    engine::{BUSYBOX, LabEngine},
    scripted_master::{OBEDIENT, ScriptedMaster, assignments, shell},
};

const REPLICAS: u32 = 30;

/// How containers are removed.
#[derive(Debug, Clone, Copy)]
enum Removal {
    /// Stop with a grace of 1 s, then remove.
    StopThenRemove,
    /// The signal, a wait for the end, then remove.
    SignalWaitRemove,
    /// Remove by force.
    Force,
}

#[actix::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(3, |text| text.parse().expect("a number of rounds"));
    let bounds = arguments.next().unwrap_or_else(|| "1,2,4,6,8,12".to_owned());
    let bounds: Vec<u32> = bounds.split(',').map(|text| text.parse().expect("a bound")).collect();
    let engine = LabEngine::start().await;
    engine.import_busybox().await;
    direct(&engine.client(), 4, Removal::Force).await; // The engine's first containers are its slowest.
    let mut figures: HashMap<String, Vec<u64>> = HashMap::new();
    for _ in 0..rounds {
        for &bound in &bounds {
            for removal in [Removal::StopThenRemove, Removal::SignalWaitRemove, Removal::Force] {
                let (made, removed) = direct(&engine.client(), bound, removal).await;
                figures.entry(format!("{bound:2} library create+start")).or_default().push(made);
                figures.entry(format!("{bound:2} library {removal:?}")).or_default().push(removed);
            }
            let (made, removed, reports) = agent(&engine, bound).await;
            figures.entry(format!("{bound:2} agent create+start")).or_default().push(made);
            figures.entry(format!("{bound:2} agent remove, grace 1 s")).or_default().push(removed);
            figures.entry(format!("{bound:2} agent reports (count)")).or_default().push(reports);
        }
    }
    let mut names: Vec<_> = figures.keys().cloned().collect();
    names.sort();
    for name in names {
        let values = figures.get_mut(&name).expect("a name of ours");
        values.sort_unstable();
        println!("{name:32} median {:6} ms of {values:?}", values[values.len() / 2]);
    }
}

/// Milliseconds to make and to remove with the library alone.
async fn direct(docker: &Docker, bound: u32, removal: Removal) -> (u64, u64) {
    let template = shell(BUSYBOX, OBEDIENT, 1);
    let began = Now::read().mono;
    let make = |number: u32| {
        let template = template.clone();
        async move {
            let body = ContainerCreateBody {
                image: Some(template.image.as_str().to_owned()),
                cmd: Some(template.command.clone()),
                host_config: Some(HostConfig {
                    restart_policy: Some(RestartPolicy {
                        name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                        maximum_retry_count: None,
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let options =
                CreateContainerOptions { name: Some(format!("floor-{number:06}")), ..Default::default() };
            let made = docker.create_container(Some(options), body).await.expect("created");
            docker.start_container(&made.id, None).await.expect("started");
            made.id
        }
    };
    let ids: Vec<String> =
        futures_util::stream::iter(0..REPLICAS).map(make).buffer_unordered(bound as usize).collect().await;
    let made = (Now::read().mono - began).0;
    let began = Now::read().mono;
    let force = || Some(RemoveContainerOptions { force: true, v: true, ..Default::default() });
    futures_util::stream::iter(ids)
        .for_each_concurrent(bound as usize, |id| async move {
            match removal {
                Removal::StopThenRemove => {
                    let grace = StopContainerOptions { t: Some(1), ..Default::default() };
                    docker.stop_container(&id, Some(grace)).await.expect("stopped");
                }
                Removal::SignalWaitRemove => {
                    let signal =
                        bollard::query_parameters::KillContainerOptions { signal: "SIGTERM".to_owned() };
                    docker.kill_container(&id, Some(signal)).await.expect("signalled");
                    let mut ends = docker.wait_container(&id, None);
                    let _ = tokio::time::timeout(Duration::from_secs(1), ends.next()).await;
                }
                Removal::Force => {}
            }
            docker.remove_container(&id, force()).await.expect("removed");
        })
        .await;
    (made, (Now::read().mono - began).0)
}

/// Milliseconds from the push until all run, and from the push until all are
/// gone, as a master hears it; and how many reports it took.
async fn agent(engine: &LabEngine, bound: u32) -> (u64, u64, u64) {
    let master = ScriptedMaster::start();
    let data = tempfile::tempdir().expect("a temporary directory");
    let config = AgentConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        host_ip: [127, 0, 0, 1].into(),
        node_name: Some(NodeName::parse("lab").expect("a name")),
        masters: vec![master.url.clone()],
        docker_host: engine.url(),
        docker_tls: DockerTls::default(),
        data_dir: data.path().to_owned(),
        secrets_dir: shef_integration_tests::cluster::SECRETS_DIR.into(),
        labels: [].into(),
        engine_concurrency: bound,
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
    };
    let began = Now::read().mono;
    let agent = start(config, EngineChoice::Docker).await.expect("the agent starts");
    master.until("a registration", |received| !received.registrations.is_empty()).await;
    let registered = (Now::read().mono - began).0;
    let all = assignments("web", 1, REPLICAS, &shell(BUSYBOX, OBEDIENT, 1));
    master.snapshot(1, &[]).await.expect("accepted");
    let reports = master.received().reports;
    let began = Now::read().mono;
    master.delta(1, &all, &[]).await.expect("accepted");
    let accepted = (Now::read().mono - began).0;
    master.until_all(&all, ReplicaState::Running).await;
    let made = (Now::read().mono - began).0;
    let reports = master.received().reports - reports;
    let began = Now::read().mono;
    master.delta(2, &[], &all).await.expect("accepted");
    master.until_all(&all, ReplicaState::Stopped).await;
    let removed = (Now::read().mono - began).0;
    eprintln!(
        "bound {bound}: registered in {registered} ms, push accepted in {accepted} ms, made in {made} ms, \
         removed in {removed} ms"
    );
    assert!(master.received().illegal.is_empty(), "{:?}", master.received().illegal);
    agent.stop().await;
    master.stop().await;
    (made, removed, reports)
}
