//! A host's policy: what its operator lets services ask of the host. The agent reads it from a file of the
//! host and enforces it against every master; a master only knows it, and places replicas where they are not
//! refused.
//!
//! A policy is a list of what is allowed. What a template asks of a host are its [`Demand`]s; what is no
//! demand is harmless to the host, and is allowed everywhere.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{bounds, ids::NodeName, spec::Demand};

/// The most entries of each list of a policy, and the most bytes of each.
pub const MOST: (usize, usize) = (256, 256);

/// What services may ask of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Policy {
    /// Whether containers may be privileged: then nothing here keeps them from taking the host.
    pub privileged: bool,
    /// Namespaces of the host that containers may have: `network`, `pid`, `ipc`, `user`.
    #[serde(deserialize_with = "bounded")]
    pub host_namespaces: Vec<String>,
    /// Security options of the engine, such as `seccomp=unconfined`; a `*` at the end stands for any end.
    #[serde(deserialize_with = "bounded")]
    pub security_options: Vec<String>,
    /// Control groups that containers may be put below.
    #[serde(deserialize_with = "bounded")]
    pub cgroup_parents: Vec<String>,
    /// Devices, and directories of devices, that containers may have.
    #[serde(deserialize_with = "bounded")]
    pub devices: Vec<String>,
    /// Drivers and capabilities of `device_requests` that containers may name, such as `gpu`.
    #[serde(deserialize_with = "bounded")]
    pub device_requests: Vec<String>,
    /// Capabilities that may be added, without `CAP_`.
    #[serde(deserialize_with = "bounded")]
    pub capabilities: Vec<String>,
    /// Kernel parameters that may be set; a `*` at the end stands for any end.
    #[serde(deserialize_with = "bounded")]
    pub sysctls: Vec<String>,
    /// Directories of the host that may be mounted, with all below them.
    #[serde(deserialize_with = "bounded")]
    pub bind_dirs: Vec<String>,
    /// Volume drivers beside the engine's own.
    #[serde(deserialize_with = "bounded")]
    pub volume_drivers: Vec<String>,
    /// File systems that volumes of the engine's own driver may be made of, such as `nfs`.
    #[serde(deserialize_with = "bounded")]
    pub volume_types: Vec<String>,
    /// Logging drivers.
    #[serde(deserialize_with = "bounded")]
    pub logging_drivers: Vec<String>,
    /// Registries that images may come from; empty: all but those that are
    /// link-local and metadata addresses.
    #[serde(deserialize_with = "bounded")]
    pub registries: Vec<String>,
    /// Whether images have to be named by their digest.
    pub digests_only: bool,
    /// How many replicas the host takes; 0: as many as it is given.
    pub max_replicas: u32,
    /// How many bytes of memory all replicas together may take, by their limits; 0: as many as they like.
    #[serde(deserialize_with = "bounds::number")]
    pub max_memory_bytes: u64,
    /// Sockets and directories of the engine and of shef. None of them, nothing below one and no directory
    /// above one may be mounted.
    #[serde(deserialize_with = "bounded")]
    pub off_limits: Vec<String>,
}

/// A demand that a policy does not allow, and the line that would allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The refused demand, in words that follow "refuses".
    pub what: String,
    /// The line of the policy that allows it, if one can.
    pub line: Option<String>,
}

impl Refusal {
    /// What allows it on this host, to follow another host's message; empty: nothing does.
    #[must_use]
    pub fn remedy_on(&self, node: &NodeName) -> String {
        match &self.line {
            Some(line) => format!(
                "; the operator of host {node} can allow it: {line} below [policy] in the agent's file"
            ),
            None => String::new(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this host's policy refuses {}", self.what)?;
        match &self.line {
            Some(line) => {
                write!(f, "; the host's operator can allow it: {line} below [policy] in the agent's file")
            }
            None => Ok(()),
        }
    }
}

impl Policy {
    /// The first of `demands` that is not allowed.
    #[must_use]
    pub fn refuses<'a>(&self, demands: &'a [Demand]) -> Option<&'a Demand> {
        demands.iter().find(|demand| !self.allows(demand))
    }

    /// Why `demand` is refused, if it is.
    #[must_use]
    pub fn refusal(&self, demand: &Demand) -> Option<Refusal> {
        (!self.allows(demand)).then(|| Refusal { what: demand.to_string(), line: self.line(demand) })
    }

    /// How many replicas more with this limit of memory (0: none) a host takes that has so many, which may
    /// take so many bytes.
    #[must_use]
    pub fn room(&self, replicas: usize, taken_bytes: u64, limit_bytes: u64) -> u64 {
        let by_count = match self.max_replicas {
            0 => u64::MAX,
            most => u64::from(most).saturating_sub(replicas as u64),
        };
        let by_memory = match self.max_memory_bytes {
            0 => u64::MAX,
            most => most.saturating_sub(taken_bytes).checked_div(limit_bytes).unwrap_or(0),
        };
        by_count.min(by_memory)
    }

