//! The agent's configuration: its keys, and what they mean to it.

mod policy;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use shef_common::{
    config::{ConfigError, Effective, Key, Kind, Layers, Program, load},
    docker::{ADDRESS_RULE, DockerAddress, DockerTls},
    ids::NodeName,
    logging,
    tls::{JoinToken, TOKEN_RULE, TlsMode},
};

pub use self::policy::PolicyConfig;

/// The agent's port, as docker-shef's.
pub const DEFAULT_PORT: u16 = 11044;
/// The master's port, where `masters` names none.
const MASTER_PORT: u16 = 8044;
/// The most masters that may be named.
const MAX_MASTERS: usize = 16;
/// The most labels a host may have, and the most characters in each part of one.
const MAX_LABELS: (usize, usize) = (64, 253);

/// Everything the agent is told when it starts.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where the agent listens for its masters.
    pub listen: SocketAddr,
    /// The address by which other hosts reach this one.
    pub host_ip: Ipv4Addr,
    /// The host's name in the cluster; without one, the host's own name.
    pub node_name: Option<NodeName>,
    /// The masters, each as `http://HOST:PORT`.
    pub masters: Vec<String>,
    /// Whether the host speaks TLS with its cluster.
    pub tls: TlsMode,
    /// Whether that was said, and does not follow from anything.
    pub only_tls: bool,
    /// What lets the host join its cluster.
    pub join_token: Option<JoinToken>,
    /// The Docker engine, as in `DOCKER_HOST`.
    pub docker_host: String,
    /// Whether and how TLS is spoken to it.
    pub docker_tls: DockerTls,
    /// Where the ledger lies.
    pub data_dir: PathBuf,
    /// Where the files of secrets and configs lie, in memory.
    pub secrets_dir: PathBuf,
    /// What the host says of itself to the scheduler.
    pub labels: BTreeMap<String, String>,
    /// How many engine operations run at once.
    pub engine_concurrency: u32,
    /// How many images are pulled at once.
    pub pull_concurrency: u32,
    /// How often the engine's containers are listed to repair what events missed, in milliseconds.
    pub relist_interval_ms: u64,
    /// Above how many percent of the disk images are removed that nothing needs; 100: never.
    pub image_cleanup_percent: u64,
    /// The directory whose disk is measured for that; `None`: the engine's own.
    pub engine_disk_dir: Option<PathBuf>,
    /// How often the disk is looked at for that, in milliseconds.
    pub image_cleanup_interval_ms: u64,
    /// How long a change waits for more before it is reported, in milliseconds.
    pub report_debounce_ms: u64,
    /// What services may ask of the host.
    pub policy: PolicyConfig,
}

