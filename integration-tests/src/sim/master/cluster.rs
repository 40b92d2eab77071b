//! The driver in place of the cluster actor: admission step by step, and the
//! mail between services and hosts' runners.

use std::collections::BTreeMap;

use shef_common::{
    ids::{NodeName, ServiceName, Version},
    protocol::{Registration, ReportAck},
};
use shef_master::{
    cluster::{Admission, AdmissionEvent as Event, AdmissionStep as Step},
    membership::{HostChanged, HostForgotten, HostKnown, Intent},
    runner::{FenceChanged, NodeRecord, OperateRefused, RegisterRefused, RunnerCore},
    service::{Orders, Refused, Request, ServiceCore, ServiceEffect},
    store::LeadOutcome,
};

use super::ServiceDriver;
use super::{
    Actor, Admitting, CLUSTER, IMPORT_LIMIT_MS, LeadFor, MEMBERSHIP, Mail, Master, Member, ReplyTo, RunnerDriver, SCHEDULER,
    STORE,
};
use crate::sim::{
    net::Reply,
    plant::Plant,
    world::{Ev, World},
};

impl World {
    pub(super) fn cluster_mail(&mut self, master: &mut Master, mail: Mail) {
        if self.killed(master) {
            return;
        }
        match mail {
            Mail::Ask { name, request, user } => self.ask(master, name, request, ReplyTo::User(user)),
            Mail::Operate { node, operation, number } => match master.runners.get(&node) {
                Some(&runner) => master.post(runner, Mail::Operate { node, operation, number }),
                None => self.operator_is_answered(number, &Err(OperateRefused::NotFound)),
            },
            Mail::Register { call, registration } => {
                self.admit(master, Admitting { call, admission: Admission::new(registration) }, Event::Began);
            }
            Mail::Report { call, report } => match master.runners.get(&report.node) {
                Some(&runner) => master.post(runner, Mail::Report { call, report }),
                None => {
                    let fence = master.cluster.fence().clone();
                    self.answer(
                        call,
                        Reply::Ack(ReportAck {
                            fence,
                            want_full: false,
                            want_registration: true,
                            report_interval_ms: None,
                            push: None,
                        }),
                    );
                }
            },
            Mail::Orders(orders) => match master.runners.get(&orders.node) {
                Some(&runner) => master.post(runner, Mail::Orders(orders)),
                None => master.cluster.keep_orders(orders.node, orders.set, orders.remove),
            },
            Mail::Statuses(statuses) => {
                to_services(master, statuses, |status| status.replica.service().to_owned(), Mail::Statuses);
            }
            Mail::Gone(replicas) => to_services(master, replicas, |replica| replica.service().to_owned(), Mail::Gone),
            Mail::Known(known) => Self::tell_known(master, known),
            Mail::HostChanged(change) => self.tell_host_changed(master, &change),
            Mail::Interval(interval) => {
                master.cluster.interval_changed(interval);
                let runners: Vec<u64> = master.runners.values().copied().collect();
                for runner in runners {
                    master.post(runner, Mail::Interval(interval));
                }
            }
            Mail::Forgotten(HostForgotten { node }) => {
                if let Some(uid) = master.cluster.uid(&node).cloned() {
                    let _ = master.cluster.host_forgotten(node.clone(), uid);
                    if self.planted(Plant::ImportsForgotten) {
                        master.cluster.remembered(&node);
                    }
                    Self::tell_forgotten(master, &node);
                }
            }
            Mail::StaleFence(theirs) => {
                if !master.cluster.fence().admits_over(&theirs) {
                    let cluster = master.cluster.cluster().clone();
                    master.post(STORE, Mail::Lead { above: theirs.epoch, cluster, reply: LeadFor::Push });
                }
            }
            Mail::Led { result, reply } => self.led(master, result, reply),
            Mail::Imported { admission, result } => self.imported(master, admission, result),
            Mail::ImportLimit { admission } => {
                if let Some(admitting) = master.admissions.remove(&admission) {
                    self.admit(master, admitting, Event::ImportTooLate);
                }
            }
            Mail::Retired { name, actor, seen } => {
                // A request that is on its way to the service keeps it alive.
                if master.members.get(&name).is_some_and(|member| member.actor == actor && member.asked == seen) {
                    master.members.remove(&name);
                    master.close(actor);
                    master.cluster.services_are(master.members.len());
                }
            }
            other => debug_assert!(false, "not for the cluster: {other:?}"),
        }
    }

