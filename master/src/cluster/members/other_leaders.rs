//! What hosts say of other leaders, and whether this master leads in spite of them.

use std::collections::BTreeMap;

use shef_common::{
    clock::{DurationMs, MonoMs},
    ids::{ClusterId, Fence, NodeName},
    protocol::Registration,
};

use super::{Members, Verdict};
use crate::{
    cluster::not_admitted::{LEADER_SILENCE, NotAdmitted},
    membership::Standing,
    store::ahead_of_other_stores,
};

/// For how long a host has to say so: one that was cut off itself, and is back, finds the leader in less as a
/// rule.
pub(super) const SAID_FOR: DurationMs = DurationMs(3_000);
/// For how long it has to say so to a master whose records may be older than the other leader's: it finds the
/// leader in less, also if a call of it comes to nothing after the longest time that an agent waits.
pub(super) const SAID_FOR_BESIDE_OLD_RECORDS: DurationMs = DurationMs(12_000);
/// For how long a host's word counts. An agent that finds no leader calls each of its masters every second or
/// so.
pub(super) const WORD_COUNTS: DurationMs = DurationMs(6_000);

/// The consequence of an unknown leader for this master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherLeader {
    /// It is gone, or an operator wants this master to lead: lead above it.
    IsGone,
    /// Some hosts have not heard of it for long, but not more than half of them have said so.
    IsDoubted,
    /// It is alive, for all that is known, and more hosts follow this master.
    LeadsFewer,
    /// It is alive, for all that is known.
    Leads,
}

/// What hosts say of other leaders.
#[derive(Debug, Default)]
pub struct OtherLeaders {
    /// Whether an operator has said that this master leads even if another one leads too.
    pub takes_over: bool,
    /// Whether another leader has led this master's own store: its records are here, too.
    pub shares_store: bool,
    /// Hosts that have not heard for long of the leader that they follow, who is another than this one:
    /// when each has said so first and last.
    silent: BTreeMap<NodeName, (MonoMs, MonoMs)>,
    /// Hosts that have just heard of such a leader: when each has said so last.
    in_contact: BTreeMap<NodeName, MonoMs>,
    /// The host of another cluster that came last to this master, which knows nothing, and was told to wait.
    waits: Option<(NodeName, ClusterId, MonoMs)>,
}

impl OtherLeaders {
    /// This master leads above all that hosts have told of.
    pub fn led(&mut self) {
        self.silent.clear();
        self.in_contact.clear();
        self.waits = None;
    }

    /// The consequence of another leader for this master. `node` follows it, and has heard of no master for
    /// `silent`. `members` says of each member whether it reports to this master.
    ///
    /// The leader is gone when more than half of the members have not heard of it for long, and say so for a
    /// while, or report to this master: in a network that is cut in two, masters do not take the leadership
    /// from each other in turn. For a master without members, the host's own statement decides.
    pub fn judge(
        &mut self,
        node: &NodeName,
        silent: Option<DurationMs>,
        members: &BTreeMap<&NodeName, bool>,
        now: MonoMs,
    ) -> OtherLeader {
        if self.takes_over {
            return OtherLeader::IsGone;
        }
        self.in_contact.retain(|_, at| now - *at <= WORD_COUNTS);
        self.silent.retain(|_, (_, last)| now - *last <= WORD_COUNTS);
        if silent.is_none_or(|silent| silent < LEADER_SILENCE) {
            self.silent.remove(node);
            self.in_contact.insert(node.clone(), now);
            let ours = members.keys().filter(|member| self.follows_us(member, members)).count();
            return if ours > self.in_contact.len() { OtherLeader::LeadsFewer } else { OtherLeader::Leads };
        }
        self.in_contact.remove(node);
        self.silent.entry(node.clone()).or_insert((now, now)).1 = now;
        let may_be_old = !members.is_empty() && !self.shares_store;
        let enough = if may_be_old { SAID_FOR_BESIDE_OLD_RECORDS } else { SAID_FOR };
        let has_said = |node| self.has_said_for(enough, node);
        let counts =
            members.keys().filter(|member| has_said(member) || self.follows_us(member, members)).count();
        let are_more = members.is_empty() || counts * 2 > members.len();
        if has_said(node) && are_more { OtherLeader::IsGone } else { OtherLeader::IsDoubted }
    }

    /// Whether a host has said for that long that it has not heard of its leader.
    fn has_said_for(&self, enough: DurationMs, node: &NodeName) -> bool {
        self.silent.get(node).is_some_and(|(first, last)| *last - *first >= enough)
    }

