//! Carries out what the core decides: calls to masters, one timer.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient,
    SpawnHandle, WrapFuture as _, prelude::SendError,
};
use awc::http::StatusCode;
use shef_common::{
    client::{CallError, HostClient},
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, ReplicaId},
    problem::Problem,
    protocol::{Push, REGISTER_PATH, REPORT_PATH, Registered, Report, ReportAck},
};
use tokio_rustls::rustls::ClientConfig;

use super::{
    core::Core,
    events::{EffectHandler, Event, Failure, Settings},
    identity::Identity,
    messages::Observed,
};
use crate::{
    engine::EngineFacts,
    identity::{DenyList, Heard},
    supervisor::{Acknowledged, ApplyPush, Describe, Joined, MasterAnswered, Shutdown},
};

/// The bound of the mailbox; the supervisor collects what does not fit.
const MAILBOX: usize = 64;
const REGISTER_LIMIT: Duration = Duration::from_secs(10);
// Short, so that one call that hangs does not make the host look down.
const REPORT_LIMIT: Duration = Duration::from_secs(2);
const DESCRIBE_LIMIT: Duration = Duration::from_secs(2);
/// How long the supervisor may take to accept or refuse orders that came with an answer.
const APPLY_LIMIT: Duration = Duration::from_secs(10);

/// What the reporter may send to the supervisor.
pub struct SupervisorLinks {
    /// For a registration.
    pub describe: Recipient<Describe>,
    /// After one.
    pub joined: Recipient<Joined>,
    /// What the master knows.
    pub acknowledged: Recipient<Acknowledged>,
    /// That a master answers.
    pub master_answered: Recipient<MasterAnswered>,
    /// Orders that came with an answer.
    pub push: Recipient<ApplyPush>,
}

/// The reporter actor. See the module's own words.
pub struct Reporter {
    core: Core,
    identity: Identity,
    masters: Vec<String>,
    client: HostClient,
    /// `None`: the cluster's members have no certificates.
    denied: Option<DenyList>,
    /// What is heard of certificates.
    heard: Option<Heard>,
    supervisor: SupervisorLinks,
    timer: Option<(MonoMs, SpawnHandle)>,
    /// Whether the log already says that the master does not answer.
    silent: bool,
}

impl Reporter {
    /// A reporter to `masters` (at least one), made on its arbiter's thread.
    #[must_use]
    pub fn new(
        identity: Identity,
        masters: Vec<String>,
        to_masters: Option<Arc<ClientConfig>>,
        (denied, heard): (Option<DenyList>, Option<Heard>),
        settings: Settings,
        supervisor: SupervisorLinks,
    ) -> Self {
        let core = Core::new(settings);
        let client = HostClient::new(to_masters);
        Self { core, identity, masters, denied, heard, client, supervisor, timer: None, silent: false }
    }

    fn feed(&mut self, event: Event, ctx: &mut Context<Self>) {
        for effect in self.core.handle(event, Now::read()) {
            effect.dispatch(&mut Shell { act: self, ctx });
        }
        let wake = self.core.next_wake();
        if self.timer.as_ref().map(|(at, _)| *at) != wake {
            if let Some((_, handle)) = self.timer.take() {
                ctx.cancel_future(handle);
            }
            if let Some(at) = wake {
                let handle = ctx.run_later((at - Now::read().mono).into(), |act, ctx| {
                    act.timer = None;
                    act.feed(Event::Tick, ctx);
                });
                self.timer = Some((at, handle));
            }
        }
    }

    fn failure(&mut self, error: &CallError) -> Failure {
        let failure = failure_of(error);
        match &failure {
            Failure::Refused => {
                log::error!(why = reason(error); "the master refuses this host; asking again in 5 s");
            }
            Failure::Unreachable | Failure::Later { .. } => {
                if let (Failure::Unreachable, Some(heard)) = (&failure, &self.heard) {
                    heard.unanswered();
                }
                if !std::mem::replace(&mut self.silent, true) {
                    log::warn!(
                        why:% = error;
                        "the master does not answer or is busy; what runs here runs on, asking again"
                    );
                }
            }
        }
        failure
    }
}

/// The event for a failed call. Three of the client's errors are temporary: the master, or a proxy before it,
/// takes the same message when it has time or room again.
fn failure_of(error: &CallError) -> Failure {
    const PASSING: [StatusCode; 3] =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::TOO_MANY_REQUESTS];
    match error {
        CallError::Refused { status, retry_after, .. } if PASSING.contains(status) => {
            Failure::Later { retry_after: retry_after.map(DurationMs::from) }
        }
        CallError::Refused { status, .. } if status.is_client_error() => Failure::Refused,
        CallError::Unexpected { .. } => Failure::Refused,
        CallError::Refused { .. } | CallError::Unreachable { .. } | CallError::NoSocket { .. } => {
            Failure::Unreachable
        }
    }
}

/// Why, in the master's own words if these are known.
fn reason(error: &CallError) -> String {
    match error {
        CallError::Refused { body, .. } => match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => problem.detail,
            Err(_) => error.to_string(),
        },
        CallError::Unexpected { why, .. } => why.clone(),
        CallError::Unreachable { .. } | CallError::NoSocket { .. } => error.to_string(),
    }
}

