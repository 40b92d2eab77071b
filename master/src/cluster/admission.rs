//! A host's admission, one step at a time: first the leadership above what the
//! host has followed, then whether its first life is gone, then what it holds, and only then its runner.

use std::collections::BTreeMap;

use shef_common::{
    endpoint::Endpoint,
    ids::{ClusterId, Epoch, Fence, ServiceName},
    protocol::{Assignment, Registration},
};

use super::{
    first_life::Answer,
    members::{Members, Verdict},
};
use crate::{runner::RegisterRefused, store::StoreError};

/// How often the leadership may change under one admission.
const MAX_LEADS: u8 = 3;

/// What has happened to an admission.
#[derive(Debug, Clone)]
pub enum Event {
    /// The host has come.
    Began,
    /// The leadership was claimed again, or the error.
    LeadershipClaimed(Result<(), StoreError>),
    /// The agent was asked that was known so far.
    Asked(Answer),
    /// A service takes what the host holds of it, or that is durable; or why not.
    Imported(Result<(), RegisterRefused>),
    /// That took too long.
    ImportTooLate,
}

/// What an admission needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Claim the leadership again; comes back as [`Event::LeadershipClaimed`].
    ClaimLeadership {
        /// The epoch to exceed.
        above: Epoch,
        /// The cluster to be.
        cluster: ClusterId,
    },
    /// Ask the agent at this address whether it is there; comes back as [`Event::Asked`].
    Ask(Endpoint),
    /// Ask each service whether it takes what the host holds of it; comes back as [`Event::Imported`] for
    /// each of them, or as [`Event::ImportTooLate`]. One that refuses must not come after others have taken
    /// their part.
    AskImport(BTreeMap<ServiceName, Vec<Assignment>>),
    /// Make the host's runner, which keeps orders, and have what it holds made
    /// durable, by service; comes back as [`Event::Imported`] for each of them, or
    /// as [`Event::ImportTooLate`].
    Import(BTreeMap<ServiceName, Vec<Assignment>>),
    /// Make the host's runner if there is none, and hand it the registration. The end.
    Forward(Box<Registration>),
    /// Tell it the cluster and no more: it comes again, with what it holds of that. The end.
    Introduce,
    /// Stop leading: another master does, under this fence. The end.
    StandDown(Fence),
    /// Answer so. The end.
    Refuse(RegisterRefused),
}

/// Whether all services take what a host holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    NotAsked,
    Asked,
    Given,
    /// And they have taken it.
    Taken,
}

/// One host's admission.
#[derive(Debug)]
pub struct Admission {
    registration: Box<Registration>,
    claims_left: u8,
    /// What the agent that was known so far has answered.
    answer: Option<Answer>,
    /// How many services have not answered.
    answers_left: usize,
    /// Whether services are asked now whether they take what the host holds, or have all said that they do.
    consent: Consent,
}

impl Admission {
    /// Of the host that registers so. [`Event::Began`] begins it.
    #[must_use]
    pub const fn new(registration: Box<Registration>) -> Self {
        Self {
            registration,
            claims_left: MAX_LEADS,
            answer: None,
            answers_left: 0,
            consent: Consent::NotAsked,
        }
    }

    /// Who registers, and with what.
    #[must_use]
    pub const fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Whether services were told to take over what the host holds: some may have done so, however it ends.
    #[must_use]
    pub const fn may_have_taken(&self) -> bool {
        matches!(self.consent, Consent::Given | Consent::Taken)
    }

    /// Takes one event; `None`: there is more to wait for.
    #[must_use]
    pub fn step(&mut self, event: Event, cluster: &mut Members) -> Option<Step> {
        let step = self.next(event, cluster);
        match &step {
            None | Some(Step::ClaimLeadership { .. } | Step::Ask(_)) => {}
            Some(Step::AskImport(_) | Step::Import(_)) => cluster.begins_to_join(&self.registration),
            Some(Step::Forward(_) | Step::Introduce | Step::StandDown(_) | Step::Refuse(_)) => {
                cluster.joins_no_more(&self.registration);
            }
        }
        step
    }

    fn next(&mut self, event: Event, cluster: &mut Members) -> Option<Step> {
        match event {
            Event::Began | Event::LeadershipClaimed(Ok(())) => Some(self.decide(cluster)),
            Event::Asked(answer) => {
                self.answer = Some(answer);
                Some(self.decide(cluster))
            }
            Event::LeadershipClaimed(Err(error)) => Some(later(error.to_string())),
            Event::Imported(Ok(())) => {
                self.answers_left = self.answers_left.saturating_sub(1);
                if self.answers_left > 0 {
                    return None;
                }
                self.consent = if self.consent == Consent::Given { Consent::Taken } else { Consent::Given };
                // The host may have been forgotten meanwhile, or another one have come under its name.
                Some(self.decide(cluster))
            }
            Event::Imported(Err(conflict @ RegisterRefused::Conflict(_))) => Some(Step::Refuse(conflict)),
            Event::Imported(Err(RegisterRefused::Later(why))) => {
                Some(later(format!("what the host holds was not taken over: {why}")))
            }
            Event::ImportTooLate => {
                Some(later("what the host holds could not be made durable in time".to_owned()))
            }
        }
    }

