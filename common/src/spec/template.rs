//! What one replica runs.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize, de::value::MapDeserializer};

use super::{
    ContentMount, Demand, Device, DeviceRequest, HealthCheck, HostNamespace, Mount, Network, Platform, Port,
    Resources, Restart,
};
use crate::{fields::NotUnderstood, image::ImageRef};

/// The longest grace at a stop, in seconds.
pub const MAX_STOP_GRACE_S: u32 = 3_600;
/// The most bytes that a template may hold, as JSON.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// What one replica runs. A change of it is a new generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own in a spec")]
pub struct Template {
    /// The image.
    pub image: ImageRef,
    /// When the image is pulled; by default `missing`.
    #[serde(default, skip_serializing_if = "Pull::is_missing")]
    pub pull: Pull,
    /// The platform of the image, such as `linux/arm64`; without it the engine takes its own. Replicas go to
    /// hosts of it, and to hosts whose label `platforms` names it, such as `linux/arm64+linux/386`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Arguments instead of the image's own (`CMD`); empty keeps the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The program instead of the image's own (`ENTRYPOINT`); empty keeps the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Environment variables over the image's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The directory to start in; empty keeps the image's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `user[:group]`, by name or number; empty keeps the image's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The container's host name; empty: the engine's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The domain that follows its host name, as in `example.org`; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// Labels of the container beside ours; `shef` prefixes are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether the engine's small init reaps processes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub init: bool,
    /// Whether the container has a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Whether the root file system is read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// The signal to stop with, as in `SIGTERM`; empty keeps the image's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between the stop signal and the kill: 0 to 3,600.
    #[serde(default = "default_stop_grace_s")]
    pub stop_grace_s: u32,
    /// Limits of the process by name, as in `nofile`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of the container's namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities beside the engine's usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Whether the container may do to its host what root may. Hosts refuse it unless their policy allows it,
    /// as they do with the next five.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Security options of the engine, such as `seccomp=unconfined`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// Whose processes it sees: `host`; by default its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<HostOnly>,
    /// Whose shared memory and semaphores it has; by default the engine's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Ipc>,
    /// Whose users it has where the engine gives containers others: `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<HostOnly>,
    /// The control group above the container's; empty: the engine's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cgroup_parent: String,
    /// Groups of its user beside the image's, by name or number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// How readily the kernel kills its processes where memory is short: -1000 (never) to 1000 (first).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i16>,
    /// The size of `/dev/shm` in bytes; by default the engine's 64 MB.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub shm_bytes: Option<u64>,
    /// Names and their addresses, beside DNS.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "addresses")]
    pub extra_hosts: BTreeMap<String, std::net::IpAddr>,
    /// Names that lead to the host itself, as `host.docker.internal`: what `host-gateway` is for Docker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_gateway: Vec<String>,
    /// DNS servers instead of the engine's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<std::net::IpAddr>,
    /// Where the container's output goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Devices of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// GPUs and the like, as the engine takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_requests: Vec<DeviceRequest>,
    /// Ports on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "super::ports::read")]
    #[schemars(with = "Vec<super::ports::WrittenPort>")]
    pub ports: Vec<Port>,
    /// Volumes, paths and memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Secrets, each mounted as a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ContentMount>,
    /// Configs, each mounted as a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ContentMount>,
    /// Networks of the engine, each made with our label if it is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// What it needs and what it may take.
    #[serde(default, skip_serializing_if = "Resources::is_none")]
    pub resources: Resources,
    /// The health check; by default the image's own, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What happens when its process ends; by default it is started again, whatever it ended with.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// Counts the restarts that its user forced: nothing else need differ between two generations.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forced: u32,
    /// Set on an agent that does not understand all of it: it is of a newer version, and not to be started.
    #[serde(skip)]
    pub not_understood: Option<Arc<NotUnderstood>>,
}

impl Template {
    /// The image with everything else at its default.
    #[must_use]
    pub fn of(image: ImageRef) -> Self {
        let alone = [("image", image.to_string())].into_iter();
        let read = Self::deserialize(MapDeserializer::<_, serde::de::value::Error>::new(alone));
        read.unwrap_or_else(|error| unreachable!("everything but the image has a default: {error}"))
    }

    /// Whether two of its replicas get into each other's way on one host, whatever room it has: they would
    /// share a port, an address, the host's network, a device or a volume that stays there.
    #[must_use]
    pub fn excludes_itself(&self) -> bool {
        self.ports.iter().any(|port| port.published.is_some())
            || self.networks.iter().any(|network| network.name == "host" || network.has_static_address())
            || !self.devices.is_empty()
            || !self.device_requests.is_empty()
            || self.mounts.iter().any(Mount::is_sticky)
    }

