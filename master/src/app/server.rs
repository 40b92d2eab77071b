//! The HTTP server: its own threads, and what the handlers work with.

use std::{
    future::ready,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use actix::Addr;
use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, HttpMessage as _,
    dev::{AppConfig, Payload, Server, Service as _},
    middleware::from_fn,
    web,
};
use futures_util::future::Either;
use shef_common::{
    bodies::paced,
    client::HostClient,
    open_files::FileBudget,
    shares::Shares,
    sockets,
    tls::{Stream, Tls, accept},
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{RwLock, Semaphore, watch},
};

use super::{actors::Actors, socket::OwnSocket};
use crate::{
    audit::Audit,
    config::MasterConfig,
    http::{self, Api, BodyBudget, Connections, Permits, Rates, StreamClient},
    view::StateBody,
};

/// The server's keep-alive must outlast the clients', or reused connections fail.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How many bytes of users' bodies are kept at once while they come.
const USERS_BODIES: usize = 64 * 1024 * 1024;
/// The same of agents' bodies, which are larger.
const AGENTS_BODIES: usize = 256 * 1024 * 1024;
/// How long requests under way may take at a stop, in seconds.
const DRAIN_S: u64 = 5;

/// What the handlers work with.
fn api(
    actors: Actors,
    audit: Option<Arc<Audit>>,
    tls: Option<Tls>,
    config: &MasterConfig,
    stopping: watch::Receiver<bool>,
) -> Api {
    let Actors {
        store,
        store_health,
        scheduler,
        membership,
        cluster,
        registries,
        contents,
        access,
        authority,
        rotation,
        view,
        counters,
        ..
    } = actors;
    Api {
        ask: cluster.clone().recipient(),
        copy: cluster.clone().recipient(),
        copy_scheduler: scheduler.recipient(),
        register: cluster.clone().recipient(),
        report: cluster.clone().recipient(),
        operate: cluster.clone().recipient(),
        cluster: cluster.recipient(),
        release_brake: membership.recipient(),
        backup: store.recipient(),
        registries: registries.recipient(),
        contents: contents.recipient(),
        content_uses: RwLock::default(),
        tokens: access.clone().recipient(),
        join: access.clone().recipient(),
        revoke: access.clone().recipient(),
        readmit: access.clone().recipient(),
        renew: access.recipient(),
        authority,
        audit,
        rotation: rotation.map(Addr::recipient),
        tls,
        insecure: config.insecure,
        sessions: Mutex::default(),
        view,
        stats: counters,
        state: StateBody::default(),
        bootstraps: Mutex::default(),
        store: store_health,
        host_ip: config.host_ip,
        listen: SocketAddr::new(
            if config.listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { config.listen.ip() },
            config.listen.port(),
        ),
        max_body_bytes: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
        store_timeout: Duration::from_millis(config.store_timeout_ms),
        requests: Permits::new(config.max_waiting_requests),
        streams: Permits::new(config.max_streams),
        rates: Rates::of(config.token_requests_per_second),
        changes_per_minute: config.token_changes_per_minute,
        stopping,
        unsent_bytes: AtomicUsize::new(0),
        bodies: BodyBudget::of(USERS_BODIES),
        agents_bodies: BodyBudget::of(AGENTS_BODIES),
        plans: Arc::new(Semaphore::new(http::MAX_PLANS)),
    }
}

/// The socket, if there is one. Without it, holders of a token still reach the API.
pub(super) fn usable_socket(
    socket: io::Result<Option<OwnSocket>>,
    config: &MasterConfig,
) -> Option<OwnSocket> {
    socket.unwrap_or_else(|error| {
        let path = config.api_socket.as_deref().unwrap_or(Path::new("")).display();
        log::error!(path:%, error:%; "the API has no socket on this machine: only tokens let callers in");
        None
    })
}