    /// The next step, by what the members say of the registration.
    fn decide(&mut self, cluster: &mut Members) -> Step {
        match cluster.decide(&self.registration, self.answer.as_ref()) {
            Verdict::Ask(endpoint) => Step::Ask(endpoint),
            Verdict::StandDown(theirs) => Step::StandDown(theirs),
            Verdict::Wait(why) => later(why.to_string()),
            Verdict::Refuse(why) => Step::Refuse(RegisterRefused::Conflict(why.to_string())),
            Verdict::Admit => self.forward(cluster),
            Verdict::Introduce => Step::Introduce,
            Verdict::Import(by_service) => {
                self.answers_left = by_service.len();
                match self.consent {
                    Consent::Taken => self.forward(cluster),
                    Consent::Given => Step::Import(by_service),
                    Consent::NotAsked | Consent::Asked => {
                        self.consent = Consent::Asked;
                        Step::AskImport(by_service)
                    }
                }
            }
            Verdict::ClaimLeadership { above, cluster } => {
                if self.claims_left == 0 {
                    return later("the leadership changes too often".to_owned());
                }
                self.claims_left -= 1;
                Step::ClaimLeadership { above, cluster }
            }
        }
    }

    /// Only now is the host known: a registration in between would be admitted
    /// without what it holds, and be ordered to remove it.
    fn forward(&self, cluster: &mut Members) -> Step {
        cluster.admitted(&self.registration);
        Step::Forward(self.registration.clone())
    }
}

fn later(why: String) -> Step {
    Step::Refuse(RegisterRefused::Later(why))
}

#[cfg(test)]
mod tests {
    use shef_common::{
        clock::DurationMs,
        ids::{BootId, Generation, LeaderId, NodeName, NodeUid, ReplicaId, Revision, Slot},
        image::ImageRef,
        protocol::{Accepted, HostInfo, Understands},
        spec::{OnDisconnect, Template},
    };

    use super::*;

    fn fence(epoch: u64) -> Fence {
        Fence { epoch: Epoch(epoch), leader: LeaderId::parse("00000000000000aa").unwrap() }
    }
    fn id() -> ClusterId {
        ClusterId::parse("0000000000000001").unwrap()
    }
    fn cluster(epoch: u64) -> Members {
        Members::new(id(), fence(epoch), DurationMs(500), 10)
    }
    /// A host that has followed `epoch` and holds a replica of each of `services`.
    fn registration(epoch: u64, services: &[&str]) -> Box<Registration> {
        let held = |name: &&str| Assignment {
            replica: ReplicaId::parse(&format!("{name}-000001")).unwrap(),
            service: ServiceName::parse(name).unwrap(),
            slot: Slot(0),
            generation: Generation(1),
            template: Template::of(ImageRef::parse("app").unwrap()).into(),
            on_disconnect: OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        };
        Box::new(Registration {
            node: NodeName::parse("h1").unwrap(),
            uid: NodeUid::parse("00000000000000c1").unwrap(),
            boot: BootId::parse("00000000000000b1").unwrap(),
            cluster: Some(id()),
            accepted: Some(Accepted { fence: fence(epoch), revision: Revision(1) }),
            leader_silent_ms: None,
            complete: None,
            found: Vec::new(),
            probe_key: None,
            understands: Understands::default(),
            holds: services.iter().map(held).collect(),
            ledger: None,
            host: HostInfo {
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
            },
        })
    }
    fn refused(step: Option<Step>) -> String {
        match step {
            Some(Step::Refuse(RegisterRefused::Later(why) | RegisterRefused::Conflict(why))) => why,
            other => panic!("{other:?}"),
        }
    }

    /// So many services take their part; the last step.
    fn answers(admission: &mut Admission, count: usize, cluster: &mut Members) -> Option<Step> {
        (0..count).map(|_| admission.step(Event::Imported(Ok(())), cluster)).last().flatten()
    }

