//! The driver in place of an agent's reporter: what it hears, and its calls to the master.

use std::net::Ipv4Addr;

use shef_agent::{
    engine::EngineFacts,
    reporter::{self, Failure},
};
use shef_common::protocol::{HostInfo, Registration};

use super::{Agent, AgentMail, REGISTER_LIMIT_MS, REPORT_LIMIT_MS};
use crate::sim::{
    net::{Body, Caller, Reply},
    placement::{MEMORY, labels},
    plant::Plant,
    world::{Part, World},
};

impl World {
    pub(super) fn reporter_mail(&mut self, host: usize, agent: &mut Agent, mail: AgentMail) {
        let event = match mail {
            AgentMail::Observed(observed) => reporter::Event::Observed(observed),
            AgentMail::Answered { report: None, reply } => reporter::Event::Registered(match reply {
                Reply::Registered(registered) => Ok(registered),
                Reply::Refused(_) => Err(Failure::Refused),
                _ => Err(Failure::Unreachable),
            }),
            AgentMail::Answered { report: Some(seq), reply } => {
                if self.planted(Plant::DeletesOnAbsence) && matches!(&reply, Reply::Ack(ack) if ack.want_registration) {
                    self.delete_all(host);
                }
                let outcome = match reply {
                    Reply::Ack(ack) => Ok(ack),
                    Reply::Refused(_) => Err(Failure::Refused),
                    _ => Err(Failure::Unreachable),
                };
                reporter::Event::Reported { seq, outcome }
            }
            AgentMail::Obeyed => reporter::Event::Obeyed,
            AgentMail::Tick => reporter::Event::Tick,
            other => return debug_assert!(false, "not for a reporter: {other:?}"),
        };
        self.feed_reporter(host, agent, event);
    }

    pub(super) fn feed_reporter(&mut self, host: usize, agent: &mut Agent, event: reporter::Event) {
        let effects = agent.reporter.handle(event, self.agent_now(host, agent));
        for effect in effects {
            if self.agent_killed(host, agent) {
                return;
            }
            match effect {
                reporter::Effect::Register { facts, .. } => agent.post(Part::Supervisor, AgentMail::Describe { facts }),
                reporter::Effect::Report { report, .. } => {
                    let from = Caller::Reporter { inc: agent.inc, report: Some(report.seq) };
                    self.call(host, from, Body::Report(*report), REPORT_LIMIT_MS);
                }
                reporter::Effect::Joined(cluster) => agent.post(Part::Supervisor, AgentMail::Joined(cluster)),
                reporter::Effect::Heard => agent.post(Part::Supervisor, AgentMail::MasterHeard),
                reporter::Effect::Obey(push) => agent.post(Part::Supervisor, AgentMail::Obey(*push)),
                reporter::Effect::Acknowledged(ids) => agent.post(Part::Supervisor, AgentMail::Acknowledged(ids)),
            }
        }
        let wake = agent.reporter.next_wake();
        self.set_agent_timer(host, agent, Part::Reporter, wake);
    }

    pub(super) fn register(&mut self, host: usize, agent: &Agent, facts: Option<EngineFacts>) {
        let facts = facts.unwrap_or_default();
        let ledger = agent.supervisor.ledger();
        let address = Ipv4Addr::new(10, 0, 0, u8::try_from(host + 1).unwrap_or(255));
        let registration = Registration {
            node: self.hosts[host].node.clone(),
            uid: ledger.uid.clone(),
            boot: agent.boot.clone(),
            cluster: ledger.cluster.clone(),
            accepted: ledger.accepted.clone(),
            holds: agent.supervisor.holds().cloned().collect(),
            host: HostInfo {
                address,
                agent_url: format!("http://{address}:11044"),
                labels: labels(host),
                cpus: facts.cpus,
                memory_bytes: MEMORY,
                engine_version: facts.version,
                engine_api: facts.api,
                os: facts.os,
                arch: facts.arch,
                shef_version: "sim".to_owned(),
            },
        };
        self.rules_tells(host, registration.accepted.as_ref());
        let from = Caller::Reporter { inc: agent.inc, report: None };
        self.call(host, from, Body::Register(registration), REGISTER_LIMIT_MS);
    }
}
