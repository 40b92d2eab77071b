//! The master's HTTP server: docker-shef's API, ours under `/v1`, and the
//! agents' calls. Handlers parse, ask, and answer; they decide nothing.

mod access;
mod agent_error;
mod agents;
mod answer;
mod audit;
mod backup;
mod body;
mod ca;
mod connections;
mod contents;
mod credentials;
mod disk;
mod error;
mod events;
mod exec;
mod health;
mod join;
mod legacy;
mod listing;
mod login;
mod logs;
mod nodes;
mod openapi;
mod operator;
mod params;
mod plan;
mod rates;
mod registries;
mod rollouts;
mod routes;
mod services;
mod slices;
mod spec;
mod streams;
mod tokens;
mod usage;

use std::{
    borrow::Cow,
    future::ready,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use actix::Recipient;
use actix_web::{
    HttpRequest, HttpResponse, ResponseError, Route,
    dev::ServiceRequest,
    http::header::{self, HeaderValue},
    middleware::DefaultHeaders,
    web,
};
use shef_common::{
    browser_guard::{Caller, KnownNames},
    contents::CONTENT_PATH,
    problem::{Code, Problem},
    protocol::{IMAGES_PATH, REGISTER_PATH, REPORT_PATH},
    shares::{Share, Shares},
    tls::{JOIN_PATH, Peer, RENEW_PATH, Tls},
};
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, watch};

use crate::{
    access::{JoinRequest, MayChange, ReadmitRequest, RenewRequest, RevokeIdentity, Sessions, TokenRequest},
    audit::Audit,
    cluster::{AskService, CopyService, PhaseView, ToCluster},
    contents::ContentRequest,
    identity::Authority,
    membership::ReleaseBrake,
    registries::RegistryRequest,
    rotation::AskCa,
    runner::{Operate, Register, TakeReport},
    scheduler::CopyScheduler,
    service::{Accepted, Refused, Request},
    stats::Stats,
    store::{StoreHealth, TakeBackup},
    view::{Bootstraps, ClusterView, StateBody},
};

pub use audit::audit;
pub use body::BodyBudget;
pub use connections::Connections;
pub use error::ApiError;
pub use plan::MAX_PLANS;
pub use rates::Rates;
pub use streams::StreamClient;

/// What the handlers work with. One for all workers.
pub struct Api {
    /// Takes what users ask.
    pub ask: Recipient<AskService>,
    /// Gives copies of services, for dry runs.
    pub copy: Recipient<CopyService>,
    /// Gives copies of the scheduler, for dry runs.
    pub copy_scheduler: Recipient<CopyScheduler>,
    /// Takes hosts that introduce themselves.
    pub register: Recipient<Register>,
    /// Takes hosts' reports.
    pub report: Recipient<TakeReport>,
    /// Takes what operators ask of hosts.
    pub operate: Recipient<Operate>,
    /// Lets replacement go on though many hosts are down.
    pub release_brake: Recipient<ReleaseBrake>,
    /// The cluster, for what is not answered.
    pub cluster: Recipient<ToCluster>,
    /// Takes what registries are to be shown.
    pub registries: Recipient<RegistryRequest>,
    /// Takes secrets and configs.
    pub contents: Recipient<ContentRequest>,
    /// Held to read while a spec that mounts contents is stored, and to write while contents are removed.
    pub content_uses: RwLock<()>,
    /// The audit log; `None`: none is written.
    pub audit: Option<Arc<Audit>>,
    /// The cluster's CA; `None`: its members speak plainly.
    pub authority: Option<Arc<Authority>>,
    /// The master's certificate, and whom it trusts.
    pub tls: Option<Tls>,
    /// Shows and replaces the CA.
    pub rotation: Option<Recipient<AskCa>>,
    /// Whether callers without a token are served.
    pub insecure: bool,
    /// What holders of tokens have asked of late.
    pub rates: Rates,
    /// How many changes a minute the holder of a token may make for long.
    pub changes_per_minute: u32,
    /// Browsers that have logged in.
    pub sessions: Mutex<Sessions>,
    /// Takes who may call.
    pub tokens: Recipient<TokenRequest>,
    /// Lets hosts in.
    pub join: Recipient<JoinRequest>,
    /// Revokes identities.
    pub revoke: Recipient<RevokeIdentity>,
    /// Records hosts that have a certificate, and that the store does not know.
    pub readmit: Recipient<ReadmitRequest>,
    /// Says which hosts may have another certificate.
    pub renew: Recipient<RenewRequest>,
    /// Gives what is durable.
    pub backup: Recipient<TakeBackup>,
    /// The view that readers are shown.
    pub view: Arc<ClusterView>,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// docker-shef's `GET /state`.
    pub state: StateBody,
    /// Whose bootstraps have called.
    pub bootstraps: Mutex<Bootstraps>,
    /// How the store fares.
    pub store: watch::Receiver<StoreHealth>,
    /// The master's own host.
    pub host_ip: Ipv4Addr,
    /// Where the API listens, as its own machine reaches it.
    pub listen: SocketAddr,
    /// The most bytes of a user's request body.
    pub max_body_bytes: usize,
    /// How long a write waits for the store.
    pub store_timeout: Duration,
    /// The bound on user requests that are under way.
    pub requests: Permits,
    /// The bound on answers that go on.
    pub streams: Permits,
    /// Whether the master stops: then streams end.
    pub stopping: watch::Receiver<bool>,
    /// The bound on plans that are made at once.
    pub plans: Arc<Semaphore>,
    /// How many bytes of large answers are not sent yet.
    pub unsent_bytes: AtomicUsize,
    /// The memory for users' bodies while they arrive.
    pub bodies: BodyBudget,
    /// The same of agents' bodies.
    pub agents_bodies: BodyBudget,
}

