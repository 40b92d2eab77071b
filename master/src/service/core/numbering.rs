//! The numbers of replicas: each is used once.
//!
//! A service's record counts them. Where it does not, because the service is new, the store was emptied, or a
//! version before 0.2 drew each number by itself, the first one is drawn, and is far above those that hosts
//! have told of: others may not have told yet.

use shef_common::ids::ReplicaId;

use super::ServiceCore;
use crate::service::record::{ReplicaRecord, ServiceRecord};

/// The first numbers: of six digits, with room for half a million replicas before there are seven, which
/// agents of version 0.1 do not read.
const FIRST: std::ops::Range<u32> = 100_000..400_000;
/// So far above the numbers that hosts have told of, at least and at most.
const ABOVE: std::ops::Range<u32> = 50_000..100_000;
/// Numbers above this were drawn by version 0.1: a count that went on above them would soon have seven
/// digits.
const COUNTED: u32 = 900_000;

impl ServiceCore {
    /// The next replica of `record`. What a draft that came to nothing has used is not used again.
    pub(super) fn new_id(&mut self, record: &ServiceRecord) -> ReplicaId {
        if record.next_number == 0 && self.next_number == 0 {
            let of_record = record
                .replicas
                .iter()
                .map(|replica| replica.id.number())
                .filter(|number| *number <= COUNTED)
                .max();
            self.next_number = match of_record.into_iter().chain(self.held).max() {
                None => self.random.u32(FIRST),
                Some(held) => held + self.random.u32(ABOVE),
            };
        }
        let above_held = self.held.map_or(0, |held| held + 1);
        let mut number = record.next_number.max(self.next_number).max(above_held).min(ReplicaId::MAX_NUMBER);
        let is_taken = |number| record.replicas.iter().any(|replica| replica.id.number() == number);
        while number > COUNTED && is_taken(number) {
            number = if number >= ReplicaId::MAX_NUMBER { FIRST.start } else { number + 1 };
        }
        self.next_number = number + 1;
        ReplicaId::new(&self.name, number)
    }

    /// A host holds `ids`: no new replica has one of their numbers.
    pub(super) fn hosts_hold(&mut self, ids: &[ReplicaId]) {
        let counted = ids.iter().map(ReplicaId::number).filter(|number| *number <= COUNTED);
        self.held = counted.chain(self.held).max();
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

    /// A host holds a replica with the number of `id`: the count, if there is one, goes on above it.
    pub fn counts_on_above(&mut self, id: &ReplicaId) {
        if self.next_number > 0 && id.number() <= COUNTED {
            self.next_number = self.next_number.max(id.number() + 1);
        }
    }
}
