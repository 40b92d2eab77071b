//! The user: creates, scales, updates and deletes one to five services.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    ids::{ServiceName, Slot, Version},
    image::ImageRef,
    spec::{
        HealthCheck, HealthTest, Network, OnDisconnect, OnUnhealthy, Rebalance, ServiceSpec, Template, Update,
    },
};
use shef_master::cluster::ClusterEvent;
use shef_master::service::{Accepted, Expect, Refused, Request, RolloutCommand};

use super::{
    engine::{BAD_IMAGE, CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE},
    master::Mail,
    world::{Ev, World},
};

/// The most services.
const SERVICES: u32 = 5;
/// The most replicas of one.
const REPLICAS: u32 = 6;

/// Services whose replicas are never to stop for want of a master.
const KEPT: [&str; 2] = ["s0", "s1"];

/// The user's requests and their answers.
#[derive(Debug, Default)]
pub struct User {
    next: u64,
    /// Requests without an answer yet.
    pub open: BTreeMap<u64, (ServiceName, Request)>,
    /// Requests that were answered.
    answered: BTreeSet<u64>,
    /// Numbers of replicas that somebody asked for, by service.
    pub replicas: BTreeMap<ServiceName, BTreeSet<u32>>,
    /// Images likewise.
    pub images: BTreeMap<ServiceName, BTreeSet<String>>,
    /// How each service was to be updated, by all that was ever asked.
    pub updates_of: BTreeMap<ServiceName, Vec<Update>>,
    /// When somebody last asked for a canary to be promoted.
    pub promoted: BTreeMap<ServiceName, u64>,
    /// The shortest time, in seconds, after which replicas of a service may stop for want of a master.
    pub shortest_stop: BTreeMap<ServiceName, u32>,
    /// Services whose deletion somebody asked for.
    pub deletes: BTreeSet<ServiceName>,
    /// The last acknowledged request of a service, and where its record is in the log of what was stored.
    pub acknowledged: BTreeMap<ServiceName, (usize, Request)>,
    /// Slots whose data somebody asked to give up, and whether that may still come about.
    pub released: BTreeMap<(ServiceName, Slot), bool>,
    last_version: BTreeMap<ServiceName, Version>,
    updates: u32,
}

/// What is done about sickening containers: an update's number says it, so that nothing more is drawn.
fn on_unhealthy(number: u32) -> Option<OnUnhealthy> {
    [None, Some(OnUnhealthy::Restart), Some(OnUnhealthy::Replace)][number as usize % 3]
}

/// The check of a process that somebody may stop: in turn by the engine and by the agent, at times none.
fn checked_by_hand(number: u32) -> Option<HealthCheck> {
    let on_unhealthy = [OnUnhealthy::Report, OnUnhealthy::Restart, OnUnhealthy::Replace][number as usize % 3];
    let check = checked(on_unhealthy);
    match number % 5 {
        0 => None,
        1 | 3 => Some(check),
        _ => Some(HealthCheck { test: HealthTest::Tcp { port: 80 }, ..check }),
    }
}

/// A check by the engine.
fn checked(on_unhealthy: OnUnhealthy) -> HealthCheck {
    HealthCheck {
        test: HealthTest::Shell("check".to_owned()),
        interval_ms: 1_000,
        timeout_ms: 1_000,
        retries: 1,
        start_period_ms: 0,
        on_unhealthy,
    }
}

impl World {
    /// The user does something, and will again.
    pub fn user_acts(&mut self) {
        if !self.faults {
            return;
        }
        let pause = self.rng.u64(200..5_000);
        self.at(pause, Ev::User);
        if !self.rules.has_host {
            return;
        }
        let founds_another = self.rules.store_lost && !self.has_ca();
        if founds_another && self.master.as_ref().is_some_and(|master| master.hosts_shown.is_empty()) {
            return; // Who fills an emptied store before a host has come founds another cluster.
        }
        let Ok(name) = ServiceName::parse(&format!("s{}", self.rng.u32(0..SERVICES))) else { return };
        let known = self.master.as_ref().is_some_and(|master| master.services_shown.contains_key(&name));
        let replicas = self.rng.u32(0..=REPLICAS);
        let version = self.user.last_version.get(&name).copied();
        let expect = match version {
            Some(version) if self.chance(200) => Expect::Exactly(version),
            Some(_) | None => Expect::Any,
        };
        let moves = self.profile.operators && self.chance(80);
        let request = match self.rng.u32(0..10) {
            _ if self.profile.demanding && known && self.chance(60) => {
                Request::Release { slot: Slot(self.rng.u32(0..REPLICAS.max(1))), expect }
            }
            _ if moves => Request::Rebalance { per_minute: self.rng.u32(1..=60) },
            0 | 1 if known && self.chance(600) => {
                Request::RolloutCommand { command: self.drawn_command(), expect }
            }
            2 if known && self.chance(300) => Request::Restart { expect },
            2 if known && self.chance(300) => Request::RollBack { generation: None, expect },
            0..=3 if !known => Request::Create { spec: self.spec(&name, replicas) },
            0..=3 => Request::Scale { replicas, expect },
            4..=6 => Request::Put { spec: self.spec(&name, replicas), expect },
            7 => Request::Create { spec: self.spec(&name, replicas) },
            _ => Request::Delete { expect },
        };
        self.ask_for(name, request);
    }

