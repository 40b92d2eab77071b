//! Calls that change services, and the wait for their outcome; shared by several commands.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::{Value, json};
use shef_common::ids::ServiceName;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, CallError, Client, read},
    progress::{Goal as _, Progress, ServiceGoal, WaitArgs, Written, follow, unless_stopped},
    say,
};

/// How a change is made, as arguments.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Print what the API answers, a line of JSON a service
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub api: ApiArgs,
}

impl How {
    /// Makes every call, and then waits for what each has asked.
    pub(super) fn carry_out(&self, calls: Vec<Call>) -> Result<ExitCode, Failure> {
        on_system(carry_out(&self.api.client()?, calls, &self.wait, self.json))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Why a service cannot be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("there is no service {0}")]
    NoService(ServiceName),
    #[error("service {0} is being deleted")]
    Deleting(ServiceName),
}

/// A call that changes a service.
#[derive(Debug)]
pub(super) struct Call {
    service: ServiceName,
    method: Method,
    path: String,
    body: Option<Value>,
    /// Whether the call is done once the service's rollout is paused.
    pauses: bool,
}

impl Call {
    /// A call of the service's own address, with `rest` behind it.
    pub(super) fn new(method: Method, service: &ServiceName, rest: &str, body: Option<Value>) -> Self {
        let path = format!("/v1/services/{service}{rest}");
        Self { service: service.clone(), method, path, body, pauses: false }
    }

    /// The service's rollout is to be paused.
    pub(super) fn pause(service: &ServiceName) -> Self {
        Self { pauses: true, ..Self::new(Method::POST, service, "/rollout/pause", None) }
    }

    fn is_removal(&self) -> bool {
        self.method == Method::DELETE
    }

    /// Why the call cannot be made; `None`: it may be made.
    async fn obstacle(&self, client: &Client) -> Result<Option<Obstacle>, CallError> {
        let name = self.service.clone();
        Ok(match state(client, &name).await? {
            None => Some(Obstacle::NoService(name)),
            Some(view) if is_deleting(&view) && !self.is_removal() => Some(Obstacle::Deleting(name)),
            Some(_) => None,
        })
    }

    /// Makes the call. If a removal is under way already, waits for that one.
    async fn make(self, client: &Client) -> Result<Asked, CallError> {
        match client.send(self.method.clone(), &self.path, self.body.as_ref()).await {
            Ok(answer) => self.asked(answer, "accepted"),
            Err(error) if self.is_removal() && error.is_not_found() => {
                let view = state(client, &self.service).await?.filter(is_deleting).ok_or(error)?;
                let answer = json!({
                    "name": view["name"], "generation": view["generation"], "version": view["version"],
                });
                self.asked(answer, "is being deleted already")
            }
            Err(error) => Err(error),
        }
    }

    fn asked(self, answer: Value, done: &str) -> Result<Asked, CallError> {
        let written: Written = read(answer.clone())?;
        let said = written.words(&format!(": {done}, as version {}", written.version));
        let unchanged = written.unchanged;
        let goal = match (self.is_removal(), self.pauses) {
            (true, _) => ServiceGoal::Gone(written.name),
            (false, true) => ServiceGoal::Paused(written),
            (false, false) => ServiceGoal::Done(written),
        };
        Ok(Asked { goal, answer, said, unchanged })
    }
}

/// The outcome of a call.
struct Asked {
    goal: ServiceGoal,
    answer: Value,
    /// In a line.
    said: String,
    /// Whether there was nothing to do.
    unchanged: bool,
}

/// A service as the API shows it; `None`: there is none.
async fn state(client: &Client, name: &ServiceName) -> Result<Option<Value>, CallError> {
    match client.get(&format!("/v1/services/{name}")).await {
        Ok(view) => Ok(Some(view)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_deleting(view: &Value) -> bool {
    view["state"] == "deleting"
}

/// Makes no call unless all services exist. Ends with the first call that is refused; earlier calls stay in
/// force, and the message says so.
async fn carry_out(client: &Client, calls: Vec<Call>, wait: &WaitArgs, json: bool) -> Result<(), Failure> {
    let several = calls.len() > 1;
    if several {
        check(client, &calls).await?;
    }
    let mut taken = Vec::new();
    for call in calls {
        let asked = call.make(client).await?;
        if several || asked.unchanged || wait.limit().is_none() {
            Progress { json }.step(asked.said);
        }
        taken.push((asked.goal, asked.answer));
    }
    settle(client, taken, wait, json).await
}

/// # Errors
/// A service is not there, or cannot be changed any more: all such services are named.
async fn check(client: &Client, calls: &[Call]) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for call in calls {
        wrong.extend(call.obstacle(client).await?);
    }
    wrong.dedup();
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("{}; nothing was changed", wrong.join("; "))))
}

/// Waits for each of `goals`, if that is asked, and prints what the API has answered, if that is. One that
/// fails hides no other.
pub(super) async fn settle(
    client: &Client,
    goals: Vec<(ServiceGoal, Value)>,
    wait: &WaitArgs,
    json: bool,
) -> Result<(), Failure> {
    let on_its_own: Vec<String> = goals.iter().map(|(goal, _)| goal.on_its_own()).collect();
    let waiting = wait_for_all(client, goals, wait, json);
    if wait.limit().is_some() { unless_stopped(waiting, &on_its_own.join("; ")).await } else { waiting.await }
}

async fn wait_for_all(
    client: &Client,
    goals: Vec<(ServiceGoal, Value)>,
    wait: &WaitArgs,
    json: bool,
) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (goal, mut answer) in goals {
        if let Some(limit) = wait.limit() {
            let followed = follow(client, &goal, limit, Progress { json }).await;
            answer["converged"] = followed.as_ref().is_ok_and(|converged| *converged).into();
            failed.extend(followed.err().map(|failure| failure.0));
        }
        if json {
            say::line(answer);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n"))) }
}
