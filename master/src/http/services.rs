//! `/v1/services`: the API to build on.

use std::{convert::Infallible, sync::Arc};

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, http::header, web};
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use shef_common::{
    ids::{Generation, ReplicaId, ServiceName, Version},
    problem::{Code, Problem},
};

use super::{
    Api, ApiError, RequestPermit, access,
    answer::{Answer, tagged},
    audit, body,
    contents::{self, ContentsHeld},
    listing::{self, PageParts, ServiceParts},
    params, plan, spec,
};
use crate::service::{Applied, Request, ServiceState, ServiceView};

/// The answer to a change.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Written<'a> {
    /// The service.
    name: &'a ServiceName,
    /// The generation that its replicas are to run now.
    generation: Generation,
    /// The service's version after the change.
    version: Version,
    /// Whether the service was so already, so that nothing was changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unchanged: bool,
    /// Whether everything is as wanted; absent if the call did not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    converged: Option<bool>,
    /// What was still missing when the wait ended, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// `GET /v1/services?limit=&after=&replicas=`
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let query = params::query(&request, &["limit", "after", "replicas"])?;
    let (limit, after) = params::page::<ServiceName>(&query)?;
    api.knows_all()?;
    let parts = PageParts::new(api.view.clone(), after, limit, params::flag(&query, "replicas")?);
    Ok(json_stream(HttpResponse::Ok(), listing::body(parts)))
}

/// `GET /v1/services/{name}`
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let name: ServiceName = params::name(&request)?;
    let view = find(&api, &name)?;
    Ok(show(&api, HttpResponse::Ok(), view))
}

/// `GET /v1/services/{name}/replicas?limit=&after=`
pub async fn replicas(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let name: ServiceName = params::name(&request)?;
    let (limit, after) = params::page::<ReplicaId>(&params::query(&request, &["limit", "after"])?)?;
    let view = find(&api, &name)?;
    Ok(HttpResponse::Ok().json(listing::replica_page(&api.view, &view, after.as_ref(), limit)))
}

/// `POST /v1/services?wait=`
pub async fn create(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let query = params::query(&request, &["wait"])?;
    let wait = params::wait(&query)?;
    let mut fields = body::object(&body::read(&request, payload, &api).await?)?;
    let _permit = RequestPermit::take(&api, &request)?;
    let uses = contents::resolve(&request, &api, &mut fields).await?;
    let spec = spec::read(fields, None)?;
    let name = spec.name.clone();
    write(&api, &request, &name, Request::Create { spec }, uses, wait).await
}

/// `PUT /v1/services/{name}?wait=&dry_run=`, with `If-Match`
pub async fn put(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    let query = params::query(&request, &["wait", "dry_run"])?;
    let (wait, dry_run) = (params::wait(&query)?, params::dry_run(&query)?);
    let expect = params::expect(&request)?;
    let mut fields = body::object(&body::read(&request, payload, &api).await?)?;
    let _permit = RequestPermit::take(&api, &request)?;
    let uses = contents::resolve(&request, &api, &mut fields).await?;
    let spec = spec::read(fields, Some(&name))?;
    let asked = Request::Put { spec, expect };
    if dry_run {
        audit::only_asks(&request);
        plan::preview(&api, &name, asked).await
    } else {
        write(&api, &request, &name, asked, uses, wait).await
    }
}

/// `PATCH /v1/services/{name}?wait=&dry_run=`, with `If-Match`: a merge patch of the spec
pub async fn patch(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    let query = params::query(&request, &["wait", "dry_run"])?;
    let (wait, dry_run) = (params::wait(&query)?, params::dry_run(&query)?);
    let expect = params::expect(&request)?;
    let mut fields = body::object(&body::read(&request, payload, &api).await?)?;
    let _permit = RequestPermit::take(&api, &request)?;
    let uses = contents::resolve(&request, &api, &mut fields).await?;
    let change = spec::read_change(fields)?;
    let asked = Request::Change { change, expect };
    if dry_run {
        audit::only_asks(&request);
        plan::preview(&api, &name, asked).await
    } else {
        write(&api, &request, &name, asked, uses, wait).await
    }
}

/// `POST /v1/services/{name}/rebalance`
pub async fn rebalance(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    params::query(&request, &[])?;
    let bytes = body::read(&request, payload, &api).await?;
    let _permit = RequestPermit::take(&api, &request)?;
    let fields = if bytes.is_empty() { serde_json::Map::new() } else { body::object(&bytes)? };
    let per_minute = spec::read_rebalance(fields)?;
    access::ask(&api, &request, &name, Request::Rebalance { per_minute }).await?;
    let view = find(&api, &name)?;
    Ok(show(&api, HttpResponse::Accepted(), view))
}

