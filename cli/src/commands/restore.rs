//! `shef restore`: a backup into a store, in the place of what is there.

use std::{fs, path::PathBuf, process::ExitCode};

use shef_common::config::Preset;
use shef_master::{
    config::{MasterConfig, PROGRAM},
    store::{Backup, Key, StoreOptions},
};

use super::{flags, on_system, parse_set};
use crate::{
    Failure,
    layers::{PROGRAMS, for_program, without_password},
    say,
};

/// Arguments of `shef restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `shef backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Throw away what the store holds
    #[arg(long)]
    replace: bool,
    /// The master's configuration file [default: /etc/shef/master.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the embedded store keeps its file [default: /var/lib/shef/master]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The Redis that keeps the state instead of a file
    #[arg(long, value_name = "URL", value_parser = without_password)]
    redis: Option<String>,
    /// Any other key of config/master.toml
    #[arg(long, value_name = "KEY=VALUE", value_parser = |text: &str| parse_set(&PROGRAM, text))]
    set: Vec<Preset>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let read = fs::read(&self.file);
        let text =
            read.map_err(|error| Failure::because(format!("cannot read {}", self.file.display()), &error))?;
        let backup = Backup::read(&text).map_err(|error| Failure::because(self.file.display(), &error))?;
        let given = [
            ("data_dir", self.data_dir.as_deref(), "--data-dir"),
            ("redis.url", self.redis.as_deref(), "--redis"),
        ];
        let mut layers = for_program("master", self.config.as_deref(), flags(&given, &self.set))?;
        // A store needs no address of this host.
        layers.presets.push(Preset::new("host_ip", "127.0.0.1", "default of shef restore"));
        let options = MasterConfig::load(&layers, &PROGRAMS)?.0.store;
        let restored = on_system(shef_master::restore(&options, &backup, self.replace));
        let (store, fence) = restored
            .map_err(|error| Failure::because(format!("cannot restore {}", self.file.display()), &error))?;
        say::step(format_args!(
            "{store} holds the {} records of cluster {} now, under epoch {}",
            backup.records.iter().filter(|record| !matches!(record.key, Key::Token(_))).count(),
            backup.cluster,
            fence.epoch
        ));
        let tokens = backup.records.iter().filter(|record| matches!(record.key, Key::Token(_))).count();
        if tokens > 0 {
            say::step(format_args!(
                "{tokens} tokens are not restored, as they may have been revoked since: shef token create \
                 makes new ones"
            ));
        }
        say::line(if matches!(options, StoreOptions::Embedded { .. }) {
            "Start the master now."
        } else {
            "A running master starts again from it within seconds; else start it now."
        });
        Ok(ExitCode::SUCCESS)
    }
}
