use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::ids::{ClusterId, NodeUid};

const CLUSTER: &str = "00000000000000c1";
const UID: &str = "00000000000000a1";
const OTHER_UID: &str = "00000000000000a2";

fn master() -> Identity {
    Identity::Master(ClusterId::parse(CLUSTER).unwrap())
}

fn agent(uid: &str) -> Identity {
    Identity::Agent(ClusterId::parse(CLUSTER).unwrap(), NodeUid::parse(uid).unwrap())
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A CA, and what it signs.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = key();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn digest(&self) -> CaDigest {
        let credential =
            Credential { certificate: String::new(), key: String::new(), roots: self.pem.clone() };
        credential.cas().remove(0)
    }

    /// A certificate with that name, which ends to count in that year.
    fn signs(&self, name: &str, until: i32) -> Credential {
        self.signs_until(name, date_time_ymd(until, 1, 1))
    }

    fn signs_until(&self, name: &str, until: OffsetDateTime) -> Credential {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = until;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Credential { certificate, key: key.serialize_pem(), roots: self.pem.clone() }
    }

    fn member(&self, member: &Identity) -> Tls {
        Tls::new(&self.signs(&member.to_string(), 2100)).unwrap()
    }
}

/// A server that tells once whom it has at the other end, and answers `ok`.
async fn listens(tls: Tls) -> (std::net::SocketAddr, tokio::task::JoinHandle<std::io::Result<Peer>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let (connection, _) = listener.accept().await?;
        let mut stream = accept(connection, Some(&tls)).await?;
        stream.write_all(b"ok").await?;
        stream.flush().await?;
        Ok(stream.peer().clone())
    });
    (address, peer)
}

