//! The shell: one call of the core a message.

use actix::{Actor, Context, Handler, MessageResult};

use super::{
    CopyScheduler, PlacementResult, Schedule, SchedulerCore, ToScheduler,
    events::{Event, SchedulerEffects, Ticket},
};

/// Keeps the load of the hosts and answers at once.
pub struct SchedulerActor(pub SchedulerCore);

/// Who asks waits for the one answer.
#[derive(Default)]
struct Answer(Option<PlacementResult>);

impl SchedulerEffects for Answer {
    fn answer(&mut self, _: Ticket, scheduled: PlacementResult) {
        self.0 = Some(scheduled);
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(16_384);
    }
}

impl Handler<Schedule> for SchedulerActor {
    type Result = PlacementResult;
    fn handle(&mut self, ask: Schedule, _: &mut Self::Context) -> PlacementResult {
        let mut answer = Answer::default();
        answer.carry_out(self.0.handle(Event::Ask(0, ask)));
        answer.0.unwrap_or_default()
    }
}

impl Handler<CopyScheduler> for SchedulerActor {
    type Result = MessageResult<CopyScheduler>;
    fn handle(&mut self, _: CopyScheduler, _: &mut Self::Context) -> Self::Result {
        MessageResult(Box::new(self.0.clone()))
    }
}

impl Handler<ToScheduler> for SchedulerActor {
    type Result = ();
    fn handle(&mut self, ToScheduler(event): ToScheduler, _: &mut Self::Context) {
        Answer::default().carry_out(self.0.handle(event));
    }
}
