//! The host's policy as its operator writes it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use shef_common::{
    config::{ConfigError, Effective, Key, Kind, Origin},
    files,
    policy::{MOST, Policy},
    registry::RegistryHost,
    spec::HostNamespace,
};

/// Nothing is asked of a policy.
const OPEN: &str = "open";
/// The agent refuses what the policy does not allow.
const RESTRICTED: &str = "restricted";
/// The keys that say where something lies.
const PLACES: [&str; 2] = ["policy.off_limits", "policy.host_root"];
/// In the data directory: this host has had a policy from its first start on.
const MARK: &str = "agent-policy";

/// The keys below `[policy]`.
pub(super) const KEYS: [Key; 19] = [
    Key {
        name: "policy.mode",
        kind: Kind::Choice(&[RESTRICTED, OPEN]),
        default: RESTRICTED,
        env: &[],
        doc: "restricted: the agent refuses what the keys below do not allow, whichever master asks. open: \
              it refuses nothing.\nA policy never stops what already runs. A host of an earlier version \
              without any key here is open, and logs so at\neach start.",
    },
    Key {
        name: "policy.privileged",
        kind: Kind::Switch,
        default: "false",
        env: &[],
        doc: "Whether containers may be privileged. A privileged container can take over the host, whatever \
              the other keys say.",
    },
    Key {
        name: "policy.host_namespaces",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Namespaces of the host that containers may have: network, pid, ipc, user.",
    },
    Key {
        name: "policy.security_options",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Security options that security_opt may name, such as seccomp=unconfined; a * at the end stands \
              for any end.",
    },
    Key {
        name: "policy.cgroup_parents",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Control groups that cgroup_parent may name.",
    },
    Key {
        name: "policy.devices",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Devices that containers may have, and directories of devices, such as /dev/dri.",
    },
    Key {
        name: "policy.device_requests",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Drivers and capabilities that device_requests may name, such as gpu.",
    },
    Key {
        name: "policy.capabilities",
        kind: Kind::List,
        default: "AUDIT_WRITE,CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,MKNOD,NET_BIND_SERVICE,NET_RAW,SETFCAP,\
                  SETGID,SETPCAP,SETUID,SYS_CHROOT",
        env: &[],
        doc: "Capabilities that cap_add may name, without CAP_. The default is the set that Docker gives to \
              every container.",
    },
    Key {
        name: "policy.sysctls",
        kind: Kind::List,
        default: "net.*,kernel.msg*,kernel.sem,kernel.shm*,fs.mqueue.*",
        env: &[],
        doc: "Kernel parameters that may be set in a container; a * at the end stands for any end.",
    },
    Key {
        name: "policy.bind_dirs",
        kind: Kind::List,
        default: "/srv,/mnt,/data",
        env: &[],
        doc: "Directories of the host that bind mounts and options of volumes may use, with everything below \
              them.\nSymbolic links are followed first. The engine's socket can never be mounted.",
    },
    Key {
        name: "policy.volume_drivers",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Volume drivers beside the engine's own.",
    },
    Key {
        name: "policy.volume_types",
        kind: Kind::List,
        default: "nfs,nfs4,cifs",
        env: &[],
        doc: "File systems that options of volumes of the engine's own driver may name.",
    },
    Key {
        name: "policy.logging_drivers",
        kind: Kind::List,
        default: "json-file,local,journald,none",
        env: &[],
        doc: "Logging drivers.",
    },
    Key {
        name: "policy.registries",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "Registries that images may come from, such as registry.local:5000. Empty: all but link-local \
              addresses and clouds'\nmetadata.",
    },
    Key {
        name: "policy.digests_only",
        kind: Kind::Switch,
        default: "false",
        env: &[],
        doc: "Whether images have to be named by their digest, as in app@sha256:….",
    },
    Key {
        name: "policy.max_replicas",
        kind: Kind::Integer { min: 0, max: 100_000, unit: "replicas" },
        default: "0",
        env: &[],
        doc: "How many replicas the host takes; 0: as many as it is given.",
    },
    Key {
        name: "policy.max_memory_bytes",
        kind: Kind::Integer { min: 0, max: 1 << 50, unit: "bytes" },
        default: "0",
        env: &[],
        doc: "How much memory the limits of all replicas may add up to; 0: no bound. Above 0, each replica \
              must have a limit.",
    },
    Key {
        name: "policy.off_limits",
        kind: Kind::List,
        default: "",
        env: &[],
        doc: "More paths of the host that no mount may lead to, lie below or contain (such as another \
              data-root of Docker). The\nusual paths of Docker and shef need not be named.",
    },
    Key {
        name: "policy.host_root",
        kind: Kind::Path,
        default: "/",
        env: &[],
        doc: "Where the agent sees the host's root directory, to follow symbolic links of mounts. It is not \
              / for an agent in a\ncontainer.",
    },
];

