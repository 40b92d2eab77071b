//! `shef token`: who may call the API, and what for; and which hosts may join.

use std::process::ExitCode;

use awc::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shef_common::{
    clock::{Now, WallMs},
    ids::TokenName,
};
use shef_master::access::{Role, TokenRole};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client, read},
    say,
    table::{span, table},
};

/// Arguments of `shef token`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the tokens, without their secrets
    Ls {
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Makes a token and prints it, this once
    Create {
        /// Its name
        name: TokenName,
        /// What its holder may do: viewer, deployer, operator or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// For a deployer: the beginning of the names of the services that it may change
        #[arg(long, value_name = "PREFIX")]
        services: Option<String>,
        /// How long it is valid, such as 12h or 30d [default: for ever]
        #[arg(long, value_name = "SPAN")]
        expires_in: Option<String>,
    },
    /// Makes a token for hosts to join with and prints it, this once
    Join {
        /// How many hosts may join with it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        uses: u32,
        /// How long it is valid, such as 30m or 2d; 30d at most
        #[arg(long, value_name = "SPAN", default_value = "1h")]
        expires_in: String,
        /// Its name [default: one with the time at which it is made]
        #[arg(long)]
        name: Option<TokenName>,
    },
    /// Revokes a token at once
    Revoke {
        /// Its name
        name: TokenName,
    },
}

/// An argument is no role.
#[derive(Debug, thiserror::Error)]
#[error("must be one of {}", Role::ALL.map(Role::as_str).join(", "))]
struct NoRole;

fn role(text: &str) -> Result<Role, NoRole> {
    Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoRole)
}

/// The parts of the API's answer that are shown.
#[derive(Debug, Deserialize)]
struct Shown {
    name: TokenName,
    role: TokenRole,
    services: String,
    uses_left: Option<u32>,
    created: WallMs,
    expires: Option<WallMs>,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        match self.verb {
            Verb::Ls { json } => on_system(ls(&client, json))?,
            Verb::Create { name, role, services, expires_in } => {
                let mut body = json!({ "role": role });
                for (field, given) in [("services", services), ("expires_in", expires_in)] {
                    if let Some(given) = given {
                        body[field] = given.into();
                    }
                }
                let path = format!("/v1/tokens/{name}");
                let answer = on_system(client.send(Method::PUT, &path, Some(&body)))?;
                say::line(answer["token"].as_str().unwrap_or_default());
                say::note(format_args!(
                    "==> {name}: keep it now, it is not shown again; commands take it from SHEF_TOKEN"
                ));
                let cluster: Value = on_system(client.get("/v1/cluster"))?;
                if let Some(ca) = cluster["ca"].as_str() {
                    say::note(format_args!(
                        "    from another machine: shef login https://THIS-MACHINE:8044 --ca {ca}, which \
                         asks for it"
                    ));
                }
            }
            Verb::Join { uses, expires_in, name } => {
                let name =
                    name.map_or_else(|| format!("join-{}", Now::read().wall.0), |name| name.to_string());
                let body = json!({ "role": TokenRole::Agent, "uses": uses, "expires_in": expires_in });
                let path = format!("/v1/tokens/{name}");
                let answer = on_system(client.send(Method::PUT, &path, Some(&body)))?;
                say::line(answer["token"].as_str().unwrap_or_default());
                say::note(format_args!(
                    "==> {name}: lets {uses} {} join within {expires_in}: give it to `shef bootstrap`, \
                     or to an agent, as JOIN_TOKEN",
                    if uses == 1 { "host" } else { "hosts" }
                ));
            }
            Verb::Revoke { name } => {
                on_system(client.send(Method::DELETE, &format!("/v1/tokens/{name}"), None))?;
                say::step(format_args!("{name}: revoked"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn ls(client: &Client, json: bool) -> Result<(), Failure> {
    let answer: Value = client.get("/v1/tokens").await?;
    if json {
        say::line(answer);
        return Ok(());
    }
    let tokens: Vec<Shown> = read(answer["tokens"].clone())?;
    let now = Now::read().wall;
    let rows: Vec<_> = tokens.into_iter().map(|token| row(token, now)).collect();
    table(["TOKEN", "ROLE", "SERVICES", "USES LEFT", "SINCE", "EXPIRES IN"], &rows)
        .iter()
        .for_each(say::line);
    Ok(())
}

fn row(token: Shown, now: WallMs) -> [String; 6] {
    let expires = match token.expires {
        None => "never".to_owned(),
        Some(expires) if expires <= now => "expired".to_owned(),
        Some(expires) => span((expires - now).0),
    };
    let services =
        if token.services.is_empty() { "all".to_owned() } else { format!("{}…", token.services) };
    [
        token.name.to_string(),
        token.role.to_string(),
        if token.role == TokenRole::Deployer { services } else { "-".to_owned() },
        token.uses_left.map_or_else(|| "-".to_owned(), |uses| uses.to_string()),
        span((now - token.created).0),
        expires,
    ]
}
