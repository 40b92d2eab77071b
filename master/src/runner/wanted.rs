//! The assignments that a host is to hold, and what a push has room for.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    ids::{ReplicaId, Revision},
    protocol::{Assignment, Fingerprint, Fingerprints, LedgerDigest, MAX_WRITTEN_OUT_BYTES},
    registry::RegistryHost,
};

/// One assignment that a host is to hold.
#[derive(Debug)]
pub struct WantedReplica {
    /// What the host is to run.
    pub assignment: Assignment,
    /// What the assignment is known by, and its size.
    pub print: Fingerprint,
    /// The revision that brought it to the host; `None`: not sent yet.
    pub sent: Option<Revision>,
}

/// The assignments that a host is to hold, with the digest of all of them.
#[derive(Debug, Default)]
pub struct Wanted {
    replicas: BTreeMap<ReplicaId, WantedReplica>,
    digest: LedgerDigest,
    prints: Fingerprints,
}

impl Wanted {
    /// The digest that the host's ledger has once it holds exactly these.
    pub const fn digest(&self) -> LedgerDigest {
        self.digest
    }

    /// The replicas by their ids.
    pub const fn replicas(&self) -> &BTreeMap<ReplicaId, WantedReplica> {
        &self.replicas
    }

    /// Adds an assignment, in place of that of the same replica.
    pub fn insert(&mut self, assignment: Assignment) {
        let print = self.prints.of(&assignment);
        let id = assignment.replica.clone();
        self.digest.add(&print);
        if let Some(before) = self.replicas.insert(id, WantedReplica { assignment, print, sent: None }) {
            self.digest.subtract(&before.print);
        }
    }

    /// Takes an assignment away.
    pub fn remove(&mut self, id: &ReplicaId) {
        if let Some(before) = self.replicas.remove(id) {
            self.digest.subtract(&before.print);
        }
    }

    /// `revision` brings the assignment of `id` to the host.
    pub fn sends(&mut self, id: &ReplicaId, revision: Revision) -> Option<Assignment> {
        let wanted = self.replicas.get_mut(id)?;
        wanted.sent = Some(revision);
        Some(wanted.assignment.clone())
    }

    /// The host has all of them since `revision`, or `None` of them is sent.
    pub fn all_sent(&mut self, revision: Option<Revision>) {
        self.replicas.values_mut().for_each(|wanted| wanted.sent = revision);
    }
}

/// What a push still has room for.
#[derive(Debug)]
pub struct Room {
    left: usize,
    /// How many bytes of templates the assignments may still stand for.
    written_out: usize,
    is_empty: bool,
    templates: BTreeSet<u128>,
    registries: BTreeSet<RegistryHost>,
}

impl Room {
    /// A push of at most so many bytes.
    pub const fn of(bytes: usize) -> Self {
        Self {
            left: bytes,
            written_out: MAX_WRITTEN_OUT_BYTES,
            is_empty: true,
            templates: BTreeSet::new(),
            registries: BTreeSet::new(),
        }
    }

    /// Takes the removal of `id`, if there is room.
    pub fn takes_removal(&mut self, id: &ReplicaId) -> bool {
        // Quotation marks and a comma.
        self.takes(id.as_str().len() + 3)
    }

    /// Takes an assignment, if there is room: its template unless that is there already, and what its
    /// registry is shown, which is so many bytes.
    pub fn takes_assignment(
        &mut self,
        wanted: &WantedReplica,
        credentials: impl Fn(&RegistryHost) -> Option<usize>,
    ) -> bool {
        let Fingerprint { template, head_bytes, template_bytes, .. } = wanted.print;
        if template_bytes > self.written_out && !self.is_empty {
            return false;
        }
        let written_out = template_bytes;
        let template_bytes = if self.templates.contains(&template) { 0 } else { template_bytes + 1 };
        let registry = wanted.assignment.template.image.registry();
        let shown = credentials(&registry).filter(|_| !self.registries.contains(&registry));
        let takes = self.takes(head_bytes + 1 + template_bytes + shown.unwrap_or_default());
        if takes {
            self.written_out = self.written_out.saturating_sub(written_out);
            self.templates.insert(template);
            self.registries.insert(registry);
        }
        takes
    }

    /// The first thing is always taken: a push without any would never end.
    const fn takes(&mut self, bytes: usize) -> bool {
        if bytes > self.left && !self.is_empty {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.is_empty = false;
        true
    }
}
