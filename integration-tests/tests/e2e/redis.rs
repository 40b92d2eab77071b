//! The state in a real Redis that dies, comes back and is emptied.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shef_integration_tests::{
    cluster::Answer,
    lab::{
        redis::{LabRedis, PASSWORD},
        shef::{HostLab, Master, busybox},
        wait::until,
    },
};

/// The database that the master is told to use.
const DATABASE: u32 = 5;

async fn site(redis: &LabRedis) -> HostLab {
    let settings = [
        ("SHEF_REDIS_URL", redis.url()),
        ("SHEF_REDIS_PASSWORD", PASSWORD.to_owned()),
        ("SHEF_REDIS_DATABASE", DATABASE.to_string()),
        ("SHEF_REDIS_PREFIX", "lab".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    HostLab::start(1, &settings).await
}

fn is_later(answer: &Answer) -> bool {
    answer.status == 503
        && answer.retry_after.as_deref().is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|s| s >= 1))
}

#[actix::test]
async fn while_redis_is_away_reads_go_on_writes_wait_and_nothing_is_lost() {
    let mut redis = LabRedis::start().await;
    let mut site = site(&redis).await;
    let (master, engine) = (&site.master, &site.engines[0]);
    master.deploy("web", busybox(2)).await;
    let before = site.settled(&["web"]).await;
    let keys: BTreeSet<String> = redis.run(DATABASE, &["KEYS", "*"]);
    assert_eq!(
        keys,
        ["lab:changes", "lab:store"].map(str::to_owned).into(),
        "the records and the change log"
    );
    assert_eq!(redis.run::<u32>(0, &["DBSIZE"]), 0, "no other database is touched");

    redis.process.kill();
    // The first write finds out; from then on nothing waits.
    let refused = master.api.call("PUT", "/v1/services/web", busybox(3)).await;
    assert!(is_later(&refused) && refused.content_type == "application/problem+json", "{refused:?}");
    assert_eq!((&refused.body["code"], &refused.body["status"]), (&json!("store_unavailable"), &json!(503)));
    let refused = master.api.call("POST", "/service", json!({ "serviceName": "new", "image": "x" })).await;
    assert!(is_later(&refused) && refused.content_type == "application/json", "{refused:?}");
    assert!(refused.body["error"].is_string() && refused.body.as_object().unwrap().len() == 1, "{refused:?}");
    let unready = master.api.until("/readyz", |answer| answer.status == 503).await;
    assert!(is_later(&unready), "{unready:?}");
    for path in [
        "/v1/services",
        "/v1/services/web",
        "/v1/nodes",
        "/v1/stats",
        "/state",
        "/stats",
        "/healthz",
        "/service?serviceName=web",
    ] {
        assert_eq!(master.api.get(path).await.status, 200, "{path}");
    }
    assert_eq!(master.service("web").await.unwrap()["replicas"], 2);
    assert_eq!(engine.managed().await, before);
    let legacy_delete = master.api.call("DELETE", "/service", json!({ "serviceName": "web" })).await;
    assert!(is_later(&legacy_delete), "{legacy_delete:?}");

    // It comes back with its file, and writes work by themselves.
    redis.boot().await;
    master.api.until("/readyz", |answer| answer.status == 200).await;
    master.deploy("web", busybox(3)).await;
    let three = site.settled(&["web"]).await;
    assert!(three.len() == 3 && before.iter().all(|(name, seen)| three.get(name) == Some(seen)));

    // All three die at once; what was acknowledged is there.
    redis.process.kill();
    site.master.process.kill();
    site.agents[0].process.kill();
    site.master.process.start();
    site.agents[0].process.start();
    redis.boot().await;
    site.master.answers().await;
    site.master.hosts(1).await;
    assert_eq!(site.settled(&["web"]).await, three);

    let said = [site.master.process.said(), site.agents[0].process.said()].concat();
    assert!(said.contains("DEBUG"), "it did log at debug");
    for secret in [PASSWORD, "rd-of-the-lab"] {
        assert!(!said.contains(secret), "the password is in a log");
    }
}