/// Serves once it is polled: the address, and the server.
pub(super) fn serve(
    actors: Actors,
    audit: Option<Arc<Audit>>,
    config: &MasterConfig,
    listener: TcpListener,
    socket: Option<UnixListener>,
    tls: Option<Tls>,
    stopping: watch::Receiver<bool>,
) -> io::Result<(SocketAddr, Server)> {
    let api = web::Data::new(api(actors, audit, tls.clone(), config, stopping));
    let listen = config.listen;
    let to_agents = tls.as_ref().map(Tls::to_members);
    let budget = FileBudget::current();
    let workers = (config.http_workers as usize).max(1);
    let connections = Connections::new(budget.incoming);
    let known_names = config.api_names.clone();
    if config.insecure {
        log::warn!(
            "the API serves everybody who reaches {listen}: with insecure = false callers need a token"
        );
    }
    // Who has not said yet who it is takes no more than a part of what there is, each client.
    let unknown = Shares::of(budget.incoming / 2);
    let server = Server::build();
    let stops = server.graceful_shutdown_signal();
    let serve = move || {
        // Each worker has clients of its own, one of them for what agents stream.
        let share = budget.user_calls / workers / 2;
        let (streams, calls) = (
            web::Data::new(StreamClient::new(share, &to_agents)),
            web::Data::new(HostClient::with_calls(share, to_agents.clone())),
        );
        let (scarce, known_names) = (connections.clone(), known_names.clone());
        let app = App::new()
            .wrap_fn(move |request, service| {
                let connections = scarce.clone();
                let answer = service.call(request);
                async move { Ok(connections.let_go_if_scarce(answer.await?)) }
            })
            .wrap_fn(|mut request, service| {
                // Commands go on for as long as their clients do.
                if !request.path().ends_with("/exec") {
                    let body = request.take_payload();
                    request.set_payload(Payload::Stream { payload: Box::pin(paced(body)) });
                }
                service.call(request)
            })
            .wrap_fn(move |request, service| match http::admit(&request, &known_names) {
                Ok(()) => Either::Left(service.call(request)),
                Err(error) => Either::Right(ready(Ok(request.error_response(error)))),
            })
            .wrap(from_fn(http::audit))
            .wrap(http::headers())
            .app_data(api.clone())
            .app_data(streams)
            .app_data(calls)
            .configure(http::routes);
        let (counted, signal) = (connections.clone(), stops.clone());
        HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_LIMIT)
            // The last bytes of an answer arrive even while the client still writes.
            .client_disconnect_timeout(Duration::from_millis(shef_common::exec::DRAIN_MS))
            // A client that has gone is noticed, and whatever waited for it gives its place back.
            .h1_allow_half_closed(false)
            .graceful_shutdown_signal(move || {
                let signal = signal.clone();
                async move { signal.notified().await }
            })
            .on_connect_ext(move |stream: &Stream, data| {
                data.insert(stream.peer().clone());
                stream.uid().map(|uid| data.insert(uid));
                if let Some(key) = stream.key() {
                    data.insert(key.clone());
                }
                if let Some(proof) = stream.proof() {
                    data.insert(proof.clone());
                }
                let goes_on = counted.opened(stream.peer_address().map(|client| client.ip()), data);
                if let Some(connection) = stream.tcp() {
                    sockets::cut_off_if_unread(connection);
                    if !goes_on {
                        sockets::hang_up(connection);
                    }
                }
            })
            .finish(map_config(app, |()| AppConfig::default()))
    };
    let (over_tcp, over_socket) = (serve.clone(), serve);
    let address = listener.local_addr()?;
    let server = server
        .workers(workers)
        .max_concurrent_connections((budget.incoming / workers).max(1))
        .shutdown_timeout(DRAIN_S)
        .disable_signals()
        .listen("api", listener, move || {
            let (tls, unknown) = (tls.clone(), unknown.clone());
            fn_service(move |connection: TcpStream| {
                let share = connection.peer_addr().map(|client| unknown.take(client.ip()));
                let tls = tls.clone();
                async move {
                    let Ok(Some(_share)) = share else {
                        return Err(DispatchError::Io(io::Error::other("this client has as many as it may")));
                    };
                    let stream = accept(connection, tls.as_ref()).await.map_err(DispatchError::Io)?;
                    let client = stream.peer_address();
                    Ok((stream, Protocol::Http1, client))
                }
            })
            .and_then(over_tcp())
        })?;
    let server = match socket {
        Some(socket) => server.listen_uds("socket", socket, move || {
            fn_service(|connection: UnixStream| async {
                Ok((Stream::local(connection), Protocol::Http1, None))
            })
            .and_then(over_socket())
        })?,
        None => server,
    };
    Ok((address, server.run()))
}
