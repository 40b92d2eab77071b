//! The master's configuration: its keys, and what they mean to it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use shef_common::{
    config::{ConfigError, Effective, Key, Kind, Layers, Preset, Program, Secret, Value, load},
    logging,
    spec::MAX_HISTORY,
};

/// The port of the API, as docker-shef's.
pub const DEFAULT_PORT: u16 = 8044;

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
    pub store: StoreConfig,
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
    /// How long a flapping host has to be up before it takes replicas, in milliseconds.
    pub flap_hold_ms: u64,
    /// How many earlier generations of a service are kept to go back to.
    pub history_limit: u32,
    /// How long a push to an agent may take, in milliseconds.
    pub push_timeout_ms: u64,
    /// How long a write request waits for the store, in milliseconds.
    pub store_timeout_ms: u64,
    /// How many requests may wait at once; more are answered 503.
    pub max_waiting_requests: u32,
    /// How many answers may be open that go on (logs, events, commands); more are answered 503.
    pub max_streams: u32,
    /// The most bytes of a request's body.
    pub max_body_bytes: u64,
    /// Threads that serve HTTP.
    pub http_workers: u32,
}

/// Which store.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// One file under the data directory.
    Embedded,
    /// A Redis server.
    Redis(RedisConfig),
}

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://HOST:PORT[/DATABASE]`, or `rediss://` for TLS; holds no credentials.
    pub url: String,
    /// The user, for servers with access lists.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The database, over the URL's.
    pub database: Option<u32>,
    /// With `rediss://`: a PEM file of the authorities to trust instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// What every key in Redis starts with.
    pub prefix: String,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long a command may take, in milliseconds.
    pub command_timeout_ms: u64,
}

const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, unit: "ms" }
}

const KEYS: &[Key] = &[
    Key {
        name: "host_ip",
        kind: Kind::Ipv4,
        default: "",
        env: &["SHEF_HOST_IP", "HOST_IP"],
        doc: "The IPv4 address by which other hosts reach this one. `shef master` does not start without it.",
    },
    Key {
        name: "listen",
        kind: Kind::Listen,
        default: ":8044",
        env: &[],
        doc: "Where the API listens; without an address, on host_ip. The variable PORT changes the port alone.",
    },
    Key {
        name: "data_dir",
        kind: Kind::Path,
        default: "/var/lib/shef/master",
        env: &[],
        doc: "Where the embedded store keeps its file.",
    },
    Key {
        name: "secret_key_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "The file with the key (32 bytes) that registry credentials are encrypted with; made where there is none.\n\
              Empty: secret.key in data_dir. Keep a copy of it: it is not in backups.",
    },
    Key {
        name: "report_interval_ms",
        kind: milliseconds(100, 10_000),
        default: "500",
        env: &[],
        doc: "How often an agent reports when nothing changes; changes are reported at once.",
    },
    Key {
        name: "suspect_after_ms",
        kind: milliseconds(200, 600_000),
        default: "1200",
        env: &[],
        doc: "How long a host may be silent before it is suspect: nothing new is placed there, and it is probed, by the master and\n\
              through other agents. At least twice report_interval_ms; grows with the interval when many hosts make that longer.",
    },
    Key {
        name: "probe_window_ms",
        kind: milliseconds(200, 600_000),
        default: "850",
        env: &[],
        doc: "How long every probe of a suspect host has to bring nothing before it is down and its replicas are placed anew;\n\
              four times the round trip that the host has reported comes on top.",
    },
    Key {
        name: "brake_share_percent",
        kind: Kind::Integer { min: 1, max: 100, unit: "percent" },
        default: "33",
        env: &[],
        doc: "When more than this share of the hosts, and at least three, go down together, their replicas are not replaced:\n\
              the fault is probably in the network or in the master. 100 turns the brake off.",
    },
    Key {
        name: "brake_release_after_ms",
        kind: milliseconds(1_000, 86_400_000),
        default: "300000",
        env: &[],
        doc: "After how long they are replaced all the same; hosts that return or POST /v1/cluster/resume end it earlier.",
    },
    Key {
        name: "flap_hold_ms",
        kind: milliseconds(1_000, 86_400_000),
        default: "300000",
        env: &[],
        doc: "How long a host that went down three times within ten minutes has to be up before it takes new replicas.",
    },
    Key {
        name: "history_limit",
        kind: Kind::Integer { min: 0, max: MAX_HISTORY as u64, unit: "generations" },
        default: "10",
        env: &[],
        doc: "How many earlier generations of a service are kept to go back to.",
    },
    Key {
        name: "push_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "5000",
        env: &[],
        doc: "How long one push of assignments to an agent may take.",
    },
    Key {
        name: "store_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "5000",
        env: &[],
        doc: "How long a request that writes waits for the store before it is answered 503.",
    },
    Key {
        name: "max_waiting_requests",
        kind: Kind::Integer { min: 1, max: 100_000, unit: "requests" },
        default: "1024",
        env: &[],
        doc: "How many requests may wait for their outcome at once; more are answered 503.",
    },
    Key {
        name: "max_streams",
        kind: Kind::Integer { min: 1, max: 10_000, unit: "streams" },
        default: "256",
        env: &[],
        doc: "How many logs, event streams and commands may be followed at once; more are answered 503.",
    },
    Key {
        name: "max_body_bytes",
        kind: Kind::Integer { min: 1_024, max: 16_777_216, unit: "bytes" },
        default: "262144",
        env: &[],
        doc: "The largest body of a request; larger ones are answered 413.",
    },
    Key {
        name: "http_workers",
        kind: Kind::Integer { min: 1, max: 64, unit: "threads" },
        default: "2",
        env: &[],
        doc: "Threads that serve HTTP.",
    },
    logging::KEYS[0],
    logging::KEYS[1],
    logging::KEYS[2],
    Key {
        name: "redis.url",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The Redis that keeps the state, as redis://HOST:PORT/DATABASE, or rediss:// for TLS. Empty: the embedded store.\n\
              The variables REDIS_HOST and REDIS_PORT (6379) make such a URL too. Credentials in it are taken out and never printed.",
    },
    Key { name: "redis.username", kind: Kind::Text, default: "", env: &[], doc: "The user, for a Redis with access lists." },
    Key { name: "redis.password", kind: Kind::Secret, default: "", env: &[], doc: "The password." },
    Key {
        name: "redis.password_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "A file that holds the password, such as /run/secrets/redis; instead of redis.password.",
    },
    Key {
        name: "redis.database",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The number of the database, 0 to 65535. Empty: the URL's, else 0.",
    },
    Key {
        name: "redis.tls_ca_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "With rediss://: a PEM file of the authorities to trust instead of the system's.",
    },
    Key { name: "redis.prefix", kind: Kind::Text, default: "shef", env: &[], doc: "What every key in Redis starts with." },
    Key {
        name: "redis.connect_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "2000",
        env: &[],
        doc: "How long connecting to Redis may take.",
    },
    Key {
        name: "redis.command_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "3000",
        env: &[],
        doc: "How long one command to Redis may take.",
    },
];

