//! Whether a system container does not only run, but answers.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use awc::{Client, http::header::HOST};
use serde::{Deserialize, de::DeserializeOwned};
use shef_common::{
    backoff::Backoff,
    clock::DurationMs,
    config::TOKEN_ENV,
    ids::{NodeName, NodeUid},
};

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

/// Whether a master among `masters` has this host among those that it can use. The host's agent says who the
/// host is, and the masters are asked for that one alone.
pub async fn joined(masters: &[String], host_ip: Ipv4Addr) -> bool {
    let agent = format!("http://{host_ip}:{AGENT_PORT}/health");
    let Some(own) = page::<Own>(&agent).await else { return false };
    for master in masters {
        if counts_on(master, &own).await {
            return true;
        }
    }
    false
}

/// Whose agent it is, as it says itself.
#[derive(Debug, Deserialize)]
struct Own {
    node: NodeName,
    uid: NodeUid,
}

/// The parts of a host's view that matter here.
#[derive(Debug, Deserialize)]
struct Node {
    uid: String,
    state: String,
}

async fn counts_on(master: &str, own: &Own) -> bool {
    let node = page::<Node>(&format!("{master}/v1/nodes/{}", own.node)).await;
    node.is_some_and(|node| node.uid == own.uid.as_str() && node.state == "ready")
}

/// The JSON at `url`, if it is there, well and of that kind.
async fn page<T: DeserializeOwned>(url: &str) -> Option<T> {
    let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
    // A master answers by the names that it knows; this host may have been given another one.
    let mut request = client.get(url).insert_header((HOST, "localhost")).force_close();
    if let Some(token) = std::env::var(TOKEN_ENV).ok().filter(|token| !token.is_empty()) {
        request = request.bearer_auth(token);
    }
    let mut answer = request.send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    tokio::time::timeout(LOOK_LIMIT, answer.json::<T>().limit(MAX_ANSWER_BYTES)).await.ok()?.ok()
}

/// Whether the page is there and well.
pub async fn answers(url: &str) -> bool {
    let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
    client.get(url).force_close().send().await.is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A master that knows one host, and notes what it is asked for.
    async fn master(state: &'static str, uid: &'static str) -> (String, Rc<RefCell<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, asked) =
            (format!("http://{}", listener.local_addr().unwrap()), Rc::new(RefCell::new(Vec::new())));
        let noted = asked.clone();
        actix_rt::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 1_024];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                noted.borrow_mut().push(head.split(' ').nth(1).unwrap_or_default().to_owned());
                let body = format!("{{\"name\":\"h1\",\"uid\":\"{uid}\",\"state\":\"{state}\",\"new\":1}}");
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let _ = stream
                    .write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
                    .await;
            }
        });
        (url, asked)
    }

    #[actix_rt::test]
    async fn a_master_is_asked_for_the_one_host_and_its_identity_decides() {
        let own =
            Own { node: NodeName::parse("h1").unwrap(), uid: NodeUid::parse("00000000000000aa").unwrap() };
        for (state, uid, counts) in [
            ("ready", "00000000000000aa", true),
            ("suspect", "00000000000000aa", false),
            ("ready", "00000000000000cc", false),
        ] {
            let (url, asked) = master(state, uid).await;
            assert_eq!(counts_on(&url, &own).await, counts, "{state} {uid}");
            assert_eq!(*asked.borrow(), ["/v1/nodes/h1"]);
        }
        assert!(!counts_on("http://127.0.0.1:1", &own).await);
    }

    #[test]
    fn a_host_that_does_not_join_asks_ever_less_often() {
        let waits: Vec<u64> = (1..=20).map(|looks| JOIN_PAUSE.after(looks).0).collect();
        assert!(waits.is_sorted() && waits[0] == 150 && waits[19] == 5_000, "{waits:?}");
    }
}
