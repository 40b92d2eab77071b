//! How hosts become members: join tokens, certificates, renewals and their end, against a real master.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use serde_json::{Value, json};
use shef_agent::{EngineChoice, engine::fake::FakeEngineOptions};
use shef_common::{
    ids::{ClusterId, NodeUid},
    tls::{CaDigest, Identity, JOIN_PATH, JoinToken, RENEW_PATH, TlsMode},
};
use shef_integration_tests::{
    cluster::{Answer, Api, agent_config, master_config},
    lab::shef::binary,
};
use shef_master::{MasterHandle, config::MasterConfig};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// A host that is not there: a key, and an identity.
struct Host {
    uid: String,
    key: KeyPair,
}

impl Host {
    fn new(n: u8) -> Self {
        Self { uid: format!("{n:016x}"), key: KeyPair::generate().unwrap() }
    }

    fn csr(&self) -> String {
        CertificateParams::default().serialize_request(&self.key).unwrap().pem().unwrap()
    }

    async fn join(&self, api: &Api, token: &JoinToken) -> Answer {
        self.join_as(&format!("h{}", self.uid), api, token).await
    }

    async fn join_as(&self, node: &str, api: &Api, token: &JoinToken) -> Answer {
        let JoinToken { id, secret, .. } = token;
        let body = json!({ "id": id, "secret": secret, "node": node, "uid": self.uid, "csr": self.csr() });
        api.call("POST", JOIN_PATH, body).await
    }

    async fn renew(&self, api: &Api) -> Answer {
        api.call("POST", RENEW_PATH, json!({ "uid": self.uid, "csr": self.csr() })).await
    }

    /// Whether `answer` holds a certificate of this host, under the CA that `token` names.
    fn is_let_in(&self, answer: &Answer, token: &JoinToken) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let pem = |field: &str| {
            let text = answer.body[field].as_str().unwrap().as_bytes();
            CertificateDer::from_pem_slice(text).unwrap()
        };
        let (root, leaf) = (pem("roots"), pem("certificate"));
        assert_eq!(CaDigest::of(&root), token.ca);
        let (anchors, leaf) =
            ([anchor_from_trusted_cert(&root).unwrap()], EndEntityCert::try_from(&leaf).unwrap());
        let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
        for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
            leaf.verify_for_usage(algorithms, &anchors, &[], UnixTime::now(), usage, None, None).unwrap();
        }
        let cluster = ClusterId::parse(answer.body["cluster"].as_str().unwrap()).unwrap();
        let name = Identity::Agent(cluster, NodeUid::parse(&self.uid).unwrap()).to_string();
        leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name.as_str()).unwrap()).unwrap();
        let spki = leaf.subject_public_key_info();
        assert!(spki.ends_with(self.key.public_key_raw()), "its own key");
    }
}

fn with_tls(dir: &Path, tls: TlsMode) -> MasterConfig {
    MasterConfig { tls: Some(tls), ..master_config(dir) }
}

async fn start(dir: &Path, tls: TlsMode) -> (MasterHandle, Api) {
    let master = shef_master::start(with_tls(dir, tls)).await.unwrap();
    let api = Api::new(master.address());
    api.until("/v1/services", |answer| answer.status == 200).await;
    (master, api)
}

async fn token(api: &Api, name: &str, body: Value) -> JoinToken {
    let made = api.call("PUT", &format!("/v1/tokens/{name}"), body).await;
    assert_eq!(made.status, 201, "{made:?}");
    JoinToken::parse(made.body["token"].as_str().unwrap()).unwrap()
}

fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
}

