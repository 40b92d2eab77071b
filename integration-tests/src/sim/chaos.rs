//! What breaks on its own, and how it is well again.

use std::net::Ipv4Addr;

use shef_agent::{
    engine::{Container, ContainerState},
    reporter::Identity,
    supervisor::Description,
};
use shef_common::{
    ids::{BootId, NodeName, NodeUid},
    labels,
    protocol::{LedgerDigest, ProbeKey},
};
use shef_master::{
    cluster::ClusterEvent,
    store::{Key, fake::Fault},
};

use super::{
    master::Mail,
    placement,
    profile::Chaos,
    world::{Ev, Heal, MAX_HOSTS, World},
};

impl World {
    /// Something breaks, and the next thing is due.
    pub fn chaos(&mut self) {
        if !self.faults {
            return;
        }
        let every = self.profile.chaos_every_ms;
        let next = self.rng.u64(every / 4..every * 2);
        self.at(next, Ev::Chaos);
        if !self.rules.has_host {
            return;
        }
        let Some(chaos) = self.draw_chaos() else { return };
        let host = self.rng.usize(..self.hosts.len());
        // Without a CA, who joins an emptied cluster as its first host founds another one, and the others stay
        // outside.
        let all_joined = self.has_ca() || self.hosts.iter().all(|host| host.ledger.cluster.is_some());
        if matches!(chaos, Chaos::Empty | Chaos::EmptyWhileDown) && !all_joined {
            return;
        }
        self.note(|| format!("chaos: {chaos:?} (h{})", host + 1));
        match chaos {
            Chaos::CrashMaster => self.master_fuse = Some(self.rng.u32(0..60)),
            Chaos::CrashAgent => self.hosts[host].fuse = Some(self.rng.u32(0..40)),
            Chaos::Cut => {
                self.cut(host);
                let long = self.rng.bool();
                let delay = if long { self.rng.u64(4_000..25_000) } else { self.rng.u64(100..4_000) };
                self.at(delay, Ev::Heal(Heal::Link(host)));
            }
            Chaos::CutMany => self.cut_many(),
            Chaos::CutFromMaster => {
                self.hosts[host].cut_from_master = true;
                self.hosts[host].let_in_since = None;
                self.hosts[host].link_changed = self.now;
                let delay = self.rng.u64(1_000..40_000);
                self.at(delay, Ev::Heal(Heal::Link(host)));
            }
            Chaos::EngineAway => {
                self.hosts[host].engine.away = true;
                self.stream_ends(host);
                let delay = self.rng.u64(500..10_000);
                self.at(delay, Ev::Heal(Heal::Engine(host)));
            }
            Chaos::StreamEnds => self.stream_ends(host),
            Chaos::Exit => {
                if let Some(container) =
                    self.some_container(host, |container| container.state == ContainerState::Running)
                {
                    self.container_exits(host, &container);
                }
            }
            Chaos::Vanish => {
                if let Some(container) = self.some_container(host, |_| true) {
                    self.destroy_container(host, &container);
                }
            }
            Chaos::Rename => {
                if let Some(container) = self.some_container(host, |_| true) {
                    self.rename_container(host, &container);
                }
            }
            Chaos::HandStop => {
                if let Some(container) =
                    self.some_container(host, |container| container.state == ContainerState::Running)
                {
                    self.hand_stops(host, &container);
                }
            }
            Chaos::HandKill => {
                if let Some(container) =
                    self.some_container(host, |container| container.state == ContainerState::Running)
                {
                    if self.rng.bool() {
                        self.kill_container(host, &container);
                    } else {
                        self.destroy_container(host, &container);
                    }
                }
            }
            Chaos::StoreAway => {
                self.store.set_away(true);
                let delay = self.rng.u64(500..8_000);
                self.at(delay, Ev::Heal(Heal::Store));
            }
            Chaos::LoseTail => {
                // What was synced a second ago stays.
                let second = self.now.saturating_sub(1_000);
                let changes = self.rules.changes.iter().rev().take_while(|at| **at > second).count();
                let kept = self.rules.changes.len() - changes;
                self.rules.changes.truncate(kept);
                self.store.lose_tail(changes);
                // Who restarts drops its connections.
                self.store.inject([Fault::Refuse]);
                self.rules_store_lost();
            }
            Chaos::Empty => {
                self.store.empty();
                self.rules_store_lost();
            }
            Chaos::EmptyWhileDown => {
                if let Some(master) = self.master.take() {
                    self.note(|| format!("master {} is killed and its store emptied", master.inc));
                    self.store.empty();
                    self.rules_store_lost();
                    self.master_fuse = None;
                    let delay = self.rng.u64(200..6_000);
                    self.at(delay, Ev::MasterStart);
                    // Otherwise the master waits until hosts have heard of no leader for long.
                    if self.rng.bool() {
                        let word = self.rng.u64(0..3_000);
                        self.at(delay + word, Ev::TakeOver);
                    }
                }
            }
            Chaos::NoSockets => {
                let whose = self.rng.bool().then_some(host);
                match whose {
                    Some(host) => self.hosts[host].without_sockets = true,
                    None => self.master_without_sockets = true,
                }
                let delay = self.rng.u64(1_000..15_000);
                self.at(delay, Ev::Heal(Heal::Sockets(whose)));
            }
            Chaos::SecondMaster => {
                if self.master.is_some() {
                    self.at(0, Ev::SecondMasterStart);
                }
            }
            Chaos::LoseMastersHost => self.lose_masters_host(),
            Chaos::Backup => self.back_up_or_restore(),
            Chaos::RenameHost => {
                let node = &self.hosts[host].node;
                // One that no store knows has no name yet: it would be a member under the other one for good.
                let is_member = self.rules.raw.contains_key(&Key::Node(node.clone()));
                if let Some(alias) = NodeName::parse(&format!("{node}-renamed")).ok().filter(|_| is_member) {
                    self.hosts[host].alias = Some(alias);
                    self.starts_agent_again(host);
                    let delay = self.rng.u64(5_000..25_000);
                    self.at(delay, Ev::Heal(Heal::Name(host)));
                }
            }
            Chaos::Readdress => {
                let inc = u8::try_from(self.hosts[host].agent_inc % 250).unwrap_or_default() + 1;
                self.hosts[host].address = Ipv4Addr::new(10, 1, u8::try_from(host).unwrap_or_default(), inc);
                self.starts_agent_again(host);
            }
            Chaos::Impostor => self.somebody_registers(host),
            Chaos::Thief => self.somebody_joins(),
            Chaos::Liar => self.somebody_lies(host),
            Chaos::WallJump => {
                let jump = self.rng.i64(-7_200_000..7_200_000);
                if self.rng.bool() { self.master_wall += jump } else { self.hosts[host].wall += jump }
            }
        }
    }

