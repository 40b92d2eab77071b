//! Replicas of a host that no service takes over because they break the rules of specs. Its containers are
//! left alone.

use std::collections::BTreeMap;

use shef_common::{
    ids::{NodeName, ReplicaId},
    protocol::Assignment,
};

/// Replicas that are left alone, and the rules that they break.
#[derive(Debug, Default)]
pub struct LeftAlone(BTreeMap<ReplicaId, String>);

impl LeftAlone {
    /// Of what a host `holds`, all that it is not to run and that breaks a rule.
    pub fn of(holds: &[Assignment], is_wanted: impl Fn(&ReplicaId) -> bool) -> Self {
        let strange = holds.iter().filter(|held| !is_wanted(&held.replica));
        Self(strange.filter_map(|held| Some((held.replica.clone(), held.template.violation()?))).collect())
    }

    /// Whether `id` is one of them.
    pub fn has(&self, id: &ReplicaId) -> bool {
        self.0.contains_key(id)
    }

    /// Says so in the log, once a registration.
    pub fn log(&self, node: &NodeName) {
        if let Some(reason) = self.reason() {
            log::warn!(node:%; "{reason}");
        }
    }

    /// The message about the host for readers.
    pub fn reason(&self) -> Option<String> {
        let (id, violation) = self.0.first_key_value()?;
        let others = match self.0.len() - 1 {
            0 => String::new(),
            more => format!(" So is it with {more} more."),
        };
        Some(format!(
            "the host holds {id}, which is not taken over and left alone, as its spec breaks a rule: \
             {violation}; remove its container by hand if nobody needs it.{others}"
        ))
    }
}