const KEYS: &[Key] = &[
    Key {
        name: "host_ip",
        kind: Kind::Ipv4,
        default: "",
        env: &["SHEF_HOST_IP", "HOST_IP"],
        doc: "The IPv4 address by which other hosts reach this one. `shef agent` does not start without it.",
    },
    Key {
        name: "listen",
        kind: Kind::Listen,
        default: ":11044",
        env: &[],
        doc: "Where the agent listens for its masters; without an address, on host_ip.",
    },
    Key {
        name: "masters",
        kind: Kind::List,
        default: ":8044",
        env: &["MASTER_HOST"],
        doc: "The masters, each as HOST:PORT; without a host, on host_ip; without a port, 8044.",
    },
    Key {
        name: "node_name",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The host's name in the cluster: lower-case letters, digits, hyphens and dots. Empty: the \
              host's own name.",
    },
    Key {
        name: "join_token",
        kind: Kind::Secret,
        default: "",
        env: &["JOIN_TOKEN"],
        doc: "Lets the host join its cluster: `shef token join` on a master prints it. Ignored once the host \
              is a member.",
    },
    Key {
        name: "tls",
        kind: Kind::Choice(&["auto", "off", "optional", "required"]),
        default: "auto",
        env: &["SHEF_TLS"],
        doc: "auto, required: the agent and its masters prove to each other who they are. optional: they do \
              so once the host has a\njoin token; until then anyone who reaches the agent's port controls \
              the host. off: they never do; only for a network\nthat the hosts alone use.",
    },
    Key {
        name: "docker_host",
        kind: Kind::Text,
        default: "unix:///var/run/docker.sock",
        env: &["DOCKER_HOST"],
        doc: "The Docker engine: unix:///PATH, tcp://HOST:PORT, http://HOST:PORT or \
              ssh://[USER@]HOST[:PORT]. ssh:// takes the\nprogram ssh here, its keys without a password \
              prompt, and the docker command on the other host.",
    },
    Key {
        name: "docker_tls_verify",
        kind: Kind::Text,
        default: "",
        env: &["DOCKER_TLS_VERIFY"],
        doc: "Any value but the empty one: the agent speaks TLS to tcp:// and checks the engine's \
              certificate.",
    },
    Key {
        name: "docker_cert_path",
        kind: Kind::Path,
        default: "",
        env: &["DOCKER_CERT_PATH"],
        doc: "The directory with ca.pem, cert.pem and key.pem for that. Empty: DOCKER_CONFIG, else \
              ~/.docker.",
    },
    Key {
        name: "data_dir",
        kind: Kind::Path,
        default: "/var/lib/shef/agent",
        env: &[],
        doc: "Where the agent keeps its ledger of what it was told to run.",
    },
    Key {
        name: "secrets_dir",
        kind: Kind::Path,
        default: "/run/shef/secrets",
        env: &[],
        doc: "Where the files lie that secrets and configs are mounted from: a directory in memory (tmpfs) \
              that has the same path\nfor the engine. It is empty after a start of the host; the agent fills \
              it again from a master.",
    },
    Key {
        name: "labels",
        kind: Kind::Map,
        default: "",
        env: &[],
        doc: "Labels of the host for the scheduler, such as { zone = \"a\", disk = \"ssd\" }; at most 64.",
    },
    Key {
        name: "engine_concurrency",
        kind: Kind::Integer { min: 1, max: 64, unit: "operations" },
        default: "8",
        env: &[],
        doc: "How many containers are created, started, stopped and removed at once.",
    },
    Key {
        name: "pull_concurrency",
        kind: Kind::Integer { min: 1, max: 64, unit: "pulls" },
        default: "4",
        env: &[],
        doc: "How many images are pulled at once; pulls do not count as engine operations.",
    },
    Key {
        name: "relist_interval_ms",
        kind: Kind::Integer { min: 1_000, max: 3_600_000, unit: "ms" },
        default: "30000",
        env: &[],
        doc: "How often the engine's containers are listed to repair what its events missed.",
    },
    Key {
        name: "image_cleanup_percent",
        kind: Kind::Integer { min: 1, max: 100, unit: "percent" },
        default: "85",
        env: &[],
        doc: "When more of the engine's disk is used, the agent removes images that shef pulled and no kept \
              generation needs.\n100: never.",
    },
    Key {
        name: "engine_disk_dir",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "The directory whose disk is measured for that. Empty: the directory that the engine names \
              (DockerRootDir). Where that\nis not on this host, or the agent's container does not see it, \
              nothing is measured and no image is removed.",
    },
    Key {
        name: "image_cleanup_interval_ms",
        kind: Kind::Integer { min: 100, max: 86_400_000, unit: "ms" },
        default: "60000",
        env: &[],
        doc: "How often that disk is measured.",
    },
    Key {
        name: "report_debounce_ms",
        kind: Kind::Integer { min: 0, max: 1_000, unit: "ms" },
        default: "20",
        env: &[],
        doc: "How long a change waits for further ones before it is reported.",
    },
    logging::KEYS[0],
    logging::KEYS[1],
    logging::KEYS[2],
    policy::KEYS[0],
    policy::KEYS[1],
    policy::KEYS[2],
    policy::KEYS[3],
    policy::KEYS[4],
    policy::KEYS[5],
    policy::KEYS[6],
    policy::KEYS[7],
    policy::KEYS[8],
    policy::KEYS[9],
    policy::KEYS[10],
    policy::KEYS[11],
    policy::KEYS[12],
    policy::KEYS[13],
    policy::KEYS[14],
    policy::KEYS[15],
    policy::KEYS[16],
    policy::KEYS[17],
    policy::KEYS[18],
];

/// The agent's keys.
pub static PROGRAM: Program = Program { name: "agent", keys: KEYS, derived_env: |_| Vec::new() };

/// Merges the layers and checks each key by itself. `others` are the programs
/// whose environment variables are known but not the agent's.
///
/// # Errors
/// [`ConfigError`] names the key, the value and where it came from.
pub fn effective(layers: &Layers, others: &[&Program]) -> Result<Effective, ConfigError> {
    load(&PROGRAM, others, layers)
}

impl AgentConfig {
    /// [`effective`] and [`AgentConfig::from_effective`] in one.
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
        let host_ip = effective.host_ip("host_ip")?;
        Ok(Self {
            listen: effective.listen("listen", host_ip),
            host_ip,
            node_name: node_name(effective)?,
            masters: masters(effective, host_ip)?,
            tls: tls(effective),
            only_tls: effective.text("tls") == "required",
            join_token: join_token(effective)?,
            docker_host: docker_host(effective)?,
            docker_tls: docker_tls(effective),
            data_dir: effective.path("data_dir"),
            secrets_dir: effective.path("secrets_dir"),
            labels: labels(effective)?,
            engine_concurrency: effective.integer_u32("engine_concurrency"),
            pull_concurrency: effective.integer_u32("pull_concurrency"),
            relist_interval_ms: effective.integer("relist_interval_ms"),
            image_cleanup_percent: effective.integer("image_cleanup_percent"),
            engine_disk_dir: effective.non_empty("engine_disk_dir").map(PathBuf::from),
            image_cleanup_interval_ms: effective.integer("image_cleanup_interval_ms"),
            report_debounce_ms: effective.integer("report_debounce_ms"),
            policy: PolicyConfig::from_effective(effective)?,
        })
    }
}

fn tls(effective: &Effective) -> TlsMode {
    // Its other value is "auto".
    effective.text("tls").parse().unwrap_or(TlsMode::Required)
}

