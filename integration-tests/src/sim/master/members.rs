//! The driver in place of the membership's actor.

use std::net::SocketAddrV4;

use shef_common::{
    clock::{DurationMs, MonoMs},
    endpoint::Endpoint,
    ids::NodeName,
    protocol::{Alive, Follows, PortsOutcome, ProbeOutcome},
};
use shef_master::{
    cluster::{ClusterEvent, PhaseView},
    membership::{
        BrakeState, Helper, HostChanged, MembershipEffect, MembershipEffects, MembershipEvent, Standing,
    },
    runner::HigherFence,
};

use super::{Mail, Master, SETTINGS};
use crate::sim::{
    agent::Host,
    net::{Body, Caller, Reply},
    seeded_bug::SeededBug,
    world::{EPOCH_MS, Ev, World},
};

/// A host that has been up, with its agent and its network, for this long is not to be called down.
const UNTROUBLED_MS: u64 = 4_000;
/// For as long after a lost message it may seem to be out of reach: two rounds of probes.
const LOSS_ECHOES_MS: u64 = 2_000;

/// The membership, with all around it.
struct MembershipSide<'a> {
    world: &'a mut World,
    master: &'a mut Master,
}

impl MembershipEffects for MembershipSide<'_> {
    fn goes_on(&mut self) -> bool {
        !self.world.killed(self.master)
    }

    fn changed(&mut self, change: HostChanged) {
        let change = self.world.seed_host_change(change);
        self.world.rules_host_changed(self.master, &change);
        self.master.post(Mail::Cluster(ClusterEvent::HostChanged(change)));
    }

    fn probe(
        &mut self,
        node: NodeName,
        agent_url: String,
        via: Option<Helper>,
        limit: DurationMs,
        round: u64,
    ) {
        let Some(target) = self.world.host_at(&agent_url) else {
            let outcome = ProbeOutcome::Unreachable { why: "nobody has that address".to_owned() };
            let via = via.map(|helper| helper.node);
            let done = Mail::Membership(MembershipEvent::ProbeDone { node, round, via, outcome });
            return self.world.at(limit.0, Ev::MasterAnswer { inc: self.master.inc, mail: done });
        };
        if let Some(outcome) = self.world.takes_for_granted(self.master, &node) {
            let done = MembershipEvent::ProbeDone { node, round, via: None, outcome };
            return self.master.post(Mail::Membership(done));
        }
        let Some(endpoint) = Endpoint::parse(&agent_url) else { return };
        let helper = via.as_ref();
        let helper = helper.and_then(|helper| {
            Some((self.world.host_of(&helper.node)?, Endpoint::parse(&helper.agent_url)?))
        });
        let from = Caller::Prober { inc: self.master.inc, node, round, via: via.map(|helper| helper.node) };
        match helper {
            None => self.world.call_agent(target, &endpoint, from, Body::Probe, limit.0),
            Some((helper, at)) => {
                let body = Body::ProbeThrough { target, endpoint, limit_ms: limit.0 * 3 / 4 };
                self.world.call_agent(helper, &at, from, body, limit.0);
            }
        }
    }

    fn probe_ports(
        &mut self,
        node: NodeName,
        _: Vec<SocketAddrV4>,
        via: Option<Helper>,
        _: DurationMs,
        round: u64,
    ) {
        // Model engines publish no ports, so nobody is asked about any.
        let outcome = PortsOutcome::NotProbed { why: "a model engine publishes no ports".to_owned() };
        let probed = MembershipEvent::PortsProbed { node, round, by_us: via.is_none(), outcome };
        self.master.post(Mail::Membership(probed));
    }

    fn follows(&mut self, node: NodeName, follows: Follows) {
        self.master.post(Mail::Cluster(ClusterEvent::StaleFence(node, HigherFence::from(follows))));
    }

    fn interval(&mut self, interval: DurationMs) {
        self.master.post(Mail::Cluster(ClusterEvent::Interval(interval)));
    }

    fn brake(&mut self, state: Option<BrakeState>) {
        self.world.note(|| format!("brake: {state:?}"));
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.world.set_timer(self.master, at, Mail::Membership(MembershipEvent::Tick));
    }
}

impl World {
    pub(super) fn membership_effects(&mut self, master: &mut Master, effects: Vec<MembershipEffect>) {
        MembershipSide { world: self, master }.carry_out(effects);
    }

    /// A seeded bug: a probe that could not be made counts as unanswered.
    pub(in crate::sim) fn seed_probe_outcome(&self, outcome: ProbeOutcome) -> ProbeOutcome {
        match outcome {
            ProbeOutcome::NotProbed { why } if self.is_seeded(SeededBug::NoSocketIsSilence) => {
                ProbeOutcome::Unreachable { why }
            }
            outcome => outcome,
        }
    }

