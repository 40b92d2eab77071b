//! Between Docker's models and the engine's plain types.

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, EventMessage, HostConfig, RestartPolicy,
    RestartPolicyNameEnum,
};

use super::super::{Container, ContainerState, CreateOrder, EngineEvent, EventKind, RestartPolicy as Policy};

pub(super) fn create_body(order: &CreateOrder) -> ContainerCreateBody {
    let template = &order.template;
    ContainerCreateBody {
        image: Some(template.image.as_str().to_owned()),
        cmd: (!template.command.is_empty()).then(|| template.command.clone()),
        env: Some(template.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(order.labels.clone()),
        host_config: Some(HostConfig {
            restart_policy: Some(policy_body(Policy::UnlessStopped)),
            init: Some(false),
            ..Default::default()
        }),
        ..Default::default()
    }
}

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
    Some(Container {
        id: found.id?,
        name,
        labels: found.labels.unwrap_or_default(),
        state: ContainerState::parse(&state),
        unhealthy: found.status.is_some_and(|words| words.ends_with("(unhealthy)")),
        policy: Policy::Unknown,
    })
}

pub(super) fn event_of(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let kind = match message.action?.as_str() {
        "start" => EventKind::Started,
        "die" => EventKind::Died { exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1) },
        "stop" => EventKind::Stopped,
        "destroy" => EventKind::Destroyed,
        "pause" => EventKind::Paused,
        "unpause" => EventKind::Unpaused,
        "health_status: healthy" => EventKind::Health { healthy: true },
        "health_status: unhealthy" => EventKind::Health { healthy: false },
        _ => return None,
    };
    Some(EngineEvent { id: actor.id?, name: attributes.get("name")?.clone(), kind })
}
