//! The cluster's decisions: which services and runners there are, which of them gets an event, and which
//! requests have to wait.

mod deposed;
mod joining;
mod recovering;
mod unknown;

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{NodeName, ServiceName, Version},
    protocol::ReportAck,
};

use super::{
    events::{AdmissionNumber, Call, ClaimNumber, Effect, Event, PhaseView},
    members::Members,
    recovery::{Recovered, Recovery},
    state::{Joining, Phase, ReplyTo},
};
use crate::{
    membership::{HostChanged, HostKnown, MembershipEvent},
    registries::Known,
    runner::{NodeRecord, OperateRefused, RunnerCore, RunnerEvent},
    scheduler::SchedulerEvent,
    service::{Accepted, Orders, Refused, Request, ServiceCore, ServiceEffect, ServiceEvent, Ticket},
    store::Leadership,
};

/// How long an operator's command counts that this master leads even if another one leads too.
const TAKE_OVER_HOLDS: DurationMs = DurationMs(120_000);

/// What the cluster is made with.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions {
    /// How often hosts report.
    pub report_interval: DurationMs,
    /// How many earlier generations a service keeps.
    pub history_limit: usize,
    /// The most slots of a service that one commit fills, and the most replicas that it retires.
    pub wave: usize,
    /// How many forgotten hosts are remembered.
    pub forgotten_limit: usize,
    /// Whether an operator wants this master to lead even if another one leads too: by restoring the store,
    /// or by a command.
    pub takes_over: bool,
    /// Whether this master has a CA: that names its cluster, and it never leads another one.
    pub has_ca: bool,
    /// Where the services' own randomness comes from.
    pub seed: u64,
}

/// The cluster.
#[derive(Debug)]
pub struct ClusterCore {
    pub(super) phase: Phase,
    pub(super) members: Members,
    /// Services, and who waits for each of them.
    pub(super) services: BTreeMap<ServiceName, BTreeMap<Ticket, ReplyTo>>,
    pub(super) runners: BTreeSet<NodeName>,
    credentials: Known,
    pub(super) admissions: BTreeMap<AdmissionNumber, Joining>,
    /// Hosts of which services may have taken something over, and that were refused: from when on they count
    /// as down, unless they have joined by then.
    pub(super) half_joined: BTreeMap<NodeName, MonoMs>,
    /// Admissions that wait for what the agent answers that was known so far, and their hosts.
    pub(super) asked: BTreeMap<AdmissionNumber, NodeName>,
    /// Admissions that wait for a leadership.
    pub(super) claims: BTreeMap<ClaimNumber, AdmissionNumber>,
    pub(super) next_admission: u64,
    /// Until when an operator's command counts that this master leads even if another one leads too.
    pub(super) takes_over_until: Option<MonoMs>,
    last_ticket: Ticket,
    options: ClusterOptions,
}

impl ClusterCore {
    /// The cluster as the store remembers it, and what is to be done first.
    #[must_use]
    pub fn new(
        options: ClusterOptions,
        leadership: Leadership,
        recovered: Recovered,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let mut core = Self {
            phase: Phase::Recovering(Box::new(Recovery::new(recovered))),
            members: Members::new(
                leadership.cluster,
                leadership.fence,
                options.report_interval,
                options.forgotten_limit,
            ),
            services: BTreeMap::new(),
            runners: BTreeSet::new(),
            credentials: Known::default(),
            admissions: BTreeMap::new(),
            half_joined: BTreeMap::new(),
            asked: BTreeMap::new(),
            claims: BTreeMap::new(),
            next_admission: 0,
            takes_over_until: None,
            last_ticket: 0,
            options,
        };
        core.members.has_ca(options.has_ca);
        if options.takes_over {
            core.take_over(now);
        }
        (core, vec![Effect::ShowPhase(PhaseView::Recovering), Effect::Continue])
    }

