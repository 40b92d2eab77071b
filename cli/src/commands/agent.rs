//! `shef agent`: one host's agent, in the foreground.

use std::{path::PathBuf, process::ExitCode};

use shef_agent::{
    EngineChoice,
    config::{AgentConfig, PROGRAM},
};
use shef_common::{
    config::Preset,
    logging::{self, LogConfig},
    open_files,
};

use super::{flags, on_system, parse_set};
use crate::{
    Failure,
    layers::{PROGRAMS, for_program},
    signals::StopSignals,
};

/// Arguments of `shef agent`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: /etc/shef/agent.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The IPv4 address by which other hosts reach this one
    #[arg(long, value_name = "ADDR")]
    host_ip: Option<String>,
    /// Where the agent listens [default: port 11044 of the host's address]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// The masters, separated by commas [default: port 8044 of the host's address]
    #[arg(long, value_name = "HOST:PORT")]
    masters: Option<String>,
    /// The host's name in the cluster [default: the host's own name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The Docker engine, as in `DOCKER_HOST`
    #[arg(long, value_name = "URL")]
    docker_host: Option<String>,
    /// Where the agent keeps its ledger [default: /var/lib/shef/agent]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Start the host's bootstrap and guard again when they are killed
    #[arg(long, hide = true)]
    guard_bootstrap: bool,
    /// Any other key of config/agent.toml
    #[arg(long, value_name = "KEY=VALUE", value_parser = |text: &str| parse_set(&PROGRAM, text))]
    set: Vec<Preset>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let given = [
            ("host_ip", self.host_ip.as_deref(), "--host-ip"),
            ("listen", self.listen.as_deref(), "--listen"),
            ("masters", self.masters.as_deref(), "--masters"),
            ("node_name", self.node_name.as_deref(), "--node-name"),
            ("docker_host", self.docker_host.as_deref(), "--docker-host"),
            ("data_dir", self.data_dir.as_deref(), "--data-dir"),
        ];
        let layers = for_program("agent", self.config.as_deref(), flags(&given, &self.set))?;
        let (config, effective) = AgentConfig::load(&layers, &PROGRAMS)?;
        logging::init(&LogConfig::from_effective(&effective));
        open_files::raise();
        on_system(async move {
            let mut signals = StopSignals::listen()?;
            let docker_host = config.docker_host.clone();
            let started = shef_agent::start(config, EngineChoice::Docker).await;
            let agent = started.map_err(|error| Failure::because("the agent does not start", &error))?;
            log::info!(address:% = agent.address(); "agent is up");
            let guard = async {
                if self.guard_bootstrap {
                    shef_bootstrap::guard::guard(&docker_host).await
                } else {
                    std::future::pending().await
                }
            };
            let signal = tokio::select! {
                signal = signals.next() => signal,
                never = guard => match never {},
            };
            log::info!("{signal}: stopping; containers go on running");
            signals.stop_within(agent.stop()).await?;
            log::info!("agent has stopped");
            Ok(ExitCode::SUCCESS)
        })
    }
}
