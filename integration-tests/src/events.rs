//! A reader of `/v1/events`.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;

use crate::cluster::{Api, PATIENCE};

/// Follows the events of a master.
pub struct EventReader {
    answer: Box<dyn Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin>,
    buffer: String,
    at: String,
}

impl EventReader {
    /// Opens the stream with `query`, from the event `last` on if there is one.
    ///
    /// # Panics
    /// If the master refuses.
    pub async fn open(api: &Api, query: &str, last: Option<&str>) -> Self {
        let client = awc::Client::builder().disable_timeout().finish();
        let mut request = client.get(format!("{}/v1/events{query}", api.url));
        if let Some(last) = last {
            request = request.insert_header(("last-event-id", last));
        }
        let answer = request.send().await.expect("the master answers");
        assert_eq!(answer.status().as_u16(), 200);
        let mut reader = Self { answer: Box::new(answer), buffer: String::new(), at: String::new() };
        reader.block().await;
        reader
    }

    /// The id of the latest event.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    /// The next block; the data of an event, if it is one.
    ///
    /// # Panics
    /// If the stream ends, or nothing comes for [`PATIENCE`].
    pub async fn block(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field =
                    |name: &str| block.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()));
                let (id, data) = (field("id: "), field("data: "));
                self.buffer = String::from(rest);
                self.at = id.unwrap_or(std::mem::take(&mut self.at));
                return data.map(|data| serde_json::from_str(&data).expect("an event is JSON"));
            }
            let part = tokio::time::timeout(PATIENCE, self.answer.next()).await.expect("it goes on");
            let part = part.expect("it does not end").expect("it can be read");
            self.buffer.push_str(std::str::from_utf8(&part).expect("events are text"));
        }
    }

    /// The events up to the first of which `last` is true.
    ///
    /// # Panics
    /// If that does not come.
    pub async fn until(&mut self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let Some(event) = self.block().await else { continue };
            let is_last = last(&event);
            events.push(event);
            if is_last {
                return events;
            }
        }
    }
}
