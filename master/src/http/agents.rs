//! The agents' calls. They are served before anything users ask.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::{
    clock::Now,
    contents::{ContentAnswer, ContentId, ContentQuery},
    ids::NodeName,
    image::ImageRef,
    problem::{Code, Problem},
    protocol::{ImagesNeeded, ImagesQuery, Registration, Report, ReportAck},
    tls::{CaDigest, Peer, PeerKey, PeerProof},
};

use super::{Api, ApiError, answer::Answer, audit, body, join};
use crate::{
    access::ReadmitRequest,
    cluster::PhaseView,
    identity::{NotASpeaker, RegistrationCounts, ReportCounts, Speaker, speaker},
    runner::{Register, RegisterRefused, TakeReport},
    service::{ReplicaView, ServiceView},
};

/// The most bytes of an agent's body: a full report of 10,000 replicas fits, and a host with more assignments
/// than it is given today.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How long the master's own actors may take to answer an agent.
const LIMIT: Duration = Duration::from_secs(10);

/// The calling member; `None`: the cluster's members have no identities.
///
/// # Errors
/// 403 or 400: the caller may not make this call.
fn speaks(request: &HttpRequest, api: &Api) -> Result<Option<Speaker>, ApiError> {
    let Some(authority) = &api.authority else { return Ok(None) };
    let peer = request.conn_data::<Peer>().unwrap_or(&Peer::Plain);
    let key = request.conn_data::<PeerKey>();
    let proof = request.conn_data::<PeerProof>().zip(api.tls.as_ref());
    if proof.is_some_and(|(proof, tls)| !tls.still_takes(proof, Now::read().mono)) {
        return Err(NotASpeaker::FormerCa.into());
    }
    Ok(Some(speaker(authority.mode, &authority.cluster, peer, key, &api.view.identities())?))
}

impl From<NotASpeaker> for ApiError {
    fn from(refused: NotASpeaker) -> Self {
        let code = match &refused {
            NotASpeaker::Plain | NotASpeaker::SecretInClear => Code::TlsRequired,
            NotASpeaker::Anonymous
            | NotASpeaker::NoHost(_)
            | NotASpeaker::FormerCa
            | NotASpeaker::OtherHost { .. }
            | NotASpeaker::NotItsOwn { .. }
            | NotASpeaker::NotRecorded(_)
            | NotASpeaker::HasIdentity(_) => Code::NotAMember,
        };
        Problem::new(code, refused.to_string()).into()
    }
}

fn overloaded(error: &actix::MailboxError) -> ApiError {
    Problem::new(Code::Overloaded, format!("the master does not come to it: {error}")).into()
}

/// `POST /agent/v1/register`
pub async fn register(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let speaks = speaks(&request, &api)?;
    let registration: Registration = body::of_agent(&request, payload, &api, MAX_BYTES).await?;
    audit::about(&request, "node", &registration.node);
    if let Some(speaker) = speaks {
        match speaker.may_register(&registration, &api.view.identities())? {
            RegistrationCounts::Now => {}
            RegistrationCounts::AfterReadmission { uid, key } => {
                if readmit(&api, ReadmitRequest { uid, node: registration.node.clone(), key }).await? {
                    audit::changed(&request);
                }
            }
        }
    }
    match api
        .register
        .send(Register(registration))
        .timeout(LIMIT)
        .await
        .map_err(|error| overloaded(&error))?
    {
        Ok(registered) => Ok(HttpResponse::Ok().json(registered)),
        Err(RegisterRefused::Conflict(why)) => Err(Problem::new(Code::NodeConflict, why).into()),
        Err(RegisterRefused::Later(why)) => Err(Problem::new(Code::StoreUnavailable, why).into()),
    }
}

/// Records a host that the store does not know; whether it has. While another master leads, that one answers.
async fn readmit(api: &Api, request: ReadmitRequest) -> Result<bool, ApiError> {
    if matches!(api.view.cluster().phase, PhaseView::Deposed(_)) {
        return Ok(false);
    }
    let asked = api.readmit.send(request).timeout(LIMIT).await;
    asked.map_err(|error| join::unanswered(&error))?.map_err(|why| join::refused(&why))?;
    Ok(true)
}

/// The answer to a report of a host whose name is not recorded.
fn register_first(api: &Api) -> Answer {
    let Some((_, fence)) = api.view.cluster().leads else {
        return Err(Problem::new(Code::Recovering, "the master has just started; report again").into());
    };
    Ok(HttpResponse::Ok().json(ReportAck {
        fence,
        want_full: false,
        want_registration: true,
        report_interval_ms: None,
        push: None,
        denied: api.view.identities().revoked(),
        cas: cas(api),
    }))
}

