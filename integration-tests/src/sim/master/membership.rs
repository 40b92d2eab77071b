//! The driver in place of the membership actor, and the probes that it sends.

use shef_common::{
    ids::BootId,
    protocol::{Alive, ProbeOutcome},
};
use shef_master::membership::{Effect, Event, HostChanged, HostCondition, Probe, Standing};

use super::{CLUSTER, MEMBERSHIP, Mail, Master};
use crate::sim::{
    agent::Host,
    plant::Plant,
    world::{Ev, World},
};

/// A host that has been up, with its agent and its network, for this long is not to be called down.
const UNTROUBLED_MS: u64 = 4_000;

impl World {
    pub(super) fn membership_mail(&mut self, master: &mut Master, mail: Mail) {
        if self.killed(master) {
            return;
        }
        let event = match mail {
            Mail::Membership(event) | Mail::Probed(event) => event,
            Mail::Wake => Event::Wake,
            other => return debug_assert!(false, "not for the membership: {other:?}"),
        };
        let now = self.master_now(master);
        for effect in master.membership.handle(event, now) {
            match effect {
                Effect::Changed(mut change) => {
                    self.plant_a_corpse(&mut change);
                    self.rules_called(&change);
                    master.post(CLUSTER, Mail::HostChanged(change));
                }
                Effect::Probe(probe) => self.probe(master, probe),
                Effect::Interval(interval) => master.post(CLUSTER, Mail::Interval(interval)),
                Effect::Brake(state) => self.note(|| format!("brake: {state:?}")),
                Effect::WakeAt(at) => {
                    let mut timer = master.membership_timer.take();
                    self.set_timer(master, MEMBERSHIP, &mut timer, at);
                    master.membership_timer = timer;
                }
            }
        }
    }

    /// Planted bugs: who is suspected, or has missed a report, counts as dead.
    fn plant_a_corpse(&self, change: &mut HostChanged) {
        let planted = self.planted(Plant::OneLostReport) || self.planted(Plant::SuspectIsDown);
        if planted && change.condition.standing == Standing::Suspect {
            change.condition = HostCondition { standing: Standing::Down, ..change.condition };
        }
    }

    /// Nobody calls a host down that has been well for a while, and within somebody's reach.
    fn rules_called(&mut self, change: &HostChanged) {
        let Some(called) = self.host_of(&change.node).filter(|_| change.condition.standing == Standing::Down) else { return };
        let well =
            |host: &Host| host.agent.is_some() && !host.cut && self.now - host.link_changed.max(host.agent_since) > UNTROUBLED_MS;
        let others = || self.hosts.iter().enumerate().filter(|(n, _)| *n != called).map(|(_, host)| host);
        let host = &self.hosts[called];
        let reached = !host.cut_from_master || others().any(|other| well(other) && !other.cut_from_master);
        if well(host) && reached && self.profile.late == 0 {
            self.violated(format!("host {} is called down, though its agent runs and somebody reaches it", change.node));
        }
    }

    /// What a probe brings, and when: decided by what is true at its end.
    fn probe(&mut self, master: &Master, probe: Probe) {
        let Probe { node, round, via, limit, .. } = probe;
        let lost = self.fault(self.profile.lose) || self.fault(self.profile.lose) || self.fault(self.profile.late);
        let helper = via.as_ref().map(|(helper, _)| self.host_of(helper));
        let reached = match helper {
            None => self.host_of(&node).is_some_and(|target| !self.hosts[target].cut_from_master),
            Some(helper) => helper
                .map(|helper| &self.hosts[helper])
                .is_some_and(|helper| !helper.is_cut_from_master() && helper.agent.is_some()),
        };
        let target = self.host_of(&node).map(|target| &self.hosts[target]);
        let outcome = match target {
            Some(target) if reached && !lost && !target.cut => match &target.agent {
                Some(_) => ProbeOutcome::Answered(Alive {
                    node: node.clone(),
                    uid: target.ledger.uid.clone(),
                    boot: BootId::parse("0000000000000001").unwrap_or_else(|error| panic!("{error}")),
                }),
                None => ProbeOutcome::AgentSilent { why: "connection refused".to_owned() },
            },
            Some(_) | None => ProbeOutcome::Unreachable { why: "no connection".to_owned() },
        };
        let unreached = matches!(outcome, ProbeOutcome::Unreachable { .. });
        let delay = if unreached { limit.0 } else { self.rng.u64(1..=8) };
        self.note(|| format!("probe of {node} through {:?}: {}", via.as_ref().map(|(helper, _)| helper), !unreached));
        let mail = Mail::Probed(Event::ProbeDone { node, round, via: via.map(|(helper, _)| helper), outcome });
        self.at(delay, Ev::Master { inc: master.inc, actor: MEMBERSHIP, mail });
    }
}
