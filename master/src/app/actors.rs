//! The actors, made on the one thread that they share.

use std::{mem::take, sync::Arc, time::Duration};

use actix::{Actor, Addr, AsyncContext, Context};
use shef_common::{
    clock::{DurationMs, Now},
    ids::{Version, random},
    tls::Tls,
};
use tokio::sync::watch;

use crate::{
    access::{AccessActor, AccessOutlets},
    audit::Audit,
    cluster::{
        ClusterActor, ClusterCore, ClusterOptions, ClusterOutlets, FORGOTTEN_LIMIT, Recovered, Succession,
    },
    config::MasterConfig,
    contents::{ContentsActor, ContentsOutlets},
    identity::{Authority, COPY},
    membership::{MembershipActor, MembershipCore, MembershipOutlets, Settings},
    registries::{KeyError, RegistriesActor, RegistriesOutlets, Vault},
    rotation::{RotationActor, RotationParts},
    scheduler::{SchedulerActor, SchedulerCore},
    stats::{Counts, Stats, StatsActor},
    store::{CoreOptions, LeadOutcome, Leadership, Store, StoreActor, StoreHealth},
    view::ClusterView,
};

/// What the actors start from.
pub(super) struct Parts {
    pub config: MasterConfig,
    pub store: Arc<dyn Store>,
    /// The leadership that was taken.
    pub led: LeadOutcome,
    /// What the store holds, read.
    pub recovered: Recovered,
    /// The counters that the store holds.
    pub saved_counts: Option<(Version, Counts)>,
    /// Whether this leadership follows one that is known to be gone.
    pub takes_over: bool,
    /// Whether callers can be administrators by tokens alone.
    pub only_tokens: bool,
    /// The view of the cluster that the API reads.
    pub view: Arc<ClusterView>,
    /// The audit log, if one is written.
    pub audit: Option<Arc<Audit>>,
    /// The counters behind `/stats`.
    pub stats: Arc<Stats>,
    /// The key for credentials, or why there is none.
    pub vault: Result<Vault, KeyError>,
    /// The cluster's CA; `None`: its members speak plainly.
    pub authority: Option<Arc<Authority>>,
    /// TLS between hosts, unless it is off.
    pub tls: Option<Tls>,
    /// Whether this master is to start again, and how.
    pub again: watch::Sender<Option<Succession>>,
}

/// The actors' addresses, and what they share with readers.
pub(super) struct Actors {
    pub store: Addr<StoreActor>,
    pub store_health: watch::Receiver<StoreHealth>,
    pub stats: Addr<StatsActor>,
    pub scheduler: Addr<SchedulerActor>,
    pub membership: Addr<MembershipActor>,
    pub cluster: Addr<ClusterActor>,
    pub registries: Addr<RegistriesActor>,
    pub contents: Addr<ContentsActor>,
    pub access: Addr<AccessActor>,
    pub authority: Option<Arc<Authority>>,
    pub rotation: Option<Addr<RotationActor>>,
    pub view: Arc<ClusterView>,
    pub counters: Arc<Stats>,
}

impl Actors {
    /// Starts the actors on this thread. The cluster's address is known before the cluster is made: the store
    /// and the membership tell it what happens.
    pub fn start(parts: Parts) -> Self {
        let Parts { config, store, led, mut recovered, takes_over, view, .. } = parts;
        let counters = parts.stats;
        let context = Context::<ClusterActor>::new();
        let cluster = context.address();

        let kept = store.clone();
        let (store, store_health) =
            StoreActor::new(store, &led, CoreOptions::default(), cluster.clone().recipient());
        let store = store.start();
        let stats = StatsActor::new(counters.clone(), parts.saved_counts, store.clone().recipient()).start();
        let scheduler = SchedulerActor(SchedulerCore::new(config.max_replicas_per_host)).start();

        let settings = membership_settings(&config);
        let (core, initial) = MembershipCore::new(settings, Now::read());
        let security = parts.tls.as_ref().map(Tls::to_members);
        let outlets = MembershipOutlets {
            cluster: cluster.clone().recipient(),
            view: view.clone(),
            security: security.clone(),
        };
        let membership = MembershipActor::new(core, initial, outlets).start();

        view.show_leadership(led.cluster.clone(), led.fence.clone());
        view.show_interval(settings.report_interval);
        let (registries, contents) = (take(&mut recovered.registries), take(&mut recovered.contents));
        let out = AccessOutlets {
            store: store.clone().recipient(),
            view: view.clone(),
            only_tokens: parts.only_tokens,
            authority: parts.authority.clone(),
        };
        let access = AccessActor::new(recovered.take_access(), out).start();
        let options = ClusterOptions {
            report_interval: settings.report_interval,
            history_limit: config.history_limit as usize,
            wave: crate::service::WAVE,
            forgotten_limit: FORGOTTEN_LIMIT,
            takes_over,
            has_ca: parts.authority.is_some(),
            seed: random(),
        };
        let leadership = Leadership { cluster: led.cluster, fence: led.fence };
        let (core, initial) = ClusterCore::new(options, leadership, recovered, Now::read());
        let outlets = ClusterOutlets {
            schedule: scheduler.clone().recipient(),
            scheduler: scheduler.clone().recipient(),
            membership: membership.clone().recipient(),
            store: store.clone().recipient(),
            leadership: store.clone().recipient(),
            access: access.clone().recipient(),
            view: view.clone(),
            audit: parts.audit,
            stats: counters.clone(),
            push_timeout: Duration::from_millis(config.push_timeout_ms),
            security,
            again: parts.again,
        };
        context.run(ClusterActor::new(core, initial, outlets));

        let outlets = RegistriesOutlets {
            store: store.clone().recipient(),
            changed: cluster.clone().recipient(),
            view: view.clone(),
        };
        let vault = parts.vault.map(Arc::new);
        let registries = RegistriesActor::new(registries, vault.clone(), outlets).start();
        let outlets = ContentsOutlets { store: store.clone().recipient(), view: view.clone() };
        let contents = ContentsActor::new(contents, vault.clone(), outlets).start();
        let rotation = parts.authority.clone().map(|authority| {
            let parts = RotationParts {
                authority,
                vault,
                commits: store.clone().recipient(),
                store: kept,
                view: view.clone(),
                copy: config.data_dir.join(COPY),
            };
            RotationActor::new(parts).start()
        });
        Self {
            store,
            store_health,
            stats,
            scheduler,
            membership,
            cluster,
            registries,
            contents,
            access,
            authority: parts.authority,
            rotation,
            view,
            counters,
        }
    }
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
