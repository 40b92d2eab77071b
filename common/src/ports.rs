//! Whether anything listens at a host's published ports, seen from here.

use std::{net::SocketAddrV4, time::Duration};

use futures_util::future::join_all;
use tokio::net::TcpStream;

use crate::{
    open_files::is_shortage,
    protocol::{MAX_PROBED_PORTS, PortsOutcome},
};

/// Connects to each of `addresses`, at most [`MAX_PROBED_PORTS`] of them, for at
/// most `limit`, and says whether any takes a connection. Nothing is sent.
pub async fn probe_ports(addresses: &[SocketAddrV4], limit: Duration) -> PortsOutcome {
    let one = |address: SocketAddrV4| async move {
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => PortsOutcome::Open,
            Ok(Err(error)) if is_shortage(&error) => {
                PortsOutcome::NotProbed { why: format!("no socket is left: {error}") }
            }
            Ok(Err(_)) | Err(_) => PortsOutcome::Closed,
        }
    };
    let found = join_all(addresses.iter().take(MAX_PROBED_PORTS).copied().map(one)).await;
    // One that is open says that something runs; one that was not tried leaves it unknown.
    let not_probed = found.iter().find(|outcome| matches!(outcome, PortsOutcome::NotProbed { .. }));
    match (found.contains(&PortsOutcome::Open), not_probed, found.is_empty()) {
        (true, _, _) => PortsOutcome::Open,
        (false, Some(not_probed), _) => not_probed.clone(),
        (false, None, true) => PortsOutcome::NotProbed { why: "there are no ports to try".to_owned() },
        (false, None, false) => PortsOutcome::Closed,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn one_open_port_is_enough_and_none_is_no_answer() {
        let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = |listener: &TcpListener| match listener.local_addr().unwrap() {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(other) => panic!("{other}"),
        };
        let (open_at, closed_at) = (address(&open), address(&closed));
        drop(closed);
        let limit = Duration::from_secs(5);
        assert_eq!(probe_ports(&[closed_at, open_at], limit).await, PortsOutcome::Open);
        assert_eq!(probe_ports(&[closed_at], limit).await, PortsOutcome::Closed);
        assert!(matches!(probe_ports(&[], limit).await, PortsOutcome::NotProbed { .. }));
    }
}
