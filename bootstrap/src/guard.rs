//! Bootstrap, agent and guard start each other again when they were killed, though the
//! engine takes `docker kill` for its operator's wish and leaves a container so killed
//! stopped, whatever its restart policy. Three of them, so that any two may be killed
//! together. The bootstrap starts whatever is missing; this is what the agent and the
//! container `shef-guard` do.
//!
//! A container that was stopped ended by itself, with code 0, and is left alone. It is started again if it
//! went down together with the process that looks, as when an engine crashes: then, too, the engine takes its
//! own stop for the operator's.

use std::{convert::Infallible, time::Duration};

use bollard::models::{ContainerInspectResponse, RestartPolicyNameEnum};
use futures_util::{StreamExt as _, stream::select_all};

use crate::{
    docker::{Engine, EngineError},
    host,
    system::{BOOTSTRAP_LABEL, PART_LABEL, Part},
};

/// How long the engine has to start it again by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// The code of a process that was killed.
const KILLED: i64 = 137;

/// Two containers that ended within so many seconds of each other were taken down together.
const TOGETHER_S: i64 = 20;

/// What matters of a container that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    running: bool,
    code: i64,
    kept_running: bool,
    /// When, in seconds since 1970; 0: never.
    at: i64,
}

/// Whether a container that ended like this is to be started again by one that had itself
/// ended at `own_ended` before it was started.
const fn is_to_start(ended: Ended, own_ended: i64) -> bool {
    let together = own_ended > 0 && (ended.at - own_ended).abs() <= TOGETHER_S;
    !ended.running && ended.kept_running && (ended.code == KILLED || together)
}

/// Watches over the host's bootstrap, agent and guard for as long as it is polled.
pub async fn guard(docker_host: &str) -> Infallible {
    loop {
        if let Err(error) = watch(docker_host).await {
            log::debug!(why:% = error; "the guard has no engine");
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

/// The labels of what is watched.
fn watched() -> [String; 3] {
    let part = |part: Part| format!("{PART_LABEL}={}", part.word());
    [format!("{BOOTSTRAP_LABEL}=true"), part(Part::Agent), part(Part::Guard)]
}

async fn watch(docker_host: &str) -> Result<(), EngineError> {
    let engine = Engine::connect(docker_host).await?;
    let own = match host::own(&engine).await? {
        Some(own) => engine.inspect(&own.id).await?,
        None => None,
    };
    let own_ended = own.as_ref().map_or(0, |own| ended(own).at);
    // Subscribed before the inspection, so that an end in between is not missed.
    let mut events = select_all(watched().map(|label| engine.events(&label)));
    look(&engine, own_ended).await?;
    while let Some(event) = events.next().await {
        if event?.0 == "die" {
            tokio::time::sleep(PATIENCE).await;
            look(&engine, 0).await?;
        }
    }
    Ok(())
}

async fn look(engine: &Engine, own_ended: i64) -> Result<(), EngineError> {
    let parts = engine.look().await?.into_iter();
    let parts = parts.filter(|seen| matches!(seen.part, Some(Part::Agent | Part::Guard)));
    let parts = parts.map(|seen| (seen.id, seen.name));
    for (id, name) in engine.bootstraps(true).await?.into_iter().chain(parts) {
        if engine.inspect(&id).await?.is_some_and(|found| is_to_start(ended(&found), own_ended)) {
            log::warn!(name; "a container did not end of its operator's will: starting it again");
            engine.start(&id).await?;
        }
    }
    Ok(())
}

fn ended(found: &ContainerInspectResponse) -> Ended {
    let state = found.state.clone().unwrap_or_default();
    let policy = found
        .host_config
        .as_ref()
        .and_then(|config| config.restart_policy.as_ref())
        .and_then(|policy| policy.name);
    Ended {
        running: state.running.unwrap_or(false) || state.restarting.unwrap_or(false),
        code: state.exit_code.unwrap_or(0),
        at: state.finished_at.as_deref().and_then(seconds).unwrap_or(0).max(0),
        kept_running: matches!(
            policy,
            Some(RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ALWAYS)
        ),
    }
}

/// Seconds since 1970 of an engine's time, as in `2026-11-23T00:26:16.561Z`.
fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Years that begin in March have their odd day at the end.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some(((days * 24 + number(11, 13)?) * 60 + number(14, 16)?) * 60 + number(17, 19)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:00:01.5Z"), Some(951_825_601));
        assert_eq!(seconds("2026-11-23T00:26:16.561Z"), Some(1_795_393_576));
        assert!(seconds("0001-01-01T00:00:00Z").unwrap() < 0, "the engine's word for never");
        assert_eq!(seconds("soon"), None);
    }

    #[test]
    fn only_what_did_not_end_of_its_operators_will_is_started() {
        let killed = Ended { running: false, code: KILLED, kept_running: true, at: 1_000 };
        assert!(is_to_start(killed, 0));
        assert!(!is_to_start(Ended { running: true, ..killed }, 0));
        assert!(!is_to_start(Ended { code: 0, ..killed }, 0), "it was stopped");
        assert!(!is_to_start(Ended { code: 1, ..killed }, 0), "it refused to start, and said why");
        assert!(!is_to_start(Ended { kept_running: false, ..killed }, 0));
        assert!(is_to_start(Ended { code: 0, ..killed }, 1_003), "the engine took both down");
        assert!(!is_to_start(Ended { code: 0, ..killed }, 2_000));
    }
}
