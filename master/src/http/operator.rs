//! What operators do with hosts and with the cluster as a whole.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use shef_common::{
    clock::DurationMs,
    ids::NodeName,
    problem::{Code, Problem},
    spec::Fields,
    tls::TlsMode,
};

use super::{Api, ApiError, RequestPermit, answer::Answer, body, nodes, params};
use crate::{
    access::{RevokeIdentity, RevokeRefused},
    cluster::{ClusterEvent, PhaseView, ToCluster},
    membership::ReleaseBrake,
    runner::{NodeIntent, Operate, OperateRefused, Operation},
    store::CommitError,
};

/// The longest deadline of a drain, in seconds.
const MAX_DEADLINE_S: u64 = 86_400;

/// `POST /v1/nodes/{name}/cordon`
pub async fn cordon(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name = named(&request)?;
    fields(&request, payload, &api).await?.finish()?;
    let _permit = RequestPermit::take(&api, &request)?;
    intend(&api, name, NodeIntent::Cordon).await
}

/// `POST /v1/nodes/{name}/activate`
pub async fn activate(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name = named(&request)?;
    fields(&request, payload, &api).await?.finish()?;
    let _permit = RequestPermit::take(&api, &request)?;
    intend(&api, name, NodeIntent::Activate).await
}

/// `POST /v1/nodes/{name}/drain`, with `{"deadline_s": 600}` or without a body.
pub async fn drain(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name = named(&request)?;
    let mut fields = fields(&request, payload, &api).await?;
    let _permit = RequestPermit::take(&api, &request)?;
    let deadline: Option<u64> = fields.optional("deadline_s");
    if deadline.is_some_and(|seconds| !(1..=MAX_DEADLINE_S).contains(&seconds)) {
        fields.wrong("deadline_s", format!("must be a number of seconds from 1 to {MAX_DEADLINE_S}"));
    }
    fields.finish()?;
    intend(&api, name, NodeIntent::Drain { within: deadline.map(|seconds| DurationMs(seconds * 1_000)) })
        .await
}

/// `DELETE /v1/nodes/{name}?force=`
pub async fn forget(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let name: NodeName = params::name(&request)?;
    let force = match params::query(&request, &["force"])?.get("force").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let detail = format!("force must be true or false, but is {}", params::shown(other));
            return Err(Problem::new(Code::InvalidParameter, detail).into());
        }
    };
    // One that has joined and never registered has an identity all the same.
    let unseen = match api.view.host(&name) {
        Some(_) => Vec::new(),
        None => api.view.identities().named(&name),
    };
    if unseen.is_empty() {
        operate(&api, &name, Operation::Forget { force }).await?;
    }
    for uid in unseen {
        let sent = api.revoke.send(RevokeIdentity(uid)).timeout(api.store_timeout).await;
        let (code, why) = match sent {
            Ok(Ok(())) => continue,
            Ok(Err(RevokeRefused::Store(CommitError::Fenced))) => {
                (Code::NotLeader, CommitError::Fenced.to_string())
            }
            Ok(Err(why)) => (Code::StoreUnavailable, why.to_string()),
            Err(error) => (Code::StoreUnavailable, format!("the store has not confirmed ({error})")),
        };
        let detail = format!(
            "host {name} counts no more at this master, but that is not durable: {why}; forget it once more"
        );
        return Err(Problem::new(code, detail).into());
    }
    Ok(HttpResponse::Ok().json(json!({ "forgotten": name })))
}

fn named(request: &HttpRequest) -> Result<NodeName, ApiError> {
    params::query(request, &[])?;
    params::name(request)
}

/// The fields of the body; none at all is as good as an empty object.
pub(super) async fn fields(
    request: &HttpRequest,
    payload: web::Payload,
    api: &Api,
) -> Result<Fields, ApiError> {
    let bytes = body::read(request, payload, api).await?;
    Ok(Fields::new(if bytes.is_empty() { serde_json::Map::new() } else { body::object(&bytes)? }))
}

async fn intend(api: &Api, name: NodeName, asked: NodeIntent) -> Answer {
    operate(api, &name, Operation::Intend(asked)).await?;
    match api.view.host(&name) {
        Some(host) => Ok(HttpResponse::Ok().json(nodes::shown(&host))),
        None => Err(nodes::not_found(&name)),
    }
}

async fn operate(api: &Api, name: &NodeName, operation: Operation) -> Result<(), ApiError> {
    let answer = api.operate.send(Operate { node: name.clone(), operation }).timeout(api.store_timeout).await;
    let refused = match answer {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(refused)) => refused,
        Err(error) => {
            OperateRefused::Store(format!("the store has not confirmed ({error}); look before trying again"))
        }
    };
    Err(match refused {
        OperateRefused::NotFound => nodes::not_found(name),
        OperateRefused::NotNow(why) => Problem::new(Code::NodePresent, why).into(),
        OperateRefused::Store(why) => Problem::new(Code::StoreUnavailable, why).into(),
        OperateRefused::Busy => {
            Problem::new(Code::Overloaded, format!("too many requests wait for host {name}")).into()
        }
    })
}

/// `GET /v1/cluster`
pub async fn cluster(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(shown(&api)))
}

/// `POST /v1/cluster/resume`: replacement goes on though many hosts are down.
pub async fn resume(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    match api.release_brake.send(ReleaseBrake).timeout(api.store_timeout).await {
        Ok(was_on) => {
            let mut body = shown(&api);
            body["resumed"] = json!(was_on);
            Ok(HttpResponse::Ok().json(body))
        }
        Err(error) => {
            Err(Problem::new(Code::Overloaded, format!("the master does not come to it: {error}")).into())
        }
    }
}

/// `POST /v1/cluster/take-over`: this master leads, whichever master led before.
pub async fn take_over(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    let mut body = shown(&api);
    body["took_over"] = json!(matches!(api.view.cluster().phase, PhaseView::Deposed(_)));
    match api.cluster.send(ToCluster(ClusterEvent::TakeOver)).timeout(api.store_timeout).await {
        Ok(()) => Ok(HttpResponse::Accepted().json(body)),
        Err(error) => {
            Err(Problem::new(Code::Overloaded, format!("the master does not come to it: {error}")).into())
        }
    }
}

fn shown(api: &Api) -> serde_json::Value {
    let state = api.view.cluster();
    let (cluster, fence) = state.leads.unzip();
    let hosts = api.view.hosts(None, usize::MAX);
    let plain: Vec<_> =
        hosts.iter().map(|host| &host.view).filter(|host| !host.tls).map(|host| &host.name).collect();
    let brake = match state.brake {
        Some(brake) => {
            json!({ "on": true, "since": brake.since, "down": brake.down, "releases_at": brake.releases_at })
        }
        None => json!({ "on": false }),
    };
    json!({
        "cluster": cluster,
        "epoch": fence.as_ref().map(|fence| fence.epoch),
        "leader": fence.as_ref().map(|fence| &fence.leader),
        "report_interval_ms": state.report_interval,
        "brake": brake,
        "nodes": api.view.standings(),
        "waiting_requests": api.requests.taken(),
        "ca": api.authority.as_ref().map(|authority| authority.digest()),
        "insecure": api.insecure,
        "tls": api.authority.as_ref().map_or(TlsMode::Off, |authority| authority.mode),
        "plain_nodes": plain,
        "audit": api.audit.as_ref().map(|log| log.health()),
    })
}
