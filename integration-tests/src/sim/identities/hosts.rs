//! The hosts' half: they join before their agents begin, renew in time, and join anew when they were
//! forgotten. And the operator, who hands out tokens.

use shef_agent::supervisor::ledger::Ledger;
use shef_common::{
    clock::WallMs,
    ids::{NodeUid, TokenName},
    tls::{CaDigest, Identity, JoinToken, TlsMode, renewal_due},
};
use shef_master::access::{AccessEvent, JoinRole, Token, TokenAsked, TokenKind};

use super::{Certificate, Joins};
use crate::sim::{
    master::{Mail, Waiting},
    net::{Body, Caller, Reply},
    world::{Ev, World},
};

/// How long one try to join or to renew may take.
const LIMIT_MS: u64 = 3_000;
/// How long the operator waits for a token before asking for another one.
const PATIENCE_MS: u64 = 3_000;

/// What makes a host a member, on its disk; and what it is about to do for that.
#[derive(Debug, Default)]
pub struct HostIdentity {
    /// The digest of its key.
    pub key: Option<String>,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// The token that it was given.
    pub token: Option<JoinToken>,
    /// When the operator has last asked for one.
    asked_at: Option<u64>,
    is_joining: bool,
    is_renewing: bool,
    joins_anew: bool,
}

/// The outcome of a request for a certificate.
enum Signed {
    Certificate(Certificate),
    Refused(String),
    NotYet,
}

impl World {
    /// Whether the agent of `host` begins. Otherwise the host joins first, once it has a token.
    pub(in crate::sim) fn may_begin(&mut self, host: usize) -> bool {
        let HostIdentity { certificate, token, .. } = &self.hosts[host].identity;
        match (certificate, token, self.tls.mode) {
            (Some(_), ..) | (None, None, TlsMode::Off | TlsMode::Optional) => true,
            (None, Some(_), _) => {
                self.joins(host);
                false
            }
            (None, None, TlsMode::Required) => {
                self.at(0, Ev::GivesToken { host });
                false
            }
        }
    }

    fn joins(&mut self, host: usize) {
        let key = self.hex16();
        let known = &mut self.hosts[host];
        let Some(token) = known.identity.token.clone().filter(|_| !known.identity.is_joining) else { return };
        known.identity.is_joining = true;
        let key = known.identity.key.get_or_insert(key).clone();
        let joins = Joins { token, node: known.node.clone(), uid: known.ledger.uid.clone(), key };
        self.note(|| format!("h{} asks to be let in", host + 1));
        self.call_master(host, Caller::Joiner, Body::Join(joins), LIMIT_MS);
    }

    /// A host that wanted to join is answered, or not.
    pub(in crate::sim) fn join_answered(&mut self, host: usize, reply: Reply) {
        self.hosts[host].identity.is_joining = false;
        match self.signed(host, reply) {
            Signed::Certificate(certificate) => {
                self.note(|| format!("h{} is a member", host + 1));
                let identity = &mut self.hosts[host].identity;
                (identity.certificate, identity.token) = (Some(certificate), None);
                self.at(0, Ev::AgentStart { host });
            }
            Signed::Refused(why) => {
                self.note(|| format!("h{} is not let in: {why}", host + 1));
                self.hosts[host].identity.token = None;
                self.at(500, Ev::GivesToken { host });
            }
            Signed::NotYet => {
                let delay = self.rng.u64(300..1_500);
                self.at(delay, Ev::AgentStart { host });
            }
        }
    }

    /// What the answer to a host's request for a certificate means. One for an identity that the host has
    /// given up is none.
    fn signed(&self, host: usize, reply: Reply) -> Signed {
        let own = &self.hosts[host].ledger.uid;
        match reply {
            Reply::Certificate(certificate) => match &certificate.identity {
                Identity::Agent(_, uid) if uid == own => Signed::Certificate(certificate),
                Identity::Agent(..) | Identity::Master(_) => Signed::NotYet,
            },
            Reply::Refused(why) => Signed::Refused(why),
            Reply::Push(_)
            | Reply::Registered(_)
            | Reply::Ack(_)
            | Reply::Probe(_)
            | Reply::Later(_)
            | Reply::NoSocket
            | Reply::None => Signed::NotYet,
        }
    }

