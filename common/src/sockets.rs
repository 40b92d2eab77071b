//! Sockets of servers, and the connections that they have taken.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    path::Path,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, listen, shutdown,
        socket_with, sockopt::set_tcp_user_timeout,
    },
};

/// How many connections wait in the system's queue until they are taken.
pub const BACKLOG: i32 = 1_024;

/// A client that takes nothing of what it is sent for this long is cut off, in milliseconds.
const UNREAD_LIMIT_MS: u32 = 60_000;

/// Listens at `address`; port 0 takes any free one.
///
/// # Errors
/// The system's own.
pub fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // Once more, for the length of the queue.
    listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether a program takes connections at the Unix socket `path`. A program that is stopped, whose queue is
/// full, counts: the queue is not waited for.
pub fn is_served(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        connect(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?, &address)
    });
    !matches!(connected, Err(Errno::CONNREFUSED | Errno::NOENT))
}

/// Has the system cut the connection off when its client takes nothing for a minute: an answer that is not
/// read must not be kept.
pub fn cut_off_if_unread(connection: &impl AsFd) {
    if let Err(error) = set_tcp_user_timeout(connection, UNREAD_LIMIT_MS) {
        log::debug!(error:%; "a connection has no limit for unread answers");
    }
}

/// Ends a connection that must not go on. Whoever serves it reads its end.
pub fn hang_up(connection: &impl AsFd) {
    // One that has ended already needs no ending.
    _ = shutdown(connection, Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_unix_socket_is_served_while_its_program_lives_also_if_that_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(!is_served(&path), "there is none");
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, 1).unwrap();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let flags = SocketFlags::NONBLOCK;
                let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
                (connect(&client, &SocketAddrUnix::new(&path).unwrap()), client)
            })
            .collect();
        assert!(clients.iter().any(|(connected, _)| *connected == Err(Errno::AGAIN)), "the queue is full");
        assert!(is_served(&path));
        drop(listener);
        assert!(!is_served(&path), "it has left its file behind");
    }
}
