//! What `shef apply --plan` prints.

use std::fmt::Write as _;

use serde_json::Value;
use shef_common::spec::Order;
use shef_master::service::{ActionKind, Preview};

use crate::{Failure, client::read, say, table::table};

/// Prints the plan that the API has answered.
pub(super) fn print(answer: Value, json: bool) -> Result<(), Failure> {
    if json {
        say::line(answer);
    } else {
        say::line(shown(&read(answer)?).trim_end());
    }
    Ok(())
}

/// A plan as a person reads it.
fn shown(plan: &Preview) -> String {
    let mut text = String::new();
    let kept = plan.actions.iter().filter(|action| action.action == ActionKind::Keep).count();
    if plan.changes.is_empty() && kept == plan.actions.len() {
        _ = writeln!(text, "{}: nothing would change; kept as they are: {kept}", plan.name);
        return text;
    }
    let version = match plan.version {
        Some(version) => format!("has version {version}"),
        None => "does not exist yet".to_owned(),
    };
    let order = match plan.order {
        Order::StopFirst => "stop-first",
        Order::StartFirst | Order::Auto => "start-first",
    };
    let rollout = if plan.starts_rollout { format!(", by a rollout, {order}") } else { String::new() };
    _ = writeln!(text, "{} {version}; it would run generation {}{rollout}", plan.name, plan.generation);
    for change in &plan.changes {
        _ = match (&change.from, &change.to) {
            (Value::Null, to) => writeln!(text, "  + {}: {to}", change.path),
            (from, Value::Null) => writeln!(text, "  - {}: {from}", change.path),
            (from, to) => writeln!(text, "  ~ {}: {from} -> {to}", change.path),
        };
    }
    let rows: Vec<[String; 6]> =
        plan.actions.iter().filter(|action| action.action != ActionKind::Keep).map(row).collect();
    if !rows.is_empty() {
        for line in table(["SLOT", "ACTION", "REPLICA", "FROM", "TO", "WHY"], &rows) {
            _ = writeln!(text, "{line}");
        }
    }
    if kept > 0 {
        _ = writeln!(text, "kept as they are: {kept}");
    }
    for warning in &plan.warnings {
        _ = writeln!(text, "warning: {warning}");
    }
    if let Some(version) = plan.version {
        _ = writeln!(
            text,
            "to apply exactly this plan: the same command with --if-version {version} instead of --plan"
        );
    }
    text
}

fn row(action: &shef_master::service::Action) -> [String; 6] {
    let word = match action.action {
        ActionKind::Create => "create",
        ActionKind::Replace => "replace",
        ActionKind::Keep => "keep",
        ActionKind::Move => "move",
        ActionKind::Remove => "remove",
    };
    let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
    [
        action.slot.0.to_string(),
        word.to_owned(),
        text(action.replica.as_ref().map(shef_common::ids::ReplicaId::as_str)),
        text(action.from_host.as_ref().map(shef_common::ids::NodeName::as_str)),
        text(action.to_host.as_ref().map(shef_common::ids::NodeName::as_str)),
        action.reason.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_shown_with_its_differences_and_what_becomes_of_each_slot() {
        let plan = json!({
            "name": "web", "version": 7, "generation": 4, "starts_rollout": true, "order": "start-first",
            "changes": [
                {"path": "env.A", "from": "1", "to": "2"},
                {"path": "ports[0]", "from": null, "to": {"target": 80}},
                {"path": "user", "from": "www", "to": null},
            ],
            "actions": [
                {"slot": 1, "action": "replace", "replica": "web-000001", "from_host": "h1",
                    "to_host": "h2", "reason": "of generation 3"},
                {"slot": 2, "action": "keep", "replica": "web-000002", "from_host": "h2", "to_host": "h2",
                    "reason": "runs"},
                {"slot": 3, "action": "create", "reason": "1 of 1 hosts is cordoned"},
            ],
        });
        insta::assert_snapshot!(shown(&serde_json::from_value(plan).unwrap()), @r#"
        web has version 7; it would run generation 4, by a rollout, start-first
          ~ env.A: "1" -> "2"
          + ports[0]: {"target":80}
          - user: "www"
        SLOT  ACTION   REPLICA     FROM  TO  WHY
        1     replace  web-000001  h1    h2  of generation 3
        3     create   -           -     -   1 of 1 hosts is cordoned
        kept as they are: 1
        to apply exactly this plan: the same command with --if-version 7 instead of --plan
        "#);
        let none = json!({
            "name": "web", "version": 7, "generation": 3, "starts_rollout": false, "order": "start-first",
            "changes": [],
            "actions": [{"slot": 1, "action": "keep", "replica": "web-000001", "from_host": "h1",
                "to_host": "h1", "reason": "runs"}],
        });
        let none = shown(&serde_json::from_value(none).unwrap());
        assert_eq!(none, "web: nothing would change; kept as they are: 1\n");
    }
}
