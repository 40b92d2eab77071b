use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;
use crate::{
    ids::{Epoch, Generation, LeaderId, ServiceName, Slot},
    spec::OnDisconnect,
};

fn template(image: &str) -> Arc<Template> {
    Template::of(ImageRef::parse(image).unwrap()).into()
}

fn assignment(n: u32, template: Arc<Template>) -> Assignment {
    let service = ServiceName::parse("web").unwrap();
    Assignment {
        replica: ReplicaId::new(&service, n),
        service,
        slot: Slot(n),
        generation: Generation(1),
        template,
        on_disconnect: OnDisconnect::Keep,
        image_digest: None,
        prepare: false,
    }
}

fn push(set: Vec<Assignment>) -> Push {
    Push {
        cluster: ClusterId::parse("00000000000000cc").unwrap(),
        fence: Fence { epoch: Epoch(3), leader: LeaderId::parse("00000000000000aa").unwrap() },
        base: Some(Revision(6)),
        holds: None,
        revision: Revision(7),
        set,
        remove: vec![],
        by_name: true,
        credentials: BTreeMap::new(),
        templates_once: true,
    }
}

#[test]
fn an_agent_of_version_0_1_takes_no_push_of_ours_for_a_snapshot() {
    let digest = LedgerDigest::of([&assignment(1, template("nginx"))]);
    let set = vec![assignment(1, template("nginx"))];
    for (holds, set) in [(Some(digest), vec![]), (None, vec![]), (None, set)] {
        let push = Push { base: None, holds, ..push(set) };
        let written = serde_json::to_value(&push).unwrap();
        assert_eq!(written["base"], Revision::MAX.0, "{written}");
        assert_eq!(serde_json::from_value::<Push>(written).unwrap(), push);
    }
}

