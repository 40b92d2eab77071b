//! What the engine does of the operations that the core has asked for.

use shef_common::{ids::ReplicaId, labels, spec::Template};

use super::{Bench, End, Pending};
use crate::{
    engine::{
        Container, ContainerState, Created, EngineError, EngineEvent, EventKind, Listing, RestartPolicy,
        fake::{foreign_labels, looked_up, made},
    },
    supervisor::{core::*, ledger::NotWritten},
};

impl Bench {
    pub fn foreign(name: &str) -> Container {
        let id = format!("foreign-{name}");
        Container::new(id, name, foreign_labels(), ContainerState::Running, RestartPolicy::Unknown)
    }

    /// Carries out a pending operation on the model, as far as `end` says.
    pub fn finish(&mut self, index: usize, end: End) {
        let pending = self.pending.remove(index);
        let lost = || EngineError::TimedOut("no answer".into());
        match pending {
            Pending::Ledger(write) => {
                if end == End::Well {
                    let bytes = self.log.write(&write);
                    write.apply_to(&mut self.disk);
                    self.feed(Event::LedgerWritten(Ok(bytes)));
                } else {
                    // It may have reached the disk as a whole, or in part.
                    self.log.fail(&write, if end == End::AnswerLost { usize::MAX } else { 20 });
                    self.feed(Event::LedgerWritten(Err(NotWritten)));
                }
            }
            Pending::List(containers) => self.feed(Event::Listed(match end {
                End::Well => Ok(Listing { containers, complete: true }),
                End::AnswerLost | End::Lost => Err(lost()),
            })),
            Pending::RemoveNetworks(needed) => {
                if end != End::Lost {
                    self.networks.remove_unneeded(&needed, self.containers.values());
                }
                self.feed(Event::NetworksRemoved(if end == End::Well { Ok(()) } else { Err(lost()) }));
            }
            Pending::Logs(replica) => {
                let outcome = if end == End::Well { Ok(vec!["last words".to_owned()]) } else { Err(lost()) };
                self.feed(Event::Logs { replica, outcome });
            }
            Pending::Pull(wanted) => {
                let before = self.images.contains(&wanted.image.pinned()).then_some(1);
                let outcome = if end == End::Well {
                    self.images.insert(wanted.image.pinned());
                    Ok(None)
                } else {
                    Err(EngineError::Unreachable("gone".into()))
                };
                self.feed(Event::Pulled { wanted, before: Ok(before), outcome });
            }
            Pending::Run(replica, operation) => {
                let outcome = if end == End::Lost { None } else { Some(self.act(&replica, &operation)) };
                let outcome = match (outcome, &operation) {
                    (Some(outcome), _) if end == End::Well => outcome,
                    (_, Operation::Create(_)) => Outcome::Create(Err(lost())),
                    (_, Operation::Start { .. }) => Outcome::Start(Err(lost())),
                    (_, Operation::Stop { .. }) => Outcome::Stop(Err(lost())),
                    (_, Operation::SetPolicy { .. }) => Outcome::SetPolicy(Err(lost())),
                    (_, Operation::Remove(_)) => Outcome::Remove(Err(lost())),
                    (_, Operation::Inspect { .. }) => Outcome::Inspect(Err(lost())),
                };
                self.feed(Event::Done { replica, outcome });
            }
        }
    }

    pub fn event(&mut self, container: &Container, kind: EventKind) {
        let replica = labels::replica(&container.name, &container.labels);
        self.events.push(EngineEvent {
            id: container.id.clone(),
            replica,
            kind,
            emitted: Some(self.now.wall),
        });
    }

    pub fn act(&mut self, replica: &ReplicaId, operation: &Operation) -> Outcome {
        let missing = || EngineError::NoSuchContainer("No such container".into());
        let by_id = |bench: &Self, id: &str| bench.containers.values().find(|c| c.id == id).cloned();
        let not_yet = || EngineError::NotYet("waiting for secret db: no master answers".into());
        let lacks = |template: &Template| self.lacks_contents && template.has_contents();
        match operation {
            Operation::Create(order) if lacks(&order.template) => Outcome::Create(Err(not_yet())),
            Operation::Start { template: Some(template), .. } if lacks(template) => {
                Outcome::Start(Err(not_yet()))
            }
            Operation::Create(order) => Outcome::Create({
                let name = order.replica.to_string();
                if self.containers.contains_key(&name) {
                    Err(EngineError::NameTaken("Conflict".into()))
                } else if self.images.contains(&order.image.pinned()) {
                    self.next_id += 1;
                    let id = format!("id{}", self.next_id);
                    let container = made(order, id.clone());
                    self.networks.make_for(&container);
                    self.containers.insert(name, container);
                    Ok(Created::new(id))
                } else {
                    Err(EngineError::NoSuchImage("No such image".into()))
                }
            }),
            Operation::Start { id, .. } => Outcome::Start(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    assert_eq!(
                        self.networks.lacks(&container),
                        None,
                        "a network is gone that a container is to join"
                    );
                    self.set(&container, ContainerState::Running);
                    self.event(&container, EventKind::Started);
                    Ok(())
                }
            }),
            Operation::Stop { id, .. } => Outcome::Stop(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    self.set(&container, ContainerState::Exited);
                    self.event(&container, EventKind::Signalled { signal: 15 });
                    self.event(&container, EventKind::Died { exit_code: 0 });
                    self.event(&container, EventKind::Stopped);
                    Ok(())
                }
            }),
            Operation::Remove(id) => Outcome::Remove(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    self.containers.remove(&container.name);
                    self.event(&container, EventKind::Destroyed);
                    Ok(())
                }
            }),
            Operation::SetPolicy { id, policy } => Outcome::SetPolicy(match by_id(self, id) {
                None => Err(missing()),
                Some(container) => {
                    if let Some(found) = self.containers.get_mut(&container.name) {
                        found.policy = *policy;
                    }
                    Ok(())
                }
            }),
            Operation::Inspect { known } => {
                Outcome::Inspect(Ok(looked_up(&self.containers, replica, known.as_deref())))
            }
        }
    }

    pub fn set(&mut self, container: &Container, state: ContainerState) {
        if let Some(found) = self.containers.get_mut(&container.name) {
            found.state = state;
        }
        if state == ContainerState::Running {
            self.runs_anew(&container.name);
        }
    }

    /// A start gives the container ends of its networks that no run had before.
    pub fn runs_anew(&mut self, name: &str) {
        self.next_id += 1;
        if let Some(found) = self.containers.get_mut(name) {
            found.endpoints = [format!("end{}", self.next_id)].into();
            found.started_at = Some(self.now.wall);
        }
    }

    /// The process of a container ends, and the engine does not start it again.
    pub fn set_exited(&mut self, name: &str, exit_code: i64) {
        if let Some(found) = self.containers.get_mut(name) {
            (found.state, found.exit_code) = (ContainerState::Exited, Some(exit_code));
        }
    }

    /// Delivers the engine's events, or loses them.
    pub fn deliver_events(&mut self, delivered: bool) {
        for event in std::mem::take(&mut self.events) {
            if delivered {
                self.feed(Event::Happened(event));
            }
        }
    }

    /// Somebody gives a container another name.
    pub fn rename(&mut self, name: &str, new: &str) {
        if let Some(container) = self.containers.remove(name) {
            self.containers.insert(new.to_owned(), Container { name: new.to_owned(), ..container });
        }
    }
}
