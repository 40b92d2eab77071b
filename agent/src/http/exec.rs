//! `GET /v1/replicas/{id}/exec?cmd=&env=&tty=&detach=&user=&workdir=`: a command in a replica, over a
//! WebSocket.

use std::{sync::Arc, time::Duration};

use actix_web::{FromRequest as _, HttpRequest, HttpResponse, dev::Payload, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use shef_common::{
    exec::{Control, DRAIN_MS, ExecOrder, MAX_FRAME_BYTES, PING_MS, SILENCE_MS, STDERR, STDIN, STDOUT},
    frames::bounded_payload,
    ids::{InvalidId, ReplicaId},
    logs::Output,
    problem::Code,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    assignments::problem,
    query::{InvalidQuery, pairs},
};
use crate::{
    console::{Command, CommandControl, Consoles, Hidden},
    engine::EngineError,
};

/// The most commands that run at once; a connection each, of the server's 256.
const MAX_COMMANDS: usize = 32;
/// How often and how far apart the engine is asked for the code of a command whose output has ended.
const CODE_TRIES: (u32, Duration) = (50, Duration::from_millis(20));
/// The key that ends a terminal's input (Ctrl-D).
const END_KEY: u8 = 4;
/// How long the engine may take to begin a command.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The bound on commands that run.
pub struct CommandSlots(Arc<Semaphore>);

impl CommandSlots {
    /// With all places free.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_COMMANDS)))
    }
}

/// 101; whatever is wrong is said in the last frame, as the other side reads no body of a refusal.
pub async fn get(
    request: HttpRequest,
    payload: web::Payload,
    replica: web::Path<String>,
    consoles: web::Data<Consoles>,
    slots: web::Data<CommandSlots>,
) -> HttpResponse {
    let mut bounded: Payload = Payload::Stream { payload: Box::pin(bounded_payload(payload.into_inner())) };
    let payload = web::Payload::from_request(&request, &mut bounded).await;
    let (answer, mut session, messages) = match payload.and_then(|own| actix_ws::handle(&request, own)) {
        Ok(upgraded) => upgraded,
        Err(error) => return problem(Code::InvalidParameter, format!("this is a WebSocket: {error}")),
    };
    let messages = messages.aggregate_continuations().max_continuation_size(MAX_FRAME_BYTES + 1);
    let query = request.query_string().to_owned();
    let slot = slots.0.clone().try_acquire_owned().ok();
    actix::spawn(async move {
        let ended = match begin(&query, &replica, &consoles, slot.as_ref()).await {
            Ok((command, tty)) => converse(command, tty, session.clone(), messages).await,
            Err(error) => Some(Control::Error(error.to_string())),
        };
        // A client that has gone is not told.
        if let Some(ended) = ended {
            let _ = session.text(serde_json::to_string(&ended).unwrap_or_default()).await;
        }
        let _ = session.close(None).await;
        drop(slot);
    });
    answer
}

/// Why no command is begun.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error("{MAX_COMMANDS} commands run on this host already; try again later")]
    TooMany,
    #[error(transparent)]
    Replica(#[from] InvalidId),
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    #[error(transparent)]
    Hidden(#[from] Hidden),
    #[error("{}", .0.reason())]
    Engine(EngineError),
    #[error("the engine has not begun the command within {} s", START_LIMIT.as_secs())]
    TooSlow,
}

/// The command, and whether it has a terminal.
async fn begin(
    query: &str,
    replica: &str,
    consoles: &Consoles,
    slot: Option<&OwnedSemaphorePermit>,
) -> Result<(Command, bool), NotBegun> {
    if slot.is_none() {
        return Err(NotBegun::TooMany);
    }
    let replica = ReplicaId::parse(replica)?;
    let order = ExecOrder::read(pairs(query)?).map_err(InvalidQuery::from)?;
    let container = consoles.find_running(&replica).await?;
    let command = tokio::time::timeout(START_LIMIT, consoles.console().exec(&container.id, &order)).await;
    let command = command.map_err(|_| NotBegun::TooSlow)?.map_err(NotBegun::Engine)?;
    Ok((command, order.tty))
}

/// Carries what is written both ways until the command ends or the other side goes; `None`: it has gone, and
/// the command was ended.
async fn converse(
    command: Command,
    tty: bool,
    mut session: Session,
    messages: AggregatedMessageStream,
) -> Option<Control> {
    let Command { mut output, input, control } = command;
    let mut input = Input { write: input, tty, in_line: false };
    let mut pinging = session.clone();
    let down = async {
        while let Some(part) = output.next().await {
            let part = match part {
                Ok(part) => part,
                // An engine also breaks off when the command ends before it has read its input.
                Err(error) => return Some(ended(control.as_ref(), error.reason()).await),
            };
            let stream = match part.stream {
                Output::Stdout => STDOUT,
                Output::Stderr => STDERR,
            };
            let mut bytes = part.bytes;
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(MAX_FRAME_BYTES - 1));
                if session.binary(framed(stream, &piece)).await.is_err() {
                    return None;
                }
            }
        }
        Some(ended(control.as_ref(), "the command's output has ended, and it has not".to_owned()).await)
    };
    let pings = async {
        while pinging.ping(b"").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(PING_MS)).await;
        }
    };
    let up = async {
        if listen(messages, &mut input, control.as_ref()).await == InputEnd::Broken {
            tokio::time::sleep(Duration::from_millis(DRAIN_MS)).await;
        }
    };
    let ended = tokio::select! {
        ended = down => ended,
        () = up => None,
        () = pings => None,
    };
    if ended.is_none()
        && let Err(error) = control.end().await
    {
        log::warn!(why = error.reason(); "a command whose reader has gone could not be ended");
    }
    ended
}

