//! `GET /v1/services/{name}/replicas/{id}/exec?cmd=&env=&tty=&detach=&user=&workdir=`: a
//! command in a replica. Frames are handed on between the user's WebSocket and the agent's.

use std::time::Duration;

use actix_web::{FromRequest as _, HttpRequest, HttpResponse, dev::Payload, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};
use awc::ws::{Frame, Message};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use shef_common::{
    client::websocket,
    exec::{self, Control, DRAIN_MS, ExecOrder, MAX_FRAME_BYTES, PING_MS, SILENCE_MS},
    frames::{FrameTooLarge, bounded_payload, bounded_socket},
    ids::ServiceName,
    problem::{Code, Problem},
};
use tokio::sync::{Mutex, Notify};

use super::{
    Api, ApiError,
    agent_error::{AgentError, away},
    params, services,
    streams::{StreamClient, StreamPermit, stopping},
};

/// How long the agent may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// 101, and frames as `shef_common::exec` says.
pub async fn get(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    client: web::Data<StreamClient>,
) -> Result<HttpResponse, ApiError> {
    let permit = StreamPermit::take(&api, &request)?;
    let name: ServiceName = params::name(&request)?;
    let id = params::replica(&request)?;
    let order = ExecOrder::read(params::pairs(&request)?)?;
    let view = services::find(&api, &name)?;
    let replica = view.replica_states.iter().find(|replica| replica.id == id);
    let replica = replica
        .ok_or_else(|| Problem::new(Code::ReplicaNotFound, format!("service {name} has no replica {id}")))?;
    let unreachable =
        |error| Problem::new(Code::ReplicaUnreachable, format!("{id} on {}: {error}", replica.node));
    let host = api.view.host(&replica.node).ok_or_else(|| unreachable(AgentError::NoMember))?;
    if let Some(error) = away(host.view.state) {
        return Err(unreachable(error).into());
    }
    // Only who can speak to us is worth an agent's connection.
    let no_socket = |error| Problem::new(Code::InvalidParameter, format!("this is a WebSocket: {error}"));
    let mut bounded: Payload = Payload::Stream { payload: Box::pin(bounded_payload(payload.into_inner())) };
    let payload = web::Payload::from_request(&request, &mut bounded).await.map_err(no_socket)?;
    let (answer, session, messages) = actix_ws::handle(&request, payload).map_err(no_socket)?;
    let url = format!("{}{}?{}", host.view.host.agent_url, exec::path(&id), order.to_query());
    let connected = tokio::time::timeout(CONNECT_LIMIT, websocket(&client.0, &url).connect()).await;
    let agent = match connected {
        Ok(Ok((_, agent))) => {
            let too_large = |error: FrameTooLarge| unreachable(AgentError::NoAnswer(error.to_string()));
            bounded_socket(agent).map_err(too_large)?
        }
        Ok(Err(error)) => return Err(unreachable(AgentError::NoAnswer(error.to_string())).into()),
        Err(_) => return Err(unreachable(AgentError::TooLate(CONNECT_LIMIT)).into()),
    };
    let messages = messages.aggregate_continuations().max_continuation_size(MAX_FRAME_BYTES + 1);
    actix_rt::spawn(async move {
        let (to_agent, from_agent) = agent.split();
        let ended = tokio::select! {
            ended = relay(session.clone(), messages, to_agent, from_agent) => ended,
            () = stopping(&api) => Some(CutOff::MasterStops),
        };
        let mut session = session;
        if let Some(why) = ended {
            // A user that has gone gets no answer.
            let _ = session
                .text(serde_json::to_string(&Control::Error(why.to_string())).unwrap_or_default())
                .await;
        }
        let _ = session.close(None).await;
        drop(permit);
    });
    Ok(answer)
}

/// Why it is not known how a command ended.
#[derive(Debug, thiserror::Error)]
enum CutOff {
    #[error("the master stops")]
    MasterStops,
    #[error("the host's agent did not say within {} s how the command ended", .0.as_secs())]
    TooLate(Duration),
    #[error("the host's agent broke off before it said how the command ended")]
    BrokeOff,
    #[error("nothing was heard of the host's agent for {} s", .0.as_secs())]
    Silent(Duration),
}

