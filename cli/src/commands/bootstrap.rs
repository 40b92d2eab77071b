//! `shef bootstrap`: a host's store, master and agent as containers, kept running.

use std::{path::PathBuf, process::ExitCode};

use shef_bootstrap::{
    config::{BootstrapConfig, PROGRAM},
    guard::guard,
    prepare,
    uninstall::{Extent, uninstall},
};
use shef_common::{
    config::{Layers, Preset},
    logging::{self, LogConfig},
};
use shef_master::{
    config::MasterConfig,
    store::{self, RedisFacts, StoreOptions},
};

use super::{flags, on_system, parse_set};
use crate::{
    Failure,
    layers::{PROGRAMS, for_program},
    say,
    signals::StopSignals,
};

/// Arguments of `shef bootstrap`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: /etc/shef/bootstrap.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The IPv4 address by which other hosts reach this one
    #[arg(long, value_name = "ADDR")]
    host_ip: Option<String>,
    /// The image of master and agent [default: the one of the bootstrap's own container]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Remove what a bootstrap has put on this host; services' containers run on
    #[arg(long)]
    uninstall: bool,
    #[command(flatten)]
    extent: ExtentArgs,
    /// Look at the host and lay down what the containers need; run by the bootstrap itself
    #[arg(long, hide = true)]
    prepare: bool,
    /// Start bootstrap and agent of this host again when they are killed; run by the bootstrap itself
    #[arg(long, hide = true)]
    guard: bool,
    /// Any other key of config/bootstrap.toml
    #[arg(long, value_name = "KEY=VALUE", value_parser = |text: &str| parse_set(&PROGRAM, text))]
    set: Vec<Preset>,
}

/// How much `--uninstall` takes away.
#[derive(Debug, clap::Args)]
struct ExtentArgs {
    /// With --uninstall: the volumes with the store and its passwords, too; with --services, those of
    /// services as well
    #[arg(long, requires = "uninstall")]
    volumes: bool,
    /// With --uninstall: the services' containers on this host and their networks, too
    #[arg(long, requires = "uninstall")]
    services: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if self.prepare {
            let findings = on_system(prepare::answer(stored_in_redis))
                .map_err(|error| Failure::new(error.to_string()))?;
            say::line(serde_json::to_string(&findings).unwrap_or_default());
            return Ok(ExitCode::SUCCESS);
        }
        let given =
            [("host_ip", self.host_ip.as_deref(), "--host-ip"), ("image", self.image.as_deref(), "--image")];
        let layers = for_program("bootstrap", self.config.as_deref(), flags(&given, &self.set))?;
        if self.uninstall {
            let effective = shef_bootstrap::config::effective(&layers, &PROGRAMS)?;
            let extent = Extent { volumes: self.extent.volumes, services: self.extent.services };
            let done = on_system(uninstall(effective.text("docker_host"), extent, |text| say::line(text)));
            return done.map(|()| ExitCode::SUCCESS).map_err(|error| Failure::new(error.to_string()));
        }
        if self.guard {
            let effective = shef_bootstrap::config::effective(&layers, &PROGRAMS)?;
            logging::init(&LogConfig::from_effective(&effective));
            return on_system(async move {
                let mut signals = StopSignals::listen()?;
                tokio::select! {
                    _ = signals.next() => Ok(ExitCode::SUCCESS),
                    never = guard(effective.text("docker_host")) => match never {},
                }
            });
        }
        let (config, effective) = BootstrapConfig::load(&layers, &PROGRAMS)?;
        logging::init(&LogConfig::from_effective(&effective));
        on_system(async move {
            let mut signals = StopSignals::listen()?;
            let stop = async { _ = signals.next().await };
            shef_bootstrap::run(config, stop).await.map_err(|error| Failure::new(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Looks at the Redis that the master's variables name: what it is like, and in which format it holds a
/// store.
async fn stored_in_redis() -> Result<(RedisFacts, Option<u32>), Failure> {
    let mut layers = Layers::from_process_env();
    layers.env.retain(|name, _| !name.starts_with("PREPARE_"));
    let (config, _) = MasterConfig::load(&layers, &[])?;
    let StoreOptions::Redis(redis) = &config.store else {
        return Err(Failure::new("the master's variables name no Redis"));
    };
    let failed = |error: store::OpenError| Failure::new(error.to_string());
    let facts = store::inspect(redis).await.map_err(failed)?;
    Ok((facts, store::stored_format(&config.store).await.map_err(failed)?))
}