/// What the operator has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// The policy, unless the host is open.
    pub policy: Option<Policy>,
    /// Whether any key of it was set.
    pub is_chosen: bool,
    /// Where the host's own root directory is seen.
    pub host_root: PathBuf,
}

impl PolicyConfig {
    /// Nothing is refused, and that is what the operator wants.
    #[must_use]
    pub fn open() -> Self {
        Self { policy: None, is_chosen: true, host_root: PathBuf::from("/") }
    }

    pub(super) fn from_effective(effective: &Effective) -> Result<Self, ConfigError> {
        let list = |name: &str| {
            let (most, longest) = MOST;
            let words = effective.list(name);
            if words.len() > most || words.iter().any(|word| word.len() > longest) {
                let rule = format!("at most {most} texts of at most {longest} bytes each");
                return Err(effective.refuse(name, rule));
            }
            Ok(words.to_vec())
        };
        let paths = |name: &str| {
            let paths = list(name)?;
            let is_plain = |path: &String| path.starts_with('/') && !path.split('/').any(|part| part == "..");
            if paths.iter().all(is_plain) {
                Ok(paths)
            } else {
                Err(effective.refuse(name, "absolute paths without .."))
            }
        };
        let policy = Policy {
            privileged: effective.switch("policy.privileged"),
            host_namespaces: namespaces(list("policy.host_namespaces")?, effective)?,
            security_options: list("policy.security_options")?,
            cgroup_parents: list("policy.cgroup_parents")?,
            devices: paths("policy.devices")?,
            device_requests: list("policy.device_requests")?,
            capabilities: list("policy.capabilities")?.iter().map(|name| bare(name)).collect(),
            sysctls: list("policy.sysctls")?,
            bind_dirs: paths("policy.bind_dirs")?,
            volume_drivers: list("policy.volume_drivers")?,
            volume_types: list("policy.volume_types")?,
            logging_drivers: list("policy.logging_drivers")?,
            registries: registries(&list("policy.registries")?, effective)?,
            digests_only: effective.switch("policy.digests_only"),
            max_replicas: effective.integer_u32("policy.max_replicas"),
            max_memory_bytes: effective.integer("policy.max_memory_bytes"),
            off_limits: off_limits(effective, paths("policy.off_limits")?),
        };
        Ok(Self {
            policy: (effective.text("policy.mode") == RESTRICTED).then_some(policy),
            // Where things lie is no choice of a policy: a bootstrap says it of every host.
            is_chosen: KEYS
                .iter()
                .filter(|key| !PLACES.contains(&key.name))
                .any(|key| effective.entry(key.name).origin != Origin::Default),
            host_root: effective.path("policy.host_root"),
        })
    }

    /// The policy in force on a host with this data directory. `is_new`: it has held nothing before this
    /// start.
    ///
    /// # Errors
    /// The mark of a new host cannot be written.
    pub fn in_force(&self, data_dir: &Path, is_new: bool) -> std::io::Result<Option<Policy>> {
        let mark = data_dir.join(MARK);
        if is_new && !mark.exists() {
            files::replace(&mark, 0o600, b"This host has had a policy from its first start on.\n")?;
        }
        let in_force = self.policy.clone().filter(|_| self.is_chosen || mark.exists());
        match (&in_force, self.is_chosen) {
            (Some(_), _) => log::info!("the host's policy is restricted: see [policy] of the agent's file"),
            (None, true) => log::warn!("the host's policy is open: services may take all of the host"),
            (None, false) => log::warn!(
                "this host has no policy, as it is older than policies: services may take all of the host. \
                 Set mode = \"restricted\" (or \"open\") below [policy] of the agent's file, or \
                 SHEF_POLICY_MODE=restricted; what runs is left alone"
            ),
        }
        Ok(in_force)
    }
}

/// A capability as templates' demands name it.
fn bare(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
}

/// Registries as templates' demands name them.
fn registries(names: &[String], effective: &Effective) -> Result<Vec<String>, ConfigError> {
    let read = |name: &String| RegistryHost::parse(name).map(|registry| registry.as_str().to_owned());
    names.iter().map(read).collect::<Result<_, _>>().map_err(|_| {
        effective.refuse("policy.registries", "registries such as docker.io or registry.local:5000")
    })
}

/// A namespace by a name that there is.
fn namespaces(names: Vec<String>, effective: &Effective) -> Result<Vec<String>, ConfigError> {
    let is_one = |name: &String| HostNamespace::ALL.iter().any(|namespace| namespace.as_str() == name);
    if names.iter().all(is_one) {
        Ok(names)
    } else {
        Err(effective.refuse("policy.host_namespaces", "some of network, pid, ipc, user"))
    }
}

