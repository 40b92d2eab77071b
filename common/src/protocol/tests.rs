//! The bodies as they go over the wire. A change here is a change of the protocol: agents and masters of two
//! versions must go on understanding each other.

use insta::assert_snapshot;
use serde::Serialize;

use super::*;
use crate::{
    clock::WallMs,
    ids::{Epoch, Generation, LeaderId, ReplicaId, Revision, ServiceName, Slot},
    problem::{Code, FieldError, Problem},
    spec::{OnDisconnect, Template},
    status::{Health, ReplicaState},
};

fn json(body: &impl Serialize) -> String {
    serde_json::to_string_pretty(body).unwrap()
}
fn fence() -> Fence {
    Fence { epoch: Epoch(3), leader: LeaderId::parse("00000000000000aa").unwrap() }
}
fn cluster() -> ClusterId {
    ClusterId::parse("00000000000000cc").unwrap()
}

#[test]
fn a_push() {
    let service = ServiceName::parse("web").unwrap();
    let mut template = Template::of(ImageRef::parse("nginx:1.27").unwrap());
    template.env.insert("A".into(), "1".into());
    let push = Push {
        cluster: cluster(),
        fence: fence(),
        base: Some(Revision(6)),
        holds: None,
        revision: Revision(7),
        set: vec![Assignment {
            replica: ReplicaId::new(&service, 12),
            service: service.clone(),
            slot: Slot(0),
            generation: Generation(2),
            template: template.into(),
            on_disconnect: OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        }],
        remove: vec![ReplicaId::new(&service, 11)],
        by_name: true,
        credentials: BTreeMap::new(),
        templates_once: false,
    };
    assert_snapshot!(json(&push), @r#"
    {
      "cluster": "00000000000000cc",
      "fence": {
        "epoch": 3,
        "leader": "00000000000000aa"
      },
      "base": 6,
      "revision": 7,
      "set": [
        {"replica":"web-000012","service":"web","slot":0,"generation":2,"template":{"image":"nginx:1.27","env":{"A":"1"},"stop_grace_s":10}}
      ],
      "remove": [
        "web-000011"
      ],
      "by_name": true
    }
    "#);
    assert_eq!(serde_json::from_str::<Push>(&json(&push)).unwrap(), push);
}

#[test]
fn a_refusal() {
    let accepted = Some(Accepted { fence: fence(), revision: Revision(7) });
    let refused = PushRefused { why: Refusal::WrongBase, accepted, leader_silent_ms: None };
    assert_snapshot!(json(&refused), @r#"
    {
      "why": "wrong_base",
      "accepted": {
        "fence": {
          "epoch": 3,
          "leader": "00000000000000aa"
        },
        "revision": 7
      }
    }
    "#);
}

#[test]
fn a_report_and_its_answer() {
    let mut status =
        ReplicaStatus::new(ReplicaId::parse("web-000012").unwrap(), ReplicaState::Running, WallMs(5));
    status.health = Health::Unhealthy;
    status.reason = Some("exited with code 1".into());
    let report = Report {
        cluster: cluster(),
        node: NodeName::parse("h1").unwrap(),
        boot: BootId::parse("00000000000000bb").unwrap(),
        agent_url: None,
        seq: 4,
        accepted: Some(Accepted { fence: fence(), revision: Revision(7) }),
        ledger: None,
        full: false,
        statuses: vec![status],
        engine_error: None,
        round_trip_ms: None,
        cas: Vec::new(),
    };
    assert_snapshot!(json(&report), @r#"
    {
      "cluster": "00000000000000cc",
      "node": "h1",
      "boot": "00000000000000bb",
      "seq": 4,
      "accepted": {
        "fence": {
          "epoch": 3,
          "leader": "00000000000000aa"
        },
        "revision": 7
      },
      "full": false,
      "statuses": [
        {
          "replica": "web-000012",
          "state": "running",
          "health": "unhealthy",
          "reason": "exited with code 1",
          "restarts": 0,
          "since": 5
        }
      ]
    }
    "#);
    let ack = ReportAck {
        fence: fence(),
        want_full: true,
        want_registration: false,
        report_interval_ms: None,
        push: None,
        denied: Vec::new(),
        cas: Vec::new(),
    };
    assert_snapshot!(json(&ack), @r#"
    {
      "fence": {
        "epoch": 3,
        "leader": "00000000000000aa"
      },
      "want_full": true,
      "want_registration": false
    }
    "#);
}

#[test]
fn a_problem() {
    let error = FieldError { field: "image".into(), message: "is required".into() };
    let problem = Problem::new(Code::InvalidBody, "image: is required").with_errors(vec![error]);
    assert_snapshot!(json(&problem), @r#"
    {
      "type": "urn:shef:problem:invalid_body",
      "title": "The request body is not valid",
      "status": 400,
      "code": "invalid_body",
      "detail": "image: is required",
      "errors": [
        {
          "field": "image",
          "message": "is required"
        }
      ]
    }
    "#);
    assert_snapshot!(json(&Problem::new(Code::StoreUnavailable, "the store does not answer")), @r#"
    {
      "type": "urn:shef:problem:store_unavailable",
      "title": "The store does not answer",
      "status": 503,
      "code": "store_unavailable",
      "detail": "the store does not answer",
      "retry_after_s": 1
    }
    "#);
}
