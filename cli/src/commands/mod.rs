//! The command line, a file per command.

mod agent;
mod api;
mod apply;
mod audit;
mod backup;
mod bootstrap;
mod ca;
mod cluster;
mod content;
mod context;
mod down;
mod events;
mod exec;
mod goals;
mod health;
mod history;
mod logs;
mod ls;
mod master;
mod node;
mod plan;
mod ps;
mod registry;
mod restore;
mod rm;
mod rollback;
mod rollout;
mod scale;
mod service;
mod settings;
mod stats;
mod system;
mod token;
mod up;
mod workload;
mod workload_image;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};
use shef_common::{
    config::{Kind, Preset, Program},
    contents::ContentKind,
};

use crate::{
    Failure,
    layers::{PasswordInUrl, without_password},
    say,
};

/// Runs containers on plain Docker hosts: say what should run, and it runs.
#[derive(Debug, Parser)]
#[command(name = "shef", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// Send control characters that come from containers and hosts to this terminal, instead of showing them
    #[arg(long, global = true)]
    raw: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a whole cluster on this host: master, agent and store in one process
    Up(up::Args),
    /// Stops what `shef up` started; containers go on running
    Down(down::Args),
    /// Runs a master in the foreground
    Master(master::Args),
    /// Runs a host's agent in the foreground
    Agent(agent::Args),
    /// Deploys services as files say, and waits until they run
    Apply(apply::Args),
    /// Lists services
    Ls(ls::Args),
    /// Lists a service's replicas
    Ps(ps::Args),
    /// Lists a service's generations, and how its last rollout failed
    History(history::Args),
    /// Changes how many replicas services have
    Scale(scale::Args),
    /// Rolls a service back to an earlier generation
    Rollback(rollback::Args),
    /// Pauses, resumes, aborts or promotes a service's rollout
    Rollout(rollout::Args),
    /// Replaces every replica of services, by a rollout
    Restart(rollout::RestartArgs),
    /// Gives up the volume data of a slot whose host is lost
    Service(service::Args),
    /// Removes services and their containers
    Rm(rm::Args),
    /// Runs a command in a replica
    Exec(exec::Args),
    /// Prints the logs of a service's replicas, from all hosts
    Logs(logs::Args),
    /// Shows what a service's replicas use: processor, memory, network, disk
    Stats(stats::Args),
    /// Prints events of services, replicas and hosts as they happen
    Events(events::Args),
    /// Lists, drains, cordons, activates and removes hosts
    Node(node::Args),
    /// Shows which master leads; resumes replacement; makes a master lead
    Cluster(cluster::Args),
    /// Shows the disk usage of images on the hosts, and removes unneeded images
    System(system::Args),
    /// Manages credentials of private registries
    Registry(registry::Args),
    /// Stores, lists and removes secrets, which services mount as files
    Secret(content::Args),
    /// Stores, lists and removes configs, which services mount as files
    Config(content::Args),
    /// Chooses the master that commands go to, and keeps its token
    Login(context::LoginArgs),
    /// Lists, changes and forgets the masters that commands go to
    Context(context::Args),
    /// Makes any call of the API, and prints the answer
    Api(api::Args),
    /// Shows and replaces the CA by which hosts, masters and commands know each other
    Ca(ca::Args),
    /// Makes, lists and revokes tokens of the API
    Token(token::Args),
    /// Shows who has done what, and verifies the log of it
    Audit(audit::Args),
    /// Writes a backup of the cluster's store, from a running master
    Backup(backup::Args),
    /// Replaces the contents of a store by a backup
    Restore(restore::Args),
    /// Starts a host's store, master and agent as containers and keeps them running
    Bootstrap(bootstrap::Args),
    /// Checks the health of this container's process, for Docker
    Health(health::Args),
    /// Prints the settings in force and where each value came from
    Settings(settings::Args),
    /// A small HTTP server to try things with; it can be told to fail
    Workload(workload::Args),
    /// Builds the image of `shef workload` from this binary, without a registry
    WorkloadImage(workload_image::Args),
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// [`Failure`] in words for the person at the terminal.
    pub fn run(self) -> Result<ExitCode, Failure> {
        if self.raw {
            say::raw();
        }
        match self.command {
            Command::Up(args) => args.run(),
            Command::Down(args) => args.run(),
            Command::Master(args) => args.run(),
            Command::Agent(args) => args.run(),
            Command::Apply(args) => args.run(),
            Command::Ls(args) => args.run(),
            Command::Ps(args) => args.run(),
            Command::History(args) => args.run(),
            Command::Scale(args) => args.run(),
            Command::Rollback(args) => args.run(),
            Command::Rollout(args) => args.run(),
            Command::Restart(args) => args.run(),
            Command::Service(args) => args.run(),
            Command::Rm(args) => args.run(),
            Command::Exec(args) => args.run(),
            Command::Logs(args) => args.run(),
            Command::Stats(args) => args.run(),
            Command::Events(args) => args.run(),
            Command::Node(args) => args.run(),
            Command::Cluster(args) => args.run(),
            Command::System(args) => args.run(),
            Command::Registry(args) => args.run(),
            Command::Secret(args) => args.run(ContentKind::Secret),
            Command::Config(args) => args.run(ContentKind::Config),
            Command::Login(args) => args.run(),
            Command::Context(args) => args.run(),
            Command::Api(args) => args.run(),
            Command::Ca(args) => args.run(),
            Command::Token(args) => args.run(),
            Command::Audit(args) => args.run(),
            Command::Backup(args) => args.run(),
            Command::Restore(args) => args.run(),
            Command::Bootstrap(args) => args.run(),
            Command::Health(args) => args.run(),
            Command::Settings(args) => args.run(),
            Command::Workload(args) => args.run(),
            Command::WorkloadImage(args) => args.run(),
        }
    }
}

