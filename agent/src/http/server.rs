//! Accepts connections on this arbiter and serves them with actix-web's service.

use std::{future::ready, net::SocketAddr, rc::Rc, time::Duration};

use actix::Recipient;
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::map_config;
use actix_web::{
    App, HttpMessage as _, HttpRequest, Route,
    dev::{AppConfig, Payload, Service, ServiceFactory, ServiceRequest},
    error::{InternalError, JsonPayloadError},
    http::header::{self, HeaderValue},
    web,
};
use futures_util::future::Either;
use shef_common::{
    bodies::{is_too_slow, paced},
    browser_guard::{Caller, KnownNames, Refusal},
    clock::Now,
    disk::DISK_PATH,
    exec::DRAIN_MS,
    problem::{Code, Problem},
    protocol::{ASSIGNMENTS_PATH, PORTS_PATH, PROBE_PATH},
    registry::LOGIN_PATH,
    shares::Shares,
    sockets,
    tls::{self, Identity, Peer, PeerProof, Stream, Tls},
    usage::USAGE_PATH,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SemaphorePermit, watch},
};

use super::{
    assignments, disk, exec, health, logs, probe,
    probe::{Prober, SignOfLife},
    registry_login, usage,
};
use crate::{
    console::{Consoles, Meter},
    images::Cleaner,
    supervisor::ApplyPush,
};

/// The path at which every caller may ask whether the agent's process is up.
const HEALTH_PATH: &str = "/health";
/// The most connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// The most requests at once, whatever connection they come by.
const MAX_REQUESTS: usize = 256;
/// Longer than clients keep theirs, so that a reused connection is not the one we close.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long requests in flight may take when the agent stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<Stage>,
    requests: Rc<Semaphore>,
    connections: Rc<Semaphore>,
}

/// How far the server has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No new connections.
    Draining,
    /// What is open is closed.
    Closing,
}

