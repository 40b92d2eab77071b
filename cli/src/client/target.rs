//! The master that a command goes to, and where each part of that was said.

use std::collections::BTreeMap;

use super::Client;
use crate::{
    Failure,
    api_address::{self, InvalidAddress},
    contexts::{Context, Contexts},
    transport::{self, OwnSocket},
};

/// Where the API is, as an argument.
#[derive(Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// The master's API, or `unix:///PATH` of its socket [default: `SHEF_API`, else that of `shef login`,
    /// else the socket of this machine's master, else `HOST_IP` with `PORT`, else 127.0.0.1:8044]. A token is
    /// taken from `SHEF_TOKEN` or the file `SHEF_TOKEN_FILE` (and sent to no master that nothing of these
    /// names), the digest of the CA for https from `SHEF_CA`
    #[arg(long, value_name = "URL", global = true, value_parser = api_address::parse)]
    api: Option<String>,
}

/// A master, and where its user named it, its CA and the token.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// The master.
    pub(crate) context: Context,
    /// As in `--api` or `the context prod`.
    pub(crate) api_from: String,
    /// The same of the digest of the CA.
    pub(crate) ca_from: String,
    /// The same of the token.
    pub(crate) token_from: String,
    /// Whether nobody has named it: what listens there may be anybody's program.
    pub(crate) is_guessed: bool,
}

impl Target {
    /// All of it was named in one place.
    pub(crate) fn of(context: Context, from: &str) -> Self {
        let [api_from, ca_from, token_from] = [(); 3].map(|()| from.to_owned());
        Self { context, api_from, ca_from, token_from, is_guessed: false }
    }

    /// A token of the environment is meant for one master, and goes to no address that was only guessed.
    fn check_named(&self, token_from: &str) -> Result<(), Failure> {
        let api = &self.context.api;
        if !self.is_guessed {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{token_from} is set, and nothing names the master that it is for: any program may listen at {}; \
             if your master does, say --api {api} (or SHEF_API={api})",
            self.shown()
        )))
    }

    /// The address, and where it was named.
    pub(super) fn shown(&self) -> String {
        format!("{} ({})", self.context.api, self.api_from)
    }
}

impl ApiArgs {
    /// The API's address, without a slash at its end.
    pub(crate) fn address(&self) -> Result<String, Failure> {
        self.target().map(|target| target.context.api)
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let mut target = self.target()?;
        if let Some(ca) = std::env::var(transport::CA).ok().filter(|ca| !ca.is_empty()) {
            (target.context.ca, target.ca_from) = (Some(ca), transport::CA.to_owned());
        }
        if let Some((token, from)) = transport::token()? {
            target.check_named(&from)?;
            (target.context.token, target.token_from) = (Some(token), from);
        }
        transport::check_ca(&target.context)?;
        Ok(Client::of(target))
    }

    /// A token is shown to the master alone that it was kept for.
    fn target(&self) -> Result<Target, Failure> {
        let env = std::env::vars_os().filter_map(utf8).collect();
        let current = || {
            let contexts = Contexts::load()?;
            let current = contexts.current()?.cloned();
            Ok(current.map(|context| Target::of(context, &format!("context {}", contexts.current_name()))))
        };
        choose(self.api.clone(), &env, current, transport::own_socket)
    }
}

