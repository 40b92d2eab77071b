//! Whether a system container does not only run, but answers.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use awc::Client;
use serde::Deserialize;
use shef_common::{backoff::Backoff, clock::DurationMs};

use crate::{
    docker::Engine,
    system::{AGENT_PORT, Part, Wanted},
};

/// There while all that the bootstrap started is ready, for its container's health check.
pub const FILE: &str = "/run/shef-bootstrap.ready";
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks at a program that is starting; nothing tells when it listens.
pub const PAUSE: Duration = Duration::from_millis(150);

/// Between two looks whether the master counts on this host: many hosts may be asking.
pub const JOIN_PAUSE: Backoff = Backoff { first: DurationMs(150), most: DurationMs(5_000) };

/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Lays down [`FILE`], or takes it away. Outside of a container it is not used.
pub fn mark(ready: bool) {
    let marked = match (ready, Path::new(FILE).exists()) {
        (true, false) => {
            Path::new(FILE).parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(FILE, b""))
        }
        (false, true) => fs::remove_file(FILE),
        (true, true) | (false, false) => Ok(()),
    };
    if let Err(error) = marked {
        log::debug!(error:%; "the health check cannot be told");
    }
}

/// Waits until the part answers, for as long as it takes.
pub async fn wait(engine: &Engine, wanted: &Wanted) {
    while !look(engine, wanted).await {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the part answers now.
pub async fn look(engine: &Engine, wanted: &Wanted) -> bool {
    let (ip, port) = wanted.listens;
    match wanted.part {
        Part::Redis => {
            // Without the password the answer is NOAUTH, and an answer all the same.
            let ping = ["redis-cli", "-p", &port.to_string(), "ping"];
            tokio::time::timeout(LOOK_LIMIT, engine.exec(wanted.part.container(), &ping))
                .await
                .is_ok_and(|ran| matches!(ran, Ok(Some(_))))
        }
        Part::Master => answers(&format!("http://{ip}:{port}/readyz")).await,
        Part::Agent => answers(&format!("http://{ip}:{port}/health")).await,
        Part::Guard => engine.runs(wanted.part.container()).await == Ok(true),
    }
}

/// Whether a master counts this host among its own, as the host's agent says.
pub async fn joined(host_ip: Ipv4Addr) -> bool {
    says_accepted(&format!("http://{host_ip}:{AGENT_PORT}/health")).await
}

/// What an agent says of its host.
#[derive(Debug, Deserialize)]
struct Own {
    accepted: bool,
}

async fn says_accepted(url: &str) -> bool {
    let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
    let Ok(mut answer) = client.get(url).force_close().send().await else { return false };
    let own = tokio::time::timeout(LOOK_LIMIT, answer.json::<Own>().limit(MAX_ANSWER_BYTES)).await;
    own.is_ok_and(|own| own.is_ok_and(|own| own.accepted))
}

/// Whether the page is there and well.
pub async fn answers(url: &str) -> bool {
    let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
    client.get(url).force_close().send().await.is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// An agent that answers so, once.
    async fn agent(body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        actix_rt::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 1_024]).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            _ = stream.write_all(answer.as_bytes()).await;
        });
        url
    }

    #[actix_rt::test]
    async fn a_host_has_joined_once_its_agent_says_so() {
        assert!(says_accepted(&agent(r#"{"OK":true,"node":"h1","accepted":true}"#).await).await);
        assert!(!says_accepted(&agent(r#"{"OK":true,"node":"h1","accepted":false}"#).await).await);
        assert!(!says_accepted(&agent(r#"{"OK":true}"#).await).await, "one of an earlier version");
        assert!(!says_accepted("http://127.0.0.1:1/health").await);
    }

    #[test]
    fn a_host_that_does_not_join_asks_ever_less_often() {
        let waits: Vec<u64> = (1..=20).map(|looks| JOIN_PAUSE.after(looks).0).collect();
        assert!(waits.is_sorted() && waits[0] == 150 && waits[19] == 5_000, "{waits:?}");
    }
}
