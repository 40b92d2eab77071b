//! Whether a system container does not only run, but answers.

use std::time::Duration;

use awc::Client;

use crate::{
    docker::Engine,
    system::{Part, Wanted},
};

/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks at a program that is starting; nothing tells when it listens.
const PAUSE: Duration = Duration::from_millis(150);

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
