//! The cluster's core: its recovery, and what it does while another master leads.

mod addresses;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use shef_common::{
    clock::{DurationMs, MonoMs, Now, WallMs},
    ids::{
        BootId, ClusterId, Epoch, Fence, Generation, LeaderId, NodeName, NodeUid, Revision, ServiceName,
        Version,
    },
    image::ImageRef,
    protocol::{Accepted, Alive, HostInfo, ProbeOutcome, Registration},
    spec::{ServiceSpec, Template},
};

use super::{
    core::{ClusterCore, ClusterOptions},
    events::{Effect, Event, PhaseView, Succession},
    first_life::Answer,
    members::{FORGOTTEN_LIMIT, LEADER_SILENCE},
    recovery::Recovered,
};
use crate::{
    membership::{HostChanged, HostCondition, Intent, Standing},
    runner::{HigherFence, NodeRecord, RegisterRefused, RunnerEvent},
    service::{self, Expect, Refused, Request, ServiceEvent, ServiceRecord, Stored, Versions},
    store::{Leadership, ahead_of_other_stores},
};

const NOW: Now = Now { mono: MonoMs(1_000), wall: WallMs(1_000) };

fn fence(epoch: u64, leader: &str) -> Fence {
    Fence { epoch: Epoch(epoch), leader: LeaderId::parse(leader).unwrap() }
}
fn ours() -> Fence {
    fence(3, "00000000000000aa")
}
fn theirs() -> Fence {
    fence(4, "00000000000000bb")
}
fn node() -> NodeName {
    NodeName::parse("h1").unwrap()
}
fn host() -> HostInfo {
    HostInfo {
        address: std::net::Ipv4Addr::LOCALHOST,
        agent_url: "http://127.0.0.1:1".into(),
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
    }
}
fn uid() -> NodeUid {
    NodeUid::parse("00000000000000c1").unwrap()
}

fn register(follows: Fence, silent: Option<u64>) -> Event {
    let registration = json!({
        "node": node(), "uid": uid(), "boot": BootId::parse("00000000000000b1").unwrap(),
        "cluster": ClusterId::parse("0000000000000001").unwrap(),
        "accepted": Accepted { fence: follows, revision: Revision(1) },
        "holds": [], "host": host(), "leader_silent_ms": silent,
    });
    let registration: Registration = serde_json::from_value(registration).unwrap();
    Event::Register { call: 7, registration: Box::new(registration) }
}

fn create(name: &str) -> Request {
    Request::Put { spec: spec(name), expect: Expect::Any }
}
fn spec(name: &str) -> ServiceSpec {
    ServiceSpec::of(ServiceName::parse(name).unwrap(), 1, Template::of(ImageRef::parse("nginx").unwrap()))
}

fn options() -> ClusterOptions {
    ClusterOptions {
        report_interval: DurationMs(500),
        history_limit: 10,
        wave: crate::service::WAVE,
        forgotten_limit: FORGOTTEN_LIMIT,
        takes_over: false,
        has_ca: false,
        seed: 1,
    }
}

fn recovering(services: &[&str]) -> (ClusterCore, Vec<Effect>) {
    let node = NodeRecord {
        node: node(),
        uid: uid(),
        host: host(),
        understands: BTreeSet::new(),
        joined: WallMs(1),
        intent: Intent::Active,
        forgotten: None,
    };
    let recovered = Recovered {
        authority: None,
        identities: vec![],
        services: services
            .iter()
            .map(|name| Stored {
                record: ServiceRecord::new(spec(name), NOW.wall),
                versions: Versions::of_whole(Version(1)),
            })
            .collect(),
        nodes: vec![(Version(1), node)],
        registries: vec![],
        contents: vec![],
        tokens: vec![],
    };
    let leadership = Leadership { cluster: ClusterId::parse("0000000000000001").unwrap(), fence: ours() };
    ClusterCore::new(options(), leadership, recovered, NOW)
}

/// All of it, as long as the core asks to go on.
fn recover(core: &mut ClusterCore) -> Vec<Effect> {
    let mut all = Vec::new();
    loop {
        let effects = core.handle(Event::Continue, NOW);
        let goes_on = effects.iter().any(|effect| matches!(effect, Effect::Continue));
        all.extend(effects);
        if !goes_on {
            return all;
        }
    }
}

