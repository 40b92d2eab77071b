//! A door before a master: it passes connections on, and counts those that have come and gone.

use std::{cell::Cell, net::SocketAddr, rc::Rc};

use tokio::net::{TcpListener, TcpStream};

use super::wait::until;

/// A door before a master.
pub struct Door {
    address: SocketAddr,
    gone: Rc<Cell<u32>>,
}

impl Door {
    /// A door before the master at this address, which need not be there.
    ///
    /// # Panics
    /// If there is no port for it.
    pub async fn before(master: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Self { address: listener.local_addr().unwrap(), gone: Rc::default() };
        let gone = door.gone.clone();
        actix_rt::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let gone = gone.clone();
                actix_rt::spawn(async move {
                    if let Ok(mut master) = TcpStream::connect(master).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut master).await;
                    }
                    gone.set(gone.get() + 1);
                });
            }
        });
        door
    }

    /// Its own address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until `count` connections have come and gone.
    pub async fn have_gone(&self, count: u32) {
        until("connections have come and gone", async || (self.gone.get() >= count).then_some(())).await;
    }
}
