//! Conditions on a host: its name, what it is, and its operator's labels.

use std::fmt;

use shef_common::{
    fields,
    ids::NodeName,
    problem::FieldError,
    spec::{Constraint, Operator, Placement, Platform, Template},
};

use crate::membership::HostFacts;

/// The host label that names the platforms which it runs beside its own, by emulation.
const PLATFORMS: &str = "platforms";

/// Whether `host` meets every constraint of `placement`.
#[must_use]
pub fn allows(placement: &Placement, node: &NodeName, host: &HostFacts) -> bool {
    placement.constraints.iter().all(|constraint| holds(constraint, node, host))
}

/// Why `host` can never take a replica of `template` as long as it is what it is, whatever else runs there.
#[must_use]
pub fn never_takes(
    placement: &Placement,
    template: &Template,
    node: &NodeName,
    host: &HostFacts,
) -> Option<Unfit> {
    if let Some(broken) = placement.constraints.iter().find(|constraint| !holds(constraint, node, host)) {
        return Some(Unfit::Constraint(words(broken)));
    }
    let reserve = template.resources.reserve;
    if reserve.memory_bytes > host.memory_bytes {
        return Some(Unfit::Memory(host.memory_bytes));
    }
    if reserve.cpu_millis > host.cpu_millis {
        return Some(Unfit::Cpu(host.cpu_millis));
    }
    if let Some(platform) = template.platform.as_ref().filter(|platform| !runs(platform, host)) {
        return Some(Unfit::Platform(platform.to_string()));
    }
    if let Some(policy) = &host.policy {
        let demands = template.demands();
        let refused = policy.refuses(&demands);
        if let Some((demand, refusal)) = refused.and_then(|demand| Some((demand, policy.refusal(demand)?))) {
            return Some(Unfit::Policy {
                field: demand.field(),
                remedy: refusal.remedy_on(node),
                what: refusal.what,
            });
        }
    }
    // Where every agent is of this version nothing need be asked of the template.
    let newer = fields::newer();
    let understands =
        newer.is_subset(&host.understands) || fields::needed(template, newer).is_subset(&host.understands);
    (!understands).then_some(Unfit::OldAgent)
}

/// Whether `host` runs images of `platform`: they are its own, or its operator says so.
pub(super) fn runs(platform: &Platform, host: &HostFacts) -> bool {
    let named = host.labels.get(PLATFORMS).map(String::as_str).unwrap_or_default();
    let mut named = named.split([' ', '+']).filter_map(|named| named.split_once('/'));
    platform.is_native_to(&host.os, &host.arch)
        || named.any(|(os, arch)| platform.is_native_to(os, arch.split('/').next().unwrap_or_default()))
}

/// The property of a host that keeps a template off it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It does not meet this constraint.
    Constraint(String),
    /// It has only so many bytes of memory.
    Memory(u64),
    /// It has only so many thousandths of a processor.
    Cpu(u64),
    /// It runs no images of this platform.
    Platform(String),
    /// Its policy refuses something that the field asks for.
    Policy {
        /// The field of the spec.
        field: &'static str,
        /// In words that follow "refuses".
        what: String,
        /// What would allow it, as [`Refusal::remedy_on`](shef_common::policy::Refusal::remedy_on) says it.
        remedy: String,
    },
    /// Its agent does not understand all of the template.
    OldAgent,
}

