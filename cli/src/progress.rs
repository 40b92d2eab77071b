//! Waits for a goal: asks the API for the service again and again until it is as wanted. Prints a line
//! whenever there is something new to say. It goes on across restarts of the master: an accepted
//! change is durable.

mod service;
mod watch;

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::de::DeserializeOwned;
use shef_common::clock::{DurationMs, Now, parse_duration};

use self::watch::Watch;
pub(crate) use self::{
    service::{Probation, ServiceGoal, View, Written},
    watch::unless_stopped,
};
use crate::{Failure, client::Client, say};

/// The least time between two looks, which keeps a rollout's many events apart.
const REST: Pause = Pause { least: 100, per_look: 5 };
/// The longest one. An event ends it, but the end of a trial is none.
const LONGEST: Pause = Pause { least: 250, per_look: 10 };
/// The most of both, however large a service is.
const MOST_MS: u64 = 1_000;
/// The time between two looks for reasons.
const REASONS_EVERY: DurationMs = DurationMs(3_000);
/// The most lines of what is missing that are shown at the end.
const MAX_MISSING: usize = 20;

/// A time in milliseconds that grows with the size of what is looked at.
struct Pause {
    least: u64,
    per_look: u64,
}

impl Pause {
    fn after(&self, took: DurationMs) -> Duration {
        Duration::from_millis(self.least.max(took.0.saturating_mul(self.per_look)).min(MOST_MS))
    }
}

/// How long to wait, as arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Do not wait until it is done
    #[arg(short, long)]
    detach: bool,
    /// How long to wait; what was asked stays asked afterwards
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time, conflicts_with = "detach")]
    wait: Duration,
}

impl WaitArgs {
    /// How long to wait; `None`: not at all.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (!self.detach).then_some(self.wait)
    }
}

/// The longest `--wait`.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// Why a text is no time to wait.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 500ms, 30s, 5m or 2h, at most 24h")]
struct InvalidTime;

/// `500ms`, `30s`, `5m` or `1h30m`; at most a day.
fn time(text: &str) -> Result<Duration, InvalidTime> {
    parse_duration(text).filter(|time| *time <= MAX_WAIT).ok_or(InvalidTime)
}

/// Where a goal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// On its way, in words.
    Going(String),
    /// There, in words.
    Reached(String),
    /// As far as it goes until its user says more, in words.
    Halts(String),
    /// Nothing more is to come of it, and why.
    Missed(String),
}

/// A state to wait for, by what the API shows of it.
pub(crate) trait Goal {
    /// What is shown.
    type View: DeserializeOwned;
    /// What it is about.
    fn name(&self) -> &str;
    /// Where it is shown.
    fn path(&self) -> String;
    /// Where it stands when this is shown; `None`: there is no such thing.
    fn outlook(&self, view: Option<&Self::View>) -> Outlook;
    /// Where its events are.
    fn events(&self) -> String;
    /// What goes on without this command, and how to follow it and to stop it.
    fn on_its_own(&self) -> String;
    /// What is still missing, a line each.
    fn missing(view: &Self::View) -> Vec<String>;
    /// Other reasons why the goal is not reached, a line each; asked for every few polls, and printed once.
    async fn reasons(&self, _: &Client) -> Vec<String> {
        Vec::new()
    }
    /// What the user may do about these reasons; empty: nothing.
    fn way_out(&self, _: &[String]) -> String {
        String::new()
    }
}

/// Tells how it goes: on standard output, or beside it where that is for JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Standard output is for JSON.
    pub json: bool,
}

impl Progress {
    /// One step, in a line.
    pub(crate) fn step(self, text: impl fmt::Display) {
        if self.json { say::note(format_args!("==> {text}")) } else { say::step(text) }
    }
}

/// Waits for `goal` and prints the progress. Returns whether all of it is reached, or whether a canary waits
/// for the user.
///
/// # Errors
/// It will not, or not within `limit`; the API does not answer with sense.
pub(crate) async fn follow<G: Goal>(
    client: &Client,
    goal: &G,
    limit: Duration,
    progress: Progress,
) -> Result<bool, Failure> {
    let path = goal.path();
    let limit_ms = DurationMs(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    let until = Now::read().mono + limit_ms;
    let mut shown = String::new();
    let mut missing = Vec::new();
    let mut reasons = Reasons::default();
    let mut next_reasons = Now::read().mono + REASONS_EVERY;
    let (events, mut watch) = (goal.events(), Watch::default());
    loop {
        let started = Now::read().mono;
        let look = match client.get::<G::View>(&path).await {
            Ok(view) => {
                missing = G::missing(&view);
                goal.outlook(Some(&view))
            }
            Err(error) if error.is_not_found() => goal.outlook(None),
            Err(error) if error.is_passing() => Outlook::Going(format!("{error}; asking again")),
            Err(error) => return Err(error.into()),
        };
        match look {
            Outlook::Reached(words) => {
                progress.step(words);
                return Ok(true);
            }
            Outlook::Halts(words) => {
                progress.step(words);
                return Ok(false);
            }
            Outlook::Missed(words) => return Err(Failure::new(words)),
            Outlook::Going(words) if words != shown => {
                progress.step(format_args!("{}: {words}", goal.name()));
                shown = words;
            }
            Outlook::Going(_) => {}
        }
        let now = Now::read().mono;
        let is_late = now >= until;
        if is_late || now >= next_reasons {
            next_reasons = now + REASONS_EVERY;
            reasons.look(client, goal, progress).await;
        }
        if is_late {
            missing.extend(reasons.lines);
            missing.truncate(MAX_MISSING);
            let what = format!(
                "{} is not as wanted after {}; {}",
                goal.name(),
                crate::table::span(limit_ms.0),
                goal.on_its_own()
            );
            return Err(Failure::new([&[what][..], &missing].concat().join("\n  ")));
        }
        let took = now - started;
        watch.wait(client, &events, (REST.after(took), LONGEST.after(took))).await;
    }
}

/// Why a goal is not reached yet.
#[derive(Default)]
struct Reasons {
    /// The latest, with the way out.
    lines: Vec<String>,
    shown: BTreeSet<String>,
}

impl Reasons {
    /// Looks for them, and tells those that are new.
    async fn look<G: Goal>(&mut self, client: &Client, goal: &G, progress: Progress) {
        self.lines = goal.reasons(client).await;
        if !self.lines.is_empty() {
            let way_out = goal.way_out(&self.lines);
            self.lines.extend(Some(way_out).filter(|way| !way.is_empty()));
        }
        for line in &self.lines {
            if self.shown.len() < MAX_MISSING && self.shown.insert(line.clone()) {
                progress.step(format_args!("{}: {line}", goal.name()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_takes_long_is_followed_by_a_longer_pause() {
        let after = |took| [&REST, &LONGEST].map(|pause| pause.after(DurationMs(took)).as_millis());
        assert_eq!([after(2), after(60), after(9_000)], [[100, 250], [300, 600], [1_000, 1_000]]);
    }

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("1.5s", 1_500), ("1m30s", 90_000), ("24h", 86_400_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "25h", "24h1ms", "-1s", "s", "5 apples"] {
            assert_eq!(time(text), Err(InvalidTime), "{text}");
        }
    }
}
