//! `shef exec`: a command inside of a replica, with this terminal if it is one.

use std::{
    io::{Read as _, stdin},
    process::ExitCode,
    time::Duration,
};

use awc::ws::{Frame, Message};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use rustix::termios::tcgetwinsize;
use serde_json::Value;
use shef_common::{
    exec::{Control, DRAIN_MS, ExecOrder, MAX_FRAME_BYTES, PING_MS, STDERR, STDIN, STDOUT, escaped},
    frames::bounded_socket,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, CALL_LIMIT, Client},
    say::Printer,
    signals::StopSignals,
    tty::Mode,
};

/// Arguments of `shef exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A service (the first of its replicas that runs), or one replica as SERVICE/REPLICA
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Give the command a terminal, and pass every key on to it
    #[arg(short, long)]
    tty: bool,
    /// Pass standard input on to the command; always done, accepted for users of docker exec -it
    #[arg(short, long, conflicts_with = "detach")]
    interactive: bool,
    /// Return once the command has begun, and let it run
    #[arg(short, long)]
    detach: bool,
    /// Set a variable for the command; NAME alone takes this shell's value [may be given again]
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Run it as this user, by name or number [default: the container's own]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Run it in this directory [default: the container's own]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    cmd: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let order = ExecOrder {
            cmd: self.cmd,
            env: self.env.into_iter().filter_map(variable).collect(),
            tty: self.tty,
            detach: self.detach,
            user: self.user,
            workdir: self.workdir,
        };
        let code = on_system(run(&self.api.client()?, &self.service, &order))?;
        // An exit code that does not fit into a byte is a failure too.
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

/// `NAME=value`; of a name alone with the value that it has here, if it has one: as docker takes it.
fn variable(given: String) -> Option<String> {
    if given.contains('=') {
        return Some(given);
    }
    std::env::var(&given).ok().map(|value| format!("{given}={value}"))
}

