//! How long it takes from the loss of a host until what ran there runs elsewhere,
//! beside what the engines alone need and beside Docker Swarm mode; and whether
//! hosts are called down for nothing. See `docs/benchmarks.md`.

mod cuts;
#[path = "../cluster/floor.rs"]
mod floor;
mod samples;
mod soak;
mod swarm;
mod swarm_mode;

use std::{process::ExitCode, time::Duration};

use shef_integration_tests::{
    bench,
    lab::lan::{LanLab, Plan},
};

const USAGE: &str = "\
cargo bench -p shef-integration-tests --bench failover [-- [OPTION ...]]

  --cuts N         cut a host off N times, 0 to 500 [20]
  --swarm-cuts N   the same for Docker Swarm mode on the same engines, 0 to 100 [3]
  --soak SECONDS   count false alarms under lost packets, delays, busy cores and a slow
                   engine, so long in each, 0 to 86400 [0: not at all]
  --trouble NAME   only this one of them: packets, delay, cores, engines [all]
";

/// What the command line asks for.
#[derive(Clone, Copy)]
struct Options {
    cuts: u32,
    swarm_cuts: u32,
    soak: Duration,
    trouble: Option<soak::Trouble>,
}

/// How many replicas are lost with a host.
const LOST: u32 = 10;
/// How long anything may take before it counts as failed.
const LIMIT: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    bench::main(USAGE, parse, run)
}

async fn run(options: Options) -> Result<(), String> {
    // A host that is cut off again and again is to take replicas all the same.
    let plan = Plan { registry: true, ..Plan::hosts(3) }
        .with("SHEF_MASTER_FLAP_HOLD_MS", 1_000)
        .with("SHEF_MASTER_LOG_LEVEL", "info");
    let mut lan = LanLab::start(&plan).await?;
    if !options.soak.is_zero() {
        soak::run(&mut lan, options.soak, options.trouble).await?;
    }
    if options.cuts > 0 {
        cuts::run(&mut lan, options.cuts).await?;
    }
    if options.swarm_cuts > 0 {
        // It has the engines for itself.
        lan.master.process.kill();
        lan.hosts.iter_mut().for_each(|host| host.agent.process.kill());
        swarm::run(&mut lan, options.swarm_cuts).await?;
    }
    Ok(())
}

fn parse(arguments: Vec<String>) -> Option<Options> {
    let mut options = Options { cuts: 20, swarm_cuts: 3, soak: Duration::ZERO, trouble: None };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        if argument == "--trouble" {
            options.trouble = Some(soak::Trouble::named(&value)?);
            continue;
        }
        let value: u32 = value.parse().ok()?;
        match argument.as_str() {
            "--cuts" if value <= 500 => options.cuts = value,
            "--swarm-cuts" if value <= 100 => options.swarm_cuts = value,
            "--soak" if value <= 86_400 => options.soak = Duration::from_secs(value.into()),
            _ => return None,
        }
    }
    Some(options)
}
