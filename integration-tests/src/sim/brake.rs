//! Hosts that are cut off together: none of them is given up.

use shef_master::membership::{HostChanged, Standing};

use super::{
    agent::Host,
    master::{Master, SETTINGS},
    world::World,
};

/// A host that was cut off so long ago cannot have answered when it was asked for a sign of life.
const ASKED_MS: u64 = 600;
/// Fewer hosts than this never set the brake.
const AT_LEAST: usize = 3;

impl World {
    /// A host is called down. It counts as lost only if few others are cut off that were not down before.
    pub(super) fn rules_brake(&mut self, master: &Master, change: &HostChanged) {
        if !change.condition.is_lost() {
            return;
        }
        // One that was let in, or came back, since the others were asked was not asked.
        let was_known = |host: &Host| {
            let since = master.ready_since.get(&host.node);
            let state = master.hosts_shown.get(&host.node).map(|shown| shown.state);
            since.is_none_or(|since| *since + ASKED_MS <= self.now)
                && !matches!(state, None | Some(Standing::Down | Standing::Awaited))
        };
        let is_cut = |host: &&Host| {
            let is_gone = host.cut && host.link_changed + ASKED_MS <= self.now && was_known(host);
            is_gone || host.node == change.node
        };
        let (cut, known) = (self.hosts.iter().filter(is_cut).count(), master.hosts_shown.len());
        if cut >= AT_LEAST && cut * 100 > known * SETTINGS.brake_share_percent as usize {
            let node = &change.node;
            self.violated(format!(
                "{node} counts as lost, while {cut} of {known} hosts are cut off together"
            ));
        }
    }
}