    /// Everything that it asks of its host and a policy may refuse.
    #[must_use]
    pub fn demands(&self) -> Vec<Demand> {
        // A new field must be listed here: can a host refuse it?
        let Self {
            image,
            pull: _,
            platform: _,
            command: _,
            entrypoint: _,
            env: _,
            working_dir: _,
            user: _,
            hostname: _,
            domainname: _,
            labels: _,
            init: _,
            tty: _,
            read_only: _,
            stop_signal: _,
            stop_grace_s: _,
            ulimits: _,
            sysctls,
            cap_add,
            cap_drop: _,
            privileged,
            security_opt,
            pid,
            ipc,
            userns,
            cgroup_parent,
            group_add: _,
            oom_score_adj: _,
            shm_bytes: _,
            extra_hosts: _,
            host_gateway: _,
            dns: _,
            logging,
            devices,
            device_requests,
            ports: _,
            mounts,
            // The agent lays them itself, where no mount leads to.
            secrets: _,
            configs: _,
            networks,
            resources: _,
            health: _,
            restart: _,
            forced: _,
            not_understood: _,
        } = self;
        let mut demands = vec![Demand::Registry(image.registry())];
        if !image.has_digest() {
            demands.push(Demand::Tag(image.as_str().to_owned()));
        }
        if networks.iter().any(|network| network.name == "host") {
            demands.push(Demand::HostNamespace(HostNamespace::Network));
        }
        let of_host = [
            (pid.is_some(), HostNamespace::Pid),
            (*ipc == Some(Ipc::Host), HostNamespace::Ipc),
            (userns.is_some(), HostNamespace::User),
        ];
        let of_host = of_host.into_iter().filter(|(is_asked_for, _)| *is_asked_for);
        demands.extend(of_host.map(|(_, namespace)| Demand::HostNamespace(namespace)));
        demands.extend(privileged.then_some(Demand::Privileged));
        // Fields that only take rights away are harmless.
        let loosens =
            |option: &&String| !matches!(option.as_str(), "no-new-privileges" | "no-new-privileges=true");
        demands.extend(security_opt.iter().filter(loosens).cloned().map(Demand::SecurityOption));
        demands.extend((!cgroup_parent.is_empty()).then(|| Demand::CgroupParent(cgroup_parent.clone())));
        demands.extend(sysctls.keys().map(|name| Demand::Sysctl(name.replace('/', "."))));
        let bare = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
        demands.extend(cap_add.iter().map(|name| Demand::Capability(bare(name))));
        demands.extend(devices.iter().map(|device| Demand::Device(device.source.clone())));
        demands.extend(device_requests.iter().flat_map(DeviceRequest::words).map(Demand::DeviceRequest));
        demands.extend(mounts.iter().flat_map(Mount::demands));
        if let Some(Logging { driver, options: _ }) = logging {
            demands.push(Demand::LoggingDriver(driver.clone()));
        }
        demands
    }
}

fn addresses<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, std::net::IpAddr>, D::Error> {
    let read = |(name, text): (String, String)| match text.parse() {
        Ok(address) => Ok((name, address)),
        Err(_) if text == "host-gateway" => Err(serde::de::Error::custom(format!(
            "must hold addresses, but {name} is \"host-gateway\": for the host itself, say host_gateway = \
             [\"{name}\"]"
        ))),
        Err(_) => Err(serde::de::Error::custom(format!(
            "must hold addresses, but {name} is {:?}",
            text.chars().take(80).collect::<String>()
        ))),
    };
    BTreeMap::<String, String>::deserialize(from)?.into_iter().map(read).collect()
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When the host does not have it.
    #[default]
    Missing,
    /// Before every replica.
    Always,
    /// Never: without it the replica fails.
    Never,
}

impl Pull {
    /// Whether it is the default.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// A namespace of the host's instead of one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostOnly {
    /// The host's.
    Host,
}

/// Whose shared memory and semaphores a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ipc {
    /// None.
    None,
    /// Its own.
    Private,
    /// Its own, which other containers may join.
    Shareable,
    /// The host's.
    Host,
}

impl Ipc {
    /// As the engine is told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Private => "private",
            Self::Shareable => "shareable",
            Self::Host => "host",
        }
    }
}

/// A limit of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// The limit at the start; -1: no limit.
    pub soft: i64,
    /// How far the process may raise it; -1: no limit.
    pub hard: i64,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// The engine's logging driver, as in `json-file`.
    pub driver: String,
    /// Options for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Ten seconds, as Docker's own.
#[must_use]
pub const fn default_stop_grace_s() -> u32 {
    10
}
const fn is_false(value: &bool) -> bool {
    !*value
}
const fn is_zero(value: &u32) -> bool {
    *value == 0
}
