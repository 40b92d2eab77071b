//! `/v1/ca`: the cluster's CA, and its rotation.

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::problem::{Code, Problem};

use super::{Api, ApiError, RequestPermit, answer::Answer, operator, params};
use crate::{
    cluster::PhaseView,
    rotation::{AskCa, CaView, RotationRefused},
    store::CommitError,
};

/// `GET /v1/ca`
pub async fn show(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Ok().json(ask(&api, AskCa::Show).await?))
}

/// `POST /v1/ca/rotate`, with `{"compromised": true}` after a theft of the CA's key
pub async fn rotate(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    params::query(&request, &[])?;
    let mut fields = operator::fields(&request, payload, &api).await?;
    let _permit = RequestPermit::take(&api, &request)?;
    let compromised = fields.optional("compromised").unwrap_or(false);
    fields.finish().map_err(ApiError::fields)?;
    Ok(HttpResponse::Accepted().json(change(&api, AskCa::Rotate { compromised }).await?))
}

/// `POST /v1/ca/continue`
pub async fn go_on(request: HttpRequest, api: web::Data<Api>) -> Answer {
    let _permit = RequestPermit::take(&api, &request)?;
    params::query(&request, &[])?;
    Ok(HttpResponse::Accepted().json(change(&api, AskCa::Continue).await?))
}

async fn change(api: &Api, asked: AskCa) -> Result<CaView, ApiError> {
    if matches!(api.view.cluster().phase, PhaseView::Deposed(_)) {
        let detail = "another master leads the cluster, and rotates its CA; ask that one";
        return Err(Problem::new(Code::NotLeader, detail).into());
    }
    ask(api, asked).await
}

async fn ask(api: &Api, asked: AskCa) -> Result<CaView, ApiError> {
    let Some(rotation) = &api.rotation else {
        let detail = "this cluster has no CA: the master's tls is off";
        return Err(Problem::new(Code::NotFound, detail).into());
    };
    let refused = match rotation.send(asked).timeout(api.store_timeout).await {
        Ok(Ok(view)) => return Ok(view),
        Ok(Err(refused)) => refused,
        Err(error) => {
            let detail =
                format!("the store has not confirmed ({error}): GET /v1/ca shows whether it was done");
            return Err(Problem::new(Code::StoreUnavailable, detail).into());
        }
    };
    let code = match &refused {
        RotationRefused::UnderWay | RotationRefused::NotUnderWay => Code::RotationConflict,
        RotationRefused::Busy | RotationRefused::NotCopied => Code::Overloaded,
        RotationRefused::Store(CommitError::Fenced) => Code::NotLeader,
        RotationRefused::Store(_) | RotationRefused::Stopping => Code::StoreUnavailable,
        RotationRefused::NoKey(_) => Code::SecretKeyUnavailable,
        RotationRefused::Ca(_) => Code::Internal,
    };
    Err(Problem::new(code, refused.to_string()).into())
}