impl Api {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all that is stored can be read here: after a start that takes a moment.
    fn knows_all(&self) -> Result<(), ApiError> {
        match self.view.cluster().phase {
            PhaseView::Recovering => {
                let detail =
                    "the master has just started and has not read all that is stored; ask again in a moment";
                Err(Problem::new(Code::Recovering, detail).into())
            }
            PhaseView::Leading | PhaseView::Deposed(_) => Ok(()),
        }
    }

    /// Asks something of a service and waits until it is durable or refused.
    async fn ask(&self, permitted: MayChange, request: Request) -> Result<Accepted, Refused> {
        let name = permitted.service().clone();
        match self.ask.send(AskService { name, request }).timeout(self.store_timeout).await {
            Ok(answer) => answer,
            Err(actix::MailboxError::Timeout) => Err(Refused::Store(format!(
                "the store has not confirmed within {} ms; the change may still come about, look before \
                 trying again",
                self.store_timeout.as_millis()
            ))),
            Err(closed) => Err(Refused::Store(closed.to_string())),
        }
    }
}

/// How many of something may be under way at once, and how many of one client.
pub struct Permits {
    free: Arc<Semaphore>,
    /// How many there are in all.
    pub most: usize,
    shares: Arc<Shares>,
}

/// One of them; given back when dropped.
struct Permit {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl Permits {
    /// `most` of them, all free.
    pub fn new(most: u32) -> Self {
        let most = most as usize;
        Self { free: Arc::new(Semaphore::new(most)), most, shares: Shares::of(most) }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.most - self.free.available_permits()
    }

    /// Takes a permit for the sender of `request`, or says which bound is reached; `whose`: the bound is a
    /// client's.
    fn take(
        &self,
        request: &HttpRequest,
        too_many: impl Fn(usize, &str) -> String,
    ) -> Result<Permit, ApiError> {
        let overloaded = |most, whose: &str| Problem::new(Code::Overloaded, too_many(most, whose));
        let client = request.peer_addr().map(|address| address.ip());
        let share = client.map(|client| {
            let whose = format!(" of {client}, which is what one client may have");
            self.shares.take(client).ok_or_else(|| overloaded(self.shares.most, &whose))
        });
        let share = share.transpose()?;
        let permit = self.free.clone().try_acquire_owned().map_err(|_| overloaded(self.most, ""))?;
        Ok(Permit { _permit: permit, _share: share })
    }
}

/// The permit of one request under way; given back when dropped.
pub struct RequestPermit {
    _permit: Permit,
}

impl RequestPermit {
    /// Takes a permit, if one is free.
    pub fn take(api: &web::Data<Api>, request: &HttpRequest) -> Result<Self, ApiError> {
        let too_many = |most, whose: &str| {
            format!("{most} requests are under way{whose}; the bound is max_waiting_requests, try again")
        };
        Ok(Self { _permit: api.requests.take(request, too_many)? })
    }
}

/// Whether `request` may be answered. Requests that a browser sends for web pages of other sites are refused.
/// Checks of health say nothing that a page could use, and come by any name.
pub fn admit(request: &ServiceRequest, names: &KnownNames) -> Result<(), ApiError> {
    if matches!(request.path(), "/healthz" | "/readyz") {
        return Ok(());
    }
    // Calls with a member's certificate do not come from a browser.
    let is_members = request.path().starts_with("/agent/");
    if is_members && matches!(request.conn_data::<Peer>(), Some(Peer::Member(_))) {
        return Ok(());
    }
    let caller = Caller::of(request.method(), request.headers());
    names.admit(caller).map_err(|refusal| Problem::from(&refusal).into())
}

/// What every answer tells browsers: no address of a page goes to another site, and nothing is taken for what
/// it does not say that it is. The pages say themselves what they may load.
pub fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

/// Every address of the API.
pub fn routes(config: &mut web::ServiceConfig) {
    routes::register(config);
    for (path, route) in agents_routes() {
        let resource = web::resource(path).route(audit::noted(route, "post", path));
        config.service(resource.default_service(wrong_method("POST".into())));
    }
    config.default_service(web::to(nothing_here));
}

/// The calls of agents, which are made by `POST`.
fn agents_routes() -> [(&'static str, Route); 6] {
    [
        (REGISTER_PATH, web::post().to(agents::register)),
        (REPORT_PATH, web::post().to(agents::report)),
        (IMAGES_PATH, web::post().to(agents::images)),
        (CONTENT_PATH, web::post().to(agents::content)),
        (JOIN_PATH, web::post().to(join::join)),
        (RENEW_PATH, web::post().to(join::renew)),
    ]
}

/// The answer to a method that an address does not take; `allowed`: the ones that it takes.
fn wrong_method(allowed: Cow<'static, str>) -> Route {
    web::to(move |request: HttpRequest| {
        let detail = format!(
            "{} does not take {}, but {allowed}",
            params::shown(request.path()),
            params::shown(request.method().as_str())
        );
        let mut answer = ApiError(Problem::new(Code::MethodNotAllowed, detail)).error_response();
        // Methods are visible characters.
        if let Ok(allowed) = HeaderValue::from_str(&allowed) {
            answer.headers_mut().insert(header::ALLOW, allowed);
        }
        ready(answer)
    })
}

async fn nothing_here(request: HttpRequest) -> HttpResponse {
    let detail = format!("there is nothing at {}; see / for the addresses", params::shown(request.path()));
    ApiError(Problem::new(Code::NotFound, detail)).error_response()
}
