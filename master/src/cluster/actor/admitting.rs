//! Carries out admissions: a host registers, and is let in step by step.

use std::time::Duration;

use actix::{Context, Handler, ResponseActFuture, WrapFuture, fut};
use futures_util::future::try_join_all;
use shef_common::{
    clock::Now,
    protocol::{Registered, Registration},
};

use super::ClusterActor;
use crate::{
    cluster::admission::{Admission, Event, Step},
    membership::Intent,
    runner::{NodeRecord, Register, RegisterRefused},
    service::{Accepted, Refused, Request},
    store::{Lead, LeadOutcome},
};

/// How long a host that brings replicas waits until they are durable.
const IMPORT_LIMIT: Duration = Duration::from_secs(5);

type Admitted = ResponseActFuture<ClusterActor, Result<Registered, RegisterRefused>>;

fn refuse(refused: RegisterRefused) -> Admitted {
    Box::pin(fut::ready(Err(refused)))
}

impl Handler<Register> for ClusterActor {
    type Result = Admitted;
    fn handle(&mut self, Register(registration): Register, ctx: &mut Self::Context) -> Self::Result {
        self.admit(Admission::new(Box::new(registration)), Event::Began, ctx)
    }
}

impl ClusterActor {
    /// One step of an admission; comes back to itself after each.
    fn admit(&mut self, mut admission: Admission, event: Event, ctx: &mut Context<Self>) -> Admitted {
        let Some(step) = admission.step(event, &mut self.core) else {
            return refuse(RegisterRefused::Later("the admission has no next step".to_owned()));
        };
        match step {
            Step::Refuse(refused) => refuse(refused),
            Step::Lead { above, cluster } => {
                let lead = self.out.lead.send(Lead { above, cluster });
                let then = move |led: Result<Result<LeadOutcome, String>, actix::MailboxError>,
                                 actor: &mut Self,
                                 ctx: &mut Context<Self>| {
                    let led = led.unwrap_or_else(|closed| Err(closed.to_string())).map(|led| actor.led(led, ctx));
                    actor.admit(admission, Event::Led(led), ctx)
                };
                Box::pin(fut::ActorFutureExt::then(lead.into_actor(self), then))
            }
            Step::Import(by_service) => {
                let registration = admission.registration();
                log::warn!(node:% = registration.node, services = by_service.len(); "taking over what an unknown host holds");
                let node = registration.node.clone();
                self.ensure_runner(admission.registration(), ctx);
                let imports: Vec<_> = by_service
                    .into_iter()
                    .map(|(name, holds)| self.ask(name, Request::Import { node: node.clone(), holds }, ctx))
                    .collect();
                let all = async move { tokio::time::timeout(IMPORT_LIMIT, try_join_all(imports)).await };
                let then = move |done: Result<Result<Vec<Accepted>, Refused>, tokio::time::error::Elapsed>,
                                 actor: &mut Self,
                                 ctx: &mut Context<Self>| match done {
                    Ok(Ok(all)) => {
                        // Each of them counts; the last one is what leads on.
                        for _ in 1..all.len() {
                            let _ = admission.step(Event::Imported(Ok(())), &mut actor.core);
                        }
                        actor.admit(admission, Event::Imported(Ok(())), ctx)
                    }
                    Ok(Err(refused)) => actor.admit(admission, Event::Imported(Err(format!("{refused:?}"))), ctx),
                    Err(_) => actor.admit(admission, Event::ImportTooLate, ctx),
                };
                Box::pin(fut::ActorFutureExt::then(all.into_actor(self), then))
            }
            Step::Forward(registration) => {
                self.ensure_runner(&registration, ctx);
                self.forward(*registration)
            }
        }
    }

    fn ensure_runner(&mut self, registration: &Registration, ctx: &mut Context<Self>) {
        if self.runners.contains_key(&registration.node) {
            return;
        }
        let record = NodeRecord {
            node: registration.node.clone(),
            uid: registration.uid.clone(),
            host: registration.host.clone(),
            joined: Now::read().wall,
            intent: Intent::Active,
            forgotten: None,
        };
        self.add_runner(record, None, ctx);
    }

    fn forward(&self, registration: Registration) -> Admitted {
        let Some(runner) = self.runners.get(&registration.node) else {
            return refuse(RegisterRefused::Later("the host's runner has ended".to_owned()));
        };
        let answer = runner.send(Register(registration));
        let answer = async move { answer.await.unwrap_or_else(|closed| Err(RegisterRefused::Later(closed.to_string()))) };
        Box::pin(answer.into_actor(self))
    }
}