    /// A seeded bug: nobody hears whom an agent follows.
    pub(in crate::sim) fn seed_alive(&self, mut alive: Alive) -> Alive {
        alive.follows.take_if(|_| self.is_seeded(SeededBug::KeepsLeaderSecret));
        alive
    }

    /// A seeded bug: what a host that is not suspected has to say to a probe is known before.
    fn takes_for_granted(&self, master: &Master, node: &NodeName) -> Option<ProbeOutcome> {
        let host = &self.hosts[self.host_of(node).filter(|_| self.is_seeded(SeededBug::AsksNobody))?];
        let agent = host.agent.as_ref().filter(|_| master.ready_since.contains_key(node))?;
        Some(ProbeOutcome::Answered(agent.alive(host, self.now)))
    }

    /// Seeded bugs: who does not report, or is suspected, is dead; the brake holds nobody.
    fn seed_host_change(&self, mut change: HostChanged) -> HostChanged {
        change.condition.held &= !self.is_seeded(SeededBug::IgnoresBrake);
        let seeded = self.is_seeded(SeededBug::OneLostReport) || self.is_seeded(SeededBug::SuspectIsDown);
        if seeded && change.condition.standing == Standing::Suspect {
            change.condition.standing = Standing::Down;
        }
        change
    }

    /// No host is called down that reported a moment ago, or that is well and within reach of some host.
    fn rules_host_changed(&mut self, master: &Master, change: &HostChanged) {
        // Hosts follow another master: nobody acts on what this one makes of their silence.
        if matches!(master.phase, PhaseView::Deposed(_)) {
            return;
        }
        // An operator's word on a host that is down already says nothing of whether it is.
        let was_down = master
            .cluster
            .members()
            .conditions()
            .get(&change.node)
            .is_some_and(|before| before.standing == Standing::Down);
        let is_called_down = change.condition.standing == Standing::Down && !was_down;
        let Some(called_down) = self.host_of(&change.node).filter(|_| is_called_down) else { return };
        self.rules_brake(master, change);
        let silent = master.last_reports.get(&change.node).map(|at| self.now - at);
        if silent.is_some_and(|silent| silent < SETTINGS.suspect_after.0 + SETTINGS.probe_window.0) {
            return self.violated(format!(
                "host {} is called down {silent:?} ms after it was heard of",
                change.node
            ));
        }
        let well = |host: &Host| {
            host.agent.is_some()
                && !host.cut
                && self.now - host.link_changed.max(host.agent_since) > UNTROUBLED_MS
                && (host.lost_at == 0 || self.now - host.lost_at > LOSS_ECHOES_MS)
        };
        let host = &self.hosts[called_down];
        // Who is down, for all that is known, is asked for nothing until it calls.
        // One that has just joined, or come back, could not be asked in the round of probes that is over.
        let is_known = |host: &Host| {
            master.hosts_shown.get(&host.node).is_some_and(|shown| {
                let joined = (EPOCH_MS + self.now).saturating_sub(shown.joined.0) > SETTINGS.probe_window.0;
                let back = master.ready_since.get(&host.node).map(|since| self.now.saturating_sub(*since));
                let has_just_come = back.is_some_and(|back| back <= SETTINGS.probe_window.0);
                joined && !has_just_come && !matches!(shown.state, Standing::Down | Standing::Awaited)
            })
        };
        let others = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(n, host)| *n != called_down && is_known(host))
            .map(|(_, host)| host);
        let reached =
            !host.cut_from_master || others.clone().any(|other| well(other) && !other.cut_from_master);
        // One that has lost its data directory is another host until it is let in.
        // And so is one that has another address.
        let members = master.cluster.members();
        let is_itself = members.uid(&host.node) == Some(&host.ledger.uid)
            && members.address(&host.node) == Some((host.address, 11044).into());
        if well(host) && reached && is_itself && self.profile.late == 0 {
            self.violated(format!(
                "host {} is called down, though its agent runs and somebody reaches it",
                change.node
            ));
        }
    }
}

/// What an answer says of the probed host.
pub fn probe_outcome(reply: Reply) -> ProbeOutcome {
    match reply {
        Reply::Probe(outcome) => outcome,
        Reply::NoSocket => ProbeOutcome::NotProbed { why: "no socket is left".to_owned() },
        Reply::Refused(why) => ProbeOutcome::AgentSilent { why },
        other @ (Reply::Push(_)
        | Reply::Registered(_)
        | Reply::Ack(_)
        | Reply::Certificate(_)
        | Reply::Later(_)
        | Reply::None) => ProbeOutcome::Unreachable { why: format!("{other:?}") },
    }
}
