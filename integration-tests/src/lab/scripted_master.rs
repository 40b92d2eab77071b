//! A master that takes registrations and reports, remembers them, and pushes
//! as a test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use shef_common::{
    client::{CallError, HostClient},
    ids::{ClusterId, Epoch, Fence, Generation, LeaderId, ReplicaId, Revision, ServiceName, Slot},
    image::ImageRef,
    problem::{Code, Problem},
    protocol::{
        ASSIGNMENTS_PATH, Accepted, Assignment, Push, PushRefused, REGISTER_PATH, REPORT_PATH, Registered,
        Registration, Report, ReportAck,
    },
    spec::Template,
    status::{ReplicaState, ReplicaStatus},
};
use tokio::sync::watch;

pub use super::engine::OBEDIENT;

/// How long a test waits for something to come about.
const WAIT_LIMIT: Duration = Duration::from_mins(1);

/// What the master has received, and how it answers.
#[derive(Debug, Default)]
pub struct Received {
    /// Every registration.
    pub registrations: Vec<Registration>,
    /// How many reports came.
    pub reports: u64,
    /// How many of them had statuses of replicas.
    pub reports_of_statuses: u64,
    /// The last report.
    pub last_report: Option<Report>,
    /// The latest status of each replica in this run of the agent.
    pub statuses: BTreeMap<ReplicaId, ReplicaStatus>,
    /// Every state each replica was reported in, in order.
    pub histories: BTreeMap<ReplicaId, Vec<ReplicaState>>,
    /// Statuses that should not have followed what came before.
    pub illegal: Vec<(ReplicaStatus, ReplicaStatus)>,
    /// Every reason that the engine was said not to answer for, as often as it was said.
    pub engine_errors: Vec<String>,
    /// The next report is answered with these orders.
    pub push_with_ack: Option<Push>,
    /// Registrations are refused with this detail.
    pub refuse: Option<String>,
    /// Reports are answered 503.
    pub deaf: bool,
    /// The next report is answered so.
    pub want_full: bool,
    /// The next report is answered so.
    pub want_registration: bool,
}

impl Received {
    /// How many replicas are in `state` by their latest status.
    #[must_use]
    pub fn count(&self, state: ReplicaState) -> usize {
        self.statuses.values().filter(|status| status.state == state).count()
    }
}

/// A scripted master.
pub struct ScriptedMaster {
    received: Arc<Mutex<Received>>,
    news: watch::Receiver<u64>,
    server: ServerHandle,
    /// Where it listens.
    pub url: String,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its leadership.
    pub fence: Fence,
}

#[derive(Clone)]
struct Shared {
    received: Arc<Mutex<Received>>,
    news: Arc<watch::Sender<u64>>,
    cluster: ClusterId,
    fence: Fence,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptedMaster {
    /// A master of `cluster` on any free port of the loopback.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// The same at a given address.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start_on(address: &str) -> Self {
        let cluster = ClusterId::parse("00000000000000cc").expect("a cluster id");
        let fence =
            Fence { epoch: Epoch(1), leader: LeaderId::parse("00000000000000aa").expect("a leader id") };
        let received = Arc::new(Mutex::new(Received::default()));
        let (sender, news) = watch::channel(0);
        let shared = Shared {
            received: received.clone(),
            news: Arc::new(sender),
            cluster: cluster.clone(),
            fence: fence.clone(),
        };
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(shared.clone()))
                .app_data(web::JsonConfig::default().limit(64 << 20))
                .route(REGISTER_PATH, web::post().to(register))
                .route(REPORT_PATH, web::post().to(report))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .bind(address)
        .expect("a port on the loopback");
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix::spawn(server);
        Self { received, news, server: handle, url, cluster, fence }
    }

    /// Ends the master, as a crash would.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }

    /// What was received, to look at or to change.
    pub fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `fits`.
    ///
    /// # Panics
    /// After a minute, with what was received instead.
    pub async fn until(&self, what: &str, fits: impl Fn(&Received) -> bool) {
        let mut news = self.news.clone();
        let wait = async {
            loop {
                news.mark_unchanged();
                if fits(&self.received()) {
                    return;
                }
                news.changed().await.expect("the master lives");
            }
        };
        let came = tokio::time::timeout(WAIT_LIMIT, wait).await.is_ok();
        assert!(came, "{what} did not come about: {:#?}", self.received());
    }

    /// Waits until every one of `replicas` is in `state`.
    pub async fn until_all(&self, replicas: &[Assignment], state: ReplicaState) {
        let fits = |received: &Received| {
            replicas
                .iter()
                .all(|a| received.statuses.get(&a.replica).is_some_and(|status| status.state == state))
        };
        self.until(&format!("{} replicas {state:?}", replicas.len()), fits).await;
    }

    /// The address of the agent that registered last.
    ///
    /// # Panics
    /// If none has.
    #[must_use]
    pub fn agent_url(&self) -> String {
        self.received().registrations.last().expect("a registration").host.agent_url.clone()
    }

    /// Orders everything anew: names for removal whatever else the agent has reported.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn snapshot(&self, revision: u64, set: &[Assignment]) -> Result<Accepted, PushRefused> {
        self.push(self.fence.clone(), None, revision, set, &[]).await
    }

    /// Orders a change of what the agent holds at `base`.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn delta(
        &self,
        base: u64,
        set: &[Assignment],
        remove: &[Assignment],
    ) -> Result<Accepted, PushRefused> {
        self.push(self.fence.clone(), Some(Revision(base)), base + 1, set, remove).await
    }

    /// Sends a push.
    ///
    /// # Errors
    /// The agent's refusal.
    ///
    /// # Panics
    /// If the agent does not answer as it should.
    pub async fn push(
        &self,
        fence: Fence,
        base: Option<Revision>,
        revision: u64,
        set: &[Assignment],
        remove: &[Assignment],
    ) -> Result<Accepted, PushRefused> {
        let mut remove: Vec<ReplicaId> = remove.iter().map(|a| a.replica.clone()).collect();
        if base.is_none() {
            let received = self.received();
            let held = received.registrations.last().into_iter().flat_map(|registration| &registration.holds);
            let known: BTreeSet<&ReplicaId> =
                held.map(|held| &held.replica).chain(received.statuses.keys()).collect();
            remove.extend(known.into_iter().filter(|id| set.iter().all(|set| set.replica != **id)).cloned());
        }
        let push = Push {
            cluster: self.cluster.clone(),
            fence,
            base,
            revision: Revision(revision),
            set: set.to_vec(),
            remove,
            by_name: true,
            credentials: std::collections::BTreeMap::new(),
            holds: None,
            templates_once: false,
        };
        let url = format!("{}{ASSIGNMENTS_PATH}", self.agent_url());
        match HostClient::new(None).post::<_, Accepted>(&url, &push, Duration::from_secs(20)).await {
            Ok(accepted) => Ok(accepted),
            Err(CallError::Refused { status, body, .. }) if status == 409 => {
                Err(serde_json::from_slice(&body).expect("a refusal"))
            }
            Err(error) => panic!("the agent did not take the push: {error}"),
        }
    }
}

