//! What a push costs, and how a host's ledger is known without being sent.

use std::{collections::BTreeMap, sync::Arc};

use shef_common::protocol::{Assignment, LedgerDigest, MAX_PUSH_BYTES, PushRefused, Refusal};

use super::*;
use crate::runner::PushFailure;

/// Assignments of these numbers that share one template of about so many bytes.
fn of_template(numbers: std::ops::Range<u32>, bytes: usize) -> Vec<Assignment> {
    let mut template = assignment(0).template;
    Arc::make_mut(&mut template).env.insert("CONFIG".into(), "x".repeat(bytes));
    numbers.map(|n| Assignment { template: template.clone(), ..assignment(n) }).collect()
}

fn newest() -> Model {
    let mut model = Model::new();
    model.agent.ledger = Some(BTreeMap::new());
    model
}

impl Agent {
    /// Its ledger does not hold a replica any more, though its revision says so.
    fn loses(&mut self, n: u32) {
        self.ledger.as_mut().unwrap().remove(&replica(n)).unwrap();
    }
}

impl Model {
    fn wants(&mut self, set: Vec<Assignment>) {
        self.wanted.extend(set.iter().map(|one| one.replica.clone()));
        self.event(Event::Order { set, remove: vec![] });
    }

    /// Delivers pushes until there is none. Returns how many bytes each had, and how many assignments.
    fn delivered(&mut self) -> Vec<(usize, usize)> {
        self.agent.pushed.clear();
        while self.push.is_some() {
            self.deliver(true, true);
        }
        self.agent.pushed.clone()
    }

    fn holds_what_is_wanted(&self) -> bool {
        self.agent.holds == self.wanted && self.agent.digest() == Some(self.core.wanted_digest())
    }
}

#[test]
fn a_template_that_a_thousand_replicas_share_is_sent_once_a_push() {
    let mut model = newest();
    model.register();
    model.delivered();
    model.wants(of_template(0..1_000, 100 * 1024));
    let pushes = model.delivered();
    let bytes: usize = pushes.iter().map(|(bytes, _)| bytes).sum();
    // Written out they come to 100 MiB: an agent takes 32 MiB at a time.
    assert!(pushes.len() == 4 && bytes < 600 * 1024, "{pushes:?}");
    assert!(model.holds_what_is_wanted());
}

#[test]
fn no_push_is_above_its_bound_whatever_the_host_is_to_hold() {
    let mut model = newest();
    model.wants(of_template(0..8_000, 100));
    for n in 0..40 {
        model.wants(of_template(10_000 + n..10_001 + n, 60 * 1024 + n as usize));
    }
    model.register();
    let pushes = model.delivered();
    let most = pushes.iter().map(|(bytes, _)| *bytes).max().unwrap();
    let sum: usize = pushes.iter().map(|(_, set)| set).sum();
    assert!(pushes.len() > 2 && most <= MAX_PUSH_BYTES && most > MAX_PUSH_BYTES / 2, "{pushes:?}");
    assert_eq!(sum, 8_040, "each assignment once");
    assert!(model.holds_what_is_wanted());
}

/// Counted in bytes, with 100 and with 5,000 replicas on the host.
#[test]
fn what_a_push_costs_follows_from_what_has_changed() {
    let bytes_of_a_change = |count| {
        let mut model = newest();
        model.wants(of_template(0..count, 1_000));
        model.register();
        model.delivered();
        model.wants(of_template(90_000..90_001, 1_000));
        let pushes = model.delivered();
        assert_eq!(pushes.len(), 1);
        pushes[0].0
    };
    let (few, many) = (bytes_of_a_change(100), bytes_of_a_change(5_000));
    assert!(few.abs_diff(many) < 10 && few < 2_000, "{few} and {many} bytes");
}

#[test]
fn a_new_leader_sends_nothing_that_the_host_holds_already() {
    let mut model = newest();
    let wanted = of_template(0..500, 10 * 1024);
    model.wants(wanted.clone());
    model.register();
    model.delivered();
    model.another_leads(2, wanted);
    model.register();
    let pushes = model.delivered();
    assert!(matches!(pushes[..], [(bytes, 0)] if bytes < 1_000), "{pushes:?}");
    assert_eq!(model.agent.accepted.as_ref().map(|accepted| &accepted.fence), Some(&fence(2)));
    // Changes build on it.
    model.wants(of_template(900..901, 10));
    assert_eq!(model.delivered().len(), 1);
    assert!(model.holds_what_is_wanted());
}

#[test]
fn a_new_leader_that_wants_something_else_sends_it() {
    let mut model = newest();
    model.wants(of_template(0..50, 100));
    model.register();
    model.delivered();
    model.another_leads(2, of_template(0..51, 100));
    model.wanted.insert(replica(50));
    model.register();
    assert_eq!(model.delivered().iter().map(|(_, set)| set).sum::<usize>(), 51);
    assert!(model.holds_what_is_wanted());
}

