//! Operators' requests for a host. Each is answered once it is durable.

use shef_common::clock::{DurationMs, Now, WallMs};

use super::{
    events::{Effect, Ticket},
    messages::{NodeIntent, OperateRefused, Operation},
    record::NodeRecord,
};
use crate::membership::{Intent, Standing};

/// The most requests that wait for one host.
const MAX_WAITING: usize = 64;

/// The requests that wait for the store.
#[derive(Debug, Default)]
pub struct Operations {
    waiting: Vec<Ticket>,
}

impl Operations {
    /// Applies `operation` to `record`; the answer follows when that is durable.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn take(
        &mut self,
        ticket: Ticket,
        operation: Operation,
        record: &mut NodeRecord,
        standing: Standing,
        now: Now,
    ) -> Result<(), OperateRefused> {
        if record.forgotten.is_some() {
            return Err(OperateRefused::NotFound);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(OperateRefused::Busy);
        }
        match operation {
            Operation::Intend(asked) => record.intent = intent(asked, now.wall),
            Operation::Forget { force } => {
                may_be_forgotten(record, standing, force)?;
                record.forgotten = Some(now.wall);
            }
        }
        self.waiting.push(ticket);
        Ok(())
    }

    /// Answers the waiting requests: they are durable, or the store has refused them.
    pub fn answer(&mut self, answer: &Result<(), OperateRefused>, effects: &mut Vec<Effect>) {
        effects.extend(self.waiting.drain(..).map(|ticket| Effect::Operated(ticket, answer.clone())));
    }

    /// Whether any waits.
    pub const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn intent(asked: NodeIntent, now: WallMs) -> Intent {
    match asked {
        NodeIntent::Activate => Intent::Active,
        NodeIntent::Cordon => Intent::Cordoned,
        NodeIntent::Drain { within } => {
            let deadline = within.map(|DurationMs(within)| WallMs(now.0.saturating_add(within)));
            Intent::Drained { deadline, within }
        }
    }
}

/// A host that is there is forgotten only by force: it would come back at once, as a new one.
fn may_be_forgotten(record: &NodeRecord, standing: Standing, force: bool) -> Result<(), OperateRefused> {
    if force {
        return Ok(());
    }
    let word = match standing {
        Standing::Down | Standing::Suspect | Standing::AgentDown => return Ok(()),
        Standing::Awaited => "has not called in since the master started",
        Standing::Ready => "is there and reports",
        Standing::EngineDown => "is there, and only its engine does not answer",
    };
    let node = &record.node;
    Err(OperateRefused::NotNow(format!(
        "host {node} {word}: drain it and stop its agent first. To forget it all the same: `shef node rm \
         --force {node}`, or ?force=true in the API; an agent that still runs then comes back as a new host, \
         and what it runs is removed"
    )))
}
