//! Why a host is no member, and what to do about it.

use std::net::{Ipv4Addr, SocketAddr};

use shef_common::{
    bounds::REACH,
    clock::DurationMs,
    ids::{ClusterId, Epoch, Generation, LeaderId, NodeName, ReplicaId, ServiceName},
};

/// For how long an agent has heard of no master that knows it until the leader that it follows counts as
/// gone. Longer than a master takes to start again.
pub const LEADER_SILENCE: DurationMs = DurationMs(10_000);
/// How long a master without members lets a host wait that knows no cluster, and has containers of one: hosts
/// that know theirs come within seconds.
pub(super) const STRANGERS_WAIT: DurationMs = DurationMs(10_000);

/// Why a host is not admitted, now or at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It names an epoch that would use up those that are left.
    #[error(
        "host {node} says that it follows epoch {epoch}, and this master takes at most {most}: no \
         leadership of this cluster has had that number; if the host belongs here, stop its agent, move \
         the agent's ledger away and start it anew"
    )]
    Epoch {
        /// The host.
        node: NodeName,
        /// The epoch.
        epoch: Epoch,
        /// The most that is taken.
        most: u64,
    },
    /// It was forgotten while it registered, and has no identity any more.
    #[error(
        "host {0} was forgotten while it registered; to let it join again, stop its agent, empty the agent's \
         data directory, and start it with a new join token"
    )]
    LetGo(NodeName),
    /// It has two addresses.
    #[error(
        "host {node} says that its address is {address} and that its agent listens at {listens}: both have \
         to be the one by which other hosts reach it (HOST_IP)"
    )]
    OtherAddress {
        /// The host.
        node: NodeName,
        /// Where its services are reached.
        address: Ipv4Addr,
        /// Where its agent is.
        listens: SocketAddr,
    },
    /// A replica's name and its service are at odds.
    #[error(
        "host {node} holds {replica} as a replica of service {service}, and the name says another one; \
         remove that container"
    )]
    OddReplica {
        /// The host.
        node: NodeName,
        /// The replica.
        replica: ReplicaId,
        /// The service that it is said to be of.
        service: ServiceName,
    },
    /// A replica's generation would use up those that are left.
    #[error(
        "host {node} holds {replica} of generation {generation}, and generations up to {REACH} are taken \
         over: no service has changed that often; remove that container"
    )]
    Generation {
        /// The host.
        node: NodeName,
        /// The replica.
        replica: ReplicaId,
        /// Its generation.
        generation: Generation,
    },
    /// It belongs to another cluster.
    #[error(
        "host {node} belongs to cluster {theirs}, but this master leads cluster {ours}; start the agent \
         with the master of its own cluster, or with another data directory to make it a new host (its \
         containers of {theirs} stay untouched)"
    )]
    OtherCluster {
        /// The host.
        node: NodeName,
        /// Its cluster.
        theirs: ClusterId,
        /// The cluster of this master.
        ours: ClusterId,
    },
    /// It belongs to another cluster, and this master, whose store is empty, has a CA of its own.
    #[error(
        "host {node} belongs to cluster {theirs}, but this master has the CA of cluster {ours} and leads no \
         other; start the agent with the master of its own cluster, or with another data directory to make \
         it a new host (its containers of {theirs} stay untouched); if this master is to lead {theirs}, stop \
         it, empty its store, and put that cluster's authority.json and secret.key into its data directory, \
         or, if they are lost, delete authority.json and write {theirs} into a file named cluster there"
    )]
    OtherClusterThanCa {
        /// The host.
        node: NodeName,
        /// Its cluster.
        theirs: ClusterId,
        /// The cluster of this master's CA.
        ours: ClusterId,
    },
    /// This master's store is empty, and a host that waits knows its cluster.
    #[error(
        "the store of this master is empty, and host {node} belongs to cluster {cluster}: this master \
         waits until {node} has heard of no other master for {} s, and leads that cluster then; to have it \
         lead at once: shef cluster take-over",
        LEADER_SILENCE.0 / 1_000
    )]
    StoreIsEmpty {
        /// The host that knows its cluster.
        node: NodeName,
        /// That cluster.
        cluster: ClusterId,
    },
    /// This master's store is empty, and the host has containers of a cluster that another host may know.
    #[error(
        "the store of this master is empty, and the host has containers of cluster {cluster}: it waits {} \
         s for a host that belongs to that cluster before it begins a new one",
        STRANGERS_WAIT.0 / 1_000
    )]
    Stranger {
        /// That cluster.
        cluster: ClusterId,
    },
    /// It is not known yet what it holds.
    #[error("the engine of the host has not shown its containers yet")]
    NotLooked,
    /// It is a member under another name.
    #[error(
        "this host is a member under the name {name}, and calls itself {node} now; give its agent \
         node_name = \"{name}\" (SHEF_NODE_NAME, --node-name), or, if it is a copy of {name}'s data \
         directory, an empty data directory; to give the host a new name, drain {name}, forget it (shef \
         node rm {name}), and start the agent with an empty data directory"
    )]
    OtherName {
        /// What it calls itself.
        node: NodeName,
        /// The member that it is.
        name: NodeName,
    },
    /// Another one is being admitted.
    #[error("another host is being admitted under the name {0}, or with this identity")]
    BeingAdmitted(NodeName),
    /// Another one has its name.
    #[error(
        "another host is already there under the name {0}; give this agent a node_name of its own, or, if \
         that host is gone for good or was set up anew, forget it first (shef node rm {0})"
    )]
    NameTaken(NodeName),
    /// Its address is none.
    #[error(
        "host {node} says that its agent listens at {shown:?}, and that must be http://ADDRESS:PORT with the \
         address of one host and nothing more; give its agent a host_ip"
    )]
    AgentUrl {
        /// The host.
        node: NodeName,
        /// Its message, at most 200 characters.
        shown: String,
    },
    /// The run of the host's agent that this master knows is there.
    #[error(
        "host {node} is there already: its agent answers at {address}, and is not the one that registers; if \
         this is a copy of its data directory, start this agent with an empty data directory and a \
         node_name of its own; if the host has moved, stop the agent that answers at {address}"
    )]
    FirstAnswers {
        /// The host.
        node: NodeName,
        /// Where the first one answers.
        address: SocketAddr,
    },
    /// At the address that it registers, the agent of another host answers.
    #[error(
        "host {node} says that its agent listens at {address}, but the agent of {other} answers there; give \
         each agent the host_ip of its own host"
    )]
    AnotherAnswers {
        /// The host.
        node: NodeName,
        /// Where it says that it listens.
        address: SocketAddr,
        /// Who answers there.
        other: NodeName,
    },
    /// The run of the host's agent that this master knows does not answer, but may be there.
    #[error(
        "host {node} is known at {address}, and its agent there may be running still: this one is let in \
         once that one neither reports nor answers anybody"
    )]
    FirstMayBeThere {
        /// The host.
        node: NodeName,
        /// Where the first one listens.
        address: SocketAddr,
    },
    /// It is not known whether the run of the host's agent that this master knows is there.
    #[error("host {node} is known at {address}, and it could not be asked whether it is there: {why}")]
    FirstNotProbed {
        /// The host.
        node: NodeName,
        /// Where the first one listens.
        address: SocketAddr,
        /// Why it could not be asked.
        why: String,
    },
    /// Another registration of the host is being looked into.
    #[error("another registration of host {0} is being looked into")]
    BeingProbed(NodeName),
    /// Another one had its name, and has data.
    #[error(
        "another host was {node} before, and holds volumes of {service}, while this one holds nothing of \
         this cluster's: bring that host back, or give this one a name of its own; if that host and its \
         data are gone for good, forget it first (shef node rm {node})"
    )]
    DataElsewhere {
        /// The name.
        node: NodeName,
        /// The service whose data it is.
        service: ServiceName,
    },
    /// What it runs is a newer version's; the fields that are not understood.
    #[error(
        "this master's store does not know what the host runs, and it cannot take that over: it does not \
         understand {0}; upgrade the master (what runs there runs on)"
    )]
    NotUnderstood(String),
    /// What it holds breaks a rule, and its agent would remove what is not taken over.
    #[error(
        "host {node} holds {replica}, whose spec breaks a rule, so that no service takes it over, and its \
         agent is of a version that removes what is not taken over; upgrade the agent, or remove that \
         container"
    )]
    BreaksRule {
        /// The host.
        node: NodeName,
        /// The replica.
        replica: ReplicaId,
    },
    /// Too many hosts have joined and never reported.
    #[error(
        "{unreported} hosts have joined and never reported: no other host joins before some of them have, \
         or are forgotten (shef node ls shows them, shef node rm forgets them)"
    )]
    TooManyUnreported {
        /// How many.
        unreported: usize,
    },
    /// Too many hosts have joined within a short time.
    #[error("so many hosts have joined of late that this one has to wait")]
    TooManyJoin,
    /// It follows another master, and more hosts follow this one.
    #[error(
        "the host follows leader {leader}, but more hosts follow this master: this one goes on, and leads \
         the host once it has not heard of that leader for {} s; stop the master that is the wrong one",
        LEADER_SILENCE.0 / 1_000
    )]
    FollowsAnother {
        /// Whom it follows.
        leader: LeaderId,
    },
    /// It follows another master, which may be gone.
    #[error(
        "the host follows leader {leader}, and has not heard of it for {silent_s} s; this master takes \
         over once more than half of its hosts say so, or follow this one"
    )]
    FollowsDoubted {
        /// Whom it follows.
        leader: LeaderId,
        /// For how long that one is silent, in seconds.
        silent_s: u64,
    },
}
