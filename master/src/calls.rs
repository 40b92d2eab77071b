//! Callers that wait for an answer, by the number of their call.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use tokio::sync::oneshot;

/// The number of a call that waits for its answer.
pub type Ticket = u64;

/// Callers that wait for a `T`. Clones share them: one actor may take a call in, and another one answer it.
pub struct Calls<T>(Rc<RefCell<Waiting<T>>>);

struct Waiting<T> {
    last: Ticket,
    callers: BTreeMap<Ticket, oneshot::Sender<T>>,
}

impl<T> Calls<T> {
    /// Takes a call in: its number, and where its answer comes.
    pub fn take(&self) -> (Ticket, oneshot::Receiver<T>) {
        let mut waiting = self.0.borrow_mut();
        let (sender, answer) = oneshot::channel();
        waiting.last += 1;
        let call = waiting.last;
        waiting.callers.insert(call, sender);
        (call, answer)
    }

    /// Answers a call. The caller may have given up.
    pub fn answer(&self, call: Ticket, answer: T) {
        let caller = self.0.borrow_mut().callers.remove(&call);
        if let Some(caller) = caller {
            drop(caller.send(answer));
        }
    }
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Waiting { last: 0, callers: BTreeMap::new() })))
    }
}

impl<T> Clone for Calls<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