#[test]
fn a_push_is_written_with_each_template_once() {
    let shared = template("nginx:1.27");
    // The same template in another place in memory is the same template.
    let set = vec![
        assignment(1, shared.clone()),
        assignment(2, template("redis:7")),
        assignment(3, shared),
        assignment(4, template("nginx:1.27")),
    ];
    let push = push(set);
    let text = serde_json::to_string_pretty(&push).unwrap();
    assert_snapshot!(text, @r#"
    {
      "cluster": "00000000000000cc",
      "fence": {
        "epoch": 3,
        "leader": "00000000000000aa"
      },
      "base": 6,
      "revision": 7,
      "templates": [
        {"image":"nginx:1.27","stop_grace_s":10},
        {"image":"redis:7","stop_grace_s":10}
      ],
      "set": [
        {"generation":1,"replica":"web-000001","service":"web","slot":1,"template":0},
        {"generation":1,"replica":"web-000002","service":"web","slot":2,"template":1},
        {"generation":1,"replica":"web-000003","service":"web","slot":3,"template":0},
        {"generation":1,"replica":"web-000004","service":"web","slot":4,"template":0}
      ],
      "remove": [],
      "by_name": true
    }
    "#);
    assert_eq!(serde_json::from_str::<Push>(&text).unwrap(), push);
    let whole = serde_json::to_value(&Push { templates_once: false, ..push.clone() }).unwrap();
    assert!(whole.get("templates").is_none() && whole["set"][3]["template"]["image"] == "nginx:1.27");
}

#[test]
fn replicas_that_share_a_template_share_it_in_memory_when_they_are_read() {
    let shared = template("nginx:1.27");
    let push = push((0..3).map(|n| assignment(n, shared.clone())).collect());
    let read: Push = serde_json::from_str(&serde_json::to_string(&push).unwrap()).unwrap();
    assert!(read.set.iter().all(|one| Arc::ptr_eq(&one.template, &read.set[0].template)));
}

/// The bytes of a change are those of its replicas and of one template.
#[test]
fn a_replica_of_a_large_template_is_written_in_few_hundred_bytes() {
    let mut large = Template::of(ImageRef::parse("app").unwrap());
    large.env.insert("CONFIG".into(), "x".repeat(100 * 1024));
    let shared = Arc::new(large);
    let bytes = |count| {
        let set = (0..count).map(|n| assignment(n, shared.clone())).collect();
        serde_json::to_vec(&push(set)).unwrap().len()
    };
    let (one, thousand) = (bytes(1), bytes(1_000));
    assert!(one > 100 * 1024 && (thousand - one) / 999 < 150, "{one} bytes, {thousand} bytes");
    assert!(thousand < MAX_PUSH_BYTES);
}

#[test]
fn a_push_that_cannot_be_read_is_refused_with_its_reason() {
    let good = serde_json::to_value(push(vec![assignment(1, template("app"))])).unwrap();
    let refusal = |spoil: fn(&mut Value)| {
        let mut spoiled = good.clone();
        spoil(&mut spoiled);
        serde_json::from_value::<Push>(spoiled).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(|push| push["set"][0]["template"] = json!(1)),
        "an assignment refers to template 1, but the push has 1"
    );
    assert_eq!(
        refusal(|push| drop(push.as_object_mut().unwrap().remove("templates"))),
        "an assignment refers to template 0, but the push has 0"
    );
    for (template, message) in [
        (json!(-1), "invalid type: integer"),
        (json!(0.5), "invalid type: floating point"),
        (json!("0"), "invalid type: string"),
        (json!(null), "invalid type: null"),
        (json!([0]), "invalid type: integer `0`, expected a string"),
    ] {
        let mut spoiled = good.clone();
        spoiled["set"][0]["template"] = template.clone();
        let refused = serde_json::from_value::<Push>(spoiled).unwrap_err().to_string();
        assert!(refused.contains(message), "{template}: {refused}");
    }
    assert!(refusal(|push| push["templates"][0]["image"] = json!("../x")).contains("image"));
    assert!(refusal(|push| push["set"][0]["replica"] = json!("..")).contains("replica"));
    assert!(
        refusal(|push| drop(push["set"][0].as_object_mut().unwrap().remove("template"))).contains("template")
    );
}

#[test]
fn a_short_push_that_stands_for_very_much_is_refused() {
    let mut large = Template::of(ImageRef::parse("app").unwrap());
    large.env.insert("CONFIG".into(), "x".repeat(900 * 1024));
    let shared = Arc::new(large);
    let push = |count| push((0..count).map(|n| assignment(n, shared.clone())).collect());
    let read = |count| serde_json::from_slice::<Push>(&serde_json::to_vec(&push(count)).unwrap());
    assert!(read(36).is_ok());
    let refused = read(37).unwrap_err().to_string();
    assert!(refused.contains("come to more than 33554432 bytes"), "{refused}");
}

#[test]
fn what_is_of_a_newer_version_refuses_its_assignments_and_not_the_push() {
    let shared = template("app");
    let set = vec![assignment(1, shared.clone()), assignment(2, shared), assignment(3, template("b"))];
    let good = serde_json::to_value(push(set)).unwrap();
    let refused = |value: &Value| {
        let read: Push = serde_json::from_value(value.clone()).unwrap();
        let refused: Vec<_> = read.set.iter().map(|one| one.template.not_understood.is_some()).collect();
        // It is kept as it came, and is the same after it was written.
        let again: Push = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&again.set).unwrap(), serde_json::to_value(&read.set).unwrap());
        refused
    };
    let mut newer = good.clone();
    newer["templates"][0]["quantum"] = json!(true);
    assert_eq!(refused(&newer), [true, true, false], "of a template: all that share it");
    let mut newer = good.clone();
    newer["set"][1]["priority"] = json!(1);
    assert_eq!(refused(&newer), [false, true, false], "of an assignment: that one");
    let read: Push = serde_json::from_value(newer).unwrap();
    let written = serde_json::to_value(&read.set[1]).unwrap();
    assert_eq!((&written["priority"], &written["template"]["image"]), (&json!(1), &json!("app")));
    let mut newer = good;
    newer["secrets"] = json!({});
    assert_eq!(refused(&newer), [true, true, true], "of the push: all that it sets");
}
