//! A member's certificate and the CAs that it trusts, and what follows from them for TLS. They can be
//! replaced while connections are open: connections made afterwards use the new ones.

use std::{collections::BTreeSet, fmt, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use ring::digest::{SHA256, digest};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

use super::{
    CaDigest, GRACE, Given, Identity, PeerProof, Successor,
    given::BY_CLUSTERS_CA,
    verify,
    verify::{PROVIDER, verify_signatures},
};
use crate::{
    clock::{MonoMs, Now, WallMs},
    ids::NodeUid,
};

/// How long before it is signed a certificate begins to count, so that clocks may differ, in milliseconds.
pub const BACKDATED_MS: u64 = 24 * 3_600_000;

/// A member's certificate and key, and the CAs that it trusts, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its certificate, and those that lead from a former CA to the one that has signed it.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The certificates of the CAs that count: first the one that has signed the certificate.
    pub roots: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

impl Credential {
    /// The digests of the CAs that count.
    #[must_use]
    pub fn cas(&self) -> Vec<CaDigest> {
        verify::digests(&self.roots)
    }
}

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCredential {
    /// A part is no PEM of its kind.
    #[error("the {part} cannot be read: {source}")]
    Pem {
        /// The certificate, the key, or the list of CAs.
        part: &'static str,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// It names no member.
    #[error("the certificate names no member of a cluster")]
    NoIdentity,
    /// It is for no name.
    #[error("the certificate is for no DNS name (a subjectAltName)")]
    NoName,
    /// TLS cannot go by it.
    #[error("the certificate, its key or the CAs cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The CAs are none.
    #[error("the CAs cannot be used: {0}")]
    Roots(#[from] rustls::server::VerifierBuilderError),
}

/// The certificates in a text in PEM, which is the `part` of a credential.
pub(super) fn certificates(
    part: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, InvalidCredential> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| InvalidCredential::Pem { part, source })
}

/// The key in a text in PEM.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, InvalidCredential> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| InvalidCredential::Pem { part: "key", source })
}

/// A credential, read.
#[derive(Debug)]
struct Loaded {
    identity: Identity,
    renew_at: WallMs,
    shown: Arc<CertifiedKey>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    cas: Vec<CaDigest>,
    /// How often a CA has gone since the start, and when one did last.
    changes: (u64, MonoMs),
}

impl Loaded {
    fn read(credential: &Credential) -> Result<Self, InvalidCredential> {
        let mut chain = certificates("certificate", credential.certificate.as_bytes())?;
        let roots = certificates("list of CAs", credential.roots.as_bytes())?;
        let key = private_key(credential.key.as_bytes())?;
        let identity = chain.first().and_then(verify::identity).ok_or(InvalidCredential::NoIdentity)?;
        let renew_at =
            chain.first().and_then(|leaf| renew_at(leaf, &identity)).ok_or(InvalidCredential::NoIdentity)?;
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone())?;
        }
        // A host that joins finds the CA by its digest among what the master shows.
        chain.splice(1..1, roots);
        let store = Arc::new(store);
        Ok(Self {
            cas: credential.cas(),
            changes: (0, MonoMs(0)),
            identity,
            renew_at,
            shown: Arc::new(CertifiedKey::from_der(chain, key, &PROVIDER)?),
            servers: WebPkiServerVerifier::builder_with_provider(store.clone(), PROVIDER.clone()).build()?,
            clients: WebPkiClientVerifier::builder_with_provider(store, PROVIDER.clone())
                .clear_root_hint_subjects()
                .allow_unauthenticated()
                .build()?,
        })
    }
}

/// When `member` is to ask for another certificate than `leaf`.
fn renew_at(leaf: &CertificateDer<'_>, member: &Identity) -> Option<WallMs> {
    let (begins, ends) = verify::validity(leaf)?;
    let issued = begins.0.saturating_add(BACKDATED_MS).min(ends.0);
    Some(renewal_due(WallMs(issued), ends, member))
}