/// What a client of `server` comes to, on both sides.
async fn calls(
    config: Arc<rustls::ClientConfig>,
    name: &str,
    server: Tls,
) -> (std::io::Result<String>, std::io::Result<Peer>) {
    let (address, peer) = listens(server).await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let heard = async {
        let connection = TcpStream::connect(address).await?;
        let mut stream: TlsStream<TcpStream> = TlsConnector::from(config).connect(name, connection).await?;
        let mut said = [0; 2];
        stream.read_exact(&mut said).await?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap();
    (heard, peer.await.unwrap())
}

#[tokio::test]
async fn members_know_each_other_by_name_whatever_the_address() {
    let ca = Ca::new();
    let (heard, peer) =
        calls(ca.member(&master()).to_members(), &agent(UID).to_string(), ca.member(&agent(UID))).await;
    assert_eq!((heard.unwrap(), peer.unwrap()), ("ok".to_owned(), Peer::Member(master())));
    let (heard, peer) = calls(ca.member(&agent(UID)).to_masters(), "10.1.2.3", ca.member(&master())).await;
    assert_eq!((heard.unwrap(), peer.unwrap()), ("ok".to_owned(), Peer::Member(agent(UID))));
}

#[tokio::test]
async fn a_server_that_is_not_the_one_called_hears_nothing() {
    let (ca, other) = (Ca::new(), Ca::new());
    let expired = Tls::new(&ca.signs(&agent(UID).to_string(), 2021)).unwrap();
    for (why, server) in [
        ("another agent", ca.member(&agent(OTHER_UID))),
        ("a master", ca.member(&master())),
        ("another CA", other.member(&agent(UID))),
        ("expired", expired),
    ] {
        let (heard, _) = calls(ca.member(&master()).to_members(), &agent(UID).to_string(), server).await;
        assert!(heard.is_err(), "{why}: {heard:?}");
    }
    for (why, server) in [("an agent", ca.member(&agent(OTHER_UID))), ("another CA", other.member(&master()))]
    {
        let (heard, _) = calls(ca.member(&agent(UID)).to_masters(), "10.1.2.3", server).await;
        assert!(heard.is_err(), "{why}: {heard:?}");
    }
}

#[tokio::test]
async fn a_client_shows_a_certificate_that_counts_or_is_none() {
    let (ca, other) = (Ca::new(), Ca::new());
    let name = agent(UID).to_string();
    let trusting = |mut shown: Credential| {
        shown.roots.clone_from(&ca.pem);
        Tls::new(&shown).unwrap().to_members()
    };
    for (why, client) in [
        ("another CA", trusting(other.signs(&master().to_string(), 2100))),
        ("expired", trusting(ca.signs(&master().to_string(), 2021))),
    ] {
        let (heard, peer) = calls(client, &name, ca.member(&agent(UID))).await;
        assert!(heard.is_err() && peer.is_err(), "{why}: {heard:?}, {peer:?}");
    }
    let (heard, peer) = calls(to_ca(vec![ca.digest()]), "10.1.2.3", ca.member(&master())).await;
    assert_eq!((heard.unwrap(), peer.unwrap()), ("ok".to_owned(), Peer::Anonymous));
}

#[tokio::test]
async fn a_host_that_joins_speaks_to_a_master_of_the_ca_in_its_token_alone() {
    let (ca, other) = (Ca::new(), Ca::new());
    for (why, server) in
        [("another CA", other.member(&master())), ("an agent of the cluster", ca.member(&agent(UID)))]
    {
        let (heard, _) = calls(to_ca(vec![ca.digest()]), "10.1.2.3", server).await;
        assert!(heard.is_err(), "{why}: {heard:?}");
    }
    // The CA's certificate is public: showing it is no proof.
    let mut posing = other.signs(&master().to_string(), 2100);
    posing.roots.clone_from(&ca.pem);
    let (heard, _) = calls(to_ca(vec![ca.digest()]), "10.1.2.3", Tls::new(&posing).unwrap()).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[tokio::test]
async fn a_new_certificate_counts_at_once_and_a_forgotten_host_does_not() {
    let ca = Ca::new();
    let tls = ca.member(&agent(UID));
    let first = tls.renew_at();
    tls.replace(&ca.signs(&agent(UID).to_string(), 2090)).unwrap();
    assert!(tls.renew_at() < first);
    assert!(tls.takes(&agent(OTHER_UID)) && tls.takes(&master()));
    let denied = [NodeUid::parse(OTHER_UID).unwrap()];
    assert!(tls.deny(&denied) && !tls.deny(&denied), "it is news once");
    assert!(!tls.takes(&agent(OTHER_UID)) && tls.takes(&agent(UID)));
    let elsewhere = Identity::Master(ClusterId::parse("00000000000000c2").unwrap());
    assert!(!tls.takes(&elsewhere));
}

#[tokio::test]
async fn an_open_connection_ends_with_the_certificate_that_it_was_made_with() {
    let ca = Ca::new();
    let soon = ca.signs_until(&agent(UID).to_string(), OffsetDateTime::now_utc() + Duration::from_secs(3));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = ca.member(&master());
    let ended = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        let mut stream = accept(connection, Some(&server)).await.unwrap();
        let mut said = [0; 1];
        loop {
            let heard = stream.read_exact(&mut said).await;
            let answered = stream.write_all(&said).await;
            if let (Err(read), Err(written)) = (heard, answered) {
                return [read.to_string(), written.to_string()];
            }
        }
    });
    let name = ServerName::try_from(master().to_string()).unwrap();
    let connection = TcpStream::connect(address).await.unwrap();
    let client = Tls::new(&soon).unwrap().to_members();
    let mut stream = TlsConnector::from(client).connect(name, connection).await.unwrap();
    let mut answered = 0;
    while stream.write_all(b"?").await.is_ok() && stream.read_exact(&mut [0; 1]).await.is_ok() {
        answered += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(answered > 0, "it was served before");
    for why in ended.await.unwrap() {
        assert!(why.contains("has expired since"), "{why}");
    }
}

#[tokio::test]
async fn a_client_without_tls_is_told_apart_and_a_silent_one_is_let_go() {
    let ca = Ca::new();
    let (address, peer) = listens(ca.member(&master())).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(peer.await.unwrap().unwrap(), Peer::Plain);
    let (address, peer) = listens(ca.member(&master())).await;
    drop(TcpStream::connect(address).await.unwrap());
    // It is served as one that says nothing more.
    assert!(peer.await.unwrap().is_ok_and(|peer| peer == Peer::Plain));
}

#[tokio::test]
async fn a_connection_tells_the_key_of_its_other_end() {
    let ca = Ca::new();
    let client = ca.signs(&agent(UID).to_string(), 2100);
    let spki = KeyPair::from_pem(&client.key).unwrap().subject_public_key_info();
    let digest = ring::digest::digest(&ring::digest::SHA256, &spki);
    let expected = digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (config, key) in
        [(Tls::new(&client).unwrap().to_masters(), Some(PeerKey(expected))), (to_ca(client.cas()), None)]
    {
        let calls = async {
            let connection = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("10.1.2.3").unwrap();
            TlsConnector::from(config).connect(name, connection).await.unwrap()
        };
        let server = ca.member(&master());
        let accepts = async { accept(listener.accept().await.unwrap().0, Some(&server)).await.unwrap() };
        let (_client, stream) = tokio::join!(calls, accepts);
        assert_eq!(stream.key(), key.as_ref());
    }
    let connection = TcpStream::connect(address).await.unwrap();
    assert_eq!(accept(connection, None).await.unwrap().key(), None);
}

#[tokio::test]
async fn a_connection_that_is_open_ends_a_while_after_its_ca_has_gone() {
    let (old, new) = (Ca::new(), Ca::new());
    let server = old.member(&master());
    let (address, stream) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tls) = (listener.local_addr().unwrap(), server.clone());
        let accepted = async move { accept(listener.accept().await.unwrap().0, Some(&tls)).await.unwrap() };
        (address, tokio::spawn(accepted))
    };
    let name = ServerName::try_from("10.1.2.3".to_owned()).unwrap();
    let connection = TcpStream::connect(address).await.unwrap();
    let client = TlsConnector::from(old.member(&agent(UID)).to_masters());
    let _client = client.connect(name, connection).await.unwrap();
    let stream = stream.await.unwrap();
    let (proof, late) = (stream.proof().unwrap(), crate::clock::Now::read().mono + GRACE + GRACE);
    let of = |signs: &Ca, others: &[&Ca]| {
        let mut shown = signs.signs(&master().to_string(), 2100);
        others.iter().for_each(|ca| shown.roots += &ca.pem);
        shown
    };
    for (credential, counts) in [
        (of(&old, &[]), true),
        (of(&old, &[&new]), true),
        (of(&new, &[&old]), true),
        (of(&new, &[]), false),
        (of(&new, &[&old]), true),
    ] {
        server.replace(&credential).unwrap();
        assert!(server.still_takes(proof, crate::clock::Now::read().mono), "at first");
        assert_eq!(server.still_takes(proof, late), counts);
    }
}