#[actix_rt::test]
async fn a_token_lets_as_many_hosts_in_as_it_says_and_each_with_its_own_key() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    let once = token(&api, "once", json!({ "role": "agent" })).await;
    let (one, two) = (Host::new(1), Host::new(2));
    one.is_let_in(&one.join(&api, &once).await, &once);
    is(&two.join(&api, &once).await, 401, "unauthenticated");
    one.is_let_in(&one.join(&api, &once).await, &once);
    one.is_let_in(&one.renew(&api).await, &once);

    // Another key under the same identity.
    let more = token(&api, "more", json!({ "role": "agent", "uses": 3, "expires_in": "2d" })).await;
    let thief = Host { uid: one.uid.clone(), key: KeyPair::generate().unwrap() };
    is(&thief.join(&api, &more).await, 409, "node_conflict");
    is(&thief.renew(&api).await, 403, "forbidden");
    is(&two.renew(&api).await, 403, "forbidden");
    two.is_let_in(&two.join(&api, &more).await, &more);
    let listed = api.get("/v1/tokens").await.body;
    let listed = &listed["tokens"];
    assert_eq!(listed.as_array().unwrap().len(), 1, "what is used up is gone: {listed}");
    assert_eq!((&listed[0]["role"], &listed[0]["uses_left"]), (&json!("agent"), &json!(2)));

    // Another start knows whom it has let in.
    master.stop().await;
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    two.is_let_in(&two.renew(&api).await, &once);
    let three = Host::new(3);
    three.is_let_in(&three.join(&api, &more).await, &more);
    assert_eq!(api.call("DELETE", "/v1/tokens/more", Value::Null).await.status, 200);
    is(&Host::new(4).join(&api, &more).await, 401, "unauthenticated");
    let own = JoinToken::parse(&master.join_token().await.unwrap()).unwrap();
    let (again, four) = (JoinToken::parse(&master.join_token().await.unwrap()).unwrap(), Host::new(4));
    is(&four.join(&api, &own).await, 401, "unauthenticated");
    four.is_let_in(&four.join(&api, &again).await, &again);
    master.stop().await;
}

#[actix_rt::test]
async fn of_two_joins_at_once_with_one_use_one_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    for round in 0..5_u8 {
        let once = token(&api, &format!("t{round}"), json!({ "role": "agent" })).await;
        let hosts: Vec<Host> = (0..4).map(|n| Host::new(10 + round * 4 + n)).collect();
        let answers = futures_util::future::join_all(hosts.iter().map(|host| host.join(&api, &once))).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401, 401, 401]);
    }
    master.stop().await;
}

#[actix_rt::test]
async fn a_command_makes_tokens_and_prints_nothing_else_on_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    let shef = async |words: &[&str]| {
        let mut shef = tokio::process::Command::new(binary());
        let said = shef.args(words).args(["--api", &api.url]).output().await.unwrap();
        assert!(said.status.success(), "{said:?}");
        [said.stdout, said.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [token, said] = shef(&["token", "join", "--uses", "2", "--name", "rack-1"]).await;
    assert!(said.contains("lets 2 hosts join within 1h") && said.contains("JOIN_TOKEN"), "{said}");
    let token = JoinToken::parse(token.trim_end()).unwrap();
    let host = Host::new(1);
    host.is_let_in(&host.join(&api, &token).await, &token);
    let [listed, _] = shef(&["token", "ls"]).await;
    let row: Vec<&str> = listed.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["rack-1", "agent", "-", "1"], "{listed}");
    shef(&["token", "join"]).await;
    let [backup, _] = shef(&["backup"]).await;
    assert!(backup.contains("authority/ca") && backup.contains("identity/0000000000000001"));
    assert!(!backup.contains(&token.secret) && !backup.contains("PRIVATE KEY"));
    master.stop().await;
}

#[actix_rt::test]
async fn whatever_is_wrong_with_a_token_is_answered_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    let right = token(&api, "right", json!({ "role": "agent", "uses": 2 })).await;
    let short = token(&api, "short", json!({ "role": "agent", "expires_in": "1ms" })).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let host = Host::new(1);
    let expected = host.join(&api, &short).await;
    is(&expected, 401, "unauthenticated");
    for wrong in [
        JoinToken { secret: "0".repeat(32), ..right.clone() },
        JoinToken { id: "00000000".to_owned(), ..right.clone() },
        JoinToken { id: String::new(), secret: "ö".repeat(999), ..right.clone() },
        JoinToken { id: short.id.clone(), ..right.clone() },
    ] {
        let answer = host.join(&api, &wrong).await;
        assert_eq!((answer.status, &answer.body), (401, &expected.body));
    }
    // A token to join with opens no call, and one of the API lets nobody in.
    let closed = api.raw("GET", "/v1/services", &[("authorization", &right.text())], vec![]).await;
    assert_eq!(closed.status, 200, "the API is open here");
    let body = json!({ "id": right.id, "secret": right.secret, "node": "h1", "uid": host.uid, "csr": "x" });
    is(&api.call("POST", JOIN_PATH, body).await, 400, "invalid_body");
    is(&api.call("POST", JOIN_PATH, json!({ "id": "x".repeat(17 * 1024) })).await, 413, "body_too_large");
    is(&api.get(JOIN_PATH).await, 405, "method_not_allowed");
    for wrong in [
        json!({ "role": "agent", "uses": 0 }),
        json!({ "role": "agent", "uses": 1_001 }),
        json!({ "role": "agent", "expires_in": "31d" }),
        json!({ "role": "agent", "services": "team-" }),
        json!({ "role": "viewer", "uses": 1 }),
        json!({ "role": "master" }),
    ] {
        is(&api.call("PUT", "/v1/tokens/wrong", wrong).await, 400, "invalid_body");
    }
    host.is_let_in(&host.join(&api, &right).await, &right);
    master.stop().await;
}

