//! Networks are there as long as something needs them, and no longer.

use shef_common::ids::Revision;

use super::bench::{Bench, End, Pending};

#[test]
fn the_last_replicas_network_is_removed_unless_another_container_uses_it() {
    let mut bench = Bench::new();
    bench.push(None, &[2, 5], &[]);
    bench.settle();
    assert_eq!(bench.networks.names().iter().collect::<Vec<_>>(), ["net-2", "net-5"]);
    // Somebody else's container is in one of them, and does not run.
    let mut foreign = Bench::foreign("guest");
    foreign.networks = Some(["net-5".to_owned()].into());
    bench.containers.insert("guest".into(), foreign);
    bench.push(Some(Revision(1)), &[], &[2, 5]);
    bench.settle();
    assert_eq!(bench.networks.names().iter().collect::<Vec<_>>(), ["net-5"]);
    bench.containers.remove("guest");
    bench.crash(true);
    bench.settle();
    assert!(bench.networks.names().is_empty(), "a new agent looks, too");
}

#[test]
fn nothing_is_made_while_networks_go_and_a_failure_is_tried_again() {
    let mut bench = Bench::new();
    bench.push(None, &[2], &[]);
    bench.carry_out();
    bench.push(Some(Revision(1)), &[], &[2]);
    bench.carry_out();
    let stopped = bench.reported.statuses.keys().cloned().collect();
    bench.feed(super::super::core::Event::Acknowledged(stopped));
    let removes = |bench: &Bench| bench.pending.iter().position(|p| matches!(p, Pending::RemoveNetworks(_)));
    bench.advance(10_000);
    let at = removes(&bench).expect("the network is removed");
    // Another one is ordered in the same moment, whose network is not among those that stay.
    bench.push(Some(Revision(2)), &[5], &[]);
    while let Some(other) = bench.pending.iter().position(|p| !matches!(p, Pending::RemoveNetworks(_))) {
        bench.finish(other, End::Well);
    }
    assert!(bench.ours().is_empty(), "it waits");
    bench.finish(removes(&bench).unwrap_or(at), End::AnswerLost);
    bench.desired = [5].into();
    bench.settle();
    bench.assert_as_desired();
}