/// The actor with its context, while it carries out effects.
struct Shell<'a> {
    act: &'a mut Reporter,
    ctx: &'a mut Context<Reporter>,
}

impl EffectHandler for Shell<'_> {
    fn register(&mut self, master: usize, facts: Option<EngineFacts>) {
        let url = format!("{}{REGISTER_PATH}", self.act.masters[master]);
        let (client, identity) = (self.act.client.clone(), self.act.identity.clone());
        let describe = self.act.supervisor.describe.send(Describe);
        let call = async move {
            let Ok(Ok(Some(description))) = tokio::time::timeout(DESCRIBE_LIMIT, describe).await else {
                return Err(CallError::Unreachable { url, why: "this host's supervisor is busy".to_owned() });
            };
            let registration = identity.registration(facts.unwrap_or_else(unknown_engine), description);
            client.post::<_, Registered>(&url, &registration, REGISTER_LIMIT).await
        };
        self.ctx.spawn(call.into_actor(self.act).map(|outcome, act, ctx| {
            if let Ok(registered) = &outcome {
                log::info!(cluster:% = registered.cluster, epoch:% = registered.fence.epoch; "registered");
            }
            let outcome = outcome.map_err(|error| act.failure(&error));
            act.feed(Event::Registered(outcome), ctx);
        }));
    }

    fn report(&mut self, master: usize, mut report: Box<Report>) {
        report.cas = self.act.heard.as_ref().map(Heard::stored).unwrap_or_default();
        let url = format!("{}{REPORT_PATH}", self.act.masters[master]);
        let (client, seq) = (self.act.client.clone(), report.seq);
        let call = async move { client.post::<_, ReportAck>(&url, &report, REPORT_LIMIT).await };
        self.ctx.spawn(call.into_actor(self.act).map(move |outcome, act, ctx| {
            if outcome.is_ok() && std::mem::take(&mut act.silent) {
                log::info!("the master answers again");
            }
            if let (Ok(ack), Some(list)) = (&outcome, &act.denied) {
                list.replace(&ack.denied);
            }
            if let (Ok(ack), Some(heard)) = (&outcome, &act.heard) {
                heard.cas(&ack.cas);
            }
            let outcome = outcome.map_err(|error| act.failure(&error));
            act.feed(Event::Reported { seq, outcome }, ctx);
        }));
    }

    fn joined(&mut self, cluster: ClusterId) {
        self.act.supervisor.joined.notify(Joined(cluster));
    }

    fn acknowledged(&mut self, replicas: Vec<ReplicaId>) {
        self.act.supervisor.acknowledged.notify(Acknowledged(replicas));
    }

    fn master_answered(&mut self) {
        self.act.supervisor.master_answered.notify(MasterAnswered);
    }

    fn apply_push(&mut self, push: Push) {
        let applied = tokio::time::timeout(APPLY_LIMIT, self.act.supervisor.push.send(ApplyPush(push)));
        // Accepted or refused: the next report says what the ledger holds.
        self.ctx.spawn(applied.into_actor(self.act).map(|_, act, ctx| act.feed(Event::PushApplied, ctx)));
    }
}

/// Sends to an actor whose mailbox holds far more than we can have in flight:
/// a full one is waited for, a closed one means that the agent stops.
trait Notify<M> {
    fn notify(&self, message: M);
}

impl<M> Notify<M> for Recipient<M>
where
    M: actix::Message<Result = ()> + Send + 'static,
{
    fn notify(&self, message: M) {
        match self.try_send(message) {
            Ok(()) => {}
            Err(SendError::Full(message)) => {
                // Each answer of a master brings at most three of these, and at most two are on their way.
                let waiting = self.send(message);
                actix::spawn(async move { waiting.await.unwrap_or_default() });
            }
            Err(SendError::Closed(_)) => log::debug!("the supervisor has ended"),
        }
    }
}

/// The facts about a host whose engine is away.
fn unknown_engine() -> EngineFacts {
    EngineFacts {
        version: "unknown".to_owned(),
        api: "unknown".to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: 0,
        id: None,
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.feed(Event::Begin, ctx);
    }
}

impl Handler<Observed> for Reporter {
    type Result = ();

    fn handle(&mut self, observed: Observed, ctx: &mut Self::Context) {
        self.feed(Event::Observed(Box::new(observed)), ctx);
    }
}

impl Handler<Shutdown> for Reporter {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_passes_by_itself_is_no_refusal() {
        let of = |status: u16, retry_after: Option<u64>| {
            failure_of(&CallError::Refused {
                url: "http://m".to_owned(),
                status: StatusCode::from_u16(status).unwrap(),
                body: Vec::new(),
                retry_after: retry_after.map(Duration::from_secs),
            })
        };
        for status in [408, 413, 429] {
            assert_eq!(of(status, None), Failure::Later { retry_after: None }, "{status}");
        }
        assert_eq!(of(429, Some(7)), Failure::Later { retry_after: Some(DurationMs(7_000)) });
        for status in [500, 502, 503, 504] {
            assert_eq!(of(status, Some(7)), Failure::Unreachable, "{status}");
        }
        for status in [400, 403, 404, 409] {
            assert_eq!(of(status, Some(7)), Failure::Refused, "{status}");
        }
    }
}
