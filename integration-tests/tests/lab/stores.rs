//! Stores that go away, lose what they had, or have no room.

use serde_json::json;
use shef_integration_tests::lab::{
    lan::{LanLab, Plan},
    shef::busybox,
    wait::until,
};

async fn on_redis() -> LanLab {
    LanLab::start(&Plan { redis: true, ..Plan::hosts(2) }).await.unwrap()
}

#[actix::test]
async fn while_redis_is_dead_writes_are_refused_and_what_runs_runs_on() {
    let mut lan = on_redis().await;
    lan.master.deploy("web", busybox(4)).await;
    let before = lan.settled(&["web"]).await;
    lan.redis.as_mut().unwrap().process.kill();
    let refused = lan.master.api.call("PATCH", "/v1/services/web", json!({ "replicas": 6 })).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("store_unavailable")), "{refused:?}");
    assert_eq!(lan.master.service("web").await.expect("reads go on")["running"], 4);
    lan.redis.as_mut().unwrap().boot().await;
    until("writes are taken again", async || {
        let answer = lan.master.api.call("PATCH", "/v1/services/web", json!({ "replicas": 6 })).await;
        (answer.status < 300).then_some(())
    })
    .await;
    let after = lan.settled(&["web"]).await;
    assert!(
        after.len() == 6 && before.iter().all(|(name, seen)| after.get(name) == Some(seen)),
        "{after:#?}"
    );
}

#[actix::test]
async fn a_redis_that_was_wiped_is_given_back_what_it_held() {
    let mut lan = on_redis().await;
    lan.master.deploy("web", busybox(4)).await;
    let before = lan.settled(&["web"]).await;
    lan.wipe_store().unwrap();
    lan.master.deploy("new", busybox(2)).await;
    // Whether it was is seen by a master that knows nothing else.
    lan.master.process.kill();
    lan.master.start().await;
    lan.master.hosts(2).await;
    let after = lan.settled(&["web", "new"]).await;
    assert!(
        after.len() == 6 && before.iter().all(|(name, seen)| after.get(name) == Some(seen)),
        "{after:#?}"
    );
}

#[actix::test]
async fn a_redis_that_lost_its_latest_writes_gets_them_back() {
    let mut lan = on_redis().await;
    lan.master.deploy("web", busybox(2)).await;
    let earlier = lan.redis.as_ref().unwrap().copy_of_disk();
    lan.master.deploy("web", busybox(4)).await;
    lan.master.deploy("new", busybox(2)).await;
    let before = lan.settled(&["web", "new"]).await;
    let redis = lan.redis.as_mut().unwrap();
    redis.process.kill();
    redis.go_back_to(&earlier);
    redis.boot().await;
    // The master notices with its next writes, and gives back what is missing.
    until("a write is taken", async || {
        let answer = lan.master.api.call("PUT", "/v1/services/later?wait=60s", busybox(1)).await;
        (answer.body["converged"] == true).then_some(())
    })
    .await;
    let after = lan.settled(&["web", "new", "later"]).await;
    assert!(
        after.len() == 7 && before.iter().all(|(name, seen)| after.get(name) == Some(seen)),
        "{after:#?}"
    );
}

#[actix::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let mut lan = LanLab::start(&Plan { disk_mb: Some(8), ..Plan::hosts(2) }).await.unwrap();
    lan.master.deploy("web", busybox(2)).await;
    lan.fill_disk().unwrap();
    // What the file has room for inside may still be taken.
    let mut taken = vec!["web".to_owned()];
    let refused = until("a write finds no room", async || {
        let name = format!("more-{}", taken.len());
        let spec =
            json!({ "image": "shef-lab/busybox:1", "replicas": 0, "env": { "PADDING": "x".repeat(20_000) } });
        let answer = lan.master.api.call("PUT", &format!("/v1/services/{name}"), spec).await;
        if answer.status >= 300 {
            return Some((name, answer));
        }
        taken.push(name);
        None
    })
    .await;
    let (name, answer) = refused;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("store_unavailable")), "{answer:?}");
    assert!(lan.master.service(&name).await.is_none(), "what was refused is not there");
    assert_eq!(lan.containers().await.len(), 2, "what runs runs on");
    lan.free_disk().unwrap();
    until("writes are taken again", async || {
        let answer = lan.master.api.call("PUT", "/v1/services/web?wait=60s", busybox(4)).await;
        (answer.body["converged"] == true).then_some(())
    })
    .await;
    // What was acknowledged is there after a restart too.
    lan.master.process.kill();
    lan.master.start().await;
    lan.master.hosts(2).await;
    assert_eq!(lan.settled(&["web"]).await.len(), 4);
    for name in &taken {
        assert!(lan.master.service(name).await.is_some(), "{name} was acknowledged");
    }
}

#[actix::test]
async fn a_master_whose_file_is_gone_takes_over_what_the_hosts_bring() {
    let mut lan = LanLab::start(&Plan::hosts(2)).await.unwrap();
    lan.master.deploy("web", busybox(4)).await;
    let before = lan.settled(&["web"]).await;
    assert!(lan.wipe_store().unwrap_err().contains("kill the master first"));
    lan.master.process.kill();
    lan.wipe_store().unwrap();
    lan.master.start().await;
    lan.master.hosts(2).await;
    assert_eq!(lan.settled(&["web"]).await, before);
}