/// The master's keys.
pub static PROGRAM: Program = Program { name: "master", keys: KEYS, derived_env };

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
    if let Some(password) =
        password.filter(|_| ["redis.password", "redis.password_file"].iter().all(|key| effective.text(key).is_empty()))
    {
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
        let config = Self {
            listen: effective.listen("listen", host_ip),
            host_ip,
            data_dir: effective.path("data_dir"),
            secret_key_file: effective
                .non_empty("secret_key_file")
                .map_or_else(|| effective.path("data_dir").join("secret.key"), PathBuf::from),
            store,
            report_interval_ms: effective.integer("report_interval_ms"),
            suspect_after_ms: effective.integer("suspect_after_ms"),
            probe_window_ms: effective.integer("probe_window_ms"),
            brake_share_percent: effective.integer_u32("brake_share_percent"),
            brake_release_after_ms: effective.integer("brake_release_after_ms"),
            flap_hold_ms: effective.integer("flap_hold_ms"),
            history_limit: effective.integer_u32("history_limit"),
            push_timeout_ms: effective.integer("push_timeout_ms"),
            store_timeout_ms: effective.integer("store_timeout_ms"),
            max_waiting_requests: effective.integer_u32("max_waiting_requests"),
            max_streams: effective.integer_u32("max_streams"),
            max_body_bytes: effective.integer("max_body_bytes"),
            http_workers: effective.integer_u32("http_workers"),
        };
        if config.suspect_after_ms < 2 * config.report_interval_ms {
            let rule = format!("at least twice report_interval_ms ({})", config.report_interval_ms);
            return Err(effective.refuse("suspect_after_ms", rule));
        }
        Ok(config)
    }
}

