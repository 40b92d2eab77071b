//! `/v1/cluster`: what is true of the cluster as a whole.

use actix_web::{HttpResponse, web};
use shef_common::problem::{Code, Problem};

use super::{Api, ApiError, Place};
use crate::cluster::ResumeReplacement;

/// `GET /v1/cluster`
pub async fn get(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let _place = Place::take(&api)?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "now": api.view.totals(), "brake": api.view.brake() })))
}

/// `POST /v1/cluster/resume`: replacement goes on although too many hosts went down together.
pub async fn resume(api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let _place = Place::take(&api)?;
    match api.membership.send(ResumeReplacement).timeout(api.store_timeout).await {
        Ok(()) => Ok(HttpResponse::Accepted().json(serde_json::json!({ "brake": api.view.brake() }))),
        Err(error) => Err(Problem::new(Code::Overloaded, format!("the master does not come to it: {error}")).into()),
    }
}
