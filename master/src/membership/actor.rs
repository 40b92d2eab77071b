//! The shell: probes are calls, everything else is messages.

use std::{net::SocketAddrV4, sync::Arc};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};
use shef_common::{
    client::{CallError, HostClient, Security},
    clock::{DurationMs, MonoMs, Now},
    ids::NodeName,
    ports::probe_ports,
    protocol::{
        Follows, MAX_PROBE_MS, PORTS_PATH, PROBE_PATH, PortsOutcome, ProbeOutcome, ProbePorts, ProbeThrough,
    },
};

use super::{
    BrakeState, HostChanged, ReleaseBrake, Standing, ToMembership,
    core::MembershipCore,
    effects::MembershipEffects,
    events::{Effect, Event, Helper},
};
use crate::{
    cluster::{ClusterEvent, ToCluster},
    messaging::{MAILBOX, Timer, post},
    runner::HigherFence,
    view::ClusterView,
};

/// The share of the limit that a helper gets for its own probe; the rest is for the way to the helper and
/// back.
const HELPERS_PART: (u64, u64) = (3, 4);
/// How long a helper is waited for beyond the limit: its own probe ends a little after the limit that it
/// gets.
const HELPER_GRACE: DurationMs = DurationMs(50);

/// Whom the membership talks to.
pub struct MembershipOutlets {
    /// The cluster.
    pub cluster: Recipient<ToCluster>,
    /// The view that readers are shown.
    pub view: Arc<ClusterView>,
    /// How agents are called.
    pub security: Security,
}

/// The membership.
pub struct MembershipActor {
    core: MembershipCore,
    out: MembershipOutlets,
    initial: Vec<Effect>,
    client: Option<HostClient>,
    timer: Timer,
}

impl MembershipActor {
    /// The shell around `core`; `initial` is what its making asked for.
    #[must_use]
    pub const fn new(core: MembershipCore, initial: Vec<Effect>, out: MembershipOutlets) -> Self {
        Self { core, out, initial, client: None, timer: Timer::new() }
    }

    fn client(&mut self) -> HostClient {
        let security = &self.out.security;
        self.client.get_or_insert_with(|| HostClient::new(security.clone())).clone()
    }

    fn event(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.core.handle(event, Now::read());
        Shell { membership: self, ctx }.carry_out(effects);
    }
}

/// The membership with its context: carries out effects.
struct Shell<'a> {
    membership: &'a mut MembershipActor,
    ctx: &'a mut Context<MembershipActor>,
}

impl MembershipEffects for Shell<'_> {
    fn changed(&mut self, change: HostChanged) {
        log_change(&change);
        post(self.ctx, &self.membership.out.cluster, ToCluster(ClusterEvent::HostChanged(change)));
    }

    fn probe(
        &mut self,
        node: NodeName,
        agent_url: String,
        via: Option<Helper>,
        limit: DurationMs,
        round: u64,
    ) {
        let client = self.membership.client();
        let helper = via.as_ref().map(|helper| helper.node.clone());
        let call = async move {
            match via {
                None => client.probe(&agent_url, limit.into()).await,
                Some(helper) => through(&client, &helper, agent_url, limit).await,
            }
        };
        let done = call.into_actor(self.membership);
        self.ctx.spawn(done.map(move |outcome, membership, ctx| {
            log::debug!(node:%, round, outcome:?; "probed");
            membership.event(Event::ProbeDone { node, round, via: helper, outcome }, ctx);
        }));
    }

    fn probe_ports(
        &mut self,
        node: NodeName,
        addresses: Vec<SocketAddrV4>,
        via: Option<Helper>,
        limit: DurationMs,
        round: u64,
    ) {
        let client = self.membership.client();
        let by_us = via.is_none();
        let call = async move {
            match via {
                None => probe_ports(&addresses, limit.into()).await,
                Some(helper) => ports_through(&client, &helper, addresses, limit).await,
            }
        };
        let done = call.into_actor(self.membership);
        self.ctx.spawn(done.map(move |outcome, membership, ctx| {
            log::debug!(node:%, round, by_us, outcome:?; "ports tried");
            membership.event(Event::PortsProbed { node, round, by_us, outcome }, ctx);
        }));
    }

    fn follows(&mut self, node: NodeName, follows: Follows) {
        let higher = HigherFence::from(follows);
        post(self.ctx, &self.membership.out.cluster, ToCluster(ClusterEvent::StaleFence(node, higher)));
    }

    fn interval(&mut self, interval: DurationMs) {
        log::info!(interval_ms = interval.0; "hosts report at another interval");
        self.membership.out.view.show_interval(interval);
        post(self.ctx, &self.membership.out.cluster, ToCluster(ClusterEvent::Interval(interval)));
    }

    fn brake(&mut self, state: Option<BrakeState>) {
        match &state {
            Some(state) => {
                log::warn!(down = state.down.len(); "so many hosts are down that replacement is held back");
            }
            None => log::warn!("replacement is no longer held back"),
        }
        self.membership.out.view.show_brake(state);
    }

    fn wake_at(&mut self, at: MonoMs) {
        self.membership.timer.set(self.ctx, at, |membership, ctx| {
            membership.timer.fired();
            membership.event(Event::Tick, ctx);
        });
    }
}

