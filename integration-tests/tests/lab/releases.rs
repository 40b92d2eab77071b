//! Hosts with engines of several versions. These tests need what `.ci/releases`
//! unpacks: .ci/test runs them where it is there, and says so where it is not.

use shef_integration_tests::lab::{
    lan::{LanLab, Plan},
    release::Release,
    shef::busybox,
};

use crate::common::{host_is, nothing_is_wanted_on, running_on};

/// Docker 20, 26 and 28; 26 twice where the machine's own engine is newer than 20.
fn releases() -> Vec<Release> {
    let oldest = Release::named("engine-20").or_else(|_| Release::named("engine-26"));
    [oldest, Release::named("engine-26"), Release::named("engine-28")]
        .map(|release| release.expect("a release"))
        .into()
}

#[actix::test]
async fn hosts_with_engines_of_several_versions_are_one_cluster() {
    let mut lan = LanLab::start(&Plan { engines: releases(), ..Plan::hosts(3) }).await.unwrap();
    for host in &lan.hosts {
        let shown = lan.master.api.get(&format!("/v1/nodes/{}", host.name)).await.body;
        assert!(shown["engine_version"].as_str().unwrap().starts_with(host.release.version()), "{shown:#}");
    }
    lan.master.deploy("web", busybox(9)).await;
    let before = lan.by_host().await;
    assert!(before.values().all(|containers| containers.len() == 3), "{before:#?}");

    // What ran on a lost host runs on engines of other versions, and its return leaves the exact count.
    for (lost, others) in [("h3", ["h1", "h2"]), ("h1", ["h2", "h3"])] {
        lan.host_mut(lost).unwrap().lose();
        host_is(&lan, lost, "down").await;
        running_on(&mut lan, &others, 9).await;
        lan.master.running("web").await;
        nothing_is_wanted_on(&lan, lost, "web").await;
        lan.host_mut(lost).unwrap().boot().await;
        lan.master.hosts(3).await;
        assert_eq!(lan.settled(&["web"]).await.len(), 9);
    }

    // An engine that crashes finds its containers again, whatever its version.
    let before = lan.settled(&["web"]).await;
    for n in 0..3 {
        lan.hosts[n].kill_engine();
        host_is(&lan, &format!("h{}", n + 1), "engine_down").await;
        lan.hosts[n].start_engine().await;
        lan.master.hosts(3).await;
    }
    let after = lan.settled(&["web"]).await;
    assert!(after.keys().eq(before.keys()), "nothing was replaced: {before:#?} {after:#?}");
}
