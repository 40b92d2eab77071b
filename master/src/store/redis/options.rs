//! Where the Redis is, and how we speak to it.

use std::{fmt, path::PathBuf};

use deadpool_redis::{
    PoolError,
    redis::{
        AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
        RedisConnectionInfo, TlsCertificates, Value, cmd,
    },
};
use shef_common::clock::DurationMs;
use tokio::{net::lookup_host, time::timeout};

use super::{is_refusal, refused};
use crate::store::OpenError;

/// The Redis, and how to use it.
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
    /// Whether a Redis of another machine may be used without a password.
    pub allow_open: bool,
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
            allow_open: false,
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

impl RedisOptions {
    /// Refuses a Redis of another machine that is used without a password, or that asks for none: everybody
    /// who reaches it may change the store. A name counts as the addresses that it stands for.
    ///
    /// # Errors
    /// [`OpenError::Open`]; [`OpenError::Unreachable`] if the name stands for none now, or nobody answers.
    pub(super) async fn refuse_if_open(&self) -> Result<(), OpenError> {
        let info = self.connection_info()?;
        let store = format!("Redis {}", info.addr());
        let (host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host.as_str(), *port)
            }
            // A socket of this machine, which the system guards.
            ConnectionAddr::Unix(_) => return Ok(()),
            other => {
                return Err(OpenError::Options { why: format!("{other} is no address that shef knows") });
            }
        };
        let found = timeout(self.connect_timeout_ms.into(), lookup_host((host, port))).await;
        let mut found = match found.map_err(std::io::Error::from).flatten() {
            Ok(found) => found,
            Err(error) => return Err(OpenError::Unreachable { store, why: error.to_string() }),
        };
        if found.all(|address| address.ip().to_canonical().is_loopback()) {
            return Ok(());
        }
        let has_password = info.redis_settings().password().is_some_and(|password| !password.is_empty());
        if has_password && !self.lets_anybody_in(&info).await? {
            return Ok(());
        }
        if !self.allow_open {
            return Err(OpenError::Open { store });
        }
        log::warn!(
            store;
            "this Redis asks for no password: whoever reaches it may change what runs on every host"
        );
        Ok(())
    }

    /// Whether the Redis answers a caller without user and password, though it is given one here: its user
    /// `default` takes every password, or needs none.
    async fn lets_anybody_in(&self, info: &ConnectionInfo) -> Result<bool, OpenError> {
        // The process's provider for TLS; the first one installed stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout_ms.into()))
            .set_response_timeout(Some(self.connect_timeout_ms.into()));
        let asked = async {
            let client = Client::open(info.clone().set_redis_settings(RedisConnectionInfo::default()))?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            cmd("PING").query_async::<Value>(&mut connection).await
        };
        match asked.await {
            Ok(_) => Ok(true),
            Err(error) if is_refusal(&error) => Ok(false),
            Err(error) => Err(refused(&format!("Redis {}", info.addr()), &PoolError::Backend(error))),
        }
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
            allow_open,
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
            .field("allow_open", allow_open)
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

    #[tokio::test]
    async fn a_redis_of_another_machine_without_a_password_is_refused_unless_it_is_meant() {
        let judged = async |url: &str, change: fn(&mut RedisOptions)| {
            let mut options = RedisOptions::new(url);
            options.connect_timeout_ms = DurationMs(100);
            change(&mut options);
            options.refuse_if_open().await
        };
        for own in [
            "redis://127.0.0.1:6379",
            "redis://127.9.9.9",
            "redis://[::1]:6379/2",
            "redis://localhost",
            "rediss://localhost",
            "redis://[::ffff:127.0.0.1]",
        ] {
            assert!(judged(own, |_| ()).await.is_ok(), "{own}");
        }
        for open in
            ["redis://10.0.0.9", "rediss://10.0.0.9:1/3", "redis://user@10.0.0.9", "redis://[fd00::1]:1"]
        {
            let refused = judged(open, |_| ()).await.unwrap_err();
            assert!(matches!(refused, OpenError::Open { .. }), "{open}: {refused}");
            for part in ["without a user or password", "redis.password_file", "SHEF_REDIS_ALLOW_OPEN=true"] {
                assert!(refused.to_string().contains(part), "{part}: {refused}");
            }
            let empty = judged(open, |options| options.password = Some(String::new())).await;
            assert!(matches!(empty, Err(OpenError::Open { .. })), "{open}: {empty:?}");
            let asked = judged(open, |options| options.password = Some("p".into())).await;
            assert!(matches!(asked, Err(OpenError::Unreachable { .. })), "it is asked: {open}: {asked:?}");
            judged(open, |options| options.allow_open = true).await.unwrap();
        }
        let asked = judged("redis://:p@10.0.0.9", |_| ()).await;
        assert!(matches!(asked, Err(OpenError::Unreachable { .. })), "{asked:?}");
        let nowhere = judged("redis://no.such.name.invalid", |_| ()).await;
        assert!(matches!(nowhere, Err(OpenError::Unreachable { .. })), "{nowhere:?}");
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
