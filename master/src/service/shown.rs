//! The view of a service's replicas that readers are shown, made anew page by page where something changed.

use std::collections::BTreeMap;

use shef_common::{
    ids::{Generation, NodeName},
    image::ImageDigest,
    spec::OnDisconnect,
};

use super::{
    observations::Observations,
    pages::{Pages, pages_of},
    places::Places,
    record::{ReplicaRecord, ServiceRecord, Want},
    replicas::Replicas,
    slot_set::SlotSet,
    view::replica::{ReplicaView, replica_view},
};

/// What a replica was made of, where its host has reported it.
type Made = ((Generation, ImageDigest), NodeName);

/// The replicas as they were shown last.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// What they were shown of.
    of: Replicas,
    on_disconnect: OnDisconnect,
    replicas: Pages<ReplicaView>,
    /// By page, what the replicas that are to run were made of.
    made: BTreeMap<u32, Vec<Made>>,
    /// The same counted: on how many replicas of which hosts.
    hosts: BTreeMap<(Generation, ImageDigest), BTreeMap<NodeName, usize>>,
}

impl Shown {
    /// All replicas of `record`, looked at one by one.
    #[must_use]
    pub fn of(record: &ServiceRecord, observed: &Observations) -> Self {
        let mut shown = Self::default();
        shown.update(record, &SlotSet::default(), &Places::default(), observed);
        shown
    }

    /// The replicas of `record`, where something happened to the slots `touched` since the last time.
    pub fn update(
        &mut self,
        record: &ServiceRecord,
        touched: &SlotSet,
        places: &Places,
        observed: &Observations,
    ) {
        let mut pages = pages_of(touched);
        pages.extend(self.of.pages().differing(record.replicas.pages()));
        if self.on_disconnect != record.spec.on_disconnect {
            pages.extend(record.replicas.pages().numbers());
        }
        // These may be lost by the time alone.
        if matches!(record.spec.on_disconnect, OnDisconnect::StopAfter { .. }) {
            pages.extend(observed.unusual_hosts().filter_map(|node| places.on(node)).flat_map(pages_of));
        }
        for number in pages {
            self.show_page(number, record, observed);
        }
        self.of = record.replicas.clone();
        self.on_disconnect = record.spec.on_disconnect;
    }

    fn show_page(&mut self, number: u32, record: &ServiceRecord, observed: &Observations) {
        let page = record.replicas.pages().page(number);
        let shown: Vec<_> = page.iter().map(|replica| replica_view(record, replica, observed)).collect();
        if self.replicas.page(number) != shown {
            self.replicas.edit(number, |page| *page = shown);
        }
        let made_of = |replica: &ReplicaRecord| {
            let digest = observed.statuses.get(&replica.id)?.made_of.clone()?;
            (replica.want == Want::Run).then(|| ((replica.generation, digest), replica.node.clone()))
        };
        let made: Vec<Made> = page.iter().filter_map(made_of).collect();
        for (what, node) in self.made.remove(&number).unwrap_or_default() {
            let hosts = self.hosts.entry(what.clone()).or_default();
            if let Some(count) = hosts.get_mut(&node) {
                *count -= 1;
            }
            hosts.retain(|_, count| *count > 0);
            if hosts.is_empty() {
                self.hosts.remove(&what);
            }
        }
        for (what, node) in &made {
            *self.hosts.entry(what.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        if !made.is_empty() {
            self.made.insert(number, made);
        }
    }

    /// The replicas as readers see them.
    #[must_use]
    pub const fn replicas(&self) -> &Pages<ReplicaView> {
        &self.replicas
    }

    /// The hosts by what their replicas of `generation` were made of; nothing if that is the same everywhere.
    #[must_use]
    pub fn differing_images(&self, generation: Generation) -> BTreeMap<ImageDigest, Vec<NodeName>> {
        let of_generation = || self.hosts.iter().filter(|((made, _), _)| *made == generation);
        if of_generation().count() < 2 {
            return BTreeMap::new();
        }
        of_generation().map(|((_, digest), on)| (digest.clone(), on.keys().cloned().collect())).collect()
    }
}
