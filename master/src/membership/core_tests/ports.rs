//! Hosts that are there without an agent, and what their published ports say.

use std::net::{Ipv4Addr, SocketAddrV4};

use shef_common::protocol::PortsOutcome;

use super::super::{Standing, events::Event};
use super::model::{Model, node, silent};

/// A host that is there without its agent, which publishes one port.
fn without_agent(hosts: usize) -> Model {
    let mut model = that_publishes(hosts, &PortsOutcome::Open);
    let up: Vec<usize> = (1..hosts).collect();
    model.pass(3_000, &up, |_| silent());
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
    model
}

/// A host that publishes one port, which the master finds as `outcome` says.
fn that_publishes(hosts: usize, outcome: &PortsOutcome) -> Model {
    let mut model = Model::ready(hosts);
    let addresses = vec![SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8080)];
    model.event(Event::Published { node: node(0), addresses });
    let looks = std::mem::take(&mut model.port_probes);
    assert_eq!(looks.len(), 1, "the master alone looks");
    for (n, round, by_us) in looks {
        model.event(Event::PortsProbed { node: node(n), round, by_us, outcome: outcome.clone() });
    }
    model
}

/// Lets `span` pass; ports are as `outcome` says of what the master, or another host, finds.
fn pass(model: &mut Model, span: u64, outcome: impl Fn(bool) -> PortsOutcome) {
    let up: Vec<usize> = (1..model.hosts.len()).collect();
    for _ in 0..span / 100 {
        model.pass(100, &up, |_| silent());
        for (n, round, by_us) in std::mem::take(&mut model.port_probes) {
            model.event(Event::PortsProbed { node: node(n), round, by_us, outcome: outcome(by_us) });
        }
    }
}

fn not_probed() -> PortsOutcome {
    PortsOutcome::NotProbed { why: "no socket is left".into() }
}

#[test]
fn a_host_without_agent_and_open_ports_is_down_after_its_time() {
    let mut model = without_agent(3);
    pass(&mut model, 55_000, |_| PortsOutcome::Closed);
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
    pass(&mut model, 7_000, |_| PortsOutcome::Closed);
    assert!(model.condition(0).is_lost());
    assert_eq!(
        model.why(0),
        "its agent does not answer, and neither does any published port of its replicas"
    );
    model.report(0);
    assert!(model.condition(0).takes_replicas());
}

#[test]
fn one_port_that_answers_anybody_keeps_the_host() {
    for answers_us in [true, false] {
        let mut model = without_agent(3);
        let outcome = |by_us| if by_us == answers_us { PortsOutcome::Open } else { PortsOutcome::Closed };
        pass(&mut model, 600_000, outcome);
        assert_eq!(model.condition(0).standing, Standing::AgentDown);
        pass(&mut model, 63_000, |_| PortsOutcome::Closed);
        assert!(model.condition(0).is_lost());
    }
}

#[test]
fn what_the_master_alone_finds_says_nothing_where_other_hosts_could_look() {
    let mut model = without_agent(3);
    pass(&mut model, 600_000, |by_us| if by_us { PortsOutcome::Closed } else { not_probed() });
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
    pass(&mut model, 600_000, |by_us| if by_us { not_probed() } else { PortsOutcome::Closed });
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
    let mut alone = without_agent(1);
    pass(&mut alone, 63_000, |_| PortsOutcome::Closed);
    assert_eq!(alone.condition(0).standing, Standing::Down, "nobody else can look");
}

#[test]
fn ports_that_the_master_has_never_reached_say_nothing() {
    let mut model = that_publishes(3, &PortsOutcome::Closed);
    model.pass(3_000, &[1, 2], |_| silent());
    pass(&mut model, 600_000, |_| PortsOutcome::Closed);
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
}

#[test]
fn without_published_ports_a_host_without_agent_is_never_down() {
    let mut model = Model::ready(2);
    model.pass(600_000, &[1], |_| silent());
    assert_eq!(model.condition(0).standing, Standing::AgentDown);
    assert!(model.port_probes.is_empty());
}
