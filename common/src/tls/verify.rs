//! What is read from a certificate, and the check of a master of whose CA only the digest is known.

use std::sync::{Arc, LazyLock, OnceLock};

use ring::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use webpki::EndEntityCert;

use super::{CaDigest, Identity, join::hex};
use crate::clock::WallMs;

/// The cryptography of every connection between hosts.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// The member that a certificate names; `None`: none. It says nothing of who has signed it.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    EndEntityCert::try_from(certificate).ok()?.valid_dns_names().find_map(Identity::parse)
}

/// The SHA-256 of a certificate's public key, as hexadecimal digits; `None`: it cannot be read.
pub(super) fn key(certificate: &CertificateDer<'_>) -> Option<String> {
    let key = EndEntityCert::try_from(certificate).ok()?.subject_public_key_info();
    Some(hex(digest(&SHA256, &key).as_ref()))
}

/// When a certificate begins and ends to count.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(WallMs, WallMs)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let ms = |at: x509_parser::time::ASN1Time| {
        u64::try_from(at.timestamp()).ok().map(|s| WallMs(s.saturating_mul(1_000)))
    };
    Some((ms(parsed.validity().not_before)?, ms(parsed.validity().not_after)?))
}

/// The digests of the CAs whose certificates these are, as PEM.
#[must_use]
pub fn digests(pem: &str) -> Vec<CaDigest> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().map(|root| CaDigest::of(&root)).collect()
}

/// When the first of these certificates, as PEM, begins and ends to count; `None`: it cannot be read.
#[must_use]
pub fn validity_of(pem: &str) -> Option<(WallMs, WallMs)> {
    validity(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
}

/// The name that a server's certificate must bear.
pub(super) fn server_name(member: &Identity) -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(member.to_string()).map_err(|error| rustls::Error::General(error.to_string()))
}

/// The part of a verifier that all verifiers share: signatures are checked as [`PROVIDER`] does.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &PROVIDER.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &PROVIDER.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            PROVIDER.signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(super) use verify_signatures;

/// The digest of the CA that has taken the place of the one that a client knows; none until such a master has
/// been called.
#[derive(Debug, Clone, Default)]
pub struct Successor(Arc<OnceLock<CaDigest>>);

impl Successor {
    /// The digest, once it is known.
    #[must_use]
    pub fn get(&self) -> Option<&CaDigest> {
        self.0.get()
    }
}

/// A master whose CA, which it shows with its certificate, has one of these digests, or was vouched for by
/// that CA.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) digests: Vec<CaDigest>,
    pub(super) successor: Successor,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrong_name = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        let member = identity(end_entity).filter(|member| matches!(member, Identity::Master(_)));
        let name = server_name(&member.ok_or(wrong_name)?)?;
        let verify = |ca: &CertificateDer<'_>, between: &[CertificateDer<'_>]| {
            let mut roots = RootCertStore::empty();
            roots.add(ca.clone().into_owned())?;
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?
                .verify_server_cert(end_entity, between, &name, ocsp_response, now)
        };
        let is_known = |shown: &&CertificateDer<'_>| self.digests.contains(&CaDigest::of(shown));
        let known: Vec<_> = intermediates.iter().filter(is_known).collect();
        let mut outcome = Err(unknown());
        for ca in &known {
            outcome = verify(ca, &[]);
            if outcome.is_ok() {
                return outcome;
            }
        }
        for ca in known {
            let vouched = verify(ca, intermediates);
            if vouched.is_ok() {
                // The master shows the CA that signs before all others.
                let signs = intermediates.iter().find(|shown| verify(shown, &[]).is_ok());
                if let Some(signs) = signs {
                    _ = self.successor.0.set(CaDigest::of(signs));
                }
                return vouched;
            }
        }
        outcome
    }

    verify_signatures!();
}