    fn ask(&mut self, master: &mut Master, name: ServiceName, request: Request, reply: ReplyTo) {
        let makes = matches!(request, Request::Create { .. } | Request::Put { .. } | Request::Import { .. });
        if !makes && !master.members.contains_key(&name) {
            return self.replied(master, &name, reply, Err(Refused::NotFound));
        }
        if !master.members.contains_key(&name) {
            let core = ServiceCore::new(
                name.clone(),
                self.rng.u64(1..),
                master.cluster.conditions(),
                master.cluster.described().clone(),
            );
            self.add_service(master, name.clone(), core, Vec::new());
        }
        if let Some(member) = master.members.get_mut(&name) {
            member.asked += 1;
            let actor = member.actor;
            master.post(actor, Mail::Request(request, reply));
        }
    }

    pub(super) fn add_service(&mut self, master: &mut Master, name: ServiceName, core: ServiceCore, initial: Vec<ServiceEffect>) {
        master.next_actor += 1;
        let actor = master.next_actor;
        master.open(actor);
        let mut service = ServiceDriver { name: name.clone(), core, waiting: BTreeMap::new(), tickets: 0, timer: None };
        master.members.insert(name, Member { actor, asked: 0 });
        master.cluster.services_are(master.members.len());
        self.service_effects(master, actor, &mut service, initial);
        master.actors.insert(actor, Actor::Service(Box::new(service)));
    }

    pub(super) fn add_runner(&mut self, master: &mut Master, record: NodeRecord, version: Option<Version>) {
        let node = record.node.clone();
        let (cluster, fence) = (master.cluster.cluster().clone(), master.cluster.fence().clone());
        let (core, initial) = RunnerCore::new(cluster, fence, master.cluster.report_interval(), record, version);
        master.next_actor += 1;
        let actor = master.next_actor;
        master.open(actor);
        master.runners.insert(node.clone(), actor);
        let mut runner = RunnerDriver { node, core, timer: None, registers: None, last: None };
        self.runner_effects(master, actor, &mut runner, initial, None);
        if let Some((set, remove)) = master.cluster.kept_orders(&runner.node) {
            master.post(actor, Mail::Orders(Orders { node: runner.node.clone(), set, remove }));
        }
        master.actors.insert(actor, Actor::Runner(Box::new(runner)));
    }

    pub(super) fn tell_host_changed(&mut self, master: &mut Master, change: &HostChanged) {
        self.note(|| format!("master: {} is {:?} {:?}", change.node, change.condition, change.why));
        self.rules_told_of(master, change);
        if master.cluster.host_changed(&change.node, change.condition) {
            master.post(SCHEDULER, Mail::HostChanged(change.clone()));
            let mut told = change.clone();
            told.condition.overdue |= self.planted(Plant::DrainStopsFirst) && change.condition.is_leaving();
            let services: Vec<u64> = master.members.values().map(|member| member.actor).collect();
            for service in services {
                master.post(service, Mail::HostChanged(told.clone()));
            }
        }
        if let Some(&runner) = master.runners.get(&change.node) {
            master.post(runner, Mail::HostChanged(change.clone()));
        }
    }

    fn tell_known(master: &mut Master, known: HostKnown) {
        if master.cluster.describes(&known) {
            let services: Vec<u64> = master.members.values().map(|member| member.actor).collect();
            master.post(SCHEDULER, Mail::Known(known));
            for service in services {
                let hosts = master.cluster.described().clone();
                master.post(service, Mail::Described(hosts));
            }
        }
    }

    pub(super) fn tell_forgotten(master: &mut Master, node: &NodeName) {
        let services: Vec<u64> = master.members.values().map(|member| member.actor).collect();
        for service in &services {
            let hosts = master.cluster.described().clone();
            master.post(*service, Mail::Described(hosts));
        }
        for actor in [MEMBERSHIP, SCHEDULER].into_iter().chain(services) {
            master.post(actor, Mail::Forgotten(HostForgotten { node: node.clone() }));
        }
    }

