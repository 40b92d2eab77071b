//! `GET /v1/backup`: everything that the store keeps, as a stream of lines.

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use shef_common::{
    clock::Now,
    problem::{Code, Problem},
};

use super::{Api, ApiError, RequestPermit, params};
use crate::store::TakeBackup;

/// `GET /v1/backup`: what was durable at one moment, from memory. A slow reader delays no other
/// request; its permit is given back at the end.
pub async fn get(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    let taken = api.backup.send(TakeBackup).timeout(api.store_timeout).await;
    let backup = taken.map_err(|error| Problem::new(Code::StoreUnavailable, error.to_string()))?;
    let Some(backup) = backup else {
        let detail = "another master leads the cluster, and knows what is stored; ask that one";
        return Err(Problem::new(Code::NotLeader, detail).into());
    };
    let pieces = backup.into_pieces(Now::read().wall).map(move |piece| {
        let _held = &permit;
        piece.inspect_err(|error| log::error!(error:%; "a backup was broken off"))
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(stream::iter(pieces)))
}