    /// Why a host that has so many replicas, which may take so many bytes, takes no further one with this
    /// limit of memory (0: none).
    #[must_use]
    pub fn has_no_room(&self, replicas: usize, taken_bytes: u64, limit_bytes: u64) -> Option<Refusal> {
        if self.room(replicas, taken_bytes, limit_bytes) > 0 {
            return None;
        }
        let (most_replicas, most_bytes) = (self.max_replicas, self.max_memory_bytes);
        let wanted = taken_bytes.saturating_add(limit_bytes);
        let (what, line) = if most_replicas > 0 && replicas >= most_replicas as usize {
            (format!("more than {most_replicas} replicas"), format!("max_replicas = {}", replicas + 1))
        } else if limit_bytes == 0 {
            let what = format!(
                "replicas without resources.limit.memory_bytes, as all together may take {most_bytes} bytes \
                 of memory"
            );
            (what, "max_memory_bytes = 0".to_owned())
        } else {
            let what = format!(
                "more than {most_bytes} bytes of memory for all replicas together ({wanted} with this one)"
            );
            (what, format!("max_memory_bytes = {wanted}"))
        };
        Some(Refusal { what, line: Some(line) })
    }

    fn allows(&self, demand: &Demand) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|allowed| allowed == word);
        match demand {
            Demand::Privileged => self.privileged,
            Demand::HostNamespace(name) => has(&self.host_namespaces, name.as_str()),
            Demand::SecurityOption(option) => matches(&self.security_options, option),
            Demand::CgroupParent(parent) => has(&self.cgroup_parents, parent),
            Demand::Device(path) => self.devices.iter().any(|allowed| is_below(path, allowed)),
            Demand::DeviceRequest(word) => has(&self.device_requests, word),
            Demand::Capability(name) => has(&self.capabilities, name),
            Demand::Sysctl(name) => matches(&self.sysctls, name),
            Demand::Bind(path) => {
                !self.is_off_limits(path) && self.bind_dirs.iter().any(|dir| is_below(path, dir))
            }
            Demand::VolumeDriver(driver) => has(&self.volume_drivers, driver),
            Demand::VolumeType(file_system) => has(&self.volume_types, file_system),
            Demand::VolumeOption(_) => false,
            Demand::LoggingDriver(driver) => has(&self.logging_drivers, driver),
            Demand::Registry(registry) => {
                has(&self.registries, registry.as_str())
                    || (self.registries.is_empty() && !registry.is_of_the_machine())
            }
            Demand::Tag(_) => !self.digests_only,
        }
    }

    /// Whether a mount of `path` gives access to something of the engine or of shef.
    #[must_use]
    pub fn is_off_limits(&self, path: &str) -> bool {
        self.off_limits.iter().any(|own| is_below(own, path) || is_below(path, own))
    }

    /// The line that would allow `demand` beside what is allowed now.
    fn line(&self, demand: &Demand) -> Option<String> {
        let with = |key: &str, list: &[String], word: &str| {
            let words: Vec<String> =
                list.iter().map(String::as_str).chain([word]).map(|word| format!("\"{word}\"")).collect();
            Some(format!("{key} = [{}]", words.join(", ")))
        };
        match demand {
            Demand::Privileged => Some("privileged = true".to_owned()),
            Demand::HostNamespace(name) => with("host_namespaces", &self.host_namespaces, name.as_str()),
            Demand::SecurityOption(option) => with("security_options", &self.security_options, option),
            Demand::CgroupParent(parent) => with("cgroup_parents", &self.cgroup_parents, parent),
            Demand::Device(path) => with("devices", &self.devices, path),
            Demand::DeviceRequest(word) => with("device_requests", &self.device_requests, word),
            Demand::Capability(name) => with("capabilities", &self.capabilities, name),
            Demand::Sysctl(name) => with("sysctls", &self.sysctls, name),
            Demand::Bind(path) if self.is_off_limits(path) => None,
            Demand::Bind(path) => with("bind_dirs", &self.bind_dirs, path),
            Demand::VolumeDriver(driver) => with("volume_drivers", &self.volume_drivers, driver),
            Demand::VolumeType(file_system) => with("volume_types", &self.volume_types, file_system),
            Demand::VolumeOption(_) => None,
            Demand::LoggingDriver(driver) => with("logging_drivers", &self.logging_drivers, driver),
            // A list with it alone would refuse all others.
            Demand::Registry(_) if self.registries.is_empty() => None,
            Demand::Registry(registry) => with("registries", &self.registries, registry.as_str()),
            Demand::Tag(_) => Some("digests_only = false".to_owned()),
        }
    }
}

/// Whether `list` has `word`, or the beginning of it with a `*` behind.
fn matches(list: &[String], word: &str) -> bool {
    list.iter().any(|allowed| match allowed.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => word == allowed,
    })
}

/// Reads a list within its bounds.
fn bounded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let (most, longest) = MOST;
    let words = Vec::<String>::deserialize(from)?;
    if words.len() > most || words.iter().any(|word| word.len() > longest) {
        return Err(D::Error::custom(format!(
            "a list of a policy holds at most {most} words of at most {longest} bytes each"
        )));
    }
    Ok(words)
}

/// Whether `path` is `directory` or lies below it, by its name. A path that is not plain lies nowhere.
fn is_below(path: &str, directory: &str) -> bool {
    let parts = |path: &str| -> Option<Vec<String>> {
        let rest = path.strip_prefix('/')?;
        let parts: Vec<String> =
            rest.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
        (!parts.iter().any(|part| part == "..")).then_some(parts)
    };
    match (parts(path), parts(directory)) {
        (Some(path), Some(directory)) => path.starts_with(&directory),
        (None, _) | (_, None) => false,
    }
}
