//! Who may call what, and how callers come to be known.

mod rights;
mod ways_in;

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use shef_integration_tests::cluster::{Answer, Api, Cluster, master_config};
use shef_master::{MasterHandle, access::Role, config::MasterConfig};
use tempfile::TempDir;

/// A master that asks who calls, and a token of each role.
struct Guarded {
    master: MasterHandle,
    api: Api,
    dir: TempDir,
    tokens: BTreeMap<&'static str, String>,
}

impl Guarded {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Tokens are made while everybody is an administrator.
        let open = Cluster::start(dir).await;
        let mut tokens = BTreeMap::new();
        for role in Role::ALL.map(Role::as_str) {
            tokens.insert(role, make(&open.api, role, &json!({ "role": role }), None).await);
        }
        let dir = open.stop().await;
        let master = shef_master::start(guarded(dir.path())).await.unwrap();
        let api = Api::new(master.address());
        let this = Self { master, api, dir, tokens };
        this.until_ready().await;
        this
    }

    async fn until_ready(&self) {
        while self.call("viewer", "GET", "/v1/services", Value::Null).await.status != 200 {
            tokio::task::yield_now().await;
        }
    }

    async fn call(&self, role: &str, method: &str, path: &str, body: Value) -> Answer {
        with_token(&self.api, &self.tokens[role], method, path, body).await
    }

    async fn stop(self) {
        self.master.stop().await;
        drop(self.dir);
    }
}

fn guarded(dir: &Path) -> MasterConfig {
    MasterConfig { insecure: false, api_socket: Some(dir.join("shef.sock")), ..master_config(dir) }
}

async fn with_token(api: &Api, token: &str, method: &str, path: &str, body: Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    api.raw(method, path, &headers, body).await
}

async fn make(api: &Api, name: &str, body: &Value, by: Option<&str>) -> String {
    let path = format!("/v1/tokens/{name}");
    let made = with_token(api, by.unwrap_or_default(), "PUT", &path, body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["token"].as_str().unwrap().to_owned()
}

fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
}
