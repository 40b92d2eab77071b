//! Cuts that are not clean: one way, one pair of hosts, a share of the packets.

use std::time::Duration;

use shef_integration_tests::lab::{
    lan::{Cut, LanLab, Plan},
    shef::busybox,
};

use crate::common::{host_is, running_on};

#[actix::test]
async fn a_host_cut_off_one_way_is_replaced_and_returns_to_the_exact_count() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    for (host, others, way) in [("h2", ["h1", "h3"], Cut::Incoming), ("h3", ["h1", "h2"], Cut::Outgoing)] {
        lan.cut(host, way).unwrap();
        host_is(&lan, host, "down").await;
        running_on(&mut lan, &others, 6).await;
        lan.heal(host).unwrap();
        lan.master.hosts(3).await;
        assert_eq!(lan.settled(&["web"]).await.len(), 6, "{way:?}");
    }
}

#[actix::test]
async fn a_host_that_only_the_master_misses_is_suspect_and_keeps_replicas() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    let before = lan.settled(&["web"]).await;
    for cut in [Cut::Master, Cut::Reports] {
        lan.cut("h2", cut).unwrap();
        let seen = |answer: &shef_integration_tests::cluster::Answer| {
            answer.body["state"] == "suspect"
                && answer.body["reason"].as_str().is_some_and(|why| why.contains("answers probes"))
        };
        lan.master.api.until("/v1/nodes/h2", seen).await;
        // What comes meanwhile goes to the others.
        lan.master.deploy("new", busybox(2)).await;
        let by_host = lan.by_host().await;
        assert!(by_host["h2"].keys().all(|name| name.starts_with("web-")), "{cut:?}: {by_host:#?}");
        assert_eq!(lan.master.api.get("/v1/nodes/h2").await.body["state"], "suspect", "{cut:?}");
        lan.heal("h2").unwrap();
        lan.master.hosts(3).await;
        let after = lan.settled(&["web", "new"]).await;
        assert!(
            before.iter().all(|(name, seen)| after.get(name) == Some(seen)),
            "{cut:?}: nothing was replaced"
        );
        lan.master.api.call("DELETE", "/v1/services/new?wait=60s", serde_json::Value::Null).await;
    }
}

#[actix::test]
async fn lost_packets_and_delays_make_no_host_down() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.lose_packets("h1", 5.0).unwrap();
    lan.lose_packets("h2", 5.0).unwrap();
    lan.delay("h3", Duration::from_millis(200)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    // Each change is a report more that has to get through.
    for replicas in [9, 3, 9, 3, 6] {
        lan.master.deploy("web", busybox(replicas)).await;
    }
    for host in ["h1", "h2", "h3"] {
        lan.heal(host).unwrap();
    }
    lan.master.hosts(3).await;
    assert_eq!(lan.settled(&["web"]).await.len(), 6);
    assert_eq!(lan.called_down(), 0);
}
