//! Clients that send slowly, or take all that there is: masters and agents go on for the others.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Cluster, PATIENCE};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Another client on this host: the loopback has many addresses.
const OTHER_CLIENT: &str = "127.0.0.2:0";

/// A connection of the other client; an error: it is not taken.
async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(OTHER_CLIENT.parse().unwrap())?;
    tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await?
}

/// The head of a request whose body never comes.
async fn stalled(to: SocketAddr, path: &str) -> Option<TcpStream> {
    let mut connection = connect(to).await.ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: \
         100\r\n\r\n{{"
    );
    connection.write_all(head.as_bytes()).await.ok()?;
    Some(connection)
}

/// All that comes, until the server closes the connection.
async fn answer(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut answer)).await.expect("it has an end");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn cluster() -> (Cluster, SocketAddr, SocketAddr) {
    let cluster = Cluster::plain(1, FakeEngineOptions::default()).await;
    let address = |url: &str| url.trim_start_matches("http://").parse().unwrap();
    let agent = cluster.api.get("/v1/nodes/h0").await.body["agent_url"].as_str().map(address).unwrap();
    let master = address(&cluster.api.url);
    (cluster, master, agent)
}

#[actix_rt::test]
async fn bodies_that_never_come_hold_nobody_up_and_are_given_up() {
    let (cluster, master, agent) = cluster().await;
    let mut waiting = Vec::new();
    for _ in 0..300 {
        waiting.push(stalled(master, "/v1/services").await.expect("a connection"));
        waiting.extend(stalled(agent, "/v1/assignments").await);
    }
    waiting.push(stalled(master, "/agent/v1/report").await.unwrap());
    waiting.push(stalled(master, "/service").await.unwrap());
    // Others are served meanwhile: users, the host's reports, pushes and probes.
    let waiting_requests = cluster.api.get("/v1/cluster").await.body["waiting_requests"].clone();
    assert_eq!(waiting_requests, 1, "a place is for a whole request, as this one is");
    let web = json!({ "name": "web", "replicas": 2, "image": "app", "update": { "monitor_ms": 0 } });
    assert_eq!(cluster.api.call("POST", "/v1/services?wait=30s", web).await.body["converged"], true);
    assert_eq!(cluster.api.get("/v1/nodes/h0").await.body["state"], "ready");
    let mut too_slow = 0;
    for connection in waiting {
        let answer = answer(connection).await;
        // The agent closes at once what is beyond the client's share.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        too_slow += usize::from(!answer.is_empty());
    }
    assert!(too_slow >= 300 + 100, "{too_slow} were told so");
    cluster.stop().await;
}

#[actix_rt::test]
async fn no_client_has_all_streams() {
    let (cluster, master, _) = cluster().await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..16 {
        let mut connection = connect(master).await.unwrap();
        let head = format!("GET /v1/events HTTP/1.1\r\nHost: {master}\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).await.unwrap();
        match &status {
            b"HTTP/1.1 200" => open.push(connection),
            b"HTTP/1.1 503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert_eq!((open.len(), refused), (12, 4), "of 16 streams a client has three quarters");
    let mut other = TcpStream::connect(master).await.unwrap();
    let head = format!("GET /v1/events HTTP/1.1\r\nHost: {master}\r\n\r\n");
    other.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    other.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    drop((open, other));
    cluster.stop().await;
}

#[actix_rt::test]
async fn a_method_that_is_not_taken_is_answered_with_those_that_are() {
    let (cluster, master, agent) = cluster().await;
    for (address, request, allowed) in [
        (master, "DELETE /v1/services", "GET, POST"),
        (master, "GET /agent/v1/report", "POST"),
        (agent, "DELETE /v1/probe", "GET, POST"),
        (agent, "GET /v1/assignments", "POST"),
    ] {
        let mut connection = connect(address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let answer = answer(connection).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 405"), "{request}: {answer}");
        let allow = format!("\r\nallow: {}\r\n", allowed.to_lowercase());
        assert!(answer.contains(&allow), "{request}: {answer}");
    }
    cluster.stop().await;
}