#[actix_rt::test]
async fn a_forgotten_host_is_a_member_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    let agent_dir = dir.path().join("h0");
    std::fs::create_dir_all(&agent_dir).unwrap();
    let engine = EngineChoice::Fake(FakeEngineOptions::default());
    let config = agent_config(&agent_dir, "h0", master.address(), "unix:///nowhere.sock");
    let agent = shef_agent::start(config, engine).await.unwrap();
    api.until("/v1/stats", |answer| answer.body["now"]["nodes_ready"] == 1).await;
    let node = api.get("/v1/nodes/h0").await.body;
    let host = Host { uid: node["uid"].as_str().unwrap().to_owned(), key: KeyPair::generate().unwrap() };
    let twice = token(&api, "twice", json!({ "role": "agent", "uses": 2 })).await;
    is(&host.join_as("h1", &api, &twice).await, 409, "node_conflict");
    is(&Host::new(7).join_as("h0", &api, &twice).await, 409, "node_conflict");
    host.is_let_in(&host.join_as("h0", &api, &twice).await, &twice);
    host.is_let_in(&host.renew(&api).await, &twice);
    agent.stop().await;
    assert_eq!(api.raw("DELETE", "/v1/nodes/h0?force=true", &[], vec![]).await.status, 200);
    api.until("/v1/nodes/h0", |answer| answer.status == 404).await;
    is(&host.renew(&api).await, 403, "forbidden");
    is(&host.join_as("h0", &api, &twice).await, 409, "node_conflict");
    master.stop().await;
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    is(&host.renew(&api).await, 403, "forbidden");
    master.stop().await;
}

#[actix_rt::test]
async fn a_name_is_one_hosts_and_a_host_that_never_registered_can_be_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Optional).await;
    let token = token(&api, "some", json!({ "role": "agent", "uses": 3 })).await;
    let (one, two) = (Host::new(1), Host::new(2));
    one.is_let_in(&one.join_as("h1", &api, &token).await, &token);
    is(&two.join_as("h1", &api, &token).await, 409, "node_conflict");
    assert_eq!(api.raw("DELETE", "/v1/nodes/h1", &[], vec![]).await.status, 200);
    is(&one.renew(&api).await, 403, "forbidden");
    two.is_let_in(&two.join_as("h1", &api, &token).await, &token);
    // Of two that ask at once for one name, one has it.
    let (three, four) = (Host::new(3), Host::new(4));
    let more = self::token(&api, "more", json!({ "role": "agent", "uses": 2 })).await;
    let (third, fourth) =
        futures_util::join!(three.join_as("h3", &api, &more), four.join_as("h3", &api, &more));
    let mut statuses = [third.status, fourth.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    master.stop().await;
}

#[actix_rt::test]
async fn without_tls_nobody_joins_and_a_lost_key_keeps_the_master_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let (master, api) = start(dir.path(), TlsMode::Off).await;
    is(&api.call("PUT", "/v1/tokens/t", json!({ "role": "agent" })).await, 400, "invalid_parameter");
    let token = JoinToken::parse(&format!("shef-{}-00000000-{}", "0".repeat(40), "0".repeat(32))).unwrap();
    is(&Host::new(1).join(&api, &token).await, 404, "not_found");
    is(&Host::new(1).renew(&api).await, 404, "not_found");
    master.stop().await;
    start(dir.path(), TlsMode::Optional).await.0.stop().await;
    std::fs::write(dir.path().join("secret.key"), [7; 32]).unwrap();
    let refused =
        shef_master::start(with_tls(dir.path(), TlsMode::Optional)).await.err().unwrap().to_string();
    assert!(refused.contains("secret.key; bring back the one"), "{refused}");
    std::fs::write(dir.path().join("secret.key"), [7; 31]).unwrap();
    let refused =
        shef_master::start(with_tls(dir.path(), TlsMode::Optional)).await.err().unwrap().to_string();
    assert!(refused.contains("must be 32 bytes, but is 31"), "{refused}");
    start(dir.path(), TlsMode::Off).await.0.stop().await;
}
