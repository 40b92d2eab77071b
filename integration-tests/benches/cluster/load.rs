//! Load on one address over a number of connections kept open, from a thread of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

/// The longest head of an answer that is taken.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// Makes the bytes of the request with this number; `None`: there are no more.
pub type Requests = Arc<dyn Fn(u64) -> Option<Vec<u8>> + Send + Sync>;

/// What came of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers with a status below 400.
    pub answers: usize,
    /// Answers with another status.
    pub refused: usize,
    /// Of these, answers that say to come back later: 503 with a `Retry-After`.
    pub asked_to_wait: usize,
    /// Connections that were closed instead of an answer.
    pub closed: usize,
    /// Bytes of all bodies.
    pub body_bytes: u64,
    /// From request to the last byte of the answer, sorted.
    latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Answers per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// Megabytes (10^6) of bodies per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn megabytes_per_second(&self) -> f64 {
        self.body_bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    /// The latency that `per_cent` of the answers do not exceed, in milliseconds.
    pub fn percentile_ms(&self, per_cent: usize) -> f64 {
        let rank = (self.latencies.len() * per_cent).div_ceil(100).max(1) - 1;
        self.latencies.get(rank).map_or(0.0, |took| took.as_secs_f64() * 1_000.0)
    }
}

/// Sends requests over `connections`, each waiting for its answer before it asks
/// again, until `span` is over or there are no more requests.
///
/// # Panics
/// If the other side takes no connection or answers with something else than HTTP.
pub async fn load(address: SocketAddr, connections: u64, span: Duration, requests: Requests) -> Outcome {
    let generator = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let start = Instant::now();
            let each = (0..connections)
                .map(|first| connection(address, start + span, first, connections, &requests));
            let mut sum = Outcome::default();
            for part in join_all(each).await {
                sum.answers += part.answers;
                sum.refused += part.refused;
                sum.closed += part.closed;
                sum.asked_to_wait += part.asked_to_wait;
                sum.body_bytes += part.body_bytes;
                sum.latencies.extend(part.latencies);
            }
            sum.elapsed = start.elapsed();
            sum.latencies.sort();
            sum
        })
    });
    generator.await.expect("the load generator ends")
}

async fn connection(
    address: SocketAddr,
    end: Instant,
    first: u64,
    step: u64,
    requests: &Requests,
) -> Outcome {
    let mut stream = connect(address).await;
    let mut buffer = vec![0; READ_BYTES];
    let mut outcome = Outcome::default();
    let mut number = first;
    while Instant::now() < end
        && let Some(request) = requests(number)
    {
        number += step;
        let start = Instant::now();
        let sent = stream.write_all(&request).await;
        let answered = if sent.is_ok() { answer(&mut stream, &mut buffer).await } else { None };
        let Some((status, wait, body_bytes)) = answered else {
            // Who refuses a request without reading it closes the connection.
            outcome.closed += 1;
            stream = connect(address).await;
            continue;
        };
        outcome.latencies.push(start.elapsed());
        if status < 400 {
            outcome.answers += 1;
        } else {
            outcome.refused += 1;
            outcome.asked_to_wait += usize::from(status == 503 && wait);
        }
        outcome.body_bytes += body_bytes;
    }
    outcome
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// Reads one answer: its status, whether it has a `Retry-After`, and the length of its body; `None`: the
/// connection was closed before the end.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<(u16, bool, u64)> {
    let mut filled = 0;
    let head_end = loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        filled += read;
        if let Some(at) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(filled < MAX_HEAD_BYTES, "the answer's head does not end");
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<u64>().ok());
    let length = length.expect("an answer of known length");
    let mut left = length - u64::try_from(filled - head_end).expect("a length");
    while left > 0 {
        let read = stream.read(buffer).await.ok().filter(|read| *read > 0)?;
        left -= u64::try_from(read).expect("a length");
    }
    Some((status, head.contains("\r\nretry-after:"), length))
}

/// A `GET`.
pub fn get(path: &str) -> Requests {
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes();
    Arc::new(move |_| Some(request.clone()))
}

/// `POST`s of JSON, each made from its number; `count` of them.
pub fn post(
    path: &'static str,
    count: u64,
    body: impl Fn(u64) -> String + Send + Sync + 'static,
) -> Requests {
    Arc::new(move |number| {
        let body = (number < count).then(|| body(number))?;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: \
             {length}\r\n\r\n"
        );
        Some((head + &body).into_bytes())
    })
}
