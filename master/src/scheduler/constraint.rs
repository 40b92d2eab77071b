//! Conditions on a host: its name, what it is, and its operator's labels.

use shef_common::{
    ids::NodeName,
    spec::{Constraint, Operator, Placement},
};

use crate::membership::HostFacts;

/// Whether `host` meets every constraint of `placement`.
#[must_use]
pub fn allows(placement: &Placement, node: &NodeName, host: &HostFacts) -> bool {
    placement.constraints.iter().all(|constraint| holds(constraint, node, host))
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
    let named =
        |value: &str| constraint.values.iter().any(|wanted| value == if is_arch { arch(wanted) } else { wanted.as_str() });
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
