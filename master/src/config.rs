//! The master's configuration: its keys, and what they mean to it.

mod keys;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use shef_common::{
    browser_guard::{self, KnownNames, NotAHostName},
    clock::DurationMs,
    config::{ConfigError, Effective, Layers, Preset, Program, Secret, Value, load},
    tls::TlsMode,
};

use crate::{
    identity::GivenFiles,
    store::{RedisOptions, StoreOptions},
};

/// The port of the API, as docker-shef's.
pub const DEFAULT_PORT: u16 = 8044;
/// Where a master of root keeps its files.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/shef/master";

/// Everything the master is told when it starts.
#[derive(Debug, Clone)]
pub struct MasterConfig {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// The address by which other hosts reach this one.
    pub host_ip: Ipv4Addr,
    /// Where the embedded store keeps its file.
    pub data_dir: PathBuf,
    /// The file with the key that credentials are encrypted with.
    pub secret_key_file: PathBuf,
    /// Where the acknowledged is kept.
    pub store: StoreOptions,
    /// How often agents report when nothing changes, in milliseconds.
    pub report_interval_ms: u64,
    /// How long a host may be silent before it is suspect, in milliseconds.
    pub suspect_after_ms: u64,
    /// How long a suspect is probed before it is down, in milliseconds.
    pub probe_window_ms: u64,
    /// The share of the hosts that, down together, stops replacement, in percent.
    pub brake_share_percent: u32,
    /// When replacement goes on by itself, in milliseconds.
    pub brake_release_after_ms: u64,
    /// How long agent and published ports of a host that is there may be silent before it is down, in
    /// milliseconds; 0: for ever.
    pub unanswered_down_after_ms: u64,
    /// How long a flapping host has to be up before it takes replicas, in milliseconds.
    pub flap_hold_ms: u64,
    /// How many earlier generations of a service are kept to go back to.
    pub history_limit: u32,
    /// How many replicas one host may have, of all services.
    pub max_replicas_per_host: u32,
    /// How long a push to an agent may take, in milliseconds.
    pub push_timeout_ms: u64,
    /// How long a write request waits for the store, in milliseconds.
    pub store_timeout_ms: u64,
    /// How many requests may wait at once; more are answered 503.
    pub max_waiting_requests: u32,
    /// How many answers may be open that go on (logs, events, commands); more are answered 503.
    pub max_streams: u32,
    /// How many requests a second the holder of one token may make; more are answered 429.
    pub token_requests_per_second: u32,
    /// How many lines of the audit log a minute the holder of one token may have; more changes are answered
    /// 429.
    pub token_changes_per_minute: u32,
    /// The most bytes of a request's body.
    pub max_body_bytes: u64,
    /// The names by which web pages and readers may name this master.
    pub api_names: KnownNames,
    /// What the API shows to callers that ask for a name of the operator's; `None`: the cluster's own.
    pub api_certificate: Option<GivenFiles>,
    /// Whether an audit log is written.
    pub audit: bool,
    /// How many bytes a file of the audit log has at most.
    pub audit_file_bytes: u64,
    /// How many files of the audit log are kept in any case, besides the one that is written.
    pub audit_files: u64,
    /// For how many days further files are kept.
    pub audit_days: u64,
    /// How many bytes all files have at most, if they are more than those that are kept in any case.
    pub audit_max_bytes: u64,
    /// Whether the API serves callers without a token.
    pub insecure: bool,
    /// How masters and agents speak with each other; `None`: by what the store holds.
    pub tls: Option<TlsMode>,
    /// The API's socket, whose users are administrators; `None`: no socket.
    pub api_socket: Option<PathBuf>,
    /// The directory of `shef up` around `data_dir`, which is shef's own as well.
    pub up_dir: Option<PathBuf>,
    /// Threads that serve HTTP.
    pub http_workers: u32,
}

/// The master's keys.
pub static PROGRAM: Program = Program { name: "master", keys: keys::KEYS, derived_env };

