//! `/v1/nodes` and `/v1/stats`.

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::{
    clock::{Now, WallMs},
    ids::NodeName,
    problem::{Code, Problem},
};

use super::{Api, ApiError, Place, body, params};
use crate::{
    membership::Intent,
    runner::{IntentRefused, NodeView, SetIntent},
    view::Host,
};

type Answer = Result<HttpResponse, ApiError>;

fn shown(host: &Host) -> NodeView {
    let mut view = (*host.view).clone();
    view.last_report = Some(host.heard()).filter(|at| *at != WallMs(0));
    view
}

/// `GET /v1/nodes?limit=&after=`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    let (limit, after) = params::page::<NodeName>(&params::query(&request, &["limit", "after"])?)?;
    let nodes: Vec<NodeView> = api.view.hosts(after.as_ref(), limit).iter().map(shown).collect();
    let next = (nodes.len() == limit).then(|| nodes.last().map(|node| node.name.clone())).flatten();
    Ok(HttpResponse::Ok().json(serde_json::json!({ "nodes": nodes, "next": next })))
}

/// `GET /v1/nodes/{name}`
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    let name: NodeName = params::name(&request)?;
    match api.view.host(&name) {
        Some(host) => Ok(HttpResponse::Ok().json(shown(&host))),
        None => Err(no_node(&name)),
    }
}

/// What a drain may be told.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// After how long what still runs there is removed, replaced or not.
    deadline_s: Option<u64>,
}

/// The longest deadline of a drain, in seconds.
const MAX_DEADLINE_S: u64 = 7 * 24 * 3_600;

/// `POST /v1/nodes/{name}/cordon`: it keeps what it runs and takes nothing new.
pub async fn cordon(request: HttpRequest, api: web::Data<Api>) -> Answer {
    set(&request, &api, Intent::Cordoned).await
}

/// `POST /v1/nodes/{name}/activate`: it takes replicas again.
pub async fn activate(request: HttpRequest, api: web::Data<Api>) -> Answer {
    set(&request, &api, Intent::Active).await
}

/// `POST /v1/nodes/{name}/drain {"deadline_s"}`: what it runs is to run elsewhere first, and then to be removed.
pub async fn drain(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let bytes = body::read(&request, payload, api.max_body_bytes).await?;
    let wish = if bytes.is_empty() {
        Drain { deadline_s: None }
    } else {
        serde_json::from_slice(&bytes).map_err(|error| {
            Problem::new(Code::InvalidBody, format!("the body must be {{}} or {{\"deadline_s\": N}}: {error}"))
        })?
    };
    if let Some(seconds) = wish.deadline_s.filter(|seconds| !(1..=MAX_DEADLINE_S).contains(seconds)) {
        let detail = format!("deadline_s must be 1 to {MAX_DEADLINE_S} seconds, but is {seconds}");
        return Err(Problem::new(Code::InvalidBody, detail).into());
    }
    let deadline = wish.deadline_s.map(|seconds| WallMs(Now::read().wall.0 + seconds * 1_000));
    set(&request, &api, Intent::Drained { deadline }).await
}

async fn set(request: &HttpRequest, api: &web::Data<Api>, intent: Intent) -> Answer {
    let _place = Place::take(api)?;
    let node: NodeName = params::name(request)?;
    let asked = api.intent.send(SetIntent { node: node.clone(), intent }).timeout(api.store_timeout).await;
    match asked {
        Ok(Ok(())) => {}
        Ok(Err(IntentRefused::NoSuchHost)) => return Err(no_node(&node)),
        Ok(Err(IntentRefused::Store(why))) => return Err(Problem::new(Code::StoreUnavailable, why).into()),
        Err(error) => {
            let detail = format!("the change may still come about, look before trying again: {error}");
            return Err(Problem::new(Code::StoreUnavailable, detail).into());
        }
    }
    let host = api.view.host(&node).ok_or_else(|| no_node(&node))?;
    Ok(HttpResponse::Ok().json(shown(&host)))
}

fn no_node(name: &NodeName) -> ApiError {
    Problem::new(Code::NodeNotFound, format!("there is no node {name}")).into()
}

/// `GET /v1/stats`
pub async fn stats(api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    let waiting = api.waiting.load(std::sync::atomic::Ordering::SeqCst);
    let body = serde_json::json!({ "counts": api.stats.counts(), "now": api.view.totals(), "waiting_requests": waiting });
    Ok(HttpResponse::Ok().json(body))
}
