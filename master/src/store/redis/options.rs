//! Where the Redis is, and how we speak to it.

use std::{fmt, path::PathBuf};

use deadpool_redis::redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use shef_common::clock::DurationMs;

use crate::store::OpenError;

/// Which Redis, and how to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// `redis://[user[:password]@]host[:port][/database]`; `rediss://` for TLS.
    pub url: String,
    /// Takes precedence over the user in the URL.
    pub username: Option<String>,
    /// Takes precedence over the password in the URL.
    pub password: Option<String>,
    /// Takes precedence over the database in the URL.
    pub database: Option<u32>,
    /// The store is the one key `<prefix>:store`.
    pub prefix: String,
    /// With `rediss://`: a PEM file of the authorities to trust instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// The longest a connection may take to come up, TLS and login included.
    pub connect_timeout_ms: DurationMs,
    /// The longest a command may take; one that takes longer is unconfirmed.
    pub command_timeout_ms: DurationMs,
    /// A connection that was idle for longer is tried with a PING before a write is
    /// sent over it. If the Redis has gone meanwhile, it is certain that nothing happened.
    pub trusted_idle_ms: DurationMs,
}

impl RedisOptions {
    /// The options with everything but the URL at its default: prefix `shef`, 1 s
    /// to connect, 2 s for a command.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            database: None,
            prefix: "shef".into(),
            tls_ca_file: None,
            connect_timeout_ms: DurationMs(1_000),
            command_timeout_ms: DurationMs(2_000),
            trusted_idle_ms: DurationMs(100),
        }
    }

    /// The key under which the store lies.
    pub(super) fn key(&self) -> String {
        format!("{}:store", self.prefix)
    }

    /// The key of the change log.
    pub(super) fn change_log(&self) -> String {
        format!("{}:changes", self.prefix)
    }

    /// What redis needs to connect.
    pub(super) fn connection_info(&self) -> Result<ConnectionInfo, OpenError> {
        let invalid = |why: String| OpenError::Options { why };
        // redis' own message may repeat the URL, and with it the password.
        let info = self.url.as_str().into_connection_info().map_err(|_| {
            invalid(format!("{} is not a redis:// or rediss:// address", redacted(&self.url)))
        })?;
        let mut settings = info.redis_settings().clone();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        if let Some(database) = self.database {
            settings = settings.set_db(i64::from(database));
        }
        let info = info.set_redis_settings(settings);
        let Some(path) = &self.tls_ca_file else { return Ok(info) };
        let root_cert = std::fs::read(path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
        let client = Client::build_with_tls(info, certificates)
            .map_err(|e| invalid(format!("the authorities in {}: {e}", path.display())))?;
        Ok(client.get_connection_info().clone())
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            username,
            password,
            database,
            prefix,
            tls_ca_file,
            connect_timeout_ms,
            command_timeout_ms,
            trusted_idle_ms,
        } = self;
        f.debug_struct("RedisOptions")
            .field("url", &redacted(url))
            .field("username", username)
            .field("password", &password.as_ref().map(|_| "<hidden>"))
            .field("database", database)
            .field("prefix", prefix)
            .field("tls_ca_file", tls_ca_file)
            .field("connect_timeout_ms", &connect_timeout_ms.0)
            .field("command_timeout_ms", &command_timeout_ms.0)
            .field("trusted_idle_ms", &trusted_idle_ms.0)
            .finish()
    }
}

/// A URL without the user and password that may stand in it.
pub(super) fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    // A query may carry the password too.
    let address = address.split(['?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { address.to_owned() } else { format!("{scheme}://{address}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_the_password_is_shown() {
        let mut options = RedisOptions::new("redis://user:geheim@127.0.0.1:6379/3?password=geheim");
        options.password = Some("geheim".into());
        let shown = format!("{options:?}");
        assert!(!shown.contains("geheim"), "{shown}");
        assert!(shown.contains("redis://127.0.0.1:6379/3"), "{shown}");
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_its_password() {
        let error = RedisOptions::new("http://u:geheim@h").connection_info().unwrap_err().to_string();
        assert!(error.contains("http://h") && !error.contains("geheim"), "{error}");
    }

    #[test]
    fn explicit_options_win_over_the_url() {
        let mut options = RedisOptions::new("redis://a:b@127.0.0.1/1");
        (options.username, options.password, options.database) =
            (Some("c".into()), Some("d".into()), Some(2));
        let info = options.connection_info().unwrap();
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("c"), Some("d"), 2));
    }
}
