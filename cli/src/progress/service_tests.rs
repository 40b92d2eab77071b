use serde_json::{Value, json};

use super::*;

fn view(more: Value) -> View {
    let mut view = json!({
        "name": "web", "image": "a:1", "generation": 2, "version": 5, "state": "running",
        "wanted": 3, "running": 3, "missing": [],
    });
    view.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(view).unwrap()
}
fn asked() -> ServiceGoal {
    ServiceGoal::Done(Written { name: "web".to_owned(), generation: 2, version: 5, unchanged: false })
}

#[test]
fn a_goal_is_reached_only_when_what_was_asked_runs() {
    let going = |words: &str| Outlook::Going(words.to_owned());
    let missed = |words: &str| Outlook::Missed(words.to_owned());
    for (seen, outlook) in [
        (Some(json!({})), Outlook::Reached("web: 3 of 3 healthy, generation 2".to_owned())),
        (Some(json!({"version": 4})), going("3 of 3 healthy")),
        (Some(json!({"version": 9})), Outlook::Reached("web: 3 of 3 healthy, generation 2".to_owned())),
        (
            Some(json!({"state": "pending", "running": 1, "missing": ["web-000002 starts", "x"]})),
            going("1 of 3 healthy; web-000002 starts (and 1 more)"),
        ),
        (
            Some(json!({"state": "pending", "missing": ["m"],
                    "rollout": {"state": "running", "message": "1 of 3 replaced"},
                    "failing": "no image"})),
            going("1 of 3 replaced: no image"),
        ),
        (Some(json!({"on_trial": 2})), going("3 of 3 healthy; 2 of 3 on trial")),
        (Some(json!({"state": "pending", "unconfirmed": 2})), going("1 of 3 healthy, 2 not confirmed")),
        (
            Some(json!({"state": "pending",
                "trial_failed": "web-000001 failed on h1: exited with code 1"})),
            missed(
                "web: the trial has failed, and is tried again: web-000001 failed on h1: exited with \
                 code 1",
            ),
        ),
        (
            Some(json!({"state": "pending", "trial_failed": "it crashed", "ended_for_good": 2})),
            missed("web: the trial has failed, and 2 of 3 replicas are not started again: it crashed"),
        ),
        (
            Some(json!({"state": "pending", "wanted": 1, "trial_failed": "x", "ended_for_good": 1})),
            missed("web: the trial has failed, and it is not started again: x"),
        ),
        (
            Some(json!({"state": "pending", "missing": ["web-000001 failed on h1"], "ended_for_good": 1})),
            missed(
                "web: what ended with an error stays so: 1 of 3 replicas are not started again: \
                 web-000001 failed on h1",
            ),
        ),
        (
            Some(json!({"state": "pending", "ended_for_good": 1,
                    "rollout": {"state": "running", "message": "1 of 3 replaced"}})),
            going("1 of 3 replaced"),
        ),
        (
            Some(json!({"version": 4, "state": "pending", "missing": ["m"], "trial_failed": "x"})),
            going("3 of 3 healthy; m"),
        ),
        (
            Some(json!({"state": "pending", "rollout": {"state": "canary",
                    "message": "1 of 3 replaced; waits to be promoted"}})),
            Outlook::Halts(
                "web: 1 of 3 replaced; waits to be promoted: `shef rollout promote web` updates the \
                 other replicas, `shef rollout abort web` goes back"
                    .to_owned(),
            ),
        ),
        (
            Some(json!({"state": "pending", "rollout": {"state": "paused", "message": "paused"},
                    "failing": "it crashed"})),
            missed(
                "web: paused: it crashed; `shef rollout resume web` goes on, `shef rollout abort web` \
                 goes back",
            ),
        ),
        (
            Some(json!({"state": "pending", "failing": "exited with code 3; the engine restarts it",
                    "rollout": {"state": "paused", "message": "paused: w failed: ended with code 3",
                        "last_failure": "w failed: ended with code 3"}})),
            missed(
                "web: paused: w failed: ended with code 3; `shef rollout resume web` goes on, `shef \
                 rollout abort web` goes back",
            ),
        ),
        (
            Some(json!({"state": "pending", "failing": "exited with code 3; the engine restarts it",
                    "missing": ["w failed: ended with code 3", "rollout: x"],
                    "rollout": {"state": "running", "message": "x; w failed: ended with code 3"}})),
            going("x; w failed: ended with code 3"),
        ),
        (
            Some(json!({"version": 4, "state": "pending",
                    "rollout": {"state": "paused", "message": "paused"}})),
            going("paused"),
        ),
        (Some(json!({"state": "deleting"})), missed("web is being deleted")),
        (
            Some(json!({"generation": 1, "last_rollout": {"generation": 2, "rolled_back": "it crashed"}})),
            missed("web: generation 2 was rolled back to 1: it crashed"),
        ),
        (
            Some(json!({"generation": 3, "last_rollout": {"generation": 3, "rolled_back": null}})),
            missed("web: generation 3 runs instead of 2"),
        ),
        (None, missed("web was deleted meanwhile")),
    ] {
        assert_eq!(asked().outlook(seen.clone().map(view).as_ref()), outlook, "{seen:?}");
    }
}

#[test]
fn who_stops_waiting_reads_what_goes_on_and_how_to_follow_it() {
    let said = asked().on_its_own();
    assert!(
        said.starts_with("the master goes on with web: `shef ps web`") && said.contains("abort web"),
        "{said}"
    );
    assert!(!ServiceGoal::Gone("web".to_owned()).on_its_own().contains("abort"));
}

#[test]
fn a_probation_is_shown_with_its_time_and_its_failures() {
    let probation = json!({"from": 1, "until": 61_000, "failures": 0});
    let on_probation = view(json!({"probation": probation}));
    let words = "on probation for 60 s more: failures until then take it back to generation 1";
    assert_eq!(on_probation.notes(WallMs(1_000)).as_deref(), Some(words));
    let failed =
        view(json!({"probation": {"from": 1, "until": 0, "failures": 1, "last_failure": "it crashed"}}));
    let words = "on probation for 0 s more: failures until then take it back to generation 1 (1 \
                 failed: it crashed)";
    assert_eq!(failed.notes(WallMs(1_000)).as_deref(), Some(words));
    assert_eq!(view(json!({})).notes(WallMs(0)), None);
}

#[test]
fn a_service_without_other_news_shows_what_was_rolled_back() {
    let rolled_back = json!({"last_rollout": {"generation": 3, "rolled_back": "it crashed"}});
    let words = "generation 3 was rolled back: it crashed";
    assert_eq!(view(rolled_back).notes(WallMs(0)).as_deref(), Some(words));
}

#[test]
fn what_is_to_be_gone_is_waited_for_until_it_is() {
    let gone = ServiceGoal::Gone("web".to_owned());
    assert_eq!(gone.outlook(None), Outlook::Reached("web is gone".to_owned()));
    let waits = view(json!({"state": "deleting", "running": 0, "wanted": 0, "missing": ["waits for h2"]}));
    assert_eq!(gone.outlook(Some(&waits)), Outlook::Going("0 of 0 healthy; waits for h2".to_owned()));
    assert_eq!(gone.outlook(Some(&view(json!({})))), Outlook::Missed("web was created anew".to_owned()));
}
