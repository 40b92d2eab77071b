//! Which hosts may join.

mod leaders;

use shef_common::{
    ids::{BootId, Epoch, Generation, LeaderId, Revision, Slot},
    image::ImageRef,
    protocol::{Accepted, HostInfo, Understands},
    spec::Template,
};

use super::{
    other_leaders::{SAID_FOR, SAID_FOR_BESIDE_OLD_RECORDS, WORD_COUNTS},
    *,
};
use crate::{
    cluster::not_admitted::{NotAdmitted, STRANGERS_WAIT},
    membership::Standing,
    store::ahead_of_other_stores,
};

const OURS: &str = "0000000000000001";
const THEIRS: &str = "0000000000000002";

fn fence(epoch: u64, leader: &str) -> Fence {
    Fence { epoch: Epoch(epoch), leader: LeaderId::parse(leader).unwrap() }
}
fn core() -> Members {
    remembering(FORGOTTEN_LIMIT)
}
fn remembering(forgotten: usize) -> Members {
    let cluster = ClusterId::parse(OURS).unwrap();
    Members::new(cluster, fence(3, "00000000000000aa"), DurationMs(500), forgotten)
}
fn registration() -> Registration {
    Registration {
        node: NodeName::parse("h1").unwrap(),
        uid: NodeUid::parse("00000000000000c1").unwrap(),
        boot: BootId::parse("00000000000000b1").unwrap(),
        cluster: None,
        accepted: None,
        leader_silent_ms: None,
        complete: None,
        found: Vec::new(),
        probe_key: None,
        understands: Understands::default(),
        holds: vec![],
        ledger: None,
        host: HostInfo {
            address: std::net::Ipv4Addr::LOCALHOST,
            agent_url: "http://127.0.0.1:11044".into(),
            labels: BTreeMap::new(),
            cpus: 2,
            memory_bytes: 1,
            engine_version: "20.10".into(),
            engine_api: "1.41".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            shef_version: "0.1.0".into(),
            engine_id: None,
            policy: None,
        },
    }
}
fn holding(mut registration: Registration) -> Registration {
    registration.cluster = Some(ClusterId::parse(OURS).unwrap());
    registration.holds = vec![Assignment {
        replica: ReplicaId::parse("web-000001").unwrap(),
        service: ServiceName::parse("web").unwrap(),
        slot: Slot(0),
        generation: Generation(1),
        template: Template::of(ImageRef::parse("nginx").unwrap()).into(),
        on_disconnect: shef_common::spec::OnDisconnect::Keep,
        image_digest: None,
        prepare: false,
    }];
    registration
}

impl Members {
    /// What to do with a host whose first life nobody has asked.
    fn register(&mut self, registration: &Registration) -> Verdict {
        self.decide(registration, None)
    }
}

#[test]
fn a_new_host_joins() {
    assert_eq!(core().register(&registration()), Verdict::Admit);
}

#[test]
fn a_host_that_is_forgotten_while_it_registers_is_out() {
    let mut core = core();
    let plain = registration();
    let mut member = registration();
    member.host.agent_url = format!("https://{}.agent.{OURS}.shef@127.0.0.1:11044", member.uid);
    core.host_known(member.node.clone(), member.uid.clone());
    assert_eq!(core.host_forgotten(member.node.clone(), member.uid.clone()), None);
    assert_eq!(core.register(&member), Verdict::Refuse(NotAdmitted::LetGo(member.node.clone())));
    assert_eq!(core.register(&plain), Verdict::Admit, "who has no identity joins anew");
    let mut other = member.clone();
    other.uid = NodeUid::parse("00000000000000c2").unwrap();
    assert_eq!(core.register(&other), Verdict::Admit);
    core.remembered(&member.node);
    core.set_now(MonoMs(0) + ON_ITS_WAY);
    assert_ne!(core.register(&member), Verdict::Refuse(NotAdmitted::LetGo(member.node.clone())));
}

#[test]
fn an_unknown_host_is_taken_over_with_what_it_holds() {
    assert!(matches!(core().register(&holding(registration())), Verdict::Import(held) if held.len() == 1));
    let mut core = core();
    core.host_known(registration().node, registration().uid);
    assert_eq!(core.register(&holding(registration())), Verdict::Admit);
}