#[test]
fn a_host_whose_ledger_has_changed_since_it_registered_is_sent_everything() {
    let mut model = newest();
    let wanted = of_template(0..3, 100);
    model.wants(wanted.clone());
    model.register();
    model.delivered();
    model.another_leads(2, wanted);
    model.register();
    // A late push of the earlier leader arrives first.
    model.agent.loses(1);
    model.deliver(true, true);
    model.sleep(1_000);
    assert_eq!(model.delivered().iter().map(|(_, set)| set).sum::<usize>(), 3);
    assert!(model.holds_what_is_wanted());
}

#[test]
fn a_ledger_that_differs_is_found_by_the_next_report_and_mended() {
    let mut model = newest();
    model.wants(of_template(0..3, 100));
    model.register();
    model.settle();
    model.agent.loses(1);
    model.agent.want_full = false;
    model.report();
    assert!(model.agent.want_full, "it may hold something that is not known here");
    assert_eq!(model.delivered().iter().map(|(_, set)| set).sum::<usize>(), 3);
    model.report();
    assert!(model.push.is_none() && model.holds_what_is_wanted());
}

#[test]
fn a_ledger_that_is_found_wrong_at_the_registration_is_mended() {
    let mut model = newest();
    model.wants(of_template(0..3, 100));
    model.register();
    model.settle();
    model.agent.loses(1);
    model.register();
    assert_eq!(model.delivered().iter().map(|(_, set)| set).sum::<usize>(), 3);
    model.register();
    assert!(model.push.is_none() && model.holds_what_is_wanted());
}

/// As one that lies, or one that reads a template otherwise.
#[test]
fn an_agent_with_another_digest_is_sent_everything_ever_more_rarely() {
    let mut model = newest();
    model.wants(of_template(0..3, 100));
    model.register();
    model.settle();
    let mut snapshots = 0;
    for _ in 0..2_000 {
        let mut report = model.agent.report();
        report.ledger = Some(LedgerDigest::default());
        model.event(Event::Report(1, Box::new(report)));
        snapshots += model.delivered().len();
        model.sleep(500);
    }
    assert!((5..15).contains(&snapshots), "{snapshots} in 1,000 s");
}

#[test]
fn a_snapshot_in_lost_or_repeated_parts_arrives_whole() {
    let mut model = newest();
    model.core.set_push_room(500);
    model.wants(of_template(0..20, 100));
    model.register();
    let first = model.push.clone().unwrap();
    model.deliver(true, true);
    let second = model.push.clone().unwrap();
    assert_eq!((first.base, second.base), (None, Some(first.revision)));
    model.deliver(false, false);
    model.sleep(5_000);
    model.deliver(true, false);
    model.sleep(5_000);
    // A part that comes twice, and the first one after others.
    let refused = model.agent.take(&first).unwrap_err();
    assert!(
        matches!(&refused, PushFailure::Refused(PushRefused { why: Refusal::WrongBase, .. })),
        "{refused:?}"
    );
    model.deliver(true, true);
    model.agent.boot += 1;
    model.agent.seq = 0;
    model.register();
    model.sleep(5_000);
    model.delivered();
    model.settle();
    assert!(model.holds_what_is_wanted());
}

#[test]
fn an_agent_of_before_is_sent_a_snapshot_as_one() {
    for by_name in [false, true] {
        let mut model = Model::new();
        model.agent.by_name = by_name;
        model.core.set_push_room(500);
        model.wants(of_template(0..20, 100));
        model.register();
        assert_eq!(model.delivered().iter().map(|(_, set)| *set).collect::<Vec<_>>(), [20]);
        assert_eq!(model.agent.holds, model.wanted);
    }
}

#[test]
fn a_new_leader_sends_credentials_though_assignments_are_held() {
    use shef_common::{
        image::ImageRef,
        registry::{Credentials, RegistryHost},
    };
    let mut model = newest();
    let private = ImageRef::parse("registry.example/app").unwrap();
    let of =
        |n| Assignment { template: shef_common::spec::Template::of(private.clone()).into(), ..assignment(n) };
    let wanted = vec![assignment(1), of(2)];
    model.wants(wanted.clone());
    model.register();
    model.delivered();
    model.another_leads(2, wanted);
    let registry = RegistryHost::parse("registry.example").unwrap();
    let shown = Credentials { username: "u".into(), password: "p".into() };
    model.event(Event::Credentials(Arc::new([(registry, shown)].into())));
    model.register();
    let push = model.push.clone().unwrap();
    assert!(push.holds.is_some() && push.credentials.len() == 1);
    assert_eq!(push.set.iter().map(|one| one.replica.clone()).collect::<Vec<_>>(), [replica(2)]);
    model.delivered();
    assert!(model.holds_what_is_wanted());
}
