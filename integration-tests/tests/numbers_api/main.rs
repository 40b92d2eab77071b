//! Numbers that no honest count comes to, in every message and every stored record: a clear refusal or no
//! harm, no panic, no number that becomes another, nothing that stays stuck, and a store that the next master
//! reads.

mod samples;
mod walk;

use serde_json::{Value, json};
use shef_agent::engine::fake::FakeEngineOptions;
use shef_common::{
    bounds,
    ids::{ClusterId, Epoch, Generation, LeaderId, NodeName, ServiceName},
};
use shef_integration_tests::cluster::{Api, Cluster, master_config};
use shef_master::store::{Key, LeadOutcome, Part, Store, Write, fake::FakeStore};

use self::walk::{EXTREMES, Place, missing, places, with};

#[test]
fn every_number_of_every_message_and_record_is_walked_over() {
    for sample in samples::all() {
        let values = sample.values();
        for value in &values {
            (sample.read)(value).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        }
        assert_eq!(missing(&sample.schema, &values), [].into(), "{}: numbers without a sample", sample.name);
    }
}

#[test]
fn a_number_is_taken_as_it_is_or_refused_and_named() {
    for sample in samples::all() {
        let places = sample
            .values()
            .into_iter()
            .flat_map(|value| places(value).into_iter().map(move |place| (value, place)));
        for (value, place) in places {
            for extreme in EXTREMES {
                let given = with(value, &place, extreme);
                match (sample.read)(&given) {
                    Ok(understood) => {
                        let before = numbers(&(sample.read)(value).unwrap());
                        let after = numbers(&understood);
                        let added: Vec<_> = after.iter().filter(|number| !before.contains(number)).collect();
                        // Zero is often left out.
                        let kept = added.iter().all(|number| number.as_f64() == extreme.parse().ok());
                        assert!(kept, "{} {place:?}: {extreme} became {added:?}", sample.name);
                        let beyond = added.iter().any(|number| number.as_u64() > Some(bounds::MAX));
                        assert!(
                            !beyond || is_handed_on(&place),
                            "{} {place:?}: {extreme} was taken",
                            sample.name
                        );
                    }
                    Err(why) => {
                        let named = [
                            "must be at most",
                            "invalid value",
                            "invalid type",
                            "data did not match",
                            "out of range",
                            "refers to template",
                        ];
                        assert!(
                            named.iter().any(|words| why.contains(words)),
                            "{} {place:?}: {extreme}: {why}",
                            sample.name
                        );
                    }
                }
            }
        }
    }
}

/// Numbers that are told to the engine, or come from it, as they are: nobody counts on from them.
fn is_handed_on(place: &Place) -> bool {
    let is_one = |pointer: &str| {
        pointer.contains("/ulimits/") || pointer.ends_with("/exit_code") || pointer.ends_with("_percent")
    };
    matches!(place, Place::Value(pointer) if is_one(pointer))
}

fn numbers(value: &Value) -> Vec<serde_json::Number> {
    match value {
        Value::Number(number) => vec![number.clone()],
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Object(fields) => fields.values().flat_map(numbers).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => vec![],
    }
}

/// What the calls with extreme numbers may be answered with: an error of the program is none of it.
fn is_answer(status: u16) -> bool {
    matches!(status, 200 | 400 | 409 | 422 | 503)
}

/// The cluster takes a change and carries it out.
async fn works(api: &Api, replicas: u32, after: &str) {
    let body = json!({ "name": "web", "image": "app", "replicas": replicas });
    let answer = api.call("PUT", "/v1/services/web?wait=30s", body).await;
    assert!(
        matches!(answer.status, 200 | 201) && answer.body["converged"] == true,
        "after {after}: {answer:?}, {:?}",
        api.get("/v1/nodes").await.body
    );
    let answer = api.get("/v1/services/web").await;
    assert_eq!(answer.body["running"], replicas, "{answer:?}");
}

