//! The bootstrap's configuration: its keys, and docker-shef's variables.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use shef_common::{
    config::{ConfigError, Effective, Key, Kind, Layers, Program, Secret, load},
    logging,
    tls::JoinToken,
};

/// Everything the bootstrap is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapConfig {
    /// The address by which other hosts reach this one.
    pub host_ip: Ipv4Addr,
    /// Whether this host gets a master (and a store), or the agent alone.
    pub role: Role,
    /// The Redis to use instead of one of our own: host and port.
    pub redis: Option<(String, u16)>,
    /// The port of our own Redis, on loopback.
    pub redis_port: u16,
    /// The master's API port.
    pub api_port: u16,
    /// The image of master and agent; `None`: the one that the bootstrap itself runs from.
    pub image: Option<String>,
    /// The image of our own Redis.
    pub redis_image: String,
    /// The Docker engine, as in `DOCKER_HOST`.
    pub docker_host: String,
    /// The password of a Redis that is not ours.
    pub redis_password: Option<Secret>,
    /// A file that holds it.
    pub redis_password_file: Option<PathBuf>,
    /// What lets this host join the cluster of its masters.
    pub join_token: Option<Secret>,
    /// Variables that are handed on to the master's container.
    pub master_env: BTreeMap<String, String>,
    /// Variables that are handed on to the agent's container.
    pub agent_env: BTreeMap<String, String>,
    /// Whether this host becomes a first host although it belongs to a cluster.
    pub take_over: bool,
    /// How often containers are looked at beside the engine's events, in milliseconds.
    pub reconcile_interval_ms: u64,
}

/// What a host gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Redis, master and agent.
    Master,
    /// The agent alone, which reports to these masters (`HOST` or `HOST:PORT`, separated by commas).
    Agent {
        /// As in `MASTER_HOST`.
        masters: String,
    },
}

const KEYS: &[Key] = &[
    Key {
        name: "host_ip",
        kind: Kind::Ipv4,
        default: "",
        env: &["SHEF_HOST_IP", "HOST_IP"],
        doc: "The IPv4 address by which other hosts reach this one. `shef bootstrap` does not start \
              without it.",
    },
    Key {
        name: "slave",
        kind: Kind::Choice(&["false", "true"]),
        default: "false",
        env: &["SLAVE"],
        doc: "\"true\" on every host but the first: only an agent is started. It needs master_host.",
    },
    Key {
        name: "master_host",
        kind: Kind::Text,
        default: "",
        env: &["MASTER_HOST"],
        doc: "The master's host, as HOST or HOST:PORT; several are separated by commas. Empty: this host.",
    },
    Key {
        name: "redis_host",
        kind: Kind::Text,
        default: "",
        env: &["REDIS_HOST"],
        doc: "A Redis that exists already: the bootstrap starts none. One of another machine needs a \
              password (or\nSHEF_REDIS_ALLOW_OPEN=true). Empty: it starts one that only this host can reach.",
    },
    Key {
        name: "redis_port",
        kind: Kind::Integer { min: 1, max: 65_535, unit: "port" },
        default: "6379",
        env: &["REDIS_PORT"],
        doc: "The port of that Redis, or of our own.",
    },
    Key {
        name: "redis_password_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "A file that holds the password of the Redis of redis_host, instead of the variable \
              SHEF_REDIS_PASSWORD. It is kept in a\nvolume that Redis and master alone mount. Our own \
              Redis makes its password itself.",
    },
    Key {
        name: "join_token",
        kind: Kind::Secret,
        default: "",
        env: &["JOIN_TOKEN"],
        doc: "Lets a further host join the cluster. The first host's bootstrap prints it, and so does `shef \
              token join` there.\nThe first host needs none.",
    },
    Key {
        name: "port",
        kind: Kind::Integer { min: 1, max: 65_535, unit: "port" },
        default: "8044",
        env: &["PORT"],
        doc: "The port of the master's API.",
    },
    Key {
        name: "image",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The image of master and agent. Empty: the image of the bootstrap's own container. A bootstrap \
              outside a container\nneeds it.",
    },
    Key {
        name: "redis_image",
        kind: Kind::Text,
        default: "docker.io/library/redis:7.2-alpine",
        env: &[],
        doc: "The image of our own Redis.",
    },
    Key {
        name: "docker_host",
        kind: Kind::Text,
        default: "unix:///var/run/docker.sock",
        env: &["DOCKER_HOST"],
        doc: "The Docker engine: unix:///PATH. The agent's container gets the same socket.",
    },
    Key {
        name: "master_env",
        kind: Kind::Map,
        default: "",
        env: &[],
        doc: "Variables for the master's container, such as \
              { SHEF_MASTER_REPORT_INTERVAL_MS = \"1000\" }; every SHEF_MASTER_ and\nSHEF_REDIS_ variable \
              of the bootstrap itself is handed on, too.",
    },
    Key {
        name: "agent_env",
        kind: Kind::Map,
        default: "",
        env: &[],
        doc: "Variables for the agent's container, such as { SHEF_AGENT_LABELS = \"zone=a\" }; every \
              SHEF_AGENT_ variable of the\nbootstrap itself is handed on, too.",
    },
    Key {
        name: "take_over",
        kind: Kind::Choice(&["false", "true"]),
        default: "false",
        env: &[],
        doc: "\"true\": this host becomes the first host of its cluster, whose master is lost for good. \
              Without it, the bootstrap\nrefuses to start a master on a host of another cluster.",
    },
    Key {
        name: "reconcile_interval_ms",
        kind: Kind::Integer { min: 1_000, max: 3_600_000, unit: "ms" },
        default: "30000",
        env: &[],
        doc: "How often the bootstrap checks the system containers, to repair what the engine's events \
              missed, and announces the\nhost to the masters.",
    },
    logging::KEYS[0],
    logging::KEYS[1],
    logging::KEYS[2],
];

