//! Who may make calls: certificates, tokens to join with, and the upgrade of a cluster that speaks plainly.
//!
//! Certificates and handshakes are a model. Who is let in, and for whom a call speaks, is decided by the
//! master's own code.

mod hosts;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use shef_agent::{reporter, supervisor::Description};
use shef_common::{
    endpoint::Endpoint,
    ids::{ClusterId, NodeName, NodeUid},
    protocol::{LedgerDigest, ProbeKey, Registration, Report},
    tls::{Identity, JoinToken, Peer, PeerKey, TlsMode},
};
use shef_master::{
    access::{AccessEvent, Joining},
    cluster::ClusterEvent,
    identity::{
        IdentityTable, NotASpeaker, RegistrationCounts, ReportCounts, Speaker, known_otherwise, speaker,
    },
};

pub use self::hosts::HostIdentity;
use super::{
    master::{Mail, Master, Waiting},
    net::{Caller, Reply},
    placement,
    seeded_bug::SeededBug,
    world::World,
};

/// For how long a certificate counts: short, so that some expire while their hosts are cut off.
pub const LIFE_MS: u64 = 20_000;

/// How calls are made, and what is remembered to judge by.
#[derive(Debug)]
pub struct Tls {
    /// Whether the master speaks TLS with agents.
    pub mode: TlsMode,
    /// The cluster that the CA in the data directory of a master names.
    pub ca_of: Option<ClusterId>,
    /// By call.
    pub connections: BTreeMap<u64, Connection>,
    /// Tokens that somebody may have seen.
    seen: Vec<JoinToken>,
    /// Who has joined with which token.
    used: BTreeMap<String, BTreeSet<(NodeUid, String)>>,
    /// Hosts whose end as members was acknowledged, and when.
    out: BTreeMap<NodeUid, u64>,
}

impl Default for Tls {
    fn default() -> Self {
        let (connections, used, out) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { mode: TlsMode::Off, ca_of: None, connections, seen: Vec::new(), used, out }
    }
}

/// Makes its holder a member.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The member that it is for.
    pub identity: Identity,
    /// From when on it counts.
    pub issued: u64,
    /// Until when.
    pub until: u64,
}

/// How a call was made.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The caller.
    peer: Peer,
    /// The key of its certificate.
    key: Option<PeerKey>,
    /// Until when that counts.
    until: Option<u64>,
    /// The member that has to answer; `None`: any agent, without TLS.
    expects: Option<Identity>,
}

impl Connection {
    const fn of(peer: Peer) -> Self {
        Self { peer, key: None, until: None, expects: None }
    }
}

/// What a host sends that joins.
#[derive(Debug, Clone)]
pub struct Joins {
    /// Its token.
    pub token: JoinToken,
    /// Its name.
    pub node: NodeName,
    /// Its identity.
    pub uid: NodeUid,
    /// The digest of its key.
    pub key: String,
}

impl World {
    /// Whether the master has a CA: where TLS is used, and in half of the worlds whose store is emptied while no
    /// master runs.
    #[must_use]
    pub fn has_ca(&self) -> bool {
        self.tls.mode != TlsMode::Off || self.profile.keeps_ca && self.hosts.len().is_multiple_of(2)
    }

    /// A host shows its certificate; one that has none speaks plainly. Who joins or renews shows none.
    pub(super) fn connection_to_master(&self, host: usize, from: &Caller) -> Connection {
        if matches!(from, Caller::Joiner | Caller::Renewer { .. }) {
            return Connection::of(Peer::Anonymous);
        }
        self.shown_by(host).unwrap_or_else(|| Connection::of(Peer::Plain))
    }

    /// Who calls an agent shows what it has. A master has what the agent asks for.
    pub(super) fn connection_to_agent(&self, from: &Caller, endpoint: &Endpoint) -> Connection {
        let expects = endpoint.member.clone();
        let peer = match (from, &expects) {
            (Caller::Helper { helper, .. }, _) => {
                let shown = self.shown_by(*helper).unwrap_or_else(|| Connection::of(Peer::Anonymous));
                return Connection { expects, ..shown };
            }
            (_, Some(Identity::Agent(cluster, _) | Identity::Master(cluster))) => {
                Peer::Member(Identity::Master(cluster.clone()))
            }
            (_, None) => Peer::Plain,
        };
        Connection { expects, ..Connection::of(peer) }
    }

    fn shown_by(&self, host: usize) -> Option<Connection> {
        let HostIdentity { certificate, key, .. } = &self.hosts[host].identity;
        let Certificate { identity, until, .. } = certificate.clone()?;
        let key = key.clone().map(PeerKey);
        Some(Connection { peer: Peer::Member(identity), key, until: Some(until), expects: None })
    }

