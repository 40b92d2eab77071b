//! How hosts that will do compare.

use std::collections::BTreeMap;

use shef_common::{ids::NodeName, spec::Strategy};

use super::{constraint, filter::Asked, host::Host};

/// How a host compares with others for one service: the least is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// How many preferences do not hold.
    pub missed: usize,
    /// How many of the service run where the label to spread over has the same value.
    pub zone: u32,
    /// Packing, how much of the host is free; else how many of the service it has.
    pub own: u64,
    /// How many replicas it has of all; packing, how many fewer than could be.
    pub total: u32,
}

impl Rank {
    /// That of `host`, by how many of the service there are in each zone.
    pub fn of(
        asked: &Asked<'_>,
        node: &NodeName,
        host: &Host,
        zones: &BTreeMap<Option<String>, u32>,
    ) -> Self {
        let holds = |preference: &&shef_common::spec::Constraint| {
            host.facts.as_ref().is_some_and(|facts| constraint::holds(preference, node, facts))
        };
        let preferences = &asked.placement.preferences;
        let (own, total) = match asked.placement.strategy {
            Strategy::Spread => (asked.staying(node).into(), host.total),
            Strategy::BinPack => (u64::MAX - host.fullness(), u32::MAX - host.total),
        };
        let zone = zone_of(asked, host);
        Self {
            missed: preferences.len() - preferences.iter().filter(holds).count(),
            zone: zones.get(&zone).copied().unwrap_or(0),
            own,
            total,
        }
    }
}

/// The value of the label to spread over; hosts without it are together a value of their own.
fn zone_of(asked: &Asked<'_>, host: &Host) -> Option<String> {
    asked.placement.spread_over.as_ref().and_then(|label| host.label(label)).map(str::to_owned)
}

#[derive(Debug)]
struct Candidate<'a> {
    node: &'a NodeName,
    rank: Rank,
    zone: usize,
    /// How many times it can still be chosen.
    room: u64,
}

/// The hosts that will do for replicas that are alike, and how they compare as
/// one after the other is chosen.
#[derive(Debug)]
pub struct Ranks<'a> {
    candidates: Vec<Candidate<'a>>,
    /// How many of the service run in each zone.
    zones: Vec<u32>,
    packs: bool,
}

impl<'a> Ranks<'a> {
    /// `hosts`, each with how many times it can be chosen.
    pub fn of(
        asked: &Asked<'_>,
        hosts: impl Iterator<Item = (&'a NodeName, &'a Host, u64)>,
        counts: &BTreeMap<Option<String>, u32>,
    ) -> Self {
        let mut ranks = Self {
            candidates: Vec::new(),
            zones: Vec::new(),
            packs: asked.placement.strategy == Strategy::BinPack,
        };
        let mut indices: BTreeMap<Option<String>, usize> = BTreeMap::new();
        for (node, host, room) in hosts {
            let rank = Rank::of(asked, node, host, counts);
            let zone = *indices.entry(zone_of(asked, host)).or_insert_with(|| {
                ranks.zones.push(rank.zone);
                ranks.zones.len() - 1
            });
            ranks.candidates.push(Candidate { node, rank, zone, room });
        }
        ranks
    }

    fn key(&self, index: usize) -> (Rank, usize) {
        let candidate = &self.candidates[index];
        (Rank { zone: self.zones[candidate.zone], ..candidate.rank }, index)
    }

    fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.candidates.len()).filter(|index| self.candidates[*index].room > 0)
    }

    /// Chooses the best host that still has room; one to avoid only if no other has.
    pub fn take(&mut self, avoid: Option<&NodeName>) -> Option<NodeName> {
        let is_avoided = |index: usize| avoid == Some(self.candidates[index].node);
        let best = self.open().min_by_key(|index| (is_avoided(*index), self.key(*index)))?;
        let packs = self.packs;
        let chosen = &mut self.candidates[best];
        chosen.room -= 1;
        self.zones[chosen.zone] = self.zones[chosen.zone].saturating_add(1);
        let rank = &mut chosen.rank;
        (rank.own, rank.total) = if packs {
            (rank.own.saturating_sub(1), rank.total.saturating_sub(1))
        } else {
            (rank.own.saturating_add(1), rank.total.saturating_add(1))
        };
        Some(chosen.node.clone())
    }

    /// Chooses the worst host that still has some to give.
    pub fn give_up(&mut self) -> Option<&'a NodeName> {
        let worst = self.open().max_by_key(|index| self.key(*index))?;
        let packs = self.packs;
        let chosen = &mut self.candidates[worst];
        chosen.room -= 1;
        self.zones[chosen.zone] = self.zones[chosen.zone].saturating_sub(1);
        let rank = &mut chosen.rank;
        (rank.own, rank.total) = if packs {
            (rank.own.saturating_add(1), rank.total.saturating_add(1))
        } else {
            (rank.own.saturating_sub(1), rank.total.saturating_sub(1))
        };
        Some(chosen.node)
    }
}
