//! The shell: messages become events, probes become calls, one timer.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture};
use shef_common::{
    client::HostClient,
    clock::Now,
    protocol::{PROBE_PATH, ProbeOutcome, ProbeThrough},
};

use super::{
    HostChanged, MembershipEvent, ReportInterval,
    core::MembershipCore,
    events::{Effect, Probe},
};
use crate::{
    post::{Alarm, MAILBOX, post},
    view::ClusterView,
};

/// Whom the membership talks to.
pub struct MembershipOutlets {
    /// Is told of hosts that are in another condition.
    pub changed: Recipient<HostChanged>,
    /// Is told how often hosts are to report.
    pub interval: Recipient<ReportInterval>,
    /// Shows the brake to readers.
    pub view: Arc<ClusterView>,
}

/// The membership.
pub struct MembershipActor {
    core: MembershipCore,
    out: MembershipOutlets,
    client: Option<HostClient>,
    alarm: Alarm,
}

impl MembershipActor {
    /// The shell around `core`.
    #[must_use]
    pub const fn new(core: MembershipCore, out: MembershipOutlets) -> Self {
        Self { core, out, client: None, alarm: Alarm::new() }
    }

    fn event(&mut self, event: super::Event, ctx: &mut Context<Self>) {
        for effect in self.core.handle(event, Now::read()) {
            match effect {
                Effect::Changed(change) => {
                    log::info!(
                        node:% = change.node, standing:? = change.condition.standing, why = change.why.as_deref();
                        "host changed"
                    );
                    post(ctx, &self.out.changed, change);
                }
                Effect::Probe(probe) => self.probe(probe, ctx),
                Effect::Interval(interval) => {
                    log::info!(interval_ms = interval.0; "hosts report at another interval");
                    post(ctx, &self.out.interval, ReportInterval(interval));
                }
                Effect::Brake(state) => {
                    match &state {
                        Some(on) => log::error!(
                            lost = on.lost, of = on.of;
                            "too many hosts went down together: replacement is on hold; POST /v1/cluster/resume goes on"
                        ),
                        None => log::warn!("replacement goes on"),
                    }
                    self.out.view.show_brake(state, Now::read());
                }
                Effect::WakeAt(at) => self.alarm.set(ctx, at, |membership, ctx| {
                    membership.alarm.rang();
                    membership.event(super::Event::Wake, ctx);
                }),
            }
        }
    }

    fn probe(&mut self, probe: Probe, ctx: &mut Context<Self>) {
        let client = self.client.get_or_insert_default().clone();
        let Probe { node, round, agent_url, via, limit } = probe;
        let call = async move {
            let Some((helper, helper_url)) = via else {
                return (None, client.probe(&agent_url, limit.into()).await);
            };
            let ask = ProbeThrough { agent_url: agent_url.to_string(), limit_ms: limit.0 };
            // What the helper's own limit leaves is for the way there and back.
            let patience = Duration::from(limit) + Duration::from_millis(100);
            let asked = client.post::<_, ProbeOutcome>(&format!("{helper_url}{PROBE_PATH}"), &ask, patience).await;
            // A helper that is away has seen nothing.
            (Some(helper), asked.unwrap_or_else(|error| ProbeOutcome::Unreachable { why: error.to_string() }))
        };
        ctx.spawn(call.into_actor(self).map(move |(via, outcome), membership, ctx| {
            log::debug!(node:%, via:?, outcome:?; "probed");
            membership.event(super::Event::ProbeDone { node, round, via, outcome }, ctx);
        }));
    }
}

impl Actor for MembershipActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<MembershipEvent> for MembershipActor {
    type Result = ();
    fn handle(&mut self, MembershipEvent(event): MembershipEvent, ctx: &mut Self::Context) {
        self.event(event, ctx);
    }
}
