//! A certificate that an operator gives to the API: who goes by its authority is shown it, hosts and commands
//! of shef at the same name are not.

use std::sync::Arc;

use awc::http::Method;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use shef_agent::{EngineChoice, config::AgentConfig, engine::fake::FakeEngineOptions};
use shef_common::{
    client,
    tls::{JoinToken, TlsMode, to_ca},
};
use shef_integration_tests::cluster::{Cluster, agent_config, master_config};
use shef_master::{config::MasterConfig, identity::GivenFiles};

/// A client that goes by one authority alone, as browsers and programs go by those of their system.
fn goes_by(authority: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

async fn status(tls: Arc<ClientConfig>, url: &str) -> Option<u16> {
    let client = client::raw(1, &Some(tls));
    let answer = client::request(&client, Method::GET, url).send().await;
    answer.ok().map(|answer| answer.status().as_u16())
}

#[actix_rt::test]
async fn strangers_are_shown_what_was_given_and_hosts_the_clusters_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let files = GivenFiles { certificate: dir.path().join("fullchain.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.certificate, signed.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();

    let config = MasterConfig {
        tls: Some(TlsMode::Required),
        api_certificate: Some(files),
        ..master_config(dir.path())
    };
    let mut cluster = Cluster::start_as(config, dir).await;
    let address = cluster.master.address();
    let [by_name, by_address] =
        [format!("localhost:{}", address.port()), address.to_string()].map(|at| format!("https://{at}"));
    let healthy = |url: &str| format!("{url}/healthz");
    assert_eq!(status(goes_by(&authority), &healthy(&by_name)).await, Some(200));
    assert_eq!(status(goes_by(&authority), &healthy(&by_address)).await, None, "it is for a name");
    let ca = cluster.master.ca().unwrap().clone();
    for url in [&by_name, &by_address] {
        assert_eq!(status(to_ca(vec![ca.clone()]), &healthy(url)).await, Some(200), "{url}");
    }

    // A host that knows the master by that name joins, and speaks with it.
    let token = cluster.master.join_token().await.unwrap();
    let host = cluster.dir.path().join("h0");
    std::fs::create_dir_all(&host).unwrap();
    let agent = AgentConfig {
        masters: vec![by_name],
        tls: TlsMode::Required,
        join_token: JoinToken::parse(&token),
        ..agent_config(&host, "h0", address, "unix:///nowhere")
    };
    let engine = EngineChoice::Fake(FakeEngineOptions::default());
    cluster.agents.push(shef_agent::start(agent, engine).await.unwrap());
    cluster.ready(1).await;
    cluster.stop().await;
}
