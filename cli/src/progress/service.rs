//! The state that a service is to reach, and how far it is, from what the API shows. Pure.

use serde::Deserialize;
use shef_common::{
    clock::{Now, WallMs},
    exec::escaped,
};
use shef_master::service::RolloutState;

use super::{Goal, Outlook};

/// What a write answers.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Written {
    /// The service.
    pub name: String,
    /// What its replicas are to run.
    pub generation: u64,
    /// The version that says so.
    pub version: u64,
    /// Whether that was so already.
    #[serde(default)]
    pub unchanged: bool,
}

impl Written {
    /// In a line: `done`, or that nothing was to be done.
    pub(crate) fn words(&self, done: &str) -> String {
        let Self { name, generation, unchanged, .. } = self;
        if *unchanged {
            format!("{name}: nothing has changed: it was so already, as generation {generation}")
        } else {
            format!("{name}{done}")
        }
    }
}

/// The parts of a service's view that matter here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct View {
    pub name: String,
    pub image: String,
    pub generation: u64,
    version: u64,
    pub state: String,
    pub wanted: u32,
    pub running: u32,
    #[serde(default)]
    pub unconfirmed: u32,
    pub missing: Vec<String>,
    #[serde(default)]
    missing_more: usize,
    pub failing: Option<String>,
    #[serde(default)]
    on_trial: u32,
    trial_failed: Option<String>,
    #[serde(default)]
    ended_for_good: u32,
    pub rollout: Option<Rollout>,
    last_rollout: Option<Ended>,
    probation: Option<Probation>,
}

/// The time after a rollout in which it may still be taken back.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Probation {
    from: u64,
    until: WallMs,
    failures: u32,
    last_failure: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rollout {
    state: RolloutState,
    pub message: String,
    last_failure: Option<String>,
}

