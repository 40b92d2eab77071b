//! `GET /v1/system/df` and `POST /v1/system/prune`: what images take on the hosts, asked of them now.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use shef_common::{
    client::HostClient,
    disk::{DISK_PATH, DiskQuery, DiskUsage},
    ids::NodeName,
};

use super::{
    Api, RequestPermit,
    agent_error::{AgentError, away},
    answer::Answer,
    params,
};
use crate::view::Host;

/// How many hosts are asked at once.
const HOSTS_AT_ONCE: usize = 32;
/// How long a host may take: to remove images takes an engine seconds each.
const HOST_LIMIT: Duration = Duration::from_mins(5);
/// How many hosts are taken out of the view at once.
const PAGE: usize = 1_000;

/// The disk usage of shef's images.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct SystemUsage {
    /// The hosts, in the order of their names.
    pub hosts: Vec<HostUsage>,
}

/// The disk usage of shef's images on a host.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct HostUsage {
    /// The host.
    pub host: NodeName,
    /// The images there; absent if they are not known.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub usage: Option<DiskUsage>,
    /// Why nothing is known of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// `GET /v1/system/df`
pub async fn df(request: HttpRequest, api: web::Data<Api>, client: web::Data<HostClient>) -> Answer {
    answer(&request, &api, &client, false).await
}

/// `POST /v1/system/prune`
pub async fn prune(request: HttpRequest, api: web::Data<Api>, client: web::Data<HostClient>) -> Answer {
    answer(&request, &api, &client, true).await
}

async fn answer(request: &HttpRequest, api: &web::Data<Api>, client: &HostClient, prune: bool) -> Answer {
    let _permit = RequestPermit::take(api, request)?;
    params::query(request, &[])?;
    let mut hosts: Vec<Host> = Vec::new();
    loop {
        let page = api.view.hosts(hosts.last().map(|host| &host.view.name), PAGE);
        let is_last = page.len() < PAGE;
        hosts.extend(page);
        if is_last {
            break;
        }
    }
    let asked = stream::iter(hosts).map(|host| ask(client, host, prune)).buffered(HOSTS_AT_ONCE);
    Ok(HttpResponse::Ok().json(SystemUsage { hosts: asked.collect().await }))
}

async fn ask(client: &HostClient, host: Host, prune: bool) -> HostUsage {
    let asked = async {
        away(host.view.state).map_or(Ok(()), Err)?;
        let url = format!("{}{DISK_PATH}", host.view.host.agent_url);
        let answer = client.post::<_, DiskUsage>(&url, &DiskQuery { prune }, HOST_LIMIT).await;
        answer.map_err(|error| AgentError::Told(error.to_string()))
    };
    let (usage, missing) = match asked.await {
        Ok(usage) => (Some(usage), None),
        Err(error) => (None, Some(error.to_string())),
    };
    HostUsage { host: host.view.name.clone(), usage, missing }
}