/// When `member` asks for another certificate than one that counts from `issued` until `ends`: between half
/// and two thirds of that time, each member at another moment.
#[must_use]
pub fn renewal_due(issued: WallMs, ends: WallMs, member: &Identity) -> WallMs {
    let life = ends.0.saturating_sub(issued.0);
    let spread = u64::from(digest(&SHA256, member.to_string().as_bytes()).as_ref()[0]);
    WallMs(issued.0 + life / 2 + (life / 6) * spread / 256)
}

/// Who a connection's other end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// It has come by a socket of this machine, which the system guards.
    Local,
    /// It speaks without TLS.
    Plain,
    /// It speaks TLS, and shows no certificate.
    Anonymous,
    /// It has shown a member's certificate, and that it holds the key.
    Member(Identity),
}

/// TLS as one member. Clones share it.
#[derive(Clone)]
pub struct Tls {
    current: Arc<Current>,
    server: Arc<ServerConfig>,
    to_members: Arc<ClientConfig>,
    to_masters: Arc<ClientConfig>,
}

struct Current {
    loaded: ArcSwap<Loaded>,
    /// Hosts whose certificates are not taken any more.
    denied: ArcSwap<BTreeSet<NodeUid>>,
    /// What callers are shown that ask for a name of the operator's.
    given: ArcSwapOption<Given>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.identity()).finish()
    }
}

impl Tls {
    /// # Errors
    /// [`InvalidCredential`] says which part cannot be used.
    pub fn new(credential: &Credential) -> Result<Self, InvalidCredential> {
        let current = Arc::new(Current {
            loaded: ArcSwap::from_pointee(Loaded::read(credential)?),
            denied: ArcSwap::default(),
            given: ArcSwapOption::empty(),
        });
        let shown = |called| Arc::new(Shown { current: current.clone(), called });
        Ok(Self {
            server: server(shown(Called::ByName)),
            to_members: client(shown(Called::ByName)),
            to_masters: client(shown(Called::Master)),
            current,
        })
    }

    /// Uses this credential from now on. Open connections go on, until the certificate that they were made
    /// with ends.
    ///
    /// # Errors
    /// [`InvalidCredential`]: the present one stays.
    pub fn replace(&self, credential: &Credential) -> Result<(), InvalidCredential> {
        let mut loaded = Loaded::read(credential)?;
        let before = self.current.loaded.load();
        let goes = before.cas.iter().any(|ca| !loaded.cas.contains(ca));
        loaded.changes = if goes { (before.changes.0 + 1, Now::read().mono) } else { before.changes };
        self.current.loaded.store(Arc::new(loaded));
        Ok(())
    }

    /// Shows this certificate from now on to callers that ask for one of its names and go by other authorities
    /// than the cluster's CA.
    pub fn give(&self, given: Given) {
        self.current.given.store(Some(Arc::new(given)));
    }

    /// What is shown to them; `None`: the cluster's own certificate.
    #[must_use]
    pub fn given(&self) -> Option<Arc<Given>> {
        self.current.given.load_full()
    }

    /// Whether the certificate of an open connection is still taken at `now`. It is not once its CA is
    /// trusted no more, a while after that.
    #[must_use]
    pub fn still_takes(&self, proof: &PeerProof, now: MonoMs) -> bool {
        let loaded = self.current.loaded.load();
        let (changes, last) = loaded.changes;
        let verify = |own: &CertificateDer<'_>, others: &[CertificateDer<'_>]| {
            loaded.clients.verify_client_cert(own, others, UnixTime::now()).is_ok()
        };
        now - last < GRACE || proof.counts(changes, verify)
    }

    /// How often a CA has gone.
    pub(super) fn changes(&self) -> u64 {
        self.current.loaded.load().changes.0
    }

    /// Takes no certificate of these hosts any more, on open connections neither. Says whether that is news.
    pub fn deny(&self, denied: &[NodeUid]) -> bool {
        let present = self.current.denied.load();
        let is_news = denied.len() != present.len() || denied.iter().any(|uid| !present.contains(uid));
        if is_news {
            self.current.denied.store(Arc::new(denied.iter().cloned().collect()));
        }
        is_news
    }

    /// Whose credential it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.current.loaded.load().identity.clone()
    }

    /// When to ask for another certificate: between half and two thirds of its life, each member at another
    /// time.
    #[must_use]
    pub fn renew_at(&self) -> WallMs {
        self.current.loaded.load().renew_at
    }

    /// Whether a certificate of this member is taken, as it was when its connection was made.
    #[must_use]
    pub fn takes(&self, member: &Identity) -> bool {
        let is_denied = match member {
            Identity::Agent(_, uid) => self.current.denied.load().contains(uid),
            Identity::Master(_) => false,
        };
        !is_denied && member.cluster() == self.identity().cluster()
    }

    /// Calls members by their names.
    #[must_use]
    pub fn to_members(&self) -> Arc<ClientConfig> {
        self.to_members.clone()
    }

    /// Calls masters of the own cluster, at whatever address.
    #[must_use]
    pub fn to_masters(&self) -> Arc<ClientConfig> {
        self.to_masters.clone()
    }

    /// Answers members, and callers without a certificate.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}