fn join_token(effective: &Effective) -> Result<Option<JoinToken>, ConfigError> {
    let Some(text) = effective.secret("join_token") else { return Ok(None) };
    let token = JoinToken::parse(text.expose().trim());
    token.map(Some).ok_or_else(|| effective.refuse("join_token", TOKEN_RULE))
}

fn node_name(effective: &Effective) -> Result<Option<NodeName>, ConfigError> {
    let name = effective.non_empty("node_name");
    name.map(|name| NodeName::parse(&name).map_err(|error| effective.refuse("node_name", rule_of(&error))))
        .transpose()
}

/// "… must RULE, but is …" without its ends.
fn rule_of(error: &shef_common::ids::InvalidId) -> String {
    format!("a node name: it must {}", error.rule)
}

fn masters(effective: &Effective, host_ip: Ipv4Addr) -> Result<Vec<String>, ConfigError> {
    let given = effective.list("masters");
    if given.is_empty() || given.len() > MAX_MASTERS {
        return Err(effective.refuse("masters", format!("1 to {MAX_MASTERS} addresses")));
    }
    let complete = |text: &String| {
        let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let port = if text.contains(':') { port.parse::<u16>().ok()? } else { MASTER_PORT };
        let host = if host.is_empty() { host_ip.to_string() } else { host.to_owned() };
        let plain =
            host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':'));
        (plain && port > 0).then(|| format!("http://{host}:{port}"))
    };
    given
        .iter()
        .map(complete)
        .collect::<Option<_>>()
        .ok_or_else(|| effective.refuse("masters", "a list of HOST:PORT"))
}

fn docker_host(effective: &Effective) -> Result<String, ConfigError> {
    let text = effective.text("docker_host");
    match DockerAddress::parse(text, &docker_tls(effective)) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(effective.refuse("docker_host", ADDRESS_RULE)),
    }
}

fn docker_tls(effective: &Effective) -> DockerTls {
    DockerTls::new(effective.text("docker_tls_verify"), effective.text("docker_cert_path"))
}

fn labels(effective: &Effective) -> Result<BTreeMap<String, String>, ConfigError> {
    let (most, longest) = MAX_LABELS;
    let labels = effective.map("labels");
    let fine = |text: &str| text.len() <= longest && !text.contains(|c: char| c.is_control());
    if labels.len() > most || !labels.iter().all(|(key, value)| !key.is_empty() && fine(key) && fine(value)) {
        return Err(effective
            .refuse("labels", format!("at most {most} labels of at most {longest} printable characters")));
    }
    Ok(labels.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
        let mut layers = Layers::default();
        layers.env.insert("HOST_IP".into(), "10.0.0.5".into());
        layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        AgentConfig::load(&layers, &[]).map(|(config, _)| config)
    }

    #[test]
    fn masters_default_to_this_host_and_to_the_usual_port() {
        assert_eq!(with(&[]).unwrap().masters, ["http://10.0.0.5:8044"]);
        assert_eq!(with(&[("MASTER_HOST", "10.0.0.1")]).unwrap().masters, ["http://10.0.0.1:8044"]);
        let list = [("MASTER_HOST", "x"), ("SHEF_AGENT_MASTERS", "a, http://b:9/, :7")];
        assert_eq!(with(&list).unwrap().masters, ["http://a:8044", "http://b:9", "http://10.0.0.5:7"]);
        for bad in ["a b", "a:0"] {
            let refused = with(&[("MASTER_HOST", bad)]).unwrap_err().to_string();
            assert!(refused.contains("a list of HOST:PORT"), "{refused}");
        }
    }

    #[test]
    fn names_engines_and_labels_are_checked_where_they_enter() {
        let good = [
            ("SHEF_AGENT_NODE_NAME", "rack-1.a"),
            ("DOCKER_HOST", "tcp://10.0.0.5:2375"),
            ("SHEF_AGENT_LABELS", "zone=a,disk=ssd"),
        ];
        let config = with(&good).unwrap();
        assert_eq!(config.node_name.unwrap().as_str(), "rack-1.a");
        assert_eq!(
            (config.docker_host.as_str(), config.labels["disk"].as_str()),
            ("tcp://10.0.0.5:2375", "ssd")
        );
        for (name, value) in
            [("SHEF_AGENT_NODE_NAME", "A_B"), ("DOCKER_HOST", "ftp://host"), ("SHEF_AGENT_LABELS", "zone")]
        {
            let refused = with(&[(name, value)]).unwrap_err().to_string();
            assert!(refused.contains(&format!("env {name}")), "{refused}");
        }
    }

    #[test]
    fn the_engine_is_named_as_to_the_docker_command() {
        let remote = [
            ("DOCKER_HOST", "tcp://10.0.0.5:2376"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", "/certs"),
        ];
        assert_eq!(
            with(&remote).unwrap().docker_tls,
            DockerTls { verify: true, cert_path: Some("/certs".into()) }
        );
        assert_eq!(with(&[("DOCKER_HOST", "ssh://me@host")]).unwrap().docker_host, "ssh://me@host");
        assert!(!with(&remote[..1]).unwrap().docker_tls.verify);
    }
}
