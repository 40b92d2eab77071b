//! Where replicas run, on real hosts: ports, zones, memory, hosts that join, data that stays.

use std::collections::BTreeMap;

use bollard::models::VolumeCreateRequest;
use serde_json::{Value, json};
use shef_integration_tests::lab::{
    engine::BUSYBOX,
    lan::{LanLab, Plan},
    shef::{binary, busybox},
    wait::until,
};

use crate::common::host_is;

/// A lab of hosts in these zones; `joined` of them are there, the agents of others are not started.
async fn lab(zones: &[&str], joined: usize) -> LanLab {
    let mut lan = LanLab::prepare(&Plan::hosts(zones.len())).await.unwrap();
    for (host, zone) in lan.hosts.iter_mut().zip(zones) {
        host.agent.process.set("SHEF_AGENT_LABELS", format!("zone={zone}"));
    }
    lan.master.start().await;
    lan.hosts[..joined].iter_mut().for_each(|host| host.agent.process.start());
    lan.master.hosts(joined).await;
    lan
}

/// The body of a service of the lab's image, with `more` in it.
fn spec(replicas: u32, more: Value) -> Value {
    let mut spec = busybox(replicas);
    spec["stop_grace_s"] = json!(0);
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// How many containers each host runs.
async fn counts(lan: &mut LanLab) -> Vec<usize> {
    let by_host: BTreeMap<_, _> = lan.by_host().await;
    by_host
        .values()
        .map(|containers| containers.values().filter(|seen| seen.state == "running").count())
        .collect()
}

/// Waits until something is missing in these words.
async fn says(lan: &LanLab, service: &str, words: &str) {
    let said =
        |answer: &shef_integration_tests::cluster::Answer| answer.body["missing"].to_string().contains(words);
    lan.master.api.until(&format!("/v1/services/{service}"), said).await;
}

/// What a command of the CLI prints.
async fn shef(lan: &LanLab, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new(binary());
    command.args(args.iter().take_while(|arg| **arg != "--")).args(["--api", &lan.master.api.url]);
    let ran = command.args(args.iter().skip_while(|arg| **arg != "--")).output().await.unwrap();
    assert!(ran.status.success(), "{args:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

async fn remove(lan: &LanLab, service: &str) {
    let gone = lan.master.api.call("DELETE", &format!("/v1/services/{service}?wait=60s"), Value::Null).await;
    assert_eq!(gone.status, 200, "{gone:?}");
}

#[actix::test]
async fn ports_zones_and_memory_decide_placement_and_say_what_is_lacking() {
    let mut lan = lab(&["a", "a", "b"], 3).await;

    // A published port is there once a host; the fourth replica waits, and the others are left alone.
    lan.master.deploy("web", spec(3, json!({"ports": [{"target": 80, "published": 8080}]}))).await;
    assert_eq!(counts(&mut lan).await, [1, 1, 1]);
    let before = lan.settled(&["web"]).await;
    let scaled = lan.master.api.call("PATCH", "/v1/services/web", json!({"replicas": 4})).await;
    assert_eq!(scaled.status, 200, "{scaled:?}");
    says(
        &lan,
        "web",
        "1 of 4 replicas have no host: no host can take the replica: 3 of 3 hosts have port 8080 taken",
    )
    .await;
    assert_eq!(lan.containers().await, before);
    remove(&lan, "web").await;

    // Zones get the same share, whatever number of hosts they have.
    lan.master.deploy("zoned", spec(4, json!({"placement": {"spread_over": "zone"}}))).await;
    assert_eq!(counts(&mut lan).await, [1, 1, 2]);
    remove(&lan, "zoned").await;

    // More memory than a host has is never reserved on it.
    let has = lan.master.api.get("/v1/nodes/h1").await.body["memory_bytes"].as_u64().unwrap();
    let reserve = json!({"resources": {"reserve": {"memory_bytes": has / 2 + 1}}});
    lan.master.deploy("big", spec(3, reserve)).await;
    assert_eq!(counts(&mut lan).await, [1, 1, 1]);
    lan.master.api.call("PATCH", "/v1/services/big", json!({"replicas": 4})).await;
    says(&lan, "big", "3 of 3 hosts lack").await;
    lan.master.api.call("POST", "/v1/nodes/h3/cordon", json!({})).await;
    let lacking = format!(
        "no host can take the replica: 1 of 3 hosts is cordoned, 2 lack {} bytes of memory",
        has / 2 + 1
    );
    says(&lan, "big", &lacking).await;
    assert_eq!(counts(&mut lan).await, [1, 1, 1]);
}

#[actix::test]
async fn a_global_service_follows_joining_hosts_and_data_holds_its_replica() {
    let mut lan = lab(&["a", "a", "a"], 2).await;
    let mut everywhere = spec(1, json!({"mode": "global"}));
    everywhere.as_object_mut().unwrap().remove("replicas");
    lan.master.deploy("logs", everywhere).await;
    assert_eq!(counts(&mut lan).await, [1, 1, 0]);
    lan.hosts[2].agent.process.start();
    until("one runs on the host that has joined", async || {
        (counts(&mut lan).await == [1, 1, 1]).then_some(())
    })
    .await;

    // What is written is on one host alone.
    let script = "echo started >> /data/log; exec sleep 1000000";
    let db = json!({
        "image": BUSYBOX, "command": ["sh", "-c", script], "stop_grace_s": 0,
        "mounts": [{"type": "volume", "source": "db", "target": "/data"}],
    });
    lan.master.deploy("db", db).await;
    let home =
        lan.master.service("db").await.unwrap()["replica_states"][0]["node"].as_str().unwrap().to_owned();
    lan.host_mut(&home).unwrap().lose();
    host_is(&lan, &home, "down").await;
    says(&lan, "db", &format!("waits for host {home}, which holds its volume data and is down")).await;
    // The others have been given new work since, and this one still waits.
    lan.master.deploy("other", spec(2, json!({}))).await;
    let all = lan.containers().await;
    assert!(all.keys().all(|name| !name.starts_with("db-")), "it was moved away from its data: {all:#?}");
    lan.host_mut(&home).unwrap().boot().await;
    lan.master.hosts(3).await;
    lan.master.running("db").await;
    assert_eq!(lan.master.service("db").await.unwrap()["replica_states"][0]["node"], home.as_str());
    assert_eq!(
        shef(&lan, &["exec", "db", "--", "cat", "/data/log"]).await,
        "started\nstarted\n",
        "its data is there"
    );
    until("one of the global service runs on every host again", async || {
        let all = lan.by_host().await;
        let one = |containers: &BTreeMap<String, _>| {
            containers.keys().filter(|name| name.starts_with("logs-")).count() == 1
        };
        all.values().all(one).then_some(())
    })
    .await;
}

#[actix::test]
async fn an_update_stays_with_its_data_which_can_be_given_up() {
    let mut lan = lab(&["a", "a"], 2).await;
    // Two of it at once would meet at its lock.
    let script = "mkdir /data/lock || { echo taken; exit 1; }; trap 'rmdir /data/lock; exit 0' TERM; echo \
                  started >> /data/log; while :; do sleep 1 & wait $!; done";
    let db = json!({
        "image": BUSYBOX, "command": ["sh", "-c", script], "replicas": 1, "stop_grace_s": 10,
        "update": {"monitor_ms": 0},
        "mounts": [{"type": "volume", "source": "db", "target": "/data"}],
    });
    lan.master.deploy("db", db).await;
    let home = async |lan: &LanLab| {
        let view = lan.master.service("db").await.unwrap();
        let wanted = view["replica_states"]
            .as_array()
            .unwrap()
            .iter()
            .find(|replica| replica["want"] == "run")
            .cloned();
        wanted.unwrap()["node"].as_str().unwrap().to_owned()
    };
    let first = home(&lan).await;
    for n in 1..=2 {
        let updated = lan
            .master
            .api
            .call("PATCH", "/v1/services/db?wait=60s", json!({"env": {"N": n.to_string()}}))
            .await;
        assert_eq!((updated.status, &updated.body["converged"]), (200, &json!(true)), "{updated:?}");
        assert_eq!(home(&lan).await, first);
    }
    assert_eq!(shef(&lan, &["exec", "db", "--", "cat", "/data/log"]).await, "started\nstarted\nstarted\n");

    lan.host_mut(&first).unwrap().lose();
    host_is(&lan, &first, "down").await;
    says(&lan, "db", "`shef service release db 0` gives the data up").await;
    shef(&lan, &["service", "release", "db", "0"]).await;
    let second = home(&lan).await;
    assert_ne!(second, first);
    assert_eq!(
        shef(&lan, &["exec", "db", "--", "cat", "/data/log"]).await,
        "started\n",
        "it begins with nothing"
    );
    // The old host comes back: what it ran goes, its volume stays, and nothing moves.
    lan.host_mut(&first).unwrap().boot().await;
    lan.master.hosts(2).await;
    assert_eq!(lan.settled(&["db"]).await.len(), 1);
    assert_eq!(home(&lan).await, second);
}

#[actix::test]
async fn a_volume_that_is_there_with_another_definition_is_told_at_its_replica() {
    let lan = lab(&["a"], 1).await;
    let docker = lan.hosts[0].socket().client();
    let there = VolumeCreateRequest { name: Some("db".to_owned()), ..Default::default() };
    docker.create_volume(there).await.unwrap();
    let mount = json!({"type": "volume", "source": "db", "target": "/data",
        "options": {"type": "tmpfs", "device": "tmpfs"}});
    lan.master.deploy("db", spec(1, json!({"mounts": [mount]}))).await;
    let warning = lan.master.service("db").await.unwrap()["replica_states"][0]["warning"].clone();
    assert!(warning.as_str().unwrap().ends_with("volumes db (it was made with other options)"), "{warning}");
    assert!(shef(&lan, &["ps", "db"]).await.contains("it was made with other options"));
}
