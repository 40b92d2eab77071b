//! `/v1/nodes` and `/v1/stats`.

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::{
    clock::WallMs,
    ids::NodeName,
    problem::{Code, Problem},
};

use super::{Api, ApiError, RequestPermit, answer::Answer, params};
use crate::{runner::NodeView, view::Host};

/// A host as it is shown, heartbeat included.
pub fn shown(host: &Host) -> NodeView {
    let mut view = (*host.view).clone();
    view.last_report = Some(host.last_report()).filter(|at| *at != WallMs(0));
    view
}

/// There is no such host.
pub fn not_found(name: &NodeName) -> ApiError {
    Problem::new(Code::NodeNotFound, format!("there is no node {name}")).into()
}

/// `GET /v1/nodes?limit=&after=`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let (limit, after) = params::page::<NodeName>(&params::query(&request, &["limit", "after"])?)?;
    api.knows_all()?;
    let nodes: Vec<NodeView> = api.view.hosts(after.as_ref(), limit).iter().map(shown).collect();
    let next = (nodes.len() == limit).then(|| nodes.last().map(|node| node.name.clone())).flatten();
    Ok(HttpResponse::Ok().json(serde_json::json!({ "nodes": nodes, "next": next })))
}

/// `GET /v1/nodes/{name}`
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let name: NodeName = params::name(&request)?;
    match api.view.host(&name) {
        Some(host) => Ok(HttpResponse::Ok().json(shown(&host))),
        None => {
            api.knows_all()?;
            Err(not_found(&name))
        }
    }
}

/// `GET /v1/stats`
pub async fn stats(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let waiting = api.requests.taken();
    let body = serde_json::json!({ "counts": api.stats.counts(), "now": api.view.totals(),
        "waiting_requests": waiting });
    Ok(HttpResponse::Ok().json(body))
}
