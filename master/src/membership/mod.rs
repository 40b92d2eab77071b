//! Which hosts are there: suspicion, probes, the brake, and what operators want.

mod condition;
mod messages;

pub use condition::{HostCondition, Intent, Standing};
pub use messages::{HostChanged, HostForgotten};
