//! The few calls to the API that `shef up` and `shef down` make.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Failure, say};

/// How long a call may take over what it was told to wait.
const CALL_SLACK: Duration = Duration::from_secs(5);
/// How long a demo service may take.
const DEPLOY_WAIT_S: u64 = 30;
/// How long the containers of a deleted service may take.
const DELETE_WAIT_S: u64 = 60;
/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// How many pages of services are deleted at most.
const MAX_PAGES: usize = 1_000;

/// A client of one master.
pub(crate) struct Api {
    client: awc::Client,
    address: String,
}

impl Api {
    /// Of the master at `address`, as `HOST:PORT`.
    pub(crate) fn new(address: &str) -> Self {
        let client = awc::Client::builder().disable_redirects().disable_timeout().finish();
        Self { client, address: address.to_owned() }
    }

    /// Whether the master is ready for writes.
    pub(crate) async fn is_ready(&self) -> bool {
        let call = self.client.get(format!("http://{}/readyz", self.address)).send();
        matches!(tokio::time::timeout(Duration::from_secs(1), call).await, Ok(Ok(answer)) if answer.status().is_success())
    }

    /// Creates or replaces a service and waits until it runs.
    pub(crate) async fn deploy(&self, name: &str, image: &str, replicas: u32) -> Result<(), Failure> {
        let path = format!("/v1/services/{name}?wait={DEPLOY_WAIT_S}s");
        let body = json!({ "image": image, "replicas": replicas });
        let answer = self.call(awc::http::Method::PUT, &path, Some(&body), DEPLOY_WAIT_S).await?;
        settled(&format!("service {name} does not run yet"), &answer)
    }

    /// Deletes every service and waits until their containers are gone.
    pub(crate) async fn delete_all_services(&self) -> Result<(), Failure> {
        for _ in 0..MAX_PAGES {
            let page = self.call(awc::http::Method::GET, "/v1/services", None, 0).await?;
            let services = page["services"].as_array().cloned().unwrap_or_default();
            if services.is_empty() {
                return Ok(());
            }
            for service in &services {
                let name = service["name"].as_str().ok_or_else(|| Failure::new("the API lists a service without a name"))?;
                say::step(format_args!("deleting service {name} ..."));
                let path = format!("/v1/services/{name}?wait={DELETE_WAIT_S}s");
                let answer = self.call(awc::http::Method::DELETE, &path, None, DELETE_WAIT_S).await?;
                settled(&format!("service {name} is not gone yet"), &answer)?;
            }
        }
        Err(Failure::new("there are more services than can be deleted in one go: run this again"))
    }

    async fn call(&self, method: awc::http::Method, path: &str, body: Option<&Value>, wait_s: u64) -> Result<Value, Failure> {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method, &url);
        let call = async {
            let sent = match body {
                Some(body) => request.send_json(body).await,
                None => request.send().await,
            };
            let mut answer = sent.map_err(|error| Failure::new(format!("{url} does not answer: {error}")))?;
            let body = answer.body().limit(MAX_ANSWER_BYTES).await;
            let body = body.map_err(|error| Failure::new(format!("{url} broke off: {error}")))?;
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            if answer.status().is_success() {
                return Ok(value);
            }
            let detail = value["detail"].as_str().map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
            Err(Failure::new(format!("{url} answered {}: {detail}", answer.status())))
        };
        let limit = Duration::from_secs(wait_s) + CALL_SLACK;
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(Failure::new(format!("{url} does not answer within {limit:?}"))))
    }
}

/// Refuses an answer that says that the wish is not reached.
fn settled(what: &str, answer: &Value) -> Result<(), Failure> {
    if answer["converged"] != Value::Bool(false) {
        return Ok(());
    }
    let missing: Vec<&str> = answer["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).take(10).collect();
    Err(Failure::new(format!("{what}: {}", missing.join("; "))))
}
