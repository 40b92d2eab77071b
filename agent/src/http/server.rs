//! Accepts connections on this arbiter and serves them with actix-web's service.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use actix::Recipient;
use actix_http::{HttpService, KeepAlive};
use actix_service::map_config;
use actix_web::{
    App,
    dev::{AppConfig, Service, ServiceFactory},
    error::{InternalError, JsonPayloadError},
    web,
};
use shef_common::problem::Code;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use super::{assignments, health};
use crate::supervisor::ApplyPush;

/// The most connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Longer than clients keep theirs, so that a reused connection is not the one we close.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long requests in flight may take when the agent stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    slots: Rc<Semaphore>,
}

/// Opens the address; port 0 takes any free one.
///
/// # Errors
/// The operating system's own.
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Server {
    /// Serves `listener` on this arbiter until [`Server::stop`].
    ///
    /// # Errors
    /// The operating system's own.
    pub async fn start(listener: std::net::TcpListener, supervisor: Recipient<ApplyPush>) -> std::io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let supervisor = web::Data::new(supervisor);
        let app = App::new()
            .app_data(supervisor)
            .app_data(json_config())
            .service(web::resource("/health").route(web::get().to(health::health)).default_service(web::to(not_allowed)))
            .service(
                web::resource(shef_common::protocol::ASSIGNMENTS_PATH)
                    .route(web::post().to(assignments::push))
                    .default_service(web::to(not_allowed)),
            )
            .default_service(web::to(not_found));
        let factory = HttpService::build()
            .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
            .client_request_timeout(HEAD_LIMIT)
            .h1_allow_half_closed(false)
            .finish(map_config(app, |()| AppConfig::default()))
            .tcp();
        let service =
            Rc::new(factory.new_service(()).await.map_err(|()| std::io::Error::other("the HTTP service could not be made"))?);
        let (stop, stopped) = watch::channel(false);
        let slots = Rc::new(Semaphore::new(MAX_CONNECTIONS));
        actix::spawn(accept(listener, service, slots.clone(), stopped));
        Ok(Self { address, stop, slots })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and gives those that are open a moment to finish.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN_LIMIT, self.slots.acquire_many(all)).await.is_err() {
            log::warn!("connections were still open when the agent stopped");
        }
    }
}

async fn accept<S>(listener: TcpListener, service: Rc<S>, slots: Rc<Semaphore>, mut stopped: watch::Receiver<bool>)
where
    S: Service<TcpStream> + 'static,
{
    loop {
        let Ok(()) = slots.acquire().await.map(|slot| slot.forget()) else { return };
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => None,
            accepted = listener.accept() => Some(accepted),
        };
        match accepted {
            None => return slots.add_permits(1),
            Some(Ok((stream, _))) => {
                let (service, slots, mut stopped) = (service.clone(), slots.clone(), stopped.clone());
                actix::spawn(async move {
                    tokio::select! {
                        _ = service.call(stream) => {}
                        () = idle_after_stop(&mut stopped) => {}
                    }
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

/// Resolves a moment after the server was told to stop: what was asked before gets its answer.
async fn idle_after_stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn json_config() -> web::JsonConfig {
    web::JsonConfig::default().limit(assignments::MAX_BODY_BYTES).error_handler(|error, _| {
        let code = match &error {
            JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => Code::BodyTooLarge,
            JsonPayloadError::ContentType => Code::UnsupportedMediaType,
            _ => Code::InvalidBody,
        };
        let answer = assignments::problem(code, error.to_string());
        InternalError::from_response(error, answer).into()
    })
}

async fn not_found() -> actix_web::HttpResponse {
    assignments::problem(Code::NotFound, "an agent answers at /health and /v1/assignments")
}

async fn not_allowed() -> actix_web::HttpResponse {
    assignments::problem(Code::MethodNotAllowed, "use GET for /health and POST for /v1/assignments")
}
