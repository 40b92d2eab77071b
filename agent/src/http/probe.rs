//! `/v1/probe`: that this agent is up, and a look at another one for the master.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use shef_common::{
    client::{HostClient, agent_address},
    problem::Code,
    protocol::{Alive, MAX_PROBE_MS, ProbeThrough},
};
use tokio::sync::Semaphore;

use super::assignments::problem;

/// How many looks at others may be under way at once.
const MAX_PROBES: usize = 32;

/// Who answers, and by what it looks at others. One for the arbiter.
pub struct Prober {
    alive: Alive,
    client: HostClient,
    places: Semaphore,
}

impl Prober {
    /// Made on the arbiter's thread.
    pub fn new(alive: Alive) -> Self {
        Self { alive, client: HostClient::new(), places: Semaphore::new(MAX_PROBES) }
    }
}

/// `GET`: the agent is up. Asks nobody, so that a busy supervisor does not make the host look dead.
pub async fn alive(prober: web::Data<Prober>) -> HttpResponse {
    HttpResponse::Ok().json(&prober.alive)
}

/// `POST`: whether another agent answers this one. 400 for what is no agent's address, 503 when too many are asked for.
pub async fn through(ask: web::Json<ProbeThrough>, prober: web::Data<Prober>) -> HttpResponse {
    if agent_address(&ask.agent_url).is_none() {
        let shown: String = ask.agent_url.chars().take(200).collect();
        return problem(Code::InvalidBody, format!("agent_url must be http://IPv4:port, but is {shown:?}"));
    }
    if !(1..=MAX_PROBE_MS).contains(&ask.limit_ms) {
        return problem(Code::InvalidBody, format!("limit_ms must be 1 to {MAX_PROBE_MS}, but is {}", ask.limit_ms));
    }
    let Ok(_place) = prober.places.try_acquire() else {
        return problem(Code::Overloaded, format!("{MAX_PROBES} probes are under way, which is the bound"));
    };
    HttpResponse::Ok().json(prober.client.probe(&ask.agent_url, Duration::from_millis(ask.limit_ms)).await)
}