    #[test]
    fn a_host_is_known_only_once_all_that_it_brought_is_durable() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(2, &["a", "b"])));
        let step = admission.step(Event::Began, &mut cluster);
        assert!(matches!(step, Some(Step::AskImport(by_service)) if by_service.len() == 2));
        let step = answers(&mut admission, 2, &mut cluster);
        assert!(matches!(step, Some(Step::Import(by_service)) if by_service.len() == 2));
        assert_eq!(admission.step(Event::Imported(Ok(())), &mut cluster), None);
        assert!(!cluster.knows(&admission.registration().node));
        assert!(matches!(admission.step(Event::Imported(Ok(())), &mut cluster), Some(Step::Forward(_))));
        assert!(cluster.knows(&admission.registration().node));
    }

    #[test]
    fn a_host_forgotten_during_admission_joins_without_what_it_holds() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(2, &["a"])));
        let _ = admission.step(Event::Began, &mut cluster);
        let host = admission.registration();
        assert_eq!(cluster.host_forgotten(host.node.clone(), host.uid.clone()), None);
        assert!(matches!(answers(&mut admission, 1, &mut cluster), Some(Step::Forward(_))));
    }

    #[test]
    fn while_a_host_joins_nobody_else_takes_its_name_or_identity() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(2, &["a"])));
        let _ = admission.step(Event::Began, &mut cluster);
        let mut same_name = registration(2, &["a"]);
        same_name.uid = NodeUid::parse("00000000000000c2").unwrap();
        let mut same_identity = registration(2, &["a"]);
        same_identity.node = NodeName::parse("h2").unwrap();
        let waits = |cluster: &mut Members, other: &Registration| {
            let why = refused(Admission::new(Box::new(other.clone())).step(Event::Began, cluster));
            assert!(why.contains("h1"), "{why}");
        };
        for other in [&same_name, &same_identity] {
            waits(&mut cluster, other);
        }
        assert!(matches!(answers(&mut admission, 1, &mut cluster), Some(Step::Import(_))));
        for other in [&same_name, &same_identity] {
            waits(&mut cluster, other);
        }
        assert!(matches!(answers(&mut admission, 1, &mut cluster), Some(Step::Forward(_))));
        assert_eq!(cluster.uid(&admission.registration().node), Some(&admission.registration().uid));
        // A refused one blocks no other registration.
        let mut refused_one = Admission::new(registration(2, &["b"]));
        refused_one.registration.node = NodeName::parse("h3").unwrap();
        refused_one.registration.uid = NodeUid::parse("00000000000000c3").unwrap();
        let _ = refused_one.step(Event::Began, &mut cluster);
        let _ = refused_one.step(Event::ImportTooLate, &mut cluster);
        let mut next = registration(2, &["b"]);
        next.node = NodeName::parse("h3").unwrap();
        next.uid = NodeUid::parse("00000000000000c4").unwrap();
        assert!(matches!(Admission::new(next).step(Event::Began, &mut cluster), Some(Step::AskImport(_))));
    }

    #[test]
    fn what_cannot_be_made_durable_leaves_the_host_unknown() {
        for event in [Event::Imported(Err(RegisterRefused::Later("full".into()))), Event::ImportTooLate] {
            for asked in 0..2 {
                let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(2, &["a"])));
                let _ = admission.step(Event::Began, &mut cluster);
                let _ = answers(&mut admission, asked, &mut cluster);
                assert!(
                    refused(admission.step(event.clone(), &mut cluster)).starts_with("what the host holds")
                );
                assert!(!cluster.knows(&admission.registration().node));
            }
        }
    }

    #[test]
    fn a_host_with_anothers_containers_is_refused_before_any_takeover() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(2, &["a", "b"])));
        let _ = admission.step(Event::Began, &mut cluster);
        assert_eq!(admission.step(Event::Imported(Ok(())), &mut cluster), None);
        let conflict = || RegisterRefused::Conflict("containers of h0".into());
        let step = admission.step(Event::Imported(Err(conflict())), &mut cluster);
        assert_eq!(step, Some(Step::Refuse(conflict())));
        assert!(!cluster.knows(&admission.registration().node));
    }

    #[test]
    fn the_leadership_exceeds_what_a_host_followed_before_any_takeover() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(7, &["a"])));
        let claim = Some(Step::ClaimLeadership { above: Epoch(7), cluster: id() });
        assert_eq!(admission.step(Event::Began, &mut cluster), claim);
        cluster.set_leadership(id(), fence(8));
        assert!(matches!(
            admission.step(Event::LeadershipClaimed(Ok(())), &mut cluster),
            Some(Step::AskImport(_))
        ));
    }

    #[test]
    fn a_leadership_that_never_gets_above_ends_the_admission() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(7, &[])));
        let mut step = admission.step(Event::Began, &mut cluster);
        for _ in 0..MAX_LEADS {
            assert!(matches!(step, Some(Step::ClaimLeadership { .. })));
            step = admission.step(Event::LeadershipClaimed(Ok(())), &mut cluster);
        }
        assert_eq!(refused(step), "the leadership changes too often");
    }

    #[test]
    fn a_forgotten_host_is_admitted_without_what_it_held() {
        let (mut cluster, mut admission) = (cluster(3), Admission::new(registration(2, &["a"])));
        let (node, uid) = (admission.registration().node.clone(), admission.registration().uid.clone());
        assert_eq!(cluster.host_forgotten(node.clone(), uid.clone()), None);
        assert!(matches!(admission.step(Event::Began, &mut cluster), Some(Step::Forward(_))));
        assert!(cluster.knows(&node) && !cluster.is_forgotten(&node));
        // The same under another name: it is known by its lasting identity.
        let uid = NodeUid::parse("00000000000000c2").unwrap();
        assert_eq!(cluster.host_forgotten(NodeName::parse("old").unwrap(), uid), None);
        let mut renamed = registration(2, &["a"]);
        (renamed.node, renamed.uid) =
            (NodeName::parse("new").unwrap(), NodeUid::parse("00000000000000c2").unwrap());
        let step = Admission::new(renamed).step(Event::Began, &mut cluster);
        assert!(matches!(step, Some(Step::Forward(_))));
    }
}