async fn register(shared: web::Data<Shared>, body: web::Json<Registration>) -> HttpResponse {
    let answer = {
        let mut received = shared.lock();
        if let Some(detail) = &received.refuse {
            HttpResponse::Conflict().json(Problem::new(Code::NodeConflict, detail.clone()))
        } else {
            received.statuses.clear();
            received.registrations.push(body.into_inner());
            HttpResponse::Ok().json(Registered {
                cluster: shared.cluster.clone(),
                fence: shared.fence.clone(),
                report_interval_ms: 200,
            })
        }
    };
    shared.news.send_modify(|count| *count += 1);
    answer
}

async fn report(shared: web::Data<Shared>, body: web::Json<Report>) -> HttpResponse {
    let report = body.into_inner();
    let answer = {
        let mut received = shared.lock();
        if received.deaf {
            HttpResponse::ServiceUnavailable().finish()
        } else {
            received.reports += 1;
            received.reports_of_statuses += u64::from(!report.statuses.is_empty());
            for status in &report.statuses {
                let before = received.statuses.insert(status.replica.clone(), status.clone());
                if let Some(before) = before.filter(|before| !status.supersedes(before)) {
                    received.illegal.push((before, status.clone()));
                }
                let history = received.histories.entry(status.replica.clone()).or_default();
                if history.last() != Some(&status.state) {
                    history.push(status.state);
                }
            }
            received.engine_errors.extend(report.engine_error.clone());
            received.last_report = Some(report);
            HttpResponse::Ok().json(ReportAck {
                denied: Vec::new(),
                cas: Vec::new(),
                fence: shared.fence.clone(),
                want_full: std::mem::take(&mut received.want_full),
                want_registration: std::mem::take(&mut received.want_registration),
                report_interval_ms: None,
                push: received.push_with_ack.take().map(Box::new),
            })
        }
    };
    shared.news.send_modify(|count| *count += 1);
    answer
}

/// `count` assignments of a service `name`, numbered from `first`, with `template`.
///
/// # Panics
/// If `name` is no service's name.
#[must_use]
pub fn assignments(name: &str, first: u32, count: u32, template: &Template) -> Vec<Assignment> {
    let service = ServiceName::parse(name).expect("a service name");
    let template = Arc::new(template.clone());
    (first..first + count)
        .map(|number| Assignment {
            replica: ReplicaId::new(&service, number),
            service: service.clone(),
            slot: Slot(number),
            generation: Generation(1),
            template: template.clone(),
            on_disconnect: shef_common::spec::OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        })
        .collect()
}

/// A template of `image` that runs `script` in busybox's shell.
///
/// # Panics
/// If `image` is none.
#[must_use]
pub fn shell(image: &str, script: &str, stop_grace_s: u32) -> Template {
    let mut template = Template::of(ImageRef::parse(image).expect("an image"));
    template.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    template.stop_grace_s = stop_grace_s;
    template
}
