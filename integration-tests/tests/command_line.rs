//! The command line over a real master and real agents on fake engines.

use std::process::{Output, Stdio};

use serde_json::json;
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::{cluster::Cluster, lab::shef::binary};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

async fn cluster(services: &[&str]) -> Cluster {
    let cluster = Cluster::fake(1, FakeEngineOptions::default()).await;
    for name in services {
        let body = json!({ "name": name, "image": "app", "update": { "monitor_ms": 0 } });
        assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", body).await.body["converged"], true);
    }
    cluster
}

async fn shef(cluster: &Cluster, words: &[&str]) -> Output {
    let mut shef = Command::new(binary());
    shef.args(words).args(["--api", &cluster.api.url]).stdin(Stdio::null()).output().await.unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[actix_rt::test]
async fn one_wrong_name_changes_no_service() {
    let cluster = cluster(&["a1", "a2"]).await;
    let versions = async || {
        let view = async |name: &str| cluster.api.get(&format!("/v1/services/{name}")).await.body;
        (view("a1").await["version"].clone(), view("a2").await["version"].clone())
    };
    let before = versions().await;
    let none = "shef: there is no service nope; nothing was changed\n";
    for words in [&["rm", "a1", "nope"][..], &["scale", "a2=2", "nope=3"], &["restart", "a2", "nope"]] {
        assert_eq!(refused(&shef(&cluster, words).await), none, "{words:?}");
    }
    let two = refused(&shef(&cluster, &["rm", "no", "a1", "nope"]).await);
    assert_eq!(two, "shef: there is no service no; there is no service nope; nothing was changed\n");
    assert_eq!(versions().await, before);
    let hosts = refused(&shef(&cluster, &["node", "cordon", "h0", "nope"]).await);
    assert_eq!(hosts, "shef: there is no node nope; nothing was changed\n");
    assert_eq!(cluster.api.get("/v1/nodes/h0").await.body["intent"], "active");
    // What is done is said of each.
    let scaled = said(&shef(&cluster, &["scale", "a1=2", "a2=3"]).await);
    for part in
        ["a1: accepted, as version ", "a2: accepted, as version ", "a1: 2 of 2 healthy", "a2: 3 of 3 healthy"]
    {
        assert!(scaled.contains(part), "{part}: {scaled}");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_removal_that_is_under_way_is_joined() {
    let mut cluster = cluster(&["a1"]).await;
    // The host cannot remove anything for a while.
    cluster.agents.remove(0).stop().await;
    cluster.api.until("/v1/nodes/h0", |answer| answer.body["state"] == "agent_down").await;
    said(&shef(&cluster, &["rm", "a1", "--detach"]).await);
    let again = said(&shef(&cluster, &["rm", "a1", "--detach"]).await);
    assert!(again.starts_with("==> a1: is being deleted already, as version "), "{again}");
    let waits = shef(&cluster, &["rm", "a1", "--wait", "1s"]).await;
    let words = String::from_utf8_lossy(&waits.stderr).into_owned();
    assert!(!waits.status.success() && words.contains("a1 is not as wanted after 1 s"), "{waits:?}");
    let scaled = refused(&shef(&cluster, &["scale", "a1=2", "a1=3"]).await);
    assert_eq!(scaled, "shef: service a1 is being deleted; nothing was changed\n");
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_host_that_cannot_be_emptied_says_what_stays_there_and_why() {
    let cluster = cluster(&["a1"]).await;
    let drained = shef(&cluster, &["node", "drain", "h0", "--wait", "3s"]).await;
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    for text in [&drained.stdout, &drained.stderr] {
        let text = String::from_utf8_lossy(text);
        let reason = " stays on h0, which is drained: no host can take the replica: the only host is drained";
        for part in ["service a1: a1-", reason, "--deadline"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // It keeps no volume data that could be given up.
        assert!(!text.contains("release"), "{text}");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn what_is_so_already_is_told_as_such_and_what_is_not_there_is_named() {
    let cluster = cluster(&[]).await;
    let ports = json!({ "name": "web", "image": "app", "ports": [{ "target": 80, "published": 8_080 }] });
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), ports.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    let first = said(&shef(&cluster, &["apply", path]).await);
    assert!(first.starts_with("==> web is to run generation 1\n"), "{first}");
    let again = said(&shef(&cluster, &["apply", path]).await);
    assert!(
        again.starts_with("==> web: nothing has changed: it was so already, as generation 1\n"),
        "{again}"
    );
    let scaled = said(&shef(&cluster, &["scale", "web=1"]).await);
    assert!(scaled.starts_with("==> web: nothing has changed"), "{scaled}");
    let shown = said(&shef(&cluster, &["ps", "web"]).await);
    assert!(shown.contains("ADDRESSES") && shown.contains(":8080->80/tcp"), "{shown}");

    let slot = refused(&shef(&cluster, &["service", "release", "web", "7"]).await);
    assert_eq!(slot, "shef: service web has no slot 7: it has slot 0 alone\n");
    let force = refused(&shef(&cluster, &["node", "rm", "h0"]).await);
    assert!(
        force.contains("To forget it all the same: `shef node rm --force h0`, or ?force=true"),
        "{force}"
    );

    let mut events = Command::new(binary());
    events.args(["events", "--service", "nope", "--api", &cluster.api.url]).stdin(Stdio::null());
    let mut events = events.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut told = BufReader::new(events.stderr.take().unwrap()).lines();
    let line = told.next_line().await.unwrap();
    assert_eq!(line.as_deref(), Some("==> there is no service nope now: waiting for its events"));
    events.kill().await.unwrap();
    cluster.stop().await;
}

#[actix_rt::test]
async fn generations_are_listed_and_a_port_of_an_agent_is_told_as_one() {
    let cluster = cluster(&["a1"]).await;
    let change = json!({ "env": { "A": "1" }, "update": { "probation_ms": 0 } });
    let changed = cluster.api.call("PATCH", "/v1/services/a1?wait=60s", change).await;
    assert_eq!(changed.body["converged"], true, "{changed:?}");
    let history = said(&shef(&cluster, &["history", "a1"]).await);
    let rows: Vec<Vec<&str>> = history.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["GENERATION", "IMAGE", "REPLACED", "STATE"]);
    assert_eq!(rows[1], ["2", "app", "-", "current"]);
    assert!(rows[2][..2] == ["1", "app"] && rows[2][2].ends_with('Z') && rows.len() == 3, "{history}");

    let agent = format!("http://{}", cluster.agents[0].address());
    let mut ls = Command::new(binary());
    let ls = ls.args(["ls", "--api", &agent]).output().await.unwrap();
    let words = format!(
        "shef: {agent}/v1/services is a host's agent: the master's API is at port 8044 (--api URL)\n"
    );
    assert_eq!(refused(&ls), words);
    let mut rm = Command::new(binary());
    let rm = rm.args(["rm", "a1", "a2", "--api", &agent]).output().await.unwrap();
    assert!(refused(&rm).contains("a1 is a host's agent: "), "{rm:?}");
    cluster.stop().await;
}
