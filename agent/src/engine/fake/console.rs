//! What a fake engine shows of its containers: what tests have had them write.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::{
    exec::ExecOrder,
    logs::{LogQuery, LogTime, Output},
    registry::{Credentials, LoginCheck, RegistryHost},
};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    sync::{mpsc, watch},
};

use super::{
    super::{EngineError, EngineFuture},
    FakeEngine, FakeHost,
};
use crate::console::{Command, CommandControl, Console, LogPiece, Sample, Written};

/// What the containers wrote, by their ids.
#[derive(Debug, Default)]
pub(super) struct Shown {
    logs: BTreeMap<String, Vec<LogPiece>>,
    /// Why logs cannot be read.
    refusal: Option<String>,
    /// How often that was said.
    refused: watch::Sender<u32>,
    /// Says that something was written.
    grown: watch::Sender<()>,
    /// How often each was measured.
    samples: BTreeMap<String, u64>,
}

impl FakeHost {
    /// Has the container of that name write `text`, a line, at `time`.
    pub fn write_log(&self, name: &str, stream: Output, time: LogTime, text: &str) {
        self.write_log_part(name, stream, time, &format!("{text}\n"));
    }

    /// Has logs refused from now on, as with a logging driver that cannot be read; `None`: no more.
    pub fn refuse_logs(&self, why: Option<&str>) {
        self.state().written.refusal = why.map(str::to_owned);
    }

    /// Waits until logs were refused so many times.
    pub async fn refused_logs(&self, times: u32) {
        let mut refused = self.state().written.refused.subscribe();
        // The sender lives as long as the host.
        let _ = refused.wait_for(|refused| *refused >= times).await;
    }

    /// As [`FakeHost::write_log`], of one entry, which may be a part of a line.
    pub fn write_log_part(&self, name: &str, stream: Output, time: LogTime, text: &str) {
        let mut state = self.state();
        let Some(id) = state.containers.get(name).map(|container| container.id.clone()) else { return };
        let piece = LogPiece { stream, bytes: format!("{time} {text}").into() };
        state.written.logs.entry(id).or_default().push(piece);
        state.written.grown.send_replace(());
    }

    fn written(&self, id: &str, from: usize) -> Option<LogPiece> {
        self.state().written.logs.get(id).and_then(|pieces| pieces.get(from).cloned())
    }
}

