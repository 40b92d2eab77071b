//! The master: takes what users want, decides which host runs it, and sees it through.

pub mod config;
pub mod store;

// Stand-in until the merge: answers /readyz, so that the CLI can be built against it.
mod stand_in {
    use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
    use std::net::SocketAddr;

    use crate::config::MasterConfig;

    /// Why the master does not start.
    #[derive(Debug, thiserror::Error)]
    pub enum StartError {
        /// The port is taken.
        #[error("cannot listen on {0}: {1}")]
        Listen(SocketAddr, std::io::Error),
    }
    /// A running master.
    pub struct MasterHandle {
        address: SocketAddr,
        server: ServerHandle,
    }
    impl MasterHandle {
        /// Where it listens.
        pub fn address(&self) -> SocketAddr {
            self.address
        }
        /// Stops gracefully.
        pub async fn stop(self) {
            self.server.stop(true).await;
        }
    }
    /// Starts.
    pub async fn start(config: MasterConfig) -> Result<MasterHandle, StartError> {
        let server = HttpServer::new(|| App::new().route("/readyz", web::get().to(HttpResponse::Ok)))
            .workers(1)
            .disable_signals()
            .bind(config.listen)
            .map_err(|error| StartError::Listen(config.listen, error))?;
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(MasterHandle { address, server: handle })
    }
}
pub use stand_in::*;
