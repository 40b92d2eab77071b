//! How hosts join: what an admission asks for, and the leadership that it may need.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    endpoint::Endpoint,
    ids::{NodeName, ServiceName},
    protocol::{Assignment, Registered, Registration},
};

use super::ClusterCore;
use crate::{
    cluster::{
        admission::{Admission, Event as AdmissionEvent, Step},
        events::{AdmissionNumber, Call, ClaimNumber, Effect},
        first_life::Answer,
        not_admitted::NotAdmitted,
        state::{Joining, ReplyTo},
    },
    membership::{HostChanged, HostCondition, Intent, Standing},
    runner::{NodeRecord, RegisterRefused, RunnerEvent},
    service::{Accepted, Refused, Request},
    store::{Leadership, StoreError},
};

/// How long a host that brings replicas waits until they are durable.
const IMPORT_LIMIT: DurationMs = DurationMs(5_000);
/// The most first lives that are asked at once.
const MAX_ASKED: usize = 256;
/// How long a host that was refused while it was taken over has to come again: it asks every second or so.
const HALF_JOINED_WAIT: DurationMs = DurationMs(30_000);

impl ClusterCore {
    pub(super) fn register(
        &mut self,
        call: Call,
        mut registration: Box<Registration>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(endpoint) = Endpoint::parse(&registration.host.agent_url) {
            registration.host.agent_url = endpoint.to_string();
        }
        let joining = Joining { call, admission: Admission::new(registration), until: None };
        self.admit(joining, AdmissionEvent::Began, now, effects);
    }

    /// One step of an admission.
    fn admit(&mut self, mut joining: Joining, event: AdmissionEvent, now: Now, effects: &mut Vec<Effect>) {
        match joining.admission.step(event, &mut self.members) {
            // Then services are waited for, and their answers come by a number.
            None => debug_assert!(false, "an admission begins and goes on with a step"),
            Some(step) => self.goes_on(joining, step, now, effects),
        }
    }

    /// Carries out a step of an admission, which has another number from now on.
    fn goes_on(&mut self, mut joining: Joining, step: Step, now: Now, effects: &mut Vec<Effect>) {
        self.next_admission += 1;
        let number = self.next_admission;
        match step {
            Step::Refuse(refused) => {
                if joining.admission.may_have_taken() {
                    let at = now.mono + HALF_JOINED_WAIT;
                    self.half_joined.insert(joining.admission.registration().node.clone(), at);
                    effects.push(Effect::WakeAt(at));
                }
                effects.push(Effect::AnswerRegistration(joining.call, Err(refused)));
            }
            Step::Introduce => {
                let registered = Registered {
                    cluster: self.members.cluster().clone(),
                    fence: self.members.fence().clone(),
                    report_interval_ms: self.members.report_interval().0,
                };
                effects.push(Effect::AnswerRegistration(joining.call, Ok(registered)));
            }
            Step::StandDown(theirs) => {
                self.admissions.insert(number, joining);
                self.stand_down(theirs, effects);
            }
            Step::ClaimLeadership { above, cluster } => {
                self.admissions.insert(number, joining);
                self.claims.insert(number, number);
                effects.push(Effect::ClaimLeadership { number, above, cluster });
            }
            Step::Ask(endpoint) => {
                let node = joining.admission.registration().node.clone();
                if self.asked.len() >= MAX_ASKED || self.asked.values().any(|other| *other == node) {
                    let why = RegisterRefused::Later(NotAdmitted::BeingProbed(node).to_string());
                    return effects.push(Effect::AnswerRegistration(joining.call, Err(why)));
                }
                self.admissions.insert(number, joining);
                self.asked.insert(number, node);
                effects.push(Effect::AskFirstLife { number, endpoint });
            }
            Step::AskImport(by_service) => {
                joining.until = Some(now.mono + IMPORT_LIMIT);
                effects.push(Effect::WakeAt(now.mono + IMPORT_LIMIT));
                let node = joining.admission.registration().node.clone();
                self.admissions.insert(number, joining);
                for (name, holds) in by_service {
                    let request = Request::MayImport { node: node.clone(), holds };
                    self.ask(ReplyTo::Admission(number), name, request, effects);
                }
            }
            Step::Import(by_service) => self.import(number, joining, by_service, now, effects),
            Step::Forward(registration) => self.forward(joining.call, registration, now, effects),
        }
    }

    fn import(
        &mut self,
        number: AdmissionNumber,
        joining: Joining,
        by_service: BTreeMap<ServiceName, Vec<Assignment>>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let node = joining.admission.registration().node.clone();
        log::warn!(node:%, services = by_service.len(); "taking over what an unknown host holds");
        let count = |holds: &Vec<Assignment>| u32::try_from(holds.len()).unwrap_or(u32::MAX);
        effects.push(Effect::NoteTakeover {
            node: node.clone(),
            uid: joining.admission.registration().uid.clone(),
            services: by_service.iter().map(|(name, holds)| (name.clone(), count(holds))).collect(),
        });
        self.ensure_runner(joining.admission.registration(), now, effects);
        self.admissions.insert(number, joining);
        for (name, holds) in by_service {
            let request = Request::Import { node: node.clone(), holds };
            self.ask(ReplyTo::Admission(number), name, request, effects);
        }
    }

