//! How many connections the API has open, and which of them are closed after their
//! answer while they are scarce. Half of them are for agents: a crowd of other clients
//! never takes the place of a host that reports. Agents beyond that half take turns. No client has more than
//! three quarters of all; agents' connections do not count for that, as many hosts may be behind one address.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use actix_web::{
    body::MessageBody,
    dev::{Extensions, ServiceResponse},
    http::{ConnectionType, StatusCode},
};
use shef_common::{
    protocol::{REGISTER_PATH, REPORT_PATH},
    shares::{Share, Shares},
};

/// The open connections of all workers.
#[derive(Debug, Clone)]
pub struct Connections {
    counts: Arc<Counts>,
    shares: Arc<Shares>,
    bound: usize,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    of_agents: AtomicUsize,
}

/// One open connection; counts until it is dropped with the connection's data.
struct Open {
    counts: Arc<Counts>,
    is_agents: AtomicBool,
    /// Its client's share, unless it is an agent's.
    share: Mutex<Option<Share>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, SeqCst);
        if self.is_agents.load(SeqCst) {
            self.counts.of_agents.fetch_sub(1, SeqCst);
        }
    }
}

impl Connections {
    /// None yet, of at most `bound`.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { counts: Arc::default(), shares: Shares::of(bound), bound }
    }

    /// A connection of `client` was opened, whose data is `data`. Returns whether it may go on: its client
    /// has no more than its share.
    #[must_use]
    pub fn opened(&self, client: Option<IpAddr>, data: &mut Extensions) -> bool {
        let share = client.map(|client| self.shares.take(client));
        let goes_on = !matches!(share, Some(None));
        self.counts.open.fetch_add(1, SeqCst);
        data.insert(Open {
            counts: self.counts.clone(),
            is_agents: AtomicBool::new(false),
            share: Mutex::new(share.flatten()),
        });
        goes_on
    }

    /// Whether the connection ends with the answer to a request for `path`.
    fn lets_go(&self, open: &Open, path: &str) -> bool {
        if matches!(path, REGISTER_PATH | REPORT_PATH) && !open.is_agents.swap(true, SeqCst) {
            self.counts.of_agents.fetch_add(1, SeqCst);
            open.share.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        if open.is_agents.load(SeqCst) {
            self.counts.of_agents.load(SeqCst) > self.bound / 2
        } else {
            self.counts.open.load(SeqCst) > self.bound / 2
        }
    }

    /// Closes the connection behind `answer` if connections are scarce.
    pub fn let_go_if_scarce<B: MessageBody>(&self, mut answer: ServiceResponse<B>) -> ServiceResponse<B> {
        let request = answer.request();
        let lets_go = request.conn_data::<Open>().is_some_and(|open| self.lets_go(open, request.path()));
        if lets_go && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Connections) -> Extensions {
        let mut data = Extensions::new();
        assert!(connections.opened(None, &mut data));
        data
    }

    #[test]
    fn no_client_takes_all_connections_but_agents_at_one_address_may() {
        let connections = Connections::new(8);
        let from = |last: u8| {
            let mut data = Extensions::new();
            let goes_on = connections.opened(Some([10, 0, 0, last].into()), &mut data);
            (data, goes_on)
        };
        let mut crowd: Vec<_> = (0..6).map(|_| from(1)).collect();
        assert!(crowd.iter().all(|(_, goes_on)| *goes_on));
        assert!(!from(1).1 && from(2).1);
        connections.lets_go(crowd[0].0.get().unwrap(), REPORT_PATH);
        let one_more = from(1);
        assert!(one_more.1 && !from(1).1, "an agent's is not counted");
        crowd.pop();
        assert!(from(1).1);
    }

    #[test]
    fn clients_take_no_agents_place_and_agents_beyond_half_take_turns() {
        let connections = Connections::new(8);
        let lets_go = |data: &Extensions, path: &str| connections.lets_go(data.get().unwrap(), path);
        let agents: Vec<Extensions> = (0..2).map(|_| open(&connections)).collect();
        let crowd: Vec<Extensions> = (0..6).map(|_| open(&connections)).collect();
        assert!(crowd.iter().all(|client| lets_go(client, "/v1/nodes")));
        assert!(!agents.iter().any(|agent| lets_go(agent, REPORT_PATH)));
        drop(crowd);
        let client = open(&connections);
        assert!(!lets_go(&client, "/v1/nodes"));
        let mut more: Vec<Extensions> = (0..3).map(|_| open(&connections)).collect();
        assert!(!lets_go(&more[0], REGISTER_PATH) && !lets_go(&more[1], REPORT_PATH));
        assert!(lets_go(&more[2], REPORT_PATH), "five agents of a bound of eight");
        more.pop();
        assert!(!lets_go(&agents[0], REPORT_PATH));
    }
}
