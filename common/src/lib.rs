//! What master, agent and tools share: identities, the service spec, replica
//! states, the master-agent protocol, container labels, the problem type and
//! the configuration loader.
//!
//! Nothing here does I/O on its own account, except [`config`], which reads the
//! files it is asked to read, [`logging`], which installs the process's logger, and
//! [`open_files`], which raises the process's limit. [`docker`] makes the clients of Docker engines.

pub mod backoff;
pub mod bodies;
pub mod bounds;
pub mod browser_guard;
pub mod client;
pub mod clock;
pub mod config;
pub mod contents;
pub mod disk;
pub mod docker;
pub mod endpoint;
pub mod exec;
pub mod fields;
pub mod files;
pub mod frames;
pub mod ids;
pub mod image;
pub mod json;
pub mod labels;
pub mod logging;
pub mod logs;
pub mod open_files;
pub mod policy;
pub mod ports;
pub mod problem;
pub mod protocol;
pub mod query;
pub mod rates;
pub mod registry;
mod rfc3339;
pub mod shares;
pub mod sockets;
pub mod spec;
pub mod status;
pub mod store;
pub mod tls;
pub mod usage;
pub mod visible;
