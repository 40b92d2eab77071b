//! What the CA signs, and what it refuses.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use shef_common::{
    ids::{ClusterId, NodeUid},
    tls::{CaDigest, Identity},
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{Ca, CaError, MAX_CSR, csr_key};

fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000c1").unwrap()
}

fn uid() -> NodeUid {
    NodeUid::parse("00000000000000a1").unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Whether `leaf` is `name`'s, for both sides of a connection, `later`.
fn counts(root: &str, leaf: &str, name: &str, later: Duration) -> Result<(), webpki::Error> {
    let (root, leaf) = (der(root), der(leaf));
    let anchors = [anchor_from_trusted_cert(&root).unwrap()];
    let leaf = EndEntityCert::try_from(&leaf)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + later);
    let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        leaf.verify_for_usage(algorithms, &anchors, &[], now, usage, None, None)?;
    }
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
}

fn request(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn a_leaf_counts_under_its_root_for_its_own_name_and_seven_days() {
    let ca = Ca::make(&cluster()).unwrap();
    assert_eq!(*ca.digest(), CaDigest::of(&der(ca.roots_pem())));
    let key = KeyPair::generate().unwrap();
    let again = Ca::read(ca.roots_pem(), ca.key()).unwrap();
    assert_eq!(again.digest(), ca.digest());
    let name = Identity::Agent(cluster(), uid()).to_string();
    for ca in [&ca, &again] {
        let leaf = ca.sign_agent(&request(&key), &cluster(), &uid()).unwrap();
        let counts = |name: &str, hours: u64| {
            counts(ca.roots_pem(), &leaf, name, Duration::from_secs(hours * 3_600)).is_ok()
        };
        assert!(counts(&name, 0) && counts(&name, 7 * 24 - 1) && !counts(&name, 7 * 24 + 1));
        assert!(!counts(&Identity::Master(cluster()).to_string(), 0));
    }
    let other = Ca::make(&cluster()).unwrap();
    let leaf = other.sign_agent(&request(&key), &cluster(), &uid()).unwrap();
    assert!(counts(ca.roots_pem(), &leaf, &name, Duration::ZERO).is_err(), "another CA's");
    assert!(matches!(Ca::read(ca.roots_pem(), other.key()), Err(CaError::Authority(_))));
    assert!(!format!("{ca:?}").contains("PRIVATE"));
}

#[test]
fn a_master_is_known_by_its_identity_and_its_addresses() {
    let ca = Ca::make(&cluster()).unwrap();
    let names = ["shef.example.org".to_owned(), "localhost".to_owned()];
    let (leaf, key) = ca.master_leaf(&cluster(), &names, &["10.0.0.5".parse().unwrap()]).unwrap();
    let master = Identity::Master(cluster()).to_string();
    for name in [&master, "shef.example.org", "localhost", "10.0.0.5", "127.0.0.1", "::1"] {
        assert_eq!(counts(ca.roots_pem(), &leaf, name, Duration::ZERO), Ok(()), "{name}");
    }
    let agent = Identity::Agent(cluster(), uid()).to_string();
    assert!(counts(ca.roots_pem(), &leaf, &agent, Duration::ZERO).is_err());
    assert!(KeyPair::from_pem(&key).is_ok());
    assert!(matches!(ca.master_leaf(&cluster(), &["ö".to_owned()], &[]), Err(CaError::Name(_))));
}

#[test]
fn of_a_request_its_key_alone_comes_into_the_certificate() {
    let ca = Ca::make(&cluster()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut asked = CertificateParams::new([Identity::Master(cluster()).to_string()]).unwrap();
    asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = asked.serialize_request(&key).unwrap().pem().unwrap();
    let leaf = ca.sign_agent(&csr, &cluster(), &uid()).unwrap();
    let is = |name: &Identity| counts(ca.roots_pem(), &leaf, &name.to_string(), Duration::ZERO).is_ok();
    assert!(is(&Identity::Agent(cluster(), uid())) && !is(&Identity::Master(cluster())));
    // It signs nothing.
    let issuer = rcgen::Issuer::from_ca_cert_pem(&leaf, KeyPair::from_pem(&key.serialize_pem()).unwrap());
    let mut below = CertificateParams::new(["x.example.org".to_owned()]).unwrap();
    below.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(1);
    let below = below.signed_by(&KeyPair::generate().unwrap(), &issuer.unwrap()).unwrap();
    let (root, leaf) = (der(ca.roots_pem()), der(&leaf));
    let below = EndEntityCert::try_from(below.der()).unwrap();
    let (anchors, intermediates) = ([anchor_from_trusted_cert(&root).unwrap()], [leaf]);
    let verified = below.verify_for_usage(
        &[webpki::ring::ECDSA_P256_SHA256],
        &anchors,
        &intermediates,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    assert!(verified.is_err());
}

#[test]
fn a_request_of_another_kind_of_key_or_with_a_wrong_signature_is_refused() {
    let ca = Ca::make(&cluster()).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let right = request(&key);
    assert!(ca.sign_agent(&right, &cluster(), &uid()).is_ok());
    let again = request(&key);
    assert_eq!(
        (csr_key(&right).unwrap().len(), csr_key(&right)),
        (64, csr_key(&again)),
        "one key, one digest"
    );
    let others = [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
    let mut wrong: Vec<String> =
        others.map(|algorithm| request(&KeyPair::generate_for(algorithm).unwrap())).into();
    wrong.extend([String::new(), right.replace('A', "B"), format!("{right}{}", " ".repeat(MAX_CSR))]);
    // Each single bit of the request is signed, or is the signature.
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    for at in (0..request.der().len()).step_by(7) {
        let mut changed = request.der().to_vec();
        changed[at] ^= 4;
        wrong.push(pem_of(&changed));
    }
    for csr in wrong {
        assert!(matches!(csr_key(&csr), Err(CaError::Request(_))), "{csr}");
        assert!(matches!(ca.sign_agent(&csr, &cluster(), &uid()), Err(CaError::Request(_))), "{csr}");
    }
}

fn pem_of(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let three = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let bits = (three[0] << 16) | (three[1] << 8) | three[2];
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}