async fn run(client: &Client, target: &str, order: &ExecOrder) -> Result<i64, Failure> {
    let (service, replica) = match target.split_once('/') {
        Some((service, replica)) => (service, replica.to_owned()),
        None => (target, running(client, target).await?),
    };
    let path =
        format!("/v1/services/{}/replicas/{}/exec?{}", escaped(service), escaped(&replica), order.to_query());
    let url = client.url(&path);
    let connected = tokio::time::timeout(CALL_LIMIT, client.http().ws(&url).connect()).await;
    let connected = connected
        .map_err(|_| Failure::new(format!("{url} has not answered within {} s", CALL_LIMIT.as_secs())))?;
    let Ok((_, socket)) = connected else {
        // A refusal of a WebSocket has no body: the same as a plain request has.
        return match client.get::<Value>(&path).await {
            Ok(_) => Err(Failure::new(format!("{url} does not take the command"))),
            Err(error) => Err(error.into()),
        };
    };
    // Whatever ends this must leave the terminal as it was; without a raw terminal a signal may end it as any
    // program.
    let has_terminal = order.tty && !order.detach;
    let mut signals = if has_terminal { Some(StopSignals::listen()?) } else { None };
    let _raw = if has_terminal { Mode::raw() } else { None };
    let socket = bounded_socket(socket).map_err(|error| Failure::new(error.to_string()))?;
    let (sink, frames) = socket.split();
    let stopped = async {
        match &mut signals {
            Some(signals) => signals.next().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        code = show(frames, order.tty) => code,
        why = send(sink, has_terminal) => Err(why),
        name = stopped => Err(Failure::new(format!("{name}: the command is ended"))),
    }
}

/// The first replica of `service` that runs.
async fn running(client: &Client, service: &str) -> Result<String, Failure> {
    let view: Value = client.get(&format!("/v1/services/{}", escaped(service))).await?;
    let mut replicas = view["replica_states"].as_array().into_iter().flatten();
    let found = replicas.find(|replica| {
        replica["state"] == "running" && replica["want"] == "run" && replica["host"] == "ready"
    });
    let id = found.and_then(|replica| replica["id"].as_str()).map(str::to_owned);
    let lost = |replica: &&Value| replica["state"] == "running" && replica["want"] == "run";
    let out_of_reach = view["replica_states"].as_array().into_iter().flatten().find(lost);
    id.ok_or_else(|| match out_of_reach {
        Some(replica) => Failure::new(format!(
            "no replica of service {service} can be reached: {} is on {}, which is {}",
            replica["id"].as_str().unwrap_or_default(),
            replica["node"].as_str().unwrap_or_default(),
            replica["host"].as_str().unwrap_or_default()
        )),
        None => Failure::new(format!("no replica of service {service} runs now")),
    })
}

/// Prints what the command writes, until it has ended. A command with a terminal speaks to this one.
async fn show<E: std::fmt::Display>(
    mut frames: impl Stream<Item = Result<Frame, E>> + Unpin,
    tty: bool,
) -> Result<i64, Failure> {
    let (out, err) = (std::io::stdout(), std::io::stderr());
    let (mut out, mut err) =
        if tty { (Printer::raw(out), Printer::raw(err)) } else { (Printer::new(out), Printer::new(err)) };
    while let Some(frame) = frames.next().await {
        match frame.map_err(|error| Failure::new(format!("the connection broke: {error}")))? {
            Frame::Binary(bytes) => {
                let written = match bytes.split_first() {
                    Some((&STDOUT, text)) => out.part(text),
                    Some((&STDERR, text)) => err.part(text),
                    Some(_) | None => Ok(()),
                };
                written.map_err(|error| Failure::because("cannot write", &error))?;
            }
            Frame::Text(text) => match serde_json::from_slice(&text) {
                Ok(Control::ExitCode(code)) => {
                    let written = out.end().and_then(|()| err.end());
                    written.map_err(|error| Failure::because("cannot write", &error))?;
                    return Ok(code);
                }
                Ok(Control::Error(why)) => return Err(Failure::new(why)),
                Ok(Control::Resize { .. }) | Err(_) => {}
            },
            Frame::Ping(_) | Frame::Pong(_) | Frame::Continuation(_) => {}
            Frame::Close(_) => break,
        }
    }
    Err(Failure::new("the connection was closed before the command ended"))
}

/// Sends what is typed and the terminal's size, for as long as that is possible, and then waits a while:
/// a command that ends before it has read its input is no reason not to hear how it ended.
async fn send<E: std::fmt::Display>(mut sink: impl Sink<Message, Error = E> + Unpin, tty: bool) -> Failure {
    let mut typed = read_stdin();
    let mut ended = false;
    let Ok(mut resized) = signal(SignalKind::window_change()) else {
        return Failure::new("cannot listen for signals");
    };
    let mut size = if tty { window() } else { None };
    loop {
        let message = match size.take() {
            Some(size) => size,
            None => tokio::select! {
                part = typed.recv(), if !ended => {
                    let part = part.unwrap_or_default();
                    // An empty frame is the input's end.
                    ended = part.is_empty();
                    Message::Binary([&[STDIN], &part[..]].concat().into())
                }
                _ = resized.recv(), if tty => {
                    size = window();
                    continue;
                }
                () = tokio::time::sleep(Duration::from_millis(PING_MS)) => Message::Ping(bytes::Bytes::new()),
            },
        };
        if let Err(error) = sink.send(message).await {
            tokio::time::sleep(Duration::from_millis(DRAIN_MS)).await;
            return Failure::new(format!("the connection broke: {error}"));
        }
    }
}

/// Typed input, read by a thread of its own: reading a terminal cannot be cancelled.
#[expect(clippy::disallowed_methods, reason = "the thread ends with the process, whatever it waits for")]
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; MAX_FRAME_BYTES - 1];
        while let Ok(length @ 1..) = stdin().lock().read(&mut buffer) {
            if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal's size, as the command is told it.
fn window() -> Option<Message> {
    let size = tcgetwinsize(stdin()).ok()?;
    let control = Control::Resize { rows: size.ws_row, cols: size.ws_col };
    Some(Message::Text(serde_json::to_string(&control).ok()?.into()))
}
