//! Connections that a server has taken.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
};

use rustix::net::{Shutdown, listen, shutdown, sockopt::set_tcp_user_timeout};

/// How many connections wait in the system's queue until they are taken.
const BACKLOG: i32 = 1_024;

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
