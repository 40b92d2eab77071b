//! Filters: each drops hosts that cannot take a replica and explains itself.

use std::{collections::BTreeMap, fmt::Write as _};

use shef_common::ids::NodeName;

/// What the scheduler knows of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Whether the host reports.
    pub ready: bool,
    /// Replicas that are to run there, of all services.
    pub total: u32,
}

/// One reason for which hosts are not considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// The host does not report.
    NotReady,
}

impl Filter {
    /// Every filter, in the order in which they are asked.
    pub const ALL: [Self; 1] = [Self::NotReady];

    /// Whether `host` may take a replica as far as this filter is concerned.
    pub const fn check(self, host: &Load) -> bool {
        match self {
            Self::NotReady => host.ready,
        }
    }

    /// What to say of `dropped` hosts out of `all`.
    fn explain(self, dropped: usize, all: usize) -> String {
        match self {
            Self::NotReady => format!("{dropped} of {all} hosts do not report"),
        }
    }
}

/// The first filter that drops `host`, if any does.
pub fn dropped_by(host: &Load) -> Option<Filter> {
    Filter::ALL.into_iter().find(|filter| !filter.check(host))
}

/// Why no host could be chosen, in one line.
pub fn explain(hosts: &BTreeMap<NodeName, Load>) -> String {
    if hosts.is_empty() {
        return "no host has joined the cluster yet: start an agent with this master's address".to_owned();
    }
    let mut dropped: BTreeMap<Filter, usize> = BTreeMap::new();
    for filter in hosts.values().filter_map(dropped_by) {
        *dropped.entry(filter).or_default() += 1;
    }
    let mut text = String::from("no host can take the replica: ");
    for (n, (filter, count)) in dropped.into_iter().enumerate() {
        let _ = write!(text, "{}{}", if n > 0 { ", " } else { "" }, filter.explain(count, hosts.len()));
    }
    text
}
