//! `shef login` and `shef context`: the masters that a user works with.

use std::process::ExitCode;

use awc::http::Method;
use serde_json::Value;

use super::on_system;
use crate::{
    Failure,
    api_address::{self, SOCKET},
    client::{ApiArgs, Client, Target},
    contexts::{Context, Contexts},
    say,
    table::table,
    transport::{check_ca, check_token},
    tty::secret_line,
};

/// Arguments of `shef login`.
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
    /// The master's API, such as `https://10.0.0.1:8044`, or `unix:///PATH` of its socket. Without `https://`
    /// or `http://` it is https, except of this machine's own address without `--ca`
    #[arg(value_name = "URL", required_unless_present = "web")]
    url: Option<String>,
    /// Print a link by which a browser logs in, with the rights of this command, once and within ten minutes
    #[arg(long, conflicts_with = "url")]
    web: bool,
    /// The digest of the cluster's CA, by which the master is known over https
    #[arg(long, value_name = "DIGEST", env = "SHEF_CA")]
    ca: Option<String>,
    /// A name for this master
    #[arg(long, default_value = "default")]
    name: String,
    /// The token; safer on standard input, as others on this machine may read arguments
    #[arg(long, env = "SHEF_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    from: ApiArgs,
}

/// Arguments of `shef context`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the contexts, without tokens
    Ls,
    /// Chooses another context for commands
    Use {
        /// Its name
        name: String,
    },
    /// Forgets a context and its token
    Rm {
        /// Its name
        name: String,
    },
}

impl LoginArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Self { url, web, ca, name, token, from } = self;
        let Some(url) = url.filter(|_| !web) else { return web_link(&from) };
        let ca = ca.filter(|ca| !ca.is_empty());
        let api = if ca.is_some() { api_address::parse_with_ca(&url) } else { api_address::parse(&url) };
        let api = api.map_err(|error| Failure::new(format!("shef login {url}: {error}")))?;
        // Calls by the socket need no token.
        let token = match token.filter(|token| !token.is_empty()) {
            Some(token) => Some(token),
            None if api.starts_with(SOCKET) => None,
            None => Some(secret_line("Token: ")?).filter(|token| !token.is_empty()),
        };
        let token = token.map(|token| check_token("the token", &token)).transpose()?;
        let mut context = Context { api: api.clone(), token, ca };
        check_ca(&context)?;
        // It is kept if it is good for anything.
        let client = Client::of(Target::of(context.clone(), "shef login"));
        let _: Value = on_system(client.get("/v1/cluster"))?;
        context.ca = client.successor().or(context.ca);
        let mut contexts = Contexts::load()?;
        contexts.contexts.insert(name.clone(), context);
        contexts.current = Some(name.clone());
        contexts.save()?;
        say::step(format_args!("{name}: commands go to {api}"));
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a link for a browser. Asked by its socket, the master says where it listens.
fn web_link(from: &ApiArgs) -> Result<ExitCode, Failure> {
    let (client, api) = (from.client()?, from.address()?);
    let link: Value = on_system(client.send(Method::POST, "/v1/login-links", None))?;
    let text = |key: &str| link[key].as_str().unwrap_or_default().to_owned();
    let base = if api.starts_with(SOCKET) { text("url") } else { api };
    say::line(format_args!("{base}{}", text("path")));
    Ok(ExitCode::SUCCESS)
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut contexts = Contexts::load()?;
        match self.verb {
            Verb::Ls => ls(&contexts),
            Verb::Use { name } => {
                let api = contexts.get(&name)?.api.clone();
                contexts.current = Some(name.clone());
                contexts.save()?;
                say::step(format_args!("{name}: commands go to {api}"));
            }
            Verb::Rm { name } => {
                contexts.get(&name)?;
                contexts.contexts.remove(&name);
                contexts.current.take_if(|current| *current == name);
                contexts.save()?;
                say::step(format_args!("{name}: removed; its token stays valid until it is revoked"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn ls(contexts: &Contexts) {
    let row = |(name, context): (&String, &Context)| {
        let is_current = contexts.current.as_ref() == Some(name);
        let mark = if is_current { "*" } else { "" };
        let token = if context.token.is_some() { "yes" } else { "no" };
        [mark.to_owned(), name.clone(), context.api.clone(), token.to_owned()]
    };
    let rows: Vec<_> = contexts.contexts.iter().map(row).collect();
    table(["", "CONTEXT", "API", "TOKEN"], &rows).iter().for_each(say::line);
}
