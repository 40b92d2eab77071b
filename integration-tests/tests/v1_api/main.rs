//! `/v1`: the API to build on.

mod masters;
mod refusals;
mod services;

use serde_json::json;
use shef_agent::engine::fake::FakeEngineOptions;
use shef_integration_tests::cluster::{Answer, Cluster};

const PROBLEM: &str = "application/problem+json";

fn is_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.content_type.as_str()), (status, PROBLEM), "{answer:?}");
    assert_eq!((&answer.body["code"], &answer.body["status"]), (&json!(code), &json!(status)), "{answer:?}");
    assert_eq!(answer.body["type"], format!("urn:shef:problem:{code}"));
    assert!(!answer.body["detail"].as_str().unwrap().is_empty());
}

async fn cluster() -> Cluster {
    Cluster::fake(2, FakeEngineOptions::default()).await
}