    /// A host's network is cut, unless it is mended for good.
    pub fn cut(&mut self, host: usize) {
        if self.faults {
            self.note(|| format!("h{} is cut off", host + 1));
            self.hosts[host].cut = true;
            self.hosts[host].let_in_since = None;
            self.hosts[host].link_changed = self.now;
        }
    }

    /// Three hosts at least are cut off within a second and a half.
    fn cut_many(&mut self) {
        let mut hosts: Vec<usize> = (0..self.hosts.len()).collect();
        self.rng.shuffle(&mut hosts);
        hosts.truncate(self.rng.usize(3..=MAX_HOSTS));
        let mended = self.rng.u64(4_000..15_000);
        for host in hosts {
            let delay = self.rng.u64(0..1_500);
            self.at(delay, Ev::Cut { host });
            self.at(mended, Ev::Heal(Heal::Link(host)));
        }
    }

    fn some_container(&mut self, host: usize, fits: impl Fn(&Container) -> bool) -> Option<Container> {
        let cluster = self.hosts[host].ledger.cluster.clone()?;
        let ours: Vec<Container> = self.hosts[host]
            .engine
            .containers
            .values()
            .filter(|container| {
                container.labels.get(labels::CLUSTER).map(String::as_str) == Some(cluster.as_str())
                    && fits(container)
            })
            .cloned()
            .collect();
        (!ours.is_empty()).then(|| ours[self.rng.usize(..ours.len())].clone())
    }

    /// Somebody registers a host with what everybody can learn of it, at an address of his own: as another
    /// run, under another identity, or as the one that is there.
    fn somebody_registers(&mut self, host: usize) {
        let (boot, uid) = (self.hex16(), self.hex16());
        let Some(agent) = &self.hosts[host].agent else { return };
        let target = &self.hosts[host];
        let identity = Identity {
            node: target.called().clone(),
            uid: NodeUid::parse(&uid).ok().filter(|_| self.rng.bool()).unwrap_or(target.ledger.uid.clone()),
            boot: BootId::parse(&boot).ok().filter(|_| self.rng.bool()).unwrap_or(agent.boot.clone()),
            address: Ipv4Addr::new(10, 66, 0, 1),
            agent_url: "http://10.66.0.1:11044".to_owned(),
            labels: placement::labels(host),
            policy: None,
            probe_key: ProbeKey::random(),
        };
        let description = Description {
            cluster: target.ledger.cluster.clone(),
            accepted: target.ledger.accepted.clone(),
            holds: Vec::new(),
            ledger: LedgerDigest::default(),
            complete: true,
            found: Vec::new(),
            leader_silent_ms: 0,
        };
        let registration = Box::new(identity.registration(super::engine::facts(host), description));
        let Some(inc) = self.master.as_ref().map(|master| master.inc) else { return };
        // Nobody waits for the answer.
        let call = self.fresh();
        self.master_mail(inc, Mail::Cluster(ClusterEvent::Register { call, registration }));
    }

    fn starts_agent_again(&mut self, host: usize) {
        self.hosts[host].agent = None;
        self.hosts[host].fuse = None;
        let delay = self.rng.u64(100..2_000);
        self.at(delay, Ev::AgentStart { host });
    }

    fn has_its_name_back(&mut self, host: usize) {
        if self.hosts[host].alias.take().is_some() {
            self.starts_agent_again(host);
        }
    }

    /// Something is well again.
    pub fn heal(&mut self, heal: Heal) {
        self.note(|| format!("heal: {heal:?}"));
        match heal {
            Heal::Link(host) => {
                self.hosts[host].cut = false;
                self.hosts[host].cut_from_master = false;
                self.hosts[host].link_changed = self.now;
            }
            Heal::Name(host) => self.has_its_name_back(host),
            Heal::Engine(host) => self.hosts[host].engine.away = false,
            Heal::Store => self.store.set_away(false),
            Heal::Sockets(Some(host)) => self.hosts[host].without_sockets = false,
            Heal::Sockets(None) => self.master_without_sockets = false,
        }
    }

    /// No faults from now on: everything that is broken is mended.
    pub fn quiet(&mut self) {
        self.note(|| "no more faults".to_owned());
        self.faults = false;
        self.quiet_since = self.now;
        self.master_fuse = None;
        self.master_without_sockets = false;
        self.store.set_away(false);
        for host in 0..self.hosts.len() {
            self.has_its_name_back(host);
        }
        for host in &mut self.hosts {
            if host.is_cut_from_master() {
                host.link_changed = self.now;
            }
            host.cut = false;
            host.cut_from_master = false;
            host.without_sockets = false;
            host.fuse = None;
            host.engine.away = false;
        }
        self.at(1_000, Ev::Look);
    }
}
