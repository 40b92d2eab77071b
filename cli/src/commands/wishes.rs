//! Writes, and the wait for what becomes of them: what the commands that change
//! services share.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::Value;

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client, read},
    progress::{Tell, WaitArgs, Wish, Written, follow},
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
    pub(super) fn carry_out(&self, calls: impl IntoIterator<Item = Call>) -> Result<ExitCode, Failure> {
        on_system(carry_out(&self.api.client()?, calls, &self.wait, self.json))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A call: its method, its path, its body.
pub(super) type Call = (Method, String, Option<Value>);

/// The first call that is refused ends it: what was taken before stays.
async fn carry_out(
    client: &Client,
    calls: impl IntoIterator<Item = Call>,
    wait: &WaitArgs,
    json: bool,
) -> Result<(), Failure> {
    let mut taken = Vec::new();
    for (method, path, body) in calls {
        let gone = method == Method::DELETE;
        let answer = client.send(method, &path, body.as_ref()).await?;
        let written: Written = read(answer.clone())?;
        if wait.limit().is_none() {
            Tell { json }.step(format_args!("{}: asked, as version {}", written.name, written.version));
        }
        taken.push((if gone { Wish::Gone(written.name) } else { Wish::Done(written) }, answer));
    }
    settle(client, taken, wait, json).await
}

/// Waits for each of `wishes`, if that is asked, and prints what the API has answered, if that is.
pub(super) async fn settle(
    client: &Client,
    wishes: Vec<(Wish, Value)>,
    wait: &WaitArgs,
    json: bool,
) -> Result<(), Failure> {
    for (wish, mut answer) in wishes {
        if let Some(limit) = wait.limit() {
            answer["converged"] = follow(client, &wish, limit, Tell { json }).await?.into();
        }
        if json {
            say::line(answer);
        }
    }
    Ok(())
}
