//! Calls between hosts: lost, late, doubled, reordered, or to nobody.

use std::{net::SocketAddr, rc::Rc};

use shef_agent::reporter::{self, Failure};
use shef_common::{
    endpoint::Endpoint,
    ids::{NodeName, NodeUid, Revision},
    protocol::{Accepted, ProbeOutcome, Push, PushRefused, Registered, Registration, Report, ReportAck},
};
use shef_master::{
    cluster::{AdmissionNumber, ClusterEvent, FirstLifeAnswer},
    membership::MembershipEvent,
    runner::{PushFailure, RunnerEvent},
};

use super::{
    identities::{Certificate, Connection, Joins},
    master::{Mail, probe_outcome},
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// What is asked.
#[derive(Debug)]
pub enum Body {
    /// Master to agent.
    Push(Push),
    /// Agent to master.
    Register(Box<Registration>),
    /// Agent to master.
    Report(Report),
    /// Anybody to an agent: is it up?
    Probe,
    /// Agent to master: let me in.
    Join(Joins),
    /// Agent to master: another certificate for my key.
    Renew {
        /// The host.
        uid: NodeUid,
        /// The digest of its key.
        key: String,
    },
    /// Master to agent: is another one up?
    ProbeThrough {
        /// The other one's host.
        target: usize,
        /// Where it listens, and as whom.
        endpoint: Endpoint,
        /// How long that may take.
        limit_ms: u64,
    },
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// To a push.
    Push(Result<Accepted, PushRefused>),
    /// To a registration.
    Registered(Registered),
    /// To a report.
    Ack(ReportAck),
    /// To a probe.
    Probe(ProbeOutcome),
    /// To a host that joins, or wants another certificate.
    Certificate(Certificate),
    /// A status of 4xx: the master does not want it.
    Refused(String),
    /// A status of 5xx: come back later.
    Later(String),
    /// Whoever called has no socket left: nothing was asked.
    NoSocket,
    /// Nothing.
    None,
}

/// Who waits for an answer.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The master's membership.
    Prober {
        /// The run of the master.
        inc: u64,
        /// Of which host.
        node: NodeName,
        /// The round.
        round: u64,
        /// Through which other.
        via: Option<NodeName>,
    },
    /// The master's cluster, of the first life of a host.
    FirstLife {
        /// The run of the master.
        inc: u64,
        /// For which admission.
        number: AdmissionNumber,
        /// Where the host was known so far.
        address: SocketAddr,
    },
    /// An agent that probes another one for the master.
    Helper {
        /// Its host.
        helper: usize,
        /// The master's call.
        asked: u64,
    },
    /// A runner of the master.
    Runner {
        /// The run of the master.
        inc: u64,
        /// The actor.
        actor: u64,
        /// Of which push.
        revision: Revision,
    },
    /// An agent's reporter.
    Reporter {
        /// The run of the agent.
        inc: u64,
        /// The report; `None`: it registers.
        report: Option<u64>,
        /// The one of its masters that it calls.
        master: usize,
    },
    /// A host that has to join before its agent begins.
    Joiner,
    /// An agent that renews its certificate.
    Renewer {
        /// The run of the agent.
        inc: u64,
    },
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// The host at the agent's end.
    pub host: usize,
    /// Who waits.
    pub from: Caller,
}

impl Call {
    /// The run of the master that calls.
    const fn master(&self) -> Option<u64> {
        match self.from {
            Caller::Prober { inc, .. } | Caller::FirstLife { inc, .. } | Caller::Runner { inc, .. } => {
                Some(inc)
            }
            Caller::Helper { .. } | Caller::Reporter { .. } | Caller::Joiner | Caller::Renewer { .. } => None,
        }
    }

    /// The host that probes for the master.
    const fn helper(&self) -> Option<usize> {
        match self.from {
            Caller::Helper { helper, .. } => Some(helper),
            Caller::Prober { .. }
            | Caller::FirstLife { .. }
            | Caller::Runner { .. }
            | Caller::Reporter { .. }
            | Caller::Joiner
            | Caller::Renewer { .. } => None,
        }
    }
}

impl World {
    /// Sends `body` to the agent that `endpoint` names, on `host`; gives up after `limit_ms`.
    pub fn call_agent(&mut self, host: usize, endpoint: &Endpoint, from: Caller, body: Body, limit_ms: u64) {
        let connection = self.connection_to_agent(&from, endpoint);
        self.call(host, from, connection, body, limit_ms);
    }

    /// Sends `body` from `host` to a master; gives up after `limit_ms`.
    pub fn call_master(&mut self, host: usize, from: Caller, body: Body, limit_ms: u64) {
        let connection = self.connection_to_master(host, &from);
        self.call(host, from, connection, body, limit_ms);
    }