/// The bootstrap's keys.
pub static PROGRAM: Program = Program { name: "bootstrap", keys: KEYS, derived_env: |_| Vec::new() };

/// Merges the layers and checks each key by itself.
///
/// # Errors
/// [`ConfigError`] names the key, the value and where it came from.
pub fn effective(layers: &Layers, others: &[&Program]) -> Result<Effective, ConfigError> {
    load(&PROGRAM, others, layers)
}

impl BootstrapConfig {
    /// [`effective`] and [`BootstrapConfig::from_effective`] in one; `layers.env` is also what is handed on.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, the value and where it came from.
    pub fn load(layers: &Layers, others: &[&Program]) -> Result<(Self, Effective), ConfigError> {
        let effective = effective(layers, others)?;
        let mut config = Self::from_effective(&effective)?;
        let handed_on = |prefixes: &[&str]| {
            let ours = |name: &str| {
                prefixes.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with("SHEF_LOG_")
            };
            layers
                .env
                .iter()
                .filter(|(name, _)| ours(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        let given = std::mem::replace(
            &mut config.master_env,
            handed_on(&["SHEF_MASTER_", "SHEF_REDIS_", "SHEF_INSECURE", "SHEF_TLS"]),
        );
        config.master_env.extend(given);
        // It goes another way than the rest: a container's variables are no secret.
        config.redis_password = config.master_env.remove("SHEF_REDIS_PASSWORD").map(Secret::new);
        config.master_env.remove("SHEF_REDIS_PASSWORD_FILE");
        let given =
            std::mem::replace(&mut config.agent_env, handed_on(&["SHEF_AGENT_", "SHEF_POLICY_", "SHEF_TLS"]));
        config.agent_env.extend(given);
        if let Some(level) = layers.env.get("LOG_LEVEL") {
            for env in [&mut config.master_env, &mut config.agent_env] {
                env.entry("LOG_LEVEL".to_owned()).or_insert_with(|| level.clone());
            }
        }
        Ok((config, effective))
    }

    /// Gives the keys their meaning, and checks those that depend on each other.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, the value and where it came from.
    pub fn from_effective(effective: &Effective) -> Result<Self, ConfigError> {
        let host_ip = effective.host_ip("host_ip")?;
        let masters = effective.non_empty("master_host");
        let role = match (effective.text("slave"), masters) {
            ("true", Some(masters)) => Role::Agent { masters },
            ("true", None) => {
                return Err(effective.refuse(
                    "master_host",
                    "the master's address where SLAVE=true, as in MASTER_HOST=10.0.0.1",
                ));
            }
            (_, Some(masters)) if masters != host_ip.to_string() => {
                return Err(effective.refuse(
                    "master_host",
                    format!("left out, or {host_ip}, unless SLAVE=true is given too"),
                ));
            }
            _ => Role::Master,
        };
        if let Role::Agent { masters } = &role
            && masters.split(',').any(|master| !is_host(master.trim()))
        {
            return Err(effective.refuse("master_host", "HOST or HOST:PORT, several separated by commas"));
        }
        let port = |key| u16::try_from(effective.integer(key)).unwrap_or(u16::MAX);
        let redis = effective.non_empty("redis_host").map(|host| (host, port("redis_port")));
        if let Some((host, _)) = &redis
            && (!is_host(host) || host.contains(':'))
        {
            return Err(effective.refuse("redis_host", "a host's name or address"));
        }
        let docker_host = effective.text("docker_host").to_owned();
        if !docker_host.starts_with("unix:///") {
            return Err(effective
                .refuse("docker_host", "unix:///PATH, for the agent's container is given the same socket"));
        }
        let env = |key: &str| -> Result<BTreeMap<String, String>, ConfigError> {
            let map = effective.map(key).clone();
            let fine =
                |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if map.keys().all(|name| fine(name)) {
                Ok(map)
            } else {
                Err(effective.refuse(key, "names of letters, digits and underscores"))
            }
        };
        Ok(Self {
            host_ip,
            role,
            redis,
            redis_port: port("redis_port"),
            api_port: port("port"),
            image: effective.non_empty("image"),
            redis_image: effective.text("redis_image").to_owned(),
            docker_host,
            redis_password: None,
            redis_password_file: effective.non_empty("redis_password_file").map(PathBuf::from),
            join_token: join_token(effective)?,
            master_env: env("master_env")?,
            agent_env: env("agent_env")?,
            take_over: effective.text("take_over") == "true",
            reconcile_interval_ms: effective.integer("reconcile_interval_ms"),
        })
    }

    /// The masters as `HOST:PORT`, as the agent is given them.
    #[must_use]
    pub fn masters(&self) -> Vec<String> {
        self.master_urls().iter().map(|url| url.trim_start_matches("http://").to_owned()).collect()
    }

    /// The masters as `http://HOST:PORT`, this host's own first.
    #[must_use]
    pub fn master_urls(&self) -> Vec<String> {
        let complete = |text: &str| {
            let text = text.trim();
            if text.contains(':') {
                format!("http://{text}")
            } else {
                format!("http://{text}:{}", self.api_port)
            }
        };
        match &self.role {
            Role::Master => vec![complete(&self.host_ip.to_string())],
            Role::Agent { masters } => masters.split(',').map(complete).collect(),
        }
    }
}

fn join_token(effective: &Effective) -> Result<Option<Secret>, ConfigError> {
    let token = effective.secret("join_token");
    match &token {
        Some(given) if JoinToken::parse(given.expose().trim()).is_none() => {
            Err(effective.refuse("join_token", shef_common::tls::TOKEN_RULE))
        }
        _ => Ok(token),
    }
}

/// `HOST` or `HOST:PORT` of plain characters.
fn is_host(text: &str) -> bool {
    let (host, is_port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<std::num::NonZeroU16>().is_ok()),
        None => (text, true),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty() && host.chars().all(plain) && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program whose variables are known and handed on, as the master's.
    static MASTER: Program = Program {
        name: "master",
        keys: &[
            Key { name: "http_workers", kind: Kind::Text, default: "", env: &[], doc: "" },
            Key { name: "redis.allow_open", kind: Kind::Text, default: "", env: &[], doc: "" },
        ],
        derived_env: |_| Vec::new(),
    };

    fn with(env: &[(&str, &str)]) -> Result<BootstrapConfig, String> {
        let mut layers = Layers::default();
        layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let others = [&MASTER];
        BootstrapConfig::load(&layers, &others).map(|(config, _)| config).map_err(|error| error.to_string())
    }

    #[test]
    fn docker_shefs_variables_keep_their_meaning() {
        let first = with(&[("HOST_IP", "10.0.0.1"), ("PORT", "9000"), ("REDIS_PORT", "7000")]).unwrap();
        assert_eq!((first.role.clone(), first.api_port, first.redis_port), (Role::Master, 9000, 7000));
        assert_eq!(
            (first.redis.clone(), first.master_urls()),
            (None, vec!["http://10.0.0.1:9000".to_owned()])
        );
        let further =
            with(&[("HOST_IP", "10.0.0.2"), ("SLAVE", "true"), ("MASTER_HOST", "10.0.0.1")]).unwrap();
        assert_eq!(further.role, Role::Agent { masters: "10.0.0.1".into() });
        assert_eq!(further.master_urls(), ["http://10.0.0.1:8044"]);
        let theirs =
            with(&[("HOST_IP", "10.0.0.1"), ("REDIS_HOST", "redis.lan"), ("REDIS_PORT", "7000")]).unwrap();
        assert_eq!(theirs.redis, Some(("redis.lan".into(), 7000)));
        let open = [("HOST_IP", "10.0.0.1"), ("REDIS_HOST", "db"), ("SHEF_REDIS_ALLOW_OPEN", "true")];
        assert_eq!(with(&open).unwrap().master_env["SHEF_REDIS_ALLOW_OPEN"], "true");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_what_to_do() {
        let ip = ("HOST_IP", "10.0.0.2");
        for (env, say) in [
            (vec![], "HOST_IP"),
            (vec![("HOST_IP", "10.0.0")], "10.0.0"),
            (vec![ip, ("SLAVE", "true")], "MASTER_HOST=10.0.0.1"),
            (vec![ip, ("SLAVE", "yes")], "true"),
            (vec![ip, ("SHEF_AGENT_FOO", "1")], "`shef settings agent` lists every key"),
            (vec![ip, ("SHEF_MASTER_FOO", "1")], "`shef settings master` lists every key"),
            (vec![ip, ("SHEF_BOOTSTRAP_FOO", "1")], "`shef settings bootstrap` lists every key"),
            (vec![ip, ("MASTER_HOST", "10.0.0.1")], "SLAVE=true"),
            (vec![ip, ("SLAVE", "true"), ("MASTER_HOST", "a b")], "HOST:PORT"),
            (vec![ip, ("REDIS_HOST", "redis://x")], "a host's name"),
            (vec![ip, ("DOCKER_HOST", "tcp://10.0.0.2:2375")], "unix:///PATH"),
        ] {
            let said = with(&env).unwrap_err();
            assert!(said.contains(say) && !said.contains('\n'), "{env:?}: {said}");
        }
    }

    #[test]
    fn settings_of_master_and_agent_are_handed_on() {
        let config = with(&[
            ("HOST_IP", "10.0.0.1"),
            ("LOG_LEVEL", "debug"),
            ("SHEF_MASTER_HTTP_WORKERS", "4"),
            ("SHEF_BOOTSTRAP_MASTER_ENV", "SHEF_MASTER_HTTP_WORKERS=3,A=b"),
        ])
        .unwrap();
        assert_eq!(
            config.master_env["SHEF_MASTER_HTTP_WORKERS"], "3",
            "what is meant for it alone is stronger"
        );
        assert_eq!((config.master_env["A"].as_str(), config.agent_env["LOG_LEVEL"].as_str()), ("b", "debug"));
    }
}
