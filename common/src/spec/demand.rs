//! What a template asks of its host that a policy may refuse.

use std::{collections::BTreeMap, fmt};

use crate::registry::RegistryHost;

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
    /// What a volume asks of its host that was made with this driver and these options.
    #[must_use]
    pub fn of_volume(driver: &str, options: &BTreeMap<String, String>) -> Vec<Self> {
        if !driver.is_empty() && driver != "local" {
            return vec![Self::VolumeDriver(driver.to_owned())];
        }
        let of = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
        let (file_system, device) = (of("type"), of("device"));
        let mut demands: Vec<Self> = options
            .keys()
            .filter(|name| !matches!(name.as_str(), "type" | "device" | "o"))
            .map(|name| Self::VolumeOption(name.clone()))
            .collect();
        // The engine hands `o` to the kernel word by word: these make of any type a mount of the path.
        let words = || of("o").split(',').map(str::trim);
        let has_no_type = matches!(file_system, "" | "none" | "bind");
        let is_bind = has_no_type || words().any(|word| matches!(word, "bind" | "rbind"));
        let moves = words().find(|word| matches!(*word, "remount" | "move"));
        demands.extend(moves.map(|word| Self::VolumeOption(format!("o={word}"))));
        if is_bind && !device.is_empty() {
            demands.push(Self::Bind(device.to_owned()));
        }
        // A word that is written otherwise than the engine reads it leaves the type as it is.
        if !has_no_type && file_system != "tmpfs" {
            demands.push(Self::VolumeType(file_system.to_owned()));
        }
        demands
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
