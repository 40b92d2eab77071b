//! Hosts and masters that are lost.

use shef_integration_tests::{
    cluster::Api,
    lab::{
        lan::{Cut, LanLab, Plan},
        shef::busybox,
        wait::until,
    },
};

use crate::common::{host_is, nothing_is_wanted_on, running_on};

#[actix::test]
async fn what_a_lost_host_ran_runs_elsewhere_and_its_return_doubles_nothing() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(9)).await;
    let before = lan.by_host().await;
    assert!(before.values().all(|containers| containers.len() == 3), "{before:#?}");
    lan.hosts[1].lose();
    host_is(&lan, "h2", "down").await;
    running_on(&mut lan, &["h1", "h3"], 9).await;
    lan.master.running("web").await;
    let moved = lan.by_host().await;
    for host in ["h1", "h3"] {
        assert!(
            before[host].iter().all(|(name, seen)| moved[host].get(name) == Some(seen)),
            "what ran on {host} was left alone"
        );
    }
    nothing_is_wanted_on(&lan, "h2", "web").await;
    lan.hosts[1].boot().await;
    lan.master.hosts(3).await;
    let after = lan.settled(&["web"]).await;
    assert!(
        moved.values().flatten().all(|(name, seen)| after.get(name) == Some(seen)),
        "the replacements stay"
    );
    assert_eq!(lan.called_down(), 1);
    // From now on it takes its share again.
    lan.master.deploy("new", busybox(9)).await;
    lan.settled(&["web", "new"]).await;
    assert!(lan.by_host().await["h2"].len() >= 3);
}

#[actix::test]
async fn a_host_that_was_cut_off_goes_on_running_and_is_cleaned_when_it_returns() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    lan.master.deploy("old", busybox(3)).await;
    lan.cut("h2", Cut::Both).unwrap();
    host_is(&lan, "h2", "down").await;
    running_on(&mut lan, &["h1", "h3"], 9).await;
    assert_eq!(lan.by_host().await["h2"].len(), 3, "what cannot be told to stop runs on");
    // A service is deleted meanwhile.
    let deleted = lan.master.api.call("DELETE", "/v1/services/old", serde_json::Value::Null).await;
    assert!(deleted.status < 300, "{deleted:?}");
    running_on(&mut lan, &["h1", "h3"], 6).await;
    nothing_is_wanted_on(&lan, "h2", "web").await;
    let shown = lan.master.service("old").await.expect("it is shown until the last container is gone");
    assert!(shown["state"] == "deleting" && shown["missing"].to_string().contains("h2"), "{shown:#}");
    lan.heal("h2").unwrap();
    until("h2 is clean", async || lan.by_host().await["h2"].is_empty().then_some(())).await;
    let gone = async || lan.master.service("old").await.is_none().then_some(());
    until("the deleted service is no longer shown", gone).await;
    assert_eq!(lan.settled(&["web"]).await.len(), 6);
}

#[actix::test]
async fn a_master_killed_in_the_middle_of_creating_30_ends_with_exactly_30() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    let asked = lan.master.api.call("PUT", "/v1/services/web", busybox(30)).await;
    assert_eq!(asked.status, 201, "{asked:?}");
    until("some are there", async || (lan.containers().await.len() >= 5).then_some(())).await;
    lan.master.process.kill();
    let meanwhile = lan.containers().await;
    lan.master.start().await;
    lan.master.hosts(3).await;
    let after = lan.settled(&["web"]).await;
    assert_eq!(after.len(), 30);
    assert!(meanwhile.keys().all(|name| after.contains_key(name)), "what was there was not made anew");
}

#[actix::test]
async fn a_host_lost_with_the_master_is_replaced_once_the_master_is_back() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(9)).await;
    lan.master.process.kill();
    lan.hosts[1].lose();
    assert_eq!(lan.containers().await.len(), 6, "the others run on without a master");
    lan.master.start().await;
    host_is(&lan, "h2", "down").await;
    running_on(&mut lan, &["h1", "h3"], 9).await;
    lan.hosts[1].boot().await;
    lan.master.hosts(3).await;
    assert_eq!(lan.settled(&["web"]).await.len(), 9);
}

