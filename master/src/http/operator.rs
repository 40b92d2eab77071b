//! `/v1/cluster`: the cluster as a whole, and what an operator does with it.

use std::sync::atomic::Ordering::SeqCst;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use shef_common::problem::{Code, Problem};

use super::{Api, ApiError, Place, params};
use crate::membership::ReleaseBrake;

type Answer = Result<HttpResponse, ApiError>;

/// `GET /v1/cluster`
pub async fn cluster(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(shown(&api)))
}

/// `POST /v1/cluster/resume`: replacement goes on though many hosts are down.
pub async fn resume(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    params::query(&request, &[])?;
    match api.release_brake.send(ReleaseBrake).timeout(api.store_timeout).await {
        Ok(was_on) => {
            let mut body = shown(&api);
            body["resumed"] = json!(was_on);
            Ok(HttpResponse::Ok().json(body))
        }
        Err(error) => Err(Problem::new(Code::Overloaded, format!("the master does not come to it: {error}")).into()),
    }
}

fn shown(api: &Api) -> serde_json::Value {
    let state = api.view.cluster();
    let (cluster, fence) = state.leads.unzip();
    let brake = match state.brake {
        Some(brake) => json!({ "on": true, "since": brake.since, "down": brake.down, "releases_at": brake.releases_at }),
        None => json!({ "on": false }),
    };
    json!({
        "cluster": cluster,
        "epoch": fence.as_ref().map(|fence| fence.epoch),
        "leader": fence.as_ref().map(|fence| &fence.leader),
        "report_interval_ms": state.report_interval,
        "brake": brake,
        "nodes": api.view.standings(),
        "waiting_requests": api.waiting.load(SeqCst),
    })
}