async fn through(client: &HostClient, helper: &Helper, agent_url: String, limit: DurationMs) -> ProbeOutcome {
    let limit_ms = (limit.0 * HELPERS_PART.0 / HELPERS_PART.1).clamp(1, MAX_PROBE_MS);
    let whole = DurationMs(limit.0 + HELPER_GRACE.0);
    let ask = ProbeThrough { agent_url, limit_ms, key: helper.probe_key.clone() };
    let answer: Result<ProbeOutcome, CallError> =
        client.post(&format!("{}{PROBE_PATH}", helper.agent_url), &ask, whole.into()).await;
    answer.unwrap_or_else(|error| {
        let why = format!("{} did not probe it: {error}", helper.node);
        match error {
            // Neither side's lack of sockets says anything of the host that is probed.
            CallError::NoSocket { .. } => ProbeOutcome::NotProbed { why },
            CallError::Refused { status, .. } if status.is_server_error() => ProbeOutcome::NotProbed { why },
            CallError::Refused { .. } | CallError::Unreachable { .. } | CallError::Unexpected { .. } => {
                ProbeOutcome::Unreachable { why }
            }
        }
    })
}

async fn ports_through(
    client: &HostClient,
    helper: &Helper,
    addresses: Vec<SocketAddrV4>,
    limit: DurationMs,
) -> PortsOutcome {
    let (limit_ms, key) = (limit.0.clamp(1, MAX_PROBE_MS), helper.probe_key.clone());
    let ask = ProbePorts { addresses, limit_ms, key };
    let whole = DurationMs(limit.0 * 2);
    let answer: Result<PortsOutcome, CallError> =
        client.post(&format!("{}{PORTS_PATH}", helper.agent_url), &ask, whole.into()).await;
    // An agent of an earlier version cannot look, which says nothing of the host.
    answer.unwrap_or_else(|error| PortsOutcome::NotProbed {
        why: format!("{} did not try them: {error}", helper.node),
    })
}

fn log_change(change: &HostChanged) {
    let (node, condition) = (&change.node, change.condition);
    let (standing, why) = (condition.standing, change.why.as_deref().unwrap_or_default());
    match standing {
        Standing::Awaited | Standing::Ready => {
            log::info!(node:%, intent:? = condition.intent, why; "the host {}", standing.is());
        }
        Standing::Suspect | Standing::AgentDown | Standing::EngineDown | Standing::Down => {
            log::warn!(node:%, intent:? = condition.intent, why; "the host {}", standing.is());
        }
    }
}

impl Actor for MembershipActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let initial = std::mem::take(&mut self.initial);
        Shell { membership: self, ctx }.carry_out(initial);
    }
}

impl Handler<ToMembership> for MembershipActor {
    type Result = ();
    fn handle(&mut self, ToMembership(event): ToMembership, ctx: &mut Self::Context) {
        self.event(event, ctx);
    }
}

impl Handler<ReleaseBrake> for MembershipActor {
    type Result = bool;
    fn handle(&mut self, _: ReleaseBrake, ctx: &mut Self::Context) -> bool {
        let was_on = self.core.is_braking();
        self.event(Event::ReleaseBrake, ctx);
        was_on
    }
}
