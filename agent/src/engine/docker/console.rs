//! What Docker shows of a container.

use std::{collections::HashMap, path::Path, time::Duration};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults},
    models::ContainerStatsResponse,
    query_parameters::{LogsOptions, StatsOptions},
};
use futures_util::{FutureExt as _, StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::{
    exec::ExecOrder,
    image::ImageRef,
    logs::{LogQuery, Output},
    registry::{Credentials, LoginCheck, RegistryHost},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    super::{EngineError, EngineFuture},
    DockerEngine, generic, login,
};
use crate::{
    console::{Command, CommandControl, Console, LogPiece, Sample, Written, parts},
    processes,
};

/// How often and how far apart the agent looks whether a command has ended after a signal.
const END_LOOKS: (u32, Duration) = (40, Duration::from_millis(50));
/// The image that is requested from a registry to check credentials.
const LOOKED_FOR: &str = "shef/login-check:latest";

impl Console for DockerEngine {
    fn read_log(&self, id: &str, query: &LogQuery) -> LocalBoxStream<'static, Result<LogPiece, EngineError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(error)]).boxed_local(),
        };
        let since = query.since.map(|since| i32::try_from(since.seconds()).unwrap_or(i32::MAX));
        let options = LogsOptions {
            follow: query.follow,
            stdout: true,
            stderr: true,
            timestamps: true,
            // The engine counts in seconds here; the rest is done with the lines.
            since: since.unwrap_or_default(),
            until: 0,
            tail: query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        };
        let stdout = |bytes| Ok(LogPiece { stream: Output::Stdout, bytes });
        let pieces = client.logs(id, Some(options)).flat_map(move |item| {
            stream::iter(match item {
                Ok(LogOutput::StdErr { message }) => {
                    vec![Ok(LogPiece { stream: Output::Stderr, bytes: message })]
                }
                Ok(LogOutput::StdOut { message } | LogOutput::StdIn { message }) => vec![stdout(message)],
                // Output of a terminal comes as bytes, not entry by entry.
                Ok(LogOutput::Console { message }) => parts(message).into_iter().map(stdout).collect(),
                Err(error) => vec![Err(generic(&error))],
            })
        });
        pieces.boxed_local()
    }

    fn sample<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Sample> {
        async move {
            let options = StatsOptions { stream: false, one_shot: true };
            let mut stats = self.client()?.stats(id, Some(options)).boxed_local();
            match stats.next().await {
                Some(Ok(stats)) => Ok(sampled(&stats)),
                Some(Err(error)) => Err(generic(&error)),
                None => Err(EngineError::Unreachable("the engine has told nothing".to_owned())),
            }
        }
        .boxed_local()
    }

    fn check_login<'a>(
        &'a self,
        host: &'a RegistryHost,
        credentials: &'a Credentials,
    ) -> EngineFuture<'a, LoginCheck> {
        async move {
            // bollard does not know the engine's own call for this. A look for an image shows the same,
            // whether it is there or not.
            let Ok(image) = ImageRef::parse(&format!("{host}/{LOOKED_FOR}")) else {
                return Ok(LoginCheck::Unknown { reason: format!("{host} cannot be asked") });
            };
            let asked =
                self.client()?.inspect_registry_image(image.as_str(), Some(login(&image, credentials))).await;
            Ok(match asked {
                Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    LoginCheck::Accepted
                }
                Err(Error::DockerResponseServerError { status_code, message })
                    if is_refusal(status_code, &message) =>
                {
                    LoginCheck::Refused { reason: message }
                }
                Err(error) => LoginCheck::Unknown { reason: generic(&error).reason() },
            })
        }
        .boxed_local()
    }

    fn exec<'a>(&'a self, id: &'a str, order: &'a ExecOrder) -> EngineFuture<'a, Command> {
        async move {
            let client = self.client()?;
            let body = CreateExecOptions {
                attach_stdin: Some(!order.detach),
                attach_stdout: Some(!order.detach),
                attach_stderr: Some(!order.detach),
                tty: Some(order.tty),
                cmd: Some(order.cmd.clone()),
                env: (!order.env.is_empty()).then(|| order.env.clone()),
                user: order.user.clone(),
                working_dir: order.workdir.clone(),
                ..CreateExecOptions::default()
            };
            let id = client.create_exec(id, body).await.map_err(|error| generic(&error))?.id;
            let options = StartExecOptions { detach: order.detach, tty: order.tty, output_capacity: None };
            match client.start_exec(&id, Some(options)).await.map_err(|error| generic(&error))? {
                StartExecResults::Attached { output, input } => {
                    let output =
                        output.map(|item| item.map(written).map_err(|error| generic(&error))).boxed_local();
                    Ok(Command { output, input, control: Box::new(DockerCommand { client, id }) })
                }
                StartExecResults::Detached if order.detach => Ok(Command::detached()),
                StartExecResults::Detached => {
                    Err(EngineError::Refused("the engine did not attach to the command".to_owned()))
                }
            }
        }
        .boxed_local()
    }
}

