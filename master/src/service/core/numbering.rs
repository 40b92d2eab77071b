//! The numbers of replicas: each is used once.
//!
//! A service's record counts them. Where it does not, because the service is new, the store was emptied, or a
//! version before 0.2 drew each number by itself, the first one is drawn, and is far above those that hosts
//! have reported: others may not have reported yet. The same holds when a host reports one that is ahead of
//! the count.

use shef_common::ids::ReplicaId;

use super::ServiceCore;
use crate::service::record::{ReplicaRecord, ServiceRecord};

/// The first numbers: of six digits, with room for half a million replicas before there are seven, which
/// agents of version 0.1 do not read.
const FIRST: std::ops::Range<u32> = 100_000..400_000;
/// So far above the numbers that hosts have reported, at least and at most.
const ABOVE: std::ops::Range<u32> = 50_000..100_000;
/// Numbers above this were drawn by version 0.1: a count that went on above them would soon have seven
/// digits.
const COUNTED: u32 = 900_000;
/// A count goes on far above what a host holds up to this number. What hosts hold above it is left out one by
/// one, and the count goes on where it is: far above would be beyond [`COUNTED`].
const GONE_ABOVE: u32 = COUNTED - ABOVE.end;

/// So many numbers that hosts hold are remembered, at most.
const MOST_HELD: usize = 10_000;

impl ServiceCore {
    /// The next replica of `record`. What a draft that came to nothing has used is not used again.
    pub(super) fn new_id(&mut self, record: &ServiceRecord) -> ReplicaId {
        if record.next_number == 0 && self.next_number == 0 {
            let of_record = record.replicas.iter().map(|replica| replica.id.number());
            let highest =
                of_record.chain(self.held.iter().copied()).filter(|number| *number <= GONE_ABOVE).max();
            self.next_number = match highest {
                None => self.random.u32(FIRST),
                Some(held) => held + self.random.u32(ABOVE),
            };
        }
        let count = record.next_number.max(self.next_number);
        let ahead = (count <= GONE_ABOVE).then(|| self.held.range(count..=GONE_ABOVE).next_back()).flatten();
        let mut number = ahead.map_or(count, |held| held + self.random.u32(ABOVE));
        let id = |number| ReplicaId::new(&self.name, number);
        let is_taken = |number| self.held.contains(&number) || self.places.slot(&id(number)).is_some();
        while number > ReplicaId::MAX_NUMBER || is_taken(number) {
            number = if number >= ReplicaId::MAX_NUMBER { FIRST.start } else { number + 1 };
        }
        let id = id(number);
        if number < count {
            self.hold(number);
        } else {
            self.next_number = number + 1;
        }
        id
    }

    /// A host holds `ids`: no new replica has one of their numbers.
    pub(super) fn hosts_hold(&mut self, ids: &[ReplicaId]) {
        ids.iter().for_each(|id| self.hold(id.number()));
    }

    fn hold(&mut self, number: u32) {
        self.held.insert(number);
        if self.held.len() > MOST_HELD {
            self.held.pop_first();
        }
    }
}

impl ServiceRecord {
    /// A new replica is to be there. Its number is never used again.
    pub fn place(&mut self, replica: ReplicaRecord) {
        self.next_number = self.next_number.max(replica.id.number() + 1);
        self.replicas.push(replica);
    }

    /// Numbers may have been given away that the record does not know of: the count, if there is one, goes on
    /// far above them. Returns whether there is one.
    pub fn skips_numbers(&mut self) -> bool {
        let counts = self.next_number > 0;
        if counts {
            self.next_number = self.next_number.saturating_add(ABOVE.start).min(ReplicaId::MAX_NUMBER);
        }
        counts
    }

    /// A host holds a replica with the number of `id`. If it is ahead of the count, an earlier life of the
    /// service has counted on: there may be more, and the count goes on far above it, in each life elsewhere.
    pub fn counts_on_above(&mut self, id: &ReplicaId) {
        if self.next_number > 0 && (self.next_number..=COUNTED).contains(&id.number()) {
            let further = u32::try_from(self.created.0 % u64::from(ABOVE.end - ABOVE.start)).unwrap_or(0);
            let far = id.number() + ABOVE.start + further;
            self.next_number = if far <= COUNTED { far } else { self.next_number };
        }
    }
}
