//! What is missing of a service, in lines for people.

use std::collections::BTreeMap;

use shef_common::{
    ids::{NodeName, ReplicaId},
    status::{Health, ReplicaState},
};

use crate::{
    membership::Standing,
    service::{
        bindings,
        observations::{Observations, ReplicaClass, trials::failure_reason},
        record::{ReplicaRecord, ServiceRecord, Want},
        volumes,
    },
};

/// The most lines of what is missing that a view holds: it is kept for every service, and copied by every
/// list.
pub(super) const MAX_LINES: usize = 100;

/// The first lines of what is missing, and how many there are in all: of the others none is written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) first: Vec<String>,
    pub(super) count: usize,
}

impl Lines {
    /// One line more.
    pub(super) fn add(&mut self, line: impl FnOnce() -> String) {
        if self.first.len() < MAX_LINES {
            self.first.push(line());
        }
        self.count += 1;
    }

    /// So many lines more that are not among the first.
    pub(super) const fn add_unlisted(&mut self, count: usize) {
        self.count += count;
    }

    /// How many are not in the first.
    pub(super) fn more(&self) -> usize {
        self.count - self.first.len()
    }
}

const HELD: &str = "its host is down; replacement is on hold (brake)";

/// What is missing where `replica` is concerned, if anything is.
pub(super) fn line(
    record: &ServiceRecord,
    replica: &ReplicaRecord,
    class: ReplicaClass,
    observed: &Observations,
    no_place: Option<&str>,
) -> Option<String> {
    let (id, node) = (&replica.id, &replica.node);
    let condition = observed.condition(node);
    Some(match class {
        ReplicaClass::Ready if condition.held => format!("{id} is on {node}: {HELD}"),
        ReplicaClass::Ready if condition.is_leaving() && volumes::is_sticky(record, replica.generation) => {
            format!(
                "{id} stays on {node}, which is drained, but holds its volume data (`shef service release \
                 {} {}` gives the data up)",
                record.spec.name, replica.slot
            )
        }
        ReplicaClass::Ready | ReplicaClass::OnTrial => return None,
        ReplicaClass::Starting => why_starting(record, replica, observed),
        ReplicaClass::Failed => observed.why_failed(record, replica),
        ReplicaClass::Outdated => {
            let waits = bindings::waits(record, replica.slot, observed);
            let waits = waits.map(|waits| format!(": {waits}")).unwrap_or_default();
            format!("{id} on {node} still runs generation {}{waits}", replica.generation)
        }
        ReplicaClass::Migrating => {
            let why = if condition.is_leaving() {
                Some("is drained")
            } else {
                observed.has_to_leave(record, replica).then_some("does not meet the constraints")
            };
            leaving(replica, why, no_place)
        }
        ReplicaClass::Unreachable => {
            format!("{id} was not begun on {node}, which {}", condition.standing.is())
        }
        ReplicaClass::Lost => {
            let waits = bindings::waits(record, replica.slot, observed);
            waits.unwrap_or_else(|| format!("{id} is on {node}, which is down"))
        }
    })
}

/// Adds the replicas that hosts have still to remove. Returns how many of these lines no caller waits for, as
/// their hosts may never come back.
pub(super) fn removals(record: &ServiceRecord, observed: &Observations, lines: &mut Lines) -> usize {
    let mut by_host: BTreeMap<&NodeName, Vec<&ReplicaId>> = BTreeMap::new();
    let others = record.replicas.of_all(record.replicas.others());
    for replica in others.filter(|replica| replica.want == Want::Remove) {
        by_host.entry(&replica.node).or_default().push(&replica.id);
    }
    let mut left_behind = 0;
    for (node, replicas) in by_host {
        let standing = observed.condition(node).standing;
        if record.deleted && standing != Standing::Ready {
            lines.add(|| format!("deleting, waiting for host {node}, which {}", standing.is()));
            continue;
        }
        left_behind += if standing == Standing::Ready { 0 } else { replicas.len() };
        let waits =
            if standing == Standing::Ready { String::new() } else { format!(", which {}", standing.is()) };
        for id in replicas {
            lines.add(|| format!("{id} is still to be removed from {node}{waits}"));
        }
    }
    left_behind
}

/// `has_to`: what is true of its host, for which it has to leave.
fn leaving(replica: &ReplicaRecord, has_to: Option<&str>, no_place: Option<&str>) -> String {
    let (id, node) = (&replica.id, &replica.node);
    match (has_to, no_place) {
        (Some(is), Some(why)) => format!("{id} stays on {node}, which {is}: {why}"),
        (Some(is), None) => format!("{id} is to leave {node}, which {is}, once its replacement runs"),
        (None, _) => {
            format!("{id} moves from {node} to a host with fewer replicas, once its replacement runs")
        }
    }
}

/// What a replica that is on its way waits for, or why it does not get there.
pub(super) fn why_starting(
    record: &ServiceRecord,
    replica: &ReplicaRecord,
    observed: &Observations,
) -> String {
    let (id, node) = (&replica.id, &replica.node);
    let condition = observed.condition(node);
    if condition.held {
        return format!("{id} is on {node}: {HELD}");
    }
    let status = observed.statuses.get(id);
    let state = status.map_or(ReplicaState::Assigned, |status| status.state);
    if condition.standing != Standing::Ready && state != ReplicaState::Running {
        return format!("{id} waits for {node}, which {}", condition.standing.is());
    }
    // Its process has ended before: that says more than where it stands.
    let ended = status
        .filter(|status| status.exit_code.is_some())
        .map(|status| format!(": {}", failure_reason(status)));
    match (state, status) {
        (ReplicaState::Prepared, _) => format!("{id} is ready on {node} and to be started"),
        (ReplicaState::Pulling, _) => {
            format!("{id} waits on {node} for its image, {}", record.template(replica.generation).image)
        }
        (ReplicaState::Running, Some(status)) if status.health == Health::Starting => {
            let reason = if status.reason.is_some() {
                failure_reason(status)
            } else {
                "its engine is being asked".to_owned()
            };
            format!("{id} runs on {node} and is not healthy yet: {reason}")
        }
        (ReplicaState::Running, status) => {
            format!(
                "{id} runs on {node}, but is unhealthy: {}",
                status.map(failure_reason).unwrap_or_default()
            )
        }
        (ReplicaState::Complete, _) => format!("{id} is done on {node}"),
        (ReplicaState::Failed, _) => format!("{id} failed on {node}{}", ended.unwrap_or_default()),
        (
            ReplicaState::Pending
            | ReplicaState::Assigned
            | ReplicaState::Starting
            | ReplicaState::Stopping
            | ReplicaState::Stopped,
            _,
        ) => match ended {
            Some(why) => format!("{id} is being started again on {node}{why}"),
            None => format!("{id} is being started on {node}"),
        },
    }
}