    fn call(&mut self, host: usize, from: Caller, connection: Connection, body: Body, limit_ms: u64) {
        let call = self.fresh();
        self.tls.connections.insert(call, connection);
        let can_call = self.has_sockets(&from, host);
        self.calls.insert(call, Call { host, from });
        if !can_call {
            self.note(|| format!("there is no socket for call {call} of host {host}"));
            return self.at(0, Ev::Answer { call, reply: Reply::NoSocket });
        }
        self.at(limit_ms, Ev::CallLimit { call });
        let body = Rc::new(body);
        if self.fault(self.profile.lose) {
            self.note(|| format!("call {call} of host {host} is lost"));
            self.loses(call);
        } else {
            let delay = self.latency();
            self.at(delay, Ev::Request { call, body: body.clone() });
        }
        if self.fault(self.profile.double) {
            let delay = self.latency() + self.rng.u64(0..2_000);
            self.at(delay, Ev::Request { call, body });
        }
    }

    /// Whether the caller has a socket for a call; a host that has none helps nobody for a moment.
    fn has_sockets(&mut self, from: &Caller, called: usize) -> bool {
        let own = match from {
            Caller::Prober { .. } | Caller::FirstLife { .. } | Caller::Runner { .. } => {
                return !self.master_without_sockets;
            }
            Caller::Helper { helper, .. } => *helper,
            Caller::Reporter { .. } | Caller::Joiner | Caller::Renewer { .. } => called,
        };
        let host = &mut self.hosts[own];
        if host.without_sockets {
            host.lost_at = self.now;
        }
        !host.without_sockets
    }

    /// A message of `call` is lost: for a moment nobody can be blamed for not reaching who was called, or who
    /// helps.
    fn loses(&mut self, call: u64) {
        let Some(open) = self.calls.get(&call) else { return };
        let (host, helper) = (open.host, open.helper());
        for host in helper.into_iter().chain([host]) {
            self.hosts[host].lost_at = self.now;
        }
    }

    /// Whether nothing comes through to `host`, from the master or from `helper`.
    fn is_cut(&self, host: usize, helper: Option<usize>) -> bool {
        match helper {
            None => self.hosts[host].is_cut_from_master(),
            Some(helper) => self.hosts[host].cut || self.hosts[helper].cut,
        }
    }

    fn latency(&mut self) -> u64 {
        if self.fault(self.profile.late) { self.rng.u64(1_000..20_000) } else { self.rng.u64(0..=8) }
    }

    /// A request has come through, if it has.
    pub fn request_arrives(&mut self, call: u64, body: &Rc<Body>) {
        // A request that comes twice or too late is served all the same; only
        // its answer finds nobody.
        let host = match (self.calls.get(&call), &**body) {
            (Some(call), _) => Some(call.host),
            (
                None,
                Body::Push(_) | Body::Probe | Body::ProbeThrough { .. } | Body::Join(_) | Body::Renew { .. },
            ) => None,
            (None, Body::Register(registration)) => self.host_of(&registration.node),
            (None, Body::Report(report)) => self.host_of(&report.node),
        };
        let host = host.or_else(|| self.late.get(&call).copied());
        let Some(host) = host else { return };
        self.late.insert(call, host);
        let open = self.calls.get(&call);
        let helper = open.and_then(Call::helper);
        if self.is_cut(host, helper) || self.is_of_silent_host(open.and_then(Call::master)) {
            return;
        }
        let to_master =
            matches!(**body, Body::Register(_) | Body::Report(_) | Body::Join(_) | Body::Renew { .. });
        if self.master_without_sockets && to_master {
            return self.note(|| format!("call {call} is not accepted by a master without sockets"));
        }
        if let Some(why) = self.is_not_served(call, host, to_master) {
            return self.answer(call, why);
        }
        match &**body {
            Body::Probe => {
                let agent = self.hosts[host].agent.as_ref();
                let outcome = match agent.map(|agent| agent.alive(&self.hosts[host], self.now)) {
                    Some(alive) => ProbeOutcome::Answered(self.seed_alive(alive)),
                    None => ProbeOutcome::AgentSilent { why: "refused".to_owned() },
                };
                self.answer(call, Reply::Probe(outcome));
            }
            Body::ProbeThrough { target, endpoint, limit_ms } => {
                if self.hosts[host].agent.is_some() {
                    let from = Caller::Helper { helper: host, asked: call };
                    self.call_agent(*target, endpoint, from, Body::Probe, *limit_ms);
                } else {
                    self.answer(call, Reply::None);
                }
            }
            Body::Push(push) => self.push_arrives(host, call, push.clone()),
            Body::Register(registration) => {
                self.registration_arrives(call, Some(host), registration.clone());
            }
            Body::Join(joins) => self.join_arrives(call, joins.clone()),
            Body::Renew { uid, key } => self.renewal_arrives(call, uid.clone(), key.clone()),
            Body::Report(report) => {
                self.note(|| report_word(report));
                self.report_arrives(call, Some(host), Box::new(report.clone()));
            }
        }
    }

    /// The first of an agent's masters is the one that runs for longer; the second one is there while two
    /// run.
    pub(super) fn called_master(&self, call: u64) -> Option<u64> {
        let second =
            matches!(self.calls.get(&call), Some(Call { from: Caller::Reporter { master: 1, .. }, .. }));
        if let Some(lost) = &self.lost {
            let called = if second { self.master.as_deref() } else { lost.reachable_master() };
            return called.map(|master| master.inc);
        }
        let (newest, rival) = (self.master.as_ref(), self.rival.as_ref());
        let called = if second { newest.filter(|_| rival.is_some()) } else { rival.or(newest) };
        called.map(|master| master.inc)
    }

