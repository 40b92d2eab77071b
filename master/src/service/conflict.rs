//! Why the state of a service does not allow what is asked of it.

use shef_common::ids::{Generation, NodeName, ReplicaId, Slot};

use super::size::MAX_RECORD_BYTES;

/// Why a request is refused as long as the service is as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The record would not fit into the store; its bytes.
    #[error(
        "the templates of the service that are in use would come to {0} bytes, and at most \
         {MAX_RECORD_BYTES} are stored: give it a smaller env, or ask again once hosts have removed \
         replicas of earlier generations"
    )]
    TooLarge(usize),
    /// No number is left for another generation.
    #[error("generation {0} is the last there is: delete the service, and create it once it is gone")]
    LastGeneration(Generation),
    /// There is nothing to command.
    #[error("no rollout is under way: generation {0} is everywhere")]
    NoRollout(Generation),
    /// A rollback takes no command.
    #[error("generation {failed} is being rolled back ({why}), and a rollback only goes on")]
    RollingBack {
        /// The generation that is given up.
        failed: Generation,
        /// Why.
        why: String,
    },
    /// The rollout is the service's first.
    #[error("no earlier generation has run: there is nothing to go back to")]
    NoneHasRun,
    /// A pause of what is paused; why it is.
    #[error("the rollout is paused already: {0}")]
    Paused(String),
    /// A resumption of what is not paused.
    #[error("the rollout is not paused")]
    NotPaused,
    /// A promotion without a canary.
    #[error("the rollout has no canary (update.canary is 0)")]
    NoCanary,
    /// A second promotion.
    #[error("the canary is promoted already")]
    Promoted,
    /// A rollback to what is wanted anyway.
    #[error("generation {0} is what the service is to run already")]
    IsWanted(Generation),
    /// A rollback of a service that has changed nothing.
    #[error("no earlier generation is kept: there is nothing to go back to")]
    NoneKept,
    /// A rollback to a generation that is forgotten, or never was.
    #[error("generation {to} is not among the generations that are kept: {}", listed(.kept))]
    NotKept {
        /// The one that was asked for.
        to: Generation,
        /// Those that can be gone back to.
        kept: Vec<Generation>,
    },
    /// The slot has no data that could be given up.
    #[error("slot {0} is not bound to a host by a volume")]
    NotBound(Slot),
    /// The slot's host has not called in, or is late.
    #[error(
        "slot {slot} has its volume on host {host}, and it is not known yet whether that is there: ask \
         again in a few seconds"
    )]
    HostNotKnown {
        /// The slot.
        slot: Slot,
        /// Its host.
        host: NodeName,
    },
    /// Agent or engine of the slot's host are away, the host is not.
    #[error(
        "slot {slot} has its volume on host {host}, which is there, and what runs there may run on: end \
         it, or cordon or drain the host to give the data up all the same"
    )]
    MayRunOn {
        /// The slot.
        slot: Slot,
        /// Its host.
        host: NodeName,
    },
    /// The slot's host takes its replica.
    #[error(
        "slot {slot} has its volume on host {host}, which is there: the data would be given up for nothing \
         (to move the slot, drain or cordon the host first)"
    )]
    HostIsThere {
        /// The slot.
        slot: Slot,
        /// Its host.
        host: NodeName,
    },
    /// No other host could take what runs.
    #[error(
        "slot {slot} runs on host {host}, and no other host takes it: it would stop for nothing (add a \
         host or activate one first)"
    )]
    NoOtherHost {
        /// The slot.
        slot: Slot,
        /// Its host.
        host: NodeName,
    },
    /// A host holds what the record has on another member.
    #[error(
        "this host holds containers of host {recorded} (replica {replica} among them), and calls itself \
         {node}; if it is {recorded}, stop its agent, remove {node} if it is a member (shef node rm \
         {node}), and start the agent with node_name = \"{recorded}\" (SHEF_NODE_NAME, --node-name) and an \
         empty data directory; if the containers are copies, remove them (docker rm)"
    )]
    HeldElsewhere {
        /// The member that the record names.
        recorded: NodeName,
        /// The host that has it.
        node: NodeName,
        /// One of the replicas.
        replica: ReplicaId,
    },
}

fn listed(kept: &[Generation]) -> String {
    if kept.is_empty() {
        return "none is".to_owned();
    }
    format!("those are {}", kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}
