//! Whether a system container does not only run, but answers.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use awc::Client;

use crate::{
    docker::Engine,
    system::{Part, Wanted},
};

/// There while all that the bootstrap started is ready, for its container's health check.
pub const FILE: &str = "/run/shef-bootstrap.ready";
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks at a program that is starting; nothing tells when it listens.
pub const PAUSE: Duration = Duration::from_millis(150);

/// The most bytes of a list of hosts that are read.
const MAX_NODES_BYTES: usize = 4 << 20;

/// Lays down [`FILE`], or takes it away. Outside of a container nobody asks for it.
pub fn mark(ready: bool) {
    let marked = match (ready, Path::new(FILE).exists()) {
        (true, false) => Path::new(FILE).parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(FILE, b"")),
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
            tokio::time::timeout(LOOK_LIMIT, engine.exec_succeeds(wanted.part.container(), &ping))
                .await
                .is_ok_and(|ran| ran == Ok(true))
        }
        Part::Master => answers(&format!("http://{ip}:{port}/readyz")).await,
        Part::Agent => answers(&format!("http://{ip}:{port}/health")).await,
    }
}

/// Whether a master among `masters` has this host among those that it can use.
pub async fn joined(masters: &[String], host_ip: Ipv4Addr) -> bool {
    for url in masters {
        let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
        let Ok(mut answer) = client.get(format!("{url}/v1/nodes?limit=1000")).force_close().send().await else { continue };
        let Ok(body) = answer.json::<serde_json::Value>().limit(MAX_NODES_BYTES).await else { continue };
        let is_here = |node: &serde_json::Value| node["address"] == host_ip.to_string() && node["state"] == "ready";
        if body["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(is_here)) {
            return true;
        }
    }
    false
}

/// Whether the page is there and well.
pub async fn answers(url: &str) -> bool {
    let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
    client.get(url).force_close().send().await.is_ok_and(|answer| answer.status().is_success())
}