    /// The operator has a token made for `host`, until it has one.
    pub(in crate::sim) fn gives_token(&mut self, host: usize) {
        let identity = &self.hosts[host].identity;
        let has_asked = identity.asked_at.is_some_and(|at| self.now < at + PATIENCE_MS);
        if identity.certificate.is_some() || identity.token.is_some() || has_asked {
            return;
        }
        self.at(PATIENCE_MS, Ev::GivesToken { host });
        let (id, secret, life) = (self.hex16(), self.hex16(), self.rng.u64(5_000..60_000));
        let number = self.fresh();
        let now = self.clocks(self.now, self.master_wall).wall;
        let Some(master) = self.master.as_mut() else { return };
        self.hosts[host].identity.asked_at = Some(self.now);
        let token = JoinToken { ca: CaDigest::of(b""), id, secret };
        let Ok(name) = TokenName::parse(&format!("join-{number}")) else { return };
        let kind = TokenKind::Join { role: JoinRole::Agent, uses_left: 1 };
        let asked = TokenAsked { kind, expires: Some(WallMs(now.0 + life)) };
        let made = Token::of(&token);
        let (inc, ticket) = (master.inc, master.access.waits(Waiting::Token { host, token }));
        let event = AccessEvent::Create { ticket, name, asked, token: made, now };
        self.master_mail(inc, Mail::Access(event));
    }

    /// A token is there: the operator starts the agent with it.
    pub(in crate::sim) fn token_is_made(&mut self, host: usize, token: JoinToken) {
        self.hosts[host].identity.asked_at = None;
        if self.hosts[host].identity.certificate.is_some() {
            return;
        }
        self.note(|| format!("h{} has a token", host + 1));
        self.tls.seen.push(token.clone());
        self.hosts[host].identity.token = Some(token);
        self.hosts[host].agent = None;
        self.hosts[host].fuse = None;
        let delay = self.rng.u64(0..1_000);
        self.at(delay, Ev::AgentStart { host });
    }

    /// An agent that begins renews its certificate in time.
    pub(in crate::sim) fn renews_in_time(&mut self, host: usize) {
        self.hosts[host].identity.is_renewing = false;
        if let Some(due) = self.renewal_due(host) {
            self.at(due.saturating_sub(self.now), Ev::Renews { host });
        }
    }

    fn renewal_due(&self, host: usize) -> Option<u64> {
        let Certificate { identity, issued, until } = self.hosts[host].identity.certificate.as_ref()?;
        Some(renewal_due(WallMs(*issued), WallMs(*until), identity).0)
    }

    /// An agent may have to renew its certificate.
    pub(in crate::sim) fn renews(&mut self, host: usize) {
        let is_due = self.renewal_due(host).is_some_and(|due| due <= self.now);
        let known = &self.hosts[host];
        let (Some(agent), Some(key)) = (&known.agent, &known.identity.key) else { return };
        if !is_due || known.identity.is_renewing {
            return;
        }
        let (inc, uid, key) = (agent.inc, known.ledger.uid.clone(), key.clone());
        self.hosts[host].identity.is_renewing = true;
        self.call_master(host, Caller::Renewer { inc }, Body::Renew { uid, key }, LIMIT_MS);
    }

    /// An agent that wanted another certificate is answered, or not.
    pub(in crate::sim) fn renewal_answered(&mut self, host: usize, inc: u64, reply: Reply) {
        if self.hosts[host].agent.as_ref().is_none_or(|agent| agent.inc != inc) {
            return;
        }
        self.hosts[host].identity.is_renewing = false;
        match self.signed(host, reply) {
            Signed::Certificate(certificate) => {
                self.note(|| format!("h{} has another certificate", host + 1));
                self.hosts[host].identity.certificate = Some(certificate);
                self.renews_in_time(host);
            }
            Signed::Refused(_) => self.is_to_join_anew(host),
            Signed::NotYet => {
                let delay = self.rng.u64(300..1_500);
                self.at(delay, Ev::Renews { host });
            }
        }
    }

    /// A host that hears that it was forgotten is to join anew.
    pub(in crate::sim) fn is_forgotten_host(&mut self, host: usize, reply: &Reply) {
        if matches!(reply, Reply::Refused(why) if why.contains("has been forgotten")) {
            self.is_to_join_anew(host);
        }
    }

    fn is_to_join_anew(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].identity.joins_anew, true) {
            let delay = self.rng.u64(500..8_000);
            self.at(delay, Ev::JoinsAnew { host });
        }
    }

    /// The operator does as the message says: stops the agent, empties its data directory, and starts it with
    /// another token.
    pub(in crate::sim) fn joins_anew(&mut self, host: usize) {
        let Ok(uid) = NodeUid::parse(&self.hex16()) else { return };
        self.note(|| format!("h{} is to join anew, with an empty data directory", host + 1));
        self.hosts[host].agent = None;
        self.hosts[host].fuse = None;
        let cluster = self.hosts[host].ledger.cluster.clone();
        self.set_ledger(host, Ledger::new(uid));
        self.rules.ledger_lost(host, cluster);
        self.hosts[host].identity = HostIdentity::default();
        let delay = self.rng.u64(100..2_000);
        self.at(delay, Ev::AgentStart { host });
    }
}
