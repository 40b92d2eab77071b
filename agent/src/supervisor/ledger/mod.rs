//! What the agent has accepted, and how it is kept on disk before the agent acts.
//!
//! `agent-ledger.log` is the ledger (`log`): its first record is a whole [`Ledger`], each further one a
//! [`LedgerChange`] (`state`). `agent-ledger.json` beside it is the head (`head`): what the bootstrap and
//! older agents read. `file` writes both. What is written, and when the log is replaced, the supervisor's
//! core decides.

mod file;
mod head;
pub mod log;
#[cfg(test)]
pub(super) mod log_tests;
mod state;

pub use self::{
    file::{LedgerError, LedgerFile, NotWritten},
    state::{Ledger, LedgerChange, LedgerWrite, Removal},
};
