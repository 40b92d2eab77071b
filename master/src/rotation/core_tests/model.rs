//! A master and its hosts: what each has stored, and what it takes.

use std::sync::LazyLock;

use proptest::prelude::*;
use shef_common::{
    clock::{DurationMs, MonoMs, WallMs},
    ids::{ClusterId, Version},
    tls::{CaDigest, digests},
};

use super::*;
use crate::identity::{Ca, NextRecord};

/// How many hosts there are.
const HOSTS: usize = 4;
/// How many CAs are made: a rotation begins with the next one.
const CAS: usize = 6;

static MADE: LazyLock<Vec<NextRecord>> = LazyLock::new(|| {
    let cluster = ClusterId::parse("00000000000000c1").unwrap();
    let record = |ca: &Ca, cross| NextRecord {
        certificate: ca.roots_pem().to_owned(),
        sealed: "00".to_owned(),
        cross,
    };
    let mut ca = Ca::make(&cluster).unwrap();
    let mut made = vec![record(&ca, None)];
    for _ in 1..CAS {
        let next = ca.successor(&cluster).unwrap();
        made.push(record(&next.ca, Some(next.cross)));
        ca = next.ca;
    }
    made
});

/// The `n`th CA.
pub fn next(n: usize) -> NextRecord {
    MADE[n].clone()
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Op {
    Rotate,
    Passes(u64),
    Look,
    Renews(usize),
    Reports(usize),
    Goes(usize),
    Comes(usize),
    Forgotten(usize),
    Commits,
    CommitFails,
    /// The master ends; what was on its way is durable, or not.
    Crashes(bool),
    Copies(bool),
    /// The master starts on an emptied store.
    LosesStore,
}

impl Op {
    pub fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            2 => Just(Self::Rotate),
            6 => (0..20_000_u64).prop_map(Self::Passes),
            12 => Just(Self::Look),
            12 => (0..HOSTS).prop_map(Self::Renews),
            12 => (0..HOSTS).prop_map(Self::Reports),
            1 => (0..HOSTS).prop_map(Self::Goes),
            2 => (0..HOSTS).prop_map(Self::Comes),
            1 => (1..HOSTS).prop_map(Self::Forgotten),
            8 => Just(Self::Commits),
            1 => Just(Self::CommitFails),
            1 => any::<bool>().prop_map(Self::Crashes),
            8 => prop::bool::weighted(0.9).prop_map(Self::Copies),
            1 => Just(Self::LosesStore),
        ]
    }
}

struct Host {
    /// The CAs that it trusts; the first one has signed its certificate.
    cas: Vec<CaDigest>,
    /// What this run of the master has heard of it.
    heard: Option<Vec<CaDigest>>,
    is_there: bool,
    is_forgotten: bool,
    /// Whether it has been away since it had what counted.
    was_away: bool,
}

pub struct Model {
    core: RotationCore,
    now: MonoMs,
    made: usize,
    stored: (Version, AuthorityRecord),
    copied: AuthorityRecord,
    coming: Option<AuthorityRecord>,
    copying: Option<AuthorityRecord>,
    hosts: Vec<Host>,
}

impl Model {
    pub fn new(record: AuthorityRecord) -> Self {
        let host =
            || Host { cas: record.cas(), heard: None, is_there: true, is_forgotten: false, was_away: false };
        Self {
            core: RotationCore::new(record.clone(), Version(1), MonoMs(0)),
            now: MonoMs(0),
            made: 0,
            stored: (Version(1), record.clone()),
            copied: record.clone(),
            coming: None,
            copying: None,
            hosts: (0..HOSTS).map(|_| host()).collect(),
        }
    }

    /// Whether a host that trusts `cas` believes the master.
    fn believes(&self, cas: &[CaDigest]) -> bool {
        let record = self.core.record();
        let leads_on = |ca: &CaDigest| {
            record.vouching(WallMs(0)).any(|(former, _)| digests(&former.certificate).contains(ca))
        };
        cas.contains(&record.cas()[0]) || cas.iter().any(leads_on)
    }

