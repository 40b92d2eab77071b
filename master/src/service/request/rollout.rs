//! Requests that steer a rollout, or go back to an earlier generation.

use shef_common::{clock::WallMs, ids::Generation};

use super::super::{
    record::ServiceRecord,
    rollout::{Phase, Rollout, Terms},
};
use super::{Applied, RolloutCommand};

pub(super) fn command_rollout(
    live: &mut ServiceRecord,
    command: RolloutCommand,
    now: WallMs,
) -> Result<Applied, String> {
    let canary = live.spec.update.canary;
    let Some(rollout) = &mut live.rollout else {
        return Err(format!("no rollout is under way: generation {} is everywhere", live.generation));
    };
    let Some(from) = rollout.from else {
        return Err(match &rollout.phase {
            Phase::RollingBack { failed, why } => {
                format!("generation {failed} is being rolled back ({why}), and a rollback only goes on")
            }
            Phase::Running | Phase::Paused { .. } => {
                "no earlier generation has run: there is nothing to go back to".to_owned()
            }
        });
    };
    let paused = match &rollout.phase {
        Phase::Paused { why, .. } => Some(why),
        Phase::Running | Phase::RollingBack { .. } => None,
    };
    match (command, paused) {
        (RolloutCommand::Pause, Some(why)) => return Err(format!("the rollout is paused already: {why}")),
        (RolloutCommand::Pause, None) => {
            rollout.phase = Phase::Paused { why: "its user paused it".to_owned(), until_hosts: false }
        }
        (RolloutCommand::Resume, Some(_)) => {
            rollout.phase = Phase::Running;
            rollout.failures.clear();
        }
        (RolloutCommand::Resume, None) => return Err("the rollout is not paused".to_owned()),
        (RolloutCommand::Abort, _) => {
            live.go_back(format!("its user aborted it, back to generation {from}"), now);
        }
        (RolloutCommand::Promote, _) if canary == 0 => {
            return Err("the rollout has no canary (update.canary is 0)".to_owned());
        }
        (RolloutCommand::Promote, _) if rollout.promoted => {
            return Err("the canary is promoted already".to_owned());
        }
        (RolloutCommand::Promote, _) => rollout.promoted = true,
    }
    live.updated = now;
    Ok(Applied::Changed)
}

pub(super) fn roll_back(
    live: &mut ServiceRecord,
    to: Option<Generation>,
    now: WallMs,
    terms: Terms,
) -> Result<Applied, String> {
    let from = live.rollout.as_ref().and_then(|rollout| rollout.from);
    let kept = || live.history.iter().map(|kept| kept.generation.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(from) = from.filter(|from| to.is_none_or(|to| to == *from)) {
        live.go_back(format!("its user went back to generation {from}"), now);
    } else {
        // Asked twice, it goes back once.
        let goes_back = live.rollout.as_ref().is_some_and(Rollout::is_rolling_back);
        if to == Some(live.generation) || to.is_none() && goes_back {
            return Err(format!("generation {} is what the service is to run already", live.generation));
        }
        let Some(to) = to.or_else(|| live.history.last().map(|kept| kept.generation)) else {
            return Err("no earlier generation is kept: there is nothing to go back to".to_owned());
        };
        let kept = kept();
        if !live.return_to(to, now, terms) {
            let kept = if kept.is_empty() { "none is".to_owned() } else { format!("those are {kept}") };
            return Err(format!("generation {to} is not among the generations that are kept: {kept}"));
        }
    }
    live.updated = now;
    Ok(Applied::Changed)
}