/// docker-shef's own variables, where they are not one key's value.
fn derived_env(env: &BTreeMap<String, String>) -> Vec<Preset> {
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let mut found = Vec::new();
    if let Some(port) = given("PORT") {
        found.push(Preset::new("listen", format!(":{port}"), "PORT"));
    }
    if let Some(host) = given("REDIS_HOST") {
        let port = given("REDIS_PORT").map_or("6379", String::as_str);
        found.push(Preset::new("redis.url", format!("redis://{host}:{port}"), "REDIS_HOST"));
    }
    found
}

/// Merges the layers and checks each key by itself. `others` are the programs
/// whose environment variables are known but not the master's. Credentials in
/// the URL of Redis have moved to their own keys.
///
/// # Errors
/// [`ConfigError`] names the key, the value and where it came from.
pub fn effective(layers: &Layers, others: &[&Program]) -> Result<Effective, ConfigError> {
    let mut effective = load(&PROGRAM, others, layers)?;
    let (url, user, password) = without_credentials(effective.text("redis.url"));
    let origin = effective.entry("redis.url").origin.clone();
    effective.set("redis.url", Value::Text(url), origin.clone());
    if let Some(user) = user.filter(|_| effective.text("redis.username").is_empty()) {
        effective.set("redis.username", Value::Text(user), origin.clone());
    }
    if let Some(password) = password.filter(|_| {
        ["redis.password", "redis.password_file"].iter().all(|key| effective.text(key).is_empty())
    }) {
        effective.set("redis.password", Value::Secret(password), origin);
    }
    Ok(effective)
}

impl MasterConfig {
    /// [`effective`] and [`MasterConfig::from_effective`] in one.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, the value and where it came from.
    pub fn load(layers: &Layers, others: &[&Program]) -> Result<(Self, Effective), ConfigError> {
        let effective = effective(layers, others)?;
        Ok((Self::from_effective(&effective)?, effective))
    }

    /// Gives the keys their meaning, and checks those that depend on each other.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, the value and where it came from.
    pub fn from_effective(effective: &Effective) -> Result<Self, ConfigError> {
        let store = store(effective)?;
        let host_ip = effective.host_ip("host_ip")?;
        let data_dir = effective.path("data_dir");
        let config = Self {
            listen: effective.listen("listen", host_ip),
            host_ip,
            data_dir: data_dir.clone(),
            secret_key_file: effective
                .non_empty("secret_key_file")
                .map_or_else(|| data_dir.join("secret.key"), PathBuf::from),
            store,
            report_interval_ms: effective.integer("report_interval_ms"),
            suspect_after_ms: effective.integer("suspect_after_ms"),
            probe_window_ms: effective.integer("probe_window_ms"),
            brake_share_percent: effective.integer_u32("brake_share_percent"),
            brake_release_after_ms: effective.integer("brake_release_after_ms"),
            unanswered_down_after_ms: effective.integer("unanswered_down_after_ms"),
            flap_hold_ms: effective.integer("flap_hold_ms"),
            history_limit: effective.integer_u32("history_limit"),
            max_replicas_per_host: effective.integer_u32("max_replicas_per_host"),
            push_timeout_ms: effective.integer("push_timeout_ms"),
            store_timeout_ms: effective.integer("store_timeout_ms"),
            max_waiting_requests: effective.integer_u32("max_waiting_requests"),
            max_streams: effective.integer_u32("max_streams"),
            token_requests_per_second: effective.integer_u32("token_requests_per_second"),
            token_changes_per_minute: effective.integer_u32("token_changes_per_minute"),
            max_body_bytes: effective.integer("max_body_bytes"),
            api_names: KnownNames::parse(effective.text(browser_guard::KEY)).map_err(
                |NotAHostName(name)| {
                    effective.refuse(
                        browser_guard::KEY,
                        format!("host names separated by commas, and {name:?} is none"),
                    )
                },
            )?,
            api_certificate: given_files(effective)?,
            audit: effective.switch("audit"),
            audit_file_bytes: effective.integer("audit_file_bytes"),
            audit_files: effective.integer("audit_files"),
            audit_days: effective.integer("audit_days"),
            audit_max_bytes: effective.integer("audit_max_bytes"),
            insecure: effective.switch("insecure"),
            tls: effective.text("tls").parse().ok(),
            api_socket: match effective.text("api_socket") {
                "" => Some(data_dir.join("shef.sock")),
                "none" => None,
                path => Some(path.into()),
            },
            up_dir: None,
            http_workers: effective.integer_u32("http_workers"),
        };
        if config.suspect_after_ms < 2 * config.report_interval_ms {
            let rule = format!("at least twice report_interval_ms ({})", config.report_interval_ms);
            return Err(effective.refuse("suspect_after_ms", rule));
        }
        Ok(config)
    }
}

