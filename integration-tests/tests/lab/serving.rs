//! A service behind a client that sends requests all the time, while it is updated.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use awc::Client;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use shef_integration_tests::lab::lan::{Lan, Plan};

use crate::rollouts::with_workload;

const REPLICAS: usize = 30;
/// How many requests are under way at once.
const CLIENTS: usize = 4;
/// How long one request may take on a busy machine.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at which replicas there are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client that asks the API which replicas serve, and asks those in turn, each request once.
#[derive(Default)]
struct Traffic {
    addresses: RefCell<Vec<String>>,
    answered: Cell<usize>,
    failed: RefCell<Vec<String>>,
    over: Cell<bool>,
}

impl Traffic {
    async fn follow(&self, lan: &Lan) {
        while !self.over.get() {
            if let Ok(answer) = lan.master.api.attempt("GET", "/v1/services/web", &[], Vec::new()).await {
                let serves = |replica: &&Value| {
                    replica["want"] == "run" && replica["state"] == "running" && replica["health"] == "healthy"
                };
                let replicas = answer.body["replica_states"].as_array().cloned().unwrap_or_default();
                let address = |replica: &Value| Some(replica["addresses"][0].as_str()?.split_once("->")?.0.to_owned());
                *self.addresses.borrow_mut() = replicas.iter().filter(serves).filter_map(address).collect();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn send(&self, first: usize) {
        let client = Client::builder().timeout(REQUEST_LIMIT).finish();
        for n in (first..).step_by(CLIENTS) {
            if self.over.get() {
                return;
            }
            let address = {
                let all = self.addresses.borrow();
                all.get(n % all.len().max(1)).cloned()
            };
            let Some(address) = address else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            match client.get(format!("http://{address}/")).force_close().send().await {
                Ok(answer) if answer.status().is_success() => self.answered.set(self.answered.get() + 1),
                Ok(answer) => self.failed.borrow_mut().push(format!("{address}: {}", answer.status())),
                Err(error) => self.failed.borrow_mut().push(format!("{address}: {error}")),
            }
        }
    }
}

#[actix::test]
async fn thirty_replicas_are_updated_start_first_and_no_request_fails() {
    let mut lan = with_workload(&Plan::hosts(3)).await;
    let spec = |version: u32| {
        json!({
            "image": "lab/workload:1",
            "replicas": REPLICAS,
            "env": {"VERSION": version.to_string(), "WORKLOAD_LINGER": "1"},
            "ports": [{"target": 8080}],
            "health": {"test": {"http": {"port": 8080, "path": "/health"}}, "interval_ms": 500},
            "update": {"order": "start-first", "parallelism": 5, "monitor_ms": 1000},
            "stop_grace_s": 5,
        })
    };
    let first = lan.master.api.call("PUT", "/v1/services/web?wait=60s", spec(1)).await;
    assert!(first.status == 201 && first.body["converged"] == true, "{first:?}");
    let traffic = Rc::new(Traffic::default());
    let update = async {
        let started = traffic.answered.get();
        let updated = lan.master.api.call("PUT", "/v1/services/web?wait=120s", spec(2)).await;
        assert_eq!(updated.body["converged"], true, "{updated:?}");
        traffic.over.set(true);
        traffic.answered.get() - started
    };
    let senders = join_all((0..CLIENTS).map(|n| traffic.send(n)));
    let (answered, _) = join(update, join(traffic.follow(&lan), senders)).await;
    let failed = traffic.failed.take();
    assert!(
        failed.is_empty() && answered > 200,
        "{answered} answered, {} failed: {:?}",
        failed.len(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
    let service = lan.master.api.get("/v1/services/web").await.body;
    let replicas = service["replica_states"].as_array().unwrap();
    assert!(replicas.len() == REPLICAS && replicas.iter().all(|replica| replica["generation"] == 2), "{service:#}");
    assert_eq!(lan.settled(&["web"]).await.len(), REPLICAS);
}
