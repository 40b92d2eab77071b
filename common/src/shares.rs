//! Fairness by client: of what a server has a bound of, no client has all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// How many of something each client has.
#[derive(Debug)]
pub struct Shares {
    /// How many one client may have.
    pub most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One of a client's; given back when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Of a bound of `all`, each client may have three quarters. A bound below four is not shared: one client
    /// may use all of it.
    #[must_use]
    pub fn of(all: usize) -> Arc<Self> {
        Arc::new(Self { most: all - all / 4, taken: Mutex::default() })
    }

    /// Takes one for the client at `address`, unless it has its share already.
    #[must_use]
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let client = client(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.entry(client).or_default();
        if *own >= self.most {
            return None;
        }
        *own += 1;
        Some(Share { shares: self.clone(), client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or the network of an IPv6 address, of which a host has as many
/// addresses as it likes.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_client_has_all_and_each_gets_back_what_it_returns() {
        let shares = Shares::of(8);
        let mut first: Vec<_> = (0..6).map(|_| shares.take(ip("10.0.0.1")).unwrap()).collect();
        assert!(shares.take(ip("10.0.0.1")).is_none() && shares.take(ip("::ffff:10.0.0.1")).is_none());
        let other = shares.take(ip("10.0.0.2"));
        assert!(other.is_some());
        first.pop();
        assert!(shares.take(ip("10.0.0.1")).is_some());
        drop((first, other));
        assert!(shares.taken.lock().unwrap().is_empty(), "nothing is kept of clients that have gone");
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let shares = Shares::of(1);
        let one = shares.take(ip("fd00::1")).expect("a bound of one is everybody's");
        assert!(shares.take(ip("fd00::2")).is_none() && shares.take(ip("fd00:0:0:1::2")).is_some());
        drop(one);
    }
}
