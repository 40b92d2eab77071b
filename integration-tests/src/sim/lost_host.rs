//! Two masters on two stores: the host of the first master is lost, with its store. Another one goes on from
//! a backup. Later the first host is back, and its master remembers what was.
//!
//! That master runs on, on its store, with its user and its rules, of which nothing is judged: the world
//! holds one set of these, and takes the other one while something happens on the lost host. Hosts judge whom
//! they follow.

use std::mem::swap;

use futures_util::FutureExt as _;
use shef_common::ids::{Fence, LeaderId, ReplicaId};
use shef_master::{
    cluster::Succession,
    goes_on_counting,
    store::{Backup, Store as _, fake::FakeStore},
};

use super::{
    master::Master,
    operator::Operators,
    rules::Rules,
    seeded_bug::SeededBug,
    user::User,
    world::{Ev, World},
};

/// Runs of masters on the lost host have higher numbers than any others but the first ones.
const LOST_RUNS: u64 = 1 << 32;

/// The host of the first master, once it was lost.
pub struct LostHost {
    /// The last run of a master before.
    last_inc: u64,
    /// Whether it is reached again.
    is_back: bool,
    /// Whether the world has what follows, in exchange for its own.
    pub(super) is_swapped: bool,
    store: FakeStore,
    master: Option<Box<Master>>,
    rival: Option<Box<Master>>,
    master_inc: u64,
    succession: Succession,
    master_fuse: Option<u32>,
    rules: Rules,
    user: User,
    operators: Operators,
}

fn as_restored(backup: &Backup) -> Backup {
    goes_on_counting(backup).unwrap_or_else(|unreadable| panic!("{unreadable}"))
}

impl LostHost {
    /// Whether a run of a master was there.
    const fn has_run(&self, inc: u64) -> bool {
        inc <= self.last_inc || inc > LOST_RUNS
    }

    /// Its master, if somebody reaches it.
    #[must_use]
    pub fn reachable_master(&self) -> Option<&Master> {
        self.master.as_deref().filter(|_| self.is_back)
    }

    /// Whether a master there has ever led as `leader`.
    #[must_use]
    pub fn led_as(&self, leader: &LeaderId) -> bool {
        self.rules.has_led(leader)
    }

    /// Whether its master has ever stored the replica `id`.
    #[must_use]
    pub fn gave(&self, id: &ReplicaId) -> bool {
        self.rules.wanted.contains(id)
    }
}

impl World {
    /// The host of the master is lost. A new first host goes on from a backup.
    pub(super) fn lose_masters_host(&mut self) {
        let Some(master) = self.master.take_if(|_| self.lost.is_none()) else { return };
        let now = self.backup_of(&master);
        // The last one that was made, or, at best, one of that moment.
        let is_older = self.backup.is_some() && self.rng.bool();
        let backup = if is_older { self.backup.take().unwrap_or(now) } else { now };
        let backup = as_restored(&backup);
        let store = FakeStore::new();
        _ = if self.is_seeded(SeededBug::LeadsJustAbove) {
            let just_above = Fence { epoch: backup.fence.epoch.next(), leader: LeaderId::none() };
            store.restore(&backup.cluster, &just_above, &backup.records).now_or_never()
        } else {
            store.load(&backup, false).now_or_never().map(|loaded| loaded.map(|_| ()))
        };
        self.note(|| format!("the host of master {} is lost", master.inc));
        let rules = Rules::muted(self.rules.fence.clone());
        self.lost = Some(Box::new(LostHost {
            last_inc: self.master_inc,
            is_back: false,
            is_swapped: false,
            store: std::mem::replace(&mut self.store, store),
            master: Some(master),
            rival: self.rival.take(),
            master_inc: self.master_inc,
            succession: Succession::default(),
            master_fuse: self.master_fuse.take(),
            rules,
            user: User::default(),
            operators: Operators::default(),
        }));
        if is_older {
            self.rules_store_lost();
        } else {
            self.rules_backup_restored();
        }
        let delay = self.rng.u64(200..6_000);
        self.at(delay, Ev::MasterStart);
        for _ in 0..self.rng.u32(0..4) {
            let delay = self.rng.u64(0..40_000);
            self.at(delay, Ev::LostHostBoots);
        }
        let delay = self.rng.u64(1_000..25_000);
        self.at(delay, Ev::LostHostIsBack);
    }

