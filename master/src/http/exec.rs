//! `GET /v1/services/{name}/replicas/{id}/exec?cmd=&tty=&user=&workdir=`: a command
//! in a replica. Frames are handed on between the user's WebSocket and the agent's.

use std::{rc::Rc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};
use awc::ws::{Frame, Message};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use shef_common::{
    exec::{self, Control, ExecOrder, MAX_FRAME_BYTES, PING_MS, SILENCE_MS},
    ids::ServiceName,
    problem::{Code, Problem},
};
use tokio::sync::Mutex;

use super::{
    Api, ApiError, params,
    streams::{StreamClient, StreamPlace, away, stopping},
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
    let place = StreamPlace::take(&api)?;
    let name: ServiceName = params::name(&request)?;
    let id = params::replica(&request)?;
    let invalid = |why: String| ApiError::from(Problem::new(Code::InvalidParameter, why));
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let pairs = pairs.map_err(|error| invalid(format!("the query cannot be read: {error}")))?;
    let order = ExecOrder::read(pairs.into_inner()).map_err(invalid)?;
    let view =
        api.view.service(&name).ok_or_else(|| Problem::new(Code::ServiceNotFound, format!("there is no service {name}")))?;
    let replica = view.replica_states.iter().find(|replica| replica.id == id);
    let replica = replica.ok_or_else(|| Problem::new(Code::ReplicaNotFound, format!("service {name} has no replica {id}")))?;
    let unreachable = |why: String| Problem::new(Code::ReplicaUnreachable, format!("{id} on {}: {why}", replica.node));
    let host = api.view.host(&replica.node).ok_or_else(|| unreachable("the host is no member of the cluster".to_owned()))?;
    if let Some(why) = away(host.view.state) {
        return Err(unreachable(why.to_owned()).into());
    }
    // Only who can speak to us is worth an agent's connection.
    let (answer, session, messages) =
        actix_ws::handle(&request, payload).map_err(|error| invalid(format!("this is a WebSocket: {error}")))?;
    let url = format!("{}{}?{}", host.view.host.agent_url, exec::path(&id), order.to_query());
    let connected = tokio::time::timeout(CONNECT_LIMIT, client.0.ws(&url).connect()).await;
    let agent = match connected {
        Ok(Ok((_, agent))) => agent,
        Ok(Err(error)) => return Err(unreachable(format!("its agent does not answer: {error}")).into()),
        Err(_) => return Err(unreachable(format!("its agent has not answered within {} s", CONNECT_LIMIT.as_secs())).into()),
    };
    let messages = messages.aggregate_continuations().max_continuation_size(MAX_FRAME_BYTES + 1);
    actix_rt::spawn(async move {
        let (to_agent, from_agent) = agent.split();
        let ended = tokio::select! {
            ended = relay(session.clone(), messages, to_agent, from_agent) => ended,
            () = stopping(&api) => Some("the master stops".to_owned()),
        };
        let mut session = session;
        if let Some(why) = ended {
            // Whoever has gone needs no telling.
            let _ = session.text(serde_json::to_string(&Control::Error(why)).unwrap_or_default()).await;
        }
        let _ = session.close(None).await;
        drop(place);
    });
    Ok(answer)
}

/// Hands frames on both ways until one side goes; what the user is still to be told of it.
async fn relay<E>(
    user: Session,
    mut messages: AggregatedMessageStream,
    to_agent: impl Sink<Message> + Unpin,
    mut from_agent: impl Stream<Item = Result<Frame, E>> + Unpin,
) -> Option<String> {
    let limit = Duration::from_millis(SILENCE_MS);
    let to_agent = Rc::new(Mutex::new(to_agent));
    let mut pinged = user.clone();
    let up = async {
        while let Ok(Some(Ok(message))) = tokio::time::timeout(limit, messages.recv()).await {
            let message = match message {
                AggregatedMessage::Text(text) => Message::Text(text),
                AggregatedMessage::Binary(bytes) => Message::Binary(bytes),
                AggregatedMessage::Ping(bytes) => {
                    if user.clone().pong(&bytes).await.is_err() {
                        return;
                    }
                    continue;
                }
                AggregatedMessage::Pong(_) => continue,
                AggregatedMessage::Close(_) => return,
            };
            if to_agent.lock().await.send(message).await.is_err() {
                return;
            }
        }
    };
    let mut told = user.clone();
    let down = async {
        loop {
            let sent = match tokio::time::timeout(limit, from_agent.next()).await {
                Ok(Some(Ok(Frame::Binary(bytes)))) => told.binary(bytes).await,
                Ok(Some(Ok(Frame::Text(bytes)))) => told.text(String::from_utf8_lossy(&bytes).into_owned()).await,
                Ok(Some(Ok(Frame::Ping(_) | Frame::Pong(_)))) => Ok(()),
                // It has said how the command ended.
                Ok(Some(Ok(Frame::Close(_)))) => return None,
                Ok(Some(Ok(Frame::Continuation(_)) | Err(_)) | None) => return Some("the host's agent broke off".to_owned()),
                Err(_) => return Some(format!("nothing was heard of the host's agent for {} s", limit.as_secs())),
            };
            if sent.is_err() {
                return None;
            }
        }
    };
    let pings = async {
        while pinged.ping(b"").await.is_ok() {
            // One that is being written to is heard of anyway.
            if let Ok(mut agent) = to_agent.try_lock()
                && agent.send(Message::Ping(bytes::Bytes::new())).await.is_err()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(PING_MS)).await;
        }
    };
    tokio::select! {
        why = down => why,
        () = up => None,
        () = pings => None,
    }
}
