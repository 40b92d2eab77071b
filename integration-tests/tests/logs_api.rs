//! What replicas write, read over the API: merged, followed, bounded, and with hosts gone.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use shef_agent::{
    EngineChoice,
    engine::fake::{FakeEngineOptions, FakeHost},
};
use shef_common::logs::{LogTime, Output};
use shef_integration_tests::cluster::{Cluster, PATIENCE};

/// A cluster of two hosts with `replicas` of a service, and the hosts' containers.
async fn cluster(replicas: u32) -> (Cluster, Vec<FakeHost>) {
    let mut cluster = Cluster::start(tempfile::tempdir().unwrap()).await;
    let hosts: Vec<FakeHost> = (0..2).map(|_| FakeHost::default()).collect();
    for (n, host) in hosts.iter().enumerate() {
        let engine = FakeEngineOptions { host: Some(host.clone()), ..FakeEngineOptions::default() };
        cluster.add_agent(&format!("h{n}"), "unix:///nowhere", EngineChoice::Fake(engine)).await;
    }
    cluster.ready(2).await;
    let body = json!({ "name": "web", "replicas": replicas, "image": "app", "update": { "monitor_ms": 0 } });
    let answer = cluster.api.call("POST", "/v1/services?wait=60s", body).await;
    assert_eq!(answer.body["converged"], true, "{answer:?}");
    (cluster, hosts)
}

fn write(host: &FakeHost, nth: usize, time: u64, text: &str) -> String {
    let name = host.containers().keys().nth(nth).unwrap().clone();
    host.write_log(
        &name,
        if text.contains("err") { Output::Stderr } else { Output::Stdout },
        LogTime(time),
        text,
    );
    name
}

async fn open(cluster: &Cluster, path: &str, accept: &str) -> Lines {
    let client = awc::Client::builder().disable_timeout().finish();
    let answer = client
        .get(format!("{}{path}", cluster.api.url))
        .insert_header(("accept", accept))
        .send()
        .await
        .unwrap();
    Lines { status: answer.status().as_u16(), answer: Box::new(answer), buffer: Vec::new() }
}

