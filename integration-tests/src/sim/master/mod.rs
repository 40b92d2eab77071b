//! The driver in place of the master's actors: mailboxes, timers, and what
//! carries out the effects of the cores. It decides nothing.
//!
//! Every actor takes its mail in order, and what its own calls bring in order;
//! which actor comes next is drawn, so that no order between actors is taken
//! for granted.

mod access;
mod cluster;
mod mail;
mod members;
mod runners;
mod services;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt as _;
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::{ClusterId, Fence, LeaderId, NodeName, ServiceName},
    protocol::LedgerDigest,
};
use shef_master::{
    cluster::{ClusterCore, ClusterEffects as _, ClusterOptions, PhaseView, Succession},
    is_restored,
    membership::{MembershipCore, Settings},
    runner::NodeView,
    scheduler::{PlacementResult, QuestionTicket, SchedulerCore, SchedulerEffects},
    service::{ServiceEvent, ServiceView, WAVE},
    store::{CoreOptions, Leadership, Store as _, core::Core as StoreCore},
};

use self::{
    access::AccessDriver,
    cluster::ClusterSide,
    mail::{ACCESS, CLUSTER, MEMBERSHIP, Mailbox, SCHEDULER, STORE},
    runners::RunnerDriver,
    services::ServiceDriver,
    storage::StoreDriver,
};
pub use self::{access::Waiting, mail::Mail, members::probe_outcome, storage::StoreCall};
use super::{
    seeded_bug::SeededBug,
    world::{Ev, World},
};

/// What the membership goes by: the defaults, with shorter holds than a run is long.
pub const SETTINGS: Settings = Settings {
    report_interval: DurationMs(500),
    suspect_after: DurationMs(1_200),
    probe_window: DurationMs(850),
    brake_share_percent: 33,
    brake_release_after: DurationMs(60_000),
    unanswered_down_after: DurationMs(60_000),
    flap_hold: DurationMs(30_000),
};
/// How many earlier generations services keep.
const HISTORY_LIMIT: usize = 10;
/// How many forgotten hosts are remembered: few, so that the records of some are erased though a run has few
/// hosts.
const FORGOTTEN_LIMIT: usize = 2;

/// An actor that there is one of for each service or host.
#[derive(Debug)]
pub(super) enum Actor {
    Service(Box<ServiceDriver>),
    Runner(Box<RunnerDriver>),
}

/// A run of the master's process.
pub struct Master {
    /// The run.
    pub inc: u64,
    pub(super) started: u64,
    pub(super) dead: bool,
    /// How far it is, for readers.
    pub phase: PhaseView,
    /// Whether it is to start again, and then whether an operator wants it to lead.
    pub(super) again: Option<Succession>,
    pub(super) cluster: ClusterCore,
    pub(super) services: BTreeMap<ServiceName, u64>,
    pub(super) runners: BTreeMap<NodeName, u64>,
    pub(super) actors: BTreeMap<u64, Actor>,
    next_actor: u64,
    pub(super) store: StoreDriver,
    pub(super) scheduler: SchedulerCore,
    pub(super) membership: MembershipCore,
    /// Tokens and identities.
    pub access: AccessDriver,
    /// Until when, and number, of the timer of each actor.
    timers: BTreeMap<u64, (MonoMs, u64)>,
    /// When hosts reported last, in the run's time.
    pub last_reports: BTreeMap<NodeName, u64>,
    boxes: BTreeMap<u64, Mailbox>,
    /// Services that have still to say what follows from their stored records.
    pub unsaid: BTreeSet<ServiceName>,
    /// The views of services that readers are shown.
    pub services_shown: BTreeMap<ServiceName, ServiceView>,
    /// The views of hosts that readers are shown, and since when each is ready.
    pub hosts_shown: BTreeMap<NodeName, NodeView>,
    /// Since when, in the run's time, hosts are ready.
    pub ready_since: BTreeMap<NodeName, u64>,
}

