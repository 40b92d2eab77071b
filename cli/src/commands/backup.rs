//! `shef backup`: everything that the store keeps, out of a running master.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use shef_master::store::Backup;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, no_answer, refusal},
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
        let api = self.api.address();
        let text = on_system(fetch(&format!("{api}/v1/backup")))?;
        let backup = Backup::read(&text).map_err(|error| Failure::because(format!("{api} sent no backup"), &error))?;
        let written = match &self.out {
            Some(file) => write_whole(file, &text),
            None => io::stdout().write_all(&text).and_then(|()| io::stdout().flush()),
        };
        let place = self.out.as_ref().map_or_else(|| "standard output".to_owned(), |file| file.display().to_string());
        written.map_err(|error| Failure::because(format!("cannot write {place}"), &error))?;
        // Standard output may be the backup itself.
        eprintln!("==> {} records of cluster {} are in {place}", backup.records.len(), backup.cluster);
        Ok(ExitCode::SUCCESS)
    }
}

async fn fetch(url: &str) -> Result<Vec<u8>, Failure> {
    let client = awc::Client::builder().disable_redirects().disable_timeout().finish();
    let call = async {
        let sent = client.get(url).send().await;
        let mut answer = sent.map_err(|error| Failure::new(no_answer(url, &error)))?;
        let body = answer.body().limit(MAX_BYTES).await;
        let body = body.map_err(|error| Failure::new(format!("{url} broke off: {error}")))?;
        if !answer.status().is_success() {
            return Err(Failure::new(refusal(url, answer.status(), &body)));
        }
        Ok(body.to_vec())
    };
    let late = |_| Err(Failure::new(format!("{url} did not send it within {} s", LIMIT.as_secs())));
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(late)
}

/// Writes `text` so that `file` is there with all of it, or as it was before. It
/// holds what services are given in their environment: only its owner may read it.
fn write_whole(file: &Path, text: &[u8]) -> io::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = directory.join(name);
    let written = (|| {
        let mut open = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        open.write_all(text)?;
        open.sync_all()?;
        fs::rename(&part, file)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // What there is of it is no backup.
        _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_as_before_and_only_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b");
        write_whole(&file, b"old").unwrap();
        write_whole(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_whole(&dir.path().join("none/b"), b"x").is_err());
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write_whole(&taken, b"x").is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "nothing is left behind: {left:?}");
    }
}
