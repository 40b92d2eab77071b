//! A model of the disk with the ledger's log on it.

use crate::supervisor::ledger::{
    Ledger, LedgerWrite,
    log::{self, LogEnd, Replayed},
};

/// The log as bytes, and what is known of it.
pub struct Disk {
    bytes: Vec<u8>,
    end: LogEnd,
    /// Whether a write has failed since the log was whole.
    is_doubtful: bool,
    /// How many bytes each write has written.
    pub written: Vec<usize>,
}

impl Disk {
    pub fn with(ledger: &Ledger) -> Self {
        let (bytes, end) = log::whole(ledger);
        Self { bytes, end, is_doubtful: false, written: Vec::new() }
    }

    /// A write reaches the disk. Returns the log's size.
    pub fn write(&mut self, write: &LedgerWrite) -> u64 {
        let (bytes, end) = match write {
            LedgerWrite::Append(change) => {
                assert!(!self.is_doubtful, "appended to a log that may end with a part of a record");
                let (record, end) = log::record(change, self.end);
                self.bytes.extend_from_slice(&record);
                (record.len(), end)
            }
            LedgerWrite::Replace(ledger) => {
                let (bytes, end) = log::whole(ledger);
                self.bytes = bytes;
                (self.bytes.len(), end)
            }
        };
        (self.end, self.is_doubtful) = (end, false);
        self.written.push(bytes);
        end.bytes
    }

    /// A write fails, after so many bytes of an appended record at most have reached the disk. A log that is
    /// to be replaced stays as it is.
    pub fn fail(&mut self, write: &LedgerWrite, reached: usize) {
        if let LedgerWrite::Append(change) = write {
            assert!(!self.is_doubtful, "appended to a log that may end with a part of a record");
            let (record, _) = log::record(change, self.end);
            self.bytes.extend_from_slice(&record[..reached.min(record.len())]);
        }
        self.is_doubtful = true;
    }

    /// A new agent reads the log, and cuts off what is torn.
    pub fn read(&mut self) -> Ledger {
        let Replayed { ledger, end, torn } = log::replay(&self.bytes).expect("no crash damages a log");
        self.bytes.truncate(self.bytes.len() - usize::try_from(torn).unwrap());
        (self.end, self.is_doubtful) = (end, false);
        ledger
    }
}
