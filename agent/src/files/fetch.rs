//! Asking masters for contents.

use std::{cell::RefCell, time::Duration};

use shef_common::{
    client::{CallError, HostClient, Security},
    clock::{DurationMs, MonoMs, Now},
    contents::{CONTENT_PATH, Content, ContentAnswer, ContentId, ContentQuery},
    ids::NodeName,
    problem::{Code, Problem},
};

use crate::engine::EngineError;

/// How long a master may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// After a try at which no master answered, nobody asks for so long: an operation that waits for an answer
/// takes the place of another one.
const PAUSE: DurationMs = DurationMs(1_000);

/// Asks masters for contents, by the certificate of this host.
pub struct Fetcher {
    client: HostClient,
    masters: Vec<String>,
    node: NodeName,
    /// When no master answered last, and what came of it.
    unanswered: RefCell<Option<(MonoMs, String)>>,
}

/// What came of asking one master.
enum Asked {
    Content(Content),
    /// It says that there is no such content, for good.
    Gone(String),
    /// It does not say.
    Failed(CallError),
}

impl Fetcher {
    /// Asks `masters` for the contents of `node`. To be called on an arbiter's thread.
    #[must_use]
    pub fn new(masters: Vec<String>, node: NodeName, security: Security) -> Self {
        Self { client: HostClient::new(security), masters, node, unanswered: RefCell::new(None) }
    }

    /// The content, from the first master that has it.
    ///
    /// # Errors
    /// [`EngineError::Refused`] if the leader says that there is none, [`EngineError::NotYet`] otherwise.
    pub(super) async fn fetch(&self, content: &ContentId) -> Result<Content, EngineError> {
        let not_yet = |why: &str| EngineError::NotYet(format!("waiting for {content}: {why}"));
        let recently = self.unanswered.borrow().clone().filter(|(at, _)| Now::read().mono - *at < PAUSE);
        if let Some((_, why)) = recently {
            return Err(not_yet(&why));
        }
        let mut last = "there is no master to ask".to_owned();
        let mut answered = self.masters.is_empty();
        for master in &self.masters {
            match self.ask(master, content).await {
                Asked::Content(bytes) => return Ok(bytes),
                Asked::Gone(why) => return Err(EngineError::Refused(why)),
                Asked::Failed(error) => {
                    answered |= matches!(error, CallError::Refused { .. });
                    last = said(&error);
                }
            }
        }
        if !answered {
            *self.unanswered.borrow_mut() = Some((Now::read().mono, last.clone()));
        }
        Err(not_yet(&last))
    }

    async fn ask(&self, master: &str, content: &ContentId) -> Asked {
        let query = ContentQuery { node: self.node.clone(), content: content.clone() };
        let url = format!("{master}{CONTENT_PATH}");
        match self.client.post::<_, ContentAnswer>(&url, &query, LIMIT).await {
            Ok(answer) => Asked::Content(answer.data),
            Err(error) => match problem(&error) {
                Some(problem) if problem.code == Code::ContentNotFound => Asked::Gone(problem.detail),
                Some(_) | None => Asked::Failed(error),
            },
        }
    }
}

/// What a master says in its refusal.
fn problem(error: &CallError) -> Option<Problem> {
    match error {
        CallError::Refused { body, .. } => serde_json::from_slice(body).ok(),
        CallError::Unreachable { .. } | CallError::NoSocket { .. } | CallError::Unexpected { .. } => None,
    }
}

fn said(error: &CallError) -> String {
    match (problem(error), error) {
        (Some(problem), _) => problem.detail,
        // What does not have the form of an answer may hold a content.
        (None, CallError::Unexpected { url, .. }) => format!("{url} answered something else than expected"),
        (None, error) => error.to_string(),
    }
}