/// A command that an engine runs, by the engine's id for it.
struct DockerCommand {
    client: Docker,
    id: String,
}

impl CommandControl for DockerCommand {
    fn resize(&self, rows: u16, cols: u16) -> EngineFuture<'_, ()> {
        async move {
            let size = ResizeExecOptions { height: rows, width: cols };
            self.client.resize_exec(&self.id, size).await.map_err(|error| generic(&error))
        }
        .boxed_local()
    }

    fn exit_code(&self) -> EngineFuture<'_, Option<i64>> {
        async move {
            let found = self.client.inspect_exec(&self.id).await.map_err(|error| generic(&error))?;
            Ok(found.exit_code.filter(|_| found.running != Some(true)))
        }
        .boxed_local()
    }

    // No engine has a call for this.
    fn end(&self) -> EngineFuture<'_, ()> {
        async move {
            let found = self.client.inspect_exec(&self.id).await.map_err(|error| generic(&error))?;
            let pid = found.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid != 0);
            let (Some(true), Some(pid), Some(container)) = (found.running, pid, found.container_id) else {
                return Ok(());
            };
            if !end_session(&container, pid).await {
                log::warn!(
                    container:%, pid;
                    "a command whose reader has gone runs on: the agent does not see the container's \
                     processes"
                );
            }
            Ok(())
        }
        .boxed_local()
    }
}

/// Ends the session of a command, first as a terminal that hangs up; whether there was one.
async fn end_session(container: &str, leader: i32) -> bool {
    let mut was_seen = false;
    for signal in [Signal::HUP, Signal::KILL] {
        for look in 0..END_LOOKS.0 {
            let container = container.to_owned();
            let look_up = move || processes::of_session(Path::new("/proc"), &container, leader);
            let left = tokio::task::spawn_blocking(look_up).await.unwrap_or_default();
            if left.is_empty() {
                return was_seen;
            }
            was_seen = true;
            // Repeated, because processes that are being killed may start others.
            if look == 0 || signal == Signal::KILL {
                for pid in left.into_iter().filter_map(Pid::from_raw) {
                    // One that has just ended is no failure.
                    _ = kill_process(pid, signal);
                }
            }
            tokio::time::sleep(END_LOOKS.1).await;
        }
    }
    was_seen
}

/// Whether the registry has refused who asks, and not only what is asked for.
fn is_refusal(status: u16, message: &str) -> bool {
    status == 401 || message.contains("unauthorized") || message.contains("incorrect username or password")
}

fn written(output: LogOutput) -> Written {
    match output {
        LogOutput::StdErr { message } => Written { stream: Output::Stderr, bytes: message },
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Written { stream: Output::Stdout, bytes: message }
        }
    }
}

fn sampled(stats: &ContainerStatsResponse) -> Sample {
    let cpu = stats.cpu_stats.as_ref();
    let memory = stats.memory_stats.as_ref();
    let cached = memory.and_then(|memory| memory.stats.as_ref()).and_then(|stats| {
        // As the docker client counts: cgroup v1's word for it, then v2's.
        stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied()
    });
    let usage = memory.and_then(|memory| memory.usage).unwrap_or_default();
    let networks = stats.networks.iter().flat_map(HashMap::values);
    let (rx, tx) = networks.fold((0, 0), |(rx, tx), network| {
        (rx + network.rx_bytes.unwrap_or_default(), tx + network.tx_bytes.unwrap_or_default())
    });
    let block = |word: &str| {
        let entries = stats.blkio_stats.as_ref().and_then(|block| block.io_service_bytes_recursive.as_ref());
        let of_word = entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(word)));
        of_word.map(|entry| entry.value.unwrap_or_default()).sum()
    };
    Sample {
        cpu_ns: cpu.and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage).unwrap_or_default(),
        host_cpu_ns: cpu.and_then(|cpu| cpu.system_cpu_usage).unwrap_or_default(),
        cpus: cpu.and_then(|cpu| cpu.online_cpus).unwrap_or(1),
        memory_bytes: usage.saturating_sub(cached.unwrap_or_default()),
        memory_limit_bytes: memory.and_then(|memory| memory.limit).unwrap_or_default(),
        network_rx_bytes: rx,
        network_tx_bytes: tx,
        block_read_bytes: block("read"),
        block_write_bytes: block("write"),
        pids: stats.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or_default(),
    }
}
