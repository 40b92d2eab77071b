//! What differs between two specs, field by field.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A field that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FieldChange {
    /// The path of the field, as in `env.A` or `ports[0].published`.
    pub path: String,
    /// The present value; `null`: the default.
    pub from: Value,
    /// The new value; `null`: the default.
    pub to: Value,
}

/// The exact differences from `from` to `to`, by path. Objects and arrays are
/// compared part by part; what only one of the two says is shown as a whole.
#[must_use]
pub fn diff(from: &Value, to: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    walk("", from, to, &mut changes);
    changes
}

fn walk(path: &str, from: &Value, to: &Value, changes: &mut Vec<FieldChange>) {
    match (from, to) {
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(
                    &path,
                    old.get(key).unwrap_or(&Value::Null),
                    new.get(key).unwrap_or(&Value::Null),
                    changes,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for at in 0..old.len().max(new.len()) {
                let path = format!("{path}[{at}]");
                walk(
                    &path,
                    old.get(at).unwrap_or(&Value::Null),
                    new.get(at).unwrap_or(&Value::Null),
                    changes,
                );
            }
        }
        (from, to) if from == to => {}
        (from, to) => changes.push(FieldChange { path: path.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_that_differs_is_named_with_both_values() {
        let table = [
            (json!({}), json!({}), vec![]),
            (json!({"replicas": 1}), json!({"replicas": 3}), vec![("replicas", json!(1), json!(3))]),
            (
                json!({"env": {"A": "1", "B": "2", "C": "3"}}),
                json!({"env": {"A": "1", "B": "9", "D": "4"}}),
                vec![
                    ("env.B", json!("2"), json!("9")),
                    ("env.C", json!("3"), Value::Null),
                    ("env.D", Value::Null, json!("4")),
                ],
            ),
            (
                json!({"ports": [{"target": 80, "published": 8080}]}),
                json!({"ports": [{"target": 80, "published": 8081}, {"target": 53}]}),
                vec![
                    ("ports[0].published", json!(8080), json!(8081)),
                    ("ports[1]", Value::Null, json!({"target": 53})),
                ],
            ),
            (
                json!({"command": ["serve", "--fast"]}),
                json!({"command": ["serve"]}),
                vec![("command[1]", json!("--fast"), Value::Null)],
            ),
            (
                json!({"on_disconnect": "keep"}),
                json!({"on_disconnect": {"stop_after": {"seconds": 5}}}),
                vec![("on_disconnect", json!("keep"), json!({"stop_after": {"seconds": 5}}))],
            ),
            (json!({}), json!({"health": {"a": 1}}), vec![("health", Value::Null, json!({"a": 1}))]),
            (Value::Null, json!({"name": "web"}), vec![("", Value::Null, json!({"name": "web"}))]),
        ];
        for (from, to, expected) in table {
            let found: Vec<_> =
                diff(&from, &to).into_iter().map(|change| (change.path, change.from, change.to)).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(path, from, to)| (path.to_owned(), from, to)).collect();
            assert_eq!(found, expected, "{from} => {to}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from),
            "[a-b]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Equal values have no difference. A difference is the same in both directions, with its sides
        /// exchanged.
        #[test]
        fn the_same_has_no_difference_and_the_way_back_is_the_way_turned_round(
            one in value(), other in value(),
        ) {
            prop_assert_eq!(diff(&one, &one), vec![]);
            let back: Vec<_> = diff(&other, &one)
                .into_iter()
                .map(|change| FieldChange { path: change.path, from: change.to, to: change.from })
                .collect();
            let there = diff(&one, &other);
            prop_assert_eq!(&there, &back);
        }
    }
}
