//! The command line as a person types it.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use shef_integration_tests::lab::shef::{Site, binary};

/// Runs `shef` with `words`, and with `input` as what is typed.
pub async fn shef(site: &Site, words: &[&str], input: &str) -> Output {
    let mut shef = Command::new(binary());
    let (verb, rest) = words.split_first().unwrap();
    shef.arg(verb).args(["--api", &site.master.api.url]).args(rest);
    let mut child = shef.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

/// What was written, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
