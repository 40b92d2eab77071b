//! What a change would do: `POST /v1/services/{name}/plan`, and `?dry_run=true` on `PUT` and `PATCH`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::{
    clock::Now,
    ids::ServiceName,
    problem::{Code, Problem},
};

use super::{
    Api, ApiError, RequestPermit,
    answer::{Answer, tagged},
    body, contents, params, spec,
};
use crate::{
    cluster::CopyService,
    scheduler::{CopyScheduler, SchedulerCore},
    service::{Refused, Request, ServiceCore},
};

/// `POST /v1/services/{name}/plan`, with `If-Match`: what `PUT` of the same body would do
pub async fn plan(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let name: ServiceName = params::name(&request)?;
    params::query(&request, &[])?;
    let expect = params::expect(&request)?;
    let mut fields = body::object(&body::read(&request, payload, &api).await?)?;
    let _permit = RequestPermit::take(&api, &request)?;
    let _uses = contents::resolve(&request, &api, &mut fields).await?;
    let spec = spec::read(fields, Some(&name))?;
    preview(&api, &name, Request::Put { spec, expect }).await
}

/// The most plans that are made at once: each holds copies of a service and of the scheduler, and a
/// processor.
pub const MAX_PLANS: usize = 2;

/// When dropped, says that no client waits for the plan any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Rehearses `asked` on copies of the service and the scheduler, away from the actors' thread.
/// A client that goes away drops this, which ends the dry run.
pub(super) async fn preview(api: &Api, name: &ServiceName, asked: Request) -> Answer {
    let permit = api.plans.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{MAX_PLANS} plans are being made, which is the bound; ask again in a moment");
        ApiError(Problem::new(Code::Overloaded, detail))
    })?;
    let (service, scheduler) =
        copies(api, name, &asked).await.map_err(|refused| ApiError::refused(name, &refused))?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let waits = CancelOnDrop(cancelled.clone());
    let preview = web::block(move || {
        // It counts until the thread is done, even if the client has gone.
        let _permit = permit;
        service.dry_run(*scheduler, &asked, Now::read(), &|| cancelled.load(Relaxed))
    })
    .await;
    drop(waits);
    let stopped = |_| ApiError(Problem::new(Code::Internal, "the rehearsal did not come to its end"));
    let preview = preview.map_err(stopped)?.map_err(|refused| ApiError::refused(name, &refused))?;
    let mut answer = match preview.version {
        Some(version) => tagged(HttpResponse::Ok(), version),
        None => HttpResponse::Ok(),
    };
    Ok(answer.json(preview))
}

async fn copies(
    api: &Api,
    name: &ServiceName,
    asked: &Request,
) -> Result<(Box<ServiceCore>, Box<SchedulerCore>), Refused> {
    let or_new = matches!(asked, Request::Put { .. });
    let late = |closed: actix::MailboxError| match closed {
        actix::MailboxError::Timeout => Refused::Store(format!(
            "the store has not confirmed what is under way within {} ms",
            api.store_timeout.as_millis()
        )),
        actix::MailboxError::Closed => Refused::Store(closed.to_string()),
    };
    let service = api
        .copy
        .send(CopyService { name: name.clone(), or_new })
        .timeout(api.store_timeout)
        .await
        .map_err(late)??;
    let scheduler = api.copy_scheduler.send(CopyScheduler).timeout(api.store_timeout).await.map_err(late)?;
    Ok((service, scheduler))
}