impl Server {
    /// Serves `listener` on this arbiter until [`Server::stop`]; `sign` is the answer to probes. With `tls`
    /// its callers are members of the cluster alone.
    ///
    /// # Errors
    /// The operating system's own.
    pub async fn start(
        listener: std::net::TcpListener,
        tls: Option<Tls>,
        supervisor: Recipient<ApplyPush>,
        consoles: Consoles,
        images: Rc<Cleaner>,
        sign: SignOfLife,
        prober: Prober,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let supervisor = web::Data::new(supervisor);
        let requests = Rc::new(Semaphore::new(MAX_REQUESTS));
        let (slots, members) = (requests.clone(), tls.clone());
        let app = App::new()
            .wrap_fn(move |request, service| {
                let slots = slots.clone();
                // Probes have a bound of their own, and do not wait behind pushes that wait for the disk.
                let bounded = request.path() != PROBE_PATH;
                let answer = service.call(request);
                async move {
                    let _slot = if bounded { Some(slots.acquire().await) } else { None };
                    answer.await
                }
            })
            .wrap_fn(|mut request, service| {
                // Commands go on for as long as their clients do.
                if !request.path().ends_with("/exec") {
                    let body = request.take_payload();
                    request.set_payload(Payload::Stream { payload: Box::pin(paced(body)) });
                }
                service.call(request)
            })
            .wrap_fn(|request, service| {
                // Masters and agents call by address: no name is known but those of this machine.
                if matches!(request.conn_data::<Peer>(), Some(Peer::Member(_))) {
                    // No browser has the certificate of a member, which is called by its name.
                    return Either::Left(service.call(request));
                }
                match KnownNames::default().admit(Caller::of(request.method(), request.headers())) {
                    Ok(()) => Either::Left(service.call(request)),
                    Err(refusal) => Either::Right(ready(Err(refused(&refusal)))),
                }
            })
            .wrap_fn(move |request, service| match allowed(&request, members.as_ref()) {
                Ok(()) => Either::Left(service.call(request)),
                Err(refusal) => Either::Right(ready(Err(refusal))),
            })
            .app_data(supervisor)
            .app_data(web::Data::new(sign))
            .app_data(web::Data::new(Meter::new(consoles.clone())))
            .app_data(web::Data::new(consoles))
            .app_data(web::Data::new(images))
            .app_data(web::Data::new(exec::CommandSlots::new()))
            .app_data(web::Data::new(logs::LogSlots::new()))
            .app_data(web::Data::new(prober))
            .app_data(json_config())
            .service(
                web::resource(HEALTH_PATH)
                    .route(web::get().to(health::health))
                    .default_service(not_allowed("GET")),
            )
            .service(
                web::resource(PROBE_PATH)
                    .route(web::get().to(probe::alive))
                    .route(web::post().to(probe::through))
                    .default_service(not_allowed("GET, POST")),
            )
            .service(
                web::resource(PORTS_PATH)
                    .route(web::post().to(probe::ports))
                    .default_service(not_allowed("POST")),
            )
            .service(
                web::resource(ASSIGNMENTS_PATH)
                    .route(web::post().to(assignments::push))
                    .default_service(not_allowed("POST")),
            )
            .service(
                web::resource("/v1/replicas/{id}/logs")
                    .route(web::get().to(logs::get))
                    .default_service(not_allowed("GET")),
            )
            .service(
                web::resource("/v1/replicas/{id}/exec")
                    .route(web::get().to(exec::get))
                    .default_service(not_allowed("GET")),
            )
            .service(
                web::resource(LOGIN_PATH)
                    .route(web::post().to(registry_login::post))
                    .default_service(not_allowed("POST")),
            )
            .service(
                web::resource(DISK_PATH)
                    .route(web::post().to(disk::post))
                    .default_service(not_allowed("POST")),
            )
            .service(
                web::resource(USAGE_PATH)
                    .route(web::post().to(usage::post))
                    .default_service(not_allowed("POST")),
            )
            .default_service(web::to(not_found));
        let factory = HttpService::build()
            .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
            .client_request_timeout(HEAD_LIMIT)
            .client_disconnect_timeout(Duration::from_millis(DRAIN_MS))
            .h1_allow_half_closed(false)
            .on_connect_ext(|stream: &Stream, data| {
                data.insert(stream.peer().clone());
                if let Some(proof) = stream.proof() {
                    data.insert(proof.clone());
                }
            })
            .finish(map_config(app, |()| AppConfig::default()));
        let service = Rc::new(
            factory
                .new_service(())
                .await
                .map_err(|()| std::io::Error::other("the HTTP service could not be made"))?,
        );
        let (stop, stage) = watch::channel(Stage::Serving);
        let connections = Rc::new(Semaphore::new(MAX_CONNECTIONS));
        actix::spawn(accept(listener, tls, service, connections.clone(), stage));
        Ok(Self { address, stop, requests, connections })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets the requests in flight finish within a bound, and closes what is open.
    pub async fn stop(self) {
        self.stop.send_replace(Stage::Draining);
        let all = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN_LIMIT, self.requests.acquire_many(all(MAX_REQUESTS))).await.is_err() {
            log::warn!("requests were still in flight when the agent stopped");
        }
        self.stop.send_replace(Stage::Closing);
        if tokio::time::timeout(DRAIN_LIMIT, self.connections.acquire_many(all(MAX_CONNECTIONS)))
            .await
            .is_err()
        {
            log::warn!("connections were still open when the agent stopped");
        }
    }
}

