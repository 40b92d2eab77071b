use serde_json::{Value, json};
use shef_common::{
    clock::WallMs,
    image::ImageRef,
    spec::{ServiceSpec, Template},
};

use super::*;

/// The parts of a service with one replica, as JSON by their keys.
fn parts() -> BTreeMap<String, Value> {
    let name = ServiceName::parse("web").unwrap();
    let template = Template::of(ImageRef::parse("nginx").unwrap());
    let mut record = ServiceRecord::new(ServiceSpec::of(name, 1, template), WallMs(1));
    let replica = json!({"id": "web-000007", "slot": 65, "generation": 1, "node": "h1", "want": "run"});
    record.replicas.push(serde_json::from_value(replica).unwrap());
    let records = Stored { record, versions: Versions::default() }.records().unwrap();
    let part = |record: Record| (record.key.to_string(), serde_json::from_slice(&record.value).unwrap());
    records.into_iter().map(part).collect()
}

fn read_parts(parts: &BTreeMap<String, Value>) -> Result<Stored, String> {
    let record = |(key, value): (&String, &Value)| Record {
        key: key.parse().unwrap(),
        version: Version(1),
        value: value.to_string().into(),
    };
    let records: Vec<Record> = parts.iter().map(record).collect();
    read(&records).map_err(|(key, error)| format!("{key}: {error}"))
}

#[test]
fn a_replica_is_stored_on_its_slots_page_without_defaults() {
    let parts = parts();
    assert_eq!(
        parts.keys().collect::<Vec<_>>(),
        ["service/web", "service/web/slots/1", "service/web/template/1"]
    );
    let page = json!({
        "nodes": ["h1"],
        "replicas": [{"slot": 65, "number": 7, "generation": 1, "node": 0}],
    });
    assert_eq!(parts["service/web/slots/1"], page);
    assert!(parts["service/web"]["spec"].get("image").is_none());
}

#[test]
fn parts_that_do_not_fit_together_are_named() {
    assert!(read_parts(&parts()).is_ok());
    let replica = |field: &str, value: u64| {
        let mut parts = parts();
        parts.get_mut("service/web/slots/1").unwrap()["replicas"][0][field] = value.into();
        read_parts(&parts).unwrap_err()
    };
    assert_eq!(replica("node", 1), "service/web/slots/1: it names 1 hosts, and none at 1");
    assert_eq!(replica("slot", 3), "service/web/slots/1: slot 3 is not on page 1");
    assert!(replica("number", 1_000_000_000).starts_with("service/web/slots/1: the replica in slot 65: "));
    let without = |key: &str| {
        let mut parts = parts();
        parts.remove(key);
        read_parts(&parts).unwrap_err()
    };
    assert_eq!(without("service/web/template/1"), "service/web: the template of its generation 1 is missing");
    assert_eq!(without("service/web"), "service/web/slots/1: its service has no head");
}
