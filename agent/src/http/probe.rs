//! `/v1/probe`: whether this agent is up, and whether another one is. Neither
//! asks the supervisor, so that an agent whose engine or disk hangs still answers.

use std::{rc::Rc, time::Duration};

use actix_web::{HttpResponse, web};
use shef_common::{
    client::{HostClient, Security},
    clock::Now,
    endpoint::agent_address,
    ports::probe_ports,
    problem::Code,
    protocol::{
        Alive, MAX_PROBE_MS, MAX_PROBED_PORTS, PortsOutcome, ProbeKey, ProbeOutcome, ProbePorts, ProbeThrough,
    },
};
use tokio::sync::Semaphore;

use super::assignments::problem;
use crate::supervisor::Followed;

/// The most probes for others that are under way at once.
const MAX_PROBES: usize = 32;

/// What an agent says of itself when it is probed.
#[derive(Debug, Clone)]
pub struct SignOfLife {
    /// The host and this run of its agent.
    pub alive: Alive,
    /// Whom it follows.
    pub followed: Followed,
}

/// What a server needs to look at other agents.
#[derive(Clone)]
pub struct Prober {
    key: ProbeKey,
    client: HostClient,
    slots: Rc<Semaphore>,
}

impl Prober {
    /// Of callers that show `key`. Must be called on an arbiter's thread.
    pub fn new(key: ProbeKey, security: Security) -> Self {
        Self { key, client: HostClient::new(security), slots: Rc::new(Semaphore::new(MAX_PROBES)) }
    }

    /// Why no address is probed for a caller with `key`. Earlier masters show none, and know this answer as
    /// one that says nothing of the other host.
    fn refuses(&self, key: Option<&ProbeKey>) -> Option<HttpResponse> {
        let detail = "this agent tries other hosts' addresses only for the master that it has registered \
                      with, which shows it the key of its registration; upgrade the master if it is of \
                      version 0.1";
        (key != Some(&self.key)).then(|| problem(Code::Overloaded, detail))
    }
}

/// `GET`: 200 `Alive`.
pub async fn alive(sign: web::Data<SignOfLife>) -> HttpResponse {
    HttpResponse::Ok().json(Alive { follows: sign.followed.get(Now::read().mono), ..sign.alive.clone() })
}

/// `POST`: 200 `ProbeOutcome` of another agent; 400 for an invalid address; 503 for another key, too many
/// probes at once, or no free socket: then nothing was learned.
pub async fn through(body: web::Json<ProbeThrough>, prober: web::Data<Prober>) -> HttpResponse {
    if let Some(refusal) = prober.refuses(body.key.as_ref()) {
        return refusal;
    }
    if agent_address(&body.agent_url).is_none() {
        let shown: String = body.agent_url.chars().take(200).collect();
        let detail = format!("agent_url must be http://ADDRESS:PORT and nothing more, but is {shown:?}");
        return problem(Code::InvalidBody, detail);
    }
    if !(1..=MAX_PROBE_MS).contains(&body.limit_ms) {
        return problem(
            Code::InvalidBody,
            format!("limit_ms must be 1 to {MAX_PROBE_MS}, but is {}", body.limit_ms),
        );
    }
    let Ok(_slot) = prober.slots.try_acquire() else {
        return problem(Code::Overloaded, format!("{MAX_PROBES} probes are under way already; ask again"));
    };
    match prober.client.probe(&body.agent_url, Duration::from_millis(body.limit_ms)).await {
        // Earlier masters do not know that outcome.
        ProbeOutcome::NotProbed { why } => {
            problem(Code::Overloaded, format!("the other agent was not probed: {why}"))
        }
        outcome @ (ProbeOutcome::Answered(_)
        | ProbeOutcome::AgentSilent { .. }
        | ProbeOutcome::Unreachable { .. }) => HttpResponse::Ok().json(outcome),
    }
}

/// `POST`: 200 `PortsOutcome`; 400 for more or fewer addresses than allowed, 503 for another key, when too
/// many probes are under way or no socket is left.
pub async fn ports(body: web::Json<ProbePorts>, prober: web::Data<Prober>) -> HttpResponse {
    if let Some(refusal) = prober.refuses(body.key.as_ref()) {
        return refusal;
    }
    let (addresses, limit_ms) = (&body.addresses, body.limit_ms);
    if !(1..=MAX_PROBED_PORTS).contains(&addresses.len()) {
        let detail = format!("addresses must be 1 to {MAX_PROBED_PORTS}, but are {}", addresses.len());
        return problem(Code::InvalidBody, detail);
    }
    if !(1..=MAX_PROBE_MS).contains(&limit_ms) {
        return problem(
            Code::InvalidBody,
            format!("limit_ms must be 1 to {MAX_PROBE_MS}, but is {limit_ms}"),
        );
    }
    let Ok(_slot) = prober.slots.try_acquire() else {
        return problem(Code::Overloaded, format!("{MAX_PROBES} probes are under way already; ask again"));
    };
    match probe_ports(addresses, Duration::from_millis(limit_ms)).await {
        PortsOutcome::NotProbed { why } => {
            problem(Code::Overloaded, format!("the ports were not tried: {why}"))
        }
        outcome @ (PortsOutcome::Open | PortsOutcome::Closed) => HttpResponse::Ok().json(outcome),
    }
}