    /// The answer to a call that fails in its handshake, or before anybody looks at what it is.
    pub(super) fn is_not_served(&self, call: u64, host: usize, to_master: bool) -> Option<Reply> {
        let Connection { peer, until, expects, .. } = self.tls.connections.get(&call)?;
        let has_expired = until.is_some_and(|until| until <= self.now);
        if to_master {
            return has_expired.then_some(Reply::None);
        }
        self.hosts[host].agent.as_ref()?;
        let own = self.hosts[host].identity.certificate.as_ref();
        match (expects, own) {
            (None, None) => None,
            (None, Some(_)) => Some(Reply::Refused("this agent speaks TLS".to_owned())),
            (Some(expected), Some(own))
                if own.identity == *expected
                    && own.until > self.now
                    && !has_expired
                    && *peer != Peer::Anonymous =>
            {
                None
            }
            (Some(_), _) => Some(Reply::Refused("the handshake fails".to_owned())),
        }
    }

    fn master_of(&self, inc: u64) -> Option<&Master> {
        let masters = [self.master.as_deref(), self.rival.as_deref()];
        masters.into_iter().flatten().find(|master| master.inc == inc)
    }

    /// What becomes of a call: what `asks` says of who has made it; `open` where hosts have no identities.
    fn becomes<T>(
        &self,
        inc: u64,
        call: u64,
        open: T,
        asks: impl FnOnce(&Speaker, &IdentityTable) -> Result<T, NotASpeaker>,
    ) -> Result<T, NotASpeaker> {
        let connection = self.tls.connections.get(&call);
        match (self.tls.mode, self.master_of(inc), connection) {
            (TlsMode::Off, ..) | (_, None, _) | (.., None) => Ok(open),
            _ if self.is_seeded(SeededBug::BelievesOthers) => Ok(open),
            (mode, Some(master), Some(Connection { peer, key, .. })) => {
                let identities = &master.access.identities;
                asks(&speaker(mode, master.cluster_id(), peer, key.as_ref(), identities)?, identities)
            }
        }
    }

    /// A host registers; `by`: which one really calls, if it is one.
    pub(super) fn registration_arrives(
        &mut self,
        call: u64,
        by: Option<usize>,
        registration: Box<Registration>,
    ) {
        let Some(inc) = self.called_master(call) else { return self.answer(call, Reply::None) };
        let counts = self.becomes(inc, call, RegistrationCounts::Now, |speaker, identities| {
            speaker.may_register(&registration, identities)
        });
        match counts {
            Ok(RegistrationCounts::Now) => {
                self.rules_heard(by, &registration.node);
                self.master_mail(inc, Mail::Cluster(ClusterEvent::Register { call, registration }));
            }
            Ok(RegistrationCounts::AfterReadmission { uid, .. }) => {
                self.violated(format!("{uid} has a certificate, and the store has no record of it"));
            }
            Err(why) => self.answer(call, Reply::Refused(why.to_string())),
        }
    }

    /// A host reports; `by`: which one really calls, if it is one.
    pub(super) fn report_arrives(&mut self, call: u64, by: Option<usize>, report: Box<Report>) {
        let Some(inc) = self.called_master(call) else { return self.answer(call, Reply::None) };
        let counts = self.becomes(inc, call, ReportCounts::Now, |speaker, identities| {
            speaker.may_report(&report, identities)
        });
        match counts {
            Ok(ReportCounts::Now) => {
                self.rules_heard(by, &report.node);
                self.master_mail(inc, Mail::Cluster(ClusterEvent::Report { call, report }));
            }
            Ok(ReportCounts::AfterRegistration) => {
                self.violated(format!(
                    "{} has a certificate, and the store has no record of it",
                    report.node
                ));
            }
            Err(why) => self.answer(call, Reply::Refused(why.to_string())),
        }
    }

    /// Somebody wants to join.
    pub(super) fn join_arrives(&mut self, call: u64, joins: Joins) {
        let Some(inc) = self.called_master(call) else { return self.answer(call, Reply::None) };
        let Joins { token: JoinToken { id, secret, .. }, node, uid, key } = joins;
        let now = self.clocks(self.now, self.master_wall).wall;
        let Some(master) = self.master.as_mut().filter(|master| master.inc == inc) else {
            return self.answer(call, Reply::None);
        };
        let known = master.hosts_shown.iter().map(|(node, view)| (node, &view.uid));
        if known_otherwise(known, &node, &uid).is_some() {
            return self.answer(call, Reply::Refused(format!("{node} or {uid} is another host")));
        }
        let waits = Waiting::Join { call, id: id.clone(), uid: uid.clone(), key: key.clone() };
        let ticket = master.access.waits(waits);
        let joining = Joining { ticket, id, secret, node, uid, key, now };
        self.master_mail(inc, Mail::Access(AccessEvent::Join(joining)));
    }

