//! The driver of an agent's reporter: carries out what its core wants done.

use shef_agent::{
    engine::EngineFacts,
    reporter::{self, EffectHandler, Event, Identity},
    supervisor::{self, Description},
};
use shef_common::{
    ids::{ClusterId, ReplicaId},
    protocol::{ProbeKey, Push, Report, Understands},
};

use super::{Agent, PushForm, REGISTER_LIMIT_MS, REPORT_LIMIT_MS, Release};
use crate::sim::{
    net::{Body, Caller},
    placement::labels,
    seeded_bug::SeededBug,
    world::{Part, World},
};

/// A reporter's surroundings while it carries out effects.
struct Driver<'a> {
    world: &'a mut World,
    host: usize,
    agent: &'a mut Agent,
}

/// Whether a field is one that agents of the version before do not know.
fn is_newest(field: &str) -> bool {
    field.starts_with("group_add")
}

impl World {
    pub(super) fn feed_reporter(&mut self, host: usize, agent: &mut Agent, event: Event) {
        let effects = agent.reporter.handle(event, self.agent_now(host, agent));
        for effect in effects {
            if self.agent_killed(host, agent) {
                return;
            }
            effect.dispatch(&mut Driver { world: self, host, agent });
        }
        let wake = agent.reporter.next_wake();
        self.set_agent_timer(host, agent, Part::Reporter, wake);
    }

    pub(super) fn register(
        &mut self,
        host: usize,
        agent: &Agent,
        facts: Option<EngineFacts>,
        description: Description,
    ) {
        let identity = Identity {
            node: self.hosts[host].called().clone(),
            uid: self.hosts[host].ledger.uid.clone(),
            boot: agent.boot.clone(),
            address: self.hosts[host].address,
            agent_url: self.hosts[host].agent_url(),
            labels: labels(host),
            policy: self.policy(host),
            probe_key: ProbeKey::random(),
        };
        // One whose engine is away does not know its name.
        let away = || EngineFacts { id: None, ..super::super::engine::facts(host) };
        let mut registration = identity.registration(facts.unwrap_or_else(away), description);
        match self.hosts[host].release {
            Release::First => registration.understands = Understands::default(),
            Release::Before => {
                registration.understands.fields.retain(|field| !is_newest(field));
            }
            Release::This => {}
        }
        self.rules_reports_digest(host, registration.accepted.as_ref(), registration.ledger);
        if self.hosts[host].form != PushForm::Shared {
            registration.ledger = None;
            registration.understands.templates_once = false;
            registration.understands.ledger_digest = false;
        }
        if self.hosts[host].release != Release::This {
            registration.host.engine_id = None;
            (registration.complete, registration.found) = (None, Vec::new());
        }
        self.rules_reports_accepted(host, registration.accepted.as_ref());
        let from = Caller::Reporter { inc: agent.inc, report: None, master: agent.calls };
        self.call_master(host, from, Body::Register(Box::new(registration)), REGISTER_LIMIT_MS);
    }
}

impl EffectHandler for Driver<'_> {
    fn register(&mut self, master: usize, facts: Option<EngineFacts>) {
        self.agent.calls = master;
        self.agent.next_ticket += 1;
        let ticket = self.agent.next_ticket;
        self.agent.describing.insert(ticket, facts);
        self.agent.for_supervisor.message(supervisor::Event::Describe { ticket });
    }

    fn report(&mut self, master: usize, mut report: Box<Report>) {
        self.world.rules_reports_digest(self.host, report.accepted.as_ref(), report.ledger);
        if self.world.hosts[self.host].form != PushForm::Shared {
            report.ledger = None;
        }
        let from = Caller::Reporter { inc: self.agent.inc, report: Some(report.seq), master };
        self.world.call_master(self.host, from, Body::Report(*report), REPORT_LIMIT_MS);
    }

    fn joined(&mut self, cluster: ClusterId) {
        self.agent.for_supervisor.message(supervisor::Event::Joined(cluster));
    }

    fn acknowledged(&mut self, replicas: Vec<ReplicaId>) {
        self.agent.for_supervisor.message(supervisor::Event::Acknowledged(replicas));
    }

    fn master_answered(&mut self) {
        self.world.rules_master_answered(self.host);
        if !self.world.is_seeded(SeededBug::MissesMaster) || !self.world.faults {
            self.agent.for_supervisor.message(supervisor::Event::MasterAnswered);
        }
    }

    fn apply_push(&mut self, push: Push) {
        // One that cannot be read makes an answer that cannot be read.
        let Some(push) = self.world.hosts[self.host].read(push) else {
            return self.agent.for_reporter.answer(Event::PushApplied);
        };
        let event = self.world.pushed(self.host, self.agent, None, push);
        self.agent.for_supervisor.message(event);
    }
}

impl World {
    /// A call of an agent's reporter was answered, or not.
    pub fn reporter_answered(&mut self, host: usize, inc: u64, event: reporter::Event) {
        let Some(mut agent) = self.hosts[host].agent.take_if(|agent| agent.inc == inc) else { return };
        agent.for_reporter.answer(event);
        self.drain_agent(host, agent);
    }
}