#[actix::test]
async fn a_master_that_was_lost_with_a_host_replaces_nothing_on_their_return() {
    let plan = Plan { master_on: Some(1), ..Plan::hosts(2) };
    let mut lan = LanLab::start(&plan).await.unwrap();
    lan.master.deploy("web", busybox(4)).await;
    let before = lan.settled(&["web"]).await;
    lan.master.process.kill();
    lan.hosts[0].lose();
    lan.hosts[0].boot().await;
    // Connections of before the cut are not used again.
    lan.master.api = Api::new(lan.master.address);
    lan.master.start().await;
    lan.master.hosts(2).await;
    let after = lan.settled(&["web"]).await;
    assert!(after.keys().eq(before.keys()), "each replica has kept its container: {before:#?} {after:#?}");
}

#[actix::test]
async fn a_host_that_flaps_gets_nothing_new_and_says_why() {
    let mut lan = LanLab::start(&Plan::hosts(2)).await.unwrap();
    for _ in 0..3 {
        lan.cut("h2", Cut::Both).unwrap();
        host_is(&lan, "h2", "down").await;
        lan.heal("h2").unwrap();
        host_is(&lan, "h2", "ready").await;
    }
    let shown = lan.master.api.until("/v1/nodes/h2", |answer| answer.body["flapping"] == true).await.body;
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("down")), "{shown:#}");
    lan.master.deploy("web", busybox(4)).await;
    assert_eq!(lan.settled(&["web"]).await.len(), 4);
    let by_host = lan.by_host().await;
    assert_eq!((by_host["h1"].len(), by_host["h2"].len()), (4, 0));
}

#[actix::test]
async fn a_host_that_comes_back_keeps_what_was_not_replaced() {
    let mut lan = LanLab::start(&Plan::hosts(1)).await.unwrap();
    lan.master.deploy("web", busybox(4)).await;
    let before = lan.settled(&["web"]).await;
    lan.cut("h1", Cut::Both).unwrap();
    host_is(&lan, "h1", "down").await;
    // There is nowhere else to go.
    let service =
        lan.master.api.until("/v1/services/web", |answer| answer.body["state"] == "pending").await.body;
    assert!(
        service["replica_states"].as_array().unwrap().iter().all(|r| r["host_down"] == true),
        "{service:#}"
    );
    // What is asked meanwhile is taken, and done when the host is back.
    let answer = lan.master.api.call("PATCH", "/v1/services/web", serde_json::json!({ "replicas": 5 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    lan.heal("h1").unwrap();
    lan.master.hosts(1).await;
    let after = lan.settled(&["web"]).await;
    assert!(
        after.len() == 5 && before.iter().all(|(name, seen)| after.get(name) == Some(seen)),
        "{before:#?} {after:#?}"
    );
}

#[actix::test]
async fn a_returning_host_keeps_what_could_not_be_replaced() {
    let mut lan = LanLab::start(&Plan::hosts(2)).await.unwrap();
    lan.master.deploy("web", busybox(2)).await;
    let before = lan.settled(&["web"]).await;
    let cordoned = lan.master.api.call("POST", "/v1/nodes/h1/cordon", serde_json::json!({})).await;
    assert_eq!(cordoned.status, 200, "{cordoned:?}");
    lan.cut("h2", Cut::Both).unwrap();
    host_is(&lan, "h2", "down").await;
    let failed =
        lan.master.api.until("/v1/services/web", |answer| answer.body["state"] == "pending").await.body;
    assert!(failed["missing"].to_string().contains("h2"), "{failed:#}");
    assert_eq!(lan.containers().await, before, "it runs on, though its host is down");
    lan.heal("h2").unwrap();
    lan.master.hosts(2).await;
    assert_eq!(lan.settled(&["web"]).await, before);
}
