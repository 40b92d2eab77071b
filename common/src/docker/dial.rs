//! HTTP to an engine over a stream that bollard cannot open by itself, or opens in another way than the
//! docker command.
//!
//! bollard's feature `ssl` believes every authority of the system beside `ca.pem`, needs all three files, and
//! keeps silent about a key that cannot be read. Its feature `ssh` brings a package that keeps a second ssh
//! process for each connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker, errors::Error};
use futures_util::{FutureExt as _, future::BoxFuture};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    ssh::SshTarget,
    tls::{InvalidTls, TlsFiles},
};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long an idle connection through ssh is kept for the next call: making one takes a login.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Opens connections to one engine.
#[derive(Clone)]
pub(super) struct Dial(Arc<How>);

enum How {
    Tls { address: String, name: String, files: TlsFiles },
    Ssh(SshTarget),
}

impl Dial {
    /// To `host`, over TLS. The files are read here for what is wrong with them, and again at each
    /// connection: a certificate that was renewed is used from then on.
    pub(super) fn tls(host: &str, port: u16, files: &TlsFiles) -> Result<Self, InvalidTls> {
        files.read()?;
        let name = host.trim_matches(['[', ']']).to_owned();
        Ok(Self(Arc::new(How::Tls { address: format!("{host}:{port}"), name, files: files.clone() })))
    }

    /// Through the system's ssh.
    pub(super) fn ssh(target: SshTarget) -> Self {
        Self(Arc::new(How::Ssh(target)))
    }

    /// The client that dials so.
    pub(super) fn client(self, limit_s: u64) -> Result<Docker, Error> {
        let kept = match *self.0 {
            How::Tls { .. } => 0,
            How::Ssh(_) => usize::MAX,
        };
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(kept)
            .build(self);
        let transport = move |request: BollardRequest| {
            let answer = http.request(request);
            async move { answer.await.map_err(|error| Error::from(io::Error::other(super::reason(&error)))) }
        };
        // The name only fills the Host header, as the docker command's does.
        Docker::connect_with_custom_transport(transport, Some("http://docker"), limit_s, API_DEFAULT_VERSION)
    }

    async fn connect(self) -> io::Result<Dialled> {
        match &*self.0 {
            How::Ssh(target) => Ok(Dialled(Box::new(target.dial()?))),
            How::Tls { address, name, files } => {
                let config = files.read().map_err(io::Error::other)?;
                let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Dialled(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)))
            }
        }
    }
}

impl tower_service::Service<hyper::Uri> for Dial {
    type Response = TokioIo<Dialled>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let dialled = tokio::time::timeout(CONNECT_LIMIT, self.clone().connect());
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} s", CONNECT_LIMIT.as_secs()),
            )
        };
        async move { dialled.await.map_err(|_| late())?.map(TokioIo::new) }.boxed()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub(super) struct Dialled(Box<dyn Stream>);

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
