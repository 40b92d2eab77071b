//! `shef up`: from a bare machine to a running cluster of one host.
//!
//! In the order in which it happens: read the configuration; look whether a
//! cluster runs here already; look whether the ports are free; find an engine or
//! set one up ([`plan`] decides, `prepare` carries out); start master and agent,
//! in this process or in one in the background; wait until the API answers; deploy
//! the demo; say what is where and how to stop it.

pub(crate) mod api;
mod background;
mod banner;
mod demo;
mod host_cluster;
pub(crate) mod neighbours;
pub mod plan;
mod port;
pub(crate) mod prepare;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use shef_agent::{EngineChoice, IdentityFile};
use shef_common::{
    config::{Layers, Origin},
    files,
    logging::{self, LogConfig},
    open_files,
    tls::JoinToken,
};

use self::api::Api;
use crate::{
    Failure,
    layers::{UpConfig, UpFlags, data_dir_flag, reachable},
    running::{Claim, Running, State, look},
    say,
    signals::{StopSignals, until_signal},
};

/// How long master and agent may take until the API answers.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long the host may take to tell what runs there before it is no longer waited for.
const HOST_LIMIT: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// What the person wants.
#[derive(Debug)]
pub struct UpRequest {
    /// The configuration's flags.
    pub flags: UpFlags,
    /// Whether to deploy the demo.
    pub demo: bool,
    /// Whether to change the machine without asking.
    pub yes: bool,
    /// Where the cluster runs.
    pub mode: Mode,
}

/// In which process the cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In this one, until it is told to stop.
    Foreground,
    /// In another one, which stays.
    Detach,
    /// This is the other one.
    Background,
}

/// Carries out the request. In the foreground and the background it comes back when the cluster has stopped.
///
/// # Errors
/// [`Failure`] in words for the person at the terminal.
pub async fn up(request: UpRequest) -> Result<(), Failure> {
    let mut config = UpConfig::load(&request.flags)?;
    let dir = &config.data_dir;
    files::make_data_dir(dir).map_err(|error| {
        Failure::because(format!("cannot make {}: choose another by --data-dir", dir.display()), &error)
    })?;

    if request.mode == Mode::Background {
        background::leave_terminal();
        return serve(config, Mode::Background, false).await;
    }
    if let State::Running(mut running) = look(dir) {
        let changed = config.changed(&running.settings);
        if !changed.is_empty() {
            let place = data_dir_flag(dir);
            return Err(Failure(format!(
                "shef runs already (process {}), with other settings, and was left as it is:\n  {}\n`shef \
                 down{place}` and then this command again change them",
                running.pid,
                changed.join("\n  ")
            )));
        }
        say::step(format_args!("shef runs already (process {})", running.pid));
        // Its engine may have ended since: then it is started as at first.
        let named = (running.docker_host.as_str(), "the shef that runs".to_owned());
        let tls = running.docker_tls.get_or_insert(config.agent.0.docker_tls);
        prepare::engine(Some(named), tls, &Layers::from_process_env().env, dir, request.yes).await?;
        return finish(&running, dir, request.demo, Mode::Detach).await;
    }
    port::is_free(config.master.0.listen, "--api")?;
    port::is_free_everywhere(config.agent.0.listen, "--agent")?;
    if config.master.0.insecure && !config.master.0.listen.ip().is_loopback() {
        say::step(format_args!(
            "warning: every client that reaches {} can run containers here: allow only trusted machines to \
             reach it, or ask for tokens (SHEF_INSECURE=false)",
            config.master.0.listen
        ));
    }

    let entry = config.agent.1.entry("docker_host");
    let configured = (entry.origin != Origin::Default)
        .then(|| (config.agent.0.docker_host.as_str(), entry.origin.to_string()));
    let found = prepare::engine(
        configured,
        &config.agent.0.docker_tls,
        &Layers::from_process_env().env,
        dir,
        request.yes,
    )
    .await?;
    config.agent.0.docker_host = found.url;

    if request.mode == Mode::Foreground {
        return serve(config, Mode::Foreground, request.demo).await;
    }
    say::step("starting master, agent and store in the background ...");
    let running = background::start(&config, &request.flags).await?;
    finish(&running, dir, request.demo, Mode::Detach).await
}