struct Lines {
    status: u16,
    answer: Box<dyn futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin>,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line, or `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|c| *c == b'\n') {
                let line = self.buffer.drain(..=end).collect::<Vec<_>>();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let part = tokio::time::timeout(PATIENCE, self.answer.next()).await.expect("the stream goes on");
            self.buffer.extend_from_slice(&part?.unwrap());
        }
    }

    async fn rest(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await {
            lines.push(line);
        }
        lines
    }
}

#[actix_rt::test]
async fn a_services_log_is_merged_over_hosts_in_the_order_of_time() {
    let (cluster, hosts) = cluster(2).await;
    let second = 1_000_000_000;
    let a = write(&hosts[0], 0, 10 * second, "first");
    let b = write(&hosts[1], 0, 11 * second, "second, an err");
    write(&hosts[0], 0, 12 * second, "third");
    let text = open(&cluster, "/v1/services/web/logs", "text/plain").await.rest().await;
    assert_eq!(text, [format!("{a} | first"), format!("{b} | second, an err"), format!("{a} | third")]);
    let json =
        open(&cluster, "/v1/services/web/logs?since=11&tail=1", "application/x-ndjson").await.rest().await;
    let json: Vec<Value> = json.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let time = "1970-01-01T00:00:11.000000000Z";
    assert_eq!(
        json[0],
        json!({ "replica": b, "host": "h1", "stream": "stderr", "time": time, "line": "second, an err" })
    );
    assert_eq!((json.len(), &json[1]["line"]), (2, &json!("third")));
    let one = open(&cluster, &format!("/v1/services/web/replicas/{b}/logs?timestamps=true"), "*/*")
        .await
        .rest()
        .await;
    assert_eq!(one, [format!("{b} | {time} second, an err")]);
    cluster.stop().await;
}

#[actix_rt::test]
async fn what_is_followed_goes_on_with_new_replicas_until_the_service_is_gone() {
    let (cluster, hosts) = cluster(1).await;
    let mut lines = open(&cluster, "/v1/services/web/logs?follow=true", "text/plain").await;
    let of = |n: usize| hosts.iter().find(|host| host.containers().len() > n).unwrap();
    let a = write(of(0), 0, 1, "one");
    assert_eq!(lines.next().await.unwrap(), format!("{a} | one"));
    let body = json!({ "replicas": 2, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("PUT", "/v1/services/web?wait=60s", body).await.body["converged"], true);
    let other = hosts.iter().find(|host| !host.containers().contains_key(&a)).unwrap();
    let b = write(other, 0, 2, "two");
    assert_eq!(lines.next().await.unwrap(), format!("{b} | two"));
    cluster.api.raw("DELETE", "/v1/services/web?wait=60s", &[], vec![]).await;
    assert_eq!(lines.rest().await.last().unwrap(), "shef | service web is gone");
    cluster.stop().await;
}

#[actix_rt::test]
async fn the_last_lines_are_lines_however_many_parts_the_engine_keeps_them_in() {
    let (cluster, hosts) = cluster(1).await;
    let host = hosts.iter().find(|host| !host.containers().is_empty()).unwrap();
    let id = write(host, 0, 1, "first");
    for part in 2..12 {
        host.write_log_part(&id, Output::Stdout, LogTime(part), "part, ");
    }
    host.write_log_part(&id, Output::Stdout, LogTime(12), "end\n");
    write(host, 0, 13, "last");
    for (tail, expected) in
        [(1, vec!["last".to_owned()]), (2, vec!["part, ".repeat(10) + "end", "last".to_owned()])]
    {
        let lines =
            open(&cluster, &format!("/v1/services/web/logs?tail={tail}"), "text/plain").await.rest().await;
        assert_eq!(
            lines,
            expected.iter().map(|line| format!("{id} | {line}")).collect::<Vec<_>>(),
            "tail={tail}"
        );
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_log_that_its_engine_cannot_read_is_said_to_be_missing_once() {
    let (cluster, hosts) = cluster(1).await;
    let host = hosts.iter().find(|host| !host.containers().is_empty()).unwrap();
    host.refuse_logs(Some("configured logging driver does not support reading"));
    let mut lines = open(&cluster, "/v1/services/web/logs?follow=true", "text/plain").await;
    let missing = lines.next().await.unwrap();
    assert!(
        missing.contains("is missing here") && missing.ends_with("does not support reading"),
        "{missing}"
    );
    // It is asked again and again, and refused each time: the next word is of the log itself.
    host.refused_logs(3).await;
    host.refuse_logs(None);
    let id = write(host, 0, 1, "at last");
    assert!(lines.next().await.unwrap().ends_with("is read again"));
    assert_eq!(lines.next().await.unwrap(), format!("{id} | at last"));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_host_that_is_gone_is_named_and_the_others_answer() {
    let (mut cluster, hosts) = cluster(2).await;
    let a = write(&hosts[0], 0, 1, "still here");
    cluster.agents.pop().unwrap().stop().await;
    cluster.api.until("/v1/nodes/h1", |answer| answer.body["state"] == "agent_down").await;
    let lines = open(&cluster, "/v1/services/web/logs", "application/x-ndjson").await.rest().await;
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let missing = lines.iter().find(|line| line.get("missing").is_some()).unwrap();
    assert_eq!(
        (&missing["missing"], &missing["reason"]),
        (&json!("h1"), &json!("the host's agent does not run"))
    );
    assert!(
        lines.iter().any(|line| line["replica"] == json!(a) && line["line"] == "still here"),
        "{lines:?}"
    );
    cluster.stop().await;
}

#[actix_rt::test]
async fn streams_have_a_bound_of_their_own_and_give_their_places_back() {
    let (cluster, hosts) = cluster(1).await;
    let host = hosts.iter().find(|host| !host.containers().is_empty()).unwrap();
    write(host, 0, 1, "hello");
    let mut all = Vec::new();
    // Three quarters of the bound are one client's.
    for _ in 0..12 {
        let mut lines = open(&cluster, "/v1/services/web/logs?follow", "text/plain").await;
        assert!(lines.next().await.is_some());
        all.push(lines);
    }
    let refused = cluster.api.get("/v1/services/web/logs").await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("overloaded")));
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
    assert_eq!(cluster.api.get("/v1/services/web").await.status, 200, "other requests do not suffer");
    all.pop();
    let again = tokio::time::timeout(PATIENCE, async {
        while open(&cluster, "/v1/services/web/logs", "text/plain").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    again.await.expect("whoever goes gives the place back");
    // The rest is ended by the master's stop, which does not wait for them.
    let stopped = actix_rt::spawn(async { cluster.stop().await });
    for lines in all {
        assert_eq!(lines.rest().await.last().unwrap(), "shef | the master stops; ask again");
    }
    stopped.await.unwrap();
}

#[actix_rt::test]
async fn wrong_questions_are_refused_with_what_would_be_right() {
    let (cluster, _) = cluster(1).await;
    for (path, status, code) in [
        ("/v1/services/none/logs", 404, "service_not_found"),
        ("/v1/services/web/replicas/web-999999/logs", 404, "replica_not_found"),
        ("/v1/services/web/replicas/x/logs", 400, "invalid_parameter"),
        ("/v1/services/web/logs?follow=yes", 400, "invalid_parameter"),
        ("/v1/services/web/logs?tail=-1", 400, "invalid_parameter"),
        ("/v1/services/web/logs?since=monday", 400, "invalid_parameter"),
        ("/v1/services/web/logs?until=1", 400, "invalid_parameter"),
    ] {
        let answer = cluster.api.get(path).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}: {answer:?}");
    }
    cluster.stop().await;
}
