//! The master's own certificate: made at each start, and again before it expires. Its key is never kept.

use std::{net::IpAddr, sync::Arc, time::Duration};

use shef_common::{
    clock::Now,
    tls::{Credential, InvalidCredential, Tls},
};

use super::{Authority, CaError};

/// The clock may be set: how often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Why the master has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The CA cannot sign it.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// It was signed, and cannot be used.
    #[error("the master's own certificate cannot be used: {0}")]
    Credential(#[from] InvalidCredential),
}

/// By which names and addresses a master is called.
#[derive(Debug, Clone)]
pub struct OwnNames {
    /// Names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

fn credential(authority: &Authority, own: &OwnNames) -> Result<Credential, OwnError> {
    let (certificate, key) = authority.ca.master_leaf(&authority.cluster, &own.names, &own.addresses)?;
    Ok(Credential { certificate, key, roots: authority.ca.roots_pem().to_owned() })
}

/// TLS of a master that starts.
///
/// # Errors
/// [`OwnError`]
pub fn own_tls(authority: &Authority, own: &OwnNames) -> Result<Tls, OwnError> {
    Ok(Tls::new(&credential(authority, own)?)?)
}

/// Renews the certificate in time, for as long as it is polled.
pub async fn renew_own(authority: Arc<Authority>, own: OwnNames, tls: Tls) {
    loop {
        let due = tls.renew_at().0.saturating_sub(Now::read().wall.0);
        tokio::time::sleep(Duration::from_millis(due).min(LOOK_AGAIN)).await;
        if due > 0 {
            continue;
        }
        match credential(&authority, &own).and_then(|renewed| Ok(tls.replace(&renewed)?)) {
            Ok(()) => log::info!("the master has a new certificate"),
            Err(error) => {
                log::error!(error:%; "the master's certificate is not renewed");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}
