//! Pushes with each template once, and pushes that build on a digest, over HTTP.

use shef_common::{
    client::{CallError, HostClient},
    protocol::{ASSIGNMENTS_PATH, Accepted, LedgerDigest, PushRefused},
};

use super::*;

/// What the agent answers to a body: what it has accepted, or status and body of its refusal.
async fn post(master: &ScriptedMaster, body: &serde_json::Value) -> Result<Accepted, (u16, Vec<u8>)> {
    let url = format!("{}{ASSIGNMENTS_PATH}", master.agent_url());
    match HostClient::new(None).post::<_, Accepted>(&url, body, Duration::from_secs(20)).await {
        Ok(accepted) => Ok(accepted),
        Err(CallError::Refused { status, body, .. }) => Err((status.as_u16(), body)),
        Err(error) => panic!("{error}"),
    }
}

fn push(master: &ScriptedMaster, base: Option<u64>, revision: u64, set: &[Assignment]) -> Push {
    Push {
        cluster: master.cluster.clone(),
        fence: master.fence.clone(),
        base: base.map(Revision),
        holds: None,
        revision: Revision(revision),
        set: set.to_vec(),
        remove: vec![],
        by_name: true,
        credentials: std::collections::BTreeMap::new(),
        templates_once: true,
    }
}

#[actix::test]
async fn templates_come_once_in_parts_and_a_new_leader_builds_on_the_digest() {
    let (master, host, data) = (ScriptedMaster::start(), FakeHost::default(), tempfile::tempdir().unwrap());
    let agent = agent(&master, &host, &data).await;
    let registered = master.received().registrations.last().cloned().unwrap();
    assert!(registered.understands.templates_once && registered.understands.ledger_digest);
    assert_eq!(registered.ledger, Some(LedgerDigest::default()));

    // A snapshot in two parts.
    let three = assignments("web", 1, 3, &template("nginx"));
    let json = |push: &Push| serde_json::to_value(push).unwrap();
    let first = json(&push(&master, None, 1, &three[..2]));
    assert_eq!(first["templates"].as_array().unwrap().len(), 1);
    post(&master, &first).await.unwrap();
    post(&master, &json(&push(&master, Some(1), 2, &three[2..]))).await.unwrap();
    master.until_all(&three, ReplicaState::Running).await;
    let held = LedgerDigest::of(&three);
    let reports = |received: &shef_integration_tests::lab::scripted_master::Received| {
        received.last_report.as_ref().is_some_and(|report| report.ledger == Some(held))
    };
    master.until("a report with the digest of what it holds", reports).await;

    // What cannot be read changes nothing.
    let mut malformed = json(&push(&master, Some(2), 3, &three[..1]));
    malformed["set"][0]["template"] = 7.into();
    let (status, body) = post(&master, &malformed).await.unwrap_err();
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 400);
    assert!(problem.detail.contains("template 7, but the push has 1"), "{}", problem.detail);

    // Another leader, which believes that the host holds something else.
    let mut next = push(&master, None, 1, &[]);
    next.fence.epoch = Epoch(master.fence.epoch.0 + 1);
    next.holds = Some(LedgerDigest::of(&three[..2]));
    let (status, body) = post(&master, &json(&next)).await.unwrap_err();
    let refused: PushRefused = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, refused.why), (409, Refusal::WrongBase));
    assert_eq!(refused.accepted.unwrap().revision, Revision(2));
    next.holds = Some(held);
    for _ in 0..2 {
        assert_eq!(post(&master, &json(&next)).await.unwrap().fence, next.fence);
    }
    assert_eq!((host.counts().get("create"), host.counts().get("remove")), (Some(&3), None));

    // It is all in its ledger: the next run of the agent reports the same.
    agent.stop().await;
    let again = super::agent(&master, &host, &data).await;
    let registered = master.received().registrations.last().cloned().unwrap();
    assert_eq!((registered.ledger, registered.accepted.unwrap().fence), (Some(held), next.fence));
    again.stop().await;
}