#[tokio::test]
async fn a_ca_that_the_known_one_has_signed_is_found_by_it() {
    let (old, strange) = (Ca::new(), Ca::new());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(rcgen::DnType::CommonName, "the next one");
    let next = key();
    let cross = params.signed_by(&next, &old.issuer).unwrap().pem();
    let new = Ca { pem: params.self_signed(&next).unwrap().pem(), issuer: Issuer::new(params, next) };
    let shows = |more: String| {
        let mut shown = new.signs(&master().to_string(), 2100);
        shown.certificate += &more;
        Tls::new(&shown).unwrap()
    };
    for (known, more, is_found) in [
        (&old, format!("{cross}{}", old.pem), true),
        (&old, old.pem.clone(), false),
        (&old, cross.clone(), false),
        (&strange, format!("{cross}{}{}", old.pem, strange.pem), false),
    ] {
        let (config, successor) = to_ca_or_successor(vec![known.digest()]);
        let (heard, _) = calls(config, "10.1.2.3", shows(more)).await;
        assert_eq!(heard.is_ok(), is_found, "{heard:?}");
        assert_eq!(successor.get().cloned(), is_found.then(|| new.digest()));
    }
    // Members that know the old one alone believe it, too.
    let mut both = new.signs(&master().to_string(), 2100);
    (both.certificate, both.roots) = (both.certificate + &cross, both.roots + &old.pem);
    let both = Tls::new(&both).unwrap();
    let (heard, peer) = calls(old.member(&agent(UID)).to_masters(), "10.1.2.3", both).await;
    assert_eq!((heard.unwrap(), peer.unwrap()), ("ok".to_owned(), Peer::Member(agent(UID))));
    let (config, successor) = to_ca_or_successor(vec![new.digest()]);
    assert!(calls(config, "10.1.2.3", shows(String::new())).await.0.is_ok() && successor.get().is_none());
}

/// A client that goes by `ca` alone, as a browser goes by the authorities of its system.
fn browser(ca: &Ca) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca.pem.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(verify::PROVIDER.clone());
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

#[tokio::test]
async fn a_given_certificate_is_shown_to_strangers_and_the_clusters_own_to_its_members() {
    let (cluster, public) = (Ca::new(), Ca::new());
    let name = "shef.example.org";
    let given = |credential: Credential| {
        Given::read(credential.certificate.as_bytes(), credential.key.as_bytes()).unwrap()
    };
    let server = || {
        let server = cluster.member(&master());
        server.give(given(public.signs(name, 2100)));
        server
    };
    let opens = async |config, name| calls(config, name, server()).await.0.is_ok();
    assert!(opens(browser(&public), name).await);
    assert!(!opens(browser(&cluster), name).await, "it goes by the cluster's CA, and does not say so");
    assert!(!opens(browser(&public), "other.example.org").await);
    assert!(opens(cluster.member(&agent(UID)).to_masters(), name).await);
    assert!(opens(to_ca(vec![cluster.digest()]), name).await, "a command, or a host that joins");
    assert!(opens(cluster.member(&agent(UID)).to_masters(), "10.1.2.3").await);
}

#[test]
fn a_certificate_that_cannot_be_shown_is_refused_with_the_part_that_is_wrong() {
    let (one, other) = (Ca::new().signs("a.example.org", 2100), Ca::new().signs("b.example.org", 2100));
    let refused = |certificate: &str, key: &str| {
        Given::read(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    };
    assert!(refused("", &one.key).contains("is for no DNS name"));
    assert!(refused("-----BEGIN CERTIFICATE-----\n", &one.key).contains("the certificate cannot be read"));
    assert!(refused(&one.certificate, "no key").contains("the key cannot be read"));
    assert!(refused(&one.certificate, &other.key).contains("cannot be used"));
    let given = Given::read(one.certificate.as_bytes(), one.key.as_bytes()).unwrap();
    assert_eq!(given.names(), ["a.example.org"]);
}
