//! Which of the requests that changed nothing have a line of their own: a flood of them is counted. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    rates::{Bucket, Rate},
};

use super::line::AuditEvent;

/// How many lines an address has at once, and how often it has another one.
const EACH: Rate = Rate { burst: 200, back: 1, every: DurationMs(5_000) };
/// The same of all addresses.
const ALL: Rate = Rate { burst: 1_000, back: 1, every: DurationMs(1_000) };
/// How many addresses are told apart.
const ADDRESSES: usize = 256;
/// How often it is told how many had no line: a crash loses the count of that time.
const TOLD_EVERY: DurationMs = DurationMs(5_000);
/// Of how many addresses it is told each time; of others it is told together.
const TOLD: usize = 8;

#[derive(Debug, Default)]
struct Address {
    bucket: Bucket,
    /// How many had no line, and since when.
    counted: u64,
    since: WallMs,
}

/// What was refused of late, by address.
#[derive(Debug, Default)]
pub struct Refusals {
    all: Bucket,
    addresses: BTreeMap<Option<IpAddr>, Address>,
    told: MonoMs,
}

impl Refusals {
    /// Whether a request of `from` that changed nothing has a line of its own. Otherwise it is counted.
    pub fn has_a_line(&mut self, from: Option<IpAddr>, now: Now) -> bool {
        if !self.addresses.contains_key(&from) && self.addresses.len() >= ADDRESSES {
            let has_asked =
                |address: &Address| !address.bucket.is_full(&EACH, now.mono) || address.counted > 0;
            self.addresses.retain(|_, address| has_asked(address));
        }
        let is_known = self.addresses.len() < ADDRESSES || self.addresses.contains_key(&from);
        let address = self.addresses.entry(from.filter(|_| is_known)).or_default();
        if address.bucket.take(&EACH, now.mono) && self.all.take(&ALL, now.mono) {
            return true;
        }
        if address.counted == 0 {
            address.since = now.wall;
        }
        address.counted += 1;
        false
    }

    /// What there is to tell of those without a line; `ends`: the master stops.
    pub fn counted(&mut self, now: Now, ends: bool) -> Vec<AuditEvent> {
        if !ends && now.mono - self.told < TOLD_EVERY {
            return Vec::new();
        }
        let mut most: Vec<_> = self.addresses.iter_mut().filter(|(_, address)| address.counted > 0).collect();
        if most.is_empty() {
            return Vec::new();
        }
        // The first one after a while is told at once.
        self.told = now.mono;
        most.sort_by_key(|(_, address)| std::cmp::Reverse(address.counted));
        let (mut told, mut others) = (Vec::new(), (0, WallMs(u64::MAX)));
        for (nth, (from, address)) in most.into_iter().enumerate() {
            let (count, since) = (std::mem::take(&mut address.counted), address.since);
            match from {
                Some(from) if nth < TOLD => {
                    told.push(AuditEvent::Repeated { from: Some(*from), count, since });
                }
                Some(_) | None => others = (others.0 + count, others.1.min(since)),
            }
        }
        if let (count @ 1.., since) = others {
            told.push(AuditEvent::Repeated { from: None, count, since });
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: MonoMs(seconds * 1_000), wall: WallMs(5_000 + seconds * 1_000) }
    }

    fn address(n: usize) -> IpAddr {
        IpAddr::from((n as u128).to_be_bytes())
    }

    fn counts(told: &[AuditEvent]) -> Vec<(Option<IpAddr>, u64)> {
        let count = |event: &AuditEvent| match event {
            AuditEvent::Repeated { from, count, .. } => Some((*from, *count)),
            _ => None,
        };
        told.iter().filter_map(count).collect()
    }

    #[test]
    fn a_flood_of_one_address_is_counted_and_others_have_their_lines() {
        let mut refusals = Refusals::default();
        let lines = (0..5_000).filter(|_| refusals.has_a_line(Some(address(1)), at(0))).count();
        assert_eq!(lines as u64, EACH.burst);
        assert!(refusals.has_a_line(Some(address(2)), at(0)));
        assert_eq!(refusals.counted(at(4), false), []);
        let told = refusals.counted(at(5), false);
        assert_eq!(counts(&told), [(Some(address(1)), 5_000 - EACH.burst)]);
        assert_eq!(refusals.counted(at(200), false), [], "it is told once");
        assert!(refusals.has_a_line(Some(address(1)), at(200)), "it has lines again");
    }

    #[test]
    fn a_crash_loses_the_count_of_some_seconds() {
        let mut refusals = Refusals::default();
        let (mut sent, mut told) = (0, 0);
        for second in 100..700 {
            for _ in 0..100 {
                sent += u64::from(!refusals.has_a_line(Some(address(1)), at(second)));
            }
            let lines = refusals.counted(at(second), false);
            told += counts(&lines).iter().map(|(_, count)| count).sum::<u64>();
            assert!(sent - told <= 500, "{} of {sent} would be lost at {second} s", sent - told);
        }
    }

    #[test]
    fn many_addresses_have_no_more_lines_than_all_may_have_and_none_is_left_out_of_the_counts() {
        let mut refusals = Refusals::default();
        let sent = 4 * ADDRESSES;
        let lines: usize =
            (0..sent).map(|n| (0..10).filter(|_| refusals.has_a_line(Some(address(n)), at(0))).count()).sum();
        assert!(lines as u64 <= ALL.burst, "{lines} lines");
        assert!(refusals.addresses.len() <= ADDRESSES + 1);
        let told = counts(&refusals.counted(at(0), true));
        assert!(told.len() <= TOLD + 1);
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), (sent * 10 - lines) as u64);
    }

    #[test]
    fn a_clock_that_is_set_changes_nothing() {
        let mut refusals = Refusals::default();
        let now = |wall| Now { mono: MonoMs(0), wall: WallMs(wall) };
        for _ in 0..=EACH.burst {
            refusals.has_a_line(Some(address(1)), now(9_000));
        }
        assert!(!refusals.has_a_line(Some(address(1)), now(0)));
        assert_eq!(counts(&refusals.counted(now(1), true)), [(Some(address(1)), 2)]);
    }
}
