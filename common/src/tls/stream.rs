//! Connections that a server has taken, with TLS or without: the first byte tells, so one port serves both.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Peer, PeerProof, Tls, verify};
use crate::clock::{Now, WallMs};

/// How long a client may take until it is known who it is.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// The first byte of every TLS connection (RFC 8446, section 5.1): a record of the handshake.
const TLS_RECORD: u8 = 22;

/// The key that a connection's other end has shown that it holds: the SHA-256 of its public form, 64
/// hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKey(pub String);

/// The user that the process at the other end of a socket of this machine ran as when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerUid(pub u32);

/// A connection, and who is at its other end.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    peer: Peer,
    key: Option<PeerKey>,
    /// When the certificate of its other end ends to count; `None`: it has shown none.
    until: Option<WallMs>,
    proof: Option<PeerProof>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Local(UnixStream),
}

/// Finds out who the client is, within a limit. Without `tls` every client is [`Peer::Plain`].
///
/// # Errors
/// The connection has ended, the client was too slow, or shows a certificate that is not taken.
pub async fn accept(connection: TcpStream, tls: Option<&Tls>) -> io::Result<Stream> {
    let plain = |connection| Stream {
        io: Io::Plain(connection),
        peer: Peer::Plain,
        key: None,
        until: None,
        proof: None,
    };
    let Some(tls) = tls else { return Ok(plain(connection)) };
    let hello = async {
        let mut first = [0];
        if connection.peek(&mut first).await? == 0 || first != [TLS_RECORD] {
            return Ok(plain(connection));
        }
        let changes = tls.changes();
        let stream = TlsAcceptor::from(tls.server()).accept(connection).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let shown = chain.and_then(<[_]>::first);
        let peer = match shown.map(verify::identity) {
            None => Peer::Anonymous,
            Some(Some(member)) => Peer::Member(member),
            Some(None) => return Err(io::Error::other("its certificate names no member of a cluster")),
        };
        let key = shown.and_then(verify::key).map(PeerKey);
        let until = shown.and_then(verify::validity).map(|(_, ends)| ends);
        let proof = chain.map(|chain| PeerProof::new(chain, changes));
        Ok(Stream { io: Io::Tls(Box::new(stream)), peer, key, until, proof })
    };
    tokio::time::timeout(HANDSHAKE_LIMIT, hello).await?
}

impl Stream {
    /// Who is at its other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The key of its other end; `None`: it has shown none.
    #[must_use]
    pub const fn key(&self) -> Option<&PeerKey> {
        self.key.as_ref()
    }

    /// What its other end has shown; `None`: no certificate.
    #[must_use]
    pub const fn proof(&self) -> Option<&PeerProof> {
        self.proof.as_ref()
    }

    /// The user at the other end of a socket of this machine; `None`: it is no such socket, or the system
    /// does not say.
    #[must_use]
    pub fn uid(&self) -> Option<PeerUid> {
        match &self.io {
            Io::Local(connection) => connection.peer_cred().ok().map(|peer| PeerUid(peer.uid())),
            Io::Plain(_) | Io::Tls(_) => None,
        }
    }

    /// A connection by a socket of this machine.
    #[must_use]
    pub fn local(connection: UnixStream) -> Self {
        Self { io: Io::Local(connection), peer: Peer::Local, key: None, until: None, proof: None }
    }

    /// Nothing goes over a connection any more whose other end's certificate has expired.
    fn check(&self) -> io::Result<()> {
        if self.until.is_some_and(|until| until <= Now::read().wall) {
            let why = "the certificate of the other end has expired since the connection was made";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(())
    }

    /// The TCP connection under it; `None`: it is one of this machine.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.io {
            Io::Plain(connection) => Some(connection),
            Io::Tls(stream) => Some(stream.get_ref().0),
            Io::Local(_) => None,
        }
    }

    /// Where its other end is; `None`: it has gone, or is on this machine.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Local(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Local(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
            Io::Local(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Local(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
