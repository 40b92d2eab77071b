//! From a seed to a verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{profile::Profile, seeded_bug::SeededBug, world::World};

/// The most steps of a run: a bound on what never ends.
const MAX_STEPS: u64 = 2_000_000;
/// How many lines of the trace a failure prints, unless `SHEF_SIM_LINES` says otherwise.
const LINES: usize = 120;

/// A run that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// The faults that it had.
    pub profile: &'static str,
    /// The rule that it broke, and how.
    pub rule: String,
}

/// What a run took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Steps.
    pub steps: u64,
    /// Virtual milliseconds from the last fault until all was well.
    pub converged_ms: u64,
}

/// Runs one seed.
///
/// # Errors
/// [`Failure`] names the rule that was broken.
pub fn run_seed(seed: u64, profile: &Profile, seeded_bug: Option<SeededBug>) -> Result<Took, Failure> {
    run(seed, profile, seeded_bug, false).0
}

/// Runs one seed and keeps its trace.
#[must_use]
pub fn trace_seed(seed: u64, profile: &Profile, seeded_bug: Option<SeededBug>) -> Vec<String> {
    run(seed, profile, seeded_bug, true).1
}

/// Runs one seed with so many hosts.
///
/// # Errors
/// [`Failure`] names the rule that was broken.
pub fn run_hosts(seed: u64, hosts: usize, profile: &Profile) -> Result<Took, Failure> {
    run_world(seed, World::with_hosts(fastrand::Rng::with_seed(seed), hosts, profile.clone(), None, false)).0
}

fn run(
    seed: u64,
    profile: &Profile,
    seeded_bug: Option<SeededBug>,
    trace: bool,
) -> (Result<Took, Failure>, Vec<String>) {
    run_world(seed, World::new(seed, profile.clone(), seeded_bug, trace))
}

fn run_world(seed: u64, mut world: World) -> (Result<Took, Failure>, Vec<String>) {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        while !world.is_over() {
            let Some(ev) = world.pop() else {
                world.violated("nothing is to come any more".to_owned());
                break;
            };
            world.step(ev);
            if world.steps > MAX_STEPS {
                world.violated(format!("the run does not end within {MAX_STEPS} steps"));
            }
        }
    }));
    if let Err(panic) = ended {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        world.violated(format!("a core panicked: {}", words.unwrap_or_default()));
    }
    let lines = world.trace.take().unwrap_or_default();
    let outcome = match world.broken {
        Some(rule) => Err(Failure { seed, profile: world.profile.name, rule }),
        None => Ok(Took {
            virtual_ms: world.now,
            steps: world.steps,
            converged_ms: world.well_since.unwrap_or_default().saturating_sub(world.quiet_since),
        }),
    };
    (outcome, lines)
}

/// The first of `seeds` whose run breaks a rule that contains `words`, with `seeded_bug` put in.
#[must_use]
pub fn find(
    seeded_bug: SeededBug,
    profile: &Profile,
    words: &str,
    mut seeds: std::ops::Range<u64>,
) -> Option<Failure> {
    let broken =
        |seed| run_seed(seed, profile, Some(seeded_bug)).err().filter(|failure| failure.rule.contains(words));
    seeds.find_map(broken)
}

/// Runs `seeds` of `profile`; `SHEF_SIM_SEED` runs that one alone and prints
/// its whole trace, `SHEF_SIM_SEEDS` that many instead, `SHEF_SIM_FROM` from that one on.
///
/// # Panics
/// If a rule is broken, with the seed, the rule and the last lines of the trace.
pub fn check_seeds(profile: &Profile, seeds: std::ops::Range<u64>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SHEF_SIM_SEED") {
        let outcome = run_seed(seed, profile, None);
        println!("{}", trace_seed(seed, profile, None).join("\n"));
        return assert!(outcome.is_ok(), "{outcome:?}");
    }
    let from = number("SHEF_SIM_FROM").unwrap_or(seeds.start);
    let seeds = from..from + number("SHEF_SIM_SEEDS").unwrap_or(seeds.end - seeds.start);
    let (mut longest, mut steps, count) = (0, 0, seeds.end - seeds.start);
    for seed in seeds {
        match run_seed(seed, profile, None) {
            Ok(took) => {
                longest = longest.max(took.converged_ms);
                steps += took.steps;
            }
            Err(failure) => {
                let lines = trace_seed(seed, profile, None);
                let wanted = number("SHEF_SIM_LINES").and_then(|n| usize::try_from(n).ok()).unwrap_or(LINES);
                let last = &lines[lines.len().saturating_sub(wanted)..];
                panic!(
                    "{}\n\n{}: seed {seed} breaks a rule: {}\nreplay: SHEF_SIM_SEED={seed} cargo nextest \
                     run -p shef-integration-tests --test sim {}",
                    last.join("\n"),
                    profile.name,
                    failure.rule,
                    profile.name
                );
            }
        }
    }
    println!("{}: {count} seeds, {steps} steps, converged within {longest} ms at most", profile.name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_run_every_time() {
        for seed in 0..5 {
            let (first, second) = (
                trace_seed(seed, &Profile::everything(), None),
                trace_seed(seed, &Profile::everything(), None),
            );
            assert!(first.len() > 100);
            assert_eq!(first, second);
        }
    }
}
