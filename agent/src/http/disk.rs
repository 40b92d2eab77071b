//! `POST /v1/disk`: the disk space of images, and its release.

use std::rc::Rc;

use actix_web::{HttpResponse, web};
use shef_common::{disk::DiskQuery, problem::Code};

use super::assignments::problem;
use crate::images::Cleaner;

/// 200 `DiskUsage`; 503 when master or engine do not answer.
pub async fn post(body: web::Json<DiskQuery>, cleaner: web::Data<Rc<Cleaner>>) -> HttpResponse {
    match cleaner.usage(body.prune).await {
        Ok(usage) => HttpResponse::Ok().json(usage),
        Err(error) => problem(Code::Overloaded, error.to_string()),
    }
}
