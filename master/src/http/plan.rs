//! What a change would do: `POST /v1/services/{name}/plan`, and `?dry_run=true` on `PUT` and `PATCH`.

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::{
    clock::Now,
    ids::ServiceName,
    problem::{Code, Problem},
};

use super::{
    Api, ApiError, Place, body, params,
    services::{Answer, tagged},
    spec,
};
use crate::{
    cluster::CopyService,
    scheduler::{CopyScheduler, SchedulerCore},
    service::{Refused, Request, ServiceCore},
};

/// `POST /v1/services/{name}/plan`, with `If-Match`: what `PUT` of the same body would do
pub async fn plan(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let _place = Place::take(&api)?;
    let name: ServiceName = params::name(&request)?;
    params::query(&request, &[])?;
    let expect = params::expect(&request)?;
    let spec = spec::read(body::object(&body::read(&request, payload, api.max_body_bytes).await?)?, Some(&name))?;
    preview(&api, &name, Request::Put { spec, expect }).await
}

/// Rehearses `asked` on copies of the service and the scheduler, away from the actors' thread.
pub(super) async fn preview(api: &Api, name: &ServiceName, asked: Request) -> Answer {
    let (service, scheduler) = copies(api, name, &asked).await.map_err(|refused| ApiError::refused(name, &refused))?;
    let rehearsed = web::block(move || service.rehearse(*scheduler, &asked, Now::read())).await;
    let stopped = |_| ApiError(Problem::new(Code::Internal, "the rehearsal did not come to its end"));
    let preview = rehearsed.map_err(stopped)?.map_err(|refused| ApiError::refused(name, &refused))?;
    let mut answer = match preview.version {
        Some(version) => tagged(HttpResponse::Ok(), version),
        None => HttpResponse::Ok(),
    };
    Ok(answer.json(preview))
}

async fn copies(api: &Api, name: &ServiceName, asked: &Request) -> Result<(Box<ServiceCore>, Box<SchedulerCore>), Refused> {
    let or_new = matches!(asked, Request::Put { .. });
    let late = |closed: actix::MailboxError| match closed {
        actix::MailboxError::Timeout => {
            Refused::Store(format!("the store has not confirmed what is under way within {} ms", api.store_timeout.as_millis()))
        }
        actix::MailboxError::Closed => Refused::Store(closed.to_string()),
    };
    let service = api.copy.send(CopyService { name: name.clone(), or_new }).timeout(api.store_timeout).await.map_err(late)??;
    let scheduler = api.copy_scheduler.send(CopyScheduler).timeout(api.store_timeout).await.map_err(late)?;
    Ok((service, scheduler))
}
