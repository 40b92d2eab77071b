//! `GET /v1/services/{name}/stats` and `…/replicas/{id}/stats`: what replicas use, asked of their hosts now.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use shef_common::{
    client::HostClient,
    ids::{NodeName, ReplicaId, ServiceName},
    problem::{Code, Problem},
    usage::{MAX_REPLICAS, USAGE_PATH, Usage, UsageQuery, Usages},
};

use super::{
    Api, ApiError, RequestPermit,
    agent_error::{AgentError, away},
    answer::Answer,
    params, services,
};

/// How many hosts are asked at once.
const HOSTS_AT_ONCE: usize = 32;
/// How long a host may take; its engine measures for half a second.
const HOST_LIMIT: Duration = Duration::from_secs(10);

/// The resource usage of a service.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ServiceUsage {
    /// The service.
    pub service: ServiceName,
    /// All that is known together.
    pub total: Usage,
    /// By replica.
    pub replicas: Vec<ReplicaUse>,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// What a replica uses.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ReplicaUse {
    /// The replica.
    pub replica: ReplicaId,
    /// Its host.
    pub host: NodeName,
    /// What it uses.
    #[serde(flatten)]
    pub usage: Usage,
}

/// A replica whose use is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Missing {
    /// The replica.
    pub replica: ReplicaId,
    /// Its host.
    pub host: NodeName,
    /// Why its usage is not known, as text for people.
    pub reason: String,
}

/// `GET /v1/services/{name}/stats`
pub async fn service(request: HttpRequest, api: web::Data<Api>, client: web::Data<HostClient>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    let name: ServiceName = params::name(&request)?;
    Ok(HttpResponse::Ok().json(measure(&api, &client, name, None).await?))
}

/// `GET /v1/services/{name}/replicas/{id}/stats`
pub async fn replica(request: HttpRequest, api: web::Data<Api>, client: web::Data<HostClient>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    let name: ServiceName = params::name(&request)?;
    let mut usage = measure(&api, &client, name, Some(params::replica(&request)?)).await?;
    match (usage.replicas.pop(), usage.missing.pop()) {
        (Some(usage), _) => Ok(HttpResponse::Ok().json(usage)),
        (None, Some(missing)) => Err(Problem::new(Code::ReplicaUnreachable, missing.reason).into()),
        (None, None) => Err(Problem::new(Code::Internal, "nothing is known of the replica").into()),
    }
}

async fn measure(
    api: &Api,
    client: &HostClient,
    name: ServiceName,
    only: Option<ReplicaId>,
) -> Result<ServiceUsage, ApiError> {
    let view = services::find(api, &name)?;
    let mut by_host: BTreeMap<NodeName, Vec<ReplicaId>> = BTreeMap::new();
    let is_asked_for = |id: &ReplicaId| only.as_ref().is_none_or(|only| only == id);
    for replica in view.replica_states.iter().filter(|replica| is_asked_for(&replica.id)) {
        by_host.entry(replica.node.clone()).or_default().push(replica.id.clone());
    }
    if let Some(id) = only.filter(|_| by_host.is_empty()) {
        return Err(Problem::new(Code::ReplicaNotFound, format!("service {name} has no replica {id}")).into());
    }
    // A host is asked for as many as it answers at once.
    let calls = by_host.into_iter().flat_map(|(host, replicas)| {
        replicas.chunks(MAX_REPLICAS).map(|part| (host.clone(), part.to_vec())).collect::<Vec<_>>()
    });
    let answers: Vec<_> = stream::iter(calls)
        .map(|(host, replicas)| ask(api, client, host, replicas))
        .buffer_unordered(HOSTS_AT_ONCE)
        .collect()
        .await;
    let mut usage =
        ServiceUsage { service: name, total: Usage::default(), replicas: Vec::new(), missing: Vec::new() };
    for (host, replica, known) in answers.into_iter().flatten() {
        match known {
            Ok(known) => {
                usage.total.add(&known);
                usage.replicas.push(ReplicaUse { replica, host, usage: known });
            }
            Err(error) => usage.missing.push(Missing { replica, host, reason: error.to_string() }),
        }
    }
    usage.replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
    usage.missing.sort_by(|a, b| a.replica.cmp(&b.replica));
    Ok(usage)
}

type Known = (NodeName, ReplicaId, Result<Usage, AgentError>);

async fn ask(api: &Api, client: &HostClient, host: NodeName, replicas: Vec<ReplicaId>) -> Vec<Known> {
    let asked = async {
        let shown = api.view.host(&host).ok_or(AgentError::NoMember)?;
        away(shown.view.state).map_or(Ok(()), Err)?;
        let url = format!("{}{USAGE_PATH}", shown.view.host.agent_url);
        let query = UsageQuery { replicas: replicas.clone() };
        let answer = client.post::<_, Usages>(&url, &query, HOST_LIMIT).await;
        answer.map_err(|error| AgentError::Told(error.to_string()))
    };
    match asked.await {
        Ok(answer) => {
            let mut usages: BTreeMap<_, _> =
                answer.usages.into_iter().map(|usage| (usage.replica, (usage.usage, usage.why))).collect();
            let known = |replica: ReplicaId| {
                let known = match usages.remove(&replica) {
                    Some((Some(usage), _)) => Ok(usage),
                    Some((None, Some(why))) => Err(AgentError::Told(why)),
                    Some((None, None)) => Err(AgentError::NoReason),
                    None => Err(AgentError::NothingOfIt),
                };
                (host.clone(), replica, known)
            };
            replicas.into_iter().map(known).collect()
        }
        Err(error) => {
            replicas.into_iter().map(|replica| (host.clone(), replica, Err(error.clone()))).collect()
        }
    }
}
