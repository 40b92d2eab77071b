//! A cluster that speaks plainly is upgraded to TLS, host by host.

use shef_common::tls::TlsMode;

use crate::sim::world::{Ev, World};

impl World {
    /// Hosts need a certificate from the start on, or the cluster is upgraded later.
    pub(in crate::sim) fn begins_tls(&mut self) {
        if self.profile.identities {
            self.tls.mode = TlsMode::Required;
        }
        if self.profile.upgrades {
            let delay = self.rng.u64(4_000..12_000);
            self.at(delay, Ev::Upgrades);
        }
    }

    /// The operator goes on: lets hosts join, and requires TLS when all have joined.
    pub(in crate::sim) fn upgrades(&mut self) {
        // Before its first hosts a cluster is whatever they bring.
        let is_founded = self.rules.has_host && self.hosts.iter().all(|host| host.ledger.cluster.is_some());
        let all_joined = self.hosts.iter().all(|host| host.identity.certificate.is_some());
        match self.tls.mode {
            TlsMode::Off if !is_founded => {}
            TlsMode::Off => {
                self.starts_master_with(TlsMode::Optional);
                for host in 0..self.hosts.len() {
                    let delay = self.rng.u64(1_000..15_000);
                    self.at(delay, Ev::GivesToken { host });
                }
            }
            TlsMode::Optional if all_joined => return self.starts_master_with(TlsMode::Required),
            TlsMode::Optional => {}
            TlsMode::Required => return,
        }
        self.at(1_000, Ev::Upgrades);
    }

    fn starts_master_with(&mut self, mode: TlsMode) {
        self.note(|| format!("the master is started with tls {mode:?}"));
        self.tls.mode = mode;
        self.master = None;
        self.master_fuse = None;
        let delay = self.rng.u64(100..2_000);
        self.at(delay, Ev::MasterStart);
    }

    /// In the end every host is a member, and no other one is heard.
    pub(in crate::sim) fn check_members(&self) -> Result<(), String> {
        if !self.profile.uses_tls() {
            return Ok(());
        }
        if self.tls.mode != TlsMode::Required {
            return Err("the upgrade to TLS is not over".to_owned());
        }
        let lacks = |host: &&crate::sim::agent::Host| host.identity.certificate.is_none();
        self.hosts.iter().find(lacks).map_or(Ok(()), |host| Err(format!("{} is no member", host.node)))
    }
}