/// `DELETE /v1/services/{name}?wait=`, with `If-Match`
pub async fn delete(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    let name: ServiceName = params::name(&request)?;
    let wait = params::wait(&params::query(&request, &["wait"])?)?;
    let expect = params::expect(&request)?;
    let accepted = access::ask(&api, &request, &name, Request::Delete { expect }).await?;
    let mut missing = Vec::new();
    if let Some(wait) = wait {
        audit::changed_and_waits(&request).await;
        let gone = api.view.wait_for(&name, |view| {
            missing.clone_from(&view.missing);
            (view.state != ServiceState::Deleting).then_some(())
        });
        if tokio::time::timeout(wait, gone).await.is_ok() {
            missing.clear();
        }
    }
    let converged = wait.map(|_| missing.is_empty());
    let status = if converged == Some(true) { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer(
        status,
        &Written {
            name: &name,
            generation: accepted.generation,
            version: accepted.version,
            unchanged: accepted.applied == Applied::Unchanged,
            converged,
            missing,
        },
    ))
}

pub(super) fn find(api: &Api, name: &ServiceName) -> Result<Arc<ServiceView>, ApiError> {
    match api.view.service(name) {
        Some(view) => Ok(view),
        None => missing(api, name),
    }
}

/// The error that there is no such service, or that this is not known yet.
pub(super) fn missing<T>(api: &Api, name: &ServiceName) -> Result<T, ApiError> {
    api.knows_all()?;
    Err(Problem::new(Code::ServiceNotFound, format!("there is no service {name}")).into())
}

/// A service with its replicas and its `ETag`.
fn show(api: &Api, answer: HttpResponseBuilder, view: Arc<ServiceView>) -> HttpResponse {
    let answer = tagged(answer, view.version);
    json_stream(answer, listing::body(ServiceParts::new(api.view.clone(), view)))
}

fn json_stream(
    mut answer: HttpResponseBuilder,
    body: impl Stream<Item = Result<Bytes, Infallible>> + 'static,
) -> HttpResponse {
    answer.content_type("application/json").streaming(body)
}

pub(super) async fn write(
    api: &Api,
    by: &HttpRequest,
    name: &ServiceName,
    request: Request,
    uses: ContentsHeld<'_>,
    wait: Option<std::time::Duration>,
) -> Answer {
    let accepted = access::ask(api, by, name, request).await?;
    drop(uses);
    let mut missing = Vec::new();
    let mut converged = None;
    if let Some(wait) = wait {
        audit::changed_and_waits(by).await;
        let settled = api.view.wait_for(name, |view| {
            missing.clone_from(&view.missing);
            if view.version < accepted.version {
                return None;
            }
            // It may be tried again, but waiting callers are told now.
            if let Some(why) = view.trial_failed.as_ref().filter(|_| view.generation == accepted.generation) {
                missing.insert(0, format!("the trial has failed: {why}"));
                return Some(false);
            }
            if let (n @ 1.., None) = (view.ended_for_good, &view.rollout) {
                let wanted = view.wanted;
                missing.insert(0, format!("{n} of {wanted} ended with an error and are not started again"));
                return Some(false);
            }
            if view.state != ServiceState::Running {
                return None;
            }
            if view.on_trial > 0 {
                let (on_trial, wanted, ms) = (view.on_trial, view.wanted, view.spec.update.monitor_ms);
                missing.push(format!(
                    "{on_trial} of {wanted} are on their trial: they have to be healthy for {ms} ms"
                ));
                return None;
            }
            // It may run what it ran before: then it was rolled back, or another change came since.
            let as_asked = view.generation == accepted.generation;
            if !as_asked {
                missing.push(instead(view, accepted.generation));
            }
            Some(as_asked)
        });
        converged = Some(matches!(tokio::time::timeout(wait, settled).await, Ok(Some(true))));
    }
    let created = accepted.applied == Applied::Created;
    let status = match (created, converged) {
        (true, _) => HttpResponse::Created(),
        (false, Some(false)) => HttpResponse::Accepted(),
        (false, _) => HttpResponse::Ok(),
    };
    let mut status = tagged(status, accepted.version);
    if created {
        status.insert_header((header::LOCATION, format!("/v1/services/{name}")));
    }
    Ok(answer(
        status,
        &Written {
            name,
            generation: accepted.generation,
            version: accepted.version,
            unchanged: accepted.applied == Applied::Unchanged,
            converged,
            missing,
        },
    ))
}

/// The fate of a generation that is not in place.
fn instead(view: &ServiceView, asked: Generation) -> String {
    let ended = view.last_rollout.as_ref().filter(|ended| ended.generation == asked);
    match ended.and_then(|ended| ended.rolled_back.as_ref()) {
        Some(why) => format!("generation {asked} was rolled back to {}: {why}", view.generation),
        None => format!("generation {} runs instead of {asked}", view.generation),
    }
}

fn answer(mut status: HttpResponseBuilder, written: &Written<'_>) -> HttpResponse {
    status.json(written)
}