fn given_files(effective: &Effective) -> Result<Option<GivenFiles>, ConfigError> {
    let [certificate, key] = ["api_certificate", "api_certificate_key"];
    match (effective.non_empty(certificate), effective.non_empty(key)) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(GivenFiles { certificate: certificate.into(), key: key.into() }))
        }
        (Some(_), None) => Err(effective.refuse(key, format!("set where {certificate} is"))),
        (None, Some(_)) => Err(effective.refuse(certificate, format!("set where {key} is"))),
    }
}

fn store(effective: &Effective) -> Result<StoreOptions, ConfigError> {
    let url = effective.text("redis.url").to_owned();
    if url.is_empty() {
        return Ok(StoreOptions::Embedded { path: effective.path("data_dir") });
    }
    let address = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"));
    if !address.is_some_and(|address| !address.is_empty() && !address.starts_with(['/', ':'])) {
        return Err(effective.refuse("redis.url", "redis://HOST:PORT or rediss://HOST:PORT"));
    }
    let own = effective.secret("redis.password");
    let from_file = effective.non_empty("redis.password_file").map(|path| read_secret(&path)).transpose()?;
    if own.is_some() && from_file.is_some() {
        return Err(ConfigError::Conflict {
            one: "redis.password".into(),
            other: "redis.password_file".into(),
        });
    }
    let database = match effective.text("redis.database") {
        "" => None,
        text => Some(
            text.parse::<u16>()
                .map_err(|_| effective.refuse("redis.database", "empty or a whole number from 0 to 65535"))?,
        ),
    };
    Ok(StoreOptions::Redis(RedisOptions {
        username: effective.non_empty("redis.username"),
        password: own.or(from_file).map(|secret| secret.expose().to_owned()),
        database: database.map(u32::from),
        tls_ca_file: effective.non_empty("redis.tls_ca_file").map(PathBuf::from),
        allow_open: effective.switch("redis.allow_open"),
        prefix: effective.text("redis.prefix").to_owned(),
        connect_timeout_ms: DurationMs(effective.integer("redis.connect_timeout_ms")),
        command_timeout_ms: DurationMs(effective.integer("redis.command_timeout_ms")),
        ..RedisOptions::new(url)
    }))
}

fn read_secret(path: &str) -> Result<Secret, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(error) => Err(ConfigError::Unreadable { path: path.into(), why: error.to_string() }),
    }
}

/// Takes `user:password@` out of a URL, so that the URL may be printed.
fn without_credentials(url: &str) -> (String, Option<String>, Option<Secret>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None, None) };
    let end = rest.find('/').unwrap_or(rest.len());
    // A password may hold a slash that should have been encoded: the last '@' ends it.
    let Some(at) = rest[..end].rfind('@').or_else(|| rest.rfind('@')) else {
        return (url.to_owned(), None, None);
    };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    let some = |text: &str| Some(percent_decoded(text)).filter(|text| !text.is_empty());
    (format!("{scheme}://{}", &rest[at + 1..]), some(user), some(password).map(Secret::new))
}

