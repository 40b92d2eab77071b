//! `POST /v1/usage`: what replicas use.

use actix_web::{HttpResponse, web};
use shef_common::{
    problem::Code,
    usage::{MAX_REPLICAS, UsageQuery, Usages},
};

use super::assignments::problem;
use crate::console::Meter;

/// 200 `Usages`; 400 for too many replicas.
pub async fn post(body: web::Json<UsageQuery>, meter: web::Data<Meter>) -> HttpResponse {
    let replicas = body.into_inner().replicas;
    if replicas.len() > MAX_REPLICAS {
        return problem(
            Code::InvalidBody,
            format!("replicas must be at most {MAX_REPLICAS}, but are {}", replicas.len()),
        );
    }
    HttpResponse::Ok().json(Usages { usages: meter.measure(replicas).await })
}