impl Rollout {
    /// Whether its message says why a replica failed: `why` is what is known of that, and `missing` is what
    /// is missing of the service.
    fn says(&self, why: &str, missing: &[String]) -> bool {
        let reasons = missing.iter().chain(&self.last_failure).map(String::as_str);
        reasons.chain([why]).any(|reason| self.message.contains(reason))
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Ended {
    generation: u64,
    rolled_back: Option<String>,
}

/// What a service is to become.
#[derive(Debug, Clone)]
pub(crate) enum ServiceGoal {
    /// That everything is as was written.
    Done(Written),
    /// The goal that nothing is left of the service of this name.
    Gone(String),
    /// That its rollout stands still.
    Paused(Written),
}

impl Goal for ServiceGoal {
    type View = View;

    fn name(&self) -> &str {
        match self {
            Self::Done(written) | Self::Paused(written) => &written.name,
            Self::Gone(name) => name,
        }
    }

    fn path(&self) -> String {
        format!("/v1/services/{}", escaped(self.name()))
    }

    fn events(&self) -> String {
        format!("/v1/events?service={}", escaped(self.name()))
    }

    fn on_its_own(&self) -> String {
        let name = self.name();
        let how = match self {
            Self::Done(_) => format!(
                "`shef ps {name}` shows how far it is, `shef rollout pause {name}` and `shef rollout abort \
                 {name}` stop a rollout"
            ),
            Self::Gone(_) => format!("`shef ps {name}` shows what is left"),
            Self::Paused(_) => format!("`shef ps {name}` shows how far it is"),
        };
        format!("the master goes on with {name}: {how}")
    }

    fn outlook(&self, view: Option<&View>) -> Outlook {
        let name = self.name();
        match (self, view) {
            (Self::Gone(_), None) => Outlook::Reached(format!("{name} is gone")),
            (Self::Gone(_), Some(view)) if view.state != "deleting" => {
                Outlook::Missed(format!("{name} was created anew"))
            }
            (Self::Done(_) | Self::Paused(_), None) => {
                Outlook::Missed(format!("{name} was deleted meanwhile"))
            }
            (Self::Done(written), Some(view)) => done(written, view),
            (Self::Paused(written), Some(view)) => paused(written, view),
            (Self::Gone(_), Some(view)) => Outlook::Going(view.line()),
        }
    }

    fn missing(view: &View) -> Vec<String> {
        view.missing_lines()
    }
}

fn done(written: &Written, view: &View) -> Outlook {
    let (name, asked) = (&written.name, written.generation);
    if view.state == "deleting" {
        return Outlook::Missed(format!("{name} is being deleted"));
    }
    let is_shown = view.version >= written.version;
    if let (true, Some(rollout)) = (is_shown && view.generation == asked, &view.rollout) {
        match rollout.state {
            RolloutState::Canary => {
                return Outlook::Halts(format!(
                    "{name}: {}: `shef rollout promote {name}` updates the other replicas, `shef rollout \
                     abort {name}` goes back",
                    rollout.message
                ));
            }
            RolloutState::Paused => {
                return Outlook::Missed(format!(
                    "{name}: {}; `shef rollout resume {name}` goes on, `shef rollout abort {name}` goes back",
                    view.line()
                ));
            }
            RolloutState::Running | RolloutState::RollingBack => {}
        }
    }
    if let Some(failed) = view.has_failed().filter(|_| is_shown && view.generation == asked) {
        return Outlook::Missed(format!("{name}: {failed}"));
    }
    if !is_shown || view.state != "running" || view.generation == asked && view.on_trial > 0 {
        return Outlook::Going(view.line());
    }
    // It may run what it ran before: then it was rolled back, or another change came since.
    if view.generation == asked {
        let mut words = format!("{name}: {} of {} healthy, generation {asked}", view.running, view.wanted);
        let probation =
            view.probation.as_ref().map(|probation| format!("; {}", probation.words(Now::read().wall)));
        words.push_str(&probation.unwrap_or_default());
        return Outlook::Reached(words);
    }
    let ended = view.last_rollout.as_ref().filter(|ended| ended.generation == asked);
    Outlook::Missed(match ended.and_then(|ended| ended.rolled_back.as_ref()) {
        Some(why) => format!("{name}: generation {asked} was rolled back to {}: {why}", view.generation),
        None => format!("{name}: generation {} runs instead of {asked}", view.generation),
    })
}

fn paused(written: &Written, view: &View) -> Outlook {
    let name = &written.name;
    match &view.rollout {
        _ if view.version < written.version => Outlook::Going(view.line()),
        Some(rollout) if rollout.state == RolloutState::Paused => {
            Outlook::Reached(format!("{name}: {}", rollout.message))
        }
        Some(_) => Outlook::Going(view.line()),
        None => Outlook::Missed(format!("{name}: no rollout is under way any more")),
    }
}

impl Ended {
    /// A message if the update was rolled back.
    fn words(&self) -> Option<String> {
        let why = self.rolled_back.as_ref()?;
        Some(format!("generation {} was rolled back: {why}", self.generation))
    }
}

impl Probation {
    /// How long it takes, and what has happened in it; `now` is this machine's clock.
    pub(crate) fn words(&self, now: WallMs) -> String {
        let seconds = (self.until - now).0.div_ceil(1_000);
        let failed = self.last_failure.as_ref().map(|why| format!(" ({} failed: {why})", self.failures));
        format!(
            "on probation for {seconds} s more: failures until then take it back to generation {}{}",
            self.from,
            failed.unwrap_or_default()
        )
    }
}

impl View {
    /// What is missing, a line each, and how much more there is.
    pub(crate) fn missing_lines(&self) -> Vec<String> {
        let more = (self.missing_more > 0).then(|| format!("and {} more", self.missing_more));
        self.missing.iter().cloned().chain(more).collect()
    }

    /// A line on what goes beyond "it runs": probation or the last rollout, if there is anything to say.
    pub(crate) fn notes(&self, now: WallMs) -> Option<String> {
        if self.state != "running" {
            return Some(self.line());
        }
        let trial = (self.on_trial > 0).then(|| self.trial());
        trial
            .or_else(|| self.probation.as_ref().map(|probation| probation.words(now)))
            .or_else(|| self.last_rollout.as_ref().and_then(Ended::words))
    }

    /// A message if the first deployment has failed, and whether it is tried again.
    fn has_failed(&self) -> Option<String> {
        let for_good = match self.ended_for_good {
            0 => None,
            1 if self.wanted == 1 => Some("it is not started again".to_owned()),
            ended => Some(format!("{ended} of {} replicas are not started again", self.wanted)),
        };
        match (&self.trial_failed, for_good) {
            (Some(why), None) => Some(format!("the trial has failed, and is tried again: {why}")),
            (Some(why), Some(for_good)) => Some(format!("the trial has failed, and {for_good}: {why}")),
            // A rollout replaces it, or is rolled back.
            (None, Some(for_good)) if self.rollout.is_none() => {
                let why = self.failing.as_ref().or(self.missing.first());
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                Some(format!("what ended with an error stays so: {for_good}{why}"))
            }
            (None, _) => None,
        }
    }

    fn trial(&self) -> String {
        format!("{} of {} on trial", self.on_trial, self.wanted)
    }

    /// The state of the service in a line.
    pub(crate) fn line(&self) -> String {
        let confirmed = self.running.saturating_sub(self.unconfirmed);
        let counts = match self.unconfirmed {
            0 => format!("{confirmed} of {} healthy", self.wanted),
            unconfirmed => format!("{confirmed} of {} healthy, {unconfirmed} not confirmed", self.wanted),
        };
        let rollout = self.rollout.as_ref();
        let more = self.missing.len().saturating_sub(1) + self.missing_more;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        match (rollout, &self.failing, self.missing.first()) {
            (Some(rollout), Some(why), _) if !rollout.says(why, &self.missing) => {
                format!("{}: {why}", rollout.message)
            }
            (Some(rollout), ..) => rollout.message.clone(),
            (None, _, Some(missing)) => format!("{counts}; {missing}{more}"),
            (None, _, None) if self.on_trial > 0 => format!("{counts}; {}", self.trial()),
            (None, _, None) => counts,
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