impl Unfit {
    /// The field of a spec that asks for too much.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Constraint(_) => "placement.constraints",
            Self::Memory(_) => "resources.reserve.memory_bytes",
            Self::Cpu(_) => "resources.reserve.cpu_millis",
            Self::Platform(_) => "platform",
            Self::Policy { field, .. } => field,
            Self::OldAgent => "",
        }
    }

    /// What to say of a platform of which no host runs images, or of what every host's policy refuses; `all`:
    /// what keeps the template off each host.
    #[must_use]
    pub fn of_every_host(all: &[Self]) -> Option<FieldError> {
        let first = all.first()?;
        let message = match first {
            Self::Platform(platform) if all.iter().all(|unfit| unfit == first) => format!(
                "must be a platform of a host that may run the service, but none runs images of {platform} \
                 (a host's label platforms names what it runs beside its own)"
            ),
            Self::Policy { what, remedy, .. }
                if all.iter().all(|unfit| matches!(unfit, Self::Policy { .. })) =>
            {
                format!(
                    "must be what a host that may run the service allows, but the policy of each of them \
                     refuses {what}{remedy}"
                )
            }
            Self::Constraint(_)
            | Self::Memory(_)
            | Self::Cpu(_)
            | Self::Platform(_)
            | Self::Policy { .. }
            | Self::OldAgent => return None,
        };
        Some(FieldError { field: first.field().to_owned(), message })
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constraint(constraint) => write!(f, "does not meet {constraint}"),
            Self::Memory(bytes) => write!(f, "has only {bytes} bytes of memory"),
            Self::Cpu(millis) => write!(f, "has only {millis} millis of cpu"),
            Self::Platform(platform) => write!(f, "runs no images of {platform}"),
            Self::Policy { what, remedy, .. } => write!(f, "has a policy that refuses {what}{remedy}"),
            Self::OldAgent => f.write_str(
                "runs an agent of an older version, which does not understand all of the service's fields",
            ),
        }
    }
}

/// Whether one constraint holds for a host.
pub(super) fn holds(constraint: &Constraint, node: &NodeName, host: &HostFacts) -> bool {
    let value = match constraint.key.as_str() {
        "node.name" => Some(node.as_str()),
        "node.os" => Some(host.os.as_str()),
        "node.arch" => Some(arch(&host.arch)),
        key => key.strip_prefix("label.").and_then(|label| host.labels.get(label)).map(String::as_str),
    };
    let is_arch = constraint.key == "node.arch";
    let named = |value: &str| {
        constraint.values.iter().any(|wanted| value == if is_arch { arch(wanted) } else { wanted.as_str() })
    };
    match constraint.op {
        Operator::Is | Operator::In => value.is_some_and(named),
        Operator::IsNot => !value.is_some_and(named),
        Operator::Exists => value.is_some(),
    }
}

/// Engines and images have two names for the same processors.
fn arch(name: &str) -> &str {
    match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// In a user's words, as in `label.zone == a`.
pub(super) fn words(constraint: &Constraint) -> String {
    let Constraint { key, values, .. } = constraint;
    match constraint.op {
        Operator::Is => format!("{key} == {}", values.join(", ")),
        Operator::IsNot => format!("{key} != {}", values.join(", ")),
        Operator::In => format!("{key} in {}", values.join(", ")),
        Operator::Exists => format!("{key} exists"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (NodeName, HostFacts) {
        let labels = [("zone".to_owned(), "a".to_owned()), ("ssd".to_owned(), String::new())].into();
        let facts = HostFacts { labels, os: "linux".into(), arch: "x86_64".into(), ..HostFacts::default() };
        (NodeName::parse("h1").unwrap(), facts)
    }

    #[test]
    fn constraints_hold_as_they_read() {
        let (node, facts) = host();
        let table: [(&str, Operator, &[&str], bool); 16] = [
            ("node.name", Operator::Is, &["h1"], true),
            ("node.name", Operator::IsNot, &["h1"], false),
            ("node.name", Operator::In, &["h0", "h1"], true),
            ("node.os", Operator::Is, &["linux"], true),
            ("node.os", Operator::Is, &["windows"], false),
            ("node.arch", Operator::Is, &["x86_64"], true),
            ("node.arch", Operator::In, &["arm64", "amd64"], true),
            ("node.arch", Operator::IsNot, &["amd64"], false),
            ("label.zone", Operator::Is, &["a"], true),
            ("label.zone", Operator::In, &["b", "c"], false),
            ("label.zone", Operator::Exists, &[], true),
            ("label.ssd", Operator::Exists, &[], true),
            ("label.gpu", Operator::Exists, &[], false),
            ("label.gpu", Operator::Is, &["a"], false),
            ("label.gpu", Operator::IsNot, &["a"], true),
            ("label.gpu", Operator::In, &["a"], false),
        ];
        for (key, op, values, expected) in table {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let constraint = Constraint { key: key.to_owned(), op, values };
            assert_eq!(holds(&constraint, &node, &facts), expected, "{}", words(&constraint));
        }
    }
}
