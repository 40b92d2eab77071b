//! `shef api`: any call of the API, for what has no command.

use std::{
    fs,
    io::{Read as _, Write as _, stdin, stdout},
    process::ExitCode,
};

use awc::http::Method;
use futures_util::StreamExt as _;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client},
    say::Printer,
};

/// The most bytes of a refusal that are read.
const MAX_REFUSAL: usize = 1 << 20;

/// Arguments of `shef api`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As in GET
    #[arg(value_parser = method)]
    method: Method,
    /// As in /v1/services
    #[arg(value_parser = path)]
    path: String,
    /// The body, as JSON; @FILE reads a file, and - standard input
    #[arg(long)]
    data: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Why an argument names no call.
#[derive(Debug, thiserror::Error)]
enum NoCall {
    #[error("must be a method such as GET or POST")]
    Method,
    #[error("must be a path such as /v1/services, without spaces")]
    Path,
}

fn method(text: &str) -> Result<Method, NoCall> {
    Method::from_bytes(text.to_ascii_uppercase().as_bytes()).map_err(|_| NoCall::Method)
}

fn path(text: &str) -> Result<String, NoCall> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_path.then(|| text.to_owned()).ok_or(NoCall::Path)
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        let body = self.data.as_deref().map(body).transpose()?;
        on_system(call(&client, self.method, &self.path, body))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn body(given: &str) -> Result<Vec<u8>, Failure> {
    let cannot =
        |what: &str, error: &std::io::Error| Failure::because(format!("{what} cannot be read"), error);
    match given.strip_prefix('@') {
        Some(file) => fs::read(file).map_err(|error| cannot(file, &error)),
        None if given == "-" => {
            let mut text = Vec::new();
            stdin().read_to_end(&mut text).map_err(|error| cannot("standard input", &error))?;
            Ok(text)
        }
        None => Ok(given.as_bytes().to_vec()),
    }
}

/// Prints what is answered as it comes: some answers have no end.
async fn call(client: &Client, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<(), Failure> {
    let url = client.url(path);
    let request = client.http().request(method, &url);
    let sent = match body {
        Some(body) => request.insert_header(("content-type", "application/json")).send_body(body).await,
        None => request.send().await,
    };
    let mut answer = sent.map_err(|error| client.no_answer(&error))?;
    if !answer.status().is_success() {
        let body = answer.body().limit(MAX_REFUSAL).await.unwrap_or_default();
        return Err(client.refused(&url, answer.status(), &body).into());
    }
    let mut out = Printer::new(stdout());
    let mut ends_line = true;
    while let Some(part) = answer.next().await {
        let part = part.map_err(|error| Failure::new(format!("{url} broke off: {error}")))?;
        ends_line = part.last().map_or(ends_line, |last| *last == b'\n');
        if out.part(&part).is_err() {
            // Nobody reads on.
            return Ok(());
        }
    }
    _ = out.end();
    if !ends_line {
        _ = writeln!(stdout());
    }
    Ok(())
}
