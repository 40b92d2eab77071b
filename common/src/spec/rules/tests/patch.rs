//! Changes of some fields of a spec.

use serde_json::{Value, json};

use super::{object, said, with};
use crate::spec::{Mode, Rebalance, ServiceSpec};

fn patched(before: &ServiceSpec, patch: Value) -> Result<ServiceSpec, String> {
    before.patched(&object(patch)).map_err(|errors| said(&errors))
}

#[test]
fn a_patch_changes_what_it_names_and_null_brings_back_the_default() {
    let before =
        with(json!({"replicas": 3, "env": {"A": "1", "B": "2"}, "update": {"parallelism": 4, "canary": 1}}))
            .unwrap();
    let after = patched(&before, json!({"env": {"A": null, "C": "3"}, "update": {"canary": null}})).unwrap();
    let wanted =
        with(json!({"replicas": 3, "env": {"B": "2", "C": "3"}, "update": {"parallelism": 4}})).unwrap();
    assert_eq!(after, wanted);
    assert_eq!(
        patched(&after, json!({"env": null, "replicas": null, "update": null})).unwrap(),
        with(json!({})).unwrap()
    );
    let rebalancing = patched(&before, json!({"rebalance": {"on": {"per_minute": 6}}})).unwrap();
    assert_eq!(rebalancing, ServiceSpec { rebalance: Rebalance::On { per_minute: 6 }, ..before.clone() });
    assert!(std::sync::Arc::ptr_eq(&rebalancing.template, &before.template), "an equal template is the same");
    assert_eq!(patched(&rebalancing, json!({"rebalance": "off"})).unwrap(), before);
}

#[test]
fn a_patch_that_would_break_a_rule_is_refused() {
    let before = with(json!({"resources": {"limit": {"cpu_millis": 500}}})).unwrap();
    let said = patched(&before, json!({"resources": {"reserve": {"cpu_millis": 600}}})).unwrap_err();
    assert_eq!(said, "resources.reserve.cpu_millis must not be above the limit of 500, but is 600");
    assert_eq!(patched(&before, json!({"image": null})).unwrap_err(), "image is required");
    assert_eq!(
        patched(&before, json!({"name": "other"})).unwrap_err(),
        "name must be web as in the address, but is other"
    );
    assert_eq!(patched(&before, json!({"bogus": 1})).unwrap_err(), "bogus is not a field of this body");
}

#[test]
fn a_patch_keeps_what_counts_forced_restarts() {
    let mut before = with(json!({})).unwrap();
    std::sync::Arc::make_mut(&mut before.template).forced = 2;
    assert_eq!(patched(&before, json!({"replicas": 2})).unwrap().template.forced, 2);
    assert_eq!(patched(&before, json!({"forced": 3})).unwrap_err(), "forced is not a field of this body");
}

#[test]
fn a_service_goes_from_a_number_to_one_a_host_and_back() {
    let three = with(json!({"replicas": 3})).unwrap();
    // As where one body has both: the number is not dropped without a word.
    let said = patched(&three, json!({"mode": "global"})).unwrap_err();
    let expected = "replicas is 3, but must not be given in mode global: there is one replica a host \
                    (replicas: null gives it up)";
    assert_eq!(said, expected);
    let both = patched(&three, json!({"mode": "global", "image": "A"})).unwrap_err();
    assert!(both.contains("image ") && both.contains(expected), "{both}");
    let given = patched(&three, json!({"mode": "global", "replicas": 3})).unwrap_err();
    assert_eq!(given, "replicas must not be given in mode global: there is one replica a host");
    let global = patched(&three, json!({"mode": "global", "replicas": null})).unwrap();
    assert_eq!((global.mode, global.replicas), (Mode::Global, 0));
    assert_eq!(patched(&global, json!({"mode": "global"})).unwrap(), global);
    assert_eq!(patched(&global, json!({"replicas": 0})).unwrap(), global, "as it is shown");
    assert_eq!(patched(&global, json!({"labels": {"a": "b"}})).unwrap().mode, Mode::Global);
    let said = patched(&global, json!({"replicas": 2})).unwrap_err();
    assert!(said.starts_with("replicas "), "{said}");
    assert_eq!(patched(&global, json!({"mode": null, "replicas": 2})).unwrap().replicas, 2);
    assert_eq!(patched(&global, json!({"mode": "replicated"})).unwrap().replicas, 1);
}
