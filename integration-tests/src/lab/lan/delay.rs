//! A proxy that hands on, each way, what it reads a while later.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// How many pieces may be on their way at once, each way of a connection.
const PIECES: usize = 1_024;
/// The longest piece, in bytes.
const PIECE: usize = 16_384;

/// A running proxy. Ends with its connections when it is dropped.
#[derive(Debug)]
pub struct DelayProxy {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl DelayProxy {
    /// Listens on any free port of `here` for what goes to `target`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(here: Ipv4Addr, target: SocketAddr, delay: Duration) -> Result<Self, String> {
        let listener = TcpListener::bind((here, 0))
            .await
            .map_err(|error| format!("a proxy cannot listen on {here}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let task = tokio::spawn(async move {
            // The connections end with the set, and the set with this task.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connect(client, target, delay));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(client: TcpStream, target: SocketAddr, delay: Duration) {
    // Whoever cannot be reached is told of by the end of the connection.
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(carry(from_client, to_server, delay), carry(from_server, to_client, delay));
}

/// Carries one way until its end, which is delayed as well.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let length = from.read(&mut piece).await.unwrap_or(0);
            piece.truncate(length);
            if sender.send((Instant::now() + delay, piece)).await.is_err() || length == 0 {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = pieces.recv().await {
            sleep_until(at).await;
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn what_goes_through_comes_whole_in_order_and_not_before_its_time() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let delay = Duration::from_millis(60);
        let proxy =
            DelayProxy::start(Ipv4Addr::LOCALHOST, server.local_addr().unwrap(), delay).await.unwrap();
        let start = Instant::now();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut accepted, _) = server.accept().await.unwrap();
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let send = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut back).await.unwrap();
        };
        let echo = async {
            accepted.read_to_end(&mut there).await.unwrap();
            accepted.write_all(&there).await.unwrap();
            accepted.shutdown().await.unwrap();
        };
        tokio::join!(send, echo);
        assert!(back == sent, "it came back as it was");
        assert!(start.elapsed() >= delay * 2, "both ways take their time: {:?}", start.elapsed());
    }
}