    pub fn carry_out(&mut self, op: Op) {
        match op {
            Op::Rotate if self.made + 1 < CAS => {
                let present = self.core.record();
                // A CA is made by the one that signs.
                if present.certificate == next(self.made).certificate {
                    let event = Event::Rotate {
                        ticket: 1,
                        next: next(self.made + 1),
                        compromised: false,
                        wall: WallMs(0),
                    };
                    self.event(event);
                }
            }
            Op::Rotate => {}
            Op::Passes(ms) => self.now = self.now + DurationMs(ms),
            Op::Look => self.look(),
            Op::Renews(n) => {
                let believes = self.believes(&self.hosts[n].cas);
                let cas = self.core.record().cas();
                let host = &mut self.hosts[n];
                if host.is_there && !host.is_forgotten && believes {
                    (host.cas, host.was_away) = (cas, false);
                }
            }
            Op::Reports(n) => {
                let trusted = self.core.record().cas().contains(&self.hosts[n].cas[0]);
                let believes = self.believes(&self.hosts[n].cas);
                let host = &mut self.hosts[n];
                if host.is_there && !host.is_forgotten && trusted && believes {
                    host.heard = Some(host.cas.clone());
                }
            }
            Op::Goes(n) => (self.hosts[n].is_there, self.hosts[n].was_away) = (false, true),
            Op::Comes(n) => self.hosts[n].is_there = true,
            Op::Forgotten(n) => self.hosts[n].is_forgotten = true,
            Op::Commits => {
                if let Some(record) = self.coming.take() {
                    self.stored = (self.stored.0.next(), record);
                    self.event(Event::Committed(Ok(())));
                }
            }
            Op::CommitFails => {
                if self.coming.take().is_some() {
                    self.event(Event::Committed(Err(CommitError::Busy)));
                }
            }
            Op::Crashes(is_durable) => {
                if let Some(record) = self.coming.take().filter(|_| is_durable) {
                    self.stored = (self.stored.0.next(), record);
                }
                self.starts();
            }
            Op::Copies(done) => {
                if let Some(record) = self.copying.take() {
                    if done {
                        self.copied = record;
                    }
                    self.event(Event::Copied(done));
                }
            }
            Op::LosesStore => {
                self.coming = None;
                self.stored = (Version(1), self.copied.clone());
                self.starts();
            }
        }
    }

    /// A master starts: the later of store and copy counts.
    fn starts(&mut self) {
        let record = if self.copied.follows(&self.stored.1) { &self.copied } else { &self.stored.1 };
        let record = record.clone();
        (self.stored.1, self.copied, self.copying) = (record.clone(), record.clone(), None);
        self.core = RotationCore::new(record, self.stored.0, self.now);
        self.hosts.iter_mut().for_each(|host| host.heard = None);
    }

    fn look(&mut self) {
        let says = |host: &Host| HostSays {
            node: "h1".parse().unwrap(),
            standing: if host.is_there { Standing::Ready } else { Standing::Down },
            version: String::new(),
            cas: host.heard.clone(),
        };
        let hosts = self.hosts.iter().filter(|host| !host.is_forgotten).map(says).collect();
        self.event(Event::Look(hosts));
    }

    fn event(&mut self, event: Event) {
        for effect in self.core.handle(event, self.now) {
            match effect {
                Effect::Commit { expect, record } => {
                    assert_eq!((expect, &self.coming), (self.stored.0, &None));
                    assert_eq!(self.copied, self.stored.1, "the step before is copied");
                    self.coming = Some(record);
                }
                Effect::Use(record) => {
                    assert_eq!(record, self.stored.1, "what counts is durable");
                    self.made += usize::from(record.certificate == next(self.made + 1).certificate);
                }
                Effect::Copy(record) => self.copying = Some(record),
                Effect::Answer(..) => {}
            }
        }
        // A start may have found a later step, or gone back to an earlier one.
        let signs = self.core.record().certificate.clone();
        self.made = (0..CAS).find(|n| next(*n).certificate == signs).unwrap();
    }

    /// Members that were there all the time trust each other, and the master; all others find back.
    pub fn check(&self) {
        let cas = self.core.record().cas();
        let members = || self.hosts.iter().filter(|host| !host.is_forgotten);
        for host in members() {
            assert!(self.believes(&host.cas), "a host finds back to its master");
            if host.was_away {
                continue;
            }
            assert!(cas.contains(&host.cas[0]), "the master trusts a host's certificate");
            assert!(host.cas.contains(&cas[0]), "a host trusts the master's certificate");
            for other in members().filter(|other| !other.was_away) {
                assert!(host.cas.contains(&other.cas[0]), "a host trusts another one's certificate");
            }
        }
    }

    /// A rotation ends once nothing goes wrong any more.
    pub fn ends(mut self) {
        for n in 0..HOSTS {
            self.carry_out(Op::Comes(n));
        }
        for _ in 0..8 {
            for op in [Op::Commits, Op::Copies(true), Op::Look, Op::Copies(true)] {
                self.carry_out(op);
            }
            for n in 0..HOSTS {
                self.carry_out(Op::Renews(n));
                self.carry_out(Op::Reports(n));
            }
            self.carry_out(Op::Passes(SHORTEST_STEP.0));
            self.check();
        }
        assert_eq!(self.core.record().rotation, None);
    }
}
