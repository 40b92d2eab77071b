//! The system containers of a host: which there should be, and what each is made of.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
};

use serde::Serialize;

use crate::config::{BootstrapConfig, Role};

pub use shef_common::labels::{BOOTSTRAP as BOOTSTRAP_LABEL, MADE_OF as MADE_OF_LABEL, PART as PART_LABEL};

/// The volume with the passwords.
pub const SECRETS_VOLUME: &str = "shef-secrets";
/// Where it is mounted.
pub const SECRETS_DIR: &str = "/run/shef";
/// The file there with the password of our own Redis.
pub const PASSWORD_FILE: &str = "redis-password";
/// The file there with the same as a line of Redis' configuration.
pub const REDIS_CONF_FILE: &str = "redis-auth.conf";
/// The file there with the password of a Redis that is not ours.
pub const GIVEN_PASSWORD_FILE: &str = "redis-password-given";
/// Where the master keeps what is its own.
pub const MASTER_DIR: &str = "/var/lib/shef/master";
/// The volume of it.
pub const MASTER_VOLUME: &str = "shef-master";
/// The user that the master runs as: an unprivileged one.
pub const MASTER_USER: u32 = 65_532;
/// The agent's port, as docker-shef's.
pub const AGENT_PORT: u16 = 11_044;
/// Where the agent keeps its ledger.
pub const AGENT_DIR: &str = "/var/lib/shef/agent";
/// Where the agent lays the files of secrets and configs: in memory, on the host.
const FILES_DIR: &str = "/run/shef/secrets";
/// Where the agent sees the host's root directory.
const HOST_ROOT: &str = "/host";
/// The volume of it.
pub const AGENT_VOLUME: &str = "shef-agent";
/// The log of a system container: the engine starts a new file at this size, …
pub const LOG_MAX_SIZE: &str = "10m";
/// … and keeps so many.
pub const LOG_MAX_FILES: &str = "3";
/// The engine's socket in a container.
pub const SOCKET: &str = "/var/run/docker.sock";

/// A part of the system that runs in a container. The order is that of starts and upgrades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The store.
    Redis,
    /// API and decisions.
    Master,
    /// The host's own.
    Agent,
    /// Starts agent and bootstrap again when they were killed together.
    Guard,
}

impl Part {
    /// Every part, in order.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Master, Self::Agent, Self::Guard];

    /// Its word in labels and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Master => "master",
            Self::Agent => "agent",
            Self::Guard => "guard",
        }
    }
    /// The part of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }
    /// Its container's name.
    #[must_use]
    pub const fn container(self) -> &'static str {
        match self {
            Self::Redis => "shef-redis",
            Self::Master => "shef-master",
            Self::Agent => "shef-agent",
            Self::Guard => "shef-guard",
        }
    }
    /// Whether a container with this part's label is the part, and not one whose image has the label: no
    /// image brings the host's network along, nor the name, the engine's socket or the volume with the
    /// passwords.
    #[must_use]
    pub fn is_made_by_us(self, evidence: &Evidence) -> bool {
        let has_mount = match self {
            Self::Redis | Self::Master => evidence.has_secrets,
            Self::Agent | Self::Guard => evidence.has_socket,
        };
        evidence.is_on_host_network && (evidence.name == self.container() || has_mount)
    }
    /// docker-shef's label of the same part, where it has one.
    #[must_use]
    pub const fn docker_shefs_label(self) -> Option<&'static str> {
        match self {
            Self::Redis => Some("shef-Redis"),
            Self::Master => Some("shef-conducktor"),
            Self::Agent => Some("shef-shefRunner"),
            Self::Guard => None,
        }
    }
}

/// The properties of a container that show who made it: none of them comes from its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its name, without a slash.
    pub name: String,
    /// Whether it uses the host's network.
    pub is_on_host_network: bool,
    /// Whether the engine's socket is mounted into it.
    pub has_socket: bool,
    /// Whether the volume with the passwords is.
    pub has_secrets: bool,
}

