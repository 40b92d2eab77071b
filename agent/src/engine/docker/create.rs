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
mod tests {
    use serde_json::{Value, json};
    use shef_common::{
        fields,
        ids::{ReplicaId, ServiceName},
    };

    use super::*;
    use crate::{engine::RestartPolicy, files::files_of};

    /// Something else than the default in every field that a template has, at any depth.
    fn everything() -> Value {
        let first = json!({
            "image": "app:1", "platform": "linux/arm64", "pull": "always", "command": ["a"],
            "entrypoint": ["b"], "env": {"A": "1"}, "working_dir": "/w",
            "user": "u", "hostname": "h", "labels": {"l": "1"}, "init": true, "tty": true, "read_only": true,
            "stop_signal": "SIGINT", "stop_grace_s": 1, "ulimits": {"nofile": {"soft": 1, "hard": 1}},
            "sysctls": {"net.a": "1"},
            "cap_add": ["ALL"], "cap_drop": ["ALL"], "group_add": ["g"],
            "oom_score_adj": 1, "shm_bytes": 4_096, "privileged": true,
            "security_opt": ["seccomp=unconfined"], "pid": "host", "ipc": "host",
            "userns": "host", "cgroup_parent": "/c",
            "extra_hosts": {"a": "10.0.0.1"}, "host_gateway": ["b"], "dns": ["10.0.0.1"],
            "logging": {"driver": "local", "options": {"a": "b"}}, "forced": 1,
        });
        let second = json!({
            "devices": [{"source": "/dev/null", "target": "/dev/zero", "permissions": "r"}],
            "device_requests": [{"driver": "d", "count": 1, "device_ids": ["0"], "capabilities": [["gpu"]]}],
            "ports": [
                {"target": 80, "published": 80, "protocol": "udp", "host_ip": "10.0.0.1"},
                {"target": 80, "host_ipv6": "::1"},
            ],
            "mounts": [
                {"type": "volume", "source": "v", "target": "/v", "read_only": true, "driver": "d",
                    "options": {"a": "b"}, "sticky": true},
                {"type": "bind", "source": "/b", "target": "/b", "read_only": true},
                {"type": "tmpfs", "target": "/t", "size_bytes": 4_096, "mode": 1_023,
                    "mount_options": ["exec"]},
            ],
            "secrets": [{"source": "s", "version": "0123456789abcdef0123456789abcdef", "target": "t",
                "uid": 1, "gid": 1, "mode": 256}],
            "configs": [{"source": "c", "version": "0123456789abcdef0123456789abcdef", "target": "t",
                "uid": 1, "gid": 1, "mode": 256}],
            "networks": [{"name": "n", "aliases": ["a"], "ipv4_address": "10.1.0.9",
                "ipv6_address": "fd00::9"}],
            "resources": {
                "reserve": {"cpu_millis": 1, "memory_bytes": 1},
                "limit": {"cpu_millis": 1_000, "memory_bytes": 8_388_608, "swap_bytes": 1, "pids": 1},
            },
            "health": {"test": {"shell": "true"}, "interval_ms": 1, "timeout_ms": 1, "retries": 1,
                "start_period_ms": 1, "on_unhealthy": "replace"},
            "restart": {"condition": "never", "delay_ms": 1, "max_attempts": 1, "window_ms": 1},
        });
        let fields = [first, second].into_iter().flat_map(|part| part.as_object().unwrap().clone());
        Value::Object(fields.collect())
    }

    /// The other kinds of health check.
    fn checks() -> [Value; 3] {
        [
            json!({"cmd": ["true"]}),
            json!({"tcp": {"port": 1}}),
            json!({"http": {"port": 1, "path": "/", "https": true, "headers": {"a": "b"}, "status": [200]}}),
        ]
    }

