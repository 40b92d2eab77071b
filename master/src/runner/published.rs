//! Where a host's replicas take connections from other hosts.
//!
//! Replicas that take none count for nothing here: the host is judged by the others.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use shef_common::{
    protocol::MAX_PROBED_PORTS,
    spec::{HealthTest, HttpCheck, Protocol, Template},
    status::{PublishedPort, ReplicaState, ReplicaStatus},
};

/// The addresses at which replicas of the host at `address` take connections, by their last word; of more
/// than [`MAX_PROBED_PORTS`] a sample. `template` says what a replica is to run.
pub fn published<'a>(
    address: Ipv4Addr,
    statuses: impl Iterator<Item = &'a ReplicaStatus>,
    template: impl Fn(&ReplicaStatus) -> Option<&'a Template>,
) -> Vec<SocketAddrV4> {
    let running = statuses.filter(|status| status.state == ReplicaState::Running);
    let of_replicas: Vec<BTreeSet<u16>> = running
        .map(|status| {
            let checked = template(status).and_then(checked_port);
            status.ports.iter().filter_map(|port| reachable(port, address)).chain(checked).collect()
        })
        .collect();
    let ports = sample(&of_replicas, MAX_PROBED_PORTS);
    ports.into_iter().map(|port| SocketAddrV4::new(address, port)).collect()
}

/// The host's port, if others can connect to it.
fn reachable(port: &PublishedPort, address: Ipv4Addr) -> Option<u16> {
    let is_open = port.host_ip.is_unspecified() || port.host_ip == IpAddr::V4(address);
    (port.protocol == Protocol::Tcp && is_open).then_some(port.published)
}

/// The port that a replica's health check connects to, if the replica is in the host's own network.
fn checked_port(template: &Template) -> Option<u16> {
    if !template.networks.iter().any(|network| network.name == "host") {
        return None;
    }
    match &template.health.as_ref()?.test {
        HealthTest::Http(HttpCheck { port, .. }) | HealthTest::Tcp { port } => Some(*port),
        HealthTest::Cmd(_) | HealthTest::Shell(_) | HealthTest::None => None,
    }
}

/// At most `most` of all ports: one of each replica first, and evenly over the replicas if these are more.
fn sample(of_replicas: &[BTreeSet<u16>], most: usize) -> BTreeSet<u16> {
    let first: Vec<u16> = of_replicas.iter().filter_map(|ports| ports.first().copied()).collect();
    let asked = first.len().min(most);
    let of_each: BTreeSet<u16> = (0..asked).map(|n| first[n * first.len() / asked]).collect();
    let others = of_replicas.iter().flatten().filter(|port| !of_each.contains(port));
    let others: BTreeSet<u16> = others.copied().collect();
    let room = most.saturating_sub(of_each.len());
    of_each.iter().copied().chain(others.into_iter().take(room)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shef_common::{clock::WallMs, ids::ReplicaId};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn runs(name: &str, ports: &[(u16, Protocol, [u8; 4])]) -> ReplicaStatus {
        let port = |(published, protocol, ip): &(u16, Protocol, [u8; 4])| PublishedPort {
            target: 80,
            protocol: *protocol,
            host_ip: IpAddr::from(*ip),
            published: *published,
        };
        let ports = ports.iter().map(port).collect();
        let id = ReplicaId::parse(name).unwrap();
        ReplicaStatus { ports, ..ReplicaStatus::new(id, ReplicaState::Running, WallMs(0)) }
    }

    fn open(port: u16) -> (u16, Protocol, [u8; 4]) {
        (port, Protocol::Tcp, [0, 0, 0, 0])
    }

    fn ports(statuses: &[ReplicaStatus], template: Option<&Template>) -> Vec<u16> {
        let published = published(ADDRESS, statuses.iter(), |_| template);
        assert!(published.iter().all(|address| *address.ip() == ADDRESS));
        published.iter().map(SocketAddrV4::port).collect()
    }

    #[test]
    fn only_ports_that_other_hosts_can_reach_count() {
        let udp = (53, Protocol::Udp, [0, 0, 0, 0]);
        let (local, elsewhere) = ((81, Protocol::Tcp, [127, 0, 0, 1]), (82, Protocol::Tcp, [10, 0, 0, 9]));
        let own = (83, Protocol::Tcp, ADDRESS.octets());
        let mut failed = runs("api-000001", &[open(90)]);
        failed.state = ReplicaState::Failed;
        let all = [
            runs("web-000001", &[open(80), udp, own]),
            runs("web-000002", &[local, elsewhere]),
            runs("worker-000001", &[]),
            failed,
        ];
        assert_eq!(ports(&all, None), [80, 83]);
        assert_eq!(ports(&all[1..], None), [] as [u16; 0]);
    }

    #[test]
    fn health_check_ports_count_for_replicas_in_the_hosts_network() {
        let all = [runs("web-000001", &[])];
        let of = |network: &str, test: serde_json::Value| -> Vec<u16> {
            let template: Template = serde_json::from_value(json!({
                "image": "app", "networks": [{"name": network}], "health": {"test": test},
            }))
            .unwrap();
            ports(&all, Some(&template))
        };
        assert_eq!(of("host", json!({"http": {"port": 8080, "path": "/"}})), [8080]);
        assert_eq!(of("host", json!({"tcp": {"port": 6379}})), [6379]);
        assert_eq!(of("host", json!({"shell": "true"})), [] as [u16; 0]);
        assert_eq!(of("bridge", json!({"tcp": {"port": 6379}})), [] as [u16; 0]);
    }

    #[test]
    fn of_many_ports_a_sample_counts_with_one_of_each_replica_if_possible() {
        let many: Vec<_> = (9_000..9_100).map(open).collect();
        let all = [runs("many-000001", &many), runs("web-000001", &[open(9_500)])];
        let sampled = ports(&all, None);
        assert!(sampled.len() == MAX_PROBED_PORTS && sampled.contains(&9_500), "{sampled:?}");
        // Half of the replicas are of either service: so are those that are looked at.
        let of = |name: &str, first: u16| -> Vec<ReplicaStatus> {
            (0..100).map(|n| runs(&format!("{name}-{n:06}"), &[open(first + n)])).collect()
        };
        let all = [of("api", 1_000), of("web", 2_000)].concat();
        let sampled = ports(&all, None);
        assert_eq!(sampled.len(), MAX_PROBED_PORTS);
        assert_eq!(sampled.iter().filter(|port| **port < 2_000).count(), MAX_PROBED_PORTS / 2);
    }
}