    /// Sends an answer back.
    pub fn answer(&mut self, call: u64, reply: Reply) {
        if self.fault(self.profile.lose) {
            self.loses(call);
            return self.note(|| format!("the answer to call {call} is lost"));
        }
        if let Reply::Refused(why) | Reply::Later(why) = &reply {
            self.note(|| format!("call {call} is answered: {why}"));
        }
        let delay = self.latency();
        self.at(delay, Ev::Answer { call, reply });
    }

    /// An answer has come through, if it has; later ones find nobody.
    pub fn answer_arrives(&mut self, call: u64, reply: Reply) {
        let Some(open) = self.calls.get(&call) else { return };
        let host = open.host;
        let is_cut = self.is_cut(host, open.helper()) || self.is_of_silent_host(open.master());
        if is_cut && !matches!(reply, Reply::None | Reply::NoSocket) {
            return;
        }
        let Some(Call { from, .. }) = self.calls.remove(&call) else { return };
        self.late.insert(call, host);
        match from {
            Caller::Prober { inc, node, round, via } => {
                let outcome = self.seed_probe_outcome(probe_outcome(reply));
                self.note(|| format!("probe of {node} through {via:?}: {outcome:?}"));
                let event = MembershipEvent::ProbeDone { node, round, via, outcome };
                self.master_answer(inc, Mail::Membership(event));
            }
            Caller::FirstLife { inc, number, address } => {
                let answer = FirstLifeAnswer { asked: address, outcome: probe_outcome(reply) };
                self.note(|| format!("the first one at {address}: {:?}", answer.outcome));
                let event = ClusterEvent::FirstLifeAnswered { number, answer };
                self.master_answer(inc, Mail::Cluster(event));
            }
            Caller::Helper { asked, .. } => self.answer(asked, Reply::Probe(probe_outcome(reply))),
            Caller::Runner { inc, actor, revision } => {
                let outcome = match reply {
                    Reply::Push(Ok(accepted)) => Ok(accepted),
                    Reply::Push(Err(refused)) => Err(PushFailure::Refused(refused)),
                    other => Err(PushFailure::Unknown(format!("{other:?}"))),
                };
                self.note(|| format!("push {revision}: {outcome:?}"));
                self.master_answer(inc, Mail::Runner(actor, RunnerEvent::PushDone { revision, outcome }));
            }
            Caller::Joiner => self.join_answered(host, reply),
            Caller::Renewer { inc } => self.renewal_answered(host, inc, reply),
            Caller::Reporter { inc, report, .. } => {
                self.is_forgotten_host(host, &reply);
                let event = self.reporter_event(host, report, reply);
                self.reporter_answered(host, inc, event);
            }
        }
    }
}

impl World {
    /// What an agent's client makes of the answer to a registration, or to a report.
    fn reporter_event(&mut self, host: usize, report: Option<u64>, reply: Reply) -> reporter::Event {
        let failure = match reply {
            Reply::Refused(_) => Failure::Refused,
            Reply::Push(_)
            | Reply::Registered(_)
            | Reply::Ack(_)
            | Reply::Probe(_)
            | Reply::Certificate(_)
            | Reply::Later(_)
            | Reply::NoSocket
            | Reply::None => Failure::Unreachable,
        };
        match &reply {
            Reply::Registered(_) => self.hosts[host].let_in_since = Some(self.now),
            Reply::Ack(ack) if ack.want_registration => self.hosts[host].let_in_since = None,
            Reply::Ack(_) => _ = self.hosts[host].let_in_since.get_or_insert(self.now),
            Reply::Push(_)
            | Reply::Probe(_)
            | Reply::Certificate(_)
            | Reply::Refused(_)
            | Reply::Later(_)
            | Reply::NoSocket
            | Reply::None => {}
        }
        match (report, reply) {
            (None, Reply::Registered(registered)) => reporter::Event::Registered(Ok(registered)),
            (None, _) => reporter::Event::Registered(Err(failure)),
            (Some(seq), Reply::Ack(ack)) => {
                if self.is_seeded(SeededBug::DeletesOnAbsence) && ack.want_registration {
                    self.delete_all(host);
                }
                reporter::Event::Reported { seq, outcome: Ok(ack) }
            }
            (Some(seq), _) => reporter::Event::Reported { seq, outcome: Err(failure) },
        }
    }
}

fn report_word(report: &Report) -> String {
    let statuses: Vec<String> =
        report.statuses.iter().map(|status| format!("{}:{:?}", status.replica, status.state)).collect();
    let full = if report.full { ", full" } else { "" };
    let accepted = report.accepted.as_ref().map(|accepted| (accepted.fence.epoch.0, accepted.revision.0));
    format!("{} reports {}{full}, accepted {accepted:?} [{}]", report.node, report.seq, statuses.join(" "))
}