/// Runs master and agent in this process until a signal stops them.
async fn serve(mut config: UpConfig, mode: Mode, demo: bool) -> Result<(), Failure> {
    let mut claim = Claim::take(&config.data_dir)?;
    logging::init(&LogConfig::from_effective(&config.master.1));
    open_files::raise();
    if mode == Mode::Foreground {
        say::step("starting master, agent and store ...");
    }
    let host_ip = config.master.0.host_ip;
    let mut running = Running {
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        api: reachable(config.master.0.listen, host_ip),
        socket: config.master.0.api_socket.clone(),
        insecure: config.master.0.insecure,
        docker_host: config.agent.0.docker_host.clone(),
        docker_tls: Some(config.agent.0.docker_tls.anywhere()),
        log: (mode == Mode::Background).then(|| background::log_path(&config.data_dir)),
        ready: false,
        settings: config.settings(),
    };
    claim.write(&running)?;
    let mut signals = StopSignals::listen()?;
    host_cluster::go_on(&config.master.0.data_dir, &config.agent.0.data_dir)?;
    let master = shef_master::start(config.master.0)
        .await
        .map_err(|error| Failure::because("the master does not start", &error))?;
    running.api = reachable(master.address(), host_ip);
    config.agent.0.masters = vec![format!("http://{}", running.api)];
    if let Some(ca) = master.ca() {
        host_cluster::note(ca, &config.agent.0.data_dir)?;
    }
    if master.ca().is_some_and(|ca| !IdentityFile::is_of(ca, &config.agent.0.data_dir)) {
        let token = master.join_token().await;
        let token = token.map_err(|error| Failure::because("the master makes no join token", &error))?;
        config.agent.0.join_token = JoinToken::parse(&token);
    }
    let started = shef_agent::start(config.agent.0, EngineChoice::Docker).await;
    let agent = started.map_err(|error| Failure::because("the agent does not start", &error))?;

    let ready_and_announced = async {
        let api = Api::of(&running);
        wait_until_ready(&api).await?;
        wait_for_host(&api, agent.node().as_str()).await;
        running.ready = true;
        claim.write(&running)?;
        if mode == Mode::Foreground { finish(&running, &config.data_dir, demo, mode).await } else { Ok(()) }
    };
    let early = tokio::select! {
        outcome = ready_and_announced => match outcome {
            Ok(()) => None,
            // A failure of the demo does not end a running cluster.
            Err(failure) if running.ready && mode == Mode::Foreground => {
                say::line(format_args!("shef: {failure}"));
                None
            }
            Err(failure) => return Err(failure),
        },
        name = signals.next() => Some(name),
    };
    let (signal, master) = match early {
        Some(signal) => (signal, master),
        None => until_signal(&mut signals, master).await?,
    };
    log::info!("{signal}: stopping agent and master");
    signals
        .stop_within(async {
            agent.stop().await;
            master.stop().await;
        })
        .await?;
    log::info!("agent and master have stopped; containers go on running");
    if mode == Mode::Foreground {
        say::line("shef has stopped; the containers go on running");
    }
    drop(claim);
    Ok(())
}

/// Waits until the host has reported what runs there, so that a list right after is not empty. The API says
/// why this takes long, for example because the engine is away.
async fn wait_for_host(api: &Api, host: &str) {
    let reported = async {
        while !api.has_report_of(host).await {
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(HOST_LIMIT, reported).await;
}

async fn wait_until_ready(api: &Api) -> Result<(), Failure> {
    let ready = async {
        while !api.is_ready().await {
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let late =
        |_| Failure(format!("the API does not answer within {} s: the log says more", READY_LIMIT.as_secs()));
    tokio::time::timeout(READY_LIMIT, ready).await.map_err(late)
}

/// The demo if it is wanted, and what the person needs to know: also where the demo fails, for the cluster is
/// up.
async fn finish(running: &Running, data_dir: &Path, demo: bool, mode: Mode) -> Result<(), Failure> {
    let (engine, tls) = (&running.docker_host, &running.docker_tls.clone().unwrap_or_default());
    let api = Api::of(running);
    neighbours::warn(&api, running).await;
    let deployed = if demo { Some(demo::deploy(&api, engine, tls).await) } else { None };
    let replicas = deployed.as_ref().and_then(|deployed| deployed.as_deref().ok());
    let login = api.login_link().await;
    let not_ready = api.hosts_not_ready().await;
    say::line(banner::banner(running, data_dir, replicas, login.as_deref(), not_ready.as_deref(), mode));
    match deployed {
        Some(Err(failure)) => Err(Failure(format!("shef is up, but its demo is not: {failure}"))),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// The program's own file.
fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::because("cannot find the program's own file", &error))
}