    /// Fields that the engine is not told: the agent itself pulls, checks and restarts; the scheduler
    /// reserves resources and keeps slots on their hosts; a forced restart changes nothing.
    fn is_of_no_concern_to_the_engine(path: &str) -> bool {
        ["image", "pull", "restart", "forced", "resources.reserve", "mounts[].sticky", "health.on_unhealthy"]
            .iter()
            .any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// `value` without each of its fields, by the field's path.
    fn without_each(value: &Value, path: &str) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let with = |inner: Option<Value>| {
                        let mut fields = fields.clone();
                        match inner {
                            Some(inner) => fields.insert(name.clone(), inner),
                            None => fields.remove(name),
                        };
                        Value::Object(fields)
                    };
                    found.push((path.clone(), with(None)));
                    found.extend(
                        without_each(field, &path).into_iter().map(|(path, inner)| (path, with(Some(inner)))),
                    );
                }
            }
            Value::Array(items) => {
                for (nth, item) in items.iter().enumerate() {
                    let with = |inner: Value| {
                        let mut items = items.clone();
                        items[nth] = inner;
                        Value::Array(items)
                    };
                    let inner = without_each(item, &format!("{path}[]"));
                    found.extend(inner.into_iter().map(|(path, inner)| (path, with(inner))));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        found
    }

    /// The create request for a template.
    fn config_for(template: Template) -> Value {
        let service = ServiceName::parse("web").unwrap();
        let files = files_of(&template, "/run/shef/secrets/00000000000000a1");
        let order = CreateOrder {
            replica: ReplicaId::new(&service, 1),
            image: template.image.clone(),
            template: template.into(),
            labels: HashMap::new(),
            policy: RestartPolicy::UnlessStopped,
            files,
        };
        let body = create_body(&order, Some("id-of-n".to_owned()));
        serde_json::to_value((create_options(&order), body)).unwrap()
    }

    #[test]
    fn no_container_gains_privileges_or_has_processes_without_bound() {
        let mut template = Template::of(shef_common::image::ImageRef::parse("app").unwrap());
        let host = &config_for(template.clone())[1]["HostConfig"];
        assert_eq!(
            (&host["SecurityOpt"], &host["PidsLimit"]),
            (&json!(["no-new-privileges"]), &json!(4_096))
        );
        for (given, wanted) in [
            (json!(["seccomp=unconfined"]), json!(["seccomp=unconfined", "no-new-privileges"])),
            (json!(["no-new-privileges=false"]), json!(["no-new-privileges=false"])),
        ] {
            template.security_opt = serde_json::from_value(given).unwrap();
            assert_eq!(config_for(template.clone())[1]["HostConfig"]["SecurityOpt"], wanted);
        }
    }

    #[test]
    fn volumes_of_the_control_plane_are_told_apart() {
        let mounts = |source: &str| -> Template {
            serde_json::from_value(json!({
                "image": "app",
                "mounts": [
                    {"type": "tmpfs", "target": "/t"},
                    {"type": "volume", "source": source, "target": "/v"},
                ],
            }))
            .unwrap()
        };
        assert_eq!(system_volume(&mounts("shef-secrets")), Some("shef-secrets"));
        // An earlier version took this name of a user's own.
        assert_eq!(system_volume(&mounts("shef-data")), None);
    }

    #[test]
    fn every_field_of_a_template_reaches_the_engine() {
        let whole = everything();
        let template: Template = serde_json::from_value(whole.clone()).unwrap();
        let mut set = fields::needed(&template, fields::all());
        for check in checks() {
            let mut other = whole.clone();
            other["health"]["test"] = check;
            set.extend(fields::needed(&serde_json::from_value(other).unwrap(), fields::all()));
        }
        // A path with `=` is a word, not a field.
        let forgotten: Vec<_> =
            fields::all().iter().filter(|path| !path.contains('=') && !set.contains(*path)).collect();
        assert!(forgotten.is_empty(), "these fields are missing in this test: {forgotten:?}");
        let whole_config = config_for(template);
        for (path, without) in without_each(&whole, "") {
            // Of a map the keys are no fields; without a field that is required there is no template.
            if !fields::all().contains(&path) || is_of_no_concern_to_the_engine(&path) {
                continue;
            }
            if let Ok(template) = serde_json::from_value(without) {
                assert_ne!(config_for(template), whole_config, "the engine does not get {path}");
            }
        }
    }
}