impl Console for FakeEngine {
    fn read_log(&self, id: &str, query: &LogQuery) -> LocalBoxStream<'static, Result<LogPiece, EngineError>> {
        let (host, id, follow) = (self.host.clone(), id.to_owned(), query.follow);
        let (grown, all) = {
            let state = host.state();
            if state.away {
                return stream::iter([Err(EngineError::Unreachable("the fake engine is away".to_owned()))])
                    .boxed_local();
            }
            if let Some(why) = &state.written.refusal {
                state.written.refused.send_modify(|refused| *refused += 1);
                return stream::iter([Err(EngineError::Refused(why.clone()))]).boxed_local();
            }
            (state.written.grown.subscribe(), state.written.logs.get(&id).map_or(0, Vec::len))
        };
        let first = query.tail.map_or(0, |lines| all.saturating_sub(lines as usize));
        stream::unfold((first, grown), move |(next, mut grown)| {
            let (host, id) = (host.clone(), id.clone());
            async move {
                loop {
                    grown.borrow_and_update();
                    if let Some(piece) = host.written(&id, next) {
                        return Some((Ok(piece), (next + 1, grown)));
                    }
                    if !follow || host.state().by_id(&id).is_err() {
                        return None;
                    }
                    grown.changed().await.ok()?;
                }
            }
        })
        .boxed_local()
    }

    fn sample<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Sample> {
        self.operation("sample", self.latency.look, move |state| {
            state.by_id(id)?;
            // Every second sample is half a second of one processor of two later.
            let samples = state.written.samples.entry(id.to_owned()).or_default();
            *samples += 1;
            Ok(Sample {
                cpu_ns: *samples * 500_000_000,
                host_cpu_ns: *samples * 1_000_000_000,
                cpus: 2,
                memory_bytes: 1 << 20,
                memory_limit_bytes: 4 << 30,
                network_rx_bytes: 1_000,
                network_tx_bytes: 2_000,
                block_read_bytes: 3_000,
                block_write_bytes: 4_000,
                pids: 3,
            })
        })
    }

    /// The password `wrong` is refused.
    fn check_login<'a>(
        &'a self,
        _: &'a RegistryHost,
        credentials: &'a Credentials,
    ) -> EngineFuture<'a, LoginCheck> {
        self.operation("check_login", self.latency.look, move |_| {
            Ok(match credentials.password.as_str() {
                "wrong" => LoginCheck::Refused { reason: "unauthorized: authentication required".to_owned() },
                _ => LoginCheck::Accepted,
            })
        })
    }

    /// `cat` gives back its input; with a terminal up to the key that ends it, and as with an engine the
    /// output closes along with the input. `env` writes the variables that it is given. `exit N` ends with
    /// that code, `reset N` too, but its output breaks as that of an engine does whose command has not read
    /// its input; anything else writes itself.
    fn exec<'a>(&'a self, id: &'a str, order: &'a ExecOrder) -> EngineFuture<'a, Command> {
        self.operation("exec", self.latency.look, move |state| {
            state.by_id(id)?;
            if order.detach {
                return Ok(Command::detached());
            }
            let (input, read) = tokio::io::duplex(1_024);
            let (sender, receiver) = mpsc::channel(4);
            let code = Rc::new(Cell::new(None));
            let (cmd, tty, ended, say) = (order.cmd.clone(), order.tty, code.clone(), sender.clone());
            let env = order.env.join("\n");
            actix::spawn(async move {
                let words: Vec<&str> = cmd.iter().map(String::as_str).collect();
                let code = match words[..] {
                    ["cat"] => match cat(read, &say, tty).await {
                        Some(code) => code,
                        None => return drop(say.send(OUTPUT_END).await),
                    },
                    ["env"] => {
                        let written = Written { stream: Output::Stdout, bytes: env.into() };
                        let _ = say.send(written).await;
                        0
                    }
                    ["exit" | "reset", code] => code.parse().unwrap_or(1),
                    _ => {
                        let bytes = format!("{}\n", words.join(" ")).into();
                        // It is no error if no receiver is left.
                        let _ = say.send(Written { stream: Output::Stderr, bytes }).await;
                        0
                    }
                };
                ended.set(Some(code));
                let _ = say.send(OUTPUT_END).await;
            });
            let resets = order.cmd.first().is_some_and(|word| word == "reset");
            let output = stream::unfold(receiver, move |mut receiver| async move {
                let written = receiver.recv().await?;
                match (written == OUTPUT_END, resets) {
                    (false, _) => Some((Ok(written), receiver)),
                    (true, false) => None,
                    (true, true) => {
                        Some((Err(EngineError::Unreachable("connection reset by peer".to_owned())), receiver))
                    }
                }
            });
            Ok(Command {
                output: output.boxed_local(),
                input: Box::pin(input),
                control: Box::new(FakeCommand { code, sender }),
            })
        })
    }
}

/// The last that a command's output brings.
const OUTPUT_END: Written = Written { stream: Output::Stdout, bytes: Bytes::new() };
/// The key that ends a terminal's input.
const END_KEY: u8 = 4;

/// Gives back what it reads, up to its end, and ends with code 0. `None`: its output closed before that.
async fn cat(mut read: DuplexStream, say: &mpsc::Sender<Written>, tty: bool) -> Option<i64> {
    let mut buffer = vec![0; 1_024];
    loop {
        let length = read.read(&mut buffer).await.unwrap_or(0);
        let mut given = &buffer[..length];
        let is_end = if tty { given.contains(&END_KEY) } else { length == 0 };
        if length == 0 && !is_end {
            return None;
        }
        if tty {
            given = given.split(|byte| *byte == END_KEY).next().unwrap_or_default();
        }
        let bytes = Bytes::copy_from_slice(given);
        if !bytes.is_empty() && say.send(Written { stream: Output::Stdout, bytes }).await.is_err() {
            return None;
        }
        if is_end {
            return Some(0);
        }
    }
}

/// A command in a fake container; it writes its terminal's size whenever that changes.
struct FakeCommand {
    code: Rc<Cell<Option<i64>>>,
    sender: mpsc::Sender<Written>,
}

impl CommandControl for FakeCommand {
    fn resize(&self, rows: u16, cols: u16) -> EngineFuture<'_, ()> {
        async move {
            let bytes = format!("{rows}x{cols}\n").into();
            let _ = self.sender.send(Written { stream: Output::Stdout, bytes }).await;
            Ok(())
        }
        .boxed_local()
    }

    fn exit_code(&self) -> EngineFuture<'_, Option<i64>> {
        async move { Ok(self.code.get()) }.boxed_local()
    }

    fn end(&self) -> EngineFuture<'_, ()> {
        async { Ok(()) }.boxed_local()
    }
}
