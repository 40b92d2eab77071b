//! `shef secret` and `shef config`: contents that services mount as files.

use std::{
    io::{IsTerminal as _, Read, stdin, stdout},
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
    say::{self, Printer},
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
    /// Prints the newest content of a config; a secret cannot be shown
    Show {
        /// The name
        name: ContentName,
        /// Print what the API answers, with the content in base64
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
            Verb::Show { name, json } => match kind {
                ContentKind::Config => show(&name, &on_system(client.get(&path(&name)))?, json)?,
                ContentKind::Secret => {
                    return Err(Failure::new(
                        "a secret cannot be shown: its replicas have it as a file, and `shef secret ls` \
                         shows its version and its services",
                    ));
                }
            },
            Verb::Rm { names } => {
                on_system(check(&client, kind, &names))?;
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

/// Prints a config's content, byte by byte.
fn show(name: &ContentName, answer: &Value, json: bool) -> Result<(), Failure> {
    if json {
        say::line(answer);
        return Ok(());
    }
    let content: Option<Content> = serde_json::from_value(answer["data"].clone()).ok();
    let why = answer["reason"].as_str().unwrap_or("the master sent no content");
    let content = content.ok_or_else(|| Failure::new(format!("config {name} cannot be read: {why}")))?;
    // A reader that closes the output early is no failure.
    _ = Printer::new(stdout()).part(&content.0);
    Ok(())
}

/// Nothing is removed unless every name can be.
///
/// # Errors
/// Names are not there, or mounted: all of these are named.
async fn check(client: &Client, kind: ContentKind, names: &[ContentName]) -> Result<(), Failure> {
    if names.len() < 2 {
        return Ok(());
    }
    let answer: Value = client.get(&format!("/v1/{}", kind.field())).await?;
    let all: Vec<Shown> = read(answer[kind.field()].clone())?;
    let wrong = obstacles(kind, names, &all);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{}; nothing was changed", wrong.join("; "))))
    }
}

fn obstacles(kind: ContentKind, names: &[ContentName], all: &[Shown]) -> Vec<String> {
    let obstacle = |name: &ContentName| match all.iter().find(|shown| shown.name == *name) {
        None => Some(format!("there is no {kind} {name}")),
        Some(shown) if shown.services.is_empty() => None,
        Some(shown) => Some(format!("{kind} {name} is mounted by {}", listed(&shown.services))),
    };
    names.iter().filter_map(obstacle).collect()
}

fn listed(services: &[ServiceName]) -> String {
    services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ")
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
    let shown = match (file, kind) {
        ("-", _) => "standard input",
        // It may be the secret itself, which belongs in no log.
        (_, ContentKind::Secret) => "the file",
        (path, ContentKind::Config) => path,
    };
    read.map_err(|error| {
        Failure::new(format!(
            "{shown} cannot be read: {error}. The argument after the name is the path of a file that has the \
             content; without one it is read from standard input"
        ))
    })?;
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
    let services = listed(&one.services);
    [
        one.name.to_string(),
        one.version.short().to_owned(),
        bytes(one.bytes),
        span((now - one.created).0),
        services,
        one.reason.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_may_be_the_secret_and_is_not_repeated() {
        let said = content(ContentKind::Secret, "sesame").unwrap_err().0;
        assert!(
            said.starts_with("the file cannot be read: ") && said.contains("the path of a file"),
            "{said}"
        );
        assert!(!said.contains("sesame"), "{said}");
        let said = content(ContentKind::Config, "/nowhere/app.conf").unwrap_err().0;
        assert!(said.starts_with("/nowhere/app.conf cannot be read: "), "{said}");
    }

    #[test]
    fn of_several_names_all_that_cannot_be_removed_are_told() {
        let name = |name: &str| ContentName::parse(name).unwrap();
        let shown = |name: &str, services: &[&str]| {
            let version = "0a".repeat(16);
            let shown =
                json!({"name": name, "version": version, "bytes": 1, "created": 0, "services": services});
            serde_json::from_value::<Shown>(shown).unwrap()
        };
        let all = [shown("free", &[]), shown("used", &["web", "api"])];
        let wrong = obstacles(ContentKind::Secret, &["free", "used", "none"].map(name), &all);
        assert_eq!(wrong, ["secret used is mounted by web, api", "there is no secret none"]);
    }
}
