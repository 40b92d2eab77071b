//! Which step a rotation is at. Pure: keys and certificates come with the event.

use shef_common::{
    clock::{DurationMs, WallMs},
    ids::Version,
};

use super::{
    RotationRefused,
    events::{At, Effect, Event, HostSays},
    view::{CaView, WaitsFor},
};
use crate::{calls::Ticket, identity::AuthorityRecord, membership::Standing, store::CommitError};

/// How long each step lasts at least: a host that has joined meanwhile with what counted before has reported
/// by then, and masters that do not lead have read the step from the store.
pub(super) const SHORTEST_STEP: DurationMs = DurationMs(10_000);

/// The state machine of the CA.
#[derive(Debug, Clone)]
pub struct RotationCore {
    record: AuthorityRecord,
    version: Version,
    /// When the present step began for this master.
    since: At,
    /// The step that is on its way to the store, and who waits for it.
    coming: Option<(AuthorityRecord, Option<Ticket>)>,
    /// Whether the data directory has the record.
    copied: bool,
    /// Who is answered once the data directory has it.
    waits: Option<Ticket>,
    hosts: Vec<HostSays>,
}

impl RotationCore {
    /// As the store has it, and the data directory.
    #[must_use]
    pub const fn new(record: AuthorityRecord, version: Version, now: At) -> Self {
        Self { record, version, since: now, coming: None, copied: true, waits: None, hosts: Vec::new() }
    }

    /// The CA and its rotation, as they count now.
    #[must_use]
    pub const fn record(&self) -> &AuthorityRecord {
        &self.record
    }

    /// Whether nothing follows from what hosts say.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.record.rotation.is_none() && self.copied
    }

    /// The CA as administrators see it.
    #[must_use]
    pub fn view(&self, wall: WallMs) -> CaView {
        CaView::of(&self.record, &self.hosts, self.waits_for(), wall)
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: At) -> Vec<Effect> {
        match event {
            Event::Rotate { ticket, next, compromised, wall } => {
                if self.record.rotation.is_some() || self.coming.is_some() {
                    return vec![Effect::Answer(ticket, Err(RotationRefused::UnderWay))];
                }
                if !self.copied {
                    return vec![Effect::Answer(ticket, Err(RotationRefused::NotCopied))];
                }
                self.commit(self.record.begin(next, compromised, wall), Some(ticket))
            }
            Event::Continue(ticket) => match self.next_step() {
                Ok(next) => self.commit(next, Some(ticket)),
                Err(refused) => vec![Effect::Answer(ticket, Err(refused))],
            },
            Event::Look(hosts) => {
                self.hosts = hosts;
                self.look(now)
            }
            Event::Committed(outcome) => self.committed(outcome, now),
            Event::Copied(copied) => {
                self.copied = copied;
                // Without a copy the step counts as well.
                self.waits.take().map(|ticket| Effect::Answer(ticket, Ok(()))).into_iter().collect()
            }
        }
    }

    /// The step after this one.
    fn next_step(&self) -> Result<AuthorityRecord, RotationRefused> {
        let next = self.record.advance().ok_or(RotationRefused::NotUnderWay)?;
        if self.coming.is_some() {
            return Err(RotationRefused::Busy);
        }
        if self.copied { Ok(next) } else { Err(RotationRefused::NotCopied) }
    }

    fn look(&mut self, now: At) -> Vec<Effect> {
        if !self.copied && self.coming.is_none() {
            return vec![Effect::Copy(self.record.clone())];
        }
        match self.next_step() {
            Ok(next) if now - self.since >= SHORTEST_STEP && self.waits_for().is_empty() => {
                self.commit(next, None)
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// The hosts that the next step waits for.
    fn waits_for(&self) -> Vec<WaitsFor> {
        if self.record.rotation.is_none() {
            return Vec::new();
        }
        let expected = self.record.cas();
        let waited = self.hosts.iter().filter(|host| host.standing != Standing::Down);
        waited.filter_map(|host| WaitsFor::of(host, &expected)).collect()
    }

    fn commit(&mut self, next: AuthorityRecord, ticket: Option<Ticket>) -> Vec<Effect> {
        self.coming = Some((next.clone(), ticket));
        vec![Effect::Commit { expect: self.version, record: next }]
    }

    fn committed(&mut self, outcome: Result<(), CommitError>, now: At) -> Vec<Effect> {
        let Some((record, ticket)) = self.coming.take() else { return Vec::new() };
        match outcome {
            Ok(()) => {
                (self.record, self.version, self.since) = (record.clone(), self.version.next(), now);
                (self.copied, self.waits) = (false, ticket);
                vec![Effect::Use(record.clone()), Effect::Copy(record)]
            }
            Err(error) => {
                ticket.map(|ticket| Effect::Answer(ticket, Err(error.into()))).into_iter().collect()
            }
        }
    }
}