fn said(name: &str) -> Event {
    Event::Recovered(ServiceName::parse(name).unwrap())
}
fn is_let_in(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::ToRunner(_, RunnerEvent::Register(7, _))))
}
fn is_sent_away(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::AnswerRegistration(7, Err(RegisterRefused::Later(_)))))
}
fn leading() -> ClusterCore {
    let (mut core, _) = recovering(&[]);
    let _ = recover(&mut core);
    core
}

#[test]
fn hosts_and_users_wait_until_every_service_is_recovered() {
    let (mut core, _) = recovering(&["web", "db"]);
    assert!(!is_let_in(&core.handle(register(ours(), None), NOW)));
    assert!(!is_let_in(&recover(&mut core)), "all services are made, and none has said anything");
    let name = ServiceName::parse("web").unwrap();
    assert!(core.handle(Event::Ask { call: 9, name, request: create("web") }, NOW).is_empty());
    assert!(!is_let_in(&core.handle(said("web"), NOW)));
    let effects = core.handle(said("db"), NOW);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ShowPhase(PhaseView::Leading))));
    assert!(is_let_in(&effects), "{effects:?}");
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::ToService(name, _) if name.as_str() == "web")),
        "{effects:?}"
    );
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::SpawnService { .. })),
        "web is there already"
    );
}

#[test]
fn a_fenced_master_ends_its_actors_and_answers_whoever_waits() {
    let mut core = leading();
    let name = ServiceName::parse("web").unwrap();
    let _ = core.handle(Event::Ask { call: 9, name, request: create("web") }, NOW);
    let effects = core.handle(Event::Fenced(theirs()), NOW);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Answer(9, Err(Refused::NotLeader)))),
        "{effects:?}"
    );
    assert!(effects.iter().any(|effect| matches!(effect, Effect::EndService(_))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::EndRunner(_))));
    assert!(is_sent_away(&core.handle(register(theirs(), Some(0)), NOW)));
}

#[test]
fn a_master_stands_down_before_a_leader_that_has_just_answered_a_host() {
    let mut core = leading();
    let effects = core.handle(register(theirs(), Some(0)), NOW);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::ShowPhase(PhaseView::Deposed(_)))),
        "{effects:?}"
    );
    assert!(is_sent_away(&effects));
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::ClaimLeadership { .. } | Effect::ToRunner(..))),
        "{effects:?}"
    );
}

#[test]
fn a_report_of_a_host_that_follows_another_leader_asks_for_a_registration() {
    let mut core = leading();
    let _ = core.handle(register(ours(), None), NOW);
    let mut report = |follows| {
        let accepted = Accepted { fence: follows, revision: Revision(1) };
        let report = json!({
            "cluster": "0000000000000001", "node": node(), "boot": "00000000000000b1", "seq": 1,
            "accepted": accepted, "full": false, "statuses": [],
        });
        core.handle(Event::Report { call: 8, report: serde_json::from_value(report).unwrap() }, NOW)
    };
    assert!(matches!(&report(ours())[..], [Effect::ToRunner(_, RunnerEvent::Report(8, _))]));
    assert!(matches!(&report(theirs())[..], [Effect::Acknowledge(8, ack)] if ack.want_registration));
    assert!(matches!(&report(fence(2, "00000000000000bb"))[..], [Effect::ToRunner(..)]), "an earlier one");
}

#[test]
fn a_refused_push_makes_a_master_stand_down_too() {
    let mut core = leading();
    let higher = HigherFence { fence: theirs(), silent: Some(DurationMs(0)) };
    let effects = core.handle(Event::StaleFence(node(), higher), NOW);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::ShowPhase(PhaseView::Deposed(_)))),
        "{effects:?}"
    );
}

#[test]
fn a_deposed_master_starts_again_once_its_hosts_miss_the_leader() {
    let mut core = leading();
    let _ = core.handle(Event::Fenced(theirs()), NOW);
    let starts = |effects: &[Effect]| {
        // Whatever the store says: its next starts lead above all that the other one may come to lead as.
        let expected = Succession { takes_over: false, above: ahead_of_other_stores(theirs().epoch) };
        effects.iter().any(|effect| matches!(effect, Effect::StartAgain(after) if *after == expected))
    };
    assert!(!starts(&core.handle(register(theirs(), Some(LEADER_SILENCE.0 - 1)), NOW)));
    let silent = || register(theirs(), Some(LEADER_SILENCE.0));
    let later = Now { mono: MonoMs(5_000), ..NOW };
    assert!(!starts(&core.handle(silent(), NOW)), "it may have been cut off itself");
    assert!(starts(&core.handle(silent(), later)));
    assert!(!starts(&core.handle(silent(), later)), "once");
}