/// What one system container is made of. All of them use the host's network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Wanted {
    /// The part.
    #[serde(skip)]
    pub part: Part,
    /// The image's id.
    pub image: String,
    /// The image's name, which people see in `docker ps` as long as it stands for that id.
    #[serde(skip)]
    pub image_name: String,
    /// `user:group`; empty: the image's own.
    pub user: String,
    /// Arguments.
    pub command: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Volumes by their names, and paths of the host: source, target, read-only.
    pub mounts: Vec<(String, String, bool)>,
    /// A directory of the host, mounted at the same path. The engine makes it at each start where it is
    /// missing: below `/run` it is after each start of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_dir: Option<String>,
    /// A command that tells whether it is well, run by the engine; empty: none.
    pub health: Vec<String>,
    /// Where it listens; port 0: nowhere.
    #[serde(skip)]
    pub listens: (Ipv4Addr, u16),
}

impl Wanted {
    /// Differs whenever the container would be another one.
    #[must_use]
    pub fn made_of(&self) -> String {
        // Two builds may disagree: then a container is made anew once, in order.
        let mut hasher = DefaultHasher::new();
        serde_json::to_vec(self).unwrap_or_default().hash(&mut hasher);
        (LOG_MAX_SIZE, LOG_MAX_FILES).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// The findings about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The id of the image of master and agent.
    pub image: String,
    /// Its name.
    pub image_name: String,
    /// The id of Redis' image, where one is to be started.
    pub redis_image: String,
    /// The engine's socket as a path of the host.
    pub socket: String,
}

/// The containers that should run on this host, in order.
#[must_use]
pub fn wanted(config: &BootstrapConfig, facts: &HostFacts) -> Vec<Wanted> {
    let mut parts = Vec::new();
    if config.role == Role::Master {
        if config.redis.is_none() {
            parts.push(redis(config, facts));
        }
        parts.push(master(config, facts));
    }
    parts.push(agent(config, facts));
    parts.push(guard(config, facts));
    parts
}

fn redis(config: &BootstrapConfig, facts: &HostFacts) -> Wanted {
    let port = config.redis_port.to_string();
    let settings = [
        format!("{SECRETS_DIR}/{REDIS_CONF_FILE}"),
        // On loopback, with a password: only this host's master needs it.
        "--bind 127.0.0.1".to_owned(),
        format!("--port {port}"),
        "--dir /data".to_owned(),
        // What the master acknowledges is durable.
        "--appendonly yes".to_owned(),
        "--appendfsync always".to_owned(),
        "--maxmemory-policy noeviction".to_owned(),
    ];
    let words = settings.iter().flat_map(|setting| setting.split(' ')).map(str::to_owned);
    Wanted {
        part: Part::Redis,
        image: facts.redis_image.clone(),
        image_name: config.redis_image.clone(),
        user: String::new(),
        command: std::iter::once("redis-server".to_owned()).chain(words).collect(),
        env: BTreeMap::new(),
        mounts: vec![
            ("shef-redis".to_owned(), "/data".to_owned(), false),
            (SECRETS_VOLUME.to_owned(), SECRETS_DIR.to_owned(), true),
        ],
        made_dir: None,
        // Without the password the answer is NOAUTH, and an answer all the same.
        health: ["redis-cli", "-p", &port, "ping"].map(str::to_owned).to_vec(),
        listens: (Ipv4Addr::LOCALHOST, config.redis_port),
    }
}

fn master(config: &BootstrapConfig, facts: &HostFacts) -> Wanted {
    let (host, port) = config.redis.clone().unwrap_or(("127.0.0.1".to_owned(), config.redis_port));
    let is_given = config.redis_password.is_some() || config.redis_password_file.is_some();
    let password = match config.redis {
        None => Some(PASSWORD_FILE),
        Some(_) => is_given.then_some(GIVEN_PASSWORD_FILE),
    };
    let mut env = BTreeMap::from([
        ("HOST_IP".to_owned(), config.host_ip.to_string()),
        ("PORT".to_owned(), config.api_port.to_string()),
        ("SHEF_REDIS_URL".to_owned(), format!("redis://{host}:{port}")),
    ]);
    if let Some(file) = password {
        env.insert("SHEF_REDIS_PASSWORD_FILE".to_owned(), format!("{SECRETS_DIR}/{file}"));
    }
    env.extend(config.master_env.clone());
    Wanted {
        part: Part::Master,
        image: facts.image.clone(),
        image_name: facts.image_name.clone(),
        user: format!("{MASTER_USER}:{MASTER_USER}"),
        command: vec!["master".to_owned()],
        env,
        mounts: vec![
            (MASTER_VOLUME.to_owned(), MASTER_DIR.to_owned(), false),
            (SECRETS_VOLUME.to_owned(), SECRETS_DIR.to_owned(), true),
        ],
        made_dir: None,
        health: health(config.host_ip, config.api_port, "healthz"),
        listens: (config.host_ip, config.api_port),
    }
}

fn agent(config: &BootstrapConfig, facts: &HostFacts) -> Wanted {
    let masters = config.masters();
    let mut env = BTreeMap::from([
        ("HOST_IP".to_owned(), config.host_ip.to_string()),
        ("MASTER_HOST".to_owned(), masters.join(",")),
        // It does not see the engine's own directory; its volume lies on the same disk.
        ("SHEF_AGENT_ENGINE_DISK_DIR".to_owned(), AGENT_DIR.to_owned()),
        ("SHEF_POLICY_HOST_ROOT".to_owned(), HOST_ROOT.to_owned()),
        ("SHEF_POLICY_OFF_LIMITS".to_owned(), facts.socket.clone()),
    ]);
    env.extend(config.agent_env.clone());
    let files = config.agent_env.get("SHEF_AGENT_SECRETS_DIR").cloned();
    let files = files.unwrap_or_else(|| FILES_DIR.to_owned());
    Wanted {
        part: Part::Agent,
        image: facts.image.clone(),
        image_name: facts.image_name.clone(),
        // The engine's socket is root's.
        user: "0:0".to_owned(),
        command: vec!["agent".to_owned(), "--guard-bootstrap".to_owned()],
        env,
        mounts: vec![
            (facts.socket.clone(), SOCKET.to_owned(), false),
            (AGENT_VOLUME.to_owned(), AGENT_DIR.to_owned(), false),
            // Symbolic links on the way to what services mount are the host's.
            ("/".to_owned(), HOST_ROOT.to_owned(), true),
        ],
        // Files of secrets and configs: the engine finds them by the same path.
        made_dir: Some(files),
        health: health(config.host_ip, AGENT_PORT, "health"),
        listens: (config.host_ip, AGENT_PORT),
    }
}

fn guard(config: &BootstrapConfig, facts: &HostFacts) -> Wanted {
    Wanted {
        part: Part::Guard,
        image: facts.image.clone(),
        image_name: facts.image_name.clone(),
        user: "0:0".to_owned(),
        command: vec!["bootstrap".to_owned(), "--guard".to_owned()],
        env: BTreeMap::new(),
        mounts: vec![(facts.socket.clone(), SOCKET.to_owned(), false)],
        made_dir: None,
        health: Vec::new(),
        listens: (config.host_ip, 0),
    }
}

fn health(ip: Ipv4Addr, port: u16, page: &str) -> Vec<String> {
    ["/usr/local/bin/shef", "health"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("http://{ip}:{port}/{page}")])
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use shef_common::config::Layers;

