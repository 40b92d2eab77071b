//! The master's wiring: every actor, whom it is handed, and the order of start and stop.
//!
//! ```text
//! http ──AskService──▶ cluster ──Request──▶ service ──Schedule──▶ scheduler
//!   └──Register/Report─▶ │  ▲                │  │
//!                        ▼  └──Orders────────┘  └──Commit──▶ store ◀──Commit── stats
//!        membership ◀─ runner ──push──▶ agent
//!             └──────────probe──────────────┘
//! ```
//!
//! All actors share one arbiter, so that what one posts to another arrives in
//! order and costs little; HTTP has threads of its own and reads from the view.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Handler, Message, Recipient};
use actix_web::{
    App, HttpServer,
    dev::{ServerHandle, Service as _},
    web,
};
use shef_common::{
    client::HostClient,
    clock::{DurationMs, Now},
    ids::{ClusterId, Epoch, Fence, LeaderId, random_hex16},
    open_files::FileBudget,
};

use tokio::sync::{oneshot, watch};

use crate::{
    cluster::{
        ClusterActor, ClusterCore, ClusterEvent, ClusterOptions, ClusterOutlets, Succession, ToCluster,
    },
    config::{MasterConfig, RedisConfig, StoreConfig},
    http::{self, Api, Connections, StreamClient},
    membership::{MembershipActor, MembershipCore, MembershipOutlets, Settings},
    post::post,
    recover::{Unreadable, recover},
    registries::{RegistriesActor, RegistriesOutlets, SecretKey},
    scheduler::SchedulerActor,
    stats::{SaveNow, Stats, StatsActor},
    store::{
        CoreOptions, Flush, LeadOutcome, LostLeadership, OpenError, RedisOptions, Store, StoreActor,
        StoreError, StoreOptions, open,
    },
    view::{ClusterView, StateBody},
};

/// The server's keep-alive must outlast the clients', or reused connections fail.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests under way may take at a stop, in seconds.
const DRAIN_S: u64 = 5;
/// How long the last writes may take at a stop.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// How often, and how far apart, a store that does not answer is tried at the start.
const STORE_TRIES: (u32, Duration) = (20, Duration::from_millis(500));

/// Why a master could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store does not give the leadership.
    #[error(transparent)]
    Lead(#[from] StoreError),
    /// A record cannot be read.
    #[error("the store holds {0}; use the version that wrote it, or restore a backup")]
    Record(#[from] Unreadable),
    /// The API's address cannot be listened on.
    #[error(
        "cannot listen on {listen}: {source}; choose another address with `listen` in the configuration (or --api)"
    )]
    Listen {
        /// Which address.
        listen: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The program is stopping already.
    #[error("the actors' thread has ended")]
    Ended,
}

/// A running master.
pub struct MasterHandle {
    address: SocketAddr,
    server: ServerHandle,
    arbiter: Arbiter,
    stats: Addr<StatsActor>,
    store: Addr<StoreActor>,
    /// Whether the master is to start again, and how.
    again: watch::Receiver<Option<Succession>>,
    /// Ends the answers that go on.
    stopping: watch::Sender<bool>,
    config: MasterConfig,
}

impl MasterHandle {
    /// Where the API listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until this master is to be [started again](Self::start_again): it does not lead any more, and
    /// its store was restored from a backup, or the other leader is gone. Until then it only answers reads.
    pub async fn must_start_again(&mut self) {
        if self.again.wait_for(Option::is_some).await.is_err() {
            // The actors' thread has ended: nobody will say so any more.
            std::future::pending::<()>().await;
        }
    }

    /// Stops, and starts at the same address from what is stored now.
    ///
    /// # Errors
    /// As [`start`].
    pub async fn start_again(self) -> Result<Self, StartError> {
        let config = MasterConfig { listen: self.address, ..self.config.clone() };
        let how = (*self.again.borrow()).unwrap_or_default();
        self.stop().await;
        start_as(config, how).await
    }

    /// Stops gracefully: requests under way are finished, counters and the last
    /// writes are saved; containers run on.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        self.server.stop(true).await;
        for saved in [
            self.stats.send(SaveNow).timeout(FLUSH_LIMIT).await.map_err(|error| error.to_string()),
            self.store.send(Flush).timeout(FLUSH_LIMIT).await.map_err(|error| error.to_string()),
        ] {
            if let Err(error) = saved {
                log::warn!(error; "stopping without the store's last word");
            }
        }
        self.arbiter.stop();
        let _ = tokio::task::spawn_blocking(move || self.arbiter.join()).await;
    }
}

/// Starts a master on the store that is configured. To be called inside an actix `System`.
///
/// # Errors
/// [`StartError`] says what cannot be used and what to do.
pub async fn start(config: MasterConfig) -> Result<MasterHandle, StartError> {
    start_as(config, Succession::default()).await
}

async fn start_as(config: MasterConfig, how: Succession) -> Result<MasterHandle, StartError> {
    let options = store_options(&config);
    let mut tries_left = STORE_TRIES.0;
    let store = loop {
        match open(&options).await {
            Err(error @ OpenError::Unreachable { .. }) if tries_left > 0 => {
                tries_left -= 1;
                log::warn!(error:%, tries_left; "waiting for the store");
                tokio::time::sleep(STORE_TRIES.1).await;
            }
            opened => break opened?,
        }
    };
    start_on_as(config, store, how).await
}

