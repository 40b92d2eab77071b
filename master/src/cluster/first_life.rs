//! Whether a registration is of the life of a host that the master knows, or of another one: another run of
//! its agent, another address, or another identity. Another life takes nothing over while the first one
//! answers: what a host is to run goes to the address that it registers, with environments and passwords.

use std::net::SocketAddr;

use shef_common::{
    endpoint::{Endpoint, agent_address},
    ids::{BootId, NodeUid},
    protocol::{ProbeOutcome, Registration},
};

use super::not_admitted::NotAdmitted;
use crate::{membership::Standing, runner::NodeRecord};

/// The life of a member that this master knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    uid: NodeUid,
    /// Where its agent listens, and as whom.
    endpoint: Endpoint,
    /// The run of its agent, once this master has let it in.
    boot: Option<BootId>,
}

/// The answer of the agent at the address of a first life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The address that was asked.
    pub asked: SocketAddr,
    /// What came of it.
    pub outcome: ProbeOutcome,
}

/// What a registration is of.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The first life, or one that may follow it.
    Follows,
    /// Another life: the agent at this address has to be asked first.
    Ask(Endpoint),
    /// Another life, while the first one is there: it comes again.
    Wait(NotAdmitted),
    /// Another life, while the first one is there.
    Refuse(NotAdmitted),
}

impl Life {
    /// The life that registers; `None`: it has no address.
    pub fn of(registration: &Registration) -> Option<Self> {
        let endpoint = Endpoint::parse(&registration.host.agent_url)?;
        Some(Self { uid: registration.uid.clone(), endpoint, boot: Some(registration.boot.clone()) })
    }

    /// The life that is stored; `None`: its address is none, as an earlier version took it.
    pub fn stored(record: &NodeRecord) -> Option<Self> {
        let endpoint = Endpoint::parse(&record.host.agent_url)?;
        Some(Self { uid: record.uid.clone(), endpoint, boot: None })
    }

    /// Where its agent listens.
    pub const fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// What `registration` is of, for a member that is `standing`, and whose address has brought `answer`.
    pub fn claimed_by(
        &self,
        registration: &Registration,
        standing: Option<Standing>,
        answer: Option<&Answer>,
    ) -> Claim {
        let Some(new) = Self::of(registration) else { return Claim::Follows };
        let is_here = new.address() == self.address();
        let is_run = self.boot.is_none() || new.boot == self.boot;
        if new.uid == self.uid && is_here && is_run {
            return Claim::Follows;
        }
        let Some(Answer { outcome, .. }) = answer.filter(|answer| answer.asked == self.address()) else {
            // Even at the same address, the other side may show another certificate by now.
            return Claim::Ask(if is_here { new.endpoint } else { self.endpoint.clone() });
        };
        let (node, address) = (registration.node.clone(), self.address());
        match outcome {
            ProbeOutcome::Answered(alive) => {
                let says = alive.agent_url.as_deref().and_then(agent_address);
                let is_it = alive.uid == new.uid && Some(&alive.boot) == new.boot.as_ref();
                if is_it && (is_here || says == Some(new.address())) {
                    Claim::Follows
                } else if alive.uid == self.uid {
                    Claim::Refuse(NotAdmitted::FirstAnswers { node, address })
                } else if is_here {
                    Claim::Refuse(NotAdmitted::AnotherAnswers { node, address, other: alive.node.clone() })
                } else {
                    self.unless_it_may_be_there(&new, registration, standing)
                }
            }
            ProbeOutcome::AgentSilent { .. } | ProbeOutcome::Unreachable { .. } => {
                self.unless_it_may_be_there(&new, registration, standing)
            }
            ProbeOutcome::NotProbed { why } => {
                Claim::Wait(NotAdmitted::FirstNotProbed { node, address, why: why.clone() })
            }
        }
    }

    /// The first life does not answer at its address. The membership says whether it is gone: it may report,
    /// or answer others. At the same address no other host is sent anything: it is enough that no reports
    /// come.
    fn unless_it_may_be_there(
        &self,
        new: &Self,
        registration: &Registration,
        standing: Option<Standing>,
    ) -> Claim {
        let stays = new.uid == self.uid && new.address() == self.address();
        let may_be_there = match standing {
            Some(Standing::Ready | Standing::EngineDown) => true,
            Some(Standing::Suspect | Standing::Awaited) => !stays,
            Some(Standing::AgentDown | Standing::Down) | None => false,
        };
        if may_be_there {
            let (node, address) = (registration.node.clone(), self.address());
            Claim::Wait(NotAdmitted::FirstMayBeThere { node, address })
        } else {
            Claim::Follows
        }
    }
}

#[cfg(test)]
mod tests;
