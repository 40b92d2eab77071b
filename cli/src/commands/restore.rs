//! `shef restore`: a backup into a store, in the place of what is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use shef_common::config::Preset;
use shef_master::{
    config::{MasterConfig, PROGRAM},
    store::{Backup, Key, StoreOptions, embedded},
};

use super::{flags, on_system, parse_set};
use crate::{
    Failure,
    layers::{PROGRAMS, UpConfig, data_dir_flag, default_data_dir, for_program, without_password},
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
    /// The data directory of `shef up` [default: as of shef up]. Of a `shef master` with a directory of its
    /// own, give `--config FILE` or `--set data_dir=DIR`
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
        let own = self.data_dir.as_deref().map(masters_dir).transpose()?;
        let given =
            [("data_dir", own.as_deref(), "--data-dir"), ("redis.url", self.redis.as_deref(), "--redis")];
        let mut layers = for_program("master", self.config.as_deref(), flags(&given, &self.set))?;
        // A store needs no address of this host.
        layers.presets.push(Preset::new("host_ip", "127.0.0.1", "default of shef restore"));
        if let Ok(usual) = default_data_dir(rustix::process::geteuid().is_root(), &layers.env) {
            layers.presets.push(Preset::new(
                "data_dir",
                UpConfig::masters_dir(&usual).display().to_string(),
                "default of shef up",
            ));
        }
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
        say::line(match (&options, &self.data_dir) {
            (StoreOptions::Embedded { .. }, Some(dir)) => {
                format!("Start it now: shef up -d{}", data_dir_flag(&absolute(dir)?))
            }
            (StoreOptions::Embedded { .. }, None) => "Start the master now.".to_owned(),
            (StoreOptions::Redis(_), _) => {
                "A running master starts again from it within seconds; else start it now.".to_owned()
            }
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// The master's directory in that of `shef up`.
fn masters_dir(dir: &Path) -> Result<String, Failure> {
    let dir = absolute(dir)?;
    let shown = dir.display();
    if dir.join(embedded::FILE).exists() {
        return Err(Failure::new(format!(
            "--data-dir is the directory of `shef up`, and {shown} is a master's own, with its {}: say \
             --set data_dir={shown}",
            embedded::FILE
        )));
    }
    Ok(UpConfig::masters_dir(&dir).display().to_string())
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| Failure::because("--data-dir", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_that_of_shef_up_and_no_masters_own() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(masters_dir(dir.path()).unwrap(), dir.path().join("master").display().to_string());
        std::fs::write(dir.path().join("shef.redb"), "").unwrap();
        let said = masters_dir(dir.path()).unwrap_err().0;
        assert!(said.ends_with(&format!("say --set data_dir={}", dir.path().display())), "{said}");
    }
}