impl Master {
    /// Under which fence it leads.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        self.cluster.members().fence()
    }

    /// The cluster that it leads.
    #[must_use]
    pub const fn cluster_id(&self) -> &ClusterId {
        &self.store.core.leadership().cluster
    }

    /// The digest that the ledger of a host has once it holds what it is to run.
    #[must_use]
    pub fn wanted_digest(&self, node: &NodeName) -> Option<LedgerDigest> {
        match self.actors.get(self.runners.get(node)?)? {
            Actor::Runner(runner) => Some(runner.core.wanted_digest()),
            Actor::Service(_) => None,
        }
    }

    /// Puts `mail` behind the mail of its actor.
    pub(super) fn post(&mut self, mail: Mail) {
        if let Some(mailbox) = self.boxes.get_mut(&mail.actor()) {
            mailbox.mail.push_back(mail);
        }
    }

    /// What an actor's own call has brought.
    pub(super) fn answer(&mut self, mail: Mail) {
        if let Some(mailbox) = self.boxes.get_mut(&mail.actor()) {
            mailbox.answers.push_back(mail);
        }
    }

    /// A new actor, which begins on [`Self::begin`].
    pub(super) fn open(&mut self, make: impl FnOnce(u64) -> Actor) -> u64 {
        self.next_actor += 1;
        let actor = self.next_actor;
        self.boxes.insert(actor, Mailbox::default());
        self.actors.insert(actor, make(actor));
        actor
    }

    fn begin(&mut self, actor: u64) {
        if let Some(mailbox) = self.boxes.get_mut(&actor) {
            mailbox.has_begun = true;
            mailbox.mail.push_front(Mail::Begin(actor));
        }
    }

    pub(super) fn close(&mut self, actor: u64) {
        self.boxes.remove(&actor);
        self.actors.remove(&actor);
        self.timers.remove(&actor);
    }
}

impl World {
    pub(super) fn master_now(&self, master: &Master) -> Now {
        self.clocks(master.started, self.master_wall)
    }

    /// A master's process starts: takes the leadership and recovers.
    pub fn start_master(&mut self) {
        if self.master.is_none() {
            self.start_another_master();
        }
    }

    /// A second master's process starts while the first one runs; never a third.
    pub fn start_second_master(&mut self) {
        if self.rival.is_none() || self.master.is_none() {
            self.start_another_master();
        }
    }