/// `%40` and the like as the characters they stand for.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[(&str, &str)]) -> Result<(MasterConfig, Effective), ConfigError> {
        let mut layers =
            Layers { presets: vec![Preset::new("host_ip", "127.0.0.1", "test")], ..Layers::default() };
        layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        MasterConfig::load(&layers, &[])
    }

    fn redis(env: &[(&str, &str)]) -> RedisOptions {
        match with(env).unwrap().0.store {
            StoreOptions::Redis(options) => options,
            StoreOptions::Embedded { .. } => panic!("not Redis"),
        }
    }

    #[test]
    fn credentials_leave_the_url_and_are_never_printed() {
        let env = [("SHEF_REDIS_URL", "redis://me:p%40ss@db:1/2")];
        let (config, effective) = with(&env).unwrap();
        let found = redis(&env);
        assert_eq!((found.url.as_str(), found.username.as_deref()), ("redis://db:1/2", Some("me")));
        assert_eq!(found.password.as_deref(), Some("p@ss"));
        let printed: String = effective.entries().iter().map(|entry| entry.value.shown()).collect();
        assert!(!format!("{config:?}{printed}").contains("p@ss") && !printed.contains("p%40ss"));
        let refused = with(&[("SHEF_REDIS_URL", "http://me:word@db")]).unwrap_err().to_string();
        assert!(!refused.contains("word") && refused.contains("env SHEF_REDIS_URL"), "{refused}");
    }

    #[test]
    fn docker_shefs_variables_are_understood_and_ours_win() {
        assert_eq!(redis(&[("REDIS_HOST", "10.0.0.9")]).url, "redis://10.0.0.9:6379");
        assert_eq!(redis(&[("REDIS_HOST", "10.0.0.9"), ("REDIS_PORT", "7000")]).url, "redis://10.0.0.9:7000");
        assert_eq!(
            redis(&[("REDIS_HOST", "10.0.0.9"), ("SHEF_REDIS_URL", "redis://b:1")]).url,
            "redis://b:1"
        );
        assert_eq!(
            with(&[("PORT", "9000"), ("HOST_IP", "10.0.0.4")]).unwrap().0.listen.to_string(),
            "10.0.0.4:9000"
        );
        let both = [("PORT", "9000"), ("SHEF_MASTER_LISTEN", "0.0.0.0:1")];
        assert_eq!(with(&both).unwrap().0.listen.to_string(), "0.0.0.0:1");
    }

    #[test]
    fn a_host_without_an_address_does_not_start() {
        let missing = MasterConfig::load(&Layers::default(), &[]).unwrap_err().to_string();
        assert!(missing.starts_with("host_ip is not set: say by which IPv4 address"), "{missing}");
        let wrong = with(&[("HOST_IP", "localhost")]).unwrap_err().to_string();
        assert_eq!(
            wrong,
            "host_ip must be a valid IPv4 address such as 10.0.0.5, but env HOST_IP says \"localhost\""
        );
    }

    #[test]
    fn a_password_comes_from_a_file_or_from_a_key_but_not_from_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from the file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let env = [("REDIS_HOST", "a"), ("SHEF_REDIS_PASSWORD_FILE", path)];
        assert_eq!(redis(&env).password.as_deref(), Some("from the file"));
        let both = [env[0], env[1], ("SHEF_REDIS_PASSWORD", "x")];
        assert!(matches!(with(&both), Err(ConfigError::Conflict { .. })));
        let gone = [env[0], ("SHEF_REDIS_PASSWORD_FILE", "/nowhere/at/all")];
        assert!(matches!(with(&gone), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn a_host_is_not_suspected_between_two_reports() {
        let refused = with(&[("SHEF_MASTER_REPORT_INTERVAL_MS", "3000")]).unwrap_err().to_string();
        assert!(
            refused.starts_with("suspect_after_ms must be at least twice report_interval_ms (3000)"),
            "{refused}"
        );
    }
}
