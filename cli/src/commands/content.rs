//! `shef secret` and `shef config`: contents that services mount as files.

use std::{
    io::{IsTerminal as _, Read, stdin},
    process::ExitCode,
    time::Duration,
};

use awc::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shef_common::{
    clock::{Now, WallMs},
    contents::{Content, ContentKind, MAX_CONTENT_BYTES},
    ids::{ContentName, ContentVersion, Generation, ServiceName},
};

use super::on_system;
use crate::{
    Failure,
    client::{ApiArgs, Client, read},
    say,
    table::{bytes, span, table},
    tty::secret_line,
};

/// How long storing a content may take: each service that mounts it is changed.
const STORE_LIMIT: Duration = Duration::from_secs(60);

/// Arguments of `shef secret` and of `shef config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists them, and the services that mount them
    Ls {
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Stores a content under a name; services that mount the name are updated to it
    Create {
        /// The name
        name: ContentName,
        /// The file with the content; `-`: standard input
        #[arg(default_value = "-")]
        file: String,
        /// Print what the API answers
        #[arg(long)]
        json: bool,
    },
    /// Removes names that no service mounts
    Rm {
        /// The names
        #[arg(required = true)]
        names: Vec<ContentName>,
    },
}

/// What of the API's answer is shown.
#[derive(Debug, Deserialize)]
struct Shown {
    name: ContentName,
    version: ContentVersion,
    bytes: u64,
    created: WallMs,
    services: Vec<ServiceName>,
    reason: Option<String>,
}

/// The answer to a content that was stored.
#[derive(Debug, Deserialize)]
struct Stored {
    version: ContentVersion,
    services: Vec<Changed>,
}

#[derive(Debug, Deserialize)]
struct Changed {
    name: ServiceName,
    generation: Option<Generation>,
    error: Option<String>,
}

impl Args {
    pub(super) fn run(self, kind: ContentKind) -> Result<ExitCode, Failure> {
        let client = self.api.client()?;
        let path = |name: &ContentName| format!("/v1/{}/{name}", kind.field());
        match self.verb {
            Verb::Ls { json } => on_system(ls(&client, kind, json))?,
            Verb::Create { name, file, json } => {
                let body = json!({ "data": content(kind, &file)? });
                let path = path(&name);
                let answer = on_system(client.call(Method::PUT, &path, Some(&body), &[], STORE_LIMIT))?;
                if json {
                    say::line(answer);
                    return Ok(ExitCode::SUCCESS);
                }
                return created(kind, &name, read(answer)?);
            }
            Verb::Rm { names } => {
                for name in names {
                    on_system(client.send(Method::DELETE, &path(&name), None))?;
                    say::step(format_args!("{kind} {name}: removed"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn created(kind: ContentKind, name: &ContentName, stored: Stored) -> Result<ExitCode, Failure> {
    say::step(format_args!("{kind} {name}: version {}", stored.version.short()));
    let mut refused = Vec::new();
    for Changed { name, generation, error } in stored.services {
        match (generation, error) {
            (Some(generation), _) => say::step(format_args!("{name}: generation {generation} mounts it")),
            (None, error) => refused.push(format!("{name}: {}", error.unwrap_or_default())),
        }
    }
    if refused.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "{kind} {name} is stored, and these services still mount the content before it; run the same command \
         again to try once more\n{}",
        refused.join("\n")
    )))
}

/// The content that `file` holds. It is never taken as an argument: everybody on the host reads those.
fn content(kind: ContentKind, file: &str) -> Result<Content, Failure> {
    let most = MAX_CONTENT_BYTES as u64 + 1;
    let mut content = Vec::new();
    let read = match file {
        "-" if stdin().is_terminal() => {
            content = secret_line(&format!("Content of the {kind}: "))?.into_bytes();
            Ok(0)
        }
        "-" => stdin().lock().take(most).read_to_end(&mut content),
        path => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut content)),
    };
    let shown = if file == "-" { "standard input" } else { file };
    read.map_err(|error| Failure::new(format!("{shown} cannot be read: {error}")))?;
    match content.len() {
        0 => Err(Failure::new(format!("{shown} is empty: a {kind} has 1 to {MAX_CONTENT_BYTES} bytes"))),
        bytes if bytes > MAX_CONTENT_BYTES => Err(Failure::new(format!(
            "{shown} has more than the {MAX_CONTENT_BYTES} bytes that a {kind} may have"
        ))),
        _ => Ok(Content(content.into())),
    }
}

async fn ls(client: &Client, kind: ContentKind, json: bool) -> Result<(), Failure> {
    let answer: Value = client.get(&format!("/v1/{}", kind.field())).await?;
    if json {
        say::line(answer);
        return Ok(());
    }
    let all: Vec<Shown> = read(answer[kind.field()].clone())?;
    let now = Now::read().wall;
    let rows: Vec<_> = all.into_iter().map(|one| row(one, now)).collect();
    let head = kind.as_str().to_uppercase();
    table([&head, "VERSION", "SIZE", "AGE", "SERVICES", "REASON"], &rows).iter().for_each(say::line);
    Ok(())
}

fn row(one: Shown, now: WallMs) -> [String; 6] {
    let services: Vec<&str> = one.services.iter().map(ServiceName::as_str).collect();
    [
        one.name.to_string(),
        one.version.short().to_owned(),
        bytes(one.bytes),
        span((now - one.created).0),
        services.join(", "),
        one.reason.unwrap_or_default(),
    ]
}