async fn accept<S>(
    listener: TcpListener,
    tls: Option<Tls>,
    service: Rc<S>,
    slots: Rc<Semaphore>,
    mut stage: watch::Receiver<Stage>,
) where
    S: Service<(Stream, Protocol, Option<SocketAddr>)> + 'static,
{
    let shares = Shares::of(MAX_CONNECTIONS);
    loop {
        let Ok(()) = slots.acquire().await.map(SemaphorePermit::forget) else { return };
        let accepted = tokio::select! {
            _ = stage.wait_for(|stage| *stage >= Stage::Draining) => None,
            accepted = listener.accept() => Some(accepted),
        };
        match accepted {
            None => return slots.add_permits(1),
            Some(Ok((stream, peer))) => {
                // One client cannot keep all others out.
                let Some(share) = shares.take(peer.ip()) else {
                    slots.add_permits(1);
                    continue;
                };
                sockets::cut_off_if_unread(&stream);
                let (service, slots, mut stage) = (service.clone(), slots.clone(), stage.clone());
                let tls = tls.clone();
                actix::spawn(async move {
                    tokio::select! {
                        () = serve(stream, peer, tls, service) => {}
                        () = closing(&mut stage) => {}
                    }
                    drop(share);
                    slots.add_permits(1);
                });
            }
            Some(Err(error)) => {
                // Out of file descriptors, most likely: wait for some to come free.
                log::warn!(why:% = error; "a connection could not be accepted");
                slots.add_permits(1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection, if it is known who is at its other end.
async fn serve<S>(connection: TcpStream, client: SocketAddr, tls: Option<Tls>, service: Rc<S>)
where
    S: Service<(Stream, Protocol, Option<SocketAddr>)>,
{
    match tls::accept(connection, tls.as_ref()).await {
        Ok(stream) => drop(service.call((stream, Protocol::Http1, Some(client))).await),
        Err(error) => log::debug!(client:%, why:% = error; "a connection is not served"),
    }
}

/// Whether the caller may make this call: masters may make all of them, other agents may see whether this one
/// is up, and so may anyone who asks for `/health`. Without TLS it is not known who calls.
fn allowed(request: &ServiceRequest, tls: Option<&Tls>) -> Result<(), actix_web::Error> {
    let Some(tls) = tls else { return Ok(()) };
    let proof = request.conn_data::<PeerProof>();
    let is_still_taken = proof.is_none_or(|proof| tls.still_takes(proof, Now::read().mono));
    let (code, detail) = match request.conn_data::<Peer>() {
        _ if request.path() == HEALTH_PATH => return Ok(()),
        Some(Peer::Member(_)) if !is_still_taken => (
            Code::NotAMember,
            "this connection was made with a certificate of a CA that counts no more: make another one",
        ),
        Some(Peer::Member(member)) if tls.takes(member) => match member {
            Identity::Master(_) => return Ok(()),
            Identity::Agent(..) if request.path() == PROBE_PATH => return Ok(()),
            Identity::Agent(..) => (Code::NotAMember, "an agent may only see whether this one is up"),
        },
        Some(Peer::Member(_)) => {
            (Code::NotAMember, "this agent is of another cluster, or yours has been forgotten")
        }
        Some(Peer::Plain | Peer::Local) | None => (
            Code::TlsRequired,
            "this agent speaks TLS, with members of its cluster alone: call it by https://",
        ),
        Some(Peer::Anonymous) => {
            (Code::NotAMember, "this agent takes calls from members of its cluster alone")
        }
    };
    Err(InternalError::from_response(detail, assignments::problem(code, detail)).into())
}

/// Resolves a moment after the requests in flight were answered, so that the answers leave.
async fn closing(stage: &mut watch::Receiver<Stage>) {
    if stage.wait_for(|stage| *stage == Stage::Closing).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn json_config() -> web::JsonConfig {
    web::JsonConfig::default().limit(assignments::MAX_BODY_BYTES).error_handler(|error, _| {
        let code = match &error {
            JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
                Code::BodyTooLarge
            }
            JsonPayloadError::Payload(error) if is_too_slow(error) => Code::BodyTooSlow,
            JsonPayloadError::ContentType => Code::UnsupportedMediaType,
            _ => Code::InvalidBody,
        };
        let answer = assignments::problem(code, error.to_string());
        InternalError::from_response(error, answer).into()
    })
}

/// The answer to what a web page has a browser send.
fn refused(refusal: &Refusal) -> actix_web::Error {
    let problem = Problem::from(refusal);
    InternalError::from_response(refusal.to_string(), assignments::problem(problem.code, problem.detail))
        .into()
}

async fn not_found() -> actix_web::HttpResponse {
    assignments::problem(
        Code::NotFound,
        "an agent answers at /health, /v1/probe, /v1/probe/ports, /v1/assignments, /v1/usage and \
         /v1/replicas/{id}/logs and exec",
    )
}

/// The answer to a method that an address does not take; `allowed`: the ones that it takes.
fn not_allowed(allowed: &'static str) -> Route {
    web::to(move |request: HttpRequest| {
        let detail = format!("{} takes {allowed}", request.path());
        let mut answer = assignments::problem(Code::MethodNotAllowed, detail);
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        ready(answer)
    })
}