    /// One step of an admission.
    fn admit(&mut self, master: &mut Master, mut admitting: Admitting, event: Event) {
        let step = admitting.admission.step(event, &mut master.cluster);
        let node = admitting.admission.registration().node.clone();
        self.note(|| format!("{node} registers: {}", step_word(step.as_ref())));
        let number = self.fresh();
        match step {
            // More of what it holds is to become durable.
            None => {
                master.admissions.insert(number, admitting);
            }
            Some(Step::Refuse(RegisterRefused::Conflict(why))) => self.answer(admitting.call, Reply::Refused(why)),
            Some(Step::Refuse(RegisterRefused::Later(why))) => self.answer(admitting.call, Reply::Later(why)),
            Some(Step::Lead { above, cluster }) => {
                master.admissions.insert(number, admitting);
                master.post(STORE, Mail::Lead { above, cluster, reply: LeadFor::Admission(number) });
            }
            Some(Step::Import(by_service)) if self.planted(Plant::SkipsImport) => {
                for _ in by_service {
                    let step = admitting.admission.step(Event::Imported(Ok(())), &mut master.cluster);
                    if let Some(Step::Forward(registration)) = step {
                        self.forward(master, admitting.call, registration);
                    }
                }
            }
            Some(Step::Import(by_service)) => {
                self.ensure_runner(master, admitting.admission.registration());
                master.admissions.insert(number, admitting);
                let mail = Mail::ImportLimit { admission: number };
                self.at(IMPORT_LIMIT_MS, Ev::Master { inc: master.inc, actor: CLUSTER, mail });
                for (name, holds) in by_service {
                    self.ask(master, name, Request::Import { node: node.clone(), holds }, ReplyTo::Import(number));
                }
            }
            Some(Step::Forward(registration)) => self.forward(master, admitting.call, registration),
        }
    }

    fn ensure_runner(&mut self, master: &mut Master, registration: &Registration) {
        if master.runners.contains_key(&registration.node) {
            return;
        }
        let record = NodeRecord {
            node: registration.node.clone(),
            uid: registration.uid.clone(),
            host: registration.host.clone(),
            joined: self.master_now(master).wall,
            intent: Intent::Active,
            forgotten: None,
        };
        self.add_runner(master, record, None);
    }

    fn forward(&mut self, master: &mut Master, call: u64, registration: Box<Registration>) {
        self.ensure_runner(master, &registration);
        match master.runners.get(&registration.node) {
            Some(&runner) => master.post(runner, Mail::Register { call, registration }),
            None => self.answer(call, Reply::Later("the host's runner has ended".to_owned())),
        }
    }

    fn led(&mut self, master: &mut Master, result: Result<LeadOutcome, String>, reply: LeadFor) {
        let admission = match reply {
            LeadFor::Admission(number) => master.admissions.remove(&number),
            LeadFor::Push => None,
        };
        match result {
            Ok(led) => {
                self.note(|| format!("leading anew, epoch {}", led.fence.epoch));
                master.cluster.led(led.cluster, led.fence.clone());
                let runners: Vec<u64> = master.runners.values().copied().collect();
                for runner in runners {
                    master.post(runner, Mail::Fence(FenceChanged(led.fence.clone())));
                }
                if let Some(admitting) = admission {
                    self.admit(master, admitting, Event::Led(Ok(())));
                }
            }
            Err(why) => {
                if let Some(admitting) = admission {
                    self.admit(master, admitting, Event::Led(Err(why)));
                }
            }
        }
    }

    fn imported(&mut self, master: &mut Master, number: u64, result: Result<shef_master::service::Accepted, Refused>) {
        let Some(mut admitting) = master.admissions.remove(&number) else { return };
        let event = Event::Imported(result.map(|_| ()).map_err(|refused| format!("{refused:?}")));
        match admitting.admission.step(event, &mut master.cluster) {
            // More is to come under the same number.
            None => {
                master.admissions.insert(number, admitting);
            }
            Some(Step::Forward(registration)) => self.forward(master, admitting.call, registration),
            Some(Step::Refuse(RegisterRefused::Conflict(why))) => self.answer(admitting.call, Reply::Refused(why)),
            Some(Step::Refuse(RegisterRefused::Later(why))) => self.answer(admitting.call, Reply::Later(why)),
            Some(other @ (Step::Lead { .. } | Step::Import(_))) => debug_assert!(false, "after an import: {other:?}"),
        }
    }
}

fn step_word(step: Option<&Step>) -> String {
    match step {
        None => "waits".to_owned(),
        Some(Step::Forward(_)) => "admitted".to_owned(),
        Some(Step::Import(held)) => format!("to be imported with {} services", held.len()),
        Some(Step::Lead { above, .. }) => format!("lead above {above} first"),
        Some(Step::Refuse(why)) => format!("refused: {why:?}"),
    }
}

fn to_services<T>(master: &mut Master, items: Vec<T>, service: impl Fn(&T) -> String, mail: impl Fn(Vec<T>) -> Mail) {
    let mut by_service: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for item in items {
        by_service.entry(service(&item)).or_default().push(item);
    }
    for (name, items) in by_service {
        if let Some(member) = master.members.get(name.as_str()) {
            let actor = member.actor;
            master.post(actor, mail(items));
        }
    }
}
