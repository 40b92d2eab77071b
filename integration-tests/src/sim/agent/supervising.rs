//! The driver of an agent's supervisor: what reaches it, and what it has done.

use shef_agent::{
    engine::EngineError,
    supervisor::{Effect, Event, Operation, Outcome, ledger::Ledger},
};
use shef_common::protocol::Push;

use super::{Agent, AgentMail};
use crate::sim::{
    engine::EngineWork,
    net::Reply,
    plant::Plant,
    rules::PushHead,
    world::{Ev, Part, World},
};

impl World {
    pub(super) fn supervisor_mail(&mut self, host: usize, agent: &mut Agent, mail: AgentMail) {
        let event = match mail {
            AgentMail::Push { call, mut push } => {
                agent.next_ticket += 1;
                let head = PushHead { fence: push.fence.clone(), base: push.base, revision: push.revision };
                agent.tickets.insert(agent.next_ticket, (Some(call), head));
                self.misread(agent, &mut push);
                Event::Pushed { ticket: agent.next_ticket, push }
            }
            AgentMail::Obey(mut push) => {
                agent.next_ticket += 1;
                let head = PushHead { fence: push.fence.clone(), base: push.base, revision: push.revision };
                agent.tickets.insert(agent.next_ticket, (None, head));
                self.misread(agent, &mut push);
                Event::Pushed { ticket: agent.next_ticket, push }
            }
            AgentMail::MasterHeard => {
                self.rules_master_heard(host);
                if self.planted(Plant::MissesMaster) && self.faults {
                    return;
                }
                Event::MasterHeard
            }
            AgentMail::Joined(cluster) => Event::Joined(cluster),
            AgentMail::Acknowledged(replicas) => Event::Acknowledged(replicas),
            AgentMail::Describe { facts } => return self.register(host, agent, facts),
            AgentMail::LedgerWritten(outcome) => Event::LedgerWritten(outcome),
            AgentMail::Happened { watch, event } if agent.watch == Some(watch) => Event::Happened(event),
            AgentMail::WatchEnded { watch } if agent.watch == Some(watch) => {
                agent.watch = None;
                Event::WatchEnded(EngineError::Unreachable("the event stream ended".to_owned()))
            }
            AgentMail::Happened { .. } | AgentMail::WatchEnded { .. } => return,
            AgentMail::Listed(outcome) => Event::Listed(outcome),
            AgentMail::Identified(Ok(facts)) => {
                agent.outbox.facts = Some(facts);
                return agent.tell_reporter();
            }
            AgentMail::Identified(Err(_)) => Event::Unidentified,
            AgentMail::Done { replica, outcome } => {
                self.note(|| format!("h{}: {replica}: {}", host + 1, outcome_word(&outcome)));
                Event::Done { replica, outcome }
            }
            AgentMail::Logs { replica, outcome } => Event::Logs { replica, outcome },
            AgentMail::Pulled { image, pull, outcome } => {
                if agent.pulls.get(&image) != Some(&pull) {
                    return; // It was given up.
                }
                agent.pulls.remove(&image);
                Event::Pulled { image, outcome }
            }
            AgentMail::Tick => Event::Tick,
            other @ (AgentMail::Observed(_) | AgentMail::Answered { .. } | AgentMail::Obeyed) => {
                return debug_assert!(false, "not for a supervisor: {other:?}");
            }
        };
        self.feed_supervisor(host, agent, event);
    }

    /// Planted bugs in judging a push.
    fn misread(&mut self, agent: &Agent, push: &mut Push) {
        let Some(accepted) = &agent.supervisor.ledger().accepted else { return };
        if self.planted(Plant::AcceptsStaleFence) && !push.fence.admits_over(&accepted.fence) {
            push.fence = accepted.fence.clone();
            push.revision = accepted.revision.next();
            push.base = push.base.map(|_| accepted.revision);
        }
        if self.planted(Plant::WrongBase) && push.fence == accepted.fence && push.base.is_some() {
            push.base = Some(accepted.revision);
        }
    }

