//! `shef down`: stops what `shef up` started. Containers go on running, unless
//! their services are to be deleted first. Networks and the demo's image go once no container uses them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bollard::query_parameters::RemoveImageOptions;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use shef_agent::engine::{Engine as _, docker::DockerEngine};
use shef_common::{config::Layers, ids::ClusterId};

use super::on_system;
use crate::{
    DEFAULT_TAG, Failure, api_address, engine,
    layers::{data_dir_flag, default_data_dir},
    running::{Running, State, is_known, look},
    say,
    up::{api::Api, neighbours, prepare::own_engines_log},
    workload_image,
};

/// How long the process may take to end; it bounds its own stop at 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long a master that was not asked for may take to answer.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of `shef down`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory that `shef up` was given [default: as of shef up]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// First delete every service, and wait until its containers are gone; removes the demo's image, too
    #[arg(long)]
    services: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let is_given = self.data_dir.is_some();
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => default_data_dir(rustix::process::geteuid().is_root(), &Layers::from_process_env().env)?,
        };
        let place = data_dir_flag(&data_dir);
        let running = match look(&data_dir) {
            State::Running(running) => running,
            State::Starting => return Err(Failure::new("shef is starting: try again in a moment")),
            State::Free if self.services && data_dir.join("master").exists() => {
                return Err(Failure::new(format!(
                    "nothing runs over {}, so no service can be deleted, and what \
                     `docker ps --filter label=shef-managed-container=true` shows runs on: `shef up \
                     -d{place}`, then `shef down{place} --services`",
                    data_dir.display()
                )));
            }
            State::Free if is_given && !is_known(&data_dir) => {
                return Err(Failure::new(format!(
                    "no `shef up` has run over {}: --data-dir must be the directory that it was given",
                    data_dir.display()
                )));
            }
            State::Free if !is_given => {
                let api = api_address::from_host_ip(&Layers::from_process_env().env).ok().map(|(api, _)| api);
                return on_system(async move { nothing_here(&data_dir, api).await });
            }
            State::Free => {
                say::line(format_args!("nothing runs over {}", data_dir.display()));
                return Ok(ExitCode::SUCCESS);
            }
        };
        on_system(async move {
            let api = Api::of(&running);
            if self.services {
                api.delete_all_services().await?;
            }
            let cluster = api.cluster().await.and_then(|cluster| ClusterId::parse(&cluster).ok());
            stop(&running, &data_dir).await?;
            if let Some(cluster) = &cluster {
                remove_networks(&running, cluster).await;
            }
            let own = cluster.as_ref().map(ClusterId::as_str).unwrap_or_default();
            let others = neighbours::of(own, &running).await;
            if self.services
                && let Some(others) = &others
            {
                say::step(format_args!("the image {DEFAULT_TAG} is kept for {others}"));
            }
            let image_is_left = demo_image_is_left(&running, self.services && others.is_none()).await;
            left(&running, &data_dir, self.services, image_is_left).iter().for_each(say::line);
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Nothing runs over the default directory: says whether a master answers at `api` all the same, which this
/// command does not stop.
async fn nothing_here(data_dir: &Path, api: Option<String>) -> Result<ExitCode, Failure> {
    let nothing = format!("nothing runs over {}", data_dir.display());
    if let Some(api) = api
        && tokio::time::timeout(LOOK_LIMIT, Api::at(&api).is_there()).await == Ok(true)
    {
        return Err(Failure::new(format!(
            "{nothing}, but a master answers at {api}: if `shef up` has started it over another directory, \
             `shef down --data-dir DIR` stops it"
        )));
    }
    say::line(nothing);
    Ok(ExitCode::SUCCESS)
}

/// Removes the networks that were made for services and that no container is in. The agent does so seconds
/// after a service has gone, and has ended before.
async fn remove_networks(running: &Running, cluster: &ClusterId) {
    let tls = running.docker_tls.clone().unwrap_or_default();
    let Ok(engine) = DockerEngine::new(&running.docker_host, &tls) else { return };
    match engine.remove_networks(cluster, &BTreeSet::new()).await {
        Ok(removed) => removed.iter().for_each(|name| say::step(format_args!("removed the network {name}"))),
        Err(error) => say::step(format_args!("networks of services are kept: {}", error.reason())),
    }
}

/// Whether the engine has the demo's image after this. It goes with the services, unless a container uses it.
async fn demo_image_is_left(running: &Running, is_to_go: bool) -> bool {
    let tls = running.docker_tls.clone().unwrap_or_default();
    let Ok(docker) = engine::connect(&running.docker_host, &tls) else { return false };
    if !workload_image::is_there(&docker, DEFAULT_TAG).await {
        return false;
    }
    let is_gone =
        is_to_go && docker.remove_image(DEFAULT_TAG, None::<RemoveImageOptions>, None).await.is_ok();
    if is_gone {
        say::step(format_args!("removed the image {DEFAULT_TAG}"));
    }
    !is_gone
}

/// What remains afterwards, a line each.
fn left(running: &Running, data_dir: &Path, services_are_gone: bool, image_is_left: bool) -> Vec<String> {
    let docker = running.docker();
    let log = own_engines_log(&running.docker_host, data_dir);
    let log =
        log.map(|log| format!(", which shef up has started (log: {})", log.display())).unwrap_or_default();
    let containers =
        format!("  containers, which go on running: {docker} ps --filter label=shef-managed-container=true");
    let lines = [
        Some("shef has stopped. What it leaves:".to_owned()),
        (!services_are_gone).then_some(containers),
        Some(format!("  volumes of services: {docker} volume ls --filter label=shef-managed-volume")),
        image_is_left.then(|| format!("  the image of the demo: {docker} image rm {DEFAULT_TAG}")),
        Some(format!("  the engine at {}{log}", running.docker_host)),
        Some(format!("  the data directory: {}", data_dir.display())),
    ];
    lines.into_iter().flatten().collect()
}

async fn stop(running: &Running, data_dir: &Path) -> Result<(), Failure> {
    // The lock that `look` found is held by this very process, so the number is still its own.
    let pid =
        Pid::from_raw(running.pid).ok_or_else(|| Failure::new("the pid file holds no process number"))?;
    say::step(format_args!("stopping shef (process {}) ...", running.pid));
    match kill_process(pid, Signal::TERM) {
        // It ended by itself meanwhile.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(Failure::because(format!("cannot stop process {}", running.pid), &error)),
    }
    let gone = async {
        while look(data_dir) != State::Free {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = |_| {
        Failure::new(format!(
            "process {} has not ended within {} s: look at its log",
            running.pid,
            STOP_LIMIT.as_secs()
        ))
    };
    tokio::time::timeout(STOP_LIMIT, gone).await.map_err(late)
}

#[cfg(test)]
mod tests {
    use actix_rt::net::TcpListener;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[actix_rt::test]
    async fn a_master_of_another_data_directory_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let master = actix_rt::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            _ = stream.read(&mut [0; 4_096]).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let said = nothing_here(Path::new("/d"), Some(api.clone())).await.unwrap_err().0;
        master.await.unwrap();
        let begins = format!("nothing runs over /d, but a master answers at {api}: ");
        assert!(said.starts_with(&begins) && said.contains("`shef down --data-dir DIR`"), "{said}");
        // The listener is gone.
        assert!(nothing_here(Path::new("/d"), Some(api)).await.is_ok());
        assert!(nothing_here(Path::new("/d"), None).await.is_ok());
    }
}