#[test]
fn a_restored_store_and_an_operator_make_a_master_start_again() {
    let starts = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::StartAgain(Succession { takes_over: true, .. })))
    };
    let nobody = Fence { epoch: Epoch(9), leader: LeaderId::none() };
    assert!(starts(&leading().handle(Event::Fenced(nobody), NOW)));
    let mut core = leading();
    assert!(!starts(&core.handle(Event::TakeOver, NOW)), "it leads");
    let _ = core.handle(Event::Fenced(theirs()), NOW);
    assert!(starts(&core.handle(Event::TakeOver, NOW)));
}

/// A host of another cluster comes to a master that knows nothing.
fn foreign(silent: u64) -> Event {
    let Event::Register { call, mut registration } = register(theirs(), Some(silent)) else { unreachable!() };
    registration.cluster = Some(ClusterId::parse("0000000000000002").unwrap());
    Event::Register { call, registration }
}
fn empty() -> ClusterCore {
    let leadership = Leadership { cluster: ClusterId::parse("0000000000000001").unwrap(), fence: ours() };
    let mut core = ClusterCore::new(options(), leadership, Recovered::default(), NOW).0;
    let _ = recover(&mut core);
    core
}
fn leads_theirs(effects: &[Effect]) -> bool {
    let theirs = "0000000000000002";
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::ClaimLeadership { cluster, .. } if cluster.as_str() == theirs))
}

#[test]
fn an_empty_master_begins_nothing_while_a_host_waits_unless_told_so() {
    let mut core = empty();
    let effects = core.handle(foreign(0), NOW);
    assert!(is_sent_away(&effects) && !leads_theirs(&effects), "its leader may be there: {effects:?}");
    let ask = || Event::Ask { call: 9, name: ServiceName::parse("web").unwrap(), request: create("web") };
    let effects = core.handle(ask(), NOW);
    assert!(
        matches!(&effects[..], [Effect::Answer(9, Err(Refused::Store(why)))] if why.contains("host h1")),
        "{effects:?}"
    );
    let _ = core.handle(Event::TakeOver, NOW);
    assert!(leads_theirs(&core.handle(foreign(0), NOW)));
    let later = Now { mono: MonoMs(60_000), ..NOW };
    let effects = empty().handle(ask(), later);
    assert!(takes_over(&effects), "nobody waits: {effects:?}");
}

/// A host comes: of no cluster, or of this one with a replica of `web` that was made of `template`.
fn comes(holds: Option<serde_json::Value>) -> Event {
    let held = |template| {
        json!({"replica": "web-000001", "service": "web", "slot": 0, "generation": 1,
        "template": template})
    };
    let registration = json!({
        "node": "h9", "uid": "00000000000000c9", "boot": "00000000000000b9",
        "cluster": holds.as_ref().map(|_| "0000000000000001"), "accepted": null,
        "holds": holds.into_iter().map(held).collect::<Vec<_>>(), "host": host(),
    });
    Event::Register { call: 7, registration: Box::new(serde_json::from_value(registration).unwrap()) }
}
fn takes_over(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::SpawnService { name, .. } if name.as_str() == "web"))
}

#[test]
fn containers_that_an_agent_without_ledger_finds_late_are_taken_over() {
    let mut core = leading();
    assert!(is_let_in(&core.handle(comes(None), NOW)), "who knows of no cluster cannot tell what it holds");
    let effects = core.handle(comes(Some(json!({"image": "nginx", "stop_grace_s": 10}))), NOW);
    assert!(takes_over(&effects) && !is_let_in(&effects), "{effects:?}");
}