/// The engine's and shef's own paths on the host.
fn off_limits(effective: &Effective, further: Vec<String>) -> Vec<String> {
    const USUAL: [&str; 10] = [
        "/run/containerd",
        "/run/docker",
        "/run/docker.sock",
        "/run/shef",
        "/var/lib/containerd",
        "/var/lib/docker",
        "/var/lib/shef",
        "/var/run/docker",
        "/var/run/docker.sock",
        "/var/run/shef",
    ];
    let socket = effective.text("docker_host").strip_prefix("unix://");
    let own = [Some(effective.text("data_dir")), Some(effective.text("secrets_dir")), socket];
    let own = own.into_iter().flatten();
    let all: BTreeSet<String> = USUAL.into_iter().chain(own).map(str::to_owned).chain(further).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use shef_common::{config::Layers, spec::Demand};

    use super::*;
    use crate::config::AgentConfig;

    fn with(env: &[(&str, &str)]) -> Result<PolicyConfig, ConfigError> {
        let mut layers = Layers::default();
        layers.env.insert("HOST_IP".into(), "10.0.0.5".into());
        layers.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        AgentConfig::load(&layers, &[]).map(|(config, _)| config.policy)
    }

    #[test]
    fn a_new_host_stays_restricted_an_older_one_is_if_its_operator_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let unsaid = with(&[]).unwrap();
        let in_force = |config: &PolicyConfig, is_new| config.in_force(directory.path(), is_new).unwrap();
        assert!(in_force(&unsaid, false).is_none(), "a host of an earlier version");
        let chosen = with(&[("SHEF_POLICY_MODE", "restricted")]).unwrap();
        assert!(in_force(&chosen, false).is_some());
        assert!(in_force(&unsaid, true).is_some(), "a new host");
        assert!(in_force(&unsaid, false).is_some(), "its later starts");
        assert!(in_force(&with(&[("SHEF_POLICY_MODE", "open")]).unwrap(), false).is_none());
    }

    #[test]
    fn the_default_allows_the_usual_directories_and_what_docker_gives_anyway() {
        let policy = with(&[]).unwrap().policy.unwrap();
        let allows = |demand: Demand| policy.refusal(&demand).is_none();
        assert!(allows(Demand::Bind("/srv/www".into())) && allows(Demand::Capability("CHOWN".into())));
        assert!(allows(Demand::Sysctl("net.core.somaxconn".into())));
        assert!(
            !allows(Demand::Bind("/etc".into())) && !allows(Demand::HostNamespace(HostNamespace::Network))
        );
        assert!(
            !allows(Demand::Capability("SYS_ADMIN".into())) && !allows(Demand::Device("/dev/sda".into()))
        );
    }

    #[test]
    fn the_engines_socket_is_out_of_reach_wherever_it_lies() {
        let root = [("SHEF_POLICY_BIND_DIRS", "/"), ("DOCKER_HOST", "unix:///opt/engine.sock")];
        let policy = with(&root).unwrap().policy.unwrap();
        for path in [
            "/",
            "/run",
            "/var/run",
            "/opt",
            "/opt/engine.sock",
            "/var/lib/docker/volumes",
            "/var/lib/shef",
            "/run/shef/secrets/1",
            "/var/run/shef",
        ] {
            assert!(policy.refusal(&Demand::Bind(path.into())).is_some(), "{path}");
        }
        assert!(policy.refusal(&Demand::Bind("/etc".into())).is_none());
    }

    #[test]
    fn what_a_bootstrap_says_of_every_host_is_no_choice_of_a_policy() {
        let said = [("SHEF_POLICY_HOST_ROOT", "/host"), ("SHEF_POLICY_OFF_LIMITS", "/run/docker.sock")];
        assert!(!with(&said).unwrap().is_chosen);
    }

    #[test]
    fn words_are_taken_in_any_form_that_a_spec_takes() {
        let said = [
            ("SHEF_POLICY_CAPABILITIES", "CAP_NET_ADMIN,sys_time"),
            ("SHEF_POLICY_REGISTRIES", "index.docker.io"),
        ];
        let policy = with(&said).unwrap().policy.unwrap();
        assert_eq!(
            (policy.capabilities, policy.registries),
            (vec!["NET_ADMIN".to_owned(), "SYS_TIME".to_owned()], vec!["docker.io".to_owned()])
        );
    }

    #[test]
    fn lists_of_a_policy_are_checked_where_they_enter() {
        for (name, value) in [
            ("SHEF_POLICY_BIND_DIRS", "srv"),
            ("SHEF_POLICY_BIND_DIRS", "/srv/../etc"),
            ("SHEF_POLICY_DEVICES", "sda"),
            ("SHEF_POLICY_PRIVILEGED", "yes"),
            ("SHEF_POLICY_HOST_NAMESPACES", "mount"),
            ("SHEF_POLICY_MODE", "off"),
        ] {
            let refused = with(&[(name, value)]).unwrap_err().to_string();
            assert!(refused.contains(&format!("env {name}")), "{refused}");
        }
    }
}
