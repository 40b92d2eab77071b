//! The few calls to the API that `shef up` and `shef down` make.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::{Failure, api_address::SOCKET, client::Client, running::Running, say};

/// How long a call may take over what it was told to wait.
const CALL_SLACK: Duration = Duration::from_secs(5);
/// How long a demo service may take.
const DEPLOY_WAIT_S: u64 = 30;
/// How long the containers of a deleted service may take.
const DELETE_WAIT_S: u64 = 60;
/// How many pages of services are deleted at most.
const MAX_PAGES: usize = 1_000;

/// A client of one master.
pub(crate) struct Api {
    client: Client,
}

impl Api {
    /// The API of a master on this machine: by its socket, which needs no token.
    pub(crate) fn of(running: &Running) -> Self {
        match running.socket.as_ref().filter(|socket| socket.exists()) {
            Some(socket) => Self::at(&format!("{SOCKET}{}", socket.display())),
            None => Self::at(&format!("http://{}", running.api)),
        }
    }

    /// Of the master at this URL.
    pub(crate) fn at(url: &str) -> Self {
        Self { client: Client::new(url.to_owned()) }
    }

    /// Whether a master answers, ready or not.
    pub(crate) async fn is_there(&self) -> bool {
        // One that asks for a token is there, too.
        match self.client.get::<Value>("/v1/cluster").await {
            Ok(_) => true,
            Err(error) => error.is_of_a_master(),
        }
    }

    /// Whether the master is ready for writes.
    pub(crate) async fn is_ready(&self) -> bool {
        let call = self.client.http().get(self.client.url("/readyz")).send();
        match tokio::time::timeout(Duration::from_secs(1), call).await {
            Ok(Ok(answer)) => answer.status().is_success(),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// The path of a link by which a browser logs in; `None`: the master makes none.
    pub(crate) async fn login_link(&self) -> Option<String> {
        let link = self.call(Method::POST, "/v1/login-links", None, 0).await.ok()?;
        link["path"].as_str().map(str::to_owned)
    }

    /// Whether the host has reported: then what runs there is known.
    pub(crate) async fn has_report_of(&self, host: &str) -> bool {
        let path = format!("/v1/nodes/{host}");
        let node = self.call(Method::GET, &path, None, 0).await;
        node.is_ok_and(|node| node["state"] == "ready" && !node["last_report"].is_null())
    }

    /// Why no host can run anything yet; `None`: one is ready, or nothing is known of it.
    pub(crate) async fn hosts_not_ready(&self) -> Option<String> {
        let hosts = self.call(Method::GET, "/v1/nodes", None, 0).await.ok()?;
        let hosts = hosts["nodes"].as_array()?;
        if hosts.iter().any(|host| host["state"] == "ready") {
            return None;
        }
        let said = hosts.iter().map(|host| {
            let [name, state, reason] =
                ["name", "state", "reason"].map(|key| host[key].as_str().unwrap_or_default());
            if reason.is_empty() {
                format!("{name} is {state}")
            } else {
                format!("{name} is {state}: {reason}")
            }
        });
        let said: Vec<String> = said.collect();
        Some(if said.is_empty() { "its agent has not reported yet".to_owned() } else { said.join("; ") })
    }

    /// The cluster that the master leads; `None`: none yet, or it does not say.
    pub(crate) async fn cluster(&self) -> Option<String> {
        let cluster = self.client.get::<Value>("/v1/cluster").await.ok()?;
        cluster["cluster"].as_str().map(str::to_owned)
    }

    /// The image of the service `name`; `None`: there is none.
    pub(crate) async fn image_of(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.client.get::<Value>(&format!("/v1/services/{name}")).await {
            Ok(service) => Ok(Some(service["image"].as_str().unwrap_or_default().to_owned())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates or replaces a service and waits until it runs.
    pub(crate) async fn deploy(&self, name: &str, image: &str, replicas: u32) -> Result<(), Failure> {
        let path = format!("/v1/services/{name}?wait={DEPLOY_WAIT_S}s");
        let body = json!({ "image": image, "replicas": replicas });
        let answer = self.call(Method::PUT, &path, Some(&body), DEPLOY_WAIT_S).await?;
        settled(&format!("service {name} does not run yet"), &answer)
    }

    /// Deletes every service and waits until their containers are gone.
    pub(crate) async fn delete_all_services(&self) -> Result<(), Failure> {
        for _ in 0..MAX_PAGES {
            let page = self.call(Method::GET, "/v1/services", None, 0).await?;
            let services = page["services"].as_array().cloned().unwrap_or_default();
            if services.is_empty() {
                return Ok(());
            }
            for service in &services {
                let name = service["name"]
                    .as_str()
                    .ok_or_else(|| Failure::new("the API lists a service without a name"))?;
                say::step(format_args!("deleting service {name} ..."));
                let path = format!("/v1/services/{name}?wait={DELETE_WAIT_S}s");
                let answer = self.call(Method::DELETE, &path, None, DELETE_WAIT_S).await?;
                settled(&format!("service {name} is not gone yet"), &answer)?;
            }
        }
        Err(Failure::new("there are more services than can be deleted in one go: run this again"))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait_s: u64,
    ) -> Result<Value, Failure> {
        Ok(self.client.call(method, path, body, &[], Duration::from_secs(wait_s) + CALL_SLACK).await?)
    }
}

/// Refuses an answer that says that the wish is not reached.
fn settled(what: &str, answer: &Value) -> Result<(), Failure> {
    if answer["converged"] != Value::Bool(false) {
        return Ok(());
    }
    let missing: Vec<&str> =
        answer["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).take(10).collect();
    Err(Failure::new(format!("{what}: {}", missing.join("; "))))
}
