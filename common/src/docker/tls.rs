//! TLS to an engine, as the docker command speaks it: only the authority in `ca.pem` is believed, and the
//! client shows `cert.pem` where there is one.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};

/// The files that the docker command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// Why TLS to an engine cannot be spoken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS to the Docker engine is asked for (DOCKER_TLS_VERIFY), but {path} {problem}; \
         DOCKER_CERT_PATH names its directory",
        path = path.display())]
pub struct InvalidTls {
    path: PathBuf,
    problem: String,
}

impl TlsFiles {
    pub(super) fn within(directory: &Path) -> Self {
        let at = |name| directory.join(name);
        Self { ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") }
    }

    /// How TLS is spoken, by the files as they are now.
    pub(super) fn read(&self) -> Result<ClientConfig, InvalidTls> {
        let wrong = |path: &Path, problem: String| InvalidTls { path: path.to_owned(), problem };
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.ca)? {
            roots.add(authority).map_err(|error| {
                wrong(&self.ca, format!("holds a certificate that cannot be used: {error}"))
            })?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.ca, format!("cannot be used: {error}")))?
            .with_root_certificates(roots);
        // As with the docker command, an engine that asks for no certificate needs none.
        if !self.cert.exists() && !self.key.exists() {
            return Ok(config.with_no_client_auth());
        }
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| wrong(&self.key, unusable(&error, "private key")))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| wrong(&self.key, format!("does not go with {}: {error}", self.cert.display())))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let wrong = |problem: String| InvalidTls { path: path.to_owned(), problem };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| wrong(unusable(&error, "certificate")))?;
    if found.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(found) }
}

fn unusable(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "is not there".to_owned(),
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("holds no {what}"),
        other => format!("holds no {what} that can be read: {other}"),
    }
}
