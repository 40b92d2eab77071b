//! The benchmark of the whole system. See `docs/benchmarks.md`.
//!
//! Runs the real programs as processes of their own, over a private Docker engine
//! and Redis servers that it starts itself, and takes all of it away again: at the
//! end, after a failure, and after ctrl-C.

mod creates;
mod engine;
mod fleet;
mod floor;
mod load;
mod measure;
mod memory;
mod programs;
mod startup;
mod state;
mod storm;

use std::process::ExitCode;

use shef_integration_tests::bench;

const USAGE: &str = "\
cargo bench -p shef-integration-tests --bench cluster [-- [PART ...] [OPTION ...]]

parts (all of them if none is named):
  engine    create and remove 30 replicas, against the engine driven directly
  state     GET /state with 1,000 services and 10,000 replicas
  creates   durable creates per second on each store
  memory    resident size of master and agent
  startup   from `shef up` to the API, and to a running replica
  storm     a thousand agents at once, and a flood of requests

options:
  --pairs N                   pairs of the part engine, 1 to 50 [10]
  --hosts N                   agents of the part storm, 1 to 5000 [1000]
  --engine-concurrency N,...  the agent's key; several are measured beside each other [the agent's default]
";

/// What the command line asks for.
struct Options {
    parts: Vec<String>,
    pairs: usize,
    hosts: usize,
    engine_concurrency: Vec<u32>,
}

const PARTS: [&str; 6] = ["engine", "state", "creates", "memory", "startup", "storm"];

fn main() -> ExitCode {
    bench::main(USAGE, parse, run)
}

async fn run(options: Options) -> Result<(), String> {
    let shef = programs::Shef::build();
    for part in PARTS
        .iter()
        .filter(|part| options.parts.is_empty() || options.parts.iter().any(|wanted| wanted == *part))
    {
        match *part {
            "engine" => engine::run(&shef, options.pairs, &options.engine_concurrency).await,
            "state" => state::run(&shef).await,
            "creates" => creates::run(&shef).await,
            "memory" => memory::run(&shef).await,
            "storm" => storm::run(&shef, options.hosts).await,
            _ => startup::run(&shef).await,
        }
    }
    Ok(())
}

fn parse(arguments: Vec<String>) -> Option<Options> {
    let mut options = Options { parts: Vec::new(), pairs: 10, hosts: 1_000, engine_concurrency: Vec::new() };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pairs" => {
                options.pairs = arguments.next()?.parse().ok().filter(|pairs| (1..=50).contains(pairs))?;
            }
            "--hosts" => {
                options.hosts = arguments.next()?.parse().ok().filter(|hosts| (1..=5_000).contains(hosts))?;
            }
            "--engine-concurrency" => {
                options.engine_concurrency =
                    arguments.next()?.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            }
            part if PARTS.contains(&part) => options.parts.push(argument),
            _ => return None,
        }
    }
    Some(options)
}