/// The CAs that hosts are to trust; none while another master leads, which knows better.
fn cas(api: &Api) -> Vec<CaDigest> {
    match &api.authority {
        Some(authority) if !matches!(api.view.cluster().phase, PhaseView::Deposed(_)) => {
            authority.issuing().cas.clone()
        }
        Some(_) | None => Vec::new(),
    }
}

/// `POST /agent/v1/report`
pub async fn report(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let speaks = speaks(&request, &api)?;
    let report: Report = body::of_agent(&request, payload, &api, MAX_BYTES).await?;
    let mut is_member = false;
    if let Some(speaker) = speaks {
        audit::about(&request, "node", &report.node);
        match speaker.may_report(&report, &api.view.identities())? {
            ReportCounts::Now => {}
            ReportCounts::AfterRegistration => return register_first(&api),
        }
        if let (Speaker::Member { uid, .. }, Some(authority)) = (&speaker, &api.authority) {
            authority.note(uid, report.cas.clone());
            is_member = true;
        }
    }
    match api.report.send(TakeReport(report)).timeout(LIMIT).await.map_err(|error| overloaded(&error))? {
        Some(mut ack) => {
            ack.denied = api.view.identities().revoked();
            if is_member {
                ack.cas = cas(&api);
            }
            Ok(HttpResponse::Ok().json(ack))
        }
        None => Err(Problem::new(Code::Internal, "the host's runner gave no answer").into()),
    }
}

/// `POST /agent/v1/images`: refused until the services are known, so that none is forgotten.
pub async fn images(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    speaks(&request, &api)?;
    let asked: ImagesQuery = body::of_agent(&request, payload, &api, MAX_BYTES).await?;
    if !api.store.borrow().available || !matches!(api.view.cluster().phase, PhaseView::Leading) {
        return Err(Problem::new(Code::StoreUnavailable, "the services are not known now".to_owned()).into());
    }
    let mut needed = BTreeSet::new();
    let mut after = None;
    loop {
        let page = api.view.services(after.as_ref(), PAGE);
        needed.extend(page.iter().flat_map(|service| service.kept_images.iter().cloned()));
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.spec.name.clone()),
            Some(_) | None => break,
        }
    }
    let needed: Vec<ImageRef> = asked.images.into_iter().filter(|image| needed.contains(image)).collect();
    Ok(HttpResponse::Ok().json(ImagesNeeded { needed }))
}

/// `POST /agent/v1/content`: what a replica that is placed on the host mounts, and nothing else.
pub async fn content(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let speaks = speaks(&request, &api)?;
    let ContentQuery { node, content } = body::of_agent(&request, payload, &api, MAX_BYTES).await?;
    audit::about(&request, "node", &node);
    audit::about(&request, "content", &content);
    speaks.unwrap_or(Speaker::Plain).may_have(&node, content.kind, &api.view.identities())?;
    if !matches!(api.view.cluster().phase, PhaseView::Leading) {
        return Err(Problem::new(Code::Recovering, "this master does not lead now; ask again").into());
    }
    if !is_mounted(&api, &node, &content) {
        let detail = format!("no replica that is placed on {node} mounts {content}");
        return Err(Problem::new(Code::ReplicaNotFound, detail).into());
    }
    match api.view.contents().get(&content).map(|held| held.content.clone()) {
        Some(Ok(data)) => Ok(HttpResponse::Ok().json(ContentAnswer { data })),
        Some(Err(reason)) => {
            Err(Problem::new(Code::SecretKeyUnavailable, format!("{content}: {reason}")).into())
        }
        None => Err(Problem::new(Code::ContentNotFound, format!("{content} is not kept any more")).into()),
    }
}

/// Whether a replica on `node` is of a generation that mounts `content`.
fn is_mounted(api: &Api, node: &NodeName, content: &ContentId) -> bool {
    let mut after = None;
    loop {
        let page = api.view.services(after.as_ref(), PAGE);
        let mounts = |service: &Arc<ServiceView>| {
            let uses = service.kept_contents.iter().filter(|mounted| mounted.content == *content);
            let generations: BTreeSet<_> = uses.map(|mounted| mounted.generation).collect();
            let is_there =
                |replica: &ReplicaView| replica.node == *node && generations.contains(&replica.generation);
            !generations.is_empty() && service.replica_states.iter().any(is_there)
        };
        if page.iter().any(mounts) {
            return true;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.spec.name.clone()),
            Some(_) | None => return false,
        }
    }
}

/// How many services are looked at before others come to their turn.
const PAGE: usize = 1_000;
