//! Placement as a pure state machine over the load of the hosts.
//!
//! Of the hosts that no filter drops, a new replica goes to the one for which most
//! preferences hold, then to the value of the label to spread over that has the
//! fewest of the service, then to the host with the fewest of the service, then of
//! all (or, packing, to the fullest), then the first by name. A removal takes by the
//! same measures turned round.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use shef_common::{
    ids::{NodeName, ServiceName, Slot},
    spec::{Placement, Strategy},
};

use super::{
    Demand, LoadChange, Mover, PlacementRequest, PlacementResult,
    filter::{Asked, Dropped},
    host::Host,
    requirements::Requirements,
    score::{Rank, Ranks},
};
use crate::membership::{HostCondition, HostKnown, Standing};

/// A slot that wants a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The slot.
    pub slot: Slot,
    /// A host to avoid if another will do: the last try failed there.
    pub avoid: Option<NodeName>,
}

/// Where slots go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// A host for each slot that has found one.
    pub chosen: Vec<(Slot, NodeName)>,
    /// Why the first of the other slots has found none.
    pub refused: Option<Refusal>,
    /// Those of the other slots for which a host has room once the slot's own replica there is gone.
    pub needs_stop_first: Vec<Slot>,
}

/// Why no host could be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For people, in one line: which filter dropped how many hosts.
    pub reason: String,
    /// Whether a host is awaited that has not called since the master's start:
    /// soon the answer may be another.
    pub awaited: bool,
    /// Whether a host lacks nothing but room: the answer may be another when some replica goes.
    pub for_room: bool,
}

/// How many replicas a host may have by default: a bridge of Linux has 1,023 ports.
const MAX_REPLICAS_PER_HOST: u32 = 1_000;

/// The load of all hosts, and the choice between them.
#[derive(Debug, Clone)]
pub struct SchedulerCore {
    /// Shared with copies until one of them changes: a copy costs nothing for what hosts hold.
    hosts: BTreeMap<NodeName, Arc<Host>>,
    /// How many replicas of each service are to run on which hosts; shared likewise.
    services: BTreeMap<ServiceName, Arc<BTreeMap<NodeName, u32>>>,
    most_per_host: u32,
}

impl Default for SchedulerCore {
    fn default() -> Self {
        Self::new(MAX_REPLICAS_PER_HOST)
    }
}

impl SchedulerCore {
    /// Without hosts, each of which may have `most_per_host` replicas.
    #[must_use]
    pub const fn new(most_per_host: u32) -> Self {
        Self { hosts: BTreeMap::new(), services: BTreeMap::new(), most_per_host }
    }

    /// A host is in another condition. Its load is kept.
    pub fn host_changed(&mut self, node: NodeName, condition: HostCondition) {
        let host = Arc::make_mut(self.hosts.entry(node).or_default());
        (host.condition, host.is_known) = (condition, true);
    }

    /// The store knows this of a host.
    pub fn host_known(&mut self, known: HostKnown) {
        let host = Arc::make_mut(self.hosts.entry(known.node).or_default());
        (host.facts, host.is_known) = (Some(known.facts), true);
    }

    /// A host is gone for good, and its load with it.
    pub fn forget(&mut self, node: &NodeName) {
        self.hosts.remove(node);
        self.services.retain(|_, counts| {
            if counts.contains_key(node) {
                Arc::make_mut(counts).remove(node);
            }
            !counts.is_empty()
        });
    }

