//! What carries out the membership's effects: one method an effect.

use std::net::SocketAddrV4;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::NodeName,
    protocol::Follows,
};

use super::{
    BrakeState, HostChanged,
    events::{Effect, Helper},
};

/// Carries out the effects of the membership. The actor implements it with
/// messages and calls, the simulator with its queue.
pub trait MembershipEffects {
    /// Whether the next effect is to be carried out; the simulator ends a process here.
    fn goes_on(&mut self) -> bool {
        true
    }
    /// Tells the cluster that a host is in another condition.
    fn changed(&mut self, change: HostChanged);
    /// Probes an agent. The outcome comes back as `ProbeDone`.
    fn probe(
        &mut self,
        node: NodeName,
        agent_url: String,
        via: Option<Helper>,
        limit: DurationMs,
        round: u64,
    );
    /// Tries the published ports of a host. The outcome comes back as `PortsProbed`.
    fn probe_ports(
        &mut self,
        node: NodeName,
        addresses: Vec<SocketAddrV4>,
        via: Option<Helper>,
        limit: DurationMs,
        round: u64,
    );
    /// Tells the cluster whom an agent follows that answers a probe.
    fn follows(&mut self, node: NodeName, follows: Follows);
    /// Tells the cluster how often hosts report from now on.
    fn interval(&mut self, interval: DurationMs);
    /// Shows the brake to readers; `None`: it is not on.
    fn brake(&mut self, state: Option<BrakeState>);
    /// Sends `Tick` at that time, or earlier.
    fn wake_at(&mut self, at: MonoMs);

    /// Carries out `effects` in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if !self.goes_on() {
                return;
            }
            match effect {
                Effect::Changed(change) => self.changed(change),
                Effect::Probe { node, agent_url, via, limit, round } => {
                    self.probe(node, agent_url, via, limit, round);
                }
                Effect::ProbePorts { node, addresses, via, limit, round } => {
                    self.probe_ports(node, addresses, via, limit, round);
                }
                Effect::Follows(node, follows) => self.follows(node, follows),
                Effect::Interval(interval) => self.interval(interval),
                Effect::Brake(state) => self.brake(state),
                Effect::WakeAt(at) => self.wake_at(at),
            }
        }
    }
}