    fn start_another_master(&mut self) {
        let (leader, cluster) = (self.hex16(), self.hex16());
        let (Ok(leader), Ok(cluster)) = (LeaderId::parse(&leader), ClusterId::parse(&cluster)) else {
            return;
        };
        self.arm_store_faults();
        let restored = is_restored(&self.store, &leader).now_or_never() == Some(true);
        let how = self.succession;
        let cluster = self.tls.ca_of.clone().unwrap_or(cluster);
        let led = self.store.lead(&leader, how.above, &cluster).now_or_never();
        let Some(Ok(led)) = led else {
            self.note(|| "the master cannot lead yet".to_owned());
            return self.at(1_000, Ev::MasterStart);
        };
        self.rules_led(&led.cluster, &led.fence);
        let Some(led) = self.has_authority(led) else {
            self.note(|| "the CA is not stored yet".to_owned());
            return self.at(1_000, Ev::MasterStart);
        };
        if self.has_ca() {
            self.tls.ca_of.get_or_insert_with(|| led.cluster.clone());
        }
        self.succession = Succession::default();
        let mut recovered = match shef_master::recover(&led.records) {
            Ok((recovered, _)) => recovered,
            Err(error) => return self.violated(format!("the master cannot read its own records: {error}")),
        };
        self.forgets_numbers(&mut recovered);
        let known = recovered.take_access();
        self.master_inc += 1;
        let inc = self.master_inc;
        self.note(|| format!("master {inc} leads, epoch {}, {} records", led.fence.epoch, led.records.len()));
        let stored = recovered.nodes.iter().map(|(_, record)| record.node.clone()).collect();
        self.rules_still_stored(&stored);
        for (_, record) in &recovered.nodes {
            // It may have died before the commit was reported.
            if record.forgotten.is_some() {
                self.rules_forgotten(&record.node);
            } else {
                self.rules_recovered(&record.node);
            }
        }
        let now = self.clocks(self.now, self.master_wall);
        let unsaid = recovered.services.iter().map(|stored| stored.record.spec.name.clone()).collect();
        let leadership = Leadership { cluster: led.cluster, fence: led.fence };
        let store = StoreDriver {
            core: StoreCore::new(CoreOptions::default(), leadership.clone(), led.records, now),
            commits: BTreeMap::new(),
            claims: BTreeMap::new(),
            tickets: 0,
        };
        let (membership, looks) = MembershipCore::new(self.settings(), now);
        let (access, known) = AccessDriver::recover(known, now.wall);
        let options = ClusterOptions {
            report_interval: SETTINGS.report_interval,
            history_limit: HISTORY_LIMIT,
            // No service here has more replicas than usually fit in one commit: in some worlds fewer do.
            wave: [WAVE, 1, WAVE, 3][self.hosts.len() % 4],
            forgotten_limit: FORGOTTEN_LIMIT,
            takes_over: how.takes_over || restored,
            has_ca: self.has_ca(),
            seed: self.rng.u64(..),
        };
        let (cluster, first) = ClusterCore::new(options, leadership, recovered, now);
        let mut master = Box::new(Master {
            inc,
            started: self.now,
            dead: false,
            phase: PhaseView::Recovering,
            again: None,
            cluster,
            services: BTreeMap::new(),
            runners: BTreeMap::new(),
            actors: BTreeMap::new(),
            next_actor: 10,
            store,
            scheduler: SchedulerCore::default(),
            membership,
            access,
            timers: BTreeMap::new(),
            last_reports: BTreeMap::new(),
            boxes: BTreeMap::new(),
            unsaid,
            services_shown: BTreeMap::new(),
            hosts_shown: BTreeMap::new(),
            ready_since: BTreeMap::new(),
        });
        for actor in [CLUSTER, STORE, SCHEDULER, MEMBERSHIP, ACCESS] {
            master.boxes.insert(actor, Mailbox { has_begun: true, ..Mailbox::default() });
        }
        if let Some(earlier) = self.master.take() {
            self.rival = Some(earlier);
        }
        self.membership_effects(&mut master, looks);
        self.access_effects(&mut master, known);
        self.arm_store(&mut master);
        ClusterSide { world: self, master: &mut master }.carry_out(first);
        self.drain_master(master);
    }

    /// Mail for an actor of the master; everything that follows at once happens now.
    pub fn master_mail(&mut self, inc: u64, mail: Mail) {
        if self.is_of_lost_host(inc) {
            return self.on_lost_host(|world| world.master_mail(inc, mail));
        }
        let Some(mut master) = self.take_master(inc) else { return };
        master.post(mail);
        self.drain_master(master);
    }

    /// What a call of an actor of the master has brought.
    pub fn master_answer(&mut self, inc: u64, mail: Mail) {
        if self.is_of_lost_host(inc) {
            return self.on_lost_host(|world| world.master_answer(inc, mail));
        }
        let Some(mut master) = self.take_master(inc) else { return };
        master.answer(mail);
        self.drain_master(master);
    }

    /// A service or a runner of the master begins.
    pub fn master_begins(&mut self, inc: u64, actor: u64) {
        if self.is_of_lost_host(inc) {
            return self.on_lost_host(|world| world.master_begins(inc, actor));
        }
        let Some(mut master) = self.take_master(inc) else { return };
        master.begin(actor);
        self.drain_master(master);
    }