    /// The load of a host changes.
    pub fn load(&mut self, service: &ServiceName, change: &LoadChange) {
        let (node, change) = match change {
            LoadChange::Occupy(claim) => {
                let is_new = self.host_mut(&claim.node).occupy(&claim.replica, &claim.requires);
                (&claim.node, i64::from(is_new))
            }
            LoadChange::Vacate(replica, node) => {
                let counted =
                    self.hosts.get_mut(node).is_some_and(|host| Arc::make_mut(host).vacate(replica));
                (node, -i64::from(counted))
            }
            LoadChange::Release(replica, node) => {
                let counted =
                    self.hosts.get_mut(node).is_some_and(|host| Arc::make_mut(host).release(replica));
                (node, -i64::from(counted))
            }
        };
        if change == 0 {
            return;
        }
        let counts = Arc::make_mut(self.services.entry(service.clone()).or_default());
        let count = counts.entry(node.clone()).or_default();
        *count = count.saturating_add_signed(if change > 0 { 1 } else { -1 });
        if *count == 0 {
            counts.remove(node);
        }
        if counts.is_empty() {
            self.services.remove(service);
        }
    }

    fn host_mut(&mut self, node: &NodeName) -> &mut Host {
        Arc::make_mut(self.hosts.entry(node.clone()).or_default())
    }

    /// Answers `question` of `service`, and counts the replicas that are to come at once.
    pub fn answer(&mut self, service: &ServiceName, placement_request: &PlacementRequest) -> PlacementResult {
        let give_up = self.shrink(
            service,
            &placement_request.placement,
            &placement_request.candidates,
            placement_request.give_up,
        );
        let moved = placement_request.mover.as_ref().and_then(|mover| {
            self.balance(service, &placement_request.placement, &placement_request.candidates, mover)
        });
        let placed = self.place(
            service,
            &placement_request.placement,
            &placement_request.place,
            &placement_request.leaving,
        );
        PlacementResult { placed, give_up, moved }
    }

    /// Chooses a host for each of `wanted` and counts the replicas there at once. `leaving`: see
    /// [`Question::leaving`].
    pub fn place(
        &mut self,
        service: &ServiceName,
        placement: &Placement,
        wanted: &[Demand],
        leaving: &BTreeMap<NodeName, u32>,
    ) -> Placed {
        let mut placed = Placed::default();
        // Who has no choice chooses first.
        for demand in wanted {
            let Some(bound_node) = &demand.bound_node else { continue };
            self.without_failed(service, demand);
            let room = self
                .hosts
                .get(bound_node)
                .map(|host| self.asked(service, placement, &demand.requires).room(bound_node, host));
            match room {
                Some(Ok(_)) => self.choose(service, demand, bound_node, &mut placed),
                None => self.refuse_bound(service, placement, demand, bound_node, None, &mut placed),
                Some(Err(dropped)) => {
                    self.refuse_bound(service, placement, demand, bound_node, Some(dropped), &mut placed);
                }
            }
            self.keep_failed(service, demand, &placed);
        }
        let free: Vec<&Demand> = wanted.iter().filter(|demand| demand.bound_node.is_none()).collect();
        // A failed replica's claim blocks all others. So each replacement of a failed replica is placed by
        // itself.
        let is_alike = |one: &&Demand, next: &&Demand| {
            one.requires == next.requires && one.replaces.is_empty() && next.replaces.is_empty()
        };
        for alike in free.chunk_by(is_alike) {
            let requires = &alike[0].requires;
            self.without_failed(service, alike[0]);
            let mut ranks = self.ranks(service, placement, requires, leaving);
            let nodes: Vec<NodeName> =
                alike.iter().map_while(|demand| ranks.take(demand.place.avoid.as_ref())).collect();
            for (demand, node) in alike.iter().zip(&nodes) {
                self.choose(service, demand, node, &mut placed);
            }
            if nodes.len() < alike.len() && placed.refused.is_none() {
                let asked = self.asked(service, placement, requires);
                placed.refused = Some(Refusal {
                    reason: asked.explain(&self.hosts),
                    awaited: self
                        .hosts
                        .values()
                        .any(|host| host.is_known && host.condition.standing == Standing::Awaited),
                    for_room: asked.lacks_room(&self.hosts),
                });
            }
            self.keep_failed(service, alike[0], &placed);
        }
        let chosen: BTreeSet<Slot> = placed.chosen.iter().map(|(slot, _)| *slot).collect();
        let unplaced = wanted.iter().filter(|demand| !chosen.contains(&demand.place.slot));
        placed.needs_stop_first = unplaced
            .filter(|demand| self.fits_alone(service, placement, demand))
            .map(|demand| demand.place.slot)
            .collect();
        placed
    }

