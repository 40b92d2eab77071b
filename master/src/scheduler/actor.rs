//! The shell: one call of the core a message.

use actix::{Actor, Context, Handler, MessageResult};

use super::{CopyScheduler, LoadChanged, Schedule, Scheduled, SchedulerCore};
use crate::membership::{HostChanged, HostForgotten, HostKnown};

/// Keeps the load of the hosts and answers at once.
#[derive(Default)]
pub struct SchedulerActor(SchedulerCore);

impl Actor for SchedulerActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(16_384);
    }
}

impl Handler<Schedule> for SchedulerActor {
    type Result = Scheduled;
    fn handle(&mut self, ask: Schedule, _: &mut Self::Context) -> Scheduled {
        self.0.answer(&ask.service, &ask.question)
    }
}

impl Handler<CopyScheduler> for SchedulerActor {
    type Result = MessageResult<CopyScheduler>;
    fn handle(&mut self, _: CopyScheduler, _: &mut Self::Context) -> Self::Result {
        MessageResult(Box::new(self.0.clone()))
    }
}

impl Handler<LoadChanged> for SchedulerActor {
    type Result = ();
    fn handle(&mut self, LoadChanged { service, changes }: LoadChanged, _: &mut Self::Context) {
        changes.iter().for_each(|change| self.0.load(&service, change));
    }
}

impl Handler<HostKnown> for SchedulerActor {
    type Result = ();
    fn handle(&mut self, known: HostKnown, _: &mut Self::Context) {
        self.0.host_known(known);
    }
}

impl Handler<HostChanged> for SchedulerActor {
    type Result = ();
    fn handle(&mut self, change: HostChanged, _: &mut Self::Context) {
        self.0.host_changed(change.node, change.condition);
    }
}

impl Handler<HostForgotten> for SchedulerActor {
    type Result = ();
    fn handle(&mut self, HostForgotten { node }: HostForgotten, _: &mut Self::Context) {
        self.0.forget(&node);
    }
}
