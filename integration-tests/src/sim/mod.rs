//! The simulator: the real cores of a master and its agents on one thread, in
//! virtual time, over a fake store, network and engines, with seeded faults.
//!
//! The driver takes the place of the actors and of everything outside: it hands
//! time and randomness in and carries effects out, after latencies and through
//! faults that the seed chooses. It decides nothing that a core decides.
//! `docs/simulator.md` says what is checked, what is not modelled, and how to
//! replay a failure.
//!
//! - [`profile`]: which faults there are and how often; [`seeded_bug`]: bugs on purpose
//! - [`world`]: the queue of what is to come, and the run from start to verdict
//! - [`net`]: calls between hosts; [`identities`]: who may make them; [`engine`]: a container engine
//! - [`master`], [`agent`]: the drivers in place of the actors
//! - [`user`], [`operator`], [`chaos`]: who asks for things, and who breaks them; [`lost_host`]: two masters
//!   on two stores
//! - [`rules`], [`brake`], [`disconnect`]: what must hold after every step; [`converged`]: what must hold in
//!   the end

mod agent;
mod brake;
mod chaos;
mod converged;
mod disconnect;
mod engine;
mod identities;
mod lost_host;
mod master;
mod net;
mod operator;
mod placement;
mod profile;
mod rollouts;
mod rules;
mod run;
mod seeded_bug;
mod user;
mod world;

pub use profile::Profile;
pub use run::{Failure, check_seeds, find, run_hosts, run_seed};
pub use seeded_bug::SeededBug;
