//! Makes the engine's create body of a replica's template.

use std::collections::HashMap;

use bollard::{
    models::{
        ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointIpamConfig, EndpointSettings,
        HealthConfig, HostConfig, HostConfigLogConfig, Mount as MountBody, MountTmpfsOptions, MountType,
        MountVolumeOptions, MountVolumeOptionsDriverConfig, NetworkConnectRequest, NetworkCreateRequest,
        NetworkingConfig, PortBinding, ResourcesUlimits,
    },
    query_parameters::{CreateContainerOptions, CreateImageOptions},
};
use shef_common::{
    labels,
    spec::{
        DEFAULT_PIDS, HealthCheck, HealthTest, HostOnly, Mount, NO_NEW_PRIVILEGES, Network, Port,
        SYSTEM_VOLUMES, Template,
    },
};

use super::models::policy_body;
use crate::engine::{BoundFile, CreateOrder, WantedImage};

/// Networks that every engine has, and that are never made.
const OWN_NETWORKS: [&str; 3] = ["bridge", "host", "none"];

/// Whether `network` is to be made if it is not there.
pub(super) fn may_be_made(network: &Network) -> bool {
    !OWN_NETWORKS.contains(&network.name.as_str())
}

/// The volume of shef's own that a template mounts: it holds the passwords, the store or the ledger. No
/// master of this version sends such a template.
pub(super) fn system_volume(template: &Template) -> Option<&str> {
    template.mounts.iter().find_map(|mount| match mount {
        Mount::Volume { source, .. } => SYSTEM_VOLUMES.contains(&source.as_str()).then_some(source.as_str()),
        Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
    })
}

