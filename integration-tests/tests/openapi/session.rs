//! The calls that docs/api.md shows: made one after the other to a running master
//! with hosts of a fake engine, each answer checked against the document.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::Cluster;

use crate::{document, schema, send};

/// An exchange as the reference shows it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// As in `GET /v1/nodes`, with the query.
    pub request: String,
    /// The request's body, if it has one.
    pub body: Option<Value>,
    /// The status of the answer.
    pub status: u16,
    /// The answer's body; none of a stream.
    pub answer: Option<Value>,
}

/// Calls without an example: streams, commands, and what is not JSON.
pub const WITHOUT_EXAMPLE: [&str; 16] = [
    "get /v1/services/{name}/logs",
    "get /v1/services/{name}/replicas/{id}/logs",
    "get /v1/services/{name}/replicas/{id}/exec",
    "get /v1/events",
    "get /v1/backup",
    "get /openapi.json",
    "get /login",
    "get /login/start.js",
    "post /v1/login-links",
    "post /v1/sessions",
    "delete /v1/sessions",
    "get /docs",
    "get /docs/start.js",
    "get /docs/swagger-ui-bundle.js",
    "get /docs/swagger-ui.css",
    "get /",
];

/// Stands for the path of a request that is wrong.
pub const REFUSED: &str = "refused";

