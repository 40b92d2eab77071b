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
    /// Which version says so.
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
            RolloutState::Canary => return Outlook::Halts(format!("{name}: {}", rollout.message)),
            RolloutState::Paused => return Outlook::Missed(format!("{name}: {}", view.line())),
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn view(more: Value) -> View {
        let mut view = json!({
            "name": "web", "image": "a:1", "generation": 2, "version": 5, "state": "running",
            "wanted": 3, "running": 3, "missing": [],
        });
        view.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(view).unwrap()
    }
    fn asked() -> ServiceGoal {
        ServiceGoal::Done(Written { name: "web".to_owned(), generation: 2, version: 5, unchanged: false })
    }

    #[test]
    fn a_goal_is_reached_only_when_what_was_asked_runs() {
        let going = |words: &str| Outlook::Going(words.to_owned());
        let missed = |words: &str| Outlook::Missed(words.to_owned());
        for (seen, outlook) in [
            (Some(json!({})), Outlook::Reached("web: 3 of 3 healthy, generation 2".to_owned())),
            (Some(json!({"version": 4})), going("3 of 3 healthy")),
            (Some(json!({"version": 9})), Outlook::Reached("web: 3 of 3 healthy, generation 2".to_owned())),
            (
                Some(json!({"state": "pending", "running": 1, "missing": ["web-000002 starts", "x"]})),
                going("1 of 3 healthy; web-000002 starts (and 1 more)"),
            ),
            (
                Some(json!({"state": "pending", "missing": ["m"],
                        "rollout": {"state": "running", "message": "1 of 3 replaced"},
                        "failing": "no image"})),
                going("1 of 3 replaced: no image"),
            ),
            (Some(json!({"on_trial": 2})), going("3 of 3 healthy; 2 of 3 on trial")),
            (Some(json!({"state": "pending", "unconfirmed": 2})), going("1 of 3 healthy, 2 not confirmed")),
            (
                Some(json!({"state": "pending",
                    "trial_failed": "web-000001 failed on h1: exited with code 1"})),
                missed(
                    "web: the trial has failed, and is tried again: web-000001 failed on h1: exited with \
                     code 1",
                ),
            ),
            (
                Some(json!({"state": "pending", "trial_failed": "it crashed", "ended_for_good": 2})),
                missed("web: the trial has failed, and 2 of 3 replicas are not started again: it crashed"),
            ),
            (
                Some(json!({"state": "pending", "wanted": 1, "trial_failed": "x", "ended_for_good": 1})),
                missed("web: the trial has failed, and it is not started again: x"),
            ),
            (
                Some(
                    json!({"state": "pending", "missing": ["web-000001 failed on h1"], "ended_for_good": 1}),
                ),
                missed(
                    "web: what ended with an error stays so: 1 of 3 replicas are not started again: \
                     web-000001 failed on h1",
                ),
            ),
            (
                Some(json!({"state": "pending", "ended_for_good": 1,
                        "rollout": {"state": "running", "message": "1 of 3 replaced"}})),
                going("1 of 3 replaced"),
            ),
            (
                Some(json!({"version": 4, "state": "pending", "missing": ["m"], "trial_failed": "x"})),
                going("3 of 3 healthy; m"),
            ),
            (
                Some(json!({"state": "pending", "rollout": {"state": "canary",
                        "message": "1 of 3 replaced; waits to be promoted"}})),
                Outlook::Halts("web: 1 of 3 replaced; waits to be promoted".to_owned()),
            ),
            (
                Some(json!({"state": "pending", "rollout": {"state": "paused", "message": "paused"},
                        "failing": "it crashed"})),
                missed("web: paused: it crashed"),
            ),
            (
                Some(json!({"state": "pending", "failing": "exited with code 3; the engine restarts it",
                        "rollout": {"state": "paused", "message": "paused: w failed: ended with code 3",
                            "last_failure": "w failed: ended with code 3"}})),
                missed("web: paused: w failed: ended with code 3"),
            ),
            (
                Some(json!({"state": "pending", "failing": "exited with code 3; the engine restarts it",
                        "missing": ["w failed: ended with code 3", "rollout: x"],
                        "rollout": {"state": "running", "message": "x; w failed: ended with code 3"}})),
                going("x; w failed: ended with code 3"),
            ),
            (
                Some(json!({"version": 4, "state": "pending",
                        "rollout": {"state": "paused", "message": "paused"}})),
                going("paused"),
            ),
            (Some(json!({"state": "deleting"})), missed("web is being deleted")),
            (
                Some(
                    json!({"generation": 1, "last_rollout": {"generation": 2, "rolled_back": "it crashed"}}),
                ),
                missed("web: generation 2 was rolled back to 1: it crashed"),
            ),
            (
                Some(json!({"generation": 3, "last_rollout": {"generation": 3, "rolled_back": null}})),
                missed("web: generation 3 runs instead of 2"),
            ),
            (None, missed("web was deleted meanwhile")),
        ] {
            assert_eq!(asked().outlook(seen.clone().map(view).as_ref()), outlook, "{seen:?}");
        }
    }

    #[test]
    fn a_probation_is_shown_with_its_time_and_its_failures() {
        let probation = json!({"from": 1, "until": 61_000, "failures": 0});
        let on_probation = view(json!({"probation": probation}));
        let words = "on probation for 60 s more: failures until then take it back to generation 1";
        assert_eq!(on_probation.notes(WallMs(1_000)).as_deref(), Some(words));
        let failed =
            view(json!({"probation": {"from": 1, "until": 0, "failures": 1, "last_failure": "it crashed"}}));
        let words = "on probation for 0 s more: failures until then take it back to generation 1 (1 \
                     failed: it crashed)";
        assert_eq!(failed.notes(WallMs(1_000)).as_deref(), Some(words));
        assert_eq!(view(json!({})).notes(WallMs(0)), None);
    }

    #[test]
    fn a_service_without_other_news_shows_what_was_rolled_back() {
        let rolled_back = json!({"last_rollout": {"generation": 3, "rolled_back": "it crashed"}});
        let words = "generation 3 was rolled back: it crashed";
        assert_eq!(view(rolled_back).notes(WallMs(0)).as_deref(), Some(words));
    }

    #[test]
    fn what_is_to_be_gone_is_waited_for_until_it_is() {
        let gone = ServiceGoal::Gone("web".to_owned());
        assert_eq!(gone.outlook(None), Outlook::Reached("web is gone".to_owned()));
        let waits =
            view(json!({"state": "deleting", "running": 0, "wanted": 0, "missing": ["waits for h2"]}));
        assert_eq!(gone.outlook(Some(&waits)), Outlook::Going("0 of 0 healthy; waits for h2".to_owned()));
        assert_eq!(gone.outlook(Some(&view(json!({})))), Outlook::Missed("web was created anew".to_owned()));
    }
}