/// What a command reads.
struct Input<W> {
    write: W,
    tty: bool,
    /// Whether the last line has no end yet.
    in_line: bool,
}

impl<W: AsyncWrite + Unpin> Input<W> {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.in_line = bytes.last().is_some_and(|last| *last != b'\n');
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// Ends it. An engine closes the output of a terminal along with its input, so the input of a terminal
    /// stays open: it ends by its key, which within a line only hands over that line.
    async fn end(&mut self) -> std::io::Result<()> {
        if !self.tty {
            return self.write.shutdown().await;
        }
        let keys: &[u8] = if self.in_line { &[END_KEY, END_KEY] } else { &[END_KEY] };
        self.write.write_all(keys).await?;
        self.write.flush().await
    }
}

fn framed(stream: u8, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(bytes.len() + 1);
    frame.put_u8(stream);
    frame.extend_from_slice(bytes);
    frame.freeze()
}

/// Why nothing more comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    /// The other side has closed the connection: it does not read either.
    HungUp,
    /// The input cannot be read, or was silent for too long; the other side may still read.
    Broken,
}

/// Hands on what comes in, for as long as it can be read.
async fn listen(
    mut messages: AggregatedMessageStream,
    input: &mut Input<impl AsyncWrite + Unpin>,
    control: &dyn CommandControl,
) -> InputEnd {
    let limit = Duration::from_millis(SILENCE_MS);
    loop {
        let message = match tokio::time::timeout(limit, messages.recv()).await {
            Ok(Some(Ok(message))) => message,
            Ok(None) => return InputEnd::HungUp,
            Ok(Some(Err(_))) | Err(_) => return InputEnd::Broken,
        };
        match message {
            // A command that reads no more is no reason to stop listening to it.
            AggregatedMessage::Binary(bytes) if bytes.as_ref() == [STDIN] => drop(input.end().await),
            AggregatedMessage::Binary(bytes) if bytes.first() == Some(&STDIN) => {
                drop(input.write(&bytes[1..]).await);
            }
            AggregatedMessage::Text(text) => match serde_json::from_str(&text) {
                Ok(Control::Resize { rows, cols }) => drop(control.resize(rows, cols).await),
                Ok(Control::ExitCode(_) | Control::Error(_)) | Err(_) => return InputEnd::Broken,
            },
            AggregatedMessage::Ping(_) | AggregatedMessage::Pong(_) => {}
            AggregatedMessage::Binary(_) => return InputEnd::Broken,
            AggregatedMessage::Close(_) => return InputEnd::HungUp,
        }
    }
}

/// How the command ended; the engine may know a moment after the output's end. `unknown`: what to say if it
/// does not.
async fn ended(control: &dyn CommandControl, unknown: String) -> Control {
    for _ in 0..CODE_TRIES.0 {
        match control.exit_code().await {
            Ok(Some(code)) => return Control::ExitCode(code),
            Ok(None) => tokio::time::sleep(CODE_TRIES.1).await,
            Err(error) => return Control::Error(error.reason()),
        }
    }
    Control::Error(unknown)
}