/// The exchanges by call, as in `get /v1/nodes`, and the document.
pub async fn exchanges() -> (BTreeMap<String, Exchange>, Value) {
    let cluster = Cluster::fake(2, FakeEngineOptions::default()).await;
    let api = document(&cluster).await;
    let mut seen = BTreeMap::new();
    let spec = |image: &str| json!({ "image": image, "replicas": 2, "update": { "monitor_ms": 0 } });
    let web = "/v1/services/web";
    let mut session = Session { cluster: &cluster, api: &api, seen: &mut seen };

    let api_service = json!({ "name": "api", "image": "registry.example.com/api:1", "stop_grace_s": 30 });
    session.make("POST", "/v1/services", "/v1/services", Some(api_service), 201).await;
    session
        .make("PUT", "/v1/services/{name}", &format!("{web}?wait=30s"), Some(spec("nginx:1.27")), 201)
        .await;
    session.make("GET", "/v1/services", "/v1/services?limit=1", None, 200).await;
    session.make("GET", "/v1/services/{name}/replicas", &format!("{web}/replicas?limit=1"), None, 200).await;
    let plan = format!("{web}/plan");
    session.make("POST", "/v1/services/{name}/plan", &plan, Some(spec("nginx:1.28")), 200).await;
    let patch = json!({ "env": { "MODE": "b" } });
    session.make("PATCH", "/v1/services/{name}", &format!("{web}?wait=30s"), Some(patch), 200).await;
    session.make("POST", "/v1/services/{name}/restart", &format!("{web}/restart?wait=30s"), None, 200).await;
    let back = Some(json!({ "generation": 1 }));
    session
        .make("POST", "/v1/services/{name}/rollback", &format!("{web}/rollback?wait=30s"), back, 200)
        .await;
    let canary = json!({ "image": "nginx:1.28", "update": { "canary": 1 } });
    session.only_send("PATCH", web, canary).await;
    session.until(web, |service| service["rollout"]["state"] == "canary").await;
    session.make("GET", "/v1/services/{name}", web, None, 200).await;
    let promote = format!("{web}/rollout/promote?wait=30s");
    session.make("POST", "/v1/services/{name}/rollout/{lead}", &promote, None, 200).await;
    let slowly = Some(json!({ "per_minute": 10 }));
    session.make("POST", "/v1/services/{name}/rebalance", &format!("{web}/rebalance"), slowly, 202).await;
    let release = format!("{web}/slots/0/release");
    session.make("POST", "/v1/services/{name}/slots/{slot}/release", &release, None, 409).await;
    let service = session.until(web, |service| service["state"] == "running").await;
    let replica = service["replica_states"][0]["id"].as_str().unwrap().to_owned();
    session.make("GET", "/v1/services/{name}/stats", &format!("{web}/stats"), None, 200).await;
    let of_one = format!("{web}/replicas/{replica}/stats");
    session.make("GET", "/v1/services/{name}/replicas/{id}/stats", &of_one, None, 200).await;

    session.make("GET", "/v1/nodes", "/v1/nodes?limit=1", None, 200).await;
    session.make("GET", "/v1/nodes/{name}", "/v1/nodes/h0", None, 200).await;
    session.make("POST", "/v1/nodes/{name}/cordon", "/v1/nodes/h0/cordon", None, 200).await;
    let deadline = Some(json!({ "deadline_s": 600 }));
    session.make("POST", "/v1/nodes/{name}/drain", "/v1/nodes/h0/drain", deadline, 200).await;
    session.make("POST", "/v1/nodes/{name}/activate", "/v1/nodes/h0/activate", None, 200).await;
    session.make("DELETE", "/v1/nodes/{name}", "/v1/nodes/h0", None, 409).await;
    for (method, path, status) in [
        ("GET", "/v1/cluster", 200),
        ("POST", "/v1/cluster/resume", 200),
        ("POST", "/v1/cluster/take-over", 202),
    ] {
        session.make(method, path, path, None, status).await;
    }
    let registry = "/v1/registries/registry.example.com";
    let login = Some(json!({ "username": "deploy", "password": "secret" }));
    session.make("PUT", "/v1/registries/{name}", registry, login, 201).await;
    session.make("GET", "/v1/registries", "/v1/registries", None, 200).await;
    session.make("DELETE", "/v1/registries/{name}", registry, None, 200).await;
    for (secrets, data) in [("/v1/secrets", "cGFzc3dvcmQK"), ("/v1/configs", "bGlzdGVuIDgwODAK")] {
        let (one, named) = (format!("{secrets}/web.conf"), format!("{secrets}/{{name}}"));
        session.make("PUT", &named, &one, Some(json!({ "data": data })), 201).await;
        session.make("GET", secrets, secrets, None, 200).await;
        if secrets == "/v1/configs" {
            session.make("GET", &named, &one, None, 200).await;
        }
        session.make("DELETE", &named, &one, None, 200).await;
    }
    let token = Some(json!({ "role": "deployer", "services": "team-a-", "expires_in": "30d" }));
    session.make("PUT", "/v1/tokens/{name}", "/v1/tokens/ci", token, 201).await;
    session.make("GET", "/v1/tokens", "/v1/tokens", None, 200).await;
    session.make("DELETE", "/v1/tokens/{name}", "/v1/tokens/ci", None, 200).await;
    session.make("GET", "/v1/ca", "/v1/ca", None, 200).await;
    session.make("POST", "/v1/ca/rotate", "/v1/ca/rotate", Some(json!({ "compromised": false })), 202).await;
    session.make("POST", "/v1/ca/continue", "/v1/ca/continue", None, 202).await;
    for (method, path) in [
        ("GET", "/v1/audit"),
        ("GET", "/v1/system/df"),
        ("POST", "/v1/system/prune"),
        ("GET", "/v1/stats"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
    ] {
        session.make(method, path, path, None, 200).await;
    }
    session.make("DELETE", "/v1/services/{name}", &format!("{web}?wait=30s"), None, 200).await;
    let wrong = json!({ "name": "Web", "image": "nginx", "replica": 2 });
    session.make("POST", REFUSED, "/v1/services", Some(wrong), 400).await;

    let name = |more: Value| {
        let mut body = json!({ "serviceName": "shop" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(body)
    };
    let created = name(json!({ "image": "nginx:1.27", "replicas": 2 }));
    session.make("POST", "/service", "/service", created, 200).await;
    session.make("GET", "/service", "/service?serviceName=shop", None, 200).await;
    session.make("PUT", "/service", "/service", name(json!({ "replicas": 1 })), 200).await;
    session.make("GET", "/state", "/state", None, 200).await;
    session.make("DELETE", "/service", "/service", name(json!({})), 200).await;
    session.make("POST", "/node", "/node", Some(json!({ "node": "10.0.0.1", "master": true })), 200).await;
    session.make("GET", "/stats", "/stats", None, 200).await;
    cluster.stop().await;
    (seen, api)
}

struct Session<'a> {
    cluster: &'a Cluster,
    api: &'a Value,
    seen: &'a mut BTreeMap<String, Exchange>,
}

impl Session<'_> {
    /// Makes a call, and keeps the exchange under its path in the document.
    async fn make(&mut self, method: &str, path: &str, address: &str, body: Option<Value>, status: u16) {
        let bytes = body.as_ref().map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let sent = send(self.cluster, method, address, &[], bytes).await;
        let text = String::from_utf8_lossy(&sent.body);
        assert_eq!(sent.status, status, "{method} {address}: {text}");
        let answer: Value = serde_json::from_slice(&sent.body).unwrap();
        let request = format!("{method} {address}");
        let exchange = Exchange { request, body, status, answer: Some(answer) };
        let call = format!("{} {path}", method.to_lowercase());
        assert_eq!(misfit(self.api, &call, &exchange), None, "{call}");
        self.seen.insert(call, exchange);
    }

    async fn only_send(&self, method: &str, address: &str, body: Value) {
        let sent = send(self.cluster, method, address, &[], body.to_string().into_bytes()).await;
        assert!(sent.status < 300, "{method} {address}: {}", String::from_utf8_lossy(&sent.body));
    }

    async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        self.cluster.api.until(path, |answer| done(&answer.body)).await.body
    }
}

/// Why an exchange is not what the document says of its call.
pub fn misfit(api: &Value, call: &str, exchange: &Exchange) -> Option<String> {
    let (method, path) = call.split_once(' ').unwrap();
    let path = if path == REFUSED { "/v1/services" } else { path };
    let described = &api["paths"][path][method];
    let of = |content: &Value, media: &str| content[media]["schema"].clone();
    // What is refused is not what the document asks for.
    if let Some(body) = exchange.body.as_ref().filter(|_| exchange.status < 400) {
        let rule = of(&described["requestBody"]["content"], "application/json");
        if let Some(why) = schema::wrong(api, &rule, body, "request") {
            return Some(why);
        }
    }
    let content = &described["responses"][exchange.status.to_string()]["content"];
    let media = if exchange.status < 400 { "application/json" } else { "application/problem+json" };
    if content[media].is_null() {
        return Some(format!("{call} does not answer {} with {media}", exchange.status));
    }
    exchange.answer.as_ref().and_then(|answer| schema::wrong(api, &of(content, media), answer, "answer"))
}
