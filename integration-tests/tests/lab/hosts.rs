//! Hosts and masters that are lost.

use rustix::process::Signal;
use serde_json::json;
use shef_integration_tests::lab::{
    lan::{Lan, Plan},
    shef::busybox,
    wait::until,
};

#[actix::test]
async fn what_ran_on_a_lost_host_runs_elsewhere_and_its_return_leaves_the_exact_count() {
    let mut lan = Lan::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(9)).await;
    let before = lan.by_host().await;
    assert!(before.values().all(|containers| containers.len() == 3), "{before:#?}");
    lan.hosts[1].lose();
    lan.master.api.until("/v1/nodes/h2", |answer| answer.body["state"] == "down").await;
    until("nine run on the two that are left", async || {
        let now = lan.by_host().await;
        (now.values().flatten().filter(|(_, seen)| seen.state == "running").count() == 9).then_some(())
    })
    .await;
    lan.master.running("web").await;
    let moved = lan.by_host().await;
    for host in ["h1", "h3"] {
        assert!(before[host].iter().all(|(name, seen)| moved[host].get(name) == Some(seen)), "what ran on {host} was left alone");
    }
    lan.hosts[1].boot().await;
    lan.master.hosts(3).await;
    let after = lan.settled(&["web"]).await;
    assert!(moved.values().flatten().all(|(name, seen)| after.get(name) == Some(seen)), "the replacements stay");
}
