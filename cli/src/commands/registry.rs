//! `shef registry`: credentials of private registries.

use std::{process::ExitCode, time::Duration};

use awc::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shef_common::{
    clock::{Now, WallMs},
    registry::RegistryHost,
};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client, read},
    say,
    table::{span, table},
    tty::secret_line,
};

/// How long setting credentials may take: up to three hosts ask the registry.
const CHECKED_LIMIT: Duration = Duration::from_secs(60);

/// Arguments of `shef registry`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the registries for which credentials are stored, without passwords
    Ls {
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Stores the credentials of a registry; the password is read from standard input
    Login {
        /// The registry, as at the beginning of image references, such as registry.local:5000; docker.io for
        /// images without one
        #[arg(value_name = "REGISTRY")]
        host: RegistryHost,
        /// The user
        #[arg(short, long)]
        username: String,
        /// Do not check the credentials with the registry
        #[arg(long)]
        no_check: bool,
    },
    /// Deletes the credentials of a registry
    Logout {
        /// The registry
        #[arg(value_name = "REGISTRY")]
        host: RegistryHost,
    },
}

/// The parts of the API's answer that are shown.
#[derive(Debug, Deserialize)]
struct Shown {
    host: RegistryHost,
    username: String,
    updated: WallMs,
    reason: Option<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        match self.verb {
            Verb::Ls { json } => on_system(ls(&client, json))?,
            Verb::Login { host, username, no_check } => {
                let body = json!({ "username": username, "password": password()? });
                let path = format!("/v1/registries/{host}{}", if no_check { "" } else { "?check=true" });
                let answer = on_system(client.call(Method::PUT, &path, Some(&body), &[], CHECKED_LIMIT))?;
                say::step(format_args!("{host}: hosts log in as {username}{}", checked(&answer)));
            }
            Verb::Logout { host } => {
                on_system(client.send(Method::DELETE, &format!("/v1/registries/{host}"), None))?;
                say::step(format_args!("{host}: hosts do not log in any more"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The registry's answer, as the end of a sentence.
fn checked(answer: &Value) -> String {
    match answer["check"]["outcome"].as_str() {
        Some("accepted") => "; it takes the password".to_owned(),
        Some(_) => format!(
            "; the password was not checked: {}",
            answer["check"]["reason"].as_str().unwrap_or("no reason given")
        ),
        None => String::new(),
    }
}

fn password() -> Result<String, Failure> {
    match secret_line("Password: ")?.as_str() {
        "" => Err(Failure::new(
            "there is no password on standard input; pipe it in, as in `shef registry login … < \
             password-file`",
        )),
        password => Ok(password.to_owned()),
    }
}

async fn ls(client: &Client, json: bool) -> Result<(), Failure> {
    let answer: Value = client.get("/v1/registries").await?;
    if json {
        say::line(answer);
        return Ok(());
    }
    let registries: Vec<Shown> = read(answer["registries"].clone())?;
    let now = Now::read().wall;
    let rows: Vec<_> = registries.into_iter().map(|registry| row(registry, now)).collect();
    table(["REGISTRY", "USER", "SINCE", "REASON"], &rows).iter().for_each(say::line);
    Ok(())
}

fn row(registry: Shown, now: WallMs) -> [String; 4] {
    let since = span((now - registry.updated).0);
    [registry.host.to_string(), registry.username, since, registry.reason.unwrap_or_default()]
}
