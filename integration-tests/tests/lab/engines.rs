//! A host that lives while its agent or its engine does not.

use rustix::process::Signal;
use serde_json::json;
use shef_integration_tests::{
    events::EventReader,
    lab::{
        engine::BUSYBOX,
        lan::{LanLab, Plan},
        shef::busybox,
        wait::until,
    },
};

use crate::common::host_is;

#[actix::test]
async fn a_host_whose_agent_died_is_told_apart_and_nothing_of_it_is_doubled() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    let before = lan.settled(&["web"]).await;
    lan.hosts[1].agent.process.kill();
    host_is(&lan, "h2", "agent_down").await;
    let unconfirmed =
        lan.master.api.until("/v1/services/web", |answer| answer.body["unconfirmed"] == 2).await;
    assert_eq!(unconfirmed.body["running"], 6, "nobody knows better: {unconfirmed:?}");
    lan.master.deploy("new", busybox(2)).await;
    let by_host = lan.by_host().await;
    assert!(
        by_host["h2"].len() == 2 && by_host["h2"].keys().all(|name| name.starts_with("web-")),
        "{by_host:#?}"
    );
    lan.hosts[1].agent.process.start();
    lan.master.hosts(3).await;
    // One that hangs is found by the same sign: connections are taken, nobody answers.
    lan.hosts[2].agent.process.signal(Signal::STOP);
    host_is(&lan, "h3", "agent_down").await;
    lan.hosts[2].agent.process.signal(Signal::CONT);
    lan.master.hosts(3).await;
    let after = lan.settled(&["web", "new"]).await;
    assert_eq!(after.len(), 8);
    assert!(before.iter().all(|(name, seen)| after.get(name) == Some(seen)), "nothing was replaced");
}

#[actix::test]
async fn a_host_with_a_dead_engine_is_recognised_and_its_containers_return() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    let before = lan.settled(&["web"]).await;
    lan.hosts[1].kill_engine();
    host_is(&lan, "h2", "engine_down").await;
    lan.master.deploy("new", busybox(2)).await;
    assert_eq!(lan.containers().await.len(), 6, "four of web's on the others, and the two new ones");
    lan.hosts[1].start_engine().await;
    lan.master.hosts(3).await;
    let after = lan.settled(&["web", "new"]).await;
    assert_eq!(after.len(), 8);
    assert!(before.keys().all(|name| after.contains_key(name)), "nothing was replaced");
}

#[actix::test]
async fn a_host_that_answers_with_nothing_running_is_down_after_a_time() {
    let mut lan =
        LanLab::start(&Plan::hosts(3).with("SHEF_MASTER_UNANSWERED_DOWN_AFTER_MS", 3_000)).await.unwrap();
    let spec = json!({
        "image": BUSYBOX, "replicas": 3, "command": ["httpd", "-f", "-p", "80"], "ports": [{ "target": 80 }],
        "update": { "monitor_ms": 100 },
    });
    lan.master.deploy("web", spec).await;
    // One on each host that publishes nothing.
    lan.master.deploy("worker", busybox(3)).await;
    assert_eq!(lan.settled(&["web", "worker"]).await.len(), 6);
    // Ports that were never reached say nothing.
    let is_reached = |line: &str| line.contains("ports tried node=h2 ") && line.contains("outcome=Open");
    let said = async || lan.master.process.said().lines().any(is_reached).then_some(());
    until("the master reaches the published port of h2", said).await;
    let mut events = EventReader::open(&lan.master.api, "?host=h2", None).await;
    lan.hosts[1].end_everything();
    let seen = events.until(|event| event["event"] == "host_state" && event["state"] == "down").await;
    let states: Vec<&str> = seen
        .iter()
        .filter(|event| event["event"] == "host_state")
        .map(|event| event["state"].as_str().unwrap())
        .collect();
    assert_eq!(states[states.len() - 2..], ["agent_down", "down"], "{seen:#?}");
    let node = lan.master.api.get("/v1/nodes/h2").await;
    let why = "its agent does not answer, and neither does any published port of its replicas";
    assert_eq!(node.body["reason"], why, "{node:?}");
    let replaced = lan.master.api.until("/v1/services/web", |answer| {
        answer.body["running"] == 3 && answer.body["unconfirmed"].is_null()
    });
    replaced.await;
    lan.hosts[1].boot().await;
    lan.master.hosts(3).await;
    assert_eq!(lan.settled(&["web", "worker"]).await.len(), 6);
}
