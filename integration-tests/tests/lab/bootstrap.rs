//! Hosts that have nothing but an engine, brought up with `docker run` lines alone.

mod leaving;

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::json;
use shef_integration_tests::lab::{
    lan::bare::{BOOTSTRAP, BareLab},
    process::Process,
    shef::binary,
    socket::{BUSYBOX, Seen},
    system_image::SystemImages,
    wait::{until, until_within},
};

use self::leaving::uninstall;

/// How long anything that was killed may take to run again on a machine that is busy with other things.
const HEALED: Duration = Duration::from_secs(60);
const PARTS: [&str; 4] = ["shef-redis", "shef-master", "shef-agent", "shef-guard"];

/// Pushes what the hosts are to pull: shef under two tags, a Redis, a service's image.
pub async fn images(lab: &BareLab) {
    let engine = lab.hosts[0].socket();
    SystemImages::get().await.push(&engine.client(), &lab.registry).await;
    engine.import_busybox().await;
    lab.registry.push(&engine.client(), BUSYBOX, "busybox:1").await;
    lab.docker(1, &["rmi", BUSYBOX]).await.unwrap();
}

/// Host 1 with Redis, master and agent.
pub async fn first(lab: &BareLab, tag: &str) {
    let redis = lab.registry.image("redis:7");
    lab.bootstrap(1, &lab.registry.image(tag), &[("SHEF_BOOTSTRAP_REDIS_IMAGE", &redis)]).await.unwrap();
}

/// The first host's line on host `n`, with further variables.
async fn first_on(lab: &BareLab, n: usize, variables: &[(&str, &str)]) {
    let redis = lab.registry.image("redis:7");
    let variables = [&[("SHEF_BOOTSTRAP_REDIS_IMAGE", redis.as_str())], variables].concat();
    lab.bootstrap(n, &lab.registry.image("shef:1"), &variables).await.unwrap();
}

async fn further(lab: &BareLab, n: usize, tag: &str) {
    let (master, token) = (lab.address(1).to_string(), lab.join_token().await);
    let variables = [("SLAVE", "true"), ("MASTER_HOST", master.as_str()), ("JOIN_TOKEN", token.as_str())];
    lab.bootstrap(n, &lab.registry.image(tag), &variables).await.unwrap();
}

