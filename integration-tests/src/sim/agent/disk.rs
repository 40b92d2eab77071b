//! The disk of a host, with its ledger's log on it: real bytes, of which a crash leaves any part of what was
//! being written.

use fastrand::Rng;
use shef_agent::supervisor::ledger::{
    Ledger, LedgerWrite, NotWritten,
    log::{self, LogEnd, Replayed},
};

use super::super::{seeded_bug::SeededBug, world::World};

/// The log on a disk.
#[derive(Debug)]
pub struct Disk {
    bytes: Vec<u8>,
    end: LogEnd,
    /// What it may say instead of what it says for sure: writes that have failed, or that their agent did not
    /// live to see.
    possible: Vec<Ledger>,
}

impl Disk {
    /// A log that says `ledger`.
    #[must_use]
    pub fn with(ledger: &Ledger) -> Self {
        let (bytes, end) = log::whole(ledger);
        Self { bytes, end, possible: Vec::new() }
    }

    /// A write reaches the disk. Returns how many bytes the log has then.
    fn write(&mut self, write: &LedgerWrite) -> u64 {
        self.reach(write, usize::MAX);
        self.possible.clear();
        self.end.bytes
    }

    /// A write fails, or its agent is killed meanwhile: any part of it may have reached the disk.
    fn fail(&mut self, write: &LedgerWrite, says: &Ledger, rng: &mut Rng) {
        let mut possible = says.clone();
        write.clone().apply_to(&mut possible);
        let end = self.end;
        let most = match write {
            LedgerWrite::Append(change) => log::record(change, end).0.len(),
            LedgerWrite::Replace(_) => 1,
        };
        let reached = rng.usize(0..=most);
        self.reach(write, reached);
        self.possible.push(possible);
    }

    /// The first bytes of a record are appended, or the whole log is replaced unless none of it has come.
    fn reach(&mut self, write: &LedgerWrite, reached: usize) {
        match write {
            LedgerWrite::Append(change) => {
                let (record, end) = log::record(change, self.end);
                self.bytes.extend_from_slice(&record[..reached.min(record.len())]);
                self.end = end;
            }
            LedgerWrite::Replace(ledger) if reached > 0 => (self.bytes, self.end) = log::whole(ledger),
            LedgerWrite::Replace(_) => {}
        }
    }
}

impl World {
    /// An agent that starts reads its ledger from the disk: it is what was written, and may be what was being
    /// written when something failed.
    pub(super) fn reads_ledger(&mut self, host: usize) {
        let cuts_off = !self.is_seeded(SeededBug::AppendsBehindTorn);
        let node = self.hosts[host].node.clone();
        let Replayed { ledger, end, torn } = match log::replay(&self.hosts[host].disk.bytes) {
            Ok(replayed) => replayed,
            Err(error) => return self.violated(format!("the ledger of {node} cannot be read: {error}")),
        };
        if torn > 0 {
            self.note(|| format!("{torn} bytes of a torn record are on the disk of {node}"));
        }
        let disk = &mut self.hosts[host].disk;
        if cuts_off {
            disk.bytes.truncate(disk.bytes.len() - usize::try_from(torn).unwrap_or_default());
        }
        disk.end = end;
        let possible = std::mem::take(&mut disk.possible);
        if ledger != self.hosts[host].ledger && !possible.contains(&ledger) {
            return self.violated(format!("the log of {node} says something else than was written"));
        }
        self.rules_ledger(host, &ledger);
        self.hosts[host].ledger = ledger;
    }

    /// Puts a ledger on the disk.
    pub(in crate::sim) fn set_ledger(&mut self, host: usize, ledger: Ledger) {
        self.hosts[host].disk = Disk::with(&ledger);
        self.hosts[host].ledger = ledger;
    }

    /// An agent's write reaches its disk, as a whole or in part. Returns the outcome for its agent, if that
    /// lives.
    pub(super) fn reaches_disk(
        &mut self,
        host: usize,
        inc: u64,
        write: LedgerWrite,
        fails: bool,
    ) -> Option<Result<u64, NotWritten>> {
        // What has reached the disk is drawn aside: it changes nothing of what else is drawn.
        let mut rng = Rng::with_seed(self.now ^ inc << 32 ^ (host as u64) << 48);
        let found = &mut self.hosts[host];
        let lives = found.agent.as_ref().is_some_and(|agent| agent.inc == inc);
        if found.agent_inc != inc {
            return None;
        }
        if fails || !lives {
            found.disk.fail(&write, &found.ledger, &mut rng);
            return lives.then_some(Err(NotWritten));
        }
        let bytes = found.disk.write(&write);
        let mut ledger = found.ledger.clone();
        write.apply_to(&mut ledger);
        self.rules_ledger(host, &ledger);
        self.hosts[host].ledger = ledger;
        Some(Ok(bytes))
    }
}