    pub(super) fn feed_supervisor(&mut self, host: usize, agent: &mut Agent, event: Event) {
        let effects = agent.supervisor.handle(event, self.agent_now(host, agent));
        for effect in effects {
            if self.agent_killed(host, agent) {
                return;
            }
            self.supervisor_effect(host, agent, effect);
        }
        let error = agent.supervisor.engine_error();
        if error != agent.told_error.as_deref() {
            agent.told_error = error.map(str::to_owned);
            agent.outbox.engine_error = Some(agent.told_error.clone());
        }
        if agent.supervisor.has_listed() && !agent.told_listed {
            agent.told_listed = true;
            agent.outbox.listed = true;
        }
        if agent.supervisor.ledger().accepted != agent.told_accepted {
            agent.told_accepted.clone_from(&agent.supervisor.ledger().accepted);
            agent.outbox.accepted.clone_from(&agent.told_accepted);
        }
        agent.tell_reporter();
        let wake = agent.supervisor.next_wake();
        self.set_agent_timer(host, agent, Part::Supervisor, wake);
    }

    pub(super) fn supervisor_effect(&mut self, host: usize, agent: &mut Agent, effect: Effect) {
        let inc = agent.inc;
        match effect {
            Effect::WriteLedger(ledger) => {
                let fails = self.fault(self.profile.ledger_fails);
                let delay = self.rng.u64(0..15);
                self.at(delay, Ev::LedgerWrite { host, inc, ledger, fails });
            }
            Effect::Answer { ticket, verdict } => match agent.tickets.remove(&ticket) {
                Some((call, head)) => {
                    if verdict.is_ok() {
                        self.rules_accepts(host, &head);
                    }
                    match call {
                        Some(call) => self.answer(call, Reply::Push(verdict)),
                        None => agent.post(Part::Reporter, AgentMail::Obeyed),
                    }
                }
                None => self.violated(format!("push {ticket} of h{} is answered twice", host + 1)),
            },
            Effect::Watch => {
                let watch = self.fresh();
                agent.watch = Some(watch);
                self.hosts[host].engine.watch = Some((inc, watch));
                if self.hosts[host].engine.away {
                    self.at(5, Ev::Agent { host, inc, to: Part::Supervisor, mail: AgentMail::WatchEnded { watch } });
                }
            }
            Effect::List => self.engine_work(host, inc, EngineWork::List),
            Effect::Identify => self.engine_work(host, inc, EngineWork::Identify),
            // No service of the simulator has a check that the agent makes.
            Effect::Check(_) => {}
            Effect::Run { replica, operation } => {
                self.note(|| format!("h{}: {replica}: {}", host + 1, operation_word(&operation)));
                if matches!(operation, Operation::Stop { .. }) {
                    self.rules_stops(host, &replica);
                }
                self.engine_work(host, inc, EngineWork::Run { replica, operation });
            }
            Effect::Logs { replica, .. } => self.engine_work(host, inc, EngineWork::Logs { replica }),
            Effect::Pull(image) => {
                let pull = self.fresh();
                agent.pulls.insert(image.clone(), pull);
                self.engine_work(host, inc, EngineWork::Pull { image, pull });
            }
            Effect::CancelPull(image) => {
                agent.pulls.remove(&image);
            }
            Effect::Publish(status) => {
                self.note(|| format!("h{}: {} is {:?}", host + 1, status.replica, status.state));
                agent.outbox.statuses.insert(status.replica.clone(), status);
            }
            Effect::Reregister => agent.outbox.reregister = true,
        }
    }

    /// An agent's write reaches its disk.
    pub fn ledger_write(&mut self, host: usize, inc: u64, ledger: Ledger, fails: bool) {
        if self.hosts[host].agent.as_ref().is_none_or(|agent| agent.inc != inc) {
            return;
        }
        let outcome = if fails {
            Err("no space left on device".to_owned())
        } else {
            self.rules_ledger(host, &ledger);
            self.hosts[host].ledger = ledger;
            Ok(())
        };
        let delay = self.rng.u64(0..3);
        self.at(delay, Ev::Agent { host, inc, to: Part::Supervisor, mail: AgentMail::LedgerWritten(outcome) });
    }
}

fn operation_word(operation: &Operation) -> String {
    match operation {
        Operation::Create(_) => "create".to_owned(),
        Operation::Start { .. } => "start".to_owned(),
        Operation::Stop { .. } => "stop".to_owned(),
        Operation::Remove(_) => "remove".to_owned(),
        Operation::SetPolicy { policy, .. } => format!("set policy {policy:?}"),
        Operation::Inspect => "inspect".to_owned(),
    }
}

/// An outcome in a line; labels stand in no order, so a container is told by its state.
fn outcome_word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Inspect(Ok(found)) => format!("found {:?}", found.as_ref().map(|container| container.state)),
        other => format!("{other:?}"),
    }
}