#[test]
fn what_breaks_a_rule_is_no_services() {
    let mut brings = holding(registration());
    let mut system = brings.holds[0].clone();
    system.replica = ReplicaId::parse("web-000002").unwrap();
    let mut template = Template::clone(&system.template);
    template.labels.insert("shef.system".into(), "agent".into());
    system.template = template.into();
    brings.holds.push(system);
    assert!(matches!(core().register(&brings), Verdict::Refuse(NotAdmitted::BreaksRule { .. })));
    brings.understands.removal_by_name = true;
    let Verdict::Import(by_service) = core().register(&brings) else { panic!("the other one is taken over") };
    let held: Vec<&str> = by_service.values().flatten().map(|held| held.replica.as_str()).collect();
    assert_eq!(held, ["web-000001"]);
    brings.holds.remove(0);
    assert_eq!(core().register(&brings), Verdict::Admit, "nothing is left to take over");
}

fn waits(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Wait(_))
}

#[test]
fn no_host_takes_a_name_whose_data_it_does_not_hold() {
    let mut core = core();
    core.host_known(registration().node, registration().uid);
    let web = ServiceName::parse("web").unwrap();
    core.keeps_data(web.clone(), [registration().node].into());
    let another = Registration { uid: NodeUid::parse("00000000000000c2").unwrap(), ..registration() };
    let empty = Registration { holds: vec![], ..holding(another.clone()) };
    let elsewhere = NotAdmitted::DataElsewhere { node: registration().node, service: web.clone() };
    assert_eq!(core.register(&empty), Verdict::Refuse(elsewhere));
    assert_eq!(core.uid(&registration().node), Some(&registration().uid), "who is refused is no member");
    // An agent that has lost its data directory: it cannot say yet what it holds.
    assert_eq!(core.register(&another), Verdict::Introduce);
    assert!(matches!(core.register(&holding(another)), Verdict::Import(_)), "what it holds is taken over");
    assert_eq!(core.register(&holding(registration())), Verdict::Admit, "the host itself is let in");
    core.keeps_data(web, BTreeSet::new());
    assert_eq!(core.register(&empty), Verdict::Admit, "nothing is lost with it");
}

#[test]
fn a_host_that_is_a_member_under_another_name_is_refused_with_that_name() {
    let mut core = core();
    core.host_known(NodeName::parse("old").unwrap(), registration().uid);
    let name = NodeName::parse("old").unwrap();
    let other = NotAdmitted::OtherName { node: registration().node, name };
    assert_eq!(core.register(&holding(registration())), Verdict::Refuse(other));
    let again = Registration { node: NodeName::parse("old").unwrap(), ..holding(registration()) };
    assert_eq!(core.register(&again), Verdict::Admit, "under its own name it is the same host");
    let _ = core.host_forgotten(NodeName::parse("old").unwrap(), registration().uid);
    assert_eq!(
        core.register(&holding(registration())),
        Verdict::Admit,
        "a forgotten host joins as a new one"
    );
}

/// One registration must not use up the epochs that are left.
#[test]
fn an_epoch_beyond_reach_is_refused_and_not_led_above() {
    use shef_common::bounds::{MAX, MOST_ADOPTED, REACH};
    let ahead = |epoch| Registration {
        cluster: Some(ClusterId::parse(OURS).unwrap()),
        leader_silent_ms: Some(LEADER_SILENCE.0),
        complete: None,
        found: Vec::new(),
        accepted: Some(Accepted { fence: fence(epoch, "00000000000000bb"), revision: Revision(9) }),
        ..registration()
    };
    let mut inhabited = core();
    inhabited.services_are(1);
    inhabited.takes_over(true);
    assert!(matches!(inhabited.register(&ahead(3 + REACH)), Verdict::ClaimLeadership { .. }));
    for absurd in [4 + REACH, MAX, u64::MAX - 1, u64::MAX] {
        let (node, epoch, most) = (registration().node, Epoch(absurd), 3 + REACH);
        let refused = Verdict::Refuse(NotAdmitted::Epoch { node, epoch, most });
        assert_eq!(inhabited.register(&ahead(absurd)), refused);
    }
    // A cluster that knows nothing goes above what its first host remembers, and leaves half of the
    // epochs.
    let mut empty = core();
    empty.takes_over(true);
    assert!(matches!(empty.register(&ahead(MOST_ADOPTED)), Verdict::ClaimLeadership { .. }));
    for absurd in [MOST_ADOPTED + 1, MAX, u64::MAX] {
        let (node, epoch) = (registration().node, Epoch(absurd));
        let refused = Verdict::Refuse(NotAdmitted::Epoch { node, epoch, most: MOST_ADOPTED });
        assert_eq!(core().register(&ahead(absurd)), refused);
    }
}

