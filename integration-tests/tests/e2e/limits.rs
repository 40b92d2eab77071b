//! Bad input and too much of it, to a real master.

use std::{fs, net::TcpStream, time::Duration};

use serde_json::json;
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_integration_tests::{
    cluster::{PATIENCE, agent_config},
    lab::{
        shef::{HostLab, Master, busybox},
        wait::{until, until_within},
    },
};

#[actix::test]
async fn more_waiting_requests_than_the_bound_are_put_off_and_places_come_back() {
    let settings = [("SHEF_MASTER_MAX_WAITING_REQUESTS", "2"), ("SHEF_MASTER_MAX_BODY_BYTES", "4096")];
    let site = HostLab::start(1, &settings).await;
    let master = &site.master;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stuck = format!("{}/x:1", silent.local_addr().unwrap());
    let wait = |name: &str| {
        let (api, body) = (master.api.clone(), json!({ "name": name, "image": stuck }));
        actix::spawn(async move { api.call("POST", "/v1/services?wait=10s", body).await })
    };
    let waiting = [wait("one"), wait("two")];
    let refused = until("the third is put off", async || {
        let answer = master.api.get("/v1/services").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(
        (refused.content_type.as_str(), &refused.body["code"]),
        ("application/problem+json", &json!("overloaded"))
    );
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
    let legacy = master.api.call("POST", "/service", json!({ "serviceName": "x", "image": "x" })).await;
    assert_eq!((legacy.status, legacy.retry_after.as_deref()), (503, Some("1")), "{legacy:?}");
    assert!(legacy.body["error"].is_string());
    // Neither probes nor agents need a place.
    assert_eq!((master.api.get("/healthz").await.status, master.api.get("/readyz").await.status), (200, 200));
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, &answer.body["converged"]), (201, &json!(false)), "{answer:?}");
        assert!(answer.body["missing"].to_string().contains("waits on h1 for its image, "), "{answer:?}");
    }
    master.hosts(1).await;

    // Bodies over the bound, and bodies that are nothing.
    let large = vec![b' '; 4097];
    let kind = [("content-type", "application/json")];
    for (method, path) in
        [("POST", "/v1/services"), ("PUT", "/v1/services/web"), ("PATCH", "/v1/services/web")]
    {
        let answer = master.api.raw(method, path, &kind, large.clone()).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (413, &json!("body_too_large")),
            "{path}: {answer:?}"
        );
    }
    let answer = master.api.raw("POST", "/service", &kind, large).await;
    assert!(answer.status == 413 && answer.body["error"].is_string(), "{answer:?}");
    let deep = "[".repeat(4_000).into_bytes();
    for bad in [deep, b"\xff\xfe{}".to_vec(), b"{".to_vec(), b"null".to_vec(), b"\"text\"".to_vec()] {
        let ours = master.api.raw("POST", "/v1/services", &kind, bad.clone()).await;
        assert_eq!((ours.status, &ours.body["code"]), (400, &json!("invalid_body")), "{ours:?}");
        let legacy = master.api.raw("POST", "/service", &kind, bad).await;
        assert!(legacy.status == 400 && legacy.body["error"].is_string(), "{legacy:?}");
    }
    let answer =
        master.api.raw("POST", "/v1/services", &[("content-type", "text/plain")], b"{}".to_vec()).await;
    assert_eq!(answer.status, 415, "{answer:?}");
    for name in ["../../containers", "a%2Fb", "a%00", "%0aINFO", "A", &"x".repeat(64)] {
        let answer = master
            .api
            .raw("PUT", &format!("/v1/services/{name}"), &kind, busybox(1).to_string().into_bytes())
            .await;
        assert!(matches!(answer.status, 400 | 404), "{name}: {answer:?}");
    }
    for image in ["../images/x", "x y", "x?force=1", "-x", "x:", "x\n", "http://x/y"] {
        let answer = master.api.call("POST", "/v1/services", json!({ "name": "web", "image": image })).await;
        assert_eq!(
            (answer.status, &answer.body["errors"][0]["field"]),
            (400, &json!("image")),
            "{image}: {answer:?}"
        );
    }
    assert!(site.containers().await.is_empty(), "nothing came of any of it");
    // All of that left it as it was.
    master.deploy("web", busybox(1)).await;
}

#[actix::test]
async fn a_second_master_on_the_same_file_or_port_says_what_is_wrong_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Master::new(dir.path(), &[]);
    first.start().await;
    let other = tempfile::tempdir().unwrap();
    let mut same_file = Master::new(other.path(), &[("SHEF_MASTER_DATA_DIR", &first.data.to_string_lossy())]);
    same_file.process.start();
    assert_eq!(same_file.process.ended(PATIENCE).await.code(), Some(1));
    let said = same_file.process.said();
    assert!(
        said.contains("shef.redb") && said.contains("(shef)"),
        "it names the file and who holds it: {said}"
    );

    let mut same_port = Master::new(other.path(), &[("SHEF_MASTER_LISTEN", &first.address.to_string())]);
    same_port.process.start();
    assert_eq!(same_port.process.ended(PATIENCE).await.code(), Some(1));
    let said = same_port.process.said();
    assert!(
        said.contains(&format!("cannot listen on {}", first.address)) && said.contains("--api"),
        "{said}"
    );
    assert_eq!(first.api.get("/readyz").await.status, 200);
}

#[actix::test]
async fn a_master_raises_its_soft_limit_on_open_files_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Master::new(dir.path(), &[]);
    master.process.limit_open_files(1_024, 20_000);
    master.start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", master.process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["20000", "20000"]);
    let said = master.process.said();
    assert!(
        said.contains("at most 20000 files and sockets can be open") && said.contains("was=1024"),
        "{said}"
    );
}

#[actix::test]
async fn a_crowd_of_clients_takes_no_hosts_place_and_no_host_goes_down() {
    const HOSTS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let mut master = Master::new(dir.path(), &[("SHEF_MASTER_HTTP_WORKERS", "2")]);
    master.process.limit_open_files(256, 256);
    master.start().await;
    assert!(master.process.said().contains("raise it (ulimit -n"), "{}", master.process.said());
    let mut agents = Vec::new();
    for n in 0..HOSTS {
        let name = format!("h{n}");
        let config = agent_config(&dir.path().join(&name), &name, master.address, "unix:///nowhere");
        agents
            .push(shef_agent::start(config, EngineChoice::Fake(FakeEngineOptions::default())).await.unwrap());
    }
    master.hosts(HOSTS).await;
    // With the hosts' more connections than the master may have files, none of which asks for anything.
    let crowd: Vec<TcpStream> = (0..240).map(|_| TcpStream::connect(master.address).unwrap()).collect();
    // A user's request waits behind the crowd, which is closed bit by bit; reports do not.
    let nodes = until_within(Duration::from_secs(100), "the API answers behind the crowd", async || {
        master
            .api
            .attempt("GET", "/v1/nodes?limit=1000", &[], Vec::new())
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    })
    .await;
    let nodes = nodes.body["nodes"].as_array().unwrap().clone();
    assert_eq!(nodes.len(), HOSTS);
    // Connections that find no place are hung up while the crowd is there.
    drop(crowd);
    until("every host is ready", async || {
        let stats = master.api.attempt("GET", "/v1/stats", &[], Vec::new()).await.ok()?;
        (stats.body["now"]["nodes_ready"] == HOSTS).then_some(())
    })
    .await;
    assert_eq!(master.called_down(), 0, "{}", master.process.said());
    for agent in agents {
        agent.stop().await;
    }
}
