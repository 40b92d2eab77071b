//! The bootstrap's own guard, run by the host's agent: a bootstrap that was killed is
//! started again, though the engine takes `docker kill` for its operator's wish.
//! One that was stopped ended by itself, with code 0, and is let be.

use std::{convert::Infallible, time::Duration};

use bollard::models::{ContainerInspectResponse, RestartPolicyNameEnum};
use futures_util::StreamExt as _;

use crate::{
    docker::{Engine, EngineError},
    system::BOOTSTRAP_LABEL,
};

/// How long the engine has to start it again by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// The code of a process that was killed.
const KILLED: i64 = 137;

/// What matters of a bootstrap's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    running: bool,
    code: i64,
    kept_running: bool,
}

/// Whether a bootstrap that ended like this is to be started again.
const fn is_to_start(ended: Ended) -> bool {
    !ended.running && ended.code == KILLED && ended.kept_running
}

/// Watches over the host's bootstrap for as long as it is polled.
pub async fn guard(docker_host: &str) -> Infallible {
    loop {
        if let Err(error) = watch(docker_host).await {
            log::debug!(why:% = error; "the bootstrap's guard has no engine");
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

async fn watch(docker_host: &str) -> Result<(), EngineError> {
    let engine = Engine::connect(docker_host).await?;
    let label = format!("{BOOTSTRAP_LABEL}=true");
    let mut events = engine.events(&label);
    look(&engine, &label).await?;
    while let Some(event) = events.next().await {
        if event?.0 == "die" {
            tokio::time::sleep(PATIENCE).await;
            look(&engine, &label).await?;
        }
    }
    Ok(())
}

async fn look(engine: &Engine, label: &str) -> Result<(), EngineError> {
    for (id, name) in engine.list(label, true).await? {
        if engine.inspect(&id).await?.is_some_and(|found| is_to_start(ended(&found))) {
            log::warn!(name; "the bootstrap was killed: starting it again");
            engine.start(&id).await?;
        }
    }
    Ok(())
}

fn ended(found: &ContainerInspectResponse) -> Ended {
    let state = found.state.clone().unwrap_or_default();
    let policy = found.host_config.as_ref().and_then(|config| config.restart_policy.as_ref()).and_then(|policy| policy.name);
    Ended {
        running: state.running.unwrap_or(false) || state.restarting.unwrap_or(false),
        code: state.exit_code.unwrap_or(0),
        kept_running: matches!(policy, Some(RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ALWAYS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bootstrap_that_was_killed_and_should_be_kept_running_is_started() {
        let killed = Ended { running: false, code: KILLED, kept_running: true };
        assert!(is_to_start(killed));
        assert!(!is_to_start(Ended { running: true, ..killed }));
        assert!(!is_to_start(Ended { code: 0, ..killed }), "it was stopped");
        assert!(!is_to_start(Ended { code: 1, ..killed }), "it refused to start, and said why");
        assert!(!is_to_start(Ended { kept_running: false, ..killed }));
    }
}