    /// Whether a host takes the replica once the slot's own one there is gone.
    fn fits_alone(&mut self, service: &ServiceName, placement: &Placement, demand: &Demand) -> bool {
        demand.beside.iter().any(|old| {
            if demand.bound_node.as_ref().is_some_and(|bound_node| *bound_node != old.node) {
                return false;
            }
            self.load(service, &LoadChange::Release(old.replica.clone(), old.node.clone()));
            let asked = self.asked(service, placement, &demand.requires);
            let fits = self.hosts.get(&old.node).is_some_and(|host| asked.room(&old.node, host).is_ok());
            self.load(service, &LoadChange::Occupy(old.clone()));
            fits
        })
    }

    /// Placing a replacement ignores the failed replica's claim.
    fn without_failed(&mut self, service: &ServiceName, demand: &Demand) {
        for gone in &demand.replaces {
            self.load(service, &LoadChange::Release(gone.replica.clone(), gone.node.clone()));
        }
    }

    /// It keeps what it claims if nothing has taken its place.
    fn keep_failed(&mut self, service: &ServiceName, demand: &Demand, placed: &Placed) {
        if placed.chosen.last().is_none_or(|(slot, _)| *slot != demand.place.slot) {
            demand.replaces.iter().for_each(|stays| self.load(service, &LoadChange::Occupy(stays.clone())));
        }
    }

    fn choose(&mut self, service: &ServiceName, demand: &Demand, node: &NodeName, placed: &mut Placed) {
        placed.chosen.push((demand.place.slot, node.clone()));
        self.load(service, &LoadChange::Occupy(demand.claim(node)));
    }

    fn refuse_bound(
        &self,
        service: &ServiceName,
        placement: &Placement,
        demand: &Demand,
        bound_node: &NodeName,
        dropped: Option<Dropped>,
        placed: &mut Placed,
    ) {
        let asked = self.asked(service, placement, &demand.requires);
        placed.refused.get_or_insert_with(|| Refusal {
            reason: asked.explain_one(bound_node, self.hosts.get(bound_node).map(|host| &**host), dropped),
            awaited: dropped == Some(Dropped::Awaited),
            // The service rarely learns of a change of what holds it back: it asks again.
            for_room: true,
        });
    }