/// Starts a master on `store`.
///
/// # Errors
/// [`StartError`] says what cannot be used and what to do.
pub async fn start_on(config: MasterConfig, store: Arc<dyn Store>) -> Result<MasterHandle, StartError> {
    start_on_as(config, store, Succession::default()).await
}

async fn start_on_as(
    config: MasterConfig,
    store: Arc<dyn Store>,
    how: Succession,
) -> Result<MasterHandle, StartError> {
    let leader = random_id(LeaderId::parse)?;
    // A store that nobody leads was restored, by an operator who wants its master to lead.
    let nobody = Fence { epoch: Epoch(0), leader: leader.clone() };
    let restored =
        matches!(store.check(&nobody).await, Err(StoreError::Fenced { stored }) if stored.leader.is_nobody());
    let led = store.lead(&leader, how.above, &random_id(ClusterId::parse)?).await?;
    let (mut recovered, saved_counts) = recover(&led.records)?;
    let registries = std::mem::take(&mut recovered.registries);
    log::info!(
        cluster:% = led.cluster, epoch:% = led.fence.epoch, services = recovered.services.len(), nodes = recovered.nodes.len();
        "leading on {}", store.describe()
    );

    let view = Arc::new(ClusterView::default());
    let stats = Arc::new(Stats::starting_at(saved_counts.map(|(_, counts)| counts).unwrap_or_default()));
    let arbiter = Arbiter::new();
    let thread = arbiter.handle();

    let (tell_again, again) = watch::channel(None);
    let fenced = Fenced::start_in_arbiter(&thread, |_| Fenced::default());
    let lost = fenced.clone().recipient();
    let (store_actor, store_health) = StoreActor::new(store, &led, CoreOptions::default(), lost);
    let store = StoreActor::start_in_arbiter(&thread, move |_| store_actor);
    let scheduler = SchedulerActor::start_in_arbiter(&thread, |_| SchedulerActor::default());
    let (counters, commit) = (stats.clone(), store.clone().recipient());
    let stats_actor =
        StatsActor::start_in_arbiter(&thread, move |_| StatsActor::new(counters, saved_counts, commit));
    view.show_leadership(led.cluster.clone(), led.fence.clone());
    view.show_interval(DurationMs(config.report_interval_ms));
    let settings = membership_settings(&config);
    let options = ClusterOptions {
        report_interval: settings.report_interval,
        history_limit: config.history_limit as usize,
        takes_over: how.takes_over || restored,
        seed: shef_common::ids::random(),
    };
    let leads = LeadOutcome { cluster: led.cluster, fence: led.fence };
    let (core, first) = ClusterCore::new(options, leads, recovered, Now::read());
    let (tell, told) = oneshot::channel();
    let (commit, lead) = (store.clone().recipient(), store.clone().recipient());
    let (shown, counted, push_timeout) =
        (view.clone(), stats.clone(), Duration::from_millis(config.push_timeout_ms));
    let copy_scheduler = scheduler.clone().recipient();
    let cluster = ClusterActor::start_in_arbiter(&thread, move |ctx| {
        // The two know each other: the membership says what is true of hosts, the cluster carries it on.
        let cluster = ctx.address();
        let outlets = MembershipOutlets { cluster: cluster.recipient(), view: shown.clone() };
        let (members, initial) = MembershipCore::new(settings, Now::read());
        let membership = MembershipActor::new(members, initial, outlets).start();
        let _ = tell.send(membership.clone());
        let outlets = ClusterOutlets {
            schedule: scheduler.clone().recipient(),
            scheduler: scheduler.recipient(),
            membership: membership.recipient(),
            store: commit,
            lead,
            view: shown,
            stats: counted,
            push_timeout,
            again: tell_again,
        };
        ClusterActor::new(core, first, outlets)
    });
    fenced.try_send(TellFenced(cluster.clone().recipient())).map_err(|_| StartError::Ended)?;
    let membership = told.await.map_err(|_| StartError::Ended)?;
    let outlets = RegistriesOutlets {
        store: store.clone().recipient(),
        changed: cluster.clone().recipient(),
        view: view.clone(),
    };
    let key = SecretKey(config.secret_key_file.clone());
    let vault = tokio::task::spawn_blocking(move || key.open()).await.map_err(|_| StartError::Ended)?;
    if let Err(why) = &vault {
        log::error!(why; "no credentials of registries can be kept or used");
    }
    let registries =
        RegistriesActor::start_in_arbiter(&thread, move |_| RegistriesActor::new(registries, vault, outlets))
            .recipient();

    let (stopping, until_stop) = watch::channel(false);
    let api = web::Data::new(Api {
        ask: cluster.clone().recipient(),
        copy: cluster.clone().recipient(),
        copy_scheduler,
        register: cluster.clone().recipient(),
        report: cluster.clone().recipient(),
        operate: cluster.clone().recipient(),
        tell_cluster: cluster.recipient(),
        release_brake: membership.recipient(),
        backup: store.clone().recipient(),
        registries,
        view,
        stats,
        state: StateBody::default(),
        bootstraps: Mutex::default(),
        store: store_health,
        host_ip: config.host_ip,
        max_body_bytes: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
        store_timeout: Duration::from_millis(config.store_timeout_ms),
        max_waiting: config.max_waiting_requests as usize,
        waiting: AtomicUsize::new(0),
        max_streams: config.max_streams as usize,
        streams: AtomicUsize::new(0),
        stopping: until_stop,
        unsent_bytes: AtomicUsize::new(0),
        plans: std::sync::Arc::new(tokio::sync::Semaphore::new(http::MAX_PLANS)),
    });
    let listen = config.listen;
    let budget = FileBudget::current();
    let workers = (config.http_workers as usize).max(1);
    let connections = Connections::new(budget.incoming);
    let counted = connections.clone();
    let server = HttpServer::new(move || {
        // Each worker has clients of its own, one of them for what agents stream.
        let share = budget.user_calls / workers / 2;
        let (streams, calls) =
            (web::Data::new(StreamClient::new(share)), web::Data::new(HostClient::with_calls(share)));
        let connections = connections.clone();
        App::new()
            .wrap_fn(move |request, service| {
                let connections = connections.clone();
                let answer = service.call(request);
                async move { Ok(connections.let_go_if_scarce(answer.await?)) }
            })
            .app_data(api.clone())
            .app_data(streams)
            .app_data(calls)
            .configure(http::routes)
    })
    .workers(workers)
    .max_connections((budget.incoming / workers).max(1))
    .on_connect(move |_, data| counted.opened(data))
    .keep_alive(KEEP_ALIVE)
    // A client that has gone is noticed, and whatever waited for it gives its place back.
    .h1_allow_half_closed(false)
    // What is written last arrives, also while the client still writes.
    .client_disconnect_timeout(Duration::from_millis(shef_common::exec::DRAIN_MS))
    .shutdown_timeout(DRAIN_S)
    .disable_signals()
    .bind(listen)
    .map_err(|source| StartError::Listen { listen, source })?;
    let address = server.addrs().first().copied().unwrap_or(listen);
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(MasterHandle { address, server: handle, arbiter, stats: stats_actor, store, again, stopping, config })
}