    fn spec(&mut self, name: &ServiceName, replicas: u32) -> ServiceSpec {
        let bad = self.fault(self.profile.bad_image);
        self.user.updates += 1;
        let crashes = self.fault(self.profile.crashing_image);
        let image = if crashes {
            let image = [CRASHING_IMAGE, FADING_IMAGE, SICKENING_IMAGE][self.rng.usize(0..3)];
            format!("{image}:{}", self.user.updates)
        } else if bad {
            format!("{BAD_IMAGE}:{}", self.user.updates)
        } else {
            format!("app:{}", self.rng.u32(0..3))
        };
        let image = ImageRef::parse(&image).unwrap_or_else(|error| panic!("{error}"));
        let mut template = Template::of(image);
        template.stop_grace_s = self.rng.u32(0..4);
        template.networks = vec![Network::named(format!("net-{name}"))];
        if template.image.as_str().contains(SICKENING_IMAGE) && !self.profile.older_agents {
            template.health = on_unhealthy(self.user.updates).map(checked);
        }
        if self.profile.is_by_hand() {
            template.health = checked_by_hand(self.user.updates);
        }
        if self.profile.older_agents && self.chance(300) {
            // Older agents do not understand the one, and restricted hosts refuse the other.
            template.group_add = vec!["video".to_owned()];
            template.cap_add = vec!["NET_ADMIN".to_owned()];
        }
        let mut spec = ServiceSpec {
            on_disconnect: self.on_disconnect(name),
            rebalance: if self.profile.operators && self.chance(150) {
                Rebalance::On { per_minute: self.rng.u32(1..=60) }
            } else {
                Rebalance::Off
            },
            update: self.drawn_update(),
            ..ServiceSpec::of(name.clone(), replicas, template)
        };
        self.demanding(name, &mut spec);
        spec
    }

    /// The first two services run on without a master, whatever comes; the others may not.
    fn on_disconnect(&mut self, name: &ServiceName) -> OnDisconnect {
        let may_stop = self.profile.operators && !KEPT.contains(&name.as_str());
        if !may_stop || self.rng.bool() {
            return OnDisconnect::Keep;
        }
        let seconds = self.rng.u32(3..15);
        let shortest = self.user.shortest_stop.entry(name.clone()).or_insert(seconds);
        *shortest = seconds.min(*shortest);
        OnDisconnect::StopAfter { seconds }
    }

    pub(super) fn ask_for(&mut self, name: ServiceName, request: Request) {
        let user = &mut self.user;
        match &request {
            Request::Create { spec, .. } | Request::Put { spec, .. } => {
                user.replicas.entry(name.clone()).or_default().insert(spec.replicas);
                user.images.entry(name.clone()).or_default().insert(spec.template.image.pinned());
                user.updates_of.entry(name.clone()).or_default().push(spec.update);
            }
            Request::Scale { replicas, .. } => {
                user.replicas.entry(name.clone()).or_default().insert(*replicas);
            }
            Request::Change { change, .. } => {
                user.replicas.entry(name.clone()).or_default().extend(change.replicas());
            }
            Request::Delete { .. } => {
                user.deletes.insert(name.clone());
            }
            Request::RolloutCommand { command: RolloutCommand::Promote, .. } => {
                user.promoted.insert(name.clone(), self.now);
            }
            Request::Release { slot, .. } => {
                user.released.insert((name.clone(), *slot), true);
            }
            Request::Import { .. }
            | Request::MayImport { .. }
            | Request::Rebalance { .. }
            | Request::RolloutCommand { .. }
            | Request::Restart { .. }
            | Request::Remount(_)
            | Request::RollBack { .. } => {}
        }
        user.next += 1;
        let number = user.next;
        user.open.insert(number, (name.clone(), request.clone()));
        self.note(|| format!("user asks {number}: {name}: {}", request_word(&request)));
        if let Some(master) = &self.master {
            let inc = master.inc;
            self.master_mail(inc, Mail::Cluster(ClusterEvent::Ask { call: number, name, request }));
        }
    }

    /// A request of the user's is answered.
    pub fn user_is_answered(&mut self, number: u64, answer: Result<Accepted, Refused>) {
        self.note(|| format!("user is answered {number}: {answer:?}"));
        if !self.user.answered.insert(number) {
            return self.violated(format!("the user's request {number} is answered twice"));
        }
        let Some((name, request)) = self.user.open.remove(&number) else { return };
        if let Ok(accepted) = answer {
            self.user.last_version.insert(name.clone(), accepted.version);
            self.rules_acknowledged(&name, accepted.version, request);
        } else if let Request::Release { slot, .. } = request {
            self.user.released.remove(&(name, slot));
        }
    }
}

fn request_word(request: &Request) -> String {
    match request {
        Request::Create { spec } => format!("create {} of {}", spec.replicas, spec.template.image.pinned()),
        Request::Put { spec, expect } => {
            format!("put {} of {} {expect:?}", spec.replicas, spec.template.image.pinned())
        }
        Request::Scale { replicas, expect, .. } => format!("scale to {replicas} {expect:?}"),
        Request::Change { change, expect } => format!("change {change:?} {expect:?}"),
        Request::Rebalance { per_minute } => format!("rebalance, {per_minute} a minute"),
        Request::Delete { expect } => format!("delete {expect:?}"),
        Request::RolloutCommand { command, expect } => format!("{command:?} the rollout {expect:?}"),
        Request::Release { slot, expect } => format!("release slot {slot} {expect:?}"),
        Request::Remount(content) => format!("mount {content}"),
        Request::Restart { expect } => format!("restart {expect:?}"),
        Request::RollBack { generation, expect } => format!("roll back to {generation:?} {expect:?}"),
        Request::MayImport { .. } | Request::Import { .. } => "import".to_owned(),
    }
}
