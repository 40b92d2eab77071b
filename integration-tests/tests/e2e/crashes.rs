//! Processes that die at any moment, and stores that come back empty.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shef_integration_tests::{
    cluster::{Answer, Api},
    lab::{
        engine::Seen,
        shef::{HostLab, busybox},
        wait::until,
    },
};

/// How often something is killed in the middle of work.
const ROUNDS: u64 = 12;
/// The most containers that are made or removed after a request before something is killed.
const MOST_CHANGES: u32 = 6;

/// What an agent says whose master does not answer.
const MISSED: &str = "the master does not answer";

/// How many replicas of which version of a service are asked for; `None`: no service.
type WantedSpec = Option<(u32, u32)>;

/// Asks for it, and says whether that was acknowledged.
async fn ask(api: Api, name: &'static str, asked_for: WantedSpec) -> bool {
    let path = format!("/v1/services/{name}");
    let (method, body) = match asked_for {
        Some((replicas, version)) => {
            let mut spec = busybox(replicas);
            spec["env"] = json!({ "VERSION": version.to_string() });
            ("PUT", spec.to_string().into_bytes())
        }
        None => ("DELETE", Vec::new()),
    };
    let answer = api.attempt(method, &path, &[("content-type", "application/json")], body).await;
    match answer.map(|answer| answer.status) {
        Ok(200..=202) => true,
        // What is not there cannot be deleted.
        Ok(404) => asked_for.is_none(),
        Ok(503) | Err(_) => false,
        Ok(other) => panic!("{method} {path} was answered {other}"),
    }
}

fn spec_of(service: Option<&Value>) -> WantedSpec {
    let live = service.filter(|service| service["state"] != "deleting")?;
    let version = live["env"]["VERSION"].as_str()?.parse().ok()?;
    Some((u32::try_from(live["replicas"].as_u64()?).ok()?, version))
}

/// The fewest containers that have to be made or removed for this change.
fn changes(from: WantedSpec, to: WantedSpec) -> u32 {
    match (from, to) {
        (None, None) => 0,
        (None, Some((replicas, _))) | (Some((replicas, _)), None) => replicas,
        (Some((before, old)), Some((after, new))) if old == new => before.abs_diff(after),
        (Some(_), Some((after, _))) => after.min(1),
    }
}

/// How many containers were made or removed since `before`.
async fn changed(site: &HostLab, before: &BTreeMap<String, Seen>) -> usize {
    let ids =
        |all: &BTreeMap<String, Seen>| all.values().map(|seen| seen.id.clone()).collect::<BTreeSet<_>>();
    ids(&site.containers().await).symmetric_difference(&ids(before)).count()
}

/// Everything that ran before and is still wanted is the very same container, never started again.
fn nothing_was_restarted(before: &BTreeMap<String, Seen>, now: &BTreeMap<String, Seen>) {
    for (name, seen) in before.iter().filter(|(_, seen)| seen.state == "running") {
        if let Some(found) = now.get(name) {
            assert_eq!(found, seen, "{name} was touched");
        }
    }
}

