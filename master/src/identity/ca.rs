//! The cluster's own CA: its key and certificate, and the certificates of members that it signs. Nothing is
//! read or written here, but for random bytes and the clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData, SanType, SerialNumber,
};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use shef_common::{
    ids::{ClusterId, NodeUid, random_hex16},
    tls::{CaDigest, Identity},
};
use time::{Duration, OffsetDateTime};

use crate::registries::hex;

/// The largest request for a certificate that is looked at, in bytes.
pub const MAX_CSR: usize = 8 * 1024;
/// How long the certificate of a member counts.
pub const LEAF_LIFE: Duration = Duration::days(7);
/// How far back a certificate begins: the clock of a host may be behind by as much.
pub const BACKDATED: Duration = Duration::hours(24);
/// How long the certificate of the CA counts.
const CA_LIFE: Duration = Duration::days(3_650);
/// For how long members and commands that know a former CA alone find the new one by it.
pub const CROSS_LIFE: Duration = Duration::days(365);
/// Bytes of an uncompressed point of P-256, and what it begins with.
const POINT: (usize, u8) = (65, 4);

/// Why a certificate was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// A host's request for a certificate cannot be used.
    #[error("the request for a certificate is not valid: {0}")]
    Request(String),
    /// The certificate and the key of the CA cannot be used.
    #[error("the certificate or the key of the CA is not valid: {0}")]
    Authority(String),
    /// A name cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// A key or certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Making(String),
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomBytes,
}

/// The key and the certificate that members' certificates are signed by.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    digest: CaDigest,
}

/// A new CA, and the certificate of its key that the CA before it has signed.
#[derive(Debug)]
pub struct NextCa {
    /// The new one.
    pub ca: Ca,
    /// Whoever trusts the CA before it trusts the new one by this certificate, as PEM.
    pub cross: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ca({})", self.digest)
    }
}

impl Ca {
    /// A new key, and a certificate for it that counts for ten years.
    ///
    /// # Errors
    /// [`CaError::Making`] or [`CaError::NoRandomBytes`].
    pub fn make(cluster: &ClusterId) -> Result<Self, CaError> {
        Self::named(&format!("shef {cluster}"))
    }

    fn named(name: &str) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)?;
        let params = authority(name, CA_LIFE, BasicConstraints::Constrained(0))?;
        let certificate = params.self_signed(&key).map_err(making)?;
        let digest = CaDigest::of(certificate.der());
        Ok(Self { certificate: certificate.pem(), digest, issuer: Issuer::new(params, key) })
    }

    /// A new CA to take the place of this one. It has another name, by which the two are told apart.
    ///
    /// # Errors
    /// As [`Ca::make`].
    pub fn successor(&self, cluster: &ClusterId) -> Result<NextCa, CaError> {
        let name = format!("shef {cluster} {}", random_hex16());
        let ca = Self::named(&name)?;
        // Further successors may be below it.
        let cross = authority(&name, CROSS_LIFE, BasicConstraints::Unconstrained)?;
        let cross = cross.signed_by(ca.issuer.key(), &self.issuer).map_err(making)?.pem();
        Ok(NextCa { ca, cross })
    }

    /// What [`Ca::roots_pem`] and [`Ca::key`] gave.
    ///
    /// # Errors
    /// [`CaError::Authority`] says what is wrong with them.
    pub fn read(certificate: &str, key: &[u8]) -> Result<Self, CaError> {
        let wrong = |why: &dyn std::fmt::Display| CaError::Authority(why.to_string());
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| wrong(&error))?;
        let key = KeyPair::try_from(key).map_err(|error| wrong(&error))?;
        let parsed = webpki::EndEntityCert::try_from(&der).map_err(|error| wrong(&error))?;
        if parsed.subject_public_key_info().as_ref() != key.subject_public_key_info() {
            return Err(wrong(&"the certificate is one of another key"));
        }
        let digest = CaDigest::of(&der);
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| wrong(&error))?;
        Ok(Self { issuer, certificate: certificate.to_owned(), digest })
    }

    /// The digest that join tokens contain.
    #[must_use]
    pub const fn digest(&self) -> &CaDigest {
        &self.digest
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn roots_pem(&self) -> &str {
        &self.certificate
    }

    /// Its key, as PKCS #8 in DER. Whoever has it is every member.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }

    /// A certificate, as PEM, for the agent of a host. Only the public key of the request is used.
    ///
    /// # Errors
    /// [`CaError::Request`] says what is wrong with the request.
    pub fn sign_agent(&self, csr: &str, cluster: &ClusterId, uid: &NodeUid) -> Result<String, CaError> {
        let key = key_of(csr)?;
        let identity = Identity::Agent(cluster.clone(), uid.clone()).to_string();
        let params = leaf(&identity)?;
        Ok(params.signed_by(&key, &self.issuer).map_err(making)?.pem())
    }

    /// A certificate and its new key, both as PEM, for a master that is reached by these names and
    /// addresses, and by those of its own machine.
    ///
    /// # Errors
    /// [`CaError::Name`] for a name that is none.
    pub fn master_leaf(
        &self,
        cluster: &ClusterId,
        names: &[String],
        ips: &[IpAddr],
    ) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)?;
        let mut params = leaf(&Identity::Master(cluster.clone()).to_string())?;
        let own: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for name in names.iter().map(String::as_str).chain(["localhost"]) {
            add(&mut params, dns(name)?);
        }
        ips.iter().chain(&own).for_each(|ip| add(&mut params, SanType::IpAddress(*ip)));
        let certificate = params.signed_by(&key, &self.issuer).map_err(making)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// The digest of the key that a request is signed by: the SHA-256 of its public form, as hexadecimal digits.
