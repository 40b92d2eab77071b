//! Who the holder of a certificate is: a DNS name in it, since TLS verifies DNS names and no URIs. An
//! identity is no address: hosts' addresses change.

use std::fmt;

use crate::ids::{ClusterId, NodeUid};

/// What every name of a member ends with.
const END: &str = "shef";

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A master: `master.CLUSTER.shef`. Any of them will do for an agent.
    Master(ClusterId),
    /// The agent of one host: `UID.agent.CLUSTER.shef`.
    Agent(ClusterId, NodeUid),
}

impl Identity {
    /// The member that a certificate's name tells; `None`: it is another kind of name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, cluster) = name.strip_suffix(END)?.strip_suffix('.')?.rsplit_once('.')?;
        let cluster = ClusterId::parse(cluster).ok()?;
        match rest.split_once('.') {
            None if rest == "master" => Some(Self::Master(cluster)),
            Some((uid, "agent")) => Some(Self::Agent(cluster, NodeUid::parse(uid).ok()?)),
            None | Some(_) => None,
        }
    }

    /// The cluster that it is a member of.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterId {
        match self {
            Self::Master(cluster) | Self::Agent(cluster, _) => cluster,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(cluster) => write!(f, "master.{cluster}.{END}"),
            Self::Agent(cluster, uid) => write!(f, "{uid}.agent.{cluster}.{END}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_one_member_and_no_other_name_does() {
        for name in ["master.00000000000000c1.shef", "00000000000000a1.agent.00000000000000c1.shef"] {
            assert_eq!(Identity::parse(name).unwrap().to_string(), name);
        }
        for other in [
            "",
            "shef",
            "master.shef",
            "master.c1.shef",
            "master.00000000000000c1.shef.",
            "master.00000000000000c1.example.org",
            "x.master.00000000000000c1.shef",
            "00000000000000a1.00000000000000c1.shef",
            "00000000000000a1.agent.agent.00000000000000c1.shef",
            "00000000000000A1.agent.00000000000000c1.shef",
            "*.agent.00000000000000c1.shef",
        ] {
            assert_eq!(Identity::parse(other), None, "{other}");
        }
    }
}
