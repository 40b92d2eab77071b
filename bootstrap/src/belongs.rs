//! Whether a host may become a first host: not while it belongs to a cluster whose master is elsewhere. Pure.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The cluster that a host belongs to, as far as the host itself knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belongs {
    /// The cluster's id: from the agent's ledger, or from the labels of services' containers.
    pub cluster: Option<String>,
    /// Whom the host's agent reported to last, as in `10.0.0.1:8044`; empty: not known.
    pub masters: Vec<String>,
}

impl Belongs {
    /// The fields of this one; where it has none, those of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cluster: self.cluster.or(other.cluster),
            masters: if self.masters.is_empty() { other.masters } else { self.masters },
        }
    }

    fn has_its_master_at(&self, ip: Ipv4Addr) -> bool {
        let host = |master: &str| master.split_once(':').map_or(master, |(host, _)| host).to_owned();
        self.masters.iter().any(|master| host(master) == ip.to_string())
    }
}

/// Why a host must not begin a master: it belongs to a cluster whose master is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this host belongs to the cluster {cluster}, {}, and this line would begin a second master: add -e \
     SLAVE=true -e MASTER_HOST={} to stay in that cluster; take the host out of it with `shef bootstrap \
     --uninstall --volumes --services`; or, if that master is lost for good, put this host in its place with \
     -e SHEF_BOOTSTRAP_TAKE_OVER=true",
    where_its_master_is(.masters),
    if .masters.is_empty() { "<ip of its master>" } else { .masters }
)]
pub struct OtherCluster {
    /// The cluster's id.
    cluster: String,
    /// Where its masters are, joined by commas; empty: not known.
    masters: String,
}

fn where_its_master_is(masters: &str) -> String {
    if masters.is_empty() {
        "which has its master elsewhere".to_owned()
    } else {
        format!("whose master is at {masters}")
    }
}

/// Why the host at `host_ip` must not begin a master; `None`: it may. `stored` is the cluster of the store
/// that the master would lead, where there is one already.
#[must_use]
pub fn refused_as_first(belongs: &Belongs, host_ip: Ipv4Addr, stored: Option<&str>) -> Option<OtherCluster> {
    let cluster = belongs.cluster.as_deref()?;
    if belongs.has_its_master_at(host_ip) || stored == Some(cluster) {
        return None;
    }
    Some(OtherCluster { cluster: cluster.to_owned(), masters: belongs.masters.join(",") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn belongs(masters: &[&str]) -> Belongs {
        Belongs {
            cluster: Some("00000000000000aa".into()),
            masters: masters.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn a_host_of_another_master_is_refused_with_cluster_and_master() {
        let said = refused_as_first(&belongs(&["10.0.0.1:8044"]), HERE, None).unwrap().to_string();
        assert!(said.contains("the cluster 00000000000000aa, whose master is at 10.0.0.1:8044"), "{said}");
        assert!(
            said.contains("-e SLAVE=true -e MASTER_HOST=10.0.0.1:8044") && said.contains("TAKE_OVER=true"),
            "{said}"
        );
        let said = refused_as_first(&belongs(&[]), HERE, None).unwrap().to_string();
        assert!(said.contains("00000000000000aa, which has its master elsewhere"), "{said}");
    }

    #[test]
    fn a_first_host_comes_back_and_a_restored_store_is_led() {
        assert_eq!(refused_as_first(&belongs(&["10.0.0.2:8044"]), HERE, None), None);
        assert_eq!(refused_as_first(&belongs(&["10.0.0.9", "10.0.0.2"]), HERE, None), None);
        assert_eq!(refused_as_first(&belongs(&["10.0.0.1"]), HERE, Some("00000000000000aa")), None);
        assert!(refused_as_first(&belongs(&["10.0.0.1"]), HERE, Some("00000000000000bb")).is_some());
        assert_eq!(
            refused_as_first(&Belongs::default(), HERE, None),
            None,
            "a host that has never belonged to anything"
        );
        let never_joined = Belongs { cluster: None, masters: vec!["10.0.0.1".into()] };
        assert_eq!(refused_as_first(&never_joined, HERE, None), None);
    }
}
