//! `shef backup`: everything that the store keeps, out of a running master.

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use shef_common::files;
use shef_master::store::Backup;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client},
    say::{self, Printer},
};

/// The longest the whole may take.
const LIMIT: Duration = Duration::from_mins(5);
/// The most bytes of a backup that are read.
const MAX_BYTES: usize = 2 << 30;

/// Arguments of `shef backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    api: ApiArgs,
    /// Where to write it; the file appears only when it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let api = self.api.address()?;
        let text = on_system(fetch(&self.api.client()?))?;
        let backup =
            Backup::read(&text).map_err(|error| Failure::because(format!("{api} sent no backup"), &error))?;
        let written = match &self.out {
            // It holds what services are given in their environment: only its owner may read it.
            Some(file) => files::replace(file, 0o600, &text),
            None => Printer::new(io::stdout()).part(&text),
        };
        let place =
            self.out.as_ref().map_or_else(|| "standard output".to_owned(), |file| file.display().to_string());
        written.map_err(|error| Failure::because(format!("cannot write {place}"), &error))?;
        // Standard output may be the backup itself.
        say::note(format_args!(
            "==> {} records of cluster {} are in {place}",
            backup.records.len(),
            backup.cluster
        ));
        Ok(ExitCode::SUCCESS)
    }
}

async fn fetch(client: &Client) -> Result<Vec<u8>, Failure> {
    let url = &client.url("/v1/backup");
    let call = async {
        let sent = client.http().get(url).send().await;
        let mut answer = sent.map_err(|error| client.no_answer(&error))?;
        let body = answer.body().limit(MAX_BYTES).await;
        let body = body.map_err(|error| Failure::new(format!("{url} broke off: {error}")))?;
        if !answer.status().is_success() {
            return Err(client.refused(url, answer.status(), &body).into());
        }
        Ok(body.to_vec())
    };
    let late = |_| Err(Failure::new(format!("{url} did not send it within {} s", LIMIT.as_secs())));
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(late)
}