fn client(shown: Arc<Shown>) -> Arc<ClientConfig> {
    let config = builder(ClientConfig::builder_with_provider(PROVIDER.clone()))
        .dangerous()
        .with_custom_certificate_verifier(shown.clone())
        .with_client_cert_resolver(shown);
    by_clusters_ca(config)
}

/// A client that goes by the cluster's CA, and says so.
fn by_clusters_ca(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![BY_CLUSTERS_CA.to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn server(shown: Arc<Shown>) -> Arc<ServerConfig> {
    let mut config = builder(ServerConfig::builder_with_provider(PROVIDER.clone()))
        .with_client_cert_verifier(shown.clone())
        .with_cert_resolver(shown);
    // A resumed session is not verified again.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Arc::new(config)
}

/// Calls a master whose CA has one of these digests, or was vouched for by that CA, as one that has no
/// certificate yet.
#[must_use]
pub fn to_ca(digests: Vec<CaDigest>) -> Arc<ClientConfig> {
    to_ca_or_successor(digests).0
}

/// The same, and where the digest is noted of a CA that has taken the place of the known one.
#[must_use]
pub fn to_ca_or_successor(digests: Vec<CaDigest>) -> (Arc<ClientConfig>, Successor) {
    let successor = Successor::default();
    let pinned = verify::Pinned { digests, successor: successor.clone() };
    let config = builder(ClientConfig::builder_with_provider(PROVIDER.clone()))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    (by_clusters_ca(config), successor)
}

/// Whether a connection by [`to_ca`] has failed because the other side shows another CA, or is no master.
#[must_use]
pub fn is_of_another_ca(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// TLS 1.3, which the provider has.
fn builder<S: rustls::ConfigSide>(
    builder: rustls::ConfigBuilder<S, rustls::WantsVersions>,
) -> rustls::ConfigBuilder<S, rustls::WantsVerifier> {
    match builder.with_protocol_versions(&[&TLS13]) {
        Ok(builder) => builder,
        Err(error) => unreachable!("ring has TLS 1.3: {error}"),
    }
}

/// Whom a client calls.
#[derive(Debug, Clone, Copy)]
enum Called {
    /// The member of this name.
    ByName,
    /// Any master of the own cluster.
    Master,
}

/// The present credential, as rustls asks for it.
#[derive(Clone)]
struct Shown {
    current: Arc<Current>,
    called: Called,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let given = self.current.given.load();
        let given = given.as_ref().and_then(|given| given.shown_to(&client));
        given.or_else(|| Some(self.current.loaded.load().shown.clone()))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.loaded.load().shown.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let loaded = self.current.loaded.load();
        let master;
        let name = match self.called {
            Called::ByName => server_name,
            Called::Master => {
                master = verify::server_name(&Identity::Master(loaded.identity.cluster().clone()))?;
                &master
            }
        };
        loaded.servers.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    verify_signatures!();
}

impl ClientCertVerifier for Shown {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current.loaded.load().clients.verify_client_cert(end_entity, intermediates, now)
    }

    verify_signatures!();
}
