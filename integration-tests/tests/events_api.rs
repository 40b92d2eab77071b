//! What happens, as server-sent events: followed, filtered, resumed.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Cluster, PATIENCE};

struct Reader {
    answer: Box<dyn futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin>,
    buffer: String,
    /// The id of the latest event.
    at: String,
}

impl Reader {
    async fn open(cluster: &Cluster, query: &str, last: Option<&str>) -> Self {
        let client = awc::Client::builder().disable_timeout().finish();
        let mut request = client.get(format!("{}/v1/events{query}", cluster.api.url));
        if let Some(last) = last {
            request = request.insert_header(("last-event-id", last));
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let mut reader = Self { answer: Box::new(answer), buffer: String::new(), at: String::new() };
        reader.block().await;
        reader
    }

    /// The next block; the data of an event, if it is one.
    async fn block(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field =
                    |name: &str| block.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
                let (id, data) = (field("id: "), field("data: "));
                self.buffer = String::from(rest);
                self.at = id.unwrap_or(std::mem::take(&mut self.at));
                return data.map(|data| serde_json::from_str(&data).unwrap());
            }
            let part = tokio::time::timeout(PATIENCE, self.answer.next())
                .await
                .expect("it goes on")
                .expect("it does not end");
            self.buffer.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
        }
    }

    /// The events up to the first of which `last` is true.
    async fn until(&mut self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            if let Some(event) = self.block().await {
                events.push(event);
                if last(&events[events.len() - 1]) {
                    return events;
                }
            }
        }
    }
}

fn words(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

async fn create(cluster: &Cluster, name: &str) {
    let body = json!({ "name": name, "replicas": 1, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", body).await.body["converged"], true);
}

#[actix_rt::test]
async fn a_services_life_is_told_in_order_and_only_to_whom_it_concerns() {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let mut reader = Reader::open(&cluster, "?service=web", None).await;
    create(&cluster, "other").await;
    create(&cluster, "web").await;
    let events = reader.until(|event| event["event"] == "service_state").await;
    assert_eq!((words(&events)[0], words(&events).last()), ("service_created", Some(&"service_state")));
    assert!(events.iter().all(|event| event["service"] == "web"), "{events:?}");
    let assigned = events.iter().find(|event| event["event"] == "replica_assigned").unwrap();
    assert_eq!((&assigned["host"], &assigned["generation"]), (&json!("h0"), &json!(1)));
    assert!(
        events.iter().any(|event| event["event"] == "replica_state" && event["state"] == "running"),
        "{events:?}"
    );
    cluster.api.raw("DELETE", "/v1/services/web?wait=60s", &[], vec![]).await;
    let events = reader.until(|event| event["event"] == "service_deleted").await;
    for word in ["replica_removing", "replica_gone"] {
        assert!(words(&events).contains(&word), "{word}: {events:?}");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_reader_resumes_where_it_was_and_is_told_when_it_cannot() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let mut reader = Reader::open(&cluster, "", None).await;
    create(&cluster, "web").await;
    let first = reader.until(|event| event["event"] == "service_created").await;
    assert_eq!(first.last().unwrap()["id"], json!(reader.at));
    let rest = reader.until(|event| event["event"] == "service_state" && event["state"] == "running").await;
    let mut again = Reader::open(&cluster, "", first.last().unwrap()["id"].as_str()).await;
    assert_eq!(
        again.until(|event| event["event"] == "service_state" && event["state"] == "running").await,
        rest
    );
    let after = format!("?after={}", rest.last().unwrap()["id"].as_str().unwrap());
    let dir = std::mem::replace(&mut cluster.dir, tempfile::tempdir().unwrap());
    cluster.stop().await;
    // Another leadership: what it did not tell it cannot count.
    let cluster = Cluster::start(dir).await;
    let mut reader = Reader::open(&cluster, &after, None).await;
    assert_eq!(reader.block().await.unwrap(), json!({ "event": "skipped", "skipped": null }));
    create_on_nobody(&cluster).await;
    let events = reader.until(|event| event["event"] == "service_created").await;
    assert!(
        !events.iter().any(|event| event["service"] == "web" && event["event"] == "service_created"),
        "{events:?}"
    );
    cluster.stop().await;
}

async fn create_on_nobody(cluster: &Cluster) {
    let body = json!({ "name": "late", "replicas": 1, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("POST", "/v1/services", body).await.status, 201);
}

#[actix_rt::test]
async fn what_operators_do_and_what_becomes_of_hosts_is_told() {
    let mut cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    let mut reader = Reader::open(&cluster, "?host=h0", None).await;
    cluster.api.raw("POST", "/v1/nodes/h0/cordon", &[], vec![]).await;
    let events = reader.until(|event| event["event"] == "host_intent").await;
    assert_eq!(events.last().unwrap()["state"], "cordoned");
    cluster.agents.pop().unwrap().stop().await;
    reader.until(|event| event["event"] == "host_state" && event["state"] == "agent_down").await;
    assert_eq!(cluster.api.raw("DELETE", "/v1/nodes/h0", &[], vec![]).await.status, 200);
    reader.until(|event| event["event"] == "host_forgotten").await;
    for (path, code) in [
        ("?after=x", "invalid_parameter"),
        ("?service=UP", "invalid_parameter"),
        ("?hosts=h0", "invalid_parameter"),
    ] {
        let answer = cluster.api.get(&format!("/v1/events{path}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!(code)), "{answer:?}");
    }
    cluster.stop().await;
}
