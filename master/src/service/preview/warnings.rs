//! What a plan warns of: data that does not move with a replica, and volumes that stay as they were made.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    ids::NodeName,
    spec::{Mount, ServiceSpec, Template},
};

use super::Action;
use crate::service::{observations::Observations, record::ServiceRecord};

/// The most hosts that are named for one warning of theirs.
const MAX_HOSTS: usize = 5;
/// The most different warnings of hosts that are passed on.
const MAX_REPORTED: usize = 20;

/// What to warn of when `wanted` takes the place of `before`, by these `actions`; `observed`: what hosts have
/// reported before.
pub(super) fn of(
    before: Option<&ServiceRecord>,
    wanted: &ServiceRecord,
    actions: &[Action],
    observed: &Observations,
) -> Vec<String> {
    let mut warnings: Vec<String> = wanted.spec.template.mounts.iter().filter_map(stays_behind).collect();
    let moving: Vec<String> =
        actions.iter().filter(|action| moves(action)).map(|action| action.slot.to_string()).collect();
    if !warnings.is_empty() && !moving.is_empty() {
        warnings.push(format!("slots that move by this change: {}", moving.join(", ")));
    }
    warnings.extend(shared(&wanted.spec));
    warnings.extend(only_canaries(&wanted.spec));
    let others = wanted.spec.template.mounts.iter().filter_map(|mount| defined_otherwise(before?, mount));
    warnings.extend(others);
    warnings.extend(before.map(|before| reported(before, wanted, observed)).unwrap_or_default());
    warnings
}

/// What hosts have reported of volumes that replicas use. It holds on as long as the volumes' definitions
/// stay as they are.
fn reported(before: &ServiceRecord, wanted: &ServiceRecord, observed: &Observations) -> Vec<String> {
    let defined = definitions(&wanted.spec.template);
    let mut hosts: BTreeMap<&str, BTreeSet<&NodeName>> = BTreeMap::new();
    for replica in before.wanted() {
        let status = observed.statuses.get(&replica.id);
        if let Some(warning) = status.and_then(|status| status.warning.as_deref())
            && definitions(before.template(replica.generation)) == defined
        {
            hosts.entry(warning).or_default().insert(&replica.node);
        }
    }
    let shown = hosts.iter().take(MAX_REPORTED);
    shown.map(|(warning, hosts)| format!("on {}: {warning}", named(hosts))).collect()
}

/// What a template says of its volumes: driver and options by name.
fn definitions(template: &Template) -> BTreeMap<&str, (&str, &BTreeMap<String, String>)> {
    let volumes = template.mounts.iter().filter_map(|mount| match mount {
        Mount::Volume { source, driver, options, .. } => Some((source.as_str(), (driver.as_str(), options))),
        Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
    });
    volumes.collect()
}

fn named(hosts: &BTreeSet<&NodeName>) -> String {
    let names: Vec<&str> = hosts.iter().take(MAX_HOSTS).map(|node| node.as_str()).collect();
    let more = hosts.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Whether an update has more canaries than there are replicas: then it replaces all of them.
fn only_canaries(spec: &ServiceSpec) -> Option<String> {
    let (canary, replicas) = (spec.update.canary, spec.replicas);
    (spec.mode.is_replicated() && replicas > 0 && canary > replicas).then(|| {
        format!(
            "update.canary is {canary} and replicas is {replicas}: an update replaces every replica before \
             it waits to be promoted"
        )
    })
}

/// Whether slots that have one host have one volume: a service's volume is one a host, not one a slot.
fn shared(spec: &ServiceSpec) -> Option<String> {
    let source = spec.template.mounts.iter().find_map(|mount| match mount {
        Mount::Volume { source, sticky: true, .. } => Some(source),
        Mount::Volume { .. } | Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
    })?;
    let may_share = spec.mode.is_replicated() && spec.replicas > 1 && spec.placement.max_per_host != Some(1);
    may_share.then(|| {
        format!(
            "slots on the same host share volume {source}; placement.max_per_host = 1 gives each a host, \
             and a volume, of its own"
        )
    })
}

fn moves(action: &Action) -> bool {
    action.to_host.is_some() && action.from_host.is_some() && action.from_host != action.to_host
}

/// What of `mount` a replica does not find on another host, if its slot may move there.
fn stays_behind(mount: &Mount) -> Option<String> {
    match mount {
        Mount::Bind { source, target, .. } => Some(format!(
            "{target} is the path {source} of the host: a replica that moves finds what is there on its \
             new host"
        )),
        Mount::Volume { source, target, sticky: false, driver, options, .. } => {
            Some(if options.is_empty() && is_local(driver) {
                format!(
                    "{target} is volume {source}, which is not sticky: a replica that moves finds another \
                     one on its new host"
                )
            } else {
                format!(
                    "{target} is volume {source} of its own driver or options: whether a replica that \
                     moves finds its data is theirs"
                )
            })
        }
        Mount::Volume { sticky: true, .. } | Mount::Tmpfs { .. } => None,
    }
}

fn is_local(driver: &str) -> bool {
    matches!(driver, "" | "local")
}

/// Whether hosts may have the volume of `mount` by another definition, because a generation that is kept says
/// so.
fn defined_otherwise(before: &ServiceRecord, mount: &Mount) -> Option<String> {
    let Mount::Volume { source, driver, options, .. } = mount else { return None };
    let differs = |known: &Mount| match known {
        Mount::Volume { source: name, driver: by, options: with, .. } => {
            name == source && (with != options || by != driver && !(is_local(by) && is_local(driver)))
        }
        Mount::Bind { .. } | Mount::Tmpfs { .. } => false,
    };
    let kept = before
        .earlier
        .values()
        .chain(before.history.iter().map(|kept| &kept.template))
        .chain([&before.spec.template]);
    kept.flat_map(|template| &template.mounts).any(differs).then(|| {
        format!(
            "volume {source} had another driver or other options before: hosts that have it keep it as it is"
        )
    })
}
