//! What operators do while everything runs.

use std::collections::BTreeSet;

use serde_json::json;
use shef_integration_tests::lab::{
    lan::{Cut, LanLab, Plan},
    shef::busybox,
    wait::until,
};

use crate::common::{host_is, running_on};

#[actix::test]
async fn while_a_host_is_drained_under_load_never_fewer_run_than_wanted() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(9)).await;
    lan.settled(&["web"]).await;
    let answer = lan.master.api.call("POST", "/v1/nodes/h2/drain", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut changes = 0_u32;
    until("h2 is empty", async || {
        // The drained host first: what is gone from there ran elsewhere before.
        let drained = lan.host("h2").unwrap().socket().managed().await;
        let by_host = lan.by_host().await;
        let others = by_host.iter().filter(|(host, _)| *host != "h2").flat_map(|(_, containers)| containers);
        let running =
            others.chain(&drained).filter(|(name, seen)| name.starts_with("web-") && seen.state == "running");
        let runs = running.map(|(name, _)| name).collect::<BTreeSet<_>>().len();
        assert!(runs >= 9, "{runs} of 9 run: {drained:#?} {by_host:#?}");
        // Others want something all the while.
        changes += 1;
        let other = lan.master.api.call("PUT", "/v1/services/other", busybox(1 + changes % 3)).await;
        assert!(other.status < 300, "{other:?}");
        by_host["h2"].is_empty().then_some(())
    })
    .await;
    let after = lan.settled(&["web", "other"]).await;
    assert_eq!(after.keys().filter(|name| name.starts_with("web-")).count(), 9);
    assert!(lan.by_host().await["h2"].is_empty(), "a drained host is given nothing");
    let answer = lan.master.api.call("POST", "/v1/nodes/h2/activate", json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    lan.master.deploy("new", busybox(2)).await;
    assert!(!lan.by_host().await["h2"].is_empty(), "an active one is");
    lan.settled(&["web", "other", "new"]).await;
}

#[actix::test]
async fn when_too_many_hosts_go_nothing_is_replaced_until_told_so() {
    let mut lan = LanLab::start(&Plan::hosts(4)).await.unwrap();
    lan.master.deploy("web", busybox(8)).await;
    let before = lan.settled(&["web"]).await;
    let away = ["h2", "h3", "h4"];
    away.iter().for_each(|host| lan.cut(host, Cut::Both).unwrap());
    for host in away {
        assert_eq!(host_is(&lan, host, "down").await["held"], true, "{host}");
    }
    assert_eq!(lan.by_host().await["h1"].len(), 2, "nothing is replaced");
    // They come back: nothing has happened.
    away.iter().for_each(|host| lan.heal(host).unwrap());
    lan.master.hosts(4).await;
    assert_eq!(lan.settled(&["web"]).await, before);
    lan.master.api.until("/v1/cluster", |answer| answer.body["brake"]["on"] == false).await;

    away.iter().for_each(|host| lan.cut(host, Cut::Both).unwrap());
    lan.master.api.until("/v1/cluster", |answer| answer.body["brake"]["on"] == true).await;
    for host in away {
        host_is(&lan, host, "down").await;
    }
    let answer = lan.master.api.call("POST", "/v1/cluster/resume", json!({})).await;
    assert!(answer.status < 300, "{answer:?}");
    running_on(&mut lan, &["h1"], 8).await;
    away.iter().for_each(|host| lan.heal(host).unwrap());
    lan.master.hosts(4).await;
    assert_eq!(lan.settled(&["web"]).await.len(), 8);
}
