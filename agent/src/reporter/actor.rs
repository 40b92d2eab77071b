//! Carries out what the core decides: calls to masters, one timer.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, SpawnHandle, WrapFuture as _,
    prelude::SendError,
};
use shef_common::{
    client::{CallError, HostClient},
    clock::{MonoMs, Now},
    ids::{BootId, NodeName, NodeUid},
    problem::Problem,
    protocol::{HostInfo, REGISTER_PATH, REPORT_PATH, Registered, Registration, ReportAck},
};

use super::{
    core::{Core, Effect, Event, Failure, Settings},
    messages::Observed,
};
use crate::{
    engine::EngineFacts,
    supervisor::{Acknowledged, ApplyPush, Describe, Description, Joined, MasterHeard, Shutdown},
};

/// What may wait in the mailbox; the supervisor gathers what does not fit.
const MAILBOX: usize = 64;
const REGISTER_LIMIT: Duration = Duration::from_secs(10);
// Short, so that one call that hangs does not make the host look down.
const REPORT_LIMIT: Duration = Duration::from_secs(2);
const DESCRIBE_LIMIT: Duration = Duration::from_secs(2);
/// How long orders that came with an answer may take to be judged, as posted ones.
const OBEY_LIMIT: Duration = Duration::from_secs(10);

/// Who this host is, apart from its engine.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// This run.
    pub boot: BootId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Where the agent listens.
    pub agent_url: String,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
}

/// What the reporter may tell and ask the supervisor.
pub struct SupervisorLinks {
    /// For a registration.
    pub describe: Recipient<Describe>,
    /// After one.
    pub joined: Recipient<Joined>,
    /// What the master knows.
    pub acknowledged: Recipient<Acknowledged>,
    /// That a master answers.
    pub heard: Recipient<MasterHeard>,
    /// Orders that came with an answer.
    pub push: Recipient<ApplyPush>,
}

/// The reporter actor. See the module's own words.
pub struct Reporter {
    core: Core,
    identity: Identity,
    masters: Vec<String>,
    client: HostClient,
    supervisor: SupervisorLinks,
    timer: Option<(MonoMs, SpawnHandle)>,
    /// Whether the master's silence has been told already.
    silent: bool,
}

impl Reporter {
    /// A reporter to `masters` (at least one), made on its arbiter's thread.
    #[must_use]
    pub fn new(identity: Identity, masters: Vec<String>, settings: Settings, supervisor: SupervisorLinks) -> Self {
        let core = Core::new(settings);
        let client = HostClient::new();
        Self { core, identity, masters, client, supervisor, timer: None, silent: false }
    }

    fn feed(&mut self, event: Event, ctx: &mut Context<Self>) {
        for effect in self.core.handle(event, Now::read()) {
            self.perform(effect, ctx);
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

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Register { master, facts } => {
                let url = format!("{}{REGISTER_PATH}", self.masters[master]);
                let (client, identity) = (self.client.clone(), self.identity.clone());
                let describe = self.supervisor.describe.send(Describe);
                let call = async move {
                    let Ok(Ok(told)) = tokio::time::timeout(DESCRIBE_LIMIT, describe).await else {
                        return Err(CallError::Unreachable { url, why: "this host's supervisor is busy".to_owned() });
                    };
                    client.post::<_, Registered>(&url, &registration(identity, facts, told), REGISTER_LIMIT).await
                };
                ctx.spawn(call.into_actor(self).map(|outcome, act, ctx| {
                    if let Ok(registered) = &outcome {
                        log::info!(cluster:% = registered.cluster, epoch:% = registered.fence.epoch; "registered");
                    }
                    let outcome = outcome.map_err(|error| act.failure(&error));
                    act.feed(Event::Registered(outcome), ctx);
                }));
            }
            Effect::Report { master, report } => {
                let url = format!("{}{REPORT_PATH}", self.masters[master]);
                let (client, seq) = (self.client.clone(), report.seq);
                let call = async move { client.post::<_, ReportAck>(&url, &report, REPORT_LIMIT).await };
                ctx.spawn(call.into_actor(self).map(move |outcome, act, ctx| {
                    if outcome.is_ok() && std::mem::take(&mut act.silent) {
                        log::info!("the master answers again");
                    }
                    let outcome = outcome.map_err(|error| act.failure(&error));
                    act.feed(Event::Reported { seq, outcome }, ctx);
                }));
            }
            Effect::Joined(cluster) => self.supervisor.joined.tell(Joined(cluster)),
            Effect::Acknowledged(replicas) => self.supervisor.acknowledged.tell(Acknowledged(replicas)),
            Effect::Heard => self.supervisor.heard.tell(MasterHeard),
            Effect::Obey(push) => {
                let judged = tokio::time::timeout(OBEY_LIMIT, self.supervisor.push.send(ApplyPush(*push)));
                // Accepted or refused: the next report says what the ledger holds.
                ctx.spawn(judged.into_actor(self).map(|_, act, ctx| act.feed(Event::Obeyed, ctx)));
            }
        }
    }

    fn failure(&mut self, error: &CallError) -> Failure {
        let refusal = match error {
            CallError::Refused { status, body, .. } if status.is_client_error() => {
                Some(serde_json::from_slice::<Problem>(body).map_or_else(|_| error.to_string(), |problem| problem.detail))
            }
            CallError::Unexpected { why, .. } => Some(why.clone()),
            CallError::Refused { .. } | CallError::Unreachable { .. } => None,
        };
        if let Some(why) = refusal {
            log::error!(why; "the master refuses this host; asking again in 5 s");
            return Failure::Refused;
        }
        if !std::mem::replace(&mut self.silent, true) {
            log::warn!(why:% = error; "the master does not answer; what runs here runs on, asking again");
        }
        Failure::Unreachable
    }
}

/// Sends to an actor whose mailbox holds far more than we can have in flight:
/// a full one is waited for, a closed one means that the agent stops.
trait Tell<M> {
    fn tell(&self, message: M);
}

impl<M> Tell<M> for Recipient<M>
where
    M: actix::Message<Result = ()> + Send + 'static,
{
    fn tell(&self, message: M) {
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

fn registration(identity: Identity, facts: Option<EngineFacts>, told: Description) -> Registration {
    let facts = facts.unwrap_or_else(unknown_engine);
    Registration {
        node: identity.node,
        uid: identity.uid,
        boot: identity.boot,
        cluster: told.cluster,
        accepted: told.accepted,
        holds: told.holds,
        host: HostInfo {
            address: identity.address,
            agent_url: identity.agent_url,
            labels: identity.labels,
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            engine_version: facts.version,
            engine_api: facts.api,
            os: facts.os,
            arch: facts.arch,
            shef_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    }
}

/// What can be said of a host whose engine is away.
fn unknown_engine() -> EngineFacts {
    EngineFacts {
        version: "unknown".to_owned(),
        api: "unknown".to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: 0,
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
        self.feed(Event::Observed(observed), ctx);
    }
}

impl Handler<Shutdown> for Reporter {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