#[test]
fn a_generation_that_no_service_has_come_to_is_not_taken_over() {
    let mut host = holding(registration());
    host.holds[0].generation = Generation(shef_common::bounds::REACH);
    assert!(matches!(core().register(&host), Verdict::Import(_)));
    for absurd in [shef_common::bounds::REACH + 1, u64::MAX] {
        host.holds[0].generation = Generation(absurd);
        let (node, replica) = (registration().node, ReplicaId::parse("web-000001").unwrap());
        let refused = NotAdmitted::Generation { node, replica, generation: Generation(absurd) };
        assert_eq!(core().register(&host), Verdict::Refuse(refused));
    }
}

#[test]
fn a_replica_is_not_taken_over_by_another_service_than_its_name_says() {
    let mut host = holding(registration());
    host.holds[0].replica = ReplicaId::parse("db-000001").unwrap();
    let (node, service) = (registration().node, ServiceName::parse("web").unwrap());
    let replica = ReplicaId::parse("db-000001").unwrap();
    let refused = NotAdmitted::OddReplica { node, replica, service };
    assert_eq!(core().register(&host), Verdict::Refuse(refused));
}

#[test]
fn orders_for_a_host_that_is_not_known_yet_wait_for_it() {
    let (mut core, held) = (core(), holding(registration()).holds);
    let node = registration().node;
    core.keep_orders(node.clone(), held.clone(), vec![]);
    assert_eq!(core.kept_orders(&node), Some((held.clone(), vec![])));
    assert_eq!(core.kept_orders(&node), None);
    core.keep_orders(node.clone(), held.clone(), vec![]);
    core.keep_orders(node.clone(), vec![], vec![held[0].replica.clone()]);
    assert_eq!(core.kept_orders(&node), Some((vec![], vec![held[0].replica.clone()])));
}

#[test]
fn of_too_many_forgotten_hosts_the_first_goes() {
    const LIMIT: usize = 3;
    let mut core = remembering(LIMIT);
    let name = |n: usize| NodeName::parse(&format!("h{n}")).unwrap();
    for n in 0..LIMIT {
        assert_eq!(core.host_forgotten(name(n), registration().uid), None);
    }
    core.host_known(name(0), registration().uid);
    assert_eq!(core.host_forgotten(name(LIMIT), registration().uid), None);
    assert_eq!(core.host_forgotten(name(LIMIT + 1), registration().uid), Some(name(1)));
    core.remembered(&name(1));
    assert!(!core.is_forgotten(&name(1)));
}

#[test]
fn two_hosts_cannot_share_a_name_while_both_are_up() {
    let mut core = core();
    core.host_known(registration().node, NodeUid::parse("00000000000000c2").unwrap());
    assert_eq!(core.register(&registration()), Verdict::Admit, "the name's old holder is not there");
    core.host_changed(&registration().node, HostCondition::of(Standing::Ready));
    assert!(matches!(core.register(&registration()), Verdict::Refuse(_)));
}

#[test]
fn another_machine_takes_no_name_whose_host_is_there_without_its_agent() {
    let comes = |engine: Option<&str>| {
        let mut comes = registration();
        comes.host.engine_id = engine.map(|id| EngineId::parse(id).unwrap());
        comes
    };
    let mut core = core();
    core.host_known(registration().node, NodeUid::parse("00000000000000c2").unwrap());
    core.engine_is(&registration().node, EngineId::parse("A:1").ok().as_ref());
    core.host_changed(&registration().node, HostCondition::of(Standing::AgentDown));
    let taken = NotAdmitted::NameTaken(registration().node);
    assert_eq!(core.register(&comes(Some("B:2"))), Verdict::Refuse(taken), "two hosts have one name");
    for same_or_unknown in [Some("A:1"), None] {
        assert_eq!(core.register(&comes(same_or_unknown)), Verdict::Admit, "{same_or_unknown:?}");
    }
    core.host_changed(&registration().node, HostCondition::of(Standing::Down));
    assert_eq!(core.register(&comes(Some("B:2"))), Verdict::Admit, "it was set up anew");
}

