//! Updates on real hosts: what fails goes back by itself, and what is under way
//! survives the master and its hosts.

use std::time::Duration;

use serde_json::{Value, json};
use shef_integration_tests::lab::{
    lan::{LanLab, Plan},
    shef::binary,
    wait::until_within,
};

const REPLICAS: usize = 9;
/// How long a rollback may take, retries of pulls included.
const LIMIT: Duration = Duration::from_secs(90);

/// A lab of three hosts that have the workload's image.
pub async fn with_workload(plan: &Plan) -> LanLab {
    let lan = LanLab::start(plan).await.unwrap();
    for host in &lan.hosts {
        let mut make = tokio::process::Command::new(binary());
        make.args(["workload-image", "--tag", "lab/workload:1", "--docker-host", host.socket().url()]);
        assert!(make.status().await.unwrap().success());
    }
    lan
}

fn spec(version: u32, variables: &[(&str, &str)]) -> Value {
    let mut env = json!({"VERSION": version.to_string()});
    for (name, value) in variables {
        env[*name] = json!(value);
    }
    json!({
        "image": "lab/workload:1",
        "replicas": REPLICAS,
        "env": env,
        "health": {"test": {"http": {"port": 8080, "path": "/health"}}, "interval_ms": 300, "retries": 2},
        "update": {"order": "start-first", "parallelism": 3, "monitor_ms": 2000, "deadline_ms": 10000},
        "stop_grace_s": 2,
    })
}

async fn deployed(lan: &mut LanLab) {
    let first = lan.master.api.call("PUT", "/v1/services/web?wait=60s", spec(1, &[])).await;
    assert!(first.status == 201 && first.body["converged"] == true, "{first:?}");
}

/// How many containers of the first generation run, by the engines' own word.
async fn serving(lan: &mut LanLab, generation: &str) -> usize {
    let all = lan.containers().await;
    all.values()
        .filter(|seen| seen.state == "running" && seen.labels["shef.generation"] == generation)
        .count()
}

#[actix::test]
async fn bad_updates_roll_back_while_the_old_count_keeps_serving() {
    let mut lan = with_workload(&Plan::hosts(3)).await;
    deployed(&mut lan).await;
    let before = lan.settled(&["web"]).await;
    let mut no_image = spec(2, &[]);
    no_image["image"] = json!("127.0.0.1:1/lab/nothing:1");
    let mut stops_first = no_image.clone();
    stops_first["update"]["order"] = json!("stop-first");
    let updates = [
        ("an image that cannot be had", no_image),
        ("one that cannot be had and would stop the old ones first", stops_first),
        ("one that crashes", spec(3, &[("WORKLOAD_EXIT_AFTER", "0.5"), ("WORKLOAD_EXIT_CODE", "3")])),
        ("one that never turns healthy", spec(4, &[("WORKLOAD_UNHEALTHY_AFTER", "0")])),
    ];
    for (what, update) in updates {
        let asked = lan.master.api.call("PUT", "/v1/services/web", update).await;
        assert_eq!(asked.status, 200, "{asked:?}");
        let update = asked.body["generation"].clone();
        until_within(LIMIT, &format!("{what} is rolled back"), async || {
            assert!(serving(&mut lan, "1").await >= REPLICAS, "{what}: fewer serve than before");
            let service = lan.master.api.get("/v1/services/web").await.body;
            let over = service["rollout"].is_null() && service["state"] == "running";
            let last = &service["last_rollout"];
            (over && last["generation"] == update && last["rolled_back"].is_string()).then_some(())
        })
        .await;
        let after = lan.settled(&["web"]).await;
        assert_eq!(after, before, "{what}: what served was never touched");
    }
}

#[actix::test]
async fn a_rollout_survives_a_killed_master_and_a_drained_host() {
    let mut lan = with_workload(&Plan::hosts(3)).await;
    deployed(&mut lan).await;
    let asked = lan.master.api.call("PUT", "/v1/services/web", spec(2, &[])).await;
    assert_eq!(asked.status, 200, "{asked:?}");
    until_within(LIMIT, "some are replaced", async || (serving(&mut lan, "2").await >= 2).then_some(()))
        .await;
    lan.master.process.kill();
    lan.master.start().await;
    until_within(LIMIT, "more are replaced", async || (serving(&mut lan, "2").await >= 4).then_some(()))
        .await;
    let drained = lan.master.api.call("POST", "/v1/nodes/h3/drain", json!({})).await;
    assert!(drained.status < 300, "{drained:?}");
    until_within(LIMIT, "the rollout is over and the host empty", async || {
        assert!(
            serving(&mut lan, "1").await + serving(&mut lan, "2").await >= REPLICAS - 1,
            "fewer serve than wanted"
        );
        let service = lan.master.api.get("/v1/services/web").await.body;
        let empty = lan.by_host().await.get("h3").is_none_or(std::collections::BTreeMap::is_empty);
        (service["rollout"].is_null() && service["state"] == "running" && empty).then_some(())
    })
    .await;
    let after = lan.settled(&["web"]).await;
    assert!(
        after.len() == REPLICAS && after.values().all(|seen| seen.labels["shef.generation"] == "2"),
        "{after:#?}"
    );
    assert!(
        lan.by_host().await.get("h3").is_none_or(std::collections::BTreeMap::is_empty),
        "the drained host is empty"
    );
}

