//! Why no master has answered or let the caller in: the address, where it was named, and what to do. Pure.

use std::io::ErrorKind;

use awc::error::{ConnectError, SendRequestError};
use shef_common::{client::not_sent_because, tls::is_of_another_ca};

use super::target::Target;
use crate::api_address::SOCKET;

/// What starts a master, and what names another one.
const OTHERWISE: &str = "`shef up -d` starts a master here, --api URL names another one";

impl Target {
    /// Nothing has answered.
    pub(super) fn no_answer(&self, error: &SendRequestError) -> String {
        let shown = self.shown();
        let failed = match error {
            SendRequestError::Connect(ConnectError::Io(error)) => Some(error),
            _ => None,
        };
        let api = &self.context.api;
        if let (Some(path), Some(error)) = (api.strip_prefix(SOCKET), failed) {
            return self.no_socket(path, error);
        }
        if failed.is_some_and(is_of_another_ca) {
            let ca = self.context.ca.as_deref().unwrap_or_default();
            return format!(
                "{shown} shows a certificate of another CA than {ca} ({}), so it was told nothing. If the CA \
                 was replaced, `shef ca ls` on the master's machine prints the digest of its CA, and `shef \
                 login {api} --ca DIGEST` keeps it",
                self.ca_from
            );
        }
        match (failed.map(std::io::Error::kind), error) {
            (Some(ErrorKind::ConnectionRefused), _) => {
                format!("{shown} does not answer: nothing listens there. {OTHERWISE}")
            }
            (Some(ErrorKind::InvalidData | ErrorKind::UnexpectedEof), _) => {
                let why = not_sent_because(error);
                format!(
                    "{shown} does not speak TLS as a master does: {why}. --api http://… names one without TLS"
                )
            }
            (_, SendRequestError::Connect(ConnectError::Resolver(_) | ConnectError::NoRecords)) => {
                format!("{shown} is not known: its name has no address. --api URL names another master")
            }
            (_, SendRequestError::Connect(ConnectError::Timeout)) => format!(
                "{shown} does not answer: there is no host at this address, or a firewall is in front of it. \
                 {OTHERWISE}"
            ),
            _ => format!("{shown} does not answer: {}. {OTHERWISE}", not_sent_because(error)),
        }
    }

    fn no_socket(&self, path: &str, error: &std::io::Error) -> String {
        let from = &self.api_from;
        match error.kind() {
            ErrorKind::NotFound => {
                format!("there is no socket {path} ({from}), so no master runs with it. {OTHERWISE}")
            }
            ErrorKind::ConnectionRefused => {
                format!("nothing listens at the socket {path} ({from}): its master has stopped. {OTHERWISE}")
            }
            ErrorKind::PermissionDenied => format!(
                "the socket {path} ({from}) does not let this user in, as who may use it is an \
                 administrator: be root (sudo) or a member of its group (docker), or use a token (`shef \
                 login URL`)"
            ),
            _ => format!("the socket {path} ({from}) does not answer: {error}. {OTHERWISE}"),
        }
    }

    /// A master has said, as `detail`, that the call needs a token that counts.
    pub(super) fn not_let_in(&self, detail: &str) -> String {
        let shown = self.shown();
        if self.context.token.is_none() {
            return format!(
                "{shown}: {detail}. Give one by SHEF_TOKEN, or keep it by `shef login URL`; the master's \
                 socket asks for none (root, and the group docker)"
            );
        }
        format!(
            "{shown}: {detail}. The token is that of {}; an administrator makes another one by `shef token \
             create`",
            self.token_from
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::contexts::Context;

    fn target(api: &str) -> Target {
        let context = Context { api: api.to_owned(), token: None, ca: Some("0a".repeat(20)) };
        Target::of(context, "context prod")
    }

    fn failed(error: ErrorKind) -> SendRequestError {
        SendRequestError::Connect(ConnectError::Io(io::Error::from(error)))
    }

    #[test]
    fn every_way_to_reach_nothing_names_the_address_its_source_and_the_remedy() {
        let (socket, url) = ("unix:///run/s", "https://10.0.0.1:8044");
        for (api, error, said) in [
            (socket, failed(ErrorKind::NotFound), "there is no socket /run/s (context prod), so no master"),
            (
                socket,
                failed(ErrorKind::ConnectionRefused),
                "nothing listens at the socket /run/s (context prod)",
            ),
            (socket, failed(ErrorKind::PermissionDenied), "/run/s (context prod) does not let this user in"),
            (
                url,
                failed(ErrorKind::ConnectionRefused),
                "8044 (context prod) does not answer: nothing listens",
            ),
            (url, failed(ErrorKind::InvalidData), "8044 (context prod) does not speak TLS"),
            (url, SendRequestError::Connect(ConnectError::Timeout), "there is no host at this address"),
            (url, SendRequestError::Connect(ConnectError::NoRecords), "its name has no address"),
        ] {
            let told = target(api).no_answer(&error);
            let remedies = ["`shef up -d`", "--api", "sudo"];
            assert!(told.contains(said) && remedies.iter().any(|remedy| told.contains(remedy)), "{told}");
        }
    }

    #[test]
    fn who_is_not_let_in_reads_which_token_it_was_or_how_to_get_one() {
        let none = target("https://h:1").not_let_in("this call needs a token");
        assert!(
            none.starts_with("https://h:1 (context prod): this call needs a token. Give one by"),
            "{none}"
        );
        let mut with = target("https://h:1");
        (with.context.token, with.token_from) = (Some("t".to_owned()), "SHEF_TOKEN".to_owned());
        let told = with.not_let_in("the token ci has expired");
        assert!(told.contains("expired. The token is that of SHEF_TOKEN; an administrator"), "{told}");
    }
}
