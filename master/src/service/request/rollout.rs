//! Requests that steer a rollout, or go back to an earlier generation.

use shef_common::{clock::WallMs, ids::Generation};

use super::super::{
    conflict::Conflict,
    record::ServiceRecord,
    rollout::{Phase, Rollout, Terms},
};
use super::{Applied, RolloutCommand};

pub(super) fn command_rollout(
    live: &mut ServiceRecord,
    command: RolloutCommand,
    now: WallMs,
) -> Result<Applied, Conflict> {
    let canary = live.spec.update.canary;
    let Some(rollout) = &mut live.rollout else {
        return Err(Conflict::NoRollout(live.generation));
    };
    let Some(from) = rollout.from else {
        return Err(match &rollout.phase {
            Phase::RollingBack { failed, why } => Conflict::RollingBack { failed: *failed, why: why.clone() },
            Phase::Running | Phase::Paused { .. } => Conflict::NoneHasRun,
        });
    };
    let paused = match &rollout.phase {
        Phase::Paused { why, .. } => Some(why),
        Phase::Running | Phase::RollingBack { .. } => None,
    };
    match (command, paused) {
        (RolloutCommand::Pause, Some(why)) => return Err(Conflict::Paused(why.clone())),
        (RolloutCommand::Pause, None) => {
            rollout.phase = Phase::Paused { why: "its user paused it".to_owned(), until_hosts: false }
        }
        (RolloutCommand::Resume, Some(_)) => {
            rollout.phase = Phase::Running;
            rollout.failures.clear();
        }
        (RolloutCommand::Resume, None) => return Err(Conflict::NotPaused),
        (RolloutCommand::Abort, _) => {
            live.go_back(format!("its user aborted it, back to generation {from}"), now);
        }
        (RolloutCommand::Promote, _) if canary == 0 => return Err(Conflict::NoCanary),
        (RolloutCommand::Promote, _) if rollout.promoted => return Err(Conflict::Promoted),
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
) -> Result<Applied, Conflict> {
    let from = live.rollout.as_ref().and_then(|rollout| rollout.from);
    if let Some(from) = from.filter(|from| to.is_none_or(|to| to == *from)) {
        live.go_back(format!("its user went back to generation {from}"), now);
    } else {
        // Asked twice, it goes back once.
        let goes_back = live.rollout.as_ref().is_some_and(Rollout::is_rolling_back);
        if to == Some(live.generation) || to.is_none() && goes_back {
            return Err(Conflict::IsWanted(live.generation));
        }
        let Some(to) = to.or_else(|| live.kept().next_back().map(|kept| kept.generation)) else {
            return Err(Conflict::NoneKept);
        };
        let kept = live.kept().map(|kept| kept.generation).collect();
        if !live.return_to(to, now, terms) {
            return Err(Conflict::NotKept { to, kept });
        }
    }
    live.updated = now;
    Ok(Applied::Changed)
}