///
/// # Errors
/// [`CaError::Request`] says what is wrong with the request.
pub fn csr_key(csr: &str) -> Result<String, CaError> {
    Ok(hex(digest(&SHA256, &key_of(csr)?.subject_public_key_info()).as_ref()))
}

/// The public key of a request that is signed by it.
fn key_of(csr: &str) -> Result<PublicKey, CaError> {
    let wrong = |why: &str| CaError::Request(why.to_owned());
    if csr.len() > MAX_CSR {
        return Err(wrong("it is larger than 8 KiB"));
    }
    let request =
        CertificateSigningRequestParams::from_pem(csr).map_err(|error| wrong(&error.to_string()))?;
    let key = request.public_key;
    // The algorithm that was read is the signature's: the point says of which curve the key is.
    let is_a_point = (key.der_bytes().len(), key.der_bytes().first()) == (POINT.0, Some(&POINT.1));
    if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || !is_a_point {
        return Err(wrong("its key is not of P-256"));
    }
    Ok(key)
}

fn authority(name: &str, life: Duration, may_sign: BasicConstraints) -> Result<CertificateParams, CaError> {
    let mut params = params(name, life)?;
    params.is_ca = IsCa::Ca(may_sign);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf(identity: &str) -> Result<CertificateParams, CaError> {
    let mut params = params(identity, LEAF_LIFE)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    add(&mut params, dns(identity)?);
    Ok(params)
}

/// What every certificate has.
fn params(name: &str, life: Duration) -> Result<CertificateParams, CaError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| CaError::NoRandomBytes)?;
    // A positive number of as many bytes.
    serial[0] = serial[0] & 0x3f | 0x40;
    let now = OffsetDateTime::now_utc();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    (params.not_before, params.not_after) = (now - BACKDATED, now + life);
    Ok(params)
}

fn dns(name: &str) -> Result<SanType, CaError> {
    Ok(SanType::DnsName(name.try_into().map_err(|_| CaError::Name(name.to_owned()))?))
}

fn add(params: &mut CertificateParams, name: SanType) {
    if !params.subject_alt_names.contains(&name) {
        params.subject_alt_names.push(name);
    }
}

fn making(error: rcgen::Error) -> CaError {
    CaError::Making(error.to_string())
}
