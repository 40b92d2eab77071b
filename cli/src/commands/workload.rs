//! `shef workload`: a small HTTP server that can be told to fail in the ways
//! containers do. It is what the demo and the tests run, so it is kept plain:
//! one thread, a few connections, answers that say who answered.

use std::{future::pending, process::ExitCode, rc::Rc, sync::Arc, time::Duration};

use shef_common::clock::{MonoMs, Now};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::LocalSet,
};

use crate::{Failure, signals::StopSignals};

/// Connections that are served at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// The most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// How long a client may take for its request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `shef workload`; each is also an environment variable, for images.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// The port, on every address
    #[arg(long, env = "WORKLOAD_PORT", default_value_t = 8080)]
    port: u16,
    /// End by itself after so long
    #[arg(long, value_name = "SECONDS", env = "WORKLOAD_EXIT_AFTER", value_parser = seconds)]
    exit_after: Option<Duration>,
    /// The exit code of --exit-after
    #[arg(long, value_name = "N", env = "WORKLOAD_EXIT_CODE", default_value_t = 0)]
    exit_code: u8,
    /// Listen only after so long
    #[arg(long, value_name = "SECONDS", env = "WORKLOAD_START_DELAY", value_parser = seconds)]
    start_delay: Option<Duration>,
    /// Answer GET /health with 503 after so long
    #[arg(long, value_name = "SECONDS", env = "WORKLOAD_UNHEALTHY_AFTER", value_parser = seconds)]
    unhealthy_after: Option<Duration>,
    /// Go on after SIGTERM and SIGINT
    #[arg(long, env = "WORKLOAD_IGNORE_SIGTERM", value_parser = clap::builder::BoolishValueParser::new(),
          num_args = 0, default_missing_value = "true", default_value_t = false)]
    ignore_sigterm: bool,
    /// After SIGTERM or SIGINT go on serving for this time, as a server does until its requests end
    #[arg(long, value_name = "SECONDS", env = "WORKLOAD_LINGER", value_parser = seconds)]
    linger: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
enum InvalidSeconds {
    #[error("must be a number of seconds, but is {0:?}")]
    NoNumber(String),
    #[error("must be 0 to 31536000 seconds, but is {0}")]
    OutOfBounds(String),
}

/// Seconds, fractions allowed, at most a year.
fn seconds(text: &str) -> Result<Duration, InvalidSeconds> {
    let number: f64 = text.parse().map_err(|_| InvalidSeconds::NoNumber(text.to_owned()))?;
    if !(0.0..=31_536_000.0).contains(&number) {
        return Err(InvalidSeconds::OutOfBounds(text.to_owned()));
    }
    Ok(Duration::from_secs_f64(number))
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::because("cannot start", &error))?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(self) -> Result<ExitCode, Failure> {
        let started = Now::read().mono;
        // The first process of a container has no default action for signals: it must ask for them.
        let mut signals = StopSignals::listen()?;
        let args = Rc::new(self);
        tokio::select! {
            failed = args.clone().listen(started) => Err(failed),
            () = after(args.exit_after) => Ok(ExitCode::from(args.exit_code)),
            () = stop(&mut signals, &args) => Ok(ExitCode::SUCCESS),
        }
    }

    /// Serves for ever, or tells why it cannot.
    async fn listen(self: Rc<Self>, started: MonoMs) -> Failure {
        if let Some(delay) = self.start_delay {
            tokio::time::sleep(delay).await;
        }
        let listener = match TcpListener::bind(("0.0.0.0", self.port)).await {
            Ok(listener) => listener,
            Err(error) => {
                return Failure::because(
                    format!("cannot listen on port {}: choose another by --port", self.port),
                    &error,
                );
            }
        };
        if let Ok(address) = listener.local_addr() {
            // The port may have been 0: this line tells the caller the real one.
            println!("listening on {address}");
        }
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else {
                return Failure::new("the server has ended");
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let args = self.clone();
                    tokio::task::spawn_local(async move {
                        _ = tokio::time::timeout(HEAD_LIMIT, args.answer(stream, started)).await;
                        drop(place);
                    });
                }
                // A client that went away again, or no file descriptor left: neither ends the server.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream, started: MonoMs) -> std::io::Result<()> {
        let mut head = Vec::with_capacity(512);
        let mut chunk = [0; 512];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut chunk).await?;
            if read == 0 || head.len() + read > MAX_HEAD_BYTES {
                return Ok(());
            }
            head.extend_from_slice(&chunk[..read]);
        }
        let up = Duration::from((Now::read().mono) - started);
        let (status, body) = self.route(&String::from_utf8_lossy(&head), up);
        let body = format!("{body}\n");
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: \
             close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    fn route(&self, head: &str, up: Duration) -> (&'static str, serde_json::Value) {
        let mut words = head.split([' ', '\r', '\n']);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let healthy = self.unhealthy_after.is_none_or(|limit| up < limit);
        if method != "GET" {
            return ("405 Method Not Allowed", serde_json::json!({ "error": "only GET is served" }));
        }
        match target.split('?').next().unwrap_or_default() {
            "/" => {
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                let version = env!("CARGO_PKG_VERSION");
                let body = serde_json::json!({
                    "hostname": host, "version": version, "uptime_s": up.as_secs(), "healthy": healthy,
                    "pid": std::process::id(),
                });
                ("200 OK", body)
            }
            "/health" if healthy => ("200 OK", serde_json::json!({ "healthy": true })),
            "/health" => ("503 Service Unavailable", serde_json::json!({ "healthy": false })),
            _ => ("404 Not Found", serde_json::json!({ "error": "there is / and /health" })),
        }
    }
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => pending().await,
    }
}

async fn stop(signals: &mut StopSignals, args: &Args) {
    loop {
        signals.next().await;
        if !args.ignore_sigterm {
            return tokio::time::sleep(args.linger.unwrap_or_default()).await;
        }
    }
}