    pub(crate) fn config(env: &[(&str, &str)]) -> BootstrapConfig {
        let mut layers = Layers::default();
        layers.env.insert("HOST_IP".into(), "10.0.0.1".into());
        layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        BootstrapConfig::load(&layers, &[]).unwrap().0
    }
    pub(crate) fn facts(image: &str) -> HostFacts {
        HostFacts {
            image: image.into(),
            image_name: "shef:1".into(),
            redis_image: "redis".into(),
            socket: "/run/docker.sock".into(),
        }
    }
    fn parts(env: &[(&str, &str)]) -> Vec<Part> {
        wanted(&config(env), &facts("a")).iter().map(|wanted| wanted.part).collect()
    }

    #[test]
    fn each_role_has_its_parts_in_order() {
        assert_eq!(parts(&[]), [Part::Redis, Part::Master, Part::Agent, Part::Guard]);
        assert_eq!(parts(&[("REDIS_HOST", "10.0.0.9")]), [Part::Master, Part::Agent, Part::Guard]);
        assert_eq!(parts(&[("SLAVE", "true"), ("MASTER_HOST", "10.0.0.9")]), [Part::Agent, Part::Guard]);
    }

    #[test]
    fn a_label_alone_makes_no_part() {
        let posing = Evidence {
            name: "web-000001".to_owned(),
            is_on_host_network: true,
            has_socket: false,
            has_secrets: false,
        };
        for part in Part::ALL {
            assert!(!part.is_made_by_us(&posing), "{part:?}");
            let named = Evidence { name: part.container().to_owned(), ..posing.clone() };
            assert!(part.is_made_by_us(&named), "{part:?}");
            assert!(!part.is_made_by_us(&Evidence { is_on_host_network: false, ..named }), "{part:?}");
            let renamed = Evidence { has_socket: true, has_secrets: true, ..posing.clone() };
            assert!(part.is_made_by_us(&renamed), "{part:?}");
        }
    }