    fn take_master(&mut self, inc: u64) -> Option<Box<Master>> {
        let is_it = |master: &mut Box<Master>| master.inc == inc;
        self.master.take_if(is_it).or_else(|| self.rival.take_if(is_it))
    }

    fn drain_master(&mut self, mut master: Box<Master>) {
        let mut bound = 100_000;
        while !master.dead && self.broken.is_none() {
            let full: Vec<u64> = master
                .boxes
                .iter()
                .filter(|(_, mailbox)| mailbox.is_ready())
                .map(|(actor, _)| *actor)
                .collect();
            if full.is_empty() {
                break;
            }
            bound -= 1;
            if bound == 0 {
                self.violated("the master's actors never come to rest".to_owned());
            }
            let actor = full[self.rng.usize(..full.len())];
            let Some(mailbox) = master.boxes.get_mut(&actor) else { continue };
            // As actix has it: what its own calls bring never overtakes the mail.
            if let Some(mail) = mailbox.mail.pop_front().or_else(|| mailbox.answers.pop_front()) {
                self.deliver(&mut master, mail);
            }
        }
        let is_newest = master.inc == self.master_inc;
        if master.dead {
            self.note(|| format!("master {} is killed", master.inc));
            self.master_fuse = None;
            if is_newest {
                let delay = self.rng.u64(200..6_000);
                self.at(delay, Ev::MasterStart);
            }
        } else if let Some(how) = master.again {
            self.succession = how;
            self.master_fuse = None;
            self.rules_starts_again(&master);
            let delay = self.rng.u64(50..500);
            self.at(delay, if is_newest { Ev::MasterStart } else { Ev::SecondMasterStart });
        } else if is_newest {
            self.master = Some(master);
        } else {
            self.rival = Some(master);
        }
    }

    /// At `at` the actor gets `mail`. Of several times the earliest counts, as with the actors' timers.
    pub(super) fn set_timer(&mut self, master: &mut Master, at: MonoMs, mail: Mail) {
        let actor = mail.actor();
        if master.timers.get(&actor).is_some_and(|(armed, _)| *armed <= at) {
            return;
        }
        let timer = self.fresh();
        master.timers.insert(actor, (at, timer));
        let due = master.started + at.0;
        self.at(due.saturating_sub(self.now), Ev::MasterTimer { inc: master.inc, timer, mail });
    }

    /// A timer of the master; valid if it is still the one that was set last.
    pub fn master_timer(&mut self, inc: u64, timer: u64, mail: Mail) {
        if self.is_of_lost_host(inc) {
            return self.on_lost_host(|world| world.master_timer(inc, timer, mail));
        }
        let masters = [self.master.as_mut(), self.rival.as_mut()];
        let Some(master) = masters.into_iter().flatten().find(|master| master.inc == inc) else { return };
        let actor = mail.actor();
        if master.timers.get(&actor).is_some_and(|(_, number)| *number == timer) {
            master.timers.remove(&actor);
            if actor == MEMBERSHIP {
                self.sweeps_again();
                self.rules_stopped_alone();
            }
            self.master_answer(inc, mail);
        }
    }

    /// Before an effect of the master: whether it is killed here.
    pub(super) fn killed(&mut self, master: &mut Master) -> bool {
        match &mut self.master_fuse {
            Some(0) => master.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        master.dead
    }

    fn settings(&self) -> Settings {
        if self.is_seeded(SeededBug::OneLostReport) {
            Settings { suspect_after: DurationMs(700), ..SETTINGS }
        } else {
            SETTINGS
        }
    }
}

/// What the scheduler does.
pub(super) struct SchedulerSide<'a>(pub &'a mut Master);

impl SchedulerEffects for SchedulerSide<'_> {
    fn answer(&mut self, ticket: QuestionTicket, scheduled: PlacementResult) {
        // A question's number is that of the service's actor.
        self.0.answer(Mail::Service(ticket, ServiceEvent::Scheduled(scheduled)));
    }
}
