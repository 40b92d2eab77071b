//! Filters: each drops hosts that cannot take a replica and explains itself.

use std::{collections::BTreeMap, fmt::Write as _};

use shef_common::ids::NodeName;

use crate::membership::{HostCondition, Intent, Standing};

/// What the scheduler knows of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// What is true of the host.
    pub condition: HostCondition,
    /// Replicas that are to run there, of all services.
    pub total: u32,
}

impl Default for Load {
    /// A host that only a service's record tells of, so far.
    fn default() -> Self {
        Self { condition: HostCondition::of(Standing::Awaited), total: 0 }
    }
}

/// One reason for which hosts are not considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// The host is down.
    Down,
    /// It does not report, and may be down.
    Suspect,
    /// The host is there, its agent is not.
    NoAgent,
    /// Its agent is there, its engine is not.
    NoEngine,
    /// It has not reported since the master's start.
    Awaited,
    /// An operator wants it to be empty.
    Drained,
    /// An operator wants it to take nothing new.
    Cordoned,
    /// It went down too often of late.
    Flapping,
}

impl Filter {
    /// Every filter, in the order in which they are asked.
    pub const ALL: [Self; 8] =
        [Self::Down, Self::Suspect, Self::NoAgent, Self::NoEngine, Self::Awaited, Self::Drained, Self::Cordoned, Self::Flapping];

    /// Whether `host` may take a replica as far as this filter is concerned.
    pub fn check(self, host: &Load) -> bool {
        let HostCondition { standing, intent, flapping, .. } = host.condition;
        match self {
            Self::Down => standing != Standing::Down,
            Self::Suspect => standing != Standing::Suspect,
            Self::NoAgent => standing != Standing::AgentDown,
            Self::NoEngine => standing != Standing::EngineDown,
            Self::Awaited => standing != Standing::Awaited,
            Self::Drained => !matches!(intent, Intent::Drained { .. }),
            Self::Cordoned => intent != Intent::Cordoned,
            Self::Flapping => !flapping,
        }
    }

    /// What to say of `dropped` hosts: "3 are down", of `all` at first mention: "3 of 5 hosts are down".
    fn explain(self, dropped: usize, all: Option<usize>) -> String {
        let (one, many) = match self {
            Self::Down => ("is down", "are down"),
            Self::Suspect => ("is suspect", "are suspect"),
            Self::NoAgent => ("has no agent", "have no agent"),
            Self::NoEngine => ("has no engine", "have no engine"),
            Self::Awaited => ("is awaited", "are awaited"),
            Self::Drained => ("is drained", "are drained"),
            Self::Cordoned => ("is cordoned", "are cordoned"),
            Self::Flapping => ("is flapping", "are flapping"),
        };
        let verb = if dropped == 1 { one } else { many };
        match all {
            Some(1) => format!("the only host {verb}"),
            Some(all) => format!("{dropped} of {all} hosts {verb}"),
            None => format!("{dropped} {verb}"),
        }
    }
}

/// The first filter that drops `host`, if any does.
pub fn dropped_by(host: &Load) -> Option<Filter> {
    Filter::ALL.into_iter().find(|filter| !filter.check(host))
}

/// Why no host could be chosen, in one line that accounts for every host.
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
        let all = (n == 0).then_some(hosts.len());
        let _ = write!(text, "{}{}", if n > 0 { ", " } else { "" }, filter.explain(count, all));
    }
    text
}
