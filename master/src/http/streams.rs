//! Streaming answers: counted apart from other requests, with a client of
//! their own towards agents, and ended when the master stops.

use std::{convert::Infallible, time::Duration};

use actix_web::{HttpRequest, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use shef_common::client::{self, Security};
use tokio::sync::mpsc;

use super::{Api, ApiError, Permit};

/// The most connections to agents that a worker's streams have open at once.
const MAX_CONNECTIONS: usize = 4_096;
/// How many parts of an answer may wait for its reader.
const WAITING_PARTS: usize = 4;
/// A reader that takes nothing for this long is disconnected.
const READER_LIMIT: Duration = Duration::from_secs(60);

/// The permit of one stream; given back when dropped.
pub struct StreamPermit {
    _permit: Permit,
}

impl StreamPermit {
    /// Takes a permit, if one is free.
    pub fn take(api: &web::Data<Api>, request: &HttpRequest) -> Result<Self, ApiError> {
        let too_many = |most, whose: &str| {
            format!("{most} streams are open{whose}; the bound is max_streams, end one or try again")
        };
        Ok(Self { _permit: api.streams.take(request, too_many)? })
    }
}

/// A worker's client for what agents stream. The other clients' limit of
/// connections counts over all hosts, so long answers would starve them.
pub struct StreamClient(pub awc::Client);

impl StreamClient {
    /// With at most `connections` at once. To be called on the worker's own thread.
    pub fn new(connections: usize, security: &Security) -> Self {
        Self(client::raw(connections.min(MAX_CONNECTIONS), security))
    }
}

/// The writing end of a streaming answer. It holds a stream's permit until it is dropped.
pub struct Writer {
    sender: mpsc::Sender<Bytes>,
    _permit: StreamPermit,
}

/// Why nothing more can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderGone;

impl Writer {
    /// An answer's two ends.
    pub fn new(permit: StreamPermit) -> (Self, impl Stream<Item = Result<Bytes, Infallible>> + use<>) {
        let (sender, receiver) = mpsc::channel(WAITING_PARTS);
        let body = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|part| (Ok(part), receiver))
        });
        (Self { sender, _permit: permit }, body)
    }

    /// Writes, as fast as the reader reads.
    ///
    /// # Errors
    /// The reader has gone, or took nothing for [`READER_LIMIT`].
    pub async fn write(&self, part: Bytes) -> Result<(), ReaderGone> {
        if part.is_empty() {
            return Ok(());
        }
        self.sender.send_timeout(part, READER_LIMIT).await.map_err(|_| ReaderGone)
    }

    /// Waits until the reader has gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }
}

/// Waits until the master stops.
pub async fn stopping(api: &Api) {
    let mut stopping = api.stopping.clone();
    // The sender is gone: the master stops.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
