//! A service behind a client that sends requests all the time, while it is updated.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use awc::Client;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use shef_common::clock::{DurationMs, MonoMs, Now};
use shef_integration_tests::{
    cluster::PATIENCE,
    lab::{
        lan::{LanLab, Plan},
        wait::until,
    },
};

use crate::rollouts::with_workload;

const REPLICAS: usize = 30;
/// How long a replica goes on serving once it has been told to stop.
const LINGER: DurationMs = DurationMs(2_000);
/// How many requests are under way at once.
const CLIENTS: usize = 4;
/// How long one request may take on a busy machine.
const REQUEST_LIMIT: Duration = PATIENCE;
/// Between two looks at which replicas there are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client that asks the API which replicas serve, and asks those in turn, each request once.
#[derive(Default)]
struct Traffic {
    /// Who serves, with its generation, and when the API was asked for that.
    serving: RefCell<(Vec<(String, u64)>, MonoMs)>,
    /// How many requests each generation has answered.
    answered: RefCell<BTreeMap<u64, usize>>,
    failed: RefCell<Vec<String>>,
    over: Cell<bool>,
}

impl Traffic {
    async fn follow(&self, lan: &LanLab) {
        while !self.over.get() {
            let asked = Now::read().mono;
            if let Ok(answer) = lan.master.api.attempt("GET", "/v1/services/web", &[], Vec::new()).await {
                let serves = |replica: &&Value| {
                    replica["want"] == "run"
                        && replica["state"] == "running"
                        && replica["health"] == "healthy"
                };
                let replicas = answer.body["replica_states"].as_array().cloned().unwrap_or_default();
                let address = |replica: &Value| {
                    Some((
                        replica["addresses"][0].as_str()?.split_once("->")?.0.to_owned(),
                        replica["generation"].as_u64()?,
                    ))
                };
                *self.serving.borrow_mut() =
                    (replicas.iter().filter(serves).filter_map(address).collect(), asked);
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
            let (replica, known) = {
                let (all, known) = &*self.serving.borrow();
                (all.get(n % all.len().max(1)).cloned(), *known)
            };
            let Some((address, generation)) = replica else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            let sent = Now::read().mono;
            let failure = match client.get(format!("http://{address}/")).force_close().send().await {
                Ok(answer) if answer.status().is_success() => {
                    *self.answered.borrow_mut().entry(generation).or_default() += 1;
                    continue;
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            // A client that has not looked for long has itself to blame: replicas linger for twice as long.
            if DurationMs((sent - known).0 * 2) < LINGER {
                self.failed.borrow_mut().push(format!("{address}: {failure}"));
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
            "env": {"VERSION": version.to_string(), "WORKLOAD_LINGER": (LINGER.0 / 1000).to_string()},
            "ports": [{"target": 8080}],
            "health": {"test": {"http": {"port": 8080, "path": "/health"}}, "interval_ms": 500},
            "update": {"order": "start-first", "parallelism": 5, "monitor_ms": 1000},
            "stop_grace_s": 5,
        })
    };
    let first = lan.master.api.call("PUT", "/v1/services/web?wait=60s", spec(1)).await;
    assert!(first.status == 201 && first.body["converged"] == true, "{first:?}");
    let traffic = Rc::new(Traffic::default());
    let answers = async |generation: u64| {
        let one = async || traffic.answered.borrow().contains_key(&generation).then_some(());
        until(&format!("generation {generation} answers"), one).await;
    };
    let update = async {
        answers(1).await;
        let updated = lan.master.api.call("PUT", "/v1/services/web?wait=120s", spec(2)).await;
        assert_eq!(updated.body["converged"], true, "{updated:?}");
        answers(2).await;
        traffic.over.set(true);
    };
    let senders = join_all((0..CLIENTS).map(|n| traffic.send(n)));
    join(update, join(traffic.follow(&lan), senders)).await;
    let failed = traffic.failed.take();
    let answered = traffic.answered.take();
    assert!(
        failed.is_empty(),
        "{answered:?} answered, {} failed: {:?}",
        failed.len(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
    let service = lan.master.api.get("/v1/services/web").await.body;
    let replicas = service["replica_states"].as_array().unwrap();
    assert!(
        replicas.len() == REPLICAS && replicas.iter().all(|replica| replica["generation"] == 2),
        "{service:#}"
    );
    assert_eq!(lan.settled(&["web"]).await.len(), REPLICAS);
}