/// The options of a create, beside the container's configuration.
pub(super) fn create_options(order: &CreateOrder) -> CreateContainerOptions {
    CreateContainerOptions {
        name: Some(order.replica.to_string()),
        platform: order.template.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The engine's options for the pull of `wanted`.
pub(super) fn pull_options(wanted: &WantedImage) -> CreateImageOptions {
    let (name, version) = wanted.image.name_and_version();
    CreateImageOptions {
        from_image: Some(name.to_owned()),
        tag: Some(version.to_owned()),
        platform: wanted.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..Default::default()
    }
}

/// What a container is made of; `first`: the id of its first network.
pub(super) fn create_body(order: &CreateOrder, first: Option<String>) -> ContainerCreateBody {
    let template = &order.template;
    let joins = template.networks.first().filter(|network| may_be_made(network)).zip(first.clone());
    ContainerCreateBody {
        image: Some(order.image.never_an_id().into_owned()),
        cmd: given(&template.command),
        entrypoint: given(&template.entrypoint),
        env: Some(template.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        working_dir: word(&template.working_dir),
        user: word(&template.user),
        hostname: word(&template.hostname),
        domainname: word(&template.domainname),
        // Ours come last: nothing of the user's takes their place.
        labels: Some(template.labels.clone().into_iter().chain(order.labels.clone()).collect()),
        tty: template.tty.then_some(true),
        stop_signal: word(&template.stop_signal),
        stop_timeout: Some(template.stop_grace_s.into()),
        healthcheck: template.health.as_ref().map(health),
        exposed_ports: (!template.ports.is_empty()).then(|| {
            let mut ports: Vec<String> = template.ports.iter().map(port_key).collect();
            ports.sort();
            ports.dedup();
            ports
        }),
        networking_config: joins.map(|(network, id)| NetworkingConfig {
            endpoints_config: Some([(id, endpoint(network))].into()),
        }),
        host_config: Some(host_config(order, first)),
        ..Default::default()
    }
}

fn host_config(order: &CreateOrder, network: Option<String>) -> HostConfig {
    let template: &Template = &order.template;
    let limit = template.resources.limit;
    let cluster = order.labels.get(labels::CLUSTER);
    let mounts = template.mounts.iter().filter(|mount| tmpfs(mount).is_none());
    let mounts = mounts.map(|mount| mount_body(mount, cluster));
    let mounts: Vec<MountBody> = mounts.chain(order.files.iter().map(file_body)).collect();
    HostConfig {
        restart_policy: Some(policy_body(order.policy)),
        init: Some(template.init),
        readonly_rootfs: template.read_only.then_some(true),
        ulimits: (!template.ulimits.is_empty()).then(|| {
            let ulimit = |(name, limit): (&String, &shef_common::spec::Ulimit)| ResourcesUlimits {
                name: Some(name.clone()),
                soft: Some(limit.soft),
                hard: Some(limit.hard),
            };
            template.ulimits.iter().map(ulimit).collect()
        }),
        sysctls: (!template.sysctls.is_empty()).then(|| template.sysctls.clone().into_iter().collect()),
        cap_add: given(&template.cap_add),
        cap_drop: given(&template.cap_drop),
        group_add: given(&template.group_add),
        privileged: template.privileged.then_some(true),
        security_opt: Some(security_options(template)),
        pid_mode: template.pid.map(|HostOnly::Host| "host".to_owned()),
        ipc_mode: template.ipc.map(|ipc| ipc.as_str().to_owned()),
        userns_mode: template.userns.map(|HostOnly::Host| "host".to_owned()),
        cgroup_parent: word(&template.cgroup_parent),
        oom_score_adj: template.oom_score_adj.map(i64::from),
        shm_size: template.shm_bytes.and_then(number),
        extra_hosts: Some(hosts_of(template)).filter(|hosts| !hosts.is_empty()),
        dns: (!template.dns.is_empty()).then(|| template.dns.iter().map(ToString::to_string).collect()),
        log_config: template.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: Some(logging.driver.clone()),
            config: Some(logging.options.clone().into_iter().collect()),
        }),
        devices: (!template.devices.is_empty()).then(|| template.devices.iter().map(device).collect()),
        device_requests: (!template.device_requests.is_empty())
            .then(|| template.device_requests.iter().map(device_request).collect()),
        port_bindings: (!template.ports.is_empty()).then(|| bindings(&template.ports)),
        mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        tmpfs: Some(template.mounts.iter().filter_map(tmpfs).collect())
            .filter(|mounts: &HashMap<_, _>| !mounts.is_empty()),
        network_mode: network,
        nano_cpus: number(limit.cpu_millis.saturating_mul(1_000_000)).filter(|cpus| *cpus != 0),
        memory: number(limit.memory_bytes).filter(|bytes| *bytes != 0),
        // The engine counts memory and swap together.
        memory_swap: limit.swap_bytes.and_then(|swap| number(limit.memory_bytes.saturating_add(swap))),
        pids_limit: number(if limit.pids == 0 { DEFAULT_PIDS } else { limit.pids }),
        ..Default::default()
    }
}

/// The spec's own, and that no program gains privileges, unless the spec says something of that.
fn security_options(template: &Template) -> Vec<String> {
    let says = template.security_opt.iter().any(|option| option.starts_with(NO_NEW_PRIVILEGES));
    let always = (!says).then(|| NO_NEW_PRIVILEGES.to_owned());
    template.security_opt.iter().cloned().chain(always).collect()
}

fn given(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.to_vec())
}

fn word(word: &str) -> Option<String> {
    (!word.is_empty()).then(|| word.to_owned())
}

fn number(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

fn port_key(port: &Port) -> String {
    format!("{}/{}", port.target, port.protocol.as_str())
}

fn bindings(ports: &[Port]) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: port.host_ip.map(|address| address.to_string()),
            // An empty one is the engine's to choose.
            host_port: Some(port.published.map(|port| port.to_string()).unwrap_or_default()),
        };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn mount_body(mount: &Mount, cluster: Option<&String>) -> MountBody {
    match mount {
        Mount::Volume { source, target, read_only, driver, options, sticky: _ } => MountBody {
            typ: Some(MountType::VOLUME),
            source: Some(source.clone()),
            target: Some(target.clone()),
            read_only: Some(*read_only),
            // The engine makes the volume with these if it is not there, and else leaves it as it is.
            volume_options: Some(MountVolumeOptions {
                labels: Some(own_labels(labels::MANAGED_VOLUME, cluster)),
                driver_config: (!driver.is_empty() || !options.is_empty()).then(|| {
                    MountVolumeOptionsDriverConfig {
                        name: Some(if driver.is_empty() { "local".to_owned() } else { driver.clone() }),
                        options: Some(options.clone().into_iter().collect()),
                    }
                }),
                ..Default::default()
            }),
            ..Default::default()
        },
        Mount::Bind { source, target, read_only } => MountBody {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            target: Some(target.clone()),
            read_only: Some(*read_only),
            ..Default::default()
        },
        Mount::Tmpfs { target, size_bytes, mode, mount_options: _ } => MountBody {
            typ: Some(MountType::TMPFS),
            target: Some(target.clone()),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: size_bytes.and_then(number),
                mode: mode.map(i64::from),
                options: None,
            }),
            ..Default::default()
        },
    }
}

