//! Why nothing may be started on a host: what is wrong, and what a person can do about it. Pure.

use std::net::Ipv4Addr;

use shef_common::store::FORMAT;

use crate::{address::Unreachable, belongs::OtherCluster, system::Part};

/// The oldest Redis whose scripts and append-only file are as the store needs them.
pub(crate) const OLDEST_REDIS: (u32, u32) = (5, 0);

/// Why nothing may be started, or one container may not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `HOST_IP` is not this host's.
    #[error("HOST_IP is {ip}, which is not an address of this host; {offer}")]
    NotOwnAddress {
        /// The address.
        ip: Ipv4Addr,
        /// The ones that it could be.
        offer: String,
    },
    /// `HOST_IP` is this host's alone.
    #[error("HOST_IP is {ip}, which {why}: other hosts cannot reach it; {offer}")]
    Unreachable {
        /// The address.
        ip: Ipv4Addr,
        /// Why nobody else reaches it.
        why: Unreachable,
        /// The ones that it could be.
        offer: String,
    },
    /// The host has a master elsewhere.
    #[error(transparent)]
    OtherCluster(#[from] OtherCluster),
    /// Something else listens where a part is to.
    #[error(
        "port {port} of {ip} is in use, which the {part} needs: stop what listens there (ss -ltnp \
         'sport = :{port}'){}",
        other_port(.part)
    )]
    PortTaken {
        /// The name of the system container that needs the port.
        part: String,
        /// Where it is to listen.
        ip: Ipv4Addr,
        /// And at which port.
        port: u16,
    },
    /// The store is a newer version's.
    #[error(
        "the store has format {0}, and this version reads up to {FORMAT}: it was written by a newer shef, so \
         this downgrade is refused; start the newer image again"
    )]
    NewerStore(u32),
    /// A Redis that is not ours cannot be looked at.
    #[error("the Redis at {redis} (REDIS_HOST, REDIS_PORT) cannot be used: {why}")]
    Redis {
        /// Host and port.
        redis: String,
        /// In the words of its client.
        why: String,
    },
    /// That Redis is older than any that shef works with.
    #[error(
        "the Redis at {redis} is version {version}: {}.{} or newer is needed",
        OLDEST_REDIS.0, OLDEST_REDIS.1
    )]
    OldRedis {
        /// Host and port.
        redis: String,
        /// Its version.
        version: String,
    },
    /// It is a replica of another one.
    #[error("the Redis at {redis} is a {role}, which cannot be written to: give its primary")]
    RedisRole {
        /// Host and port.
        redis: String,
        /// What it says that it is.
        role: String,
    },
    /// A foreign container that has a name of ours.
    #[error(
        "a container named {name} is there already and is not ours (id {id}): rename or remove it; nothing \
         was touched"
    )]
    ForeignContainer {
        /// The name.
        name: &'static str,
        /// The beginning of its id.
        id: String,
    },
}

/// How another port is chosen for `part`, where it can be.
fn other_port(part: &str) -> &'static str {
    match Part::parse(part) {
        Some(Part::Redis) => {
            ", or choose another with REDIS_PORT (or give REDIS_HOST to use a Redis that is there)"
        }
        Some(Part::Master) => ", or choose another with PORT (for the API)",
        Some(Part::Agent | Part::Guard) | None => "",
    }
}

/// A refusal a line.
pub(crate) fn lines(refused: &[Refusal]) -> String {
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