/// A service of `replicas` whose new replicas have a trial of a second.
fn brief(replicas: usize, more: &Value) -> Value {
    let mut spec = spec(1, &[]);
    spec["replicas"] = json!(replicas);
    spec["update"] = json!({"monitor_ms": 1000, "deadline_ms": 10000, "probation_ms": 30000});
    for (field, value) in more.as_object().into_iter().flatten() {
        match (spec[field].as_object_mut(), value.as_object()) {
            (Some(within), Some(fields)) => within.extend(fields.clone()),
            _ => spec[field] = value.clone(),
        }
    }
    spec
}

#[actix::test]
async fn what_fails_after_its_trial_is_rolled_back_by_itself() {
    let mut lan = with_workload(&Plan::hosts(3)).await;
    let first = lan.master.api.call("PUT", "/v1/services/web?wait=60s", brief(2, &json!({}))).await;
    assert!(first.status == 201 && first.body["converged"] == true, "{first:?}");
    let exits = json!({"WORKLOAD_EXIT_AFTER": "2", "WORKLOAD_EXIT_CODE": "3"});
    // A busy engine tells of the end some time after the check has begun to fail: the check waits for it.
    let patient = json!({"retries": 100});
    let stops_first = json!({"order": "stop-first"});
    let updates = [
        ("a process that ends", json!({"env": exits, "health": patient}), "code 3"),
        ("stopping first", json!({"env": exits, "health": patient, "update": stops_first}), "code 3"),
        ("as a canary", json!({"env": exits, "health": patient, "update": {"canary": 1}}), "code 3"),
        ("a check that fails later", json!({"env": {"WORKLOAD_UNHEALTHY_AFTER": "3"}}), "health check fails"),
    ];
    for (what, update, why) in updates {
        let asked = lan.master.api.call("PUT", "/v1/services/web", brief(2, &update)).await;
        assert_eq!(asked.status, 200, "{what}: {asked:?}");
        let generation = asked.body["generation"].clone();
        let over = until_within(LIMIT, &format!("{what} is rolled back"), async || {
            let service = lan.master.api.get("/v1/services/web").await.body;
            let back = service["rollout"].is_null() && service["state"] == "running";
            (back && service["last_rollout"]["generation"] == generation && service["generation"] == 1)
                .then_some(service)
        })
        .await;
        let said = over["last_rollout"]["rolled_back"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{what}: {over:#}");
        let after = lan.settled(&["web"]).await;
        assert!(
            after.len() == 2 && after.values().all(|seen| seen.labels["shef.generation"] == "1"),
            "{what}: {after:#?}"
        );
    }
}

#[actix::test]
async fn updates_without_room_for_a_second_replica_stop_first_or_are_refused() {
    let mut lan = with_workload(&Plan::hosts(3)).await;
    let one_a_host = json!({"placement": {"max_per_host": 1}});
    let first = lan.master.api.call("PUT", "/v1/services/web?wait=60s", brief(3, &one_a_host)).await;
    assert_eq!(first.body["converged"], true, "{first:?}");
    let mut update = one_a_host.clone();
    update["env"] = json!({"VERSION": "2"});
    let updated = lan.master.api.call("PUT", "/v1/services/web?wait=90s", brief(3, &update)).await;
    assert!(updated.body["generation"] == 2 && updated.body["converged"] == true, "{updated:?}");
    let after = lan.settled(&["web"]).await;
    assert!(
        after.len() == 3 && after.values().all(|seen| seen.labels["shef.generation"] == "2"),
        "{after:#?}"
    );

    update["env"] = json!({"VERSION": "3"});
    update["update"] = json!({"order": "start-first"});
    let refused = lan.master.api.call("PUT", "/v1/services/web", brief(3, &update)).await;
    assert_eq!(
        (refused.status, &refused.body["errors"][0]["field"]),
        (400, &json!("update.order")),
        "{refused:?}"
    );
    let service = lan.master.api.get("/v1/services/web").await.body;
    assert_eq!((&service["generation"], &service["running"]), (&json!(2), &json!(3)), "{service:#}");

    // A first deployment that fails on its trial ends the wait, with the reason.
    let exits = json!({"env": {"WORKLOAD_EXIT_AFTER": "0.5", "WORKLOAD_EXIT_CODE": "7"},
        "restart": {"condition": "never"}});
    let failed = lan.master.api.call("PUT", "/v1/services/job?wait=60s", brief(1, &exits)).await;
    assert!(failed.status == 201 && failed.body["converged"] == false, "{failed:?}");
    let why = failed.body["missing"][0].as_str().unwrap_or_default();
    assert!(
        why.starts_with("the trial has failed: job-") && why.contains("exited with code 7"),
        "{failed:?}"
    );
    let job = lan.master.api.get("/v1/services/job").await.body;
    assert_eq!(job["replica_states"][0]["health"], "unhealthy", "{job:#}");
}

#[actix::test]
async fn a_finished_rollout_is_spread_as_a_fresh_placement() {
    let mut lan = with_workload(&Plan::hosts(3)).await;
    for version in 1..6 {
        let update = json!({"env": {"VERSION": version.to_string()}});
        let answer = lan.master.api.call("PUT", "/v1/services/web?wait=60s", brief(3, &update)).await;
        assert_eq!(answer.body["converged"], true, "{answer:?}");
        lan.settled(&["web"]).await;
        let counts: Vec<usize> = lan.by_host().await.values().map(std::collections::BTreeMap::len).collect();
        assert_eq!(counts, [1, 1, 1], "version {version}");
    }
}
