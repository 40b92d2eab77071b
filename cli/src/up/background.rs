//! The process that stays when the terminal closes.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use shef_common::files;

use super::{ASK_EVERY, READY_LIMIT, own_program};
use crate::{
    Failure,
    layers::{UpConfig, UpFlags},
    running::{Running, State, look},
    tail::tail,
};

/// The log of the process in the background. It is new at each start; the previous one is kept beside it.
pub(super) fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("shef.log")
}

/// Starts this program again in a session of its own and waits until its API answers.
pub(super) async fn start(config: &UpConfig, flags: &UpFlags) -> Result<Running, Failure> {
    let log = log_path(&config.data_dir);
    let failed = |error| Failure::because(format!("cannot write {}", log.display()), &error);
    _ = fs::rename(&log, log.with_extension("log.1"));
    let file = files::open(&log, OpenOptions::new().create(true).append(true)).map_err(failed)?;
    let copy = file.try_clone().map_err(failed)?;
    let mut child = Command::new(own_program()?)
        .args(arguments(config, flags))
        // The URL may hold a password, and every user of the host can read arguments.
        .envs(flags.redis.as_ref().map(|url| ("SHEF_REDIS_URL", url)))
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .map_err(|error| Failure::because("cannot start the process in the background", &error))?;
    // The file may still hold what a killed process has written.
    let own = i32::try_from(child.id()).ok();
    let ready = async {
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Failure(format!(
                    "shef ended at once ({status}); the end of its log, {}:\n{}",
                    log.display(),
                    tail(&log, 10)
                )));
            }
            match look(&config.data_dir) {
                State::Running(running) if running.ready && Some(running.pid) == own => return Ok(running),
                State::Running(_) | State::Starting | State::Free => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    };
    let waited = tokio::time::timeout(READY_LIMIT, ready).await;
    waited.unwrap_or_else(|_| {
        _ = child.kill();
        let text = format!(
            "the API does not answer within {} s; the end of the log, {}:\n",
            READY_LIMIT.as_secs(),
            log.display()
        );
        Err(Failure(text + &tail(&log, 10)))
    })
}

/// For the process in the background itself: leaves the terminal's session, so that it outlives it.
pub(super) fn leave_terminal() {
    // Fails only where the process leads a session already, which is as good.
    _ = rustix::process::setsid();
}

/// The arguments of the process in the background: the same request, with the engine that was found.
fn arguments(config: &UpConfig, flags: &UpFlags) -> Vec<String> {
    let mut words: Vec<String> = ["up", "--background"].map(str::to_owned).to_vec();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([name.to_owned(), value]);
        }
    };
    add("--data-dir", Some(config.data_dir.to_string_lossy().into_owned()));
    add("--docker-host", Some(config.agent.0.docker_host.clone()));
    add("--api", flags.api.clone());
    add("--agent", flags.agent.clone());
    add("--config", flags.config.as_ref().map(|path| path.to_string_lossy().into_owned()));
    words
}
