//! Hosts and services for tests of what readers see.

use std::{collections::BTreeMap, net::Ipv4Addr};

use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, NodeUid, ReplicaId, ServiceName, Slot, Version},
    image::ImageRef,
    protocol::HostInfo,
    spec::{ServiceSpec, Template},
    status::{Health, ReplicaState},
};

use crate::{
    membership::Standing,
    runner::{IntentView, NodeView},
    service::{ReplicaView, ServiceHead, ServiceState, ServiceView, Want},
};

/// A host at 10.0.0.`last`, whose last report was at `last_report`.
pub(crate) fn host(name: &str, last: u8, last_report: u64) -> NodeView {
    NodeView {
        name: NodeName::parse(name).unwrap(),
        uid: NodeUid::parse("0123456789abcdef").unwrap(),
        state: Standing::Ready,
        intent: IntentView::default(),
        flapping: false,
        held: false,
        reason: None,
        host: HostInfo {
            address: Ipv4Addr::new(10, 0, 0, last),
            agent_url: String::new(),
            labels: BTreeMap::new(),
            cpus: 1,
            memory_bytes: 1,
            engine_version: String::new(),
            engine_api: String::new(),
            os: String::new(),
            arch: String::new(),
            shef_version: String::new(),
            engine_id: None,
            policy: None,
        },
        tls: true,
        joined: WallMs(1),
        last_report: Some(WallMs(last_report)),
        wanted: 0,
        removing: 0,
    }
}

/// A service with a running replica on each of `nodes`.
pub(crate) fn service(name: &str, nodes: &[&str]) -> (ServiceName, Option<ServiceView>) {
    let name = ServiceName::parse(name).unwrap();
    let replica = |(n, node): (u32, &&str)| ReplicaView {
        id: ReplicaId::new(&name, n),
        slot: Slot(n),
        generation: Generation(1),
        node: NodeName::parse(node).unwrap(),
        want: Want::Run,
        state: ReplicaState::Running,
        health: Health::Healthy,
        host: crate::membership::Standing::Ready,
        host_down: false,
        reason: None,
        container_id: Some(format!("{n:064}")),
        restarts: 0,
        exit_code: None,
        warning: None,
        last_log_lines: Vec::new(),
        ports: Vec::new(),
        addresses: Vec::new(),
        since: None,
    };
    let head = ServiceHead {
        spec: ServiceSpec::of(
            name.clone(),
            u32::try_from(nodes.len()).unwrap(),
            Template::of(ImageRef::parse("app:1").unwrap()),
        ),
        generation: Generation(1),
        image_digest: None,
        differing_images: std::collections::BTreeMap::new(),
        version: Version(1),
        state: ServiceState::Running,
        wanted: u32::try_from(nodes.len()).unwrap(),
        running: u32::try_from(nodes.len()).unwrap(),
        missing: Vec::new(),
        unconfirmed: 0,
        missing_more: 0,
        failing: None,
        rebalancing: None,
        observed_generation: None,
        on_trial: 0,
        trial_failed: None,
        ended_for_good: 0,
        rollout: None,
        last_rollout: None,
        probation: None,
        history: Vec::new(),
        kept_images: Vec::new(),
        kept_contents: Vec::new(),
        created: WallMs(1),
        updated: WallMs(1),
    };
    let view = ServiceView { head, replica_states: (0..).zip(nodes).map(replica).collect() };
    (name, Some(view))
}