    /// The agent that was known so far has answered, or has not.
    pub(super) fn first_life_answered(
        &mut self,
        number: AdmissionNumber,
        answer: Answer,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.asked.remove(&number);
        if let Some(joining) = self.admissions.remove(&number) {
            self.admit(joining, AdmissionEvent::Asked(answer), now, effects);
        }
    }

    /// A service takes what a host holds of it, or that is durable; or why not.
    pub(super) fn imported(
        &mut self,
        number: AdmissionNumber,
        result: Result<Accepted, Refused>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut joining) = self.admissions.remove(&number) else { return };
        let event = AdmissionEvent::Imported(result.map(|_| ()).map_err(why_not_imported));
        match joining.admission.step(event, &mut self.members) {
            None => {
                self.admissions.insert(number, joining);
            }
            Some(step) => self.goes_on(joining, step, now, effects),
        }
    }

    /// Refuses the hosts whose replicas did not become durable in time.
    pub(super) fn refuse_late_imports(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_late = |joining: &Joining| joining.until.is_some_and(|until| until <= now.mono);
        let late: Vec<AdmissionNumber> = self
            .admissions
            .iter()
            .filter(|(_, joining)| is_late(joining))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(joining) = self.admissions.remove(&number) {
                self.admit(joining, AdmissionEvent::ImportTooLate, now, effects);
            }
        }
        effects
            .extend(self.admissions.values().filter_map(|joining| joining.until).min().map(Effect::WakeAt));
    }

    /// Services have replicas on hosts that were refused and did not come again: these count as down, as
    /// hosts do that a starting master does not know.
    pub(super) fn give_up_half_joined(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_due = |at: &MonoMs| *at <= now.mono;
        let due = self.half_joined.iter().filter(|(_, at)| is_due(at)).map(|(node, _)| node.clone());
        for node in due.collect::<Vec<_>>() {
            self.half_joined.remove(&node);
            if !self.members.knows(&node) {
                log::error!(node:%; "its replicas were taken over, but it has not joined; it counts as down");
                let condition = HostCondition::of(Standing::Down);
                self.host_changed(HostChanged { node, condition, why: None }, effects);
            }
        }
        effects.extend(self.half_joined.values().min().copied().map(Effect::WakeAt));
    }

    /// The leadership was claimed again, or the error.
    pub(super) fn leadership_claimed(
        &mut self,
        number: ClaimNumber,
        result: Result<Leadership, StoreError>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let waiting = self.claims.remove(&number).and_then(|admission| self.admissions.remove(&admission));
        let result = match result {
            Ok(leadership) => {
                log::info!(cluster:% = leadership.cluster, epoch:% = leadership.fence.epoch; "leading anew");
                self.members.set_leadership(leadership.cluster.clone(), leadership.fence.clone());
                let fence = leadership.fence.clone();
                effects.push(Effect::ShowLeadership(leadership));
                self.to_runners(|| RunnerEvent::FenceChanged(fence.clone()), effects);
                Ok(())
            }
            Err(error) => {
                if waiting.is_none() {
                    log::error!(error:%; "the leadership could not be taken anew");
                }
                Err(error)
            }
        };
        if let Some(joining) = waiting {
            self.admit(joining, AdmissionEvent::LeadershipClaimed(result), now, effects);
        }
    }

    fn ensure_runner(&mut self, registration: &Registration, now: Now, effects: &mut Vec<Effect>) {
        if self.runners.contains(&registration.node) {
            return;
        }
        let record = NodeRecord {
            node: registration.node.clone(),
            uid: registration.uid.clone(),
            host: registration.host.clone(),
            understands: std::collections::BTreeSet::new(),
            joined: now.wall,
            intent: Intent::Active,
            forgotten: None,
        };
        self.add_runner(record, None, effects);
    }

    fn forward(&mut self, call: Call, registration: Box<Registration>, now: Now, effects: &mut Vec<Effect>) {
        self.ensure_runner(&registration, now, effects);
        self.half_joined.remove(&registration.node);
        let node: NodeName = registration.node.clone();
        effects.push(Effect::ToRunner(node, RunnerEvent::Register(call, registration)));
    }
}

/// Why a service does not take what a host holds, for people.
fn why_not_imported(refused: Refused) -> RegisterRefused {
    RegisterRefused::Later(match refused {
        // To ask again changes nothing.
        Refused::Conflict(conflict) => return RegisterRefused::Conflict(conflict.to_string()),
        Refused::Store(reason) => reason,
        Refused::NotLeader => "another master leads".to_owned(),
        Refused::Busy => "too many requests wait for the service".to_owned(),
        Refused::Exists
        | Refused::NotFound
        | Refused::NoSlot { .. }
        | Refused::VersionMismatch { .. }
        | Refused::Invalid(_) => "the service refuses it".to_owned(),
    })
}