pub async fn says(lab: &BareLab, n: usize, words: &str) {
    let limit = Duration::from_secs(90);
    let said = tokio::time::timeout(limit, async {
        while !lab.log(n).await.contains(words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    if said.await.is_err() {
        let mut logs = lab.log(n).await;
        for part in ["shef-master", "shef-agent"] {
            let lines = lab.docker(n, &["logs", "--tail", "30", part]).await.unwrap_or_else(|error| error);
            logs = format!("{logs}\n--- {part}\n{lines}");
        }
        panic!("the bootstrap of h{n} never said {words:?}:\n{logs}");
    }
}

pub async fn hosts_ready(lab: &BareLab, count: usize) {
    let mut last = String::new();
    let ready = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match lab.api(1).attempt("GET", "/v1/nodes", &[], Vec::new()).await {
                Ok(answer) => {
                    let nodes = answer.body["nodes"].as_array().cloned().unwrap_or_default();
                    if nodes.iter().filter(|node| node["state"] == "ready").count() == count {
                        return;
                    }
                    last = answer.body.to_string();
                }
                Err(error) => last = error,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    if ready.await.is_err() {
        for n in 1..=lab.hosts.len() {
            eprintln!("--- h{n}\n{}", lab.docker(n, &["ps", "-a"]).await.unwrap_or_else(|error| error));
            for name in PARTS.into_iter().chain([BOOTSTRAP]) {
                let log = lab.docker(n, &["logs", "--tail", "15", name]).await.unwrap_or_else(|error| error);
                eprintln!("--- {name} of h{n}\n{log}");
            }
        }
        panic!("not all {count} hosts became ready: {last}");
    }
}

pub async fn deploy(lab: &BareLab, replicas: usize) {
    let body = json!({"image": lab.registry.image("busybox:1"), "replicas": replicas, "stop_grace_s": 1,
        "update": {"monitor_ms": 0}});
    let answer = lab.api(1).call("PUT", "/v1/services/web?wait=60s", body).await;
    assert!(answer.status == 201 && answer.body["converged"] == true, "{answer:?}");
}

/// Every container of services, over all hosts, by name.
pub async fn containers(lab: &BareLab) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    for host in &lab.hosts {
        all.extend(host.socket().managed().await);
    }
    all
}

async fn runs(lab: &BareLab, n: usize, name: &str) -> Option<Seen> {
    lab.hosts[n - 1].socket().all().await.remove(name).filter(|seen| seen.state == "running")
}

#[actix::test]
async fn three_hosts_come_up_from_docker_run_lines_and_parts_heal() {
    let lab = BareLab::start(3).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready: its API is at ").await;
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

    // What people see of them, and how much their logs may take.
    let shef = lab.registry.image("shef:1");
    for (name, image) in
        [("shef-redis", lab.registry.image("redis:7")), ("shef-master", shef.clone()), ("shef-agent", shef)]
    {
        let shown =
            lab.docker(1, &["ps", "--filter", &format!("name=^{name}$"), "--format", "{{.Image}}"]).await;
        assert_eq!(shown, Ok(image), "the version of {name} in docker ps");
        let log = lab.docker(1, &["inspect", "-f", "{{.HostConfig.LogConfig}}", name]).await.unwrap();
        assert!(log.contains("max-size:10m") && log.contains("max-file:3"), "{name}: {log}");
    }
    for name in [BOOTSTRAP, "shef-redis", "shef-master", "shef-agent"] {
        let health = ["inspect", "-f", "{{.State.Health.Status}}", name];
        until(&format!("{name} is healthy"), async || {
            lab.docker(1, &health).await.ok().filter(|said| said == "healthy")
        })
        .await;
    }

    for (n, name) in [
        (1, "shef-redis"),
        (1, "shef-master"),
        (1, "shef-agent"),
        (2, "shef-agent"),
        (1, BOOTSTRAP),
        (3, BOOTSTRAP),
    ] {
        let killed = runs(&lab, n, name).await.unwrap_or_else(|| panic!("{name} runs on h{n}"));
        lab.docker(n, &["kill", name]).await.unwrap();
        until_within(HEALED, &format!("{name} on h{n} runs again"), async || {
            runs(&lab, n, name).await.filter(|seen| seen.started_at != killed.started_at)
        })
        .await;
    }
    // Whoever would start the other again is killed with it, on a host without a master.
    for pair in [["shef-agent", BOOTSTRAP], ["shef-guard", BOOTSTRAP], ["shef-agent", "shef-guard"]] {
        let mut killed = Vec::new();
        for name in pair {
            killed.push((name, runs(&lab, 2, name).await.unwrap_or_else(|| panic!("{name} runs on h2"))));
        }
        lab.docker(2, &["kill", pair[0], pair[1]]).await.unwrap();
        for (name, before) in killed {
            until_within(
                HEALED,
                &format!("{name} on h2 was killed with another and runs again"),
                async || runs(&lab, 2, name).await.filter(|seen| seen.started_at != before.started_at),
            )
            .await;
        }
    }
    for name in PARTS {
        lab.docker(1, &["rm", "-f", name]).await.unwrap();
        until_within(HEALED, &format!("{name} was removed and is made anew"), async || {
            runs(&lab, 1, name).await
        })
        .await;
    }
    hosts_ready(&lab, 3).await;
    assert_eq!(containers(&lab).await, before, "no user container was touched");
    lab.api(1).until("/v1/services/web", |answer| answer.body["running"] == 30).await;
}

#[actix::test]
async fn an_engine_that_crashes_and_a_host_that_boots_bring_everything_back() {
    let mut lab = BareLab::start(2).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    further(&lab, 2, "shef:1").await;
    says(&lab, 2, "this host is ready").await;
    hosts_ready(&lab, 2).await;
    deploy(&lab, 10).await;
    let before: Vec<String> = containers(&lab).await.into_keys().collect();

    lab.hosts[0].kill_engine();
    lab.hosts[0].start_engine().await;
    hosts_ready(&lab, 2).await;
    until("the bootstrap runs, which the engine had stopped", async || runs(&lab, 1, BOOTSTRAP).await).await;
    // Without its bootstrap: the engine starts what is to run.
    lab.docker(1, &["rm", "-f", BOOTSTRAP]).await.unwrap();
    lab.hosts[0].lose();
    lab.hosts[0].boot_engine().await;
    hosts_ready(&lab, 2).await;
    lab.api(1).until("/v1/services/web", |answer| answer.body["state"] == "running").await;
    let after: Vec<String> = containers(&lab).await.into_keys().collect();
    assert_eq!(after, before, "nothing was lost with the host's own master, and nothing doubled");
}

#[actix::test]
async fn an_upgrade_leaves_containers_alone_and_a_downgrade_is_refused() {
    let lab = BareLab::start(2).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    further(&lab, 2, "shef:1").await;
    says(&lab, 2, "this host is ready").await;
    hosts_ready(&lab, 2).await;
    deploy(&lab, 10).await;
    let before = containers(&lab).await;
    let (api, is_loading) = (lab.api(1), std::cell::Cell::new(true));
    let image = lab.registry.image("busybox:1");
    let load = async {
        let mut accepted = 0;
        for n in 0_u32.. {
            // One more once it is over: the master of the second tag takes changes as well.
            let over = !is_loading.get();
            let body = json!({"image": image, "replicas": 0, "stop_grace_s": n % 9}).to_string().into_bytes();
            let headers = [("content-type", "application/json")];
            // A master that is being replaced refuses the connection; the change is made again.
            match api.attempt("PUT", "/v1/services/other", &headers, body).await {
                Ok(answer) if answer.status < 300 => {
                    accepted += 1;
                    if over {
                        break;
                    }
                }
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        accepted
    };
    let upgrade = async {
        for n in [1, 2] {
            lab.docker(n, &["rm", "-f", BOOTSTRAP]).await.unwrap();
            if n == 1 {
                first(&lab, "shef:2").await;
            } else {
                further(&lab, 2, "shef:2").await;
            }
        }
        for (n, name) in [(1, "shef-master"), (1, "shef-agent"), (2, "shef-agent")] {
            until_within(
                Duration::from_secs(60),
                &format!("{name} on h{n} is of the second tag"),
                async || {
                    runs(&lab, n, name).await.filter(|seen| {
                        seen.labels
                            .get("org.opencontainers.image.revision")
                            .is_some_and(|revision| revision == "2")
                    })
                },
            )
            .await;
        }
        says(&lab, 1, "the cluster is ready").await;
        says(&lab, 2, "this host is ready").await;
        is_loading.set(false);
    };
    let (accepted, ()) = futures_util::future::join(load, upgrade).await;
    assert!(accepted > 1, "changes were accepted meanwhile: {accepted}");
    hosts_ready(&lab, 2).await;
    assert_eq!(containers(&lab).await, before, "no user container was touched");
    let redis = runs(&lab, 1, "shef-redis").await.unwrap();
    assert!(!lab.log(1).await.contains("replacing shef-redis"), "its image is the same");

    // A store of a version to come.
    let secrets =
        lab.docker(1, &["volume", "inspect", "-f", "{{.Mountpoint}}", "shef-secrets"]).await.unwrap();
    let password = std::fs::read_to_string(Path::new(&secrets).join("redis-password")).unwrap();
    let change = ["exec", "shef-redis", "redis-cli", "-a", &password, "HSET", "shef:store", "format", "99"];
    lab.docker(1, &change).await.unwrap();
    let master = runs(&lab, 1, "shef-master").await.unwrap();
    lab.docker(1, &["rm", "-f", BOOTSTRAP]).await.unwrap();
    first(&lab, "shef:1").await;
    says(&lab, 1, "downgrade is refused").await;
    assert_eq!(
        (runs(&lab, 1, "shef-master").await.unwrap().id, runs(&lab, 1, "shef-redis").await.unwrap().id),
        (master.id, redis.id)
    );
}

#[actix::test]
async fn a_redis_that_is_there_is_used_and_what_it_puts_at_stake_is_told() {
    let lab = BareLab::start(1).await;
    images(&lab).await;
    let redis = lab.redis().await;
    let _: String = redis.run(0, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let address = lab.net.address().to_string();
    lab.bootstrap(
        1,
        &lab.registry.image("shef:1"),
        &[("REDIS_HOST", &address), ("SHEF_REDIS_PASSWORD", redis.password())],
    )
    .await
    .unwrap();
    says(&lab, 1, "the cluster is ready").await;
    says(&lab, 1, "allkeys-lru").await;
    assert!(!lab.hosts[0].socket().all().await.contains_key("shef-redis"));
    deploy(&lab, 2).await;
    let shown = lab.docker(1, &["inspect", "shef-master"]).await.unwrap();
    assert!(!shown.contains(redis.password()), "a password is not for everybody who may inspect a container");
    let stored: i64 = redis.run(0, &["EXISTS", "shef:store"]);
    assert_eq!(stored, 1);
}

/// Variables, what is done before, and what is said.
type Refusal<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

#[actix::test]
async fn what_is_wrong_stops_it_at_once_with_one_line_that_says_what_to_do() {
    let lab = BareLab::start(1).await;
    images(&lab).await;
    let image = lab.registry.image("shef:1");
    let redis = lab.registry.image("redis:7");
    let redis = ("SHEF_BOOTSTRAP_REDIS_IMAGE", redis.as_str());
    let busybox = lab.registry.image("busybox:1");
    let squat =
        ["run", "-d", "--network", "host", "--name", "squatter", &image, "workload", "--port", "8044"];
    let own = format!("start again with HOST_IP={}", lab.address(1));
    // docker0 has the first address of its network; not every engine names it.
    let subnet = lab
        .docker(1, &["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "bridge"])
        .await
        .unwrap();
    let base: std::net::Ipv4Addr = subnet.split_once('/').unwrap().0.parse().unwrap();
    let bridge = std::net::Ipv4Addr::from(u32::from(base) + 1).to_string();
    lab.docker(1, &["network", "create", "--subnet", "172.31.77.0/24", "theirs"]).await.unwrap();
    let refusals: [Refusal<'_>; 8] = [
        (&[("HOST_IP", &bridge), redis], &[], "belongs to the Docker network bridge"),
        (&[("HOST_IP", "172.31.77.1"), redis], &[], "belongs to the Docker network theirs"),
        (&[("HOST_IP", "127.0.0.1"), redis], &[], "is this host's loopback address"),
        (&[("HOST_IP", "192.0.2.7"), redis], &[], &own),
        (
            &[("HOST_IP", "192.0.2.7"), redis],
            &[],
            "HOST_IP is 192.0.2.7, which is not an address of this host",
        ),
        (&[("SLAVE", "true")], &[], "MASTER_HOST"),
        (&[redis], &squat, "port 8044 of"),
        (
            &[redis],
            &["create", "--name", "shef-master", &busybox],
            "a container named shef-master is there already and is not ours",
        ),
    ];
    for (variables, before, line) in refusals {
        if !before.is_empty() {
            lab.docker(1, before).await.unwrap();
        }
        lab.bootstrap(1, &image, variables).await.unwrap();
        says(&lab, 1, line).await;
        let log = lab.log(1).await;
        assert!(
            log.lines().filter(|text| text.contains(line)).all(|text| text.starts_with("shef: ")),
            "{log}"
        );
        lab.docker(1, &["rm", "-f", BOOTSTRAP]).await.unwrap();
        let left = lab.hosts[0].socket().all().await;
        // A look at the host that nobody waits for any more ends by itself, and the engine takes it away. One
        // whose bootstrap was killed just before starting it stays until the next bootstrap, which has the
        // same name for it.
        let left: Vec<String> = left.into_keys().filter(|name| name != "shef-prepare").collect();
        assert!(
            left.iter().all(|name| name == "squatter" || name == "shef-master"),
            "nothing was started: {left:#?}"
        );
        until("no look at the host runs", async || {
            let all = lab.hosts[0].socket().all().await;
            all.get("shef-prepare").is_none_or(|look| look.state == "created").then_some(())
        })
        .await;
        for name in &left {
            lab.docker(1, &["rm", "-f", name]).await.unwrap();
        }
    }
    uninstall(&lab, &["--volumes"]).await;
    assert_eq!(lab.hosts[0].socket().all().await.into_keys().collect::<Vec<_>>(), Vec::<String>::new());
}

#[actix::test]
async fn outside_a_container_it_does_the_same_and_tells_systemd_when_ready() {
    let lab = BareLab::start(1).await;
    images(&lab).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = tokio::net::UnixDatagram::bind(directory.path().join("notify")).unwrap();
    let config = directory.path().join("bootstrap.toml");
    let text = format!(
        "host_ip = \"{}\"\nimage = \"{}\"\nredis_image = \"{}\"\ndocker_host = \"{}\"\n",
        lab.address(1),
        lab.registry.image("shef:1"),
        lab.registry.image("redis:7"),
        lab.hosts[0].socket().url()
    );
    std::fs::write(&config, text).unwrap();
    let words = ["bootstrap".into(), "--config".into(), config.into_os_string()];
    let mut process = Process::new(binary(), words, directory.path().join("log"))
        .with("NOTIFY_SOCKET", directory.path().join("notify").display())
        .inside(lab.hosts[0].namespace.path());
    process.start();
    let mut message = [0; 256];
    let received = tokio::time::timeout(Duration::from_secs(60), socket.recv(&mut message)).await;
    let length = received.expect("it tells that it is ready").unwrap();
    assert_eq!(String::from_utf8_lossy(&message[..length]).trim(), "READY=1");
    // The API is as it is by default: open to the socket's holder, and plainly to nobody from afar.
    until("the host is ready", async || {
        let hosts = lab.docker(1, &["exec", "shef-master", "shef", "node", "ls"]).await.ok()?;
        hosts.contains(" ready ").then_some(())
    })
    .await;
    let plain = lab.api(1).get("/v1/nodes").await;
    assert_eq!((plain.status, plain.body["code"].as_str()), (400, Some("tls_required")), "{plain:?}");
    let seen = lab.hosts[0].socket().all().await;
    assert!(
        PARTS.iter().all(|name| seen[*name].state == "running") && seen.len() == PARTS.len(),
        "{seen:#?}"
    );
    process.signal(rustix::process::Signal::TERM);
    until("it ends", async || (!process.is_running()).then_some(())).await;
    assert_eq!(lab.hosts[0].socket().all().await, seen, "the cluster runs on without it");
}