#[test]
fn a_host_becomes_no_member_before_it_is_known_what_it_holds() {
    let comes = |cluster: Option<&str>, complete| Registration {
        cluster: cluster.map(|cluster| ClusterId::parse(cluster).unwrap()),
        complete: Some(complete),
        ..registration()
    };
    let mut core = core();
    // Without the cluster the host does not know what it holds; with it, the engine has to list its
    // containers.
    assert_eq!(core.register(&comes(None, true)), Verdict::Introduce);
    assert_eq!(core.register(&comes(None, false)), Verdict::Wait(NotAdmitted::NotLooked));
    assert_eq!(core.register(&comes(Some(OURS), false)), Verdict::Wait(NotAdmitted::NotLooked));
    assert_eq!(core.register(&comes(Some(OURS), true)), Verdict::Admit);
    let holds = Registration { complete: Some(true), ..holding(registration()) };
    assert!(matches!(core.register(&holds), Verdict::Import(_)));
    // A member whose engine is away is one all the same.
    core.host_known(registration().node, registration().uid);
    assert_eq!(core.register(&comes(Some(OURS), false)), Verdict::Admit);
    assert_eq!(core.register(&comes(None, false)), Verdict::Introduce);
}

#[test]
fn an_empty_cluster_waits_for_a_host_that_knows_the_containers_found() {
    let stranger = |found: &str| Registration {
        complete: Some(true),
        found: vec![ClusterId::parse(found).unwrap()],
        ..registration()
    };
    let mut core = core();
    core.set_now(MonoMs(5_000));
    let waits = || Verdict::Wait(NotAdmitted::Stranger { cluster: ClusterId::parse(THEIRS).unwrap() });
    assert_eq!(core.register(&stranger(THEIRS)), waits(), "it does not begin at once");
    assert_eq!(core.register(&stranger(OURS)), Verdict::Introduce, "those are ours");
    core.set_now(MonoMs(5_000 + STRANGERS_WAIT.0 - 1));
    assert_eq!(core.register(&stranger(THEIRS)), waits());
    core.set_now(MonoMs(5_000 + STRANGERS_WAIT.0));
    assert_eq!(core.register(&stranger(THEIRS)), Verdict::Introduce);
}

#[test]
fn a_name_with_data_is_for_the_machine_whose_engine_has_it() {
    let engine = |id: &str| EngineId::parse(id).ok();
    let comes = |id: Option<&str>, mut registration: Registration| {
        registration.uid = NodeUid::parse("00000000000000c2").unwrap();
        registration.cluster = Some(ClusterId::parse(OURS).unwrap());
        registration.complete = Some(true);
        registration.host.engine_id = id.and_then(engine);
        registration
    };
    let mut core = core();
    core.host_known(registration().node, registration().uid);
    core.engine_is(&registration().node, engine("A:1").as_ref());
    core.keeps_data(ServiceName::parse("db").unwrap(), [registration().node].into());
    // It has lost its agent's data directory, and runs nothing at the moment.
    assert_eq!(core.register(&comes(Some("A:1"), registration())), Verdict::Admit);
    // Another machine, whatever it holds.
    let elsewhere = || {
        let (node, service) = (registration().node, ServiceName::parse("db").unwrap());
        Verdict::Refuse(NotAdmitted::DataElsewhere { node, service })
    };
    for other in [registration(), holding(registration())] {
        assert_eq!(core.register(&comes(Some("B:2"), other)), elsewhere());
    }
    // Where an engine does not say who it is, it goes by what the host holds.
    assert_eq!(core.register(&comes(None, registration())), elsewhere());
    assert!(matches!(core.register(&comes(None, holding(registration()))), Verdict::Import(_)));
}
