//! Which credentials are kept and handed out. Pure: encrypted passwords come with the event.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use shef_common::{
    ids::Version,
    registry::{Credentials, RegistryHost},
};

use super::{
    events::{Effect, Event, RecoveredRegistry, RegistryRecord},
    messages::{RegistryRefused, RegistryView, Stored},
};
use crate::{calls::Ticket, store::CommitError};

/// Of how many registries credentials are kept at most: every host may be handed all of them.
pub const MAX_REGISTRIES: usize = 100;

#[derive(Debug, Clone)]
struct Kept {
    version: Version,
    record: RegistryRecord,
    /// Decrypted, or why it cannot be.
    opened: Result<Credentials, Arc<str>>,
}

#[derive(Debug)]
struct Change {
    ticket: Ticket,
    /// `None`: to be deleted.
    to: Option<(RegistryRecord, Credentials)>,
}

/// The state machine of registries' credentials.
#[derive(Debug, Default)]
pub struct RegistriesCore {
    kept: BTreeMap<RegistryHost, Kept>,
    /// On their way to the store, one of a registry at a time.
    changes: BTreeMap<RegistryHost, Change>,
}

impl RegistriesCore {
    /// The records of the store, decrypted by `open`, which says why one cannot be.
    #[must_use]
    pub fn recover(
        recovered: Vec<RecoveredRegistry>,
        open: impl Fn(&RegistryHost, &RegistryRecord) -> Result<Credentials, Arc<str>>,
    ) -> (Self, Vec<Effect>) {
        let keep = |RecoveredRegistry { host, version, record }| {
            let opened = open(&host, &record);
            (host, Kept { version, record, opened })
        };
        let core = Self { kept: recovered.into_iter().map(keep).collect(), changes: BTreeMap::new() };
        let effects = core.publish();
        (core, effects)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Put { ticket, host, credentials, record } => {
                let known = self.kept.get(&host);
                let is_changing = self.changes.contains_key(&host);
                if let Some(kept) =
                    known.filter(|kept| !is_changing && kept.opened.as_ref() == Ok(&credentials))
                {
                    return vec![Effect::Answer(
                        ticket,
                        Ok(Stored { view: Some(view(&host, kept)), is_new: false }),
                    )];
                }
                let coming = self.changes.keys().filter(|host| !self.kept.contains_key(*host)).count();
                if known.is_none() && !is_changing && self.kept.len() + coming >= MAX_REGISTRIES {
                    return vec![Effect::Answer(ticket, Err(RegistryRefused::TooMany(MAX_REGISTRIES)))];
                }
                match record {
                    Ok(record) => self.change(host, Change { ticket, to: Some((record, credentials)) }),
                    Err(error) => vec![Effect::Answer(ticket, Err(error.into()))],
                }
            }
            Event::Delete { ticket, host } => self.change(host, Change { ticket, to: None }),
            Event::Committed(host, outcome) => self.committed(&host, outcome),
        }
    }

    fn change(&mut self, host: RegistryHost, change: Change) -> Vec<Effect> {
        let expect = self.kept.get(&host).map(|kept| kept.version);
        let record = change.to.as_ref().map(|(record, _)| record.clone());
        let ticket = change.ticket;
        match self.changes.entry(host.clone()) {
            Entry::Occupied(_) => vec![Effect::Answer(ticket, Err(RegistryRefused::Busy(host)))],
            Entry::Vacant(_) if expect.is_none() && record.is_none() => {
                vec![Effect::Answer(ticket, Err(RegistryRefused::NotFound(host)))]
            }
            Entry::Vacant(place) => {
                place.insert(change);
                vec![Effect::Commit { host, expect, record }]
            }
        }
    }

    fn committed(&mut self, host: &RegistryHost, outcome: Result<(), CommitError>) -> Vec<Effect> {
        let Some(Change { ticket, to }) = self.changes.remove(host) else { return Vec::new() };
        if let Err(error) = outcome {
            return vec![Effect::Answer(ticket, Err(error.into()))];
        }
        let before = self.kept.remove(host);
        let is_new = before.is_none();
        let version = before.map_or(Version(1), |kept| kept.version.next());
        let kept = to.map(|(record, credentials)| Kept { version, record, opened: Ok(credentials) });
        let view = kept.as_ref().map(|kept| view(host, kept));
        self.kept.extend(kept.map(|kept| (host.clone(), kept)));
        // The answer comes after the change is visible.
        let mut effects = self.publish();
        effects.push(Effect::Answer(ticket, Ok(Stored { view, is_new })));
        effects
    }

    /// Publishes the registries, and hands out their credentials.
    fn publish(&self) -> Vec<Effect> {
        let known = self
            .kept
            .iter()
            .filter_map(|(host, kept)| Some((host.clone(), kept.opened.clone().ok()?)))
            .collect();
        vec![
            Effect::Publish(self.kept.iter().map(|(host, kept)| view(host, kept)).collect()),
            Effect::Hand(Arc::new(known)),
        ]
    }
}

fn view(host: &RegistryHost, kept: &Kept) -> RegistryView {
    RegistryView {
        host: host.clone(),
        username: kept.record.username.clone(),
        updated: kept.record.updated,
        readable: kept.opened.is_ok(),
        reason: kept.opened.as_ref().err().map(ToString::to_string),
    }
}