fn store(effective: &Effective) -> Result<StoreConfig, ConfigError> {
    let url = effective.text("redis.url").to_owned();
    if url.is_empty() {
        return Ok(StoreConfig::Embedded);
    }
    let address = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"));
    if !address.is_some_and(|address| !address.is_empty() && !address.starts_with(['/', ':'])) {
        return Err(effective.refuse("redis.url", "redis://HOST:PORT or rediss://HOST:PORT"));
    }
    let own = effective.secret("redis.password");
    let from_file = effective.non_empty("redis.password_file").map(|path| read_secret(&path)).transpose()?;
    if own.is_some() && from_file.is_some() {
        return Err(ConfigError::Conflict { one: "redis.password".into(), other: "redis.password_file".into() });
    }
    let database = match effective.text("redis.database") {
        "" => None,
        text => {
            Some(text.parse::<u16>().map_err(|_| effective.refuse("redis.database", "empty or a whole number from 0 to 65535"))?)
        }
    };
    Ok(StoreConfig::Redis(RedisConfig {
        url,
        username: effective.non_empty("redis.username"),
        password: own.or(from_file),
        database: database.map(u32::from),
        tls_ca_file: effective.non_empty("redis.tls_ca_file").map(PathBuf::from),
        prefix: effective.text("redis.prefix").to_owned(),
        connect_timeout_ms: effective.integer("redis.connect_timeout_ms"),
        command_timeout_ms: effective.integer("redis.command_timeout_ms"),
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
    let Some(at) = rest[..end].rfind('@').or_else(|| rest.rfind('@')) else { return (url.to_owned(), None, None) };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    let some = |text: &str| Some(percent_decoded(text)).filter(|text| !text.is_empty());
    (format!("{scheme}://{}", &rest[at + 1..]), some(user), some(password).map(Secret::new))
}

/// `%40` and the like as the characters they stand for.
fn percent_decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code =
            (bytes[at] == b'%').then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok())).flatten();
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[(&str, &str)]) -> Result<(MasterConfig, Effective), ConfigError> {
        let mut layers = Layers { presets: vec![Preset::new("host_ip", "127.0.0.1", "test")], ..Layers::default() };
        layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        MasterConfig::load(&layers, &[])
    }

    fn redis(env: &[(&str, &str)]) -> RedisConfig {
        match with(env).unwrap().0.store {
            StoreConfig::Redis(config) => config,
            StoreConfig::Embedded => panic!("not Redis"),
        }
    }

    #[test]
    fn credentials_leave_the_url_and_are_never_printed() {
        let env = [("SHEF_REDIS_URL", "redis://me:p%40ss@db:1/2")];
        let (config, effective) = with(&env).unwrap();
        let found = redis(&env);
        assert_eq!((found.url.as_str(), found.username.as_deref()), ("redis://db:1/2", Some("me")));
        assert_eq!(found.password.as_ref().unwrap().expose(), "p@ss");
        let printed: String = effective.entries().iter().map(|entry| entry.value.shown()).collect();
        assert!(!format!("{config:?}{printed}").contains("p@ss") && !printed.contains("p%40ss"));
        let refused = with(&[("SHEF_REDIS_URL", "http://me:word@db")]).unwrap_err().to_string();
        assert!(!refused.contains("word") && refused.contains("env SHEF_REDIS_URL"), "{refused}");
    }

    #[test]
    fn docker_shefs_variables_are_understood_and_ours_win() {
        assert_eq!(redis(&[("REDIS_HOST", "10.0.0.9")]).url, "redis://10.0.0.9:6379");
        assert_eq!(redis(&[("REDIS_HOST", "10.0.0.9"), ("REDIS_PORT", "7000")]).url, "redis://10.0.0.9:7000");
        assert_eq!(redis(&[("REDIS_HOST", "10.0.0.9"), ("SHEF_REDIS_URL", "redis://b:1")]).url, "redis://b:1");
        assert_eq!(with(&[("PORT", "9000"), ("HOST_IP", "10.0.0.4")]).unwrap().0.listen.to_string(), "10.0.0.4:9000");
        let both = [("PORT", "9000"), ("SHEF_MASTER_LISTEN", "0.0.0.0:1")];
        assert_eq!(with(&both).unwrap().0.listen.to_string(), "0.0.0.0:1");
    }

    #[test]
    fn a_host_without_an_address_does_not_start() {
        let missing = MasterConfig::load(&Layers::default(), &[]).unwrap_err().to_string();
        assert!(missing.starts_with("host_ip is not set: say by which IPv4 address"), "{missing}");
        let wrong = with(&[("HOST_IP", "localhost")]).unwrap_err().to_string();
        assert_eq!(wrong, "host_ip must be a valid IPv4 address such as 10.0.0.5, but env HOST_IP says \"localhost\"");
    }

    #[test]
    fn a_password_comes_from_a_file_or_from_a_key_but_not_from_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from the file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let env = [("REDIS_HOST", "a"), ("SHEF_REDIS_PASSWORD_FILE", path)];
        assert_eq!(redis(&env).password.unwrap().expose(), "from the file");
        let both = [env[0], env[1], ("SHEF_REDIS_PASSWORD", "x")];
        assert!(matches!(with(&both), Err(ConfigError::Conflict { .. })));
        let gone = [env[0], ("SHEF_REDIS_PASSWORD_FILE", "/nowhere/at/all")];
        assert!(matches!(with(&gone), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn a_host_is_not_suspected_between_two_reports() {
        let refused = with(&[("SHEF_MASTER_REPORT_INTERVAL_MS", "3000")]).unwrap_err().to_string();
        assert!(refused.starts_with("suspect_after_ms must be at least twice report_interval_ms (3000)"), "{refused}");
    }
}
