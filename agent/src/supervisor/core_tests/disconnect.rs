//! What happens while no master answers (`on_disconnect`).

use shef_common::{
    ids::{ReplicaId, Revision},
    protocol::Assignment,
    spec::OnDisconnect,
    status::ReplicaState,
};

use super::bench::{Bench, End, assignment};
use crate::{
    engine::ContainerState,
    supervisor::{
        core::{Event, Operation},
        followed::Followed,
    },
};

fn stopping_after(number: u32, seconds: u32) -> Assignment {
    Assignment { on_disconnect: OnDisconnect::StopAfter { seconds }, ..assignment(number) }
}

fn order(bench: &mut Bench, set: &[Assignment]) {
    bench.rests.extend(set.iter().map(|a| a.replica.clone()));
    bench.change(set, &[]);
    bench.carry_out();
}

fn state(bench: &Bench, number: u32) -> ContainerState {
    bench.containers[assignment(number).replica.as_str()].state
}

fn reason(bench: &Bench, number: u32) -> (ReplicaState, Option<&str>) {
    let id: ReplicaId = assignment(number).replica;
    (bench.reported.statuses[&id].state, bench.reported.statuses[&id].reason.as_deref())
}

const RESTS: &str = "stopped: no master was heard of for 30 s (on_disconnect)";

#[test]
fn each_service_has_its_time_and_the_rest_runs_on() {
    let mut bench = Bench::new();
    order(&mut bench, &[assignment(0), stopping_after(2, 30), stopping_after(4, 60)]);
    for _ in 0..100 {
        bench.pass(500);
        bench.feed(Event::MasterAnswered);
    }
    assert!([0, 2, 4].iter().all(|n| state(&bench, *n) == ContainerState::Running), "a master answers");
    bench.pass(29_999);
    assert_eq!(state(&bench, 2), ContainerState::Running);
    bench.pass(1);
    assert_eq!(
        [0, 2, 4].map(|n| state(&bench, n)),
        [ContainerState::Running, ContainerState::Exited, ContainerState::Running]
    );
    assert_eq!(reason(&bench, 2), (ReplicaState::Starting, Some(RESTS)));
    bench.pass(30_000);
    assert_eq!([0, 4].map(|n| state(&bench, n)), [ContainerState::Running, ContainerState::Exited]);
    // Nothing of it is forgotten or removed, and a look changes nothing.
    assert_eq!(bench.disk.assignments.len(), 3);
    bench.pass(600_000);
    assert_eq!(state(&bench, 2), ContainerState::Exited);
    assert_eq!(reason(&bench, 2), (ReplicaState::Starting, Some(RESTS)));
    // A master answers: it has a moment to order away what it has replaced.
    bench.feed(Event::MasterAnswered);
    bench.carry_out();
    assert_eq!(state(&bench, 2), ContainerState::Exited);
    bench.pass(1_000);
    bench.push(Some(Revision(1)), &[], &[4]);
    bench.pass(1_000);
    bench.pass(1_000);
    assert_eq!(state(&bench, 2), ContainerState::Running);
    assert_eq!(reason(&bench, 2), (ReplicaState::Running, None));
    assert!(!bench.containers.contains_key(assignment(4).replica.as_str()), "what was replaced goes");
}

#[test]
fn another_time_is_a_matter_of_the_ledger_alone() {
    let mut bench = Bench::new();
    order(&mut bench, &[stopping_after(0, 30)]);
    bench.pass(20_000);
    let before = bench.containers.clone();
    order(&mut bench, &[assignment(0)]);
    assert_eq!(bench.containers, before);
    bench.pass(100_000);
    assert_eq!(state(&bench, 0), ContainerState::Running, "it runs on now");
    order(&mut bench, &[stopping_after(0, 30)]);
    bench.pass(1);
    assert_eq!(state(&bench, 0), ContainerState::Exited, "the time has long passed");
}

#[test]
fn a_restarted_agent_starts_nothing_it_stopped_until_a_master_answers() {
    let mut bench = Bench::new();
    order(&mut bench, &[stopping_after(0, 30), stopping_after(2, 300)]);
    bench.pass(40_000);
    assert_eq!([0, 2].map(|n| state(&bench, n)), [ContainerState::Exited, ContainerState::Running]);
    bench.crash(false);
    bench.carry_out();
    bench.pass(299_000);
    assert_eq!([0, 2].map(|n| state(&bench, n)), [ContainerState::Exited, ContainerState::Running]);
    bench.pass(1_000);
    assert_eq!([0, 2].map(|n| state(&bench, n)), [ContainerState::Exited, ContainerState::Exited]);
    bench.feed(Event::MasterAnswered);
    bench.pass(2_000);
    assert_eq!([0, 2].map(|n| state(&bench, n)), [ContainerState::Running, ContainerState::Running]);
}

#[test]
fn an_unanswered_stop_is_tried_again_and_nothing_is_removed() {
    let mut bench = Bench::new();
    order(&mut bench, &[stopping_after(0, 30)]);
    bench.advance(30_000);
    for end in [End::Lost, End::Lost, End::Well] {
        let stop = loop {
            let index = bench
                .pending
                .iter()
                .position(|p| matches!(p, super::bench::Pending::Run(_, Operation::Stop { .. })));
            if let Some(index) = index {
                break index;
            }
            if bench.pending.is_empty() {
                bench.advance(1_000);
            } else {
                bench.finish(0, End::Well);
            }
        };
        bench.finish(stop, end);
    }
    bench.carry_out();
    assert_eq!(state(&bench, 0), ContainerState::Exited);
}

/// For how long the host says that it has heard nothing of its leader.
fn silent_ms(bench: &Bench) -> u64 {
    let followed = Followed::default();
    bench.core.show_followed(&followed);
    followed.get(bench.now.mono).unwrap().leader_silent_ms
}

#[test]
fn orders_tell_of_the_leader_also_while_it_gets_no_report() {
    let mut bench = Bench::new();
    order(&mut bench, &[stopping_after(2, 30)]);
    bench.feed(Event::MasterAnswered);
    bench.pass(12_000);
    assert_eq!(silent_ms(&bench), 12_000);
    order(&mut bench, &[assignment(3)]);
    assert_eq!(silent_ms(&bench), 0);
    // What stops after a time goes by the reports, as it does for the master.
    bench.pass(18_000);
    assert_eq!((silent_ms(&bench), state(&bench, 2)), (18_000, ContainerState::Exited));
}