#[actix::test]
async fn whatever_is_killed_in_the_middle_of_work_is_made_good() {
    let seed = std::env::var("SHEF_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(shef_common::ids::random);
    println!("to see this again: SHEF_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut site = HostLab::start(1, &[]).await;
    site.master.deploy("steady", busybox(3)).await;
    let steady = site.settled(&["steady"]).await;
    let mut wanted: WantedSpec = None;

    for round in 0..ROUNDS {
        let before = site.containers().await;
        let asked_for = match wanted {
            None => Some((random.u32(10..=12), 1)),
            Some(_) if round % 4 == 3 => None,
            Some((now, version)) if random.u32(..3) == 0 => Some((now, version + 1)),
            Some((now, version)) if now > 9 => Some((random.u32(1..=5), version)),
            Some((_, version)) => Some((random.u32(10..=14), version)),
        };
        let (kill_master, kill_agent) = (round % 3 != 1, round % 3 != 0);
        let after = random.u32(0..=changes(wanted, asked_for).min(MOST_CHANGES));
        println!(
            "round {round}: from {wanted:?} to {asked_for:?}; master dies: {kill_master}, agent dies: \
             {kill_agent}, after {after} containers"
        );
        let asked = actix::spawn(ask(site.master.api.clone(), "busy", asked_for));
        until("so many containers were made or removed", async || {
            (changed(&site, &before).await >= after as usize).then_some(())
        })
        .await;
        if kill_master {
            site.master.process.kill();
        }
        if kill_agent {
            site.agents[0].process.kill();
        }
        let acknowledged = asked.await.unwrap();
        let during = site.containers().await;
        if kill_agent {
            site.agents[0].process.start();
        }
        if kill_master {
            site.master.start().await;
        }

        let found = spec_of(site.master.service("busy").await.as_ref());
        assert!(
            found == asked_for || !acknowledged && found == wanted,
            "wanted {wanted:?}, then {asked_for:?} (acknowledged: {acknowledged}), found {found:?}"
        );
        wanted = found;
        let names: &[&str] = if wanted.is_some() { &["busy", "steady"] } else { &["steady"] };
        let now = site.settled(names).await;
        assert_eq!(
            now.len(),
            3 + wanted.map_or(0, |(replicas, _)| replicas as usize),
            "nothing is missing, and nothing is left over"
        );
        nothing_was_restarted(&before, &now);
        nothing_was_restarted(&during, &now);
        if wanted.is_none() {
            until("the tombstone goes", async || site.master.service("busy").await.is_none().then_some(()))
                .await;
        }
    }
    let now = site.containers().await;
    assert!(
        steady.iter().all(|(name, seen)| now.get(name) == Some(seen)),
        "what was wanted throughout ran throughout"
    );
}

#[actix::test]
async fn an_agent_without_its_ledger_adopts_its_containers_by_labels() {
    let mut site = HostLab::start(1, &[]).await;
    site.master.deploy("web", busybox(3)).await;
    // Its data is bound to the host, which comes back as another one.
    let mut db = busybox(1);
    db["mounts"] = json!([{ "type": "volume", "source": "kept", "target": "/data" }]);
    site.master.deploy("db", db).await;
    let before = site.settled(&["db", "web"]).await;
    let uid = site.master.api.get("/v1/nodes/h1").await.body["uid"].clone();
    site.agents[0].process.kill();
    std::fs::remove_dir_all(site.dir.path().join("h1")).unwrap();
    // For as long as the host counts as ready, one of another identity may not have its name.
    site.agents[0].process.start();
    let is_another = |answer: &Answer| answer.body["uid"] != uid && answer.body["state"] == "ready";
    site.master.api.until("/v1/nodes/h1", is_another).await;
    assert_eq!(site.settled(&["db", "web"]).await, before);
    for service in ["db", "web"] {
        let path = format!("/v1/services/{service}?wait=60s");
        let deleted = site.master.api.call("DELETE", &path, json!({})).await;
        assert_eq!(deleted.status, 200, "{deleted:?}");
    }
    assert!(site.containers().await.is_empty());
}

#[actix::test]
async fn a_master_that_dies_amid_a_failing_update_leaves_the_old_replicas_alone() {
    let mut site = HostLab::start(1, &[]).await;
    site.master.deploy("web", busybox(4)).await;
    let before = site.settled(&["web"]).await;
    let mut broken = busybox(4);
    broken["image"] = json!("127.0.0.1:1/app:2");
    // By itself it would go back.
    broken["update"] = json!({"failure_action": "continue", "parallelism": 4});
    let answer = site.master.api.call("PUT", "/v1/services/web", broken).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let is_stuck = |answer: &Answer| {
        !answer.body["rollout"]["last_failure"].is_null() && answer.body["state"] == "pending"
    };
    site.master.api.until("/v1/services/web", is_stuck).await;
    for _ in 0..2 {
        site.master.process.kill();
        site.master.start().await;
        site.master.api.until("/v1/services/web", is_stuck).await;
        assert_eq!(site.containers().await, before);
    }
    // An update that works ends it.
    let answer = site.master.api.call("PUT", "/v1/services/web?wait=60s", busybox(4)).await;
    assert_eq!(answer.body["converged"], true, "{answer:?}");
    assert_eq!(site.settled(&["web"]).await.len(), 4);
}

#[actix::test]
async fn without_a_master_containers_run_on_and_hosts_fill_an_empty_store() {
    let mut site = HostLab::start(2, &[]).await;
    site.master.deploy("web", busybox(4)).await;
    site.master.deploy("db", busybox(1)).await;
    let before = site.settled(&["web", "db"]).await;

    // The master is away, and both agents know it; one of them starts meanwhile.
    let missed = |site: &HostLab| {
        site.agents.iter().map(|agent| agent.process.said().matches(MISSED).count()).collect::<Vec<_>>()
    };
    // An agent logs it once an outage: a count that begins after the master's death could miss it.
    let before_outage = missed(&site);
    site.agents[0].process.kill();
    site.master.process.kill();
    site.agents[0].process.start();
    until("both agents miss the master", async || {
        missed(&site).iter().zip(&before_outage).all(|(now, before)| now > before).then_some(())
    })
    .await;
    assert_eq!(site.containers().await, before);
    site.master.start().await;
    site.master.hosts(2).await;
    assert_eq!(site.settled(&["web", "db"]).await, before);

    // Its store is gone for good.
    site.master.process.kill();
    std::fs::remove_dir_all(&site.master.data).unwrap();
    site.master.start().await;
    site.master.hosts(2).await;
    assert_eq!(
        site.settled(&["web", "db"]).await,
        before,
        "services come back with what hosts hold, and nothing was touched"
    );
    // What came back is as good as before.
    site.master.deploy("web", busybox(6)).await;
    let six = site.settled(&["web", "db"]).await;
    assert_eq!(six.len(), 7);
    nothing_was_restarted(&before, &six);

    // The same while everything is away, with one host that comes much later.
    site.master.process.kill();
    site.agents.iter_mut().for_each(|agent| agent.process.kill());
    std::fs::remove_dir_all(&site.master.data).unwrap();
    site.master.start().await;
    site.agents[0].process.start();
    site.master.hosts(1).await;
    until("the first host's part is back", async || {
        let service = site.master.service("web").await?;
        (service["running"].as_u64()? >= 3).then_some(())
    })
    .await;
    assert_eq!(site.containers().await, six, "what an absent host holds is not made anew");
    site.agents[1].process.start();
    site.master.hosts(2).await;
    assert_eq!(site.settled(&["web", "db"]).await, six);
}
