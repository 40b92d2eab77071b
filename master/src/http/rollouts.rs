//! `/v1/services/{name}/rollout/…`, `/restart`, `/rollback`, `/slots/…`: leading a service from one
//! generation to another, and its slots from one host to another.

use actix_web::{HttpRequest, web};
use shef_common::{
    ids::{Generation, ServiceName, Slot},
    problem::{Code, Problem},
    spec::Fields,
};

use super::{Api, ApiError, RequestPermit, answer::Answer, body, params, services::write};
use crate::service::{Request, RolloutCommand};

/// `POST /v1/services/{name}/rollout/{pause|resume|abort|promote}?wait=`, with `If-Match`
pub async fn command(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    let wait = params::wait(&params::query(&request, &["wait"])?)?;
    let expect = params::expect(&request)?;
    let command = match request.match_info().get("lead") {
        Some("pause") => RolloutCommand::Pause,
        Some("resume") => RolloutCommand::Resume,
        Some("abort") => RolloutCommand::Abort,
        Some("promote") => RolloutCommand::Promote,
        Some(_) | None => {
            let detail = "a rollout takes: pause, resume, abort, promote";
            return Err(Problem::new(Code::NotFound, detail).into());
        }
    };
    read(&request, payload, &api).await?.finish().map_err(ApiError::fields)?;
    let _permit = RequestPermit::take(&api, &request)?;
    write(&api, &request, &name, Request::RolloutCommand { command, expect }, None, wait).await
}

/// `POST /v1/services/{name}/slots/{slot}/release?wait=`, with `If-Match`
pub async fn release(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    let slot = request.match_info().get("slot").unwrap_or_default();
    let slot = slot.parse().map(Slot).map_err(|_| {
        let detail = format!("a slot is a whole number from 0, but is {}", params::shown(slot));
        ApiError::from(Problem::new(Code::InvalidParameter, detail))
    })?;
    let wait = params::wait(&params::query(&request, &["wait"])?)?;
    let expect = params::expect(&request)?;
    read(&request, payload, &api).await?.finish().map_err(ApiError::fields)?;
    let _permit = RequestPermit::take(&api, &request)?;
    write(&api, &request, &name, Request::Release { slot, expect }, None, wait).await
}

/// `POST /v1/services/{name}/restart?wait=`, with `If-Match`
pub async fn restart(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    let wait = params::wait(&params::query(&request, &["wait"])?)?;
    let expect = params::expect(&request)?;
    read(&request, payload, &api).await?.finish().map_err(ApiError::fields)?;
    let _permit = RequestPermit::take(&api, &request)?;
    write(&api, &request, &name, Request::Restart { expect }, None, wait).await
}

/// `POST /v1/services/{name}/rollback?wait=`, with `If-Match`: `{"generation": n}`, or nothing
pub async fn rollback(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    let wait = params::wait(&params::query(&request, &["wait"])?)?;
    let expect = params::expect(&request)?;
    let mut fields = read(&request, payload, &api).await?;
    let _permit = RequestPermit::take(&api, &request)?;
    let generation: Option<Generation> = fields.optional("generation");
    fields.finish().map_err(ApiError::fields)?;
    write(&api, &request, &name, Request::RollBack { generation, expect }, None, wait).await
}

/// No body is an empty one.
async fn read(request: &HttpRequest, payload: web::Payload, api: &Api) -> Result<Fields, ApiError> {
    let bytes = body::read(request, payload, api).await?;
    Ok(Fields::new(if bytes.is_empty() { serde_json::Map::new() } else { body::object(&bytes)? }))
}