/// Without its source such a container neither starts nor is made.
fn file_body(file: &BoundFile) -> MountBody {
    MountBody {
        typ: Some(MountType::BIND),
        source: Some(file.source.clone()),
        target: Some(file.target.clone()),
        read_only: Some(true),
        ..Default::default()
    }
}

/// A tmpfs with options, as the engine takes it: its path and all of its options. Engines before 27 take no
/// options of a mount.
fn tmpfs(mount: &Mount) -> Option<(String, String)> {
    let Mount::Tmpfs { target, size_bytes, mode, mount_options } = mount else { return None };
    if mount_options.is_empty() {
        return None;
    }
    let size = size_bytes.map(|bytes| format!("size={bytes}"));
    let mode = mode.map(|mode| format!("mode={mode:o}"));
    let options: Vec<String> = size.into_iter().chain(mode).chain(mount_options.iter().cloned()).collect();
    Some((target.clone(), options.join(",")))
}

fn own_labels(mark: &str, cluster: Option<&String>) -> HashMap<String, String> {
    let cluster = cluster.map(|cluster| (labels::CLUSTER.to_owned(), cluster.clone()));
    [(mark.to_owned(), "true".to_owned())].into_iter().chain(cluster).collect()
}

fn device(device: &shef_common::spec::Device) -> DeviceMapping {
    let target = if device.target.is_empty() { &device.source } else { &device.target };
    DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: Some(target.clone()),
        cgroup_permissions: Some(if device.permissions.is_empty() {
            "rwm".to_owned()
        } else {
            device.permissions.clone()
        }),
    }
}

fn device_request(request: &shef_common::spec::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: word(&request.driver),
        count: request.count.map(i64::from),
        device_ids: given(&request.device_ids),
        capabilities: (!request.capabilities.is_empty()).then(|| request.capabilities.clone()),
        options: None,
    }
}

/// The engine's part of a health check. The engine does not run checks that the agent makes itself.
fn health(check: &HealthCheck) -> HealthConfig {
    let nanos = |ms: u32| Some(i64::from(ms) * 1_000_000);
    let test = match &check.test {
        HealthTest::Cmd(arguments) => {
            std::iter::once("CMD".to_owned()).chain(arguments.iter().cloned()).collect()
        }
        HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        HealthTest::Http(_) | HealthTest::Tcp { .. } | HealthTest::None => {
            return HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() };
        }
    };
    HealthConfig {
        test: Some(test),
        interval: nanos(check.interval_ms),
        timeout: nanos(check.timeout_ms),
        retries: Some(check.retries.into()),
        start_period: nanos(check.start_period_ms),
        start_interval: None,
    }
}

fn endpoint(network: &Network) -> EndpointSettings {
    let addresses = EndpointIpamConfig {
        ipv4_address: network.ipv4_address.map(|address| address.to_string()),
        ipv6_address: network.ipv6_address.map(|address| address.to_string()),
        ..Default::default()
    };
    EndpointSettings {
        aliases: given(&network.aliases),
        ipam_config: network.has_static_address().then_some(addresses),
        ..Default::default()
    }
}

pub(super) fn connect_body(container: &str, network: &Network) -> NetworkConnectRequest {
    NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint(network)) }
}

pub(super) fn network_body(network: &Network, cluster: Option<&String>) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: network.name.clone(),
        driver: Some("bridge".to_owned()),
        attachable: Some(true),
        labels: Some(own_labels(labels::MANAGED_NETWORK, cluster)),
        ..Default::default()
    }
}

/// Names that are to lead somewhere beside DNS, as the engine writes them.
fn hosts_of(template: &Template) -> Vec<String> {
    let addresses = template.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}"));
    addresses.chain(template.host_gateway.iter().map(|name| format!("{name}:host-gateway"))).collect()
}

#[cfg(test)]
mod tests;