#[actix::test]
async fn a_second_master_deposes_the_first_which_then_writes_nothing_more() {
    let redis = LabRedis::start().await;
    let mut site = site(&redis).await;
    site.master.deploy("web", busybox(2)).await;
    let before = site.settled(&["web"]).await;
    let dir = tempfile::tempdir().unwrap();
    let database = DATABASE.to_string();
    let settings = [
        ("SHEF_REDIS_URL", redis.url()),
        ("SHEF_REDIS_PASSWORD", PASSWORD.to_owned()),
        ("SHEF_REDIS_DATABASE", database),
        ("SHEF_REDIS_PREFIX", "lab".to_owned()),
    ];
    let mut second =
        Master::new(dir.path(), &settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    second.start().await;
    assert_eq!(second.service("web").await.unwrap()["replicas"], 2);

    let refused = site.master.api.call("PUT", "/v1/services/web", busybox(3)).await;
    assert!(is_later(&refused) && refused.body["code"] == "not_leader", "{refused:?}");
    let refused =
        site.master.api.call("PUT", "/service", json!({ "serviceName": "web", "replicas": 3 })).await;
    assert!(is_later(&refused), "{refused:?}");
    assert_eq!(site.master.api.get("/v1/services/web").await.status, 200, "it goes on answering reads");

    // The host follows the second as soon as it has registered there, and then refuses the first one's
    // orders.
    site.agents[0].process.kill();
    site.agents[0].process.set("SHEF_AGENT_MASTERS", second.address);
    site.agents[0].process.start();
    second.hosts(1).await;
    second.deploy("web", busybox(3)).await;
    let now = site.containers().await;
    assert!(now.len() == 3 && before.iter().all(|(name, seen)| now.get(name) == Some(seen)), "{now:?}");
    assert!(is_later(&site.master.api.call("DELETE", "/v1/services/web", json!({})).await));
    assert_eq!(site.containers().await, now);
}

fn replicas(view: &Value) -> usize {
    view["replica_states"].as_array().map_or(0, Vec::len)
}

#[actix::test]
async fn an_emptied_redis_deletes_nothing_and_gets_everything_back() {
    let redis = LabRedis::start().await;
    let mut site = site(&redis).await;
    site.master.deploy("web", busybox(3)).await;
    site.master.deploy("db", busybox(1)).await;
    let before = site.settled(&["db", "web"]).await;
    let stored = |redis: &LabRedis| redis.run::<Vec<String>>(DATABASE, &["HKEYS", "lab:store"]);
    let services = |redis: &LabRedis| {
        let mut fields = stored(redis);
        fields.retain(|field| field.contains('/'));
        fields.sort();
        fields
    };
    let of = |service: &str| ["", "/slots/0", "/template/1"].map(|part| format!("service/{service}{part}"));
    let all = [vec!["node/h1".to_owned()], of("db").into(), of("web").into()].concat();
    assert_eq!(services(&redis), all);

    // Under a running master: the next look or write gives it back.
    let _: String = redis.run(0, &["FLUSHALL"]);
    until("the store is given back", async || (services(&redis) == all).then_some(())).await;
    let _: String = redis.run(0, &["FLUSHALL"]);
    site.master.deploy("web", busybox(4)).await;
    let four = site.settled(&["db", "web"]).await;
    assert!(before.iter().all(|(name, seen)| four.get(name) == Some(seen)), "nothing was touched");
    assert_eq!(services(&redis), all);

    // While no master is there: services come back from what the host holds.
    site.master.process.kill();
    let _: String = redis.run(0, &["FLUSHALL"]);
    site.master.start().await;
    site.master.hosts(1).await;
    assert_eq!(site.settled(&["db", "web"]).await, four);
    assert_eq!(replicas(&site.master.service("web").await.unwrap()), 4);
    until("it is all stored again", async || (services(&redis) == all).then_some(())).await;
}