    /// The members, and what is true of hosts.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.end_take_over(now);
        self.members.set_now(now.mono);
        match (&mut self.phase, event) {
            // A service that is not recovered yet must not be created again, and no host may get orders.
            (
                Phase::Recovering(recovery),
                event @ (Event::Ask { .. }
                | Event::Copy { .. }
                | Event::Register { .. }
                | Event::Operate { .. }),
            ) => recovery.defer(event, &mut effects),
            (Phase::Recovering(_) | Phase::Leading, event) => self.take(event, now, &mut effects),
            (Phase::Deposed(_), event) => self.while_deposed(event, &mut effects),
        }
        effects
    }

    pub(super) fn take(&mut self, event: Event, now: Now, effects: &mut Vec<Effect>) {
        match event {
            Event::Continue => self.recover_next(now, effects),
            Event::Recovered(name) => self.service_recovered(&name, now, effects),
            Event::Ask { call, name, request } => self.ask(ReplyTo::Caller(call), name, request, effects),
            Event::Copy { call, name, or_new } => self.copy(call, name, or_new, effects),
            Event::Register { call, registration } => self.register(call, registration, now, effects),
            Event::Report { call, report } => {
                // A host that follows another leader by now is asked since when.
                let accepted = report.accepted.as_ref().map(|accepted| &accepted.fence);
                let follows = accepted.is_none_or(|theirs| self.members.fence().admits_over(theirs));
                if follows && self.runners.contains(&report.node) {
                    self.members.has_reported(&report.node);
                    effects.push(Effect::ToRunner(report.node.clone(), RunnerEvent::Report(call, report)));
                } else {
                    effects.push(Effect::Acknowledge(call, self.want_registration()));
                }
            }
            Event::Operate { call, node, operation } => {
                if self.runners.contains(&node) {
                    effects.push(Effect::ToRunner(node, RunnerEvent::Operate(call, operation)));
                } else {
                    effects.push(Effect::AnswerOperator(call, Err(OperateRefused::NotFound)));
                }
            }
            Event::Orders(Orders { node, set, remove }) => {
                if self.runners.contains(&node) {
                    effects.push(Effect::ToRunner(node, RunnerEvent::Order { set, remove }));
                } else {
                    log::warn!(node:%; "this host has no runner yet; its orders wait until it registers");
                    self.members.keep_orders(node, set, remove);
                }
            }
            Event::Statuses { node, statuses } => {
                let observed = |statuses| ServiceEvent::Observed { node: node.clone(), statuses };
                self.to_services(statuses, |status| status.replica.service(), observed, effects);
            }
            Event::Gone { node, replicas } => {
                let gone = |replicas| ServiceEvent::Gone { node: node.clone(), replicas };
                self.to_services(replicas, |replica| replica.service(), gone, effects);
            }
            Event::Unknown { node, replicas } => self.unknown(&node, replicas, effects),
            Event::Known(known) => self.host_known(known, effects),
            Event::HostChanged(change) => self.host_changed(change, effects),
            Event::Forgotten(node) => self.host_forgotten(node, effects),
            Event::Erased(node) => {
                self.members.remembered(&node);
                if self.runners.remove(&node) {
                    effects.push(Effect::EndRunner(node));
                }
            }
            Event::Credentials(known) => {
                self.credentials = known.clone();
                self.to_runners(|| RunnerEvent::Credentials(known.clone()), effects);
            }
            Event::Interval(interval) => {
                self.members.interval_changed(interval);
                self.to_runners(|| RunnerEvent::Interval(interval), effects);
            }
            Event::StaleFence(node, higher) => self.stale_fence(&node, higher, effects),
            Event::Fenced(stored) => self.fenced(stored, effects),
            Event::TakeOver => self.take_over(now),
            Event::Answered { name, ticket, answer } => self.answered(&name, ticket, answer, now, effects),
            Event::KeepsData { name, nodes } => self.members.keeps_data(name, nodes),
            Event::Retired(name) => {
                // A request that is on its way to the service keeps it alive.
                if self.services.get(&name).is_some_and(BTreeMap::is_empty) {
                    self.services.remove(&name);
                    self.members.keeps_data(name.clone(), BTreeSet::new());
                    self.members.services_are(self.services.len());
                    effects.push(Effect::EndService(name));
                }
            }
            Event::FirstLifeAnswered { number, answer } => {
                self.first_life_answered(number, answer, now, effects);
            }
            Event::LeadershipClaimed { number, result } => {
                self.leadership_claimed(number, result, now, effects);
            }
            Event::Wake => {
                self.refuse_late_imports(now, effects);
                self.give_up_half_joined(now, effects);
            }
        }
    }

    /// A seed for a service: each gets another one.
    pub(super) const fn seed(&mut self) -> u64 {
        // splitmix64 (Steele, Lea, Flood 2014).
        self.options.seed = self.options.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.options.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        if mixed == 0 { 1 } else { mixed }
    }

    /// The service of that name, if there is one.
    pub(super) fn service(&self, name: &str) -> Option<&ServiceName> {
        self.services.get_key_value(name).map(|(name, _)| name)
    }

    fn unborn(&mut self, name: &ServiceName) -> ServiceCore {
        let seed = self.seed();
        ServiceCore::new(name.clone(), seed, self.members.conditions(), self.members.described().clone())
    }

    pub(super) fn add_service(
        &mut self,
        name: ServiceName,
        mut core: ServiceCore,
        initial: Vec<ServiceEffect>,
        effects: &mut Vec<Effect>,
    ) {
        core.keep_generations(self.options.history_limit);
        core.set_wave(self.options.wave);
        self.services.insert(name.clone(), BTreeMap::new());
        self.members.services_are(self.services.len());
        effects.push(Effect::SpawnService { name, core: Box::new(core), initial });
    }

    pub(super) fn add_runner(
        &mut self,
        record: NodeRecord,
        version: Option<Version>,
        effects: &mut Vec<Effect>,
    ) {
        let node = record.node.clone();
        let (cluster, fence) = (self.members.cluster().clone(), self.members.fence().clone());
        let (core, initial) =
            RunnerCore::new(cluster, fence, self.members.report_interval(), record, version);
        self.runners.insert(node.clone());
        effects.push(Effect::SpawnRunner { node: node.clone(), core: Box::new(core), initial });
        if !self.credentials.is_empty() {
            effects.push(Effect::ToRunner(node.clone(), RunnerEvent::Credentials(self.credentials.clone())));
        }
        if let Some((set, remove)) = self.members.kept_orders(&node) {
            effects.push(Effect::ToRunner(node, RunnerEvent::Order { set, remove }));
        }
    }

    pub(super) fn ask(
        &mut self,
        reply: ReplyTo,
        name: ServiceName,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        if !self.services.contains_key(&name) {
            let makes = matches!(
                request,
                Request::Create { .. }
                    | Request::Put { .. }
                    | Request::MayImport { .. }
                    | Request::Import { .. }
            );
            if !makes {
                if let ReplyTo::Caller(call) = reply {
                    effects.push(Effect::Answer(call, Err(Refused::NotFound)));
                }
                return;
            }
            if let (ReplyTo::Caller(call), Some(why)) = (reply, self.members.waits_to_adopt()) {
                return effects.push(Effect::Answer(call, Err(Refused::Store(why.to_string()))));
            }
            let core = self.unborn(&name);
            self.add_service(name.clone(), core, Vec::new(), effects);
        }
        self.last_ticket += 1;
        self.services.entry(name.clone()).or_default().insert(self.last_ticket, reply);
        effects.push(Effect::ToService(name, ServiceEvent::Request(self.last_ticket, request)));
    }

    fn copy(&mut self, call: Call, name: ServiceName, or_new: bool, effects: &mut Vec<Effect>) {
        effects.push(if self.services.contains_key(&name) {
            Effect::CopyService(name, call)
        } else if or_new {
            Effect::AnswerCopy(call, Ok(Box::new(self.unborn(&name))))
        } else {
            Effect::AnswerCopy(call, Err(Refused::NotFound))
        });
    }

    fn answered(
        &mut self,
        name: &ServiceName,
        ticket: Ticket,
        answer: Result<Accepted, Refused>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match self.services.get_mut(name).and_then(|waiting| waiting.remove(&ticket)) {
            Some(ReplyTo::Caller(call)) => effects.push(Effect::Answer(call, answer)),
            Some(ReplyTo::Admission(number)) => self.imported(number, answer, now, effects),
            None => debug_assert!(false, "request {ticket} of {name} is answered twice"),
        }
    }

    /// The answer to an agent that no runner knows.
    pub(super) fn want_registration(&self) -> ReportAck {
        ReportAck {
            fence: self.members.fence().clone(),
            want_full: false,
            want_registration: true,
            report_interval_ms: None,
            push: None,
            denied: Vec::new(),
            cas: Vec::new(),
        }
    }

    fn host_known(&mut self, known: HostKnown, effects: &mut Vec<Effect>) {
        if self.members.describes(&known) {
            effects.push(Effect::ToScheduler(SchedulerEvent::Known(known)));
            self.to_all_services(
                |core| ServiceEvent::HostsDescribed(core.members.described().clone()),
                effects,
            );
        }
    }

    pub(super) fn host_changed(&mut self, change: HostChanged, effects: &mut Vec<Effect>) {
        let HostChanged { node, condition, .. } = &change;
        if self.members.host_changed(node, *condition) {
            effects.push(Effect::ToScheduler(SchedulerEvent::HostChanged(change.clone())));
            self.to_all_services(
                |_| ServiceEvent::HostChanged { node: node.clone(), condition: *condition },
                effects,
            );
        }
        // This comes last: its runner shows it to readers, who rely on what they see.
        if self.runners.contains(node) {
            effects.push(Effect::ToRunner(node.clone(), RunnerEvent::HostChanged(change)));
        }
    }

    fn host_forgotten(&mut self, node: NodeName, effects: &mut Vec<Effect>) {
        let Some(uid) = self.members.uid(&node).cloned() else { return };
        let surplus = self.members.host_forgotten(node.clone(), uid.clone());
        effects.push(Effect::RevokeIdentity(uid));
        effects.push(Effect::ToMembership(MembershipEvent::Forgotten(node.clone())));
        effects.push(Effect::ToScheduler(SchedulerEvent::Forgotten(node.clone())));
        // No member any more: or it might be given a slot once more.
        self.to_all_services(|core| ServiceEvent::HostsDescribed(core.members.described().clone()), effects);
        self.to_all_services(|_| ServiceEvent::HostForgotten { node: node.clone() }, effects);
        if let Some(surplus) = surplus.filter(|node| self.runners.contains(node)) {
            effects.push(Effect::ToRunner(surplus, RunnerEvent::Erase));
        }
    }

    fn to_all_services(&self, event: impl Fn(&Self) -> ServiceEvent, effects: &mut Vec<Effect>) {
        effects.extend(self.services.keys().map(|name| Effect::ToService(name.clone(), event(self))));
    }

    fn to_services<T>(
        &self,
        items: Vec<T>,
        service: impl Fn(&T) -> &str,
        event: impl Fn(Vec<T>) -> ServiceEvent,
        effects: &mut Vec<Effect>,
    ) {
        let mut by_service: BTreeMap<String, Vec<T>> = BTreeMap::new();
        for item in items {
            by_service.entry(service(&item).to_owned()).or_default().push(item);
        }
        for (name, items) in by_service {
            if let Some((name, _)) = self.services.get_key_value(name.as_str()) {
                effects.push(Effect::ToService(name.clone(), event(items)));
            }
        }
    }

    pub(super) fn to_runners(&self, event: impl Fn() -> RunnerEvent, effects: &mut Vec<Effect>) {
        effects.extend(self.runners.iter().map(|node| Effect::ToRunner(node.clone(), event())));
    }
}
