//! A host whose reports do not arrive, while probes and orders reach it.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use actix_rt::task::JoinHandle;
use serde_json::json;
use shef_agent::{
    EngineChoice,
    engine::{
        ContainerState,
        fake::{FakeEngineOptions, FakeHost},
    },
};
use shef_integration_tests::cluster::{Cluster, agent_config};
use tokio::net::{TcpListener, TcpStream};

/// The way from an agent to its master, until it is cut.
struct Way {
    address: SocketAddr,
    tasks: Rc<RefCell<Vec<JoinHandle<()>>>>,
}

impl Way {
    async fn to(master: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks: Rc<RefCell<Vec<JoinHandle<()>>>> = Rc::default();
        let all = tasks.clone();
        let accept = actix_rt::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                all.borrow_mut().push(actix_rt::spawn(async move {
                    let Ok(mut to) = TcpStream::connect(master).await else { return };
                    // The end of either side ends the way.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }));
            }
        });
        tasks.borrow_mut().push(accept);
        Self { address, tasks }
    }

    fn cut(&self) {
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
    }
}

#[actix_rt::test]
async fn replicas_stopped_without_a_master_run_elsewhere_despite_probes() {
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    cluster.add_agent("h0", "unix:///nowhere", EngineChoice::Fake(FakeEngineOptions::default())).await;
    let way = Way::to(cluster.master.address()).await;
    let (host, data) = (FakeHost::default(), tempfile::tempdir().unwrap());
    let options = FakeEngineOptions { host: Some(host.clone()), ..FakeEngineOptions::default() };
    let config = agent_config(data.path(), "h1", way.address, "unix:///nowhere");
    let agent = shef_agent::start(config, EngineChoice::Fake(options)).await.unwrap();
    cluster.ready(2).await;
    let spec = json!({
        "image": "nginx:1", "replicas": 4, "stop_grace_s": 1, "on_disconnect": {"stop_after": {"seconds": 1}},
    });
    let answer = cluster.api.call("PUT", "/v1/services/web?wait=60s", spec).await;
    assert_eq!((answer.status, &answer.body["converged"]), (201, &json!(true)), "{answer:?}");
    let states = |service: &serde_json::Value| -> Vec<(String, bool)> {
        let states = service["replica_states"].as_array().unwrap().iter();
        states.map(|r| (r["node"].as_str().unwrap().to_owned(), r["host_down"].as_bool().unwrap())).collect()
    };
    let before = cluster.api.get("/v1/services/web").await;
    assert_eq!(states(&before.body).iter().filter(|(node, _)| node == "h1").count(), 2);

    way.cut();
    let moved = cluster.api.until("/v1/services/web", |answer| {
        let here = states(&answer.body).iter().filter(|(node, _)| node == "h0").count();
        here == 4 && answer.body["running"] == 4
    });
    let moved = moved.await;
    assert!(states(&moved.body).iter().all(|(node, lost)| node == "h0" || *lost), "{moved:?}");
    assert_eq!(cluster.api.get("/v1/nodes/h1").await.body["state"], "suspect", "probes reach it");
    let runs =
        host.containers().values().filter(|container| container.state == ContainerState::Running).count();
    assert_eq!(runs, 0, "nothing is doubled");
    agent.stop().await;
    cluster.stop().await;
}
