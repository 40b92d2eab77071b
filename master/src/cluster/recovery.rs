//! The records that a master starts from, and those that are still to be recovered.

use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
};

use shef_common::ids::{NodeName, ServiceName, Version};

use super::events::{Effect, Event};
use crate::{
    access::{RecoveredAccess, RecoveredToken},
    contents::RecoveredContent,
    identity::{AuthorityRecord, RecoveredIdentity},
    registries::RecoveredRegistry,
    runner::{NodeRecord, OperateRefused, RegisterRefused},
    service::{Refused, Stored},
};

/// What the store remembers.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Services.
    pub services: Vec<Stored>,
    /// Hosts.
    pub nodes: Vec<(Version, NodeRecord)>,
    /// What registries are shown, encrypted.
    pub registries: Vec<RecoveredRegistry>,
    /// Contents of secrets and configs.
    pub contents: Vec<RecoveredContent>,
    /// Tokens of the API.
    pub tokens: Vec<RecoveredToken>,
    /// The cluster's CA.
    pub authority: Option<(Version, AuthorityRecord)>,
    /// The identities of hosts.
    pub identities: Vec<RecoveredIdentity>,
}

impl Recovered {
    /// Takes out what callers and hosts are known by.
    #[must_use]
    pub fn take_access(&mut self) -> RecoveredAccess {
        let uids = |is_forgotten: bool| {
            let nodes = self.nodes.iter().filter(move |(_, node)| node.forgotten.is_some() == is_forgotten);
            nodes.map(|(_, node)| node.uid.clone()).collect::<BTreeSet<_>>()
        };
        // A host may have come back under another name.
        let forgotten = &uids(true) - &uids(false);
        let (tokens, identities) = (take(&mut self.tokens), take(&mut self.identities));
        RecoveredAccess { tokens, identities, forgotten }
    }
}

/// The most that waits until all services are there: every host, and as many users.
const MAX_DEFERRED: usize = 2_048;

/// Answers that too many requests wait for `event` to be kept.
fn refuse_overloaded(event: Event, effects: &mut Vec<Effect>) {
    match event {
        Event::Ask { call, .. } => effects.push(Effect::Answer(call, Err(Refused::Busy))),
        Event::Copy { call, .. } => effects.push(Effect::AnswerCopy(call, Err(Refused::Busy))),
        Event::Operate { call, .. } => effects.push(Effect::AnswerOperator(call, Err(OperateRefused::Busy))),
        Event::Register { call, .. } => {
            let later = RegisterRefused::Later(
                "this master is starting, and too many wait for it: ask again".to_owned(),
            );
            effects.push(Effect::AnswerRegistration(call, Err(later)));
        }
        other => debug_assert!(false, "nobody waits for {other:?}"),
    }
}

/// What is left of a recovery.
#[derive(Debug)]
pub struct Recovery {
    pub(super) nodes: VecDeque<(Version, NodeRecord)>,
    pub(super) services: VecDeque<Stored>,
    /// Services that have been made and have not said yet what follows from their records.
    pub(super) silent: BTreeSet<ServiceName>,
    /// Hosts that replicas are on, and that the store does not know.
    pub(super) unknown: BTreeSet<NodeName>,
    /// What has to wait until all services are there.
    pub deferred: VecDeque<Event>,
}

impl Recovery {
    /// Of what the store remembers.
    #[must_use]
    pub fn new(recovered: Recovered) -> Self {
        let Recovered { services, mut nodes, .. } = recovered;
        // Forgotten hosts come in the order in which they were forgotten; members come before all services.
        nodes.sort_by_key(|(_, record)| record.forgotten);
        Self {
            nodes: nodes.into(),
            services: services.into(),
            silent: BTreeSet::new(),
            unknown: BTreeSet::new(),
            deferred: VecDeque::new(),
        }
    }

    /// Keeps an event until all services are there. Who asks again takes the place of what was asked before.
    pub fn defer(&mut self, event: Event, effects: &mut Vec<Effect>) {
        if let Event::Register { registration, .. } = &event {
            // Another host may have the same name: it does not take this one's place.
            let own = (&registration.node, &registration.uid);
            let is_same = |other: &&mut Event| match other {
                Event::Register { registration: earlier, .. } => (&earlier.node, &earlier.uid) == own,
                _ => false,
            };
            if let Some(earlier) = self.deferred.iter_mut().find(is_same) {
                return refuse_overloaded(std::mem::replace(earlier, event), effects);
            }
        }
        if self.deferred.len() >= MAX_DEFERRED {
            return refuse_overloaded(event, effects);
        }
        self.deferred.push_back(event);
    }

    pub(super) fn is_over(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty() && self.silent.is_empty()
    }
}
