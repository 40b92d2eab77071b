//! Between Docker's models and the engine's plain types.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, EndpointSettings, EventMessage,
    HealthStatusEnum, HealthcheckResult, PortSummary, PortSummaryTypeEnum, RestartPolicy,
    RestartPolicyNameEnum,
};
use shef_common::{clock::WallMs, labels, logs::LogTime, spec::Protocol, status::PublishedPort};

use super::super::{
    Check, Container, ContainerState, EngineEvent, EventKind, RestartPolicy as Policy, log_lines,
};

pub(super) fn policy_body(policy: Policy) -> RestartPolicy {
    let name = match policy {
        Policy::UnlessStopped | Policy::Unknown => RestartPolicyNameEnum::UNLESS_STOPPED,
        Policy::Never => RestartPolicyNameEnum::NO,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

pub(super) fn policy_of(name: Option<RestartPolicyNameEnum>) -> Policy {
    match name {
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => Policy::UnlessStopped,
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) => Policy::Never,
        Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::ON_FAILURE) | None => Policy::Unknown,
    }
}

pub(super) fn container_of(found: ContainerSummary) -> Option<Container> {
    // A container has further names where others link to it; its own has no second slash.
    let name = found.names?.into_iter().find_map(|name| {
        let own = name.trim_start_matches('/');
        (!own.contains('/')).then(|| own.to_owned())
    })?;
    let state = found.state.as_ref().map(ContainerSummaryStateEnum::to_string).unwrap_or_default();
    let words = found.status.unwrap_or_default();
    let check = if words.ends_with("(unhealthy)") {
        Check::Unhealthy
    } else if words.ends_with("(healthy)") {
        Check::Healthy
    } else if words.ends_with("(health: starting)") {
        Check::Starting
    } else {
        Check::None
    };
    let ports = found.ports.unwrap_or_default().iter().filter_map(listed_port).collect();
    let networks = found.network_settings.and_then(|settings| settings.networks);
    let joined = networks.as_ref().map(|networks| networks.keys().cloned().collect());
    let labels = found.labels.unwrap_or_default();
    Some(Container {
        image: found.image,
        networks: joined,
        exit_code: exit_code(&words),
        check,
        ports: sorted(ports),
        endpoints: endpoints(networks.as_ref()),
        addresses: addresses(networks),
        ..Container::new(found.id?, name, labels, ContainerState::parse(&state), Policy::Unknown)
    })
}

/// What a look at one container shows.
pub(super) fn inspected(found: ContainerInspectResponse) -> Container {
    let state = found.state.unwrap_or_default();
    let policy = found.host_config.and_then(|config| config.restart_policy).and_then(|policy| policy.name);
    let name = found.name.unwrap_or_default().trim_start_matches('/').to_owned();
    let config = found.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let health = state.health.unwrap_or_default();
    let check_output = health.log.unwrap_or_default().pop().and_then(failed_check);
    let check = match health.status {
        Some(HealthStatusEnum::UNHEALTHY) => Check::Unhealthy,
        Some(HealthStatusEnum::HEALTHY) => Check::Healthy,
        Some(HealthStatusEnum::STARTING) => Check::Starting,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Check::None,
    };
    let settings = found.network_settings.unwrap_or_default();
    let mut ports = Vec::new();
    for (key, bindings) in settings.ports.unwrap_or_default() {
        let Some((target, protocol)) = target_of(&key) else { continue };
        for binding in bindings.unwrap_or_default() {
            let host_ip = binding.host_ip.unwrap_or_default().parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
            if let Some(Ok(published)) = binding.host_port.map(|port| port.parse()) {
                ports.push(PublishedPort { target, protocol, host_ip, published });
            }
        }
    }
    let started_at = state.started_at.and_then(|text| LogTime::parse(&text).ok()).map(LogTime::to_wall);
    let exit_code = state.exit_code.filter(|_| state.running == Some(false));
    let word = state.status.map_or(ContainerState::Other, |word| ContainerState::parse(word.as_ref()));
    Container {
        image: config.image,
        env: Some(config.env.unwrap_or_default()),
        networks: settings.networks.as_ref().map(|networks| networks.keys().cloned().collect()),
        started_at,
        exit_code,
        check,
        check_output,
        ports: sorted(ports),
        endpoints: endpoints(settings.networks.as_ref()),
        addresses: addresses(settings.networks),
        ..Container::new(found.id.unwrap_or_default(), name, labels, word, policy_of(policy))
    }
}

