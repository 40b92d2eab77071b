//! A certificate that the operator gives to a master, for browsers and programs that go by the authorities of
//! their system. Masters, agents and commands of shef go by the cluster's CA, and tell it by a protocol that
//! they offer (ALPN, RFC 7301): they may use the same name.

use std::sync::Arc;

use rustls::{server::ClientHello, sign::CertifiedKey};
use rustls_pki_types::ServerName;
use webpki::EndEntityCert;

use super::{
    InvalidCredential,
    member::{certificates, private_key},
    verify::{self, PROVIDER},
};
use crate::clock::WallMs;

/// What a client offers that goes by the cluster's CA. Agents of earlier versions offer nothing.
pub(super) const BY_CLUSTERS_CA: &[u8] = b"shef";

/// A certificate for names of the operator's, with its key.
#[derive(Debug, Clone)]
pub struct Given {
    shown: Arc<CertifiedKey>,
    names: Vec<String>,
    until: WallMs,
}

impl Given {
    /// Reads a certificate, with those that lead to its authority, and its key, both as PEM.
    ///
    /// # Errors
    /// [`InvalidCredential`] says which part cannot be used.
    pub fn read(certificate: &[u8], key: &[u8]) -> Result<Self, InvalidCredential> {
        let (chain, key) = (certificates("certificate", certificate)?, private_key(key)?);
        let leaf = chain.first().ok_or(InvalidCredential::NoName)?;
        let (_, until) = verify::validity(leaf).ok_or(InvalidCredential::NoName)?;
        let names: Vec<String> = EndEntityCert::try_from(leaf)
            .map(|leaf| leaf.valid_dns_names().map(str::to_owned).collect())
            .unwrap_or_default();
        if names.is_empty() {
            return Err(InvalidCredential::NoName);
        }
        Ok(Self { shown: Arc::new(CertifiedKey::from_der(chain, key, &PROVIDER)?), names, until })
    }

    /// The DNS names that it is for; one may begin with `*.`.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it ends to count.
    #[must_use]
    pub const fn until(&self) -> WallMs {
        self.until
    }

    /// What is shown to a client: this, if it asks for one of its names and does not go by the cluster's CA.
    pub(super) fn shown_to(&self, client: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_clusters_ca =
            client.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == BY_CLUSTERS_CA));
        (!by_clusters_ca && self.is_for(client.server_name()?)).then(|| self.shown.clone())
    }

    fn is_for(&self, name: &str) -> bool {
        let (Ok(name), Some(leaf)) = (ServerName::try_from(name), self.shown.cert.first()) else {
            return false;
        };
        EndEntityCert::try_from(leaf).is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    }
}
