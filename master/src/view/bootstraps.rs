//! Which hosts' bootstraps have called, as docker-shef's `POST /node`. Pure.
//!
//! In memory alone: after a start of the master each has called again within half
//! a minute, and until then its host is shown by what its agent says.

use std::{collections::BTreeMap, net::Ipv4Addr};

use shef_common::clock::{DurationMs, MonoMs, Now, WallMs};

/// A bootstrap that was silent for longer is not alive.
pub const ALIVE_FOR: DurationMs = DurationMs(90_000);
/// An address that is no host's is forgotten after a silence of this.
const FORGOTTEN_AFTER: DurationMs = DurationMs(3_600_000);
/// The most addresses that are kept.
const MAX_ADDRESSES: usize = 10_000;

/// What is shown of one bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Its host.
    pub address: Ipv4Addr,
    /// Whether it runs a master there, in its own words.
    pub master: bool,
    /// Whether it has called within [`ALIVE_FOR`].
    pub alive: bool,
    /// When it called last.
    pub last: WallMs,
}

/// The bootstraps that have called.
#[derive(Debug, Default)]
pub struct Bootstraps(BTreeMap<Ipv4Addr, (bool, Now)>);

impl Bootstraps {
    /// One has called. `false`: too many have, and this one is not kept. `is_host`
    /// says which addresses belong to hosts of the cluster.
    pub fn called(
        &mut self,
        address: Ipv4Addr,
        master: bool,
        is_host: impl Fn(Ipv4Addr) -> bool,
        now: Now,
    ) -> bool {
        if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&address) {
            self.0.retain(|&address, (_, last)| {
                !is_silent(last.mono, now.mono, FORGOTTEN_AFTER) || is_host(address)
            });
            if self.0.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        self.0.insert(address, (master, now));
        true
    }

    /// All of them as of now, in the order of their addresses; those that are no
    /// host's and have been silent for long are left out.
    #[must_use]
    pub fn shown(&self, is_host: impl Fn(Ipv4Addr) -> bool, now: MonoMs) -> Vec<Bootstrap> {
        let stays =
            |address: Ipv4Addr, last: MonoMs| !is_silent(last, now, FORGOTTEN_AFTER) || is_host(address);
        let all = self.0.iter().filter(|(address, (_, last))| stays(**address, last.mono));
        all.map(|(&address, &(master, last))| Bootstrap {
            address,
            master,
            alive: !is_silent(last.mono, now, ALIVE_FOR),
            last: last.wall,
        })
        .collect()
    }
}

fn is_silent(last: MonoMs, now: MonoMs, for_longer_than: DurationMs) -> bool {
    now - last > for_longer_than
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: MonoMs(seconds * 1_000), wall: WallMs(1_000_000 + seconds * 1_000) }
    }
    fn address(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + n)
    }
    fn nobody(_: Ipv4Addr) -> bool {
        false
    }

    #[test]
    fn a_bootstrap_is_alive_for_ninety_seconds_after_its_last_call() {
        let mut all = Bootstraps::default();
        assert!(all.called(address(1), true, nobody, at(0)));
        let alive = |all: &Bootstraps, s: u64| all.shown(nobody, at(s).mono)[0].alive;
        assert!(alive(&all, 90) && !alive(&all, 91));
        assert!(all.called(address(1), false, nobody, at(100)));
        let shown = all.shown(nobody, at(120).mono);
        assert_eq!(
            shown,
            [Bootstrap { address: address(1), master: false, alive: true, last: at(100).wall }]
        );
    }

    #[test]
    fn only_addresses_of_hosts_are_remembered_for_more_than_an_hour() {
        let mut all = Bootstraps::default();
        let is_host = |other: Ipv4Addr| other == address(1);
        for n in [1, 2] {
            assert!(all.called(address(n), false, is_host, at(0)));
        }
        let late = at(3_601);
        assert_eq!(
            all.shown(is_host, late.mono).iter().map(|one| one.address).collect::<Vec<_>>(),
            [address(1)]
        );
    }

    #[test]
    fn there_is_a_bound_and_it_makes_room_for_whoever_calls_later() {
        let mut all = Bootstraps::default();
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        assert!((0..most).all(|n| all.called(address(n), false, nobody, at(0))));
        assert!(!all.called(address(most), false, nobody, at(1)), "one too many");
        assert!(all.called(address(7), false, nobody, at(2)), "one that is known");
        let is_host = |other: Ipv4Addr| other == address(9);
        assert!(all.called(address(most), false, is_host, at(3_601)), "the silent ones have gone");
        assert_eq!(all.0.keys().copied().collect::<Vec<_>>(), [7, 9, most].map(address));
    }
}