fn membership_settings(config: &MasterConfig) -> Settings {
    Settings {
        report_interval: DurationMs(config.report_interval_ms),
        suspect_after: DurationMs(config.suspect_after_ms),
        probe_window: DurationMs(config.probe_window_ms),
        brake_share_percent: config.brake_share_percent,
        brake_release_after: DurationMs(config.brake_release_after_ms),
        unanswered_down_after: DurationMs(config.unanswered_down_after_ms),
        flap_hold: DurationMs(config.flap_hold_ms),
    }
}

/// Tells the cluster, which is made after the store's actor, that the leadership is lost.
#[derive(Default)]
struct Fenced {
    cluster: Option<Recipient<ToCluster>>,
    /// It was lost before the cluster was there.
    early: Option<ToCluster>,
}

/// The cluster is there.
#[derive(Message)]
#[rtype(result = "()")]
struct TellFenced(Recipient<ToCluster>);

impl Actor for Fenced {
    type Context = Context<Self>;
}

impl Handler<TellFenced> for Fenced {
    type Result = ();
    fn handle(&mut self, TellFenced(cluster): TellFenced, ctx: &mut Self::Context) {
        if let Some(early) = self.early.take() {
            post(ctx, &cluster, early);
        }
        self.cluster = Some(cluster);
    }
}

impl Handler<LostLeadership> for Fenced {
    type Result = ();
    fn handle(&mut self, lost: LostLeadership, ctx: &mut Self::Context) {
        let told = ToCluster(ClusterEvent::Fenced(lost.stored));
        match &self.cluster {
            Some(cluster) => post(ctx, cluster, told),
            None => self.early = Some(told),
        }
    }
}

fn random_id<T, E>(parse: impl Fn(&str) -> Result<T, E>) -> Result<T, StartError> {
    // Sixteen hexadecimal digits are always an id.
    parse(&random_hex16()).map_err(|_| StartError::Ended)
}

/// The store that is configured.
#[must_use]
pub fn store_options(config: &MasterConfig) -> StoreOptions {
    match &config.store {
        StoreConfig::Embedded => StoreOptions::Embedded { path: config.data_dir.clone() },
        StoreConfig::Redis(redis) => StoreOptions::Redis(redis_options(redis)),
    }
}

fn redis_options(config: &RedisConfig) -> RedisOptions {
    RedisOptions {
        username: config.username.clone(),
        password: config.password.as_ref().map(|secret| secret.expose().to_owned()),
        database: config.database,
        prefix: config.prefix.clone(),
        tls_ca_file: config.tls_ca_file.clone(),
        connect_timeout_ms: DurationMs(config.connect_timeout_ms),
        command_timeout_ms: DurationMs(config.command_timeout_ms),
        ..RedisOptions::new(config.url.clone())
    }
}
