//! What a template asks of its host that a policy may refuse.

use std::{collections::BTreeMap, fmt};

use super::mounts;
use crate::{
    registry::RegistryHost,
    spec::{DeviceRequest, Ipc, Logging, Template},
};

/// One thing that a template asks of its host. Its display follows "refuses".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// To be privileged.
    Privileged,
    /// A namespace of the host instead of one of its own.
    HostNamespace(HostNamespace),
    /// A security option of the engine.
    SecurityOption(String),
    /// A control group above its own.
    CgroupParent(String),
    /// A device of the host.
    Device(String),
    /// A driver or a capability of `device_requests`.
    DeviceRequest(String),
    /// A capability, without `CAP_`.
    Capability(String),
    /// A kernel parameter.
    Sysctl(String),
    /// A path of the host, whichever way it is mounted.
    Bind(String),
    /// A volume driver beside the engine's own.
    VolumeDriver(String),
    /// A file system that the engine's own driver mounts.
    VolumeType(String),
    /// An unknown option of the engine's own driver.
    VolumeOption(String),
    /// A logging driver.
    LoggingDriver(String),
    /// The registry that its image comes from.
    Registry(RegistryHost),
    /// An image that is not named by its digest.
    Tag(String),
}

/// The namespaces of the host that a container may use instead of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostNamespace {
    /// Its network.
    Network,
    /// Its processes.
    Pid,
    /// Its shared memory and semaphores.
    Ipc,
    /// Its users.
    User,
}

impl HostNamespace {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Network, Self::Pid, Self::Ipc, Self::User];

    /// Its word in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::User => "user",
        }
    }
}

impl Demand {
    /// Everything that `template` asks of its host.
    #[must_use]
    pub fn of(template: &Template) -> Vec<Self> {
        // A new field must be listed here: can a host refuse it?
        let Template {
            image,
            pull: _,
            platform: _,
            command: _,
            entrypoint: _,
            env: _,
            working_dir: _,
            user: _,
            hostname: _,
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
        } = template;
        let mut demands = vec![Self::Registry(image.registry())];
        if !image.has_digest() {
            demands.push(Self::Tag(image.as_str().to_owned()));
        }
        if networks.iter().any(|network| network.name == "host") {
            demands.push(Self::HostNamespace(HostNamespace::Network));
        }
        let of_host = [
            (pid.is_some(), HostNamespace::Pid),
            (*ipc == Some(Ipc::Host), HostNamespace::Ipc),
            (userns.is_some(), HostNamespace::User),
        ];
        let of_host = of_host.into_iter().filter(|(is_asked_for, _)| *is_asked_for);
        demands.extend(of_host.map(|(_, namespace)| Self::HostNamespace(namespace)));
        demands.extend(privileged.then_some(Self::Privileged));
        // Fields that only take rights away are harmless.
        let loosens =
            |option: &&String| !matches!(option.as_str(), "no-new-privileges" | "no-new-privileges=true");
        demands.extend(security_opt.iter().filter(loosens).cloned().map(Self::SecurityOption));
        demands.extend((!cgroup_parent.is_empty()).then(|| Self::CgroupParent(cgroup_parent.clone())));
        demands.extend(sysctls.keys().map(|name| Self::Sysctl(name.replace('/', "."))));
        let bare = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
        demands.extend(cap_add.iter().map(|name| Self::Capability(bare(name))));
        demands.extend(devices.iter().map(|device| Self::Device(device.source.clone())));
        demands.extend(device_requests.iter().flat_map(words_of).map(Self::DeviceRequest));
        demands.extend(mounts.iter().flat_map(mounts::demands));
        if let Some(Logging { driver, options: _ }) = logging {
            demands.push(Self::LoggingDriver(driver.clone()));
        }
        demands
    }

    /// What a volume asks of its host that was made with this driver and these options.
    #[must_use]
    pub fn of_volume(driver: &str, options: &BTreeMap<String, String>) -> Vec<Self> {
        mounts::of_volume(driver, options)
    }

    /// The field of a spec that asks for it.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::HostNamespace(HostNamespace::Network) => "networks",
            Self::HostNamespace(HostNamespace::Pid) => "pid",
            Self::HostNamespace(HostNamespace::Ipc) => "ipc",
            Self::HostNamespace(HostNamespace::User) => "userns",
            Self::SecurityOption(_) => "security_opt",
            Self::CgroupParent(_) => "cgroup_parent",
            Self::Device(_) => "devices",
            Self::DeviceRequest(_) => "device_requests",
            Self::Capability(_) => "cap_add",
            Self::Sysctl(_) => "sysctls",
            Self::Bind(_) | Self::VolumeDriver(_) | Self::VolumeType(_) | Self::VolumeOption(_) => "mounts",
            Self::LoggingDriver(_) => "logging.driver",
            Self::Registry(_) | Self::Tag(_) => "image",
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str("privileged containers"),
            Self::HostNamespace(HostNamespace::Network) => f.write_str("the host's network"),
            Self::HostNamespace(name) => write!(f, "the host's {} namespace", name.as_str()),
            Self::SecurityOption(option) => write!(f, "the security option {option}"),
            Self::CgroupParent(parent) => write!(f, "the control group {parent}"),
            Self::Device(path) => write!(f, "the device {path}"),
            Self::DeviceRequest(word) => write!(f, "{word} devices"),
            Self::Capability(name) => write!(f, "the capability {name}"),
            Self::Sysctl(name) => write!(f, "the kernel parameter {name}"),
            Self::Bind(path) => write!(f, "the mount of {path}"),
            Self::VolumeDriver(driver) => write!(f, "the volume driver {driver}"),
            Self::VolumeType(file_system) => write!(f, "volumes of the type {file_system}"),
            Self::VolumeOption(option) => write!(f, "the volume option {option}"),
            Self::LoggingDriver(driver) => write!(f, "the logging driver {driver}"),
            Self::Registry(registry) => write!(f, "images of {registry}"),
            Self::Tag(image) => write!(f, "images that are not named by their digest, such as {image}"),
        }
    }
}

/// What a request for devices names.
fn words_of(request: &DeviceRequest) -> Vec<String> {
    let DeviceRequest { driver, count: _, device_ids: _, capabilities } = request;
    let driver = Some(driver.clone()).filter(|driver| !driver.is_empty());
    let mut words: Vec<String> = driver.into_iter().chain(capabilities.iter().flatten().cloned()).collect();
    // Engines take an alternative without a word for one that every driver meets.
    if words.is_empty() || capabilities.iter().any(Vec::is_empty) {
        words.push("any".to_owned());
    }
    words
}