    fn asked<'a>(
        &'a self,
        service: &ServiceName,
        placement: &'a Placement,
        requires: &'a Requirements,
    ) -> Asked<'a> {
        Asked {
            placement,
            requires,
            counts: self.services.get(service).map(AsRef::as_ref),
            leaving: None,
            most_per_host: self.most_per_host,
        }
    }

    /// The hosts that will do, and how they compare.
    fn ranks(
        &self,
        service: &ServiceName,
        placement: &Placement,
        requires: &Requirements,
        leaving: &BTreeMap<NodeName, u32>,
    ) -> Ranks<'_> {
        let asked = Asked { leaving: Some(leaving), ..self.asked(service, placement, requires) };
        let hosts =
            self.hosts.iter().filter_map(|(node, host)| Some((node, &**host, asked.room(node, host).ok()?)));
        Ranks::of(&asked, hosts, &self.by_zone(&asked))
    }

    /// How many of the service run where, by the value of the label to spread over.
    fn by_zone(&self, asked: &Asked<'_>) -> BTreeMap<Option<String>, u32> {
        let mut zones = BTreeMap::new();
        let Some(label) = &asked.placement.spread_over else { return zones };
        for node in asked.counts.into_iter().flat_map(BTreeMap::keys) {
            if let Some(host) = self.hosts.get(node).filter(|host| host.keeps()) {
                *zones.entry(host.label(label).map(str::to_owned)).or_default() += asked.staying(node);
            }
        }
        zones
    }

    /// Which of `candidates` to move where so that `service` is more balanced: from
    /// where most of it is to where fewest of it are, of those that take replicas,
    /// if they differ by two or more. What packs is not spread. Counts it there.
    pub fn balance(
        &mut self,
        service: &ServiceName,
        placement: &Placement,
        candidates: &[(Slot, NodeName)],
        mover: &Mover,
    ) -> Option<(Slot, NodeName)> {
        if placement.strategy == Strategy::BinPack {
            return None;
        }
        let asked = self.asked(service, placement, &mover.requires);
        let zones = self.by_zone(&asked);
        let rank = |node: &NodeName| self.hosts.get(node).map(|host| Rank::of(&asked, node, host, &zones));
        let mut to: Vec<(Rank, &NodeName)> = self
            .hosts
            .iter()
            .filter(|(node, host)| asked.room(node, host).is_ok())
            .map(|(node, host)| (Rank::of(&asked, node, host, &zones), node))
            .collect();
        to.sort_unstable();
        let movable: BTreeMap<&NodeName, Slot> =
            candidates.iter().fold(BTreeMap::new(), |mut by_node, (slot, node)| {
                by_node.entry(node).and_modify(|last: &mut Slot| *last = (*last).max(*slot)).or_insert(*slot);
                by_node
            });
        let takes_replicas =
            |node: &NodeName| self.hosts.get(node).is_some_and(|host| host.condition.takes_replicas());
        let from = movable.into_iter().filter(|(node, _)| takes_replicas(node));
        let mut from: Vec<_> = from.filter_map(|(node, slot)| Some((rank(node)?, slot, node))).collect();
        from.sort_unstable_by_key(|(rank, slot, _)| Reverse((*rank, *slot)));
        let zone = |node: &NodeName| {
            let label = placement.spread_over.as_ref()?;
            self.hosts.get(node)?.label(label)
        };
        let (slot, node) = from.iter().find_map(|(most, slot, from)| {
            let gains = |(least, to): &&(Rank, &NodeName)| {
                let in_zone = zone(from) == zone(to);
                let enough = if in_zone { most.own >= least.own + 2 } else { most.zone >= least.zone + 2 };
                most.missed == least.missed && enough
            };
            to.iter().find(gains).map(|(_, to)| (*slot, (*to).clone()))
        })?;
        self.load(service, &LoadChange::Occupy(mover.claim(&node)));
        Some((slot, node))
    }

    /// Which `count` of `candidates` to give up, one by one from the least wanted
    /// host; the last slot there. The load changes when the replicas are vacated, not here.
    #[must_use]
    pub fn shrink(
        &self,
        service: &ServiceName,
        placement: &Placement,
        candidates: &[(Slot, NodeName)],
        count: usize,
    ) -> Vec<Slot> {
        if count == 0 {
            return Vec::new();
        }
        let nothing = Requirements::default();
        let asked = self.asked(service, placement, &nothing);
        let mut slots: BTreeMap<&NodeName, BTreeSet<Slot>> = BTreeMap::new();
        for (slot, node) in candidates {
            slots.entry(node).or_default().insert(*slot);
        }
        let unknown = Host::default();
        let known = |node: &NodeName| self.hosts.get(node).map_or(&unknown, |host| &**host);
        let hosts = slots.iter().map(|(node, slots)| (*node, known(node), slots.len() as u64));
        let mut ranks = Ranks::of(&asked, hosts, &self.by_zone(&asked));
        let given_up: Vec<&NodeName> = std::iter::from_fn(|| ranks.give_up()).take(count).collect();
        given_up.into_iter().filter_map(|node| slots.get_mut(node).and_then(BTreeSet::pop_last)).collect()
    }

    /// Whether no replica claims anything.
    #[cfg(test)]
    pub fn is_unloaded(&self) -> bool {
        self.services.is_empty() && self.hosts.values().all(|host| host.is_unloaded())
    }
}