/// Runs `work` on an actix system of this thread.
fn on_system<T>(work: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}

/// Why `--set` cannot be taken.
#[derive(Debug, thiserror::Error)]
enum InvalidPreset {
    #[error("must be KEY=VALUE")]
    Form,
    #[error("there is no key {name:?}; `shef settings {program}` lists them")]
    NoSuchKey { name: String, program: &'static str },
    #[error(
        "{name} is not taken here, as everybody on this host can read the arguments of a process: set it by \
         {variable} or in the configuration file{also}"
    )]
    Secret { name: &'static str, variable: String, also: String },
    #[error(transparent)]
    Password(#[from] PasswordInUrl),
}

/// Takes `--set KEY=VALUE` apart and checks that `program` has the key.
fn parse_set(program: &'static Program, text: &str) -> Result<Preset, InvalidPreset> {
    let (name, value) = text.split_once('=').ok_or(InvalidPreset::Form)?;
    let name = name.trim();
    let key = program.keys.iter().find(|key| key.name == name);
    let key = key.ok_or_else(|| InvalidPreset::NoSuchKey { name: name.to_owned(), program: program.name })?;
    if matches!(key.kind, Kind::Secret) {
        let in_a_file = format!("{}_file", key.name);
        let has_file = program.keys.iter().any(|key| key.name == in_a_file);
        let also =
            if has_file { format!(", or name a file that holds it by {in_a_file}") } else { String::new() };
        return Err(InvalidPreset::Secret { name: key.name, variable: key.own_env(program.name), also });
    }
    if key.name == "redis.url" {
        without_password(value)?;
    }
    Ok(Preset::new(key.name, value, format!("--set {}", key.name)))
}

/// The flags that were given, as a configuration layer.
fn flags(given: &[(&'static str, Option<&str>, &str)], set: &[Preset]) -> Vec<Preset> {
    let named = given.iter().filter_map(|(key, value, name)| Some(Preset::new(key, (*value)?, *name)));
    named.chain(set.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn no_password_is_taken_as_an_argument() {
        let said = |args: &[&str]| {
            let args = ["shef"].iter().chain(args);
            Cli::try_parse_from(args).map(drop).map_err(|error| error.to_string())
        };
        for url in ["redis://:word@h:6379", "rediss://me:wo/rd@h", "redis://me:w@rd@h/0", "me:word@h"] {
            for command in ["up", "master"] {
                let refused = said(&[command, "--redis", url]).unwrap_err();
                assert!(
                    refused.contains("must hold no password") && refused.contains("SHEF_REDIS_PASSWORD"),
                    "{url}"
                );
            }
            assert!(said(&["master", "--set", &format!("redis.url={url}")]).is_err(), "{url}");
        }
        for url in ["redis://h:6379", "redis://me@h:6379/0", "redis://me:@h", "redis://[::1]:6379"] {
            said(&["master", "--redis", url]).unwrap();
        }
        let refused = said(&["master", "--set", "redis.password=word"]).unwrap_err();
        assert!(
            refused.contains("set it by SHEF_REDIS_PASSWORD") && refused.contains("redis.password_file"),
            "{refused}"
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