    /// An operator takes a backup, or puts the last one in the place of what is stored.
    pub(super) fn back_up_or_restore(&mut self) {
        let Some(master) = &self.master else { return };
        match self.backup.take().filter(|_| self.profile.store_forgets) {
            Some(backup) => {
                self.note(|| "an operator restores the last backup".to_owned());
                let loaded = self.store.load(&as_restored(&backup), true).now_or_never();
                if let Some(Ok(_)) = loaded {
                    self.rules_store_lost();
                }
            }
            None => self.backup = Some(self.backup_of(master)),
        }
    }

    fn backup_of(&self, master: &Master) -> Backup {
        Backup {
            cluster: master.cluster_id().clone(),
            fence: master.fence().clone(),
            records: self.store.records(),
        }
    }

    /// The lost host boots: its master starts anew.
    pub(super) fn lost_host_boots(&mut self) {
        self.on_lost_host(|world| {
            (world.master, world.rival) = (None, None);
            world.starts_on_lost_host(Ev::MasterStart);
        });
    }

    /// A process starts on the lost host.
    pub(super) fn starts_on_lost_host(&mut self, ev: Ev) {
        if self.master.is_none() {
            self.master_inc = self.master_inc.max(LOST_RUNS);
        }
        self.step(ev);
    }

    /// The lost host is reached again. Not while a host still follows its master: that one would go on with
    /// it.
    pub(super) fn lost_host_is_back(&mut self) {
        let Some(lost) = &mut self.lost else { return };
        let mut followed = self.hosts.iter().filter_map(|host| host.ledger.accepted.as_ref());
        if followed.any(|accepted| lost.led_as(&accepted.fence.leader)) {
            return self.at(500, Ev::LostHostIsBack);
        }
        lost.is_back = true;
        self.note(|| "the host of the first master is back".to_owned());
    }

    /// Whether a run of a master is one on the lost host.
    pub(super) fn is_of_lost_host(&self, inc: u64) -> bool {
        self.lost.as_deref().is_some_and(|lost| !lost.is_swapped && lost.has_run(inc))
    }

    /// Whether a run of a master is one on the lost host, which nobody reaches.
    pub(super) fn is_of_silent_host(&self, inc: Option<u64>) -> bool {
        let is_of = |lost: &LostHost| !lost.is_back && inc.is_some_and(|inc| lost.has_run(inc));
        self.lost.as_deref().is_some_and(is_of)
    }

    /// Whether what is to happen is the start of a process on the lost host.
    pub(super) fn is_on_lost_host(&self, ev: &Ev) -> bool {
        let starts = matches!(ev, Ev::MasterStart | Ev::SecondMasterStart);
        starts && self.lost.as_ref().is_some_and(|lost| lost.is_swapped)
    }

    /// Something happens on the lost host.
    pub(super) fn on_lost_host(&mut self, happens: impl FnOnce(&mut Self)) {
        self.swap();
        happens(self);
        self.swap();
    }

    fn swap(&mut self) {
        let Some(mut lost) = self.lost.take() else { return };
        lost.is_swapped = !lost.is_swapped;
        swap(&mut self.store, &mut lost.store);
        swap(&mut self.master, &mut lost.master);
        swap(&mut self.rival, &mut lost.rival);
        swap(&mut self.master_inc, &mut lost.master_inc);
        swap(&mut self.succession, &mut lost.succession);
        swap(&mut self.master_fuse, &mut lost.master_fuse);
        swap(&mut self.rules, &mut lost.rules);
        swap(&mut self.user, &mut lost.user);
        swap(&mut self.operators, &mut lost.operators);
        self.lost = Some(lost);
    }
}
