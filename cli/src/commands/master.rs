//! `shef master`: the master alone, in the foreground.

use std::{path::PathBuf, process::ExitCode};

use shef_common::{
    config::Preset,
    logging::{self, LogConfig},
    open_files,
};
use shef_master::config::{MasterConfig, PROGRAM};

use super::{flags, on_system, parse_set};
use crate::{
    Failure,
    layers::{PROGRAMS, for_program, without_password},
    signals::{StopSignals, until_signal},
};

/// Arguments of `shef master`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: /etc/shef/master.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The IPv4 address by which other hosts reach this one
    #[arg(long, value_name = "ADDR")]
    host_ip: Option<String>,
    /// Where the API listens [default: port 8044 of the host's address]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where the embedded store keeps its file [default: /var/lib/shef/master]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Keep the state in this Redis instead of a file
    #[arg(long, value_name = "URL", value_parser = without_password)]
    redis: Option<String>,
    /// Any other key of config/master.toml
    #[arg(long, value_name = "KEY=VALUE", value_parser = |text: &str| parse_set(&PROGRAM, text))]
    set: Vec<Preset>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let given = [
            ("host_ip", self.host_ip.as_deref(), "--host-ip"),
            ("listen", self.listen.as_deref(), "--listen"),
            ("data_dir", self.data_dir.as_deref(), "--data-dir"),
            ("redis.url", self.redis.as_deref(), "--redis"),
        ];
        let layers = for_program("master", self.config.as_deref(), flags(&given, &self.set))?;
        let (config, effective) = MasterConfig::load(&layers, &PROGRAMS)?;
        logging::init(&LogConfig::from_effective(&effective));
        open_files::raise();
        on_system(async move {
            let mut signals = StopSignals::listen()?;
            let master = shef_master::start(config)
                .await
                .map_err(|error| Failure::because("the master does not start", &error))?;
            log::info!(address:% = master.address(); "master is up");
            let (signal, master) = until_signal(&mut signals, master).await?;
            log::info!("{signal}: stopping; containers go on running");
            signals.stop_within(master.stop()).await?;
            log::info!("master has stopped");
            Ok(ExitCode::SUCCESS)
        })
    }
}
