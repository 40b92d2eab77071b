//! `shef login` and `shef context`: the masters that a user works with.

use std::process::ExitCode;

use serde_json::Value;

use super::on_system;
use crate::{
    Failure, api_address,
    client::Client,
    contexts::{Context, Contexts},
    say,
    table::table,
    transport::{SOCKET, check_token},
    tty::secret_line,
};

/// Arguments of `shef login`.
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
    /// The master's API, such as `http://10.0.0.1:8044`, or `unix:///PATH` of its socket
    #[arg(value_name = "URL", value_parser = api_address::parse)]
    api: String,
    /// A name for this master
    #[arg(long, default_value = "default")]
    name: String,
    /// The token; safer on standard input, as others on this machine may read arguments
    #[arg(long, env = "SHEF_TOKEN", hide_env_values = true)]
    token: Option<String>,
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
        let Self { api, name, token } = self;
        // Calls by the socket need no token.
        let token = match token.filter(|token| !token.is_empty()) {
            Some(token) => Some(token),
            None if api.starts_with(SOCKET) => None,
            None => Some(secret_line("Token: ")?).filter(|token| !token.is_empty()),
        };
        let token = token.map(|token| check_token("the token", &token)).transpose()?;
        let client = Client::with(api.clone(), token.as_deref());
        // It is kept if it is good for anything.
        let _: Value = on_system(client.get("/v1/cluster"))?;
        let mut contexts = Contexts::load()?;
        contexts.contexts.insert(name.clone(), Context { api: api.clone(), token });
        contexts.current = Some(name.clone());
        contexts.save()?;
        say::step(format_args!("{name}: commands go to {api}"));
        Ok(ExitCode::SUCCESS)
    }
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
                say::step(format_args!("{name}: forgotten; its token counts until it is revoked"));
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