/// What a failed check says: its last line, or the code that it ended with.
fn failed_check(check: HealthcheckResult) -> Option<String> {
    let code = check.exit_code.filter(|code| *code != 0)?;
    let written = log_lines(check.output.unwrap_or_default().as_bytes()).pop();
    Some(written.unwrap_or_else(|| format!("it ended with code {code}")))
}

/// The code in the engine's words, as in `Exited (137) 3 minutes ago`.
fn exit_code(words: &str) -> Option<i64> {
    words.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

fn target_of(key: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = key.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some((port.parse().ok()?, protocol))
}

fn listed_port(port: &PortSummary) -> Option<PublishedPort> {
    let protocol = match port.typ? {
        PortSummaryTypeEnum::TCP => Protocol::Tcp,
        PortSummaryTypeEnum::UDP => Protocol::Udp,
        PortSummaryTypeEnum::SCTP | PortSummaryTypeEnum::EMPTY => return None,
    };
    let host_ip = port.ip.as_deref().unwrap_or_default().parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    Some(PublishedPort { target: port.private_port, protocol, host_ip, published: port.public_port? })
}

/// In order, and without the IPv6 twins of what listens on every IPv4 address.
fn sorted(mut ports: Vec<PublishedPort>) -> Vec<PublishedPort> {
    let everywhere: Vec<PublishedPort> =
        ports.iter().copied().filter(|port| port.host_ip == IpAddr::from([0, 0, 0, 0])).collect();
    let is_twin = |port: &PublishedPort| {
        port.host_ip.is_ipv6()
            && everywhere.iter().any(|other| PublishedPort { host_ip: port.host_ip, ..*other } == *port)
    };
    ports.retain(|port| !is_twin(port));
    ports.sort();
    ports.dedup();
    ports
}

fn endpoints(networks: Option<&HashMap<String, EndpointSettings>>) -> BTreeSet<String> {
    let ids = networks.into_iter().flat_map(HashMap::values).filter_map(|end| end.endpoint_id.clone());
    ids.filter(|id| !id.is_empty()).collect()
}

fn addresses(networks: Option<HashMap<String, EndpointSettings>>) -> BTreeMap<String, IpAddr> {
    let address = |(name, endpoint): (String, EndpointSettings)| {
        let text = endpoint.ip_address.filter(|text| !text.is_empty()).or(endpoint.global_ipv6_address)?;
        Some((name, text.parse().ok()?))
    };
    networks.unwrap_or_default().into_iter().filter_map(address).collect()
}

pub(super) fn event_of(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let ms = message.time_nano.map(|ns| ns / 1_000_000);
    let emitted = ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0).map(WallMs);
    let attributes = actor.attributes.unwrap_or_default();
    let kind = match message.action?.as_str() {
        "start" => EventKind::Started,
        "die" => EventKind::Died {
            exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1),
        },
        "kill" => EventKind::Signalled { signal: attributes.get("signal")?.parse().ok()? },
        "oom" => EventKind::OutOfMemory,
        "stop" => EventKind::Stopped,
        "destroy" => EventKind::Destroyed,
        "pause" => EventKind::Paused,
        "unpause" => EventKind::Unpaused,
        "health_status: healthy" => EventKind::Health { healthy: true },
        "health_status: unhealthy" => EventKind::Health { healthy: false },
        _ => return None,
    };
    // An event's attributes are the container's labels, and its name.
    let replica = labels::replica(attributes.get("name").map_or("", String::as_str), &attributes);
    Some(EngineEvent { id: actor.id?, replica, kind, emitted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_carries_the_time_that_the_engine_gives_it() {
        let of = |time: &str| {
            let actor = r#""Actor":{"ID":"a","Attributes":{"signal":"15"}}"#;
            let message = serde_json::from_str(&format!(r#"{{"Action":"kill",{actor}{time}}}"#)).unwrap();
            event_of(message).unwrap()
        };
        let event = of(r#","time":1700000000,"timeNano":1700000000123456789"#);
        assert_eq!(event.kind, EventKind::Signalled { signal: 15 });
        assert_eq!(event.emitted, Some(WallMs(1_700_000_000_123)));
        assert_eq!(of("").emitted, None);
    }
}
