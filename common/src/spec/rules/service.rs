//! What is true of a service beside its containers: placement and updates.

use super::{
    super::{
        Constraint, MAX_CONSTRAINTS, MAX_REPLICAS, Mount, Network, Order, Placement, ServiceSpec, Update,
        grammar::{is_constraint_key, is_host_label, values_of},
    },
    HOUR_MS, Rules,
};
use crate::problem::FieldError;

const DAY_MS: u64 = 24 * HOUR_MS;
const MAX_COUNT: u64 = 10_000;

impl ServiceSpec {
    /// Every rule that the field types do not carry and this spec breaks, each with its path.
    #[must_use]
    pub fn violations(&self) -> Vec<FieldError> {
        let mut rules = Rules { found: self.template.violations() };
        rules.range("replicas", self.replicas.into(), 0, MAX_REPLICAS.into(), "");
        self.placement.rules(&mut rules);
        self.update.rules(&mut rules);
        let sticky = self.template.mounts.iter().any(Mount::is_sticky);
        if sticky && self.update.order == Order::StartFirst {
            rules.wrong(
                "update.order",
                "must be auto or stop-first while a volume keeps its slot on its host (sticky): the old and \
                 the new replica would use it at the same time"
                    .to_owned(),
            );
        }
        self.static_addresses(&mut rules);
        rules.found
    }

    /// No two containers of a network can have one address. Networks are each host's own.
    fn static_addresses(&self, rules: &mut Rules) {
        let Some(at) = self.template.networks.iter().position(Network::has_static_address) else { return };
        let many = self.replicas > 1 && self.mode.is_replicated() && self.placement.max_per_host != Some(1);
        if many {
            rules.wrong(
                "replicas",
                format!(
                    "must be 0 or 1, or placement.max_per_host 1, while networks[{at}] names the address of \
                     a replica, but is {}",
                    self.replicas
                ),
            );
        }
        if self.update.order == Order::StartFirst {
            rules.wrong(
                "update.order",
                format!(
                    "must be auto or stop-first while networks[{at}] names the address of a replica: the \
                     old and the new replica would have the same"
                ),
            );
        }
    }
}

impl Placement {
    fn rules(&self, rules: &mut Rules) {
        for (path, constraints) in
            [("placement.constraints", &self.constraints), ("placement.preferences", &self.preferences)]
        {
            let constraints = rules.entries(path, constraints, MAX_CONSTRAINTS);
            for (at, constraint) in constraints.iter().enumerate() {
                constraint.rules(&format!("{path}[{at}]"), rules);
            }
        }
        if let Some(label) = &self.spread_over {
            let rule = "must be a label of hosts, 1 to 128 characters without spaces, such as zone";
            rules.check(is_host_label(label), "placement.spread_over", rule, label);
        }
        if let Some(most) = self.max_per_host {
            rules.range("placement.max_per_host", most.into(), 1, MAX_REPLICAS.into(), "");
        }
    }
}

impl Constraint {
    fn rules(&self, path: &str, rules: &mut Rules) {
        let keys = "must be node.name, node.os, node.arch or label.KEY";
        rules.check(is_constraint_key(&self.key), format!("{path}.key"), keys, &self.key);
        let (least, most, words) = values_of(self.op);
        if !(least..=most).contains(&self.values.len()) {
            rules.wrong(
                format!("{path}.values"),
                format!("must hold {words}, but holds {}", self.values.len()),
            );
        }
        for (at, value) in self.values.iter().take(most).enumerate() {
            let fits = value.len() <= 255 && !value.chars().any(char::is_control);
            rules.check(
                fits,
                format!("{path}.values[{at}]"),
                "must be at most 255 bytes without control characters",
                value,
            );
        }
    }
}

impl Update {
    fn rules(&self, rules: &mut Rules) {
        rules.range("update.parallelism", self.parallelism.into(), 1, MAX_COUNT, "");
        if let Some(surge) = self.surge {
            rules.range("update.surge", surge.into(), self.parallelism.into(), MAX_COUNT, "");
        }
        rules.range("update.delay_ms", self.delay_ms.into(), 0, HOUR_MS, "milliseconds");
        rules.range("update.monitor_ms", self.monitor_ms.into(), 0, HOUR_MS, "milliseconds");
        rules.range("update.deadline_ms", self.deadline_ms.into(), 1_000, DAY_MS, "milliseconds");
        rules.range("update.probation_ms", self.probation_ms.into(), 0, HOUR_MS, "milliseconds");
        rules.range("update.max_failures", self.max_failures.into(), 0, MAX_COUNT, "");
        rules.range("update.canary", self.canary.into(), 0, MAX_COUNT, "");
    }
}
