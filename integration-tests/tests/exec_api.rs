//! Commands in replicas and what replicas use, over a real master and real agents on fake engines.

use awc::ws::{Frame, Message};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Cluster, PATIENCE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn cluster() -> (Cluster, String) {
    running(Cluster::fake(2, FakeEngineOptions::default()).await).await
}

async fn running(cluster: Cluster) -> (Cluster, String) {
    let body = json!({ "name": "web", "replicas": 2, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=60s", body).await.body["converged"], true);
    let view = cluster.api.get("/v1/services/web").await.body;
    let on_h0 =
        view["replica_states"].as_array().unwrap().iter().find(|replica| replica["node"] == "h0").unwrap();
    let id = on_h0["id"].as_str().unwrap().to_owned();
    (cluster, id)
}

/// Runs a command and writes `input` while it reads what comes: by stream, and the last frame.
async fn exec(
    cluster: &Cluster,
    replica: &str,
    query: &str,
    input: Vec<Message>,
) -> (Vec<u8>, Vec<u8>, Value) {
    let url = format!("{}/v1/services/web/replicas/{replica}/exec?{query}", cluster.api.url);
    let (_, socket) = awc::Client::new().ws(&url).connect().await.expect("a WebSocket");
    let (mut sink, mut frames) = socket.split();
    let write = async move {
        for message in input {
            sink.send(message).await.unwrap();
        }
        // Whoever hangs up is no longer told anything.
        std::future::pending::<()>().await;
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = async {
        loop {
            let frame = tokio::time::timeout(PATIENCE, frames.next())
                .await
                .expect("it goes on")
                .expect("it says how it ended");
            match frame.unwrap() {
                Frame::Binary(bytes) if bytes[0] == 1 => out.extend_from_slice(&bytes[1..]),
                Frame::Binary(bytes) => err.extend_from_slice(&bytes[1..]),
                Frame::Text(text) => return serde_json::from_slice(&text).unwrap(),
                Frame::Ping(_) | Frame::Pong(_) | Frame::Continuation(_) | Frame::Close(_) => {}
            }
        }
    };
    let ended = tokio::select! {
        ended = read => ended,
        () = write => unreachable!("it waits for ever"),
    };
    (out, err, ended)
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

#[actix_rt::test]
async fn a_command_gets_input_and_terminal_size_and_gives_outputs_and_code() {
    let (cluster, replica) = cluster().await;
    let (out, err, ended) = exec(&cluster, &replica, "cmd=say&cmd=a%20b", vec![]).await;
    assert_eq!((out, err, ended), (vec![], b"say a b\n".to_vec(), json!({ "exit_code": 0 })));
    assert_eq!(exec(&cluster, &replica, "cmd=exit&cmd=3", vec![]).await.2, json!({ "exit_code": 3 }));
    let (out, _, _) = exec(&cluster, &replica, "cmd=env&env=A%3Db&env=B%3D", vec![]).await;
    assert_eq!(out, b"A=b\nB=");
    let detached = exec(&cluster, &replica, "cmd=say&cmd=a&detach=true", vec![]).await;
    assert_eq!(detached, (vec![], vec![], json!({ "exit_code": 0 })), "no output is sent");
    let long = "x".repeat(16_000);
    let (_, err, ended) = exec(&cluster, &replica, &format!("cmd=say&cmd={long}"), vec![]).await;
    assert_eq!((err.len(), ended), ("say \n".len() + long.len(), json!({ "exit_code": 0 })));
    // More than any buffer on the way, both ways at once.
    let part = [&[0][..], &vec![b'x'; 50_000]].concat();
    let mut input = vec![Message::Text(json!({ "resize": { "rows": 24, "cols": 80 } }).to_string().into())];
    input.extend((0..40).map(|_| binary(&part)));
    input.push(binary(&[0]));
    let (out, _, ended) = exec(&cluster, &replica, "cmd=cat&tty=true", input).await;
    assert_eq!((ended, out.len()), (json!({ "exit_code": 0 }), 6 + 40 * 50_000));
    assert!(out.starts_with(b"24x80\n"));
    // The end of the input is no end of what a terminal shows.
    for input in [vec![binary(&[0])], vec![binary(b"\0a\n"), binary(b"\0b"), binary(&[0])]] {
        let typed: Vec<u8> = if input.len() == 1 { vec![] } else { b"a\nb".to_vec() };
        let (out, _, ended) = exec(&cluster, &replica, "cmd=cat&tty=true", input).await;
        assert_eq!((out, ended), (typed, json!({ "exit_code": 0 })));
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_command_that_ends_while_its_input_still_flows_tells_its_code() {
    let (cluster, replica) = cluster().await;
    let part = [&[0][..], &vec![b'y'; 50_000]].concat();
    for command in ["exit", "reset"].repeat(5) {
        let url = format!("{}/v1/services/web/replicas/{replica}/exec?cmd={command}&cmd=7", cluster.api.url);
        let (_, socket) = awc::Client::new().ws(&url).connect().await.expect("a WebSocket");
        let (mut sink, mut frames) = socket.split();
        // As `yes |`, which has no end; a client whose writing fails still reads.
        let flood = async {
            while sink.send(binary(&part)).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let read = async {
            let mut last = None;
            while let Some(Ok(frame)) =
                tokio::time::timeout(PATIENCE, frames.next()).await.expect("it has an end")
            {
                match frame {
                    Frame::Text(text) => last = Some(serde_json::from_slice::<Value>(&text).unwrap()),
                    Frame::Close(_) => break,
                    Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Continuation(_) => {}
                }
            }
            last
        };
        let last = tokio::select! {
            last = read => last,
            () = flood => unreachable!("it waits for ever"),
        };
        assert_eq!(last, Some(json!({ "exit_code": 7 })), "{command}");
    }
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_command_that_cannot_run_is_refused_or_its_last_frame_says_so() {
    let (mut cluster, replica) = cluster().await;
    for (path, status, code) in [
        (format!("web/replicas/{replica}/exec"), 400, "invalid_parameter"),
        (format!("web/replicas/{replica}/exec?cmd=a&tty=maybe"), 400, "invalid_parameter"),
        (format!("web/replicas/{replica}/exec?cmd=a"), 400, "invalid_parameter"),
        ("web/replicas/web-999999/exec?cmd=a".to_owned(), 404, "replica_not_found"),
        (format!("none/replicas/{replica}/exec?cmd=a"), 404, "service_not_found"),
    ] {
        let answer = cluster.api.get(&format!("/v1/services/{path}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}: {answer:?}");
    }
    // The agents' order is h0, h1.
    cluster.agents.remove(0).stop().await;
    cluster.api.until("/v1/nodes/h0", |answer| answer.body["state"] == "agent_down").await;
    let answer = cluster.api.get(&format!("/v1/services/web/replicas/{replica}/exec?cmd=a")).await;
    assert_eq!((answer.status, &answer.body["code"]), (409, &json!("replica_unreachable")), "{answer:?}");
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_services_usage_sums_its_replicas_and_names_missing_hosts() {
    let (mut cluster, replica) = cluster().await;
    let all = cluster.api.get("/v1/services/web/stats").await.body;
    assert_eq!((all["replicas"].as_array().unwrap().len(), &all["missing"]), (2, &json!([])), "{all}");
    assert_eq!(
        (&all["total"]["cpu_percent"], &all["total"]["memory_bytes"]),
        (&json!(200.0), &json!(2 << 20)),
        "{all}"
    );
    let one = cluster.api.get(&format!("/v1/services/web/replicas/{replica}/stats")).await.body;
    assert_eq!(
        (&one["host"], &one["cpu_percent"], &one["block_write_bytes"]),
        (&json!("h0"), &json!(100.0), &json!(4_000))
    );
    cluster.agents.remove(0).stop().await;
    cluster.api.until("/v1/nodes/h0", |answer| answer.body["state"] == "agent_down").await;
    let rest = cluster.api.get("/v1/services/web/stats").await.body;
    let why = "the host's agent does not run";
    assert_eq!(rest["missing"], json!([{ "replica": replica, "host": "h0", "reason": why }]));
    assert_eq!((rest["replicas"].as_array().unwrap().len(), &rest["total"]["pids"]), (1, &json!(3)));
    let answer = cluster.api.get(&format!("/v1/services/web/replicas/{replica}/stats")).await;
    assert_eq!((answer.status, &answer.body["code"]), (409, &json!("replica_unreachable")));
    cluster.stop().await;
}

/// A WebSocket by hand, after its handshake.
async fn raw_socket(address: &str, path: &str) -> tokio::net::TcpStream {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.expect("an answer to the handshake"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket
}

#[actix_rt::test]
async fn a_frame_that_declares_a_terabyte_is_not_waited_for() {
    let (cluster, replica) = running(Cluster::plain(2, FakeEngineOptions::default()).await).await;
    let master = cluster.api.url.trim_start_matches("http://").to_owned();
    let agent = cluster.api.get("/v1/nodes/h0").await.body["agent_url"].as_str().unwrap().to_owned();
    let agent = agent.trim_start_matches("http://").to_owned();
    for (address, path) in [
        (master, format!("/v1/services/web/replicas/{replica}/exec?cmd=cat")),
        (agent, format!("/v1/replicas/{replica}/exec?cmd=cat")),
    ] {
        let mut socket = raw_socket(&address, &path).await;
        socket.write_all(&[0x82, 0xff]).await.unwrap();
        socket.write_all(&(1_u64 << 40).to_be_bytes()).await.unwrap();
        socket.write_all(&[1, 2, 3, 4]).await.unwrap();
        // What is sent goes nowhere: soon the server reads no more, and closes.
        let part = vec![0; 64 * 1024];
        let sent = async {
            let mut sent = 0;
            while socket.write_all(&part).await.is_ok() {
                sent += part.len();
            }
            sent
        };
        let sent = tokio::time::timeout(PATIENCE, sent).await.expect("the connection is closed");
        println!("{address} took {sent} bytes");
    }
    cluster.stop().await;
}
