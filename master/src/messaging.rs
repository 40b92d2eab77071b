//! Messages between actors of the master: delivered in order, at once, and never silently lost.

use actix::{Actor, AsyncContext, Context, Message, Recipient, fut, prelude::SendError};
use futures_util::FutureExt;

/// The bound of mailboxes between the master's own actors. What can fill them is
/// bounded where it enters: requests by the API's limit, reports by one a host.
pub const MAILBOX: usize = 65_536;

/// Stops an actor. Without it an actor that has no address left lives until its timer fires, and then acts in
/// place of its successor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct End;

/// Puts `message` into `to`'s mailbox now, behind what is there. A mailbox over
/// its bound takes it all the same, with a warning: its sender is an
/// actor of the master, and losing the message would be worse. A closed mailbox means that the program ends.
pub fn post<A, M>(ctx: &mut Context<A>, to: &Recipient<M>, message: M)
where
    A: Actor<Context = Context<A>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    match to.try_send(message) {
        Ok(()) => {}
        Err(SendError::Full(message)) => {
            log::warn!(message_kind = std::any::type_name::<M>(); "a mailbox is over its bound");
            ctx.spawn(fut::wrap_future(to.send(message).map(|_| ())));
        }
        Err(SendError::Closed(_)) => {
            log::debug!(message_kind = std::any::type_name::<M>(); "a mailbox is closed");
        }
    }
}

/// A timer that keeps the earliest of the times it is set to.
#[derive(Debug, Default)]
pub struct Timer(Option<(shef_common::clock::MonoMs, actix::SpawnHandle)>);

impl Timer {
    /// A timer that is not set.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Runs `callback` at `at`, unless an earlier time is set: the callback of that one sets the timer again.
    pub fn set<A>(
        &mut self,
        ctx: &mut Context<A>,
        at: shef_common::clock::MonoMs,
        callback: fn(&mut A, &mut Context<A>),
    ) where
        A: Actor<Context = Context<A>>,
    {
        match self.0 {
            Some((earlier, _)) if earlier <= at => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let wait = at - shef_common::clock::Now::read().mono;
        self.0 = Some((at, ctx.run_later(wait.into(), callback)));
    }

    /// To be called first when the timer fires.
    pub fn fired(&mut self) {
        self.0 = None;
    }
}
