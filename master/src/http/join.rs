//! How hosts become members: they join with a token, and renew their certificates. Neither needs a
//! certificate.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use shef_common::{
    clock::Now,
    ids::{NodeName, NodeUid},
    problem::{Code, Problem},
    tls::{Join, Joined, Peer, Renew, TlsMode},
};

use super::{Api, ApiError, RequestPermit, answer::Answer, audit, body};
use crate::{
    access::{JoinRefused, JoinRequest, RenewRefused, RenewRequest},
    cluster::PhaseView,
    identity::{Authority, CaError, NotASpeaker, csr_key, known_otherwise},
};

/// The most bytes of a body: a request for a certificate, and little more.
const MAX_BYTES: usize = 16 * 1024;
/// How long it may take until a host is durable.
const LIMIT: Duration = Duration::from_secs(10);

/// `POST /agent/v1/join`
pub async fn join(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let Join { id, secret, node, uid, csr } = body::of_agent(&request, payload, &api, MAX_BYTES).await?;
    audit::about(&request, "node", &node);
    audit::about(&request, "uid", &uid);
    audit::about(&request, "token", &id);
    let authority = authority(&api)?;
    // A token's secret has gone over the network then: it is not made good for it.
    if authority.mode == TlsMode::Required && request.conn_data::<Peer>() == Some(&Peer::Plain) {
        return Err(NotASpeaker::Plain.into());
    }
    let _permit = RequestPermit::take(&api, &request)?;
    // A host that is in may repeat what it has asked; for all others the token decides before anything is
    // computed.
    let is_known = api.view.identities().member(&uid).is_some();
    if !is_known && !api.view.token_table().lets_join(&id, &secret, Now::read().wall) {
        return Err(refused(&JoinRefused::Token));
    }
    if let Some(taken) = is_another(&api, &node, &uid) {
        return Err(refused(&JoinRefused::NameTaken(taken)));
    }
    let (key, csr) = key(csr).await?;
    let asked = api.join.send(JoinRequest { id, secret, node, uid: uid.clone(), key }).timeout(LIMIT).await;
    let node = asked.map_err(|error| unanswered(&error))?.map_err(|why| refused(&why))?;
    joined(authority, node, uid, csr).await
}

/// `POST /agent/v1/renew`
pub async fn renew(request: HttpRequest, payload: web::Payload, api: web::Data<Api>) -> Answer {
    let Renew { uid, csr } = body::of_agent(&request, payload, &api, MAX_BYTES).await?;
    audit::about(&request, "uid", &uid);
    let authority = authority(&api)?;
    let _permit = RequestPermit::take(&api, &request)?;
    if api.view.identities().member(&uid).is_none() {
        return Err(Problem::new(Code::Forbidden, RenewRefused::Unknown(uid).to_string()).into());
    }
    let (key, csr) = key(csr).await?;
    let asked = api.renew.send(RenewRequest { uid: uid.clone(), key }).timeout(LIMIT).await;
    let node = asked.map_err(|error| unanswered(&error))?.map_err(|why| {
        let code = match &why {
            RenewRefused::Unknown(_) => Code::Forbidden,
            RenewRefused::Busy | RenewRefused::Stopping => Code::Overloaded,
            RenewRefused::Store(_) => Code::StoreUnavailable,
        };
        Problem::new(code, why.to_string())
    })?;
    joined(authority, node, uid, csr).await
}

/// The host that the cluster knows otherwise, with an identity or without.
fn is_another(api: &Api, node: &NodeName, uid: &NodeUid) -> Option<NodeName> {
    let known = api.view.hosts(None, usize::MAX);
    known_otherwise(known.iter().map(|host| (&host.view.name, &host.view.uid)), node, uid)
}

/// The CA, where members have certificates and this master leads: another one may have revoked some since.
fn authority(api: &Api) -> Result<std::sync::Arc<Authority>, ApiError> {
    let Some(authority) = api.authority.clone() else {
        let detail = "the hosts of this cluster have no certificates: the master's tls is off; an \
                      agent needs no token";
        return Err(Problem::new(Code::NotFound, detail).into());
    };
    if matches!(api.view.cluster().phase, PhaseView::Deposed(_)) {
        let detail = "another master leads the cluster and knows which hosts are members; ask that one";
        return Err(Problem::new(Code::NotLeader, detail).into());
    }
    Ok(authority)
}

/// The digest of the key of a request, and the request.
async fn key(csr: String) -> Result<(String, String), ApiError> {
    let (key, csr) = off_thread(move || (csr_key(&csr), csr)).await?;
    Ok((key.map_err(|error| invalid(&error))?, csr))
}

async fn joined(authority: std::sync::Arc<Authority>, node: NodeName, uid: NodeUid, csr: String) -> Answer {
    let sign = move || {
        let issuing = authority.issuing();
        let certificate = issuing.ca.sign_agent(&csr, &authority.cluster, &uid)? + &issuing.bridges();
        let (cluster, roots) = (authority.cluster.clone(), issuing.trusted.clone());
        Ok(Joined { cluster, node, certificate, roots })
    };
    let joined = off_thread(sign).await?.map_err(|error| invalid(&error))?;
    Ok(HttpResponse::Ok().json(joined))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let done = web::block(work).await;
    done.map_err(|error| {
        Problem::new(Code::Overloaded, format!("the master does not come to it: {error}")).into()
    })
}

fn invalid(error: &CaError) -> ApiError {
    let code = match error {
        CaError::Request(_) => Code::InvalidBody,
        CaError::Authority(_) | CaError::Name(_) | CaError::Making(_) | CaError::NoRandomBytes => {
            Code::Internal
        }
    };
    Problem::new(code, error.to_string()).into()
}

pub(super) fn refused(why: &JoinRefused) -> ApiError {
    let code = match why {
        JoinRefused::Token => Code::Unauthenticated,
        JoinRefused::OtherKey(_)
        | JoinRefused::NameTaken(_)
        | JoinRefused::Revoked(_)
        | JoinRefused::TooMany(_) => Code::NodeConflict,
        JoinRefused::Busy | JoinRefused::Stopping => Code::Overloaded,
        JoinRefused::Store(_) => Code::StoreUnavailable,
    };
    Problem::new(code, why.to_string()).into()
}

pub(super) fn unanswered(error: &actix::MailboxError) -> ApiError {
    let detail = format!("the store has not confirmed ({error}); ask again with the same key");
    Problem::new(Code::StoreUnavailable, detail).into()
}