#[test]
fn a_host_with_containers_of_a_newer_version_is_not_admitted() {
    let newer = json!({"image": "nginx", "stop_grace_s": 10, "from_tomorrow": true});
    for joins_first in [false, true] {
        let mut core = leading();
        if joins_first {
            assert!(is_let_in(&core.handle(comes(None), NOW)));
        }
        let effects = core.handle(comes(Some(newer.clone())), NOW);
        let refused = |effect: &Effect| match effect {
            Effect::AnswerRegistration(7, Err(RegisterRefused::Conflict(why))) => {
                why.contains("from_tomorrow")
            }
            _ => false,
        };
        assert!(effects.len() == 1 && refused(&effects[0]), "{effects:?}");
    }
}

#[test]
fn who_asks_a_starting_master_again_takes_its_own_place() {
    let (mut core, _) = recovering(&["web"]);
    assert!(core.handle(register(ours(), None), NOW).is_empty());
    assert!(is_sent_away(&core.handle(register(ours(), None), NOW)), "the earlier call is answered");
    let name = ServiceName::parse("web").unwrap();
    let ask = |call| Event::Ask { call, name: name.clone(), request: create("web") };
    let refused: Vec<u64> = (100..3_000)
        .filter(|call| matches!(core.handle(ask(*call), NOW)[..], [Effect::Answer(_, Err(Refused::Busy))]))
        .collect();
    assert_eq!(refused.len(), 2_900 - 2_047);
    let _ = recover(&mut core);
    assert!(is_let_in(&core.handle(said("web"), NOW)));
}

/// The master ends between the two registrations of a host that joins without its ledger.
#[test]
fn what_an_agent_finds_is_taken_over_also_by_the_master_that_comes_after() {
    let event = |cluster: Option<&str>, holds: serde_json::Value| {
        let registration = json!({
            "node": "h9", "uid": "00000000000000c9", "boot": "00000000000000b9", "cluster": cluster,
            "accepted": null, "holds": holds, "host": host(), "complete": true,
        });
        Event::Register { call: 7, registration: Box::new(serde_json::from_value(registration).unwrap()) }
    };
    let mut first = leading();
    let effects = first.handle(event(None, json!([])), NOW);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SpawnRunner { .. })), "{effects:?}");
    let holds = json!([{"replica": "web-000001", "service": "web", "slot": 0, "generation": 1,
        "template": {"image": "nginx", "stop_grace_s": 10}}]);
    let effects = leading().handle(event(Some("0000000000000001"), holds), NOW);
    assert!(takes_over(&effects) && !is_let_in(&effects), "not taken over: {effects:?}");
}

#[test]
fn a_host_refused_half_joined_is_down_unless_it_comes_again() {
    let holds = || Some(json!({"image": "nginx", "stop_grace_s": 10}));
    let at = |ms: u64| Now { mono: MonoMs(NOW.mono.0 + ms), ..NOW };
    let answered = |effects: &[Effect]| {
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::ToService(name, ServiceEvent::Request(ticket, _)) => Some((name.clone(), *ticket)),
            _ => None,
        });
        let (name, ticket) = asked.unwrap_or_else(|| panic!("{effects:?}"));
        let answer = Ok(service::Accepted {
            generation: Generation(1),
            version: Version(1),
            applied: service::Applied::Created,
        });
        Event::Answered { name, ticket, answer }
    };
    let is_down = |effects: &[Effect]| {
        effects.iter().any(|effect| {
            matches!(effect, Effect::ToService(_, ServiceEvent::HostChanged { condition, .. })
                if condition.is_lost())
        })
    };
    for comes_again in [false, true] {
        let mut core = leading();
        // All services consent, and then the store is slow.
        let asked = core.handle(comes(holds()), NOW);
        let answers = core.handle(answered(&asked), NOW);
        let late = core.handle(Event::Wake, at(5_000));
        assert!(
            late.iter().any(|effect| matches!(effect, Effect::AnswerRegistration(7, Err(_)))),
            "{late:?}"
        );
        let is_woken = |effect: &Effect| matches!(effect, Effect::WakeAt(then) if *then == at(35_000).mono);
        assert!(!is_down(&late) && late.iter().any(is_woken), "{late:?}");
        if comes_again {
            let asked = core.handle(comes(holds()), at(6_000));
            let answers = core.handle(answered(&asked), at(6_000));
            assert!(is_let_in(&core.handle(answered(&answers), at(6_000))));
        }
        drop(answers);
        assert_eq!(is_down(&core.handle(Event::Wake, at(35_000))), !comes_again);
    }
}
