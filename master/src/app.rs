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

mod actors;
mod server;
mod socket;
mod start_error;

use std::{fs::File, io::ErrorKind, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use actix::{Addr, Arbiter};
use actix_web::dev::ServerHandle;
use futures_util::future::{OptionFuture, join};
use shef_common::{
    clock::{DurationMs, Now},
    files,
    ids::{ClusterId, Epoch, Fence, LeaderId, TokenName, random_hex16},
    sockets,
    tls::CaDigest,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

pub use self::start_error::StartError;
use self::{
    actors::{Actors, Parts},
    socket::OwnSocket,
};
use crate::{
    access::{
        AccessActor, ClockCheck, FirstToken, JOIN_LIFE, JoinRole, TokenAsked, TokenKind, TokenRefused,
        TokenRequest,
    },
    audit::{AUDIT_LOG, Audit, Kept},
    cluster::Succession,
    config::MasterConfig,
    identity::{AuthorityCopy, COPY, Found, GivenFiles, OwnNames, authority_at_start, own_tls, renew_own},
    recover::{newest, recover},
    registries::{KeyError, SecretKey, Vault},
    stats::{SaveNow, Stats, StatsActor},
    store::{Flush, Look, OpenError, Store, StoreActor, StoreError, open},
    view::ClusterView,
};

/// How long the last writes may take at a stop.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// The token by which the master's own host joins.
const OWN_HOST: &str = "own-host";
/// The file in the data directory that names the cluster which goes on with this master, if its store is new.
pub const TAKEN_OVER: &str = "cluster";
/// How often, and how far apart, a store that does not answer is tried at the start.
const STORE_TRIES: (u32, Duration) = (20, Duration::from_millis(500));

/// A running master.
pub struct MasterHandle {
    address: SocketAddr,
    server: ServerHandle,
    arbiter: Arbiter,
    stats: Addr<StatsActor>,
    store: Addr<StoreActor>,
    access: Addr<AccessActor>,
    /// Whether the master is to start again, and how.
    again: watch::Receiver<Option<Succession>>,
    /// Ends the answers that go on.
    stopping: watch::Sender<bool>,
    audit: Option<Arc<Audit>>,
    ca: Option<CaDigest>,
    /// Of the certificates that it shows.
    renewal: Option<JoinHandle<()>>,
    /// No other master takes the socket meanwhile.
    _socket_lock: Option<File>,
    config: MasterConfig,
}

impl MasterHandle {
    /// Where the API listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a token by which one host joins within the hour.
    ///
    /// # Errors
    /// [`TokenRefused`] says what keeps it from being made.
    pub async fn join_token(&self) -> Result<String, TokenRefused> {
        let name = TokenName::parse(OWN_HOST).map_err(|_| TokenRefused::Stopping)?;
        let send = async |to| {
            let sent = self.access.send(TokenRequest { name: name.clone(), to }).timeout(FLUSH_LIMIT).await;
            sent.unwrap_or_else(|error| Err(TokenRefused::Unconfirmed(error.to_string())))
        };
        // One that was made at an earlier start is not known any more.
        match send(None).await {
            Ok(_) | Err(TokenRefused::NotFound(_)) => {}
            Err(refused) => return Err(refused),
        }
        let expires = Some(Now::read().wall.after(JOIN_LIFE));
        let kind = TokenKind::Join { role: JoinRole::Agent, uses_left: 1 };
        let created = send(Some(TokenAsked { kind, expires })).await?;
        created.map(|created| created.token).ok_or(TokenRefused::Stopping)
    }

    /// The digest of the CA whose certificate agents need; `None`: they need none.
    #[must_use]
    pub const fn ca(&self) -> Option<&CaDigest> {
        self.ca.as_ref()
    }

    /// Waits until this master is to be [started again](Self::start_again): it does not lead any more, and
    /// its store was restored from a backup, or the other leader is gone. Until then it only answers reads.
    pub async fn must_start_again(&mut self) {
        if self.again.wait_for(Option::is_some).await.is_err() {
            // The actors' thread has ended, so no actor reports this any more.
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
        self.renewal.inspect(JoinHandle::abort);
        self.server.stop(true).await;
        for saved in [
            self.stats.send(SaveNow).timeout(FLUSH_LIMIT).await.map_err(|error| error.to_string()),
            self.store.send(Flush).timeout(FLUSH_LIMIT).await.map_err(|error| error.to_string()),
        ] {
            if let Err(error) = saved {
                log::warn!(error; "stopping without the store's last word");
            }
        }
        if let Some(audit) = &self.audit {
            audit.stop().await;
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
    let mut tries_left = STORE_TRIES.0;
    let store = loop {
        match open(&config.store).await {
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

/// Whether nobody leads a store: it was restored, by an operator who wants its master to lead.
pub async fn is_restored(store: &dyn Store, leader: &LeaderId) -> bool {
    let nobody = Fence { epoch: Epoch(0), leader: leader.clone() };
    matches!(store.check(&nobody).await, Err(StoreError::Fenced { stored }) if stored.leader.is_none())
}

async fn start_on_as(
    mut config: MasterConfig,
    store: Arc<dyn Store>,
    how: Succession,
) -> Result<MasterHandle, StartError> {
    // A master that runs at the same address or socket goes on to lead. Nobody is answered here before this
    // one leads: connections wait in the system's queue.
    let listener = sockets::listener(config.listen)
        .map_err(|source| StartError::Listen { listen: config.listen, source })?;
    let socket = socket::own_socket(&config);
    if let (Err(error), Some(path)) = (&socket, &config.api_socket)
        && error.kind() == ErrorKind::AddrInUse
    {
        return Err(StartError::SocketInUse(path.clone()));
    }
    let given = config.api_certificate.as_ref().map(GivenFiles::read).transpose()?;
    if let Some((given, _)) = &given {
        config.api_names.add(given.names());
    }
    let leader = random_id(LeaderId::parse)?;
    let restored = is_restored(&*store, &leader).await;
    let key = SecretKey(config.secret_key_file.clone());
    let vault = tokio::task::spawn_blocking(move || key.open()).await.map_err(|_| StartError::Ended)?;
    if let Err(error) = &vault {
        log::error!(error:%; "no credentials of registries can be kept or used");
    }
    // A store that was emptied belongs to the cluster that it belonged to before.
    let copy = AuthorityCopy::read(config.data_dir.join(COPY), &vault).await;
    let cluster_if_new = match copy.cluster().cloned().or_else(|| taken_over(&config.data_dir)) {
        Some(cluster) => cluster,
        None => random_id(ClusterId::parse)?,
    };
    // Whatever may keep this master from leading is found before it takes the lead: the one that leads goes
    // on.
    let Look { cluster: bound, records } = store.look().await?;
    let stored = recover(&records)?.0;
    let cluster = bound.as_ref().unwrap_or(&cluster_if_new);
    let newest = newest(&stored);
    let (key_file, record) = (config.secret_key_file.clone(), stored.authority);
    let mut found = Found { configured: config.tls, record, copy, key_file, vault: &vault };
    found.check(cluster, &records)?;
    // It may be another master's log. But no line is written with another cluster's key.
    let audit = audit_log(&config, &vault).await?;
    let socket = server::usable_socket(socket, &config);
    let only_tokens = !config.insecure && socket.is_none();
    let first_token = if config.insecure {
        None
    } else {
        let clock = ClockCheck::by(Now::read().wall, newest.max(audit.as_ref().and_then(|log| log.newest())));
        Some(
            FirstToken::prepared(&config.data_dir, &records, socket.is_some(), clock)
                .map_err(first_failed)?,
        )
    };
    drop(records);
    let mut led = store.lead(&leader, how.above, &cluster_if_new).await?;
    if let Some(token) = first_token {
        token.stored(&*store, &mut led).await.map_err(first_failed)?;
    }
    let (mut recovered, saved_counts) = recover(&led.records)?;
    log::info!(
        cluster:% = led.cluster, epoch:% = led.fence.epoch, services = recovered.services.len(),
        nodes = recovered.nodes.len();
        "leading on {}", store.describe()
    );

    found.record = recovered.authority.take();
    let authority = authority_at_start(found, &*store, &mut led).await?;
    let (socket, socket_lock) = socket.map(|OwnSocket { listener, lock }| (listener, lock)).unzip();
    let (again_sender, again) = watch::channel(None);
    let own = OwnNames {
        names: config.api_names.names().map(str::to_owned).collect(),
        addresses: vec![config.host_ip.into()],
    };
    let tls = authority.as_ref().map(|authority| own_tls(authority, &own)).transpose()?;
    let given = config.api_certificate.clone().zip(given);
    if tls.is_none() && given.is_some() {
        log::error!("the certificate that was given to the API is not shown: this cluster is without TLS");
    }
    let renewal = authority.clone().zip(tls.clone()).map(|(authority, tls)| {
        let shows = given.map(|(files, read)| files.show(read, tls.clone()));
        let renews = renew_own(authority, own, tls);
        actix_rt::spawn(async { _ = join(renews, OptionFuture::from(shows)).await })
    });
    let ca = authority.as_ref().map(|authority| authority.digest());
    let parts = Parts {
        config: config.clone(),
        tls: tls.clone(),
        store,
        led,
        recovered,
        takes_over: how.takes_over || restored,
        only_tokens,
        stats: Arc::new(Stats::starting_at(saved_counts.map(|(_, counts)| counts).unwrap_or_default())),
        saved_counts,
        view: Arc::new(ClusterView::default()),
        audit: audit.clone(),
        vault,
        authority,
        again: again_sender,
    };
    let arbiter = Arbiter::new();
    let (sender, receiver) = oneshot::channel();
    arbiter.spawn_fn(move || {
        let _ = sender.send(Actors::start(parts));
    });
    let actors = receiver.await.map_err(|_| StartError::Ended)?;
    let (stopping, until_stop) = watch::channel(false);
    let (stats, store, access) = (actors.stats.clone(), actors.store.clone(), actors.access.clone());
    let (address, server) = server::serve(actors, audit.clone(), &config, listener, socket, tls, until_stop)
        .map_err(|source| StartError::Listen { listen: config.listen, source })?;
    let handle = server.handle();
    actix_rt::spawn(server);
    if socket_lock.is_some() {
        socket::link(&config);
    }
    Ok(MasterHandle {
        address,
        server: handle,
        arbiter,
        stats,
        store,
        access,
        again,
        stopping,
        audit,
        ca,
        renewal,
        _socket_lock: socket_lock,
        config,
    })
}

fn first_failed(why: String) -> StartError {
    StartError::FirstToken(why)
}

/// Opens the audit log, if one is to be written.
async fn audit_log(
    config: &MasterConfig,
    vault: &Result<Vault, KeyError>,
) -> Result<Option<Arc<Audit>>, StartError> {
    if !config.audit {
        log::warn!("nothing is written to the audit log: audit is false");
        return Ok(None);
    }
    let directory = config.data_dir.clone();
    let kept = Kept {
        bytes: config.audit_file_bytes,
        files: usize::try_from(config.audit_files).unwrap_or(usize::MAX),
        younger_than: DurationMs(config.audit_days * 24 * 3_600_000),
        most_bytes: config.audit_max_bytes,
    };
    let key = vault.as_ref().ok().map(|vault| vault.audit_key().clone());
    let opened = tokio::task::spawn_blocking(move || {
        files::make_data_dir(&directory)?;
        Audit::start(&directory, kept, key)
    });
    let opened = opened.await.map_err(|_| StartError::Ended)?;
    let path = config.data_dir.join(AUDIT_LOG);
    Ok(Some(Arc::new(opened.map_err(|source| StartError::Audit { path, source })?)))
}

/// The cluster that goes on with this master, as the bootstrap has noted it: its first host is lost for good.
fn taken_over(data_dir: &Path) -> Option<ClusterId> {
    let noted = std::fs::read_to_string(data_dir.join(TAKEN_OVER)).ok()?;
    ClusterId::parse(noted.trim()).ok()
}

fn random_id<T, E>(parse: impl Fn(&str) -> Result<T, E>) -> Result<T, StartError> {
    // Sixteen hexadecimal digits are always an id.
    parse(&random_hex16()).map_err(|_| StartError::Ended)
}
