//! The brake: when a large share of the hosts is lost together, the fault is
//! probably ours, and replacing everything on the rest would do harm.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::NodeName,
};

use super::{
    Standing,
    events::{BrakeState, Effect},
    host::Host,
    timing::Timing,
};

/// With fewer hosts lost it is never put on.
const LEAST: usize = 3;

/// Whether replacement is on hold.
#[derive(Debug, Default)]
pub(super) struct Brake {
    on: Option<BrakeState>,
    /// What readers were told last.
    told: Option<BrakeState>,
}

impl Brake {
    /// `name` is about to go down. Returns whether its replicas are not to be replaced for now.
    pub fn on_loss(&mut self, hosts: &mut BTreeMap<NodeName, Host>, name: &NodeName, timing: &Timing, now: MonoMs) -> bool {
        if self.on.is_some() {
            return true;
        }
        let together = together(timing);
        let recently = |host: &Host| host.down_at.is_some_and(|at| now - at <= together);
        let lost = hosts.iter().filter(|(other, host)| *other == name || recently(host) || host.is_in_the_dark()).count();
        if !too_many(lost, hosts.len(), timing) {
            return false;
        }
        let until = now + timing.brake_release_after;
        self.on = Some(BrakeState { since: now, until, lost, of: hosts.len() });
        hosts.values_mut().filter(|host| recently(host)).for_each(|host| host.held = true);
        true
    }

    /// Releases the brake where it is no longer needed. Returns what readers are to be told, if that is new.
    pub fn look(&mut self, hosts: &mut BTreeMap<NodeName, Host>, timing: &Timing, now: MonoMs) -> Option<Effect> {
        if let Some(on) = &self.on {
            // Those that nothing answers for may be about to go down: they count until they are heard of.
            let lost =
                hosts.values().filter(|host| host.standing == Standing::Down && host.held || host.is_in_the_dark()).count();
            if now >= on.until || !too_many(lost, hosts.len(), timing) {
                self.release(hosts);
            }
        }
        (self.on != self.told).then(|| {
            self.told.clone_from(&self.on);
            Effect::Brake(self.on.clone())
        })
    }

    /// Replacement goes on.
    pub fn release(&mut self, hosts: &mut BTreeMap<NodeName, Host>) {
        self.on = None;
        hosts.values_mut().for_each(|host| host.held = false);
    }

    /// When it is released by itself.
    pub fn wake_at(&self) -> Option<MonoMs> {
        self.on.as_ref().map(|on| on.until)
    }
}

/// Losses within this time of each other are one event.
fn together(timing: &Timing) -> DurationMs {
    DurationMs(timing.suspect_after().0 + timing.window(DurationMs(0)).0)
}

fn too_many(lost: usize, of: usize, timing: &Timing) -> bool {
    lost >= LEAST && lost * 100 > of * timing.brake_share_percent as usize
}
