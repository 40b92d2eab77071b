//! The master's own certificate: made at each start, and again before it expires. Its key is never kept.

use std::{net::IpAddr, sync::Arc, time::Duration};

use shef_common::{
    clock::Now,
    tls::{Credential, InvalidCredential, Tls},
};

use super::{Authority, CaError};

/// The clock may be set: how often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// How long after a failure it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

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
    let issuing = authority.issuing();
    let (certificate, key) = issuing.ca.master_leaf(&authority.cluster, &own.names, &own.addresses)?;
    let certificate = format!("{certificate}{}", issuing.bridges_and_former());
    Ok(Credential { certificate, key, roots: issuing.trusted.clone() })
}

/// TLS of a master that starts.
///
/// # Errors
/// [`OwnError`]
pub fn own_tls(authority: &Authority, own: &OwnNames) -> Result<Tls, OwnError> {
    Ok(Tls::new(&credential(authority, own)?)?)
}

/// Renews the certificate in time, and at each change of the CA, for as long as it is polled.
pub async fn renew_own(authority: Arc<Authority>, own: OwnNames, tls: Tls) {
    let mut changes = authority.changes();
    loop {
        let due = tls.renew_at().0.saturating_sub(Now::read().wall.0);
        let in_time = tokio::time::sleep(Duration::from_millis(due).min(LOOK_AGAIN));
        let is_due = tokio::select! {
            () = in_time => due == 0,
            changed = changes.changed() => changed.is_ok(),
        };
        if !is_due {
            continue;
        }
        while let Err(error) = credential(&authority, &own).and_then(|renewed| Ok(tls.replace(&renewed)?)) {
            log::error!(error:%; "the master's certificate is not renewed; trying again");
            tokio::time::sleep(TRY_AGAIN).await;
        }
        log::info!("the master has a new certificate");
    }
}