    /// A host wants another certificate.
    pub(super) fn renewal_arrives(&mut self, call: u64, uid: NodeUid, key: String) {
        let Some(inc) = self.called_master(call) else { return self.answer(call, Reply::None) };
        let Some(master) = self.master.as_mut().filter(|master| master.inc == inc) else {
            return self.answer(call, Reply::None);
        };
        let ticket = master.access.waits(Waiting::Renewal { call, uid: uid.clone() });
        self.master_mail(inc, Mail::Access(AccessEvent::Renew { ticket, uid, key }));
    }

    // --- rules ------------------------------------------------------------

    /// Somebody is heard as `node`: it is that host, and a member.
    fn rules_heard(&mut self, by: Option<usize>, node: &NodeName) {
        if self.tls.mode != TlsMode::Required {
            return;
        }
        let Some(by) = by else { return self.violated(format!("nobody is heard as {node}")) };
        if self.hosts[by].node != *node {
            return self.violated(format!("{} is heard as {node}", self.hosts[by].node));
        }
        let uid = &self.hosts[by].ledger.uid;
        if self.tls.out.get(uid).is_some_and(|at| *at < self.now) {
            self.violated(format!("{node} was forgotten, and is heard"));
        }
    }

    /// A host has joined with a token: nobody else has.
    pub(super) fn rules_joined(&mut self, id: String, uid: NodeUid, key: String) {
        if self.tls.out.contains_key(&uid) {
            self.violated(format!("{uid} was forgotten, and is let in"));
        }
        let users = self.tls.used.entry(id).or_default();
        users.insert((uid, key));
        if users.len() > 1 {
            let users = users.clone();
            self.violated(format!("a token for one host has let in {users:?}"));
        }
    }

    /// It was acknowledged that a host is no member any more.
    pub(super) fn rules_out(&mut self, uid: NodeUid) {
        self.tls.out.entry(uid).or_insert(self.now);
    }

    // --- chaos ------------------------------------------------------------

    /// Somebody who has seen a token joins with it.
    pub(super) fn somebody_joins(&mut self) {
        let (uid, key) = (self.hex16(), self.hex16());
        if self.tls.seen.is_empty() {
            return;
        }
        let token = self.tls.seen[self.rng.usize(..self.tls.seen.len())].clone();
        let (Ok(node), Ok(uid)) = (NodeName::parse("thief"), NodeUid::parse(&uid)) else { return };
        // Nobody waits for the answer.
        let call = self.fresh();
        self.tls.connections.insert(call, Connection::of(Peer::Anonymous));
        self.join_arrives(call, Joins { token, node, uid, key });
    }

    /// Somebody with the certificate of `host`, or with none, speaks for another host.
    pub(super) fn somebody_lies(&mut self, host: usize) {
        let other = self.rng.usize(..self.hosts.len());
        let (registers, has_certificate, elsewhere) = (self.rng.bool(), self.rng.bool(), self.rng.bool());
        let shown = self.shown_by(host).filter(|shown| shown.until > Some(self.now) && has_certificate);
        let Some(agent) = self.hosts[other].agent.as_ref().filter(|_| other != host) else { return };
        let target = &self.hosts[other];
        let (node, uid, boot) = (target.node.clone(), target.ledger.uid.clone(), agent.boot.clone());
        let Some(cluster) = target.ledger.cluster.clone() else { return };
        let accepted = target.ledger.accepted.clone();
        let agent_url = self.hosts[if elsewhere { host } else { other }].agent_url();
        let (by, address) = (shown.as_ref().map(|_| host), target.address);
        let call = self.fresh();
        self.tls.connections.insert(call, shown.unwrap_or_else(|| Connection::of(Peer::Plain)));
        if registers {
            let labels = placement::labels(other);
            let identity = reporter::Identity {
                node,
                uid,
                boot,
                address,
                agent_url,
                labels,
                policy: None,
                probe_key: ProbeKey::random(),
            };
            let description = Description {
                cluster: Some(cluster),
                accepted,
                holds: Vec::new(),
                ledger: LedgerDigest::default(),
                complete: true,
                found: Vec::new(),
                leader_silent_ms: 0,
            };
            let registration = identity.registration(super::engine::facts(other), description);
            return self.registration_arrives(call, by, Box::new(registration));
        }
        let report = Report {
            cluster,
            node,
            boot,
            agent_url: Some(agent_url),
            seq: 1_000_000,
            accepted,
            ledger: None,
            full: true,
            statuses: Vec::new(),
            engine_error: None,
            round_trip_ms: None,
            cas: Vec::new(),
        };
        self.report_arrives(call, by, Box::new(report));
    }
}