    /// Whether a member reports to this master, and has said nothing else.
    fn follows_us(&self, node: &NodeName, members: &BTreeMap<&NodeName, bool>) -> bool {
        members.get(node) == Some(&true)
            && !self.in_contact.contains_key(node)
            && !self.silent.contains_key(node)
    }

    /// A host of another cluster is told to wait by this master, which knows nothing.
    pub fn waits(&mut self, node: &NodeName, cluster: &ClusterId, now: MonoMs) {
        self.waits = Some((node.clone(), cluster.clone(), now));
    }

    /// The host that was told so a moment ago, and its cluster.
    pub fn waiting(&self, now: MonoMs) -> Option<(&NodeName, &ClusterId)> {
        let (node, cluster, at) = self.waits.as_ref()?;
        (now - *at <= WORD_COUNTS).then_some((node, cluster))
    }
}

impl Members {
    /// An operator says that this master leads even if another one leads too, or that this no longer holds.
    pub const fn takes_over(&mut self, takes_over: bool) {
        self.others.takes_over = takes_over;
    }

    /// Another master leads this master's own store.
    pub const fn shares_store(&mut self) {
        self.others.shares_store = true;
    }

    /// Another master leads: no host follows this one.
    pub fn stood_down(&mut self) {
        self.others.takes_over = false;
        self.conditions.clear();
    }

    /// The consequence of another leader for this master. `node` follows it, and has heard of no master for
    /// `silent`.
    pub fn other_leader(&mut self, node: &NodeName, silent: Option<DurationMs>) -> OtherLeader {
        let is_ready = |node: &NodeName| {
            self.conditions.get(node).is_some_and(|condition| condition.standing == Standing::Ready)
        };
        let members = self.hosts.keys().map(|node| (node, is_ready(node))).collect();
        self.others.judge(node, silent, &members, self.now)
    }

    /// Why this master does not begin a cluster yet: its store may have been emptied, and a host that knows
    /// its cluster waits until it is certain that no other master leads it.
    #[must_use]
    pub fn waits_to_adopt(&self) -> Option<NotAdmitted> {
        let (node, cluster) = self.others.waiting(self.now).filter(|_| self.is_new())?;
        Some(NotAdmitted::StoreIsEmpty { node: node.clone(), cluster: cluster.clone() })
    }

    /// A host of another cluster comes to a master that knows nothing: its store may have been emptied, or
    /// the host's master may be away for a moment, or the host have the wrong address.
    pub(super) fn adopt(&mut self, registration: &Registration, cluster: &ClusterId) -> Verdict {
        let silent = registration.leader_silent_ms.map(DurationMs);
        match self.other_leader(&registration.node, silent) {
            OtherLeader::IsGone => Verdict::ClaimLeadership {
                above: registration
                    .accepted
                    .as_ref()
                    .map(|accepted| ahead_of_other_stores(accepted.fence.epoch))
                    .unwrap_or_default(),
                cluster: cluster.clone(),
            },
            OtherLeader::IsDoubted | OtherLeader::LeadsFewer | OtherLeader::Leads => {
                self.others.waits(&registration.node, cluster, self.now);
                let node = registration.node.clone();
                Verdict::Wait(NotAdmitted::StoreIsEmpty { node, cluster: cluster.clone() })
            }
        }
    }

    /// What to do with a host that follows another fence than ours, under which we cannot lead it.
    pub(super) fn of_another_leader(&mut self, registration: &Registration, theirs: &Fence) -> Verdict {
        let silent = registration.leader_silent_ms.map(DurationMs);
        let ours = theirs.leader == self.fence.leader;
        let other = if ours { OtherLeader::IsGone } else { self.other_leader(&registration.node, silent) };
        match other {
            OtherLeader::IsGone => {
                let above = if ours { theirs.epoch } else { ahead_of_other_stores(theirs.epoch) };
                Verdict::ClaimLeadership { above, cluster: self.cluster.clone() }
            }
            OtherLeader::Leads => Verdict::StandDown(theirs.clone()),
            OtherLeader::LeadsFewer => {
                Verdict::Wait(NotAdmitted::FollowsAnother { leader: theirs.leader.clone() })
            }
            OtherLeader::IsDoubted => Verdict::Wait(NotAdmitted::FollowsDoubted {
                leader: theirs.leader.clone(),
                silent_s: silent.unwrap_or_default().0 / 1_000,
            }),
        }
    }
}
