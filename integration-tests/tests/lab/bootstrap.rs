//! Hosts that have nothing but an engine, brought up with `docker run` lines alone.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::json;
use shef_integration_tests::lab::{
    lan::bare::{BOOTSTRAP, Bare},
    rootfs::rootfs,
    shef::binary,
    socket::{BUSYBOX, Seen},
    wait::{until, until_within},
};

/// What the issue promises for anything that was killed.
const HEALED: Duration = Duration::from_secs(5);
const PARTS: [&str; 3] = ["shef-redis", "shef-master", "shef-agent"];

/// Makes the images in host 1's engine and pushes them: shef under two tags, a Redis, a service's.
async fn images(lab: &Bare) {
    let engine = lab.hosts[0].socket();
    let shef = rootfs(&[(binary(), "/usr/local/bin/shef")], &["/tmp", "/var/lib/shef"]);
    for tag in ["1", "2"] {
        let changes = vec!["ENTRYPOINT [\"/usr/local/bin/shef\"]".to_owned(), format!("LABEL version={tag}")];
        engine.import(&format!("lab/shef:{tag}"), &shef, changes).await;
        lab.registry.push(&engine.client(), &format!("lab/shef:{tag}"), &format!("shef:{tag}")).await;
    }
    let programs = [("/usr/bin/redis-server", "/usr/bin/redis-server"), ("/usr/bin/redis-cli", "/usr/bin/redis-cli")];
    let programs = programs.map(|(from, to)| (Path::new(from), to));
    let path = vec!["ENV PATH=/usr/bin".to_owned(), "CMD [\"redis-server\"]".to_owned()];
    engine.import("lab/redis:7", &rootfs(&programs, &["/data", "/tmp"]), path).await;
    lab.registry.push(&engine.client(), "lab/redis:7", "redis:7").await;
    engine.import_busybox().await;
    lab.registry.push(&engine.client(), BUSYBOX, "busybox:1").await;
    for image in ["lab/shef:1", "lab/shef:2", "lab/redis:7", BUSYBOX] {
        lab.docker(1, &["rmi", image]).await.unwrap();
    }
}

/// Host 1 with Redis, master and agent.
async fn first(lab: &Bare, tag: &str) {
    let redis = lab.registry.image("redis:7");
    lab.bootstrap(1, &lab.registry.image(tag), &[("SHEF_BOOTSTRAP_REDIS_IMAGE", &redis)]).await.unwrap();
}

async fn further(lab: &Bare, n: usize, tag: &str) {
    let master = lab.address(1).to_string();
    lab.bootstrap(n, &lab.registry.image(tag), &[("SLAVE", "true"), ("MASTER_HOST", &master)]).await.unwrap();
}

async fn says(lab: &Bare, n: usize, words: &str) {
    let limit = Duration::from_secs(90);
    let told = tokio::time::timeout(limit, async {
        while !lab.log(n).await.contains(words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    if told.await.is_err() {
        panic!("the bootstrap of h{n} never said {words:?}:\n{}", lab.log(n).await);
    }
}

async fn hosts_ready(lab: &Bare, count: usize) {
    until("all hosts are ready", async || {
        let answer = lab.api(1).attempt("GET", "/v1/nodes", &[], Vec::new()).await.ok()?;
        let nodes = answer.body["nodes"].as_array()?.clone();
        (nodes.iter().filter(|node| node["state"] == "ready").count() == count).then_some(())
    })
    .await;
}

async fn deploy(lab: &Bare, replicas: usize) {
    let body = json!({"image": lab.registry.image("busybox:1"), "replicas": replicas, "stop_grace_s": 1});
    let answer = lab.api(1).call("PUT", "/v1/services/web?wait=60s", body).await;
    assert!(answer.status == 201 && answer.body["converged"] == true, "{answer:?}");
}

/// Every container of services, over all hosts, by name.
async fn containers(lab: &Bare) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    for host in &lab.hosts {
        all.extend(host.socket().managed().await);
    }
    all
}

async fn runs(lab: &Bare, n: usize, name: &str) -> Option<Seen> {
    lab.hosts[n - 1].socket().all().await.remove(name).filter(|seen| seen.state == "running")
}

#[actix::test]
async fn three_hosts_come_up_from_docker_run_lines_and_every_part_heals_when_it_is_killed() {
    let lab = Bare::start(3).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready: its API is http://").await;
    for n in [2, 3] {
        further(&lab, n, "shef:1").await;
        says(&lab, n, "this host is ready").await;
    }
    hosts_ready(&lab, 3).await;
    deploy(&lab, 30).await;
    let before = containers(&lab).await;
    assert_eq!(before.values().filter(|seen| seen.state == "running").count(), 30);
    let state = lab.api(1).get("/state").await.body;
    let nodes = state["nodes"].as_array().unwrap();
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["alive"] == true), "{state:#}");

    for (n, name) in [(1, "shef-redis"), (1, "shef-master"), (1, "shef-agent"), (2, "shef-agent"), (1, BOOTSTRAP), (3, BOOTSTRAP)]
    {
        let killed = runs(&lab, n, name).await.unwrap_or_else(|| panic!("{name} runs on h{n}"));
        lab.docker(n, &["kill", name]).await.unwrap();
        until_within(HEALED, &format!("{name} on h{n} runs again"), async || {
            runs(&lab, n, name).await.filter(|seen| seen.started_at != killed.started_at)
        })
        .await;
    }
    for name in PARTS {
        lab.docker(1, &["rm", "-f", name]).await.unwrap();
        until_within(HEALED, &format!("{name} was removed and is made anew"), async || runs(&lab, 1, name).await).await;
    }
    hosts_ready(&lab, 3).await;
    assert_eq!(containers(&lab).await, before, "no user container was touched");
    let service = lab.api(1).get("/v1/services/web").await.body;
    assert_eq!(service["running"].as_u64(), Some(30), "the data outlived every container: {service:#}");
}
