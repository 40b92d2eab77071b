//! Whether a system container does not only run, but answers.

use std::{fs, path::Path, time::Duration};

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
const PAUSE: Duration = Duration::from_millis(150);

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
        Part::Agent => answers(&format!("http://{ip}:{port}/healthz")).await,
    }
}

/// Whether the page is there and well.
pub async fn answers(url: &str) -> bool {
    let client = Client::builder().timeout(LOOK_LIMIT).disable_redirects().finish();
    client.get(url).force_close().send().await.is_ok_and(|answer| answer.status().is_success())
}
