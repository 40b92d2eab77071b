//! What a fake engine shows of its containers: what tests have had them write.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream, stream::LocalBoxStream};
use shef_common::logs::{LogQuery, LogTime, Output};
use tokio::sync::watch;

use super::{super::EngineError, FakeEngine, FakeHost};
use crate::console::{Console, LogPiece};

/// What the containers wrote, by their ids.
#[derive(Debug, Default)]
pub(super) struct Written {
    logs: BTreeMap<String, Vec<LogPiece>>,
    /// Says that something was written.
    grown: watch::Sender<()>,
}

impl FakeHost {
    /// Has the container of that name write `text`, a line, at `time`.
    pub fn write_log(&self, name: &str, stream: Output, time: LogTime, text: &str) {
        let mut state = self.state();
        let Some(id) = state.containers.get(name).map(|container| container.id.clone()) else { return };
        let piece = LogPiece { stream, bytes: format!("{time} {text}\n").into() };
        state.written.logs.entry(id).or_default().push(piece);
        state.written.grown.send_replace(());
    }

    fn written(&self, id: &str, from: usize) -> Option<LogPiece> {
        self.state().written.logs.get(id).and_then(|pieces| pieces.get(from).cloned())
    }
}

impl Console for FakeEngine {
    fn read_log(&self, id: &str, query: &LogQuery) -> LocalBoxStream<'static, Result<LogPiece, EngineError>> {
        let (host, id, follow) = (self.host.clone(), id.to_owned(), query.follow);
        let (grown, all) = {
            let state = host.state();
            if state.away {
                return stream::iter([Err(EngineError::Unreachable("the fake engine is away".to_owned()))]).boxed_local();
            }
            (state.written.grown.subscribe(), state.written.logs.get(&id).map_or(0, Vec::len))
        };
        let first = query.tail.map_or(0, |lines| all.saturating_sub(lines as usize));
        stream::unfold((first, grown), move |(next, mut grown)| {
            let (host, id) = (host.clone(), id.clone());
            async move {
                loop {
                    grown.borrow_and_update();
                    if let Some(piece) = host.written(&id, next) {
                        return Some((Ok(piece), (next + 1, grown)));
                    }
                    if !follow || host.state().by_id(&id).is_err() {
                        return None;
                    }
                    grown.changed().await.ok()?;
                }
            }
        })
        .boxed_local()
    }
}