#[actix_rt::test]
async fn whatever_numbers_a_message_brings_the_cluster_works_on() {
    let cluster = Cluster::plain(1, FakeEngineOptions::default()).await;
    works(&cluster.api, 2, "the start").await;
    let agent = Api::new(cluster.agents[0].address());
    let alive = agent.get(shef_common::protocol::PROBE_PATH).await.body;
    let id = cluster.api.get("/v1/cluster").await.body["cluster"].clone();
    // What a registration in the host's name and the refusal of a push tell.
    let mut own = samples::registration();
    (own["cluster"], own["accepted"], own["holds"]) = (id.clone(), Value::Null, json!([]));
    (own["node"], own["uid"], own["boot"]) = (json!("h0"), alive["uid"].clone(), alive["boot"].clone());
    own["host"]["agent_url"] = json!(agent.url);
    own["host"]["policy"] = Value::Null;
    let registered = cluster.api.call("POST", shef_common::protocol::REGISTER_PATH, own.clone()).await;
    assert_eq!(registered.status, 200, "{registered:?}");
    let fence = registered.body["fence"].clone();
    let accepted = async || {
        let mut push = samples::push();
        (push["cluster"], push["fence"], push["base"], push["revision"]) =
            (id.clone(), fence.clone(), json!(0), json!(1));
        push["set"] = json!([]);
        agent.call("POST", shef_common::protocol::ASSIGNMENTS_PATH, push).await.body["accepted"].clone()
    };
    let mut replicas = 2;
    for what in ["registration", "host", "report", "push"] {
        let sample = match what {
            "registration" | "host" => samples::registration(),
            "report" => samples::report(),
            _ => samples::push(),
        };
        for place in places(&sample) {
            let mut sample = sample.clone();
            sample["cluster"] = id.clone();
            match what {
                // In the name of the host that is there, and of one that is not.
                "registration" => {
                    (sample["node"], sample["uid"], sample["boot"]) =
                        (json!("h0"), alive["uid"].clone(), alive["boot"].clone());
                    (sample["accepted"], sample["host"]["agent_url"]) = (accepted().await, json!(agent.url));
                }
                "report" => {
                    (sample["node"], sample["boot"], sample["accepted"]) =
                        (json!("h0"), alive["boot"].clone(), accepted().await);
                }
                "host" => {
                    (sample["node"], sample["uid"]) = (json!("h8"), json!("00000000000000c8"));
                    sample["accepted"]["fence"] = fence.clone();
                    (sample["holds"][0]["replica"], sample["holds"][0]["service"]) =
                        (json!("far-000001"), json!("far"));
                }
                _ => {}
            }
            for extreme in EXTREMES {
                if what == "push" {
                    let now = accepted().await;
                    (sample["fence"], sample["base"]) = (now["fence"].clone(), now["revision"].clone());
                    sample["revision"] = json!(now["revision"].as_u64().unwrap_or_default() + 1);
                }
                let body = with(&sample, &place, extreme);
                let answer = match what {
                    "registration" | "host" => {
                        cluster.api.call("POST", shef_common::protocol::REGISTER_PATH, body).await
                    }
                    "report" => cluster.api.call("POST", shef_common::protocol::REPORT_PATH, body).await,
                    _ => agent.call("POST", shef_common::protocol::ASSIGNMENTS_PATH, body).await,
                };
                assert!(is_answer(answer.status), "{what} {place:?} {extreme}: {answer:?}");
            }
        }
        if what == "registration" {
            // What the host said last of what it takes is kept, and lets it take next to nothing.
            own["accepted"] = accepted().await;
            let answer = cluster.api.call("POST", shef_common::protocol::REGISTER_PATH, own.clone()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        if what == "host" {
            // Nobody serves there: nothing is to be placed on it.
            let cordoned = cluster.api.raw("POST", "/v1/nodes/h8/cordon", &[], vec![]).await;
            assert_eq!(cordoned.status, 200, "{cordoned:?}");
        }
        replicas = 5 - replicas;
        works(&cluster.api, replicas, what).await;
    }
    let dir = cluster.stop().await;
    let mut cluster = Cluster::start(dir).await;
    cluster.api.until("/v1/services/web", |answer| answer.status == 200).await;
    cluster
        .add_agent("h0", "unix:///nowhere", shef_agent::EngineChoice::Fake(FakeEngineOptions::default()))
        .await;
    cluster.api.until("/v1/nodes/h0", |answer| answer.body["state"] == "ready").await;
    cluster.stop().await;
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

/// What the next master finds.
async fn led(store: &FakeStore) -> LeadOutcome {
    let (leader, cluster) =
        (LeaderId::parse("00000000000000a2").unwrap(), ClusterId::parse("00000000000000cc").unwrap());
    store.lead(&leader, Epoch(0), &cluster).await.unwrap()
}

/// A store that holds these records.
async fn store_with(records: impl IntoIterator<Item = (Key, Value)>) -> FakeStore {
    let store = FakeStore::new();
    let (leader, cluster) =
        (LeaderId::parse("00000000000000a1").unwrap(), ClusterId::parse("00000000000000cc").unwrap());
    let led = store.lead(&leader, Epoch(0), &cluster).await.unwrap();
    let write =
        |(key, value): (Key, Value)| Write { key, expect: None, value: Some(value.to_string().into()) };
    let writes: Vec<Write> = records.into_iter().map(write).collect();
    store.commit(&led.cluster, &led.fence, &writes).await.unwrap();
    store
}

/// The parts of a service in format 2.
fn parts() -> Vec<(Key, Value)> {
    let key = |part| Key::Service(service("web"), part);
    let template = |generation| (key(Part::Template(Generation(generation))), samples::template());
    let (head, page) = (samples::service_head(), samples::service_page());
    let templates = [1, 2, 3].map(template);
    [(key(Part::Head), head), (key(Part::Slots(0)), page)].into_iter().chain(templates).collect()
}

#[actix_rt::test]
async fn whatever_numbers_a_record_holds_a_master_starts_or_names_it() {
    let alone = [
        (Key::head(service("web")), samples::service_record()),
        (Key::Node(NodeName::parse("h9").unwrap()), samples::node_record()),
        (Key::Stats, samples::counts()),
    ];
    let alone = alone.map(|(key, record)| (key, record, vec![]));
    let head_and_page = parts().into_iter().take(2).map(|(key, record)| {
        let others = parts().into_iter().filter(|(other, _)| *other != key).collect();
        (key, record, others)
    });
    for (key, record, others) in alone.into_iter().chain(head_and_page) {
        for place in places(&record) {
            for extreme in EXTREMES {
                let record = with(&record, &place, extreme);
                let store = store_with(others.iter().cloned().chain([(key.clone(), record)])).await;
                let read = shef_master::recover(&led(&store).await.records).map(|_| ());
                if let Err(error) = &read {
                    let text = error.to_string();
                    assert!(text.contains(&key.to_string()), "{place:?} {extreme}: {text}");
                    continue;
                }
                // Each start takes a moment: the largest numbers that are read, and none at all.
                if !matches!(extreme, "0" | "4294967295" | "9007199254740991") {
                    continue;
                }
                let dir = tempfile::tempdir().unwrap();
                let started =
                    shef_master::start_on(master_config(dir.path()), std::sync::Arc::new(store.clone()))
                        .await;
                let master = started.unwrap_or_else(|error| panic!("{place:?} {extreme}: {error}"));
                let api = Api::new(master.address());
                if matches!(key, Key::Service(..)) {
                    let shown = api.until("/v1/services/web", |answer| answer.status != 503).await;
                    assert_eq!(shown.status, 200, "{place:?} {extreme}: {shown:?}");
                    // A change that needs a new generation, and the deletion, which is always possible.
                    let change = json!({ "image": "app:2", "ports": [] });
                    let changed = api.raw(
                        "PATCH",
                        "/v1/services/web",
                        &[("content-type", "application/merge-patch+json")],
                        change.to_string().into(),
                    );
                    let changed = changed.await;
                    assert!(
                        matches!(changed.status, 200 | 202 | 400 | 409 | 422),
                        "{place:?} {extreme}: {changed:?}"
                    );
                    let deleted = api.raw("DELETE", "/v1/services/web", &[], vec![]).await;
                    assert!(matches!(deleted.status, 200 | 202 | 204), "{place:?} {extreme}: {deleted:?}");
                }
                master.stop().await;
                let read = shef_master::recover(&led(&store).await.records).map(|_| ());
                assert!(read.is_ok(), "{place:?} {extreme}: the next master cannot read it: {read:?}");
            }
        }
    }
}