/// The master that a command goes to: the argument wins over `SHEF_API`, that over `shef login`, and that
/// over the socket of this machine. docker-shef's variables, which may be meant for another program, come
/// last.
fn choose(
    argument: Option<String>,
    env: &BTreeMap<String, String>,
    current: impl FnOnce() -> Result<Option<Target>, Failure>,
    socket: impl FnOnce() -> OwnSocket,
) -> Result<Target, Failure> {
    let invalid = |error: InvalidAddress| Failure::new(error.to_string());
    let at = |api, from: &str| Target::of(Context { api, ..Context::default() }, from);
    if let Some(api) = argument {
        return Ok(at(api, "--api"));
    }
    if let Some(api) = api_address::from_own_variable(env).map_err(invalid)? {
        return Ok(at(api, shef_common::config::API_ENV));
    }
    if let Some(current) = current()? {
        return Ok(current);
    }
    let denied = match socket() {
        OwnSocket::Open(path) => {
            let api = format!("{}{}", api_address::SOCKET, path.display());
            return Ok(at(api, "the socket of this machine's master"));
        }
        OwnSocket::Denied(path) => format!(", as the socket {} does not let this user in", path.display()),
        OwnSocket::None => String::new(),
    };
    let (api, from) = api_address::from_host_ip(env).map_err(invalid)?;
    Ok(Target { is_guessed: true, ..at(api, &format!("{from}{denied}")) })
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_where_it_is_told_first_and_no_variable_of_others_leads_it_away() {
        let told = |argument: bool, variable: bool, context: bool, socket: bool, env: &[(&str, &str)]| {
            let mut env: BTreeMap<_, _> =
                env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            env.insert("SHEF_API".to_owned(), if variable { "127.0.0.9" } else { "" }.to_owned());
            let current = Context { api: "context".to_owned(), token: Some("t".to_owned()), ca: None };
            let chosen = choose(
                argument.then(|| "argument".to_owned()),
                &env,
                || Ok(context.then(|| Target::of(current, "context prod"))),
                || if socket { OwnSocket::Open("/s".into()) } else { OwnSocket::None },
            );
            let chosen = chosen.unwrap();
            let is_sent = chosen.check_named("SHEF_TOKEN").is_ok();
            assert_eq!(is_sent, argument || variable || context || socket, "it was only guessed");
            let Target { context: Context { api, token, .. }, api_from, .. } = chosen;
            assert_eq!(token.is_some(), api == "context", "a token goes to its own master alone");
            (api, api_from)
        };
        let said = |api: &str, from: &str| (api.to_owned(), from.to_owned());
        for env in [&[][..], &[("PORT", "3000")], &[("HOST_IP", "192.0.2.1")], &[("PORT", "no port")]] {
            for rest in 0..8_u8 {
                let (variable, context, socket) = (rest & 1 != 0, rest & 2 != 0, rest & 4 != 0);
                assert_eq!(told(true, variable, context, socket, env), said("argument", "--api"));
                let variable = said("http://127.0.0.9:8044", "SHEF_API");
                assert_eq!(told(false, true, context, socket, env), variable);
                assert_eq!(told(false, false, true, socket, env), said("context", "context prod"));
            }
            let socket = said("unix:///s", "the socket of this machine's master");
            assert_eq!(told(false, false, false, true, env), socket);
        }
        let last = |env: &[(&str, &str)]| told(false, false, false, false, env);
        assert_eq!(last(&[]), said("http://127.0.0.1:8044", "the default"));
        let port_alone = last(&[("PORT", "3000")]);
        assert_eq!(port_alone, said("http://127.0.0.1:8044", "the default"), "it is no address");
        let address = last(&[("HOST_IP", "10.0.0.5")]);
        assert_eq!(address, said("http://10.0.0.5:8044", "HOST_IP of the environment"));
        let both = last(&[("HOST_IP", "10.0.0.5"), ("PORT", "81")]);
        assert_eq!(both, said("http://10.0.0.5:81", "HOST_IP and PORT of the environment"));
    }

    #[test]
    fn a_socket_that_lets_the_user_not_in_is_told_where_the_default_comes_instead() {
        let denied = || OwnSocket::Denied("/run/shef/shef.sock".into());
        let target = choose(None, &BTreeMap::new(), || Ok(None), denied).unwrap();
        let expected = "http://127.0.0.1:8044 (the default, as the socket /run/shef/shef.sock does not let \
                        this user in)";
        assert_eq!(target.shown(), expected);
    }
}