/// Hands frames on both ways until the command's last frame; what the user is still to be told. When the
/// connection to the agent or from the user has failed, output of the agent is still passed on.
async fn relay<E>(
    user: Session,
    messages: AggregatedMessageStream,
    to_agent: impl Sink<Message> + Unpin,
    from_agent: impl Stream<Item = Result<Frame, E>> + Unpin,
) -> Option<CutOff> {
    let (to_agent, broken) = (Mutex::new(to_agent), Notify::new());
    let up = async {
        if hand_up(&user, messages, &to_agent).await == UpEnd::Broken {
            broken.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let mut pinged = user.clone();
    let pings = async {
        while pinged.ping(b"").await.is_ok() {
            // One that is being written to is heard of anyway.
            if let Ok(mut agent) = to_agent.try_lock()
                && agent.send(Message::Ping(bytes::Bytes::new())).await.is_err()
            {
                broken.notify_one();
            }
            tokio::time::sleep(Duration::from_millis(PING_MS)).await;
        }
    };
    tokio::select! {
        why = hand_down(user.clone(), from_agent, &broken) => why,
        () = up => None,
        () = pings => None,
    }
}

/// Why nothing more goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpEnd {
    /// The user has closed the connection: no message can reach them.
    UserGone,
    /// The user's frames cannot be read, or the agent takes none: the user may still read.
    Broken,
}

async fn hand_up(
    user: &Session,
    mut messages: AggregatedMessageStream,
    to_agent: &Mutex<impl Sink<Message> + Unpin>,
) -> UpEnd {
    let limit = Duration::from_millis(SILENCE_MS);
    loop {
        let message = match tokio::time::timeout(limit, messages.recv()).await {
            Ok(Some(Ok(message))) => message,
            Ok(None) => return UpEnd::UserGone,
            Ok(Some(Err(_))) | Err(_) => return UpEnd::Broken,
        };
        let message = match message {
            AggregatedMessage::Text(text) => Message::Text(text),
            AggregatedMessage::Binary(bytes) => Message::Binary(bytes),
            AggregatedMessage::Ping(bytes) => {
                if user.clone().pong(&bytes).await.is_err() {
                    return UpEnd::UserGone;
                }
                continue;
            }
            AggregatedMessage::Pong(_) => continue,
            AggregatedMessage::Close(_) => return UpEnd::UserGone,
        };
        if to_agent.lock().await.send(message).await.is_err() {
            return UpEnd::Broken;
        }
    }
}

async fn hand_down<E>(
    mut user: Session,
    mut from_agent: impl Stream<Item = Result<Frame, E>> + Unpin,
    broken: &Notify,
) -> Option<CutOff> {
    let silence = Duration::from_millis(SILENCE_MS);
    let drain = Duration::from_millis(DRAIN_MS);
    // One limit for all that may still come once the other direction is broken.
    let mut drained = std::pin::pin!(async {
        broken.notified().await;
        tokio::time::sleep(drain).await;
    });
    let late = || Some(CutOff::TooLate(drain));
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(silence, from_agent.next()) => next,
            () = &mut drained => return late(),
        };
        let sent = match next {
            Ok(Some(Ok(Frame::Binary(bytes)))) => tokio::select! {
                sent = user.binary(bytes) => sent,
                () = &mut drained => return late(),
            },
            Ok(Some(Ok(Frame::Text(bytes)))) => {
                // The last frame says how the command ended. A user who has gone is not told.
                let _ = user.text(String::from_utf8_lossy(&bytes).into_owned()).await;
                return None;
            }
            Ok(Some(Ok(Frame::Ping(_) | Frame::Pong(_)))) => Ok(()),
            Ok(Some(Ok(Frame::Close(_) | Frame::Continuation(_)) | Err(_)) | None) => {
                return Some(CutOff::BrokeOff);
            }
            Err(_) => return Some(CutOff::Silent(silence)),
        };
        if sent.is_err() {
            return None;
        }
    }
}