    #[test]
    fn redis_listens_on_loopback_alone_and_no_password_stands_in_a_container() {
        let all = wanted(&config(&[]), &facts("a"));
        assert_eq!(all[0].listens.0, Ipv4Addr::LOCALHOST);
        assert!(all[0].command.join(" ").contains("--bind 127.0.0.1 --port 6379"));
        assert!(all[0].command.join(" ").contains("--appendfsync always --maxmemory-policy noeviction"));
        assert_eq!(all[1].env["SHEF_REDIS_PASSWORD_FILE"], "/run/shef/redis-password");
        assert!(!all.iter().any(|part| part.env.keys().any(|name| name.ends_with("_PASSWORD"))));
    }

    #[test]
    fn files_that_the_agent_lays_have_one_path_for_it_and_its_engine() {
        let mut config = config(&[]);
        let made = |config: &BootstrapConfig| wanted(config, &facts("a")).remove(2).made_dir;
        assert_eq!(made(&config).as_deref(), Some("/run/shef/secrets"));
        config.agent_env.insert("SHEF_AGENT_SECRETS_DIR".to_owned(), "/dev/shm/shef".to_owned());
        assert_eq!(made(&config).as_deref(), Some("/dev/shm/shef"));
    }

    #[test]
    fn the_agent_measures_the_disk_of_its_volume() {
        let agent = wanted(&config(&[]), &facts("a")).remove(2);
        let measured = &agent.env["SHEF_AGENT_ENGINE_DISK_DIR"];
        let is_volume = |source: &str| !source.starts_with('/');
        assert!(agent.mounts.iter().any(|(source, target, _)| target == measured && is_volume(source)));
    }

    #[test]
    fn whatever_a_container_is_made_of_tells_it_apart() {
        let of = |env: &[(&str, &str)], image: &str| {
            wanted(&config(env), &facts(image)).iter().map(Wanted::made_of).collect::<Vec<_>>()
        };
        let base = of(&[], "a");
        assert_eq!(base, of(&[], "a"));
        let upgraded = of(&[], "b");
        assert!(
            base[0] == upgraded[0] && base[1] != upgraded[1] && base[2] != upgraded[2],
            "Redis has an image of its own"
        );
        let other_port = of(&[("PORT", "9000")], "a");
        assert!(base[0] == other_port[0] && base[1] != other_port[1] && base[2] != other_port[2]);
    }
}
