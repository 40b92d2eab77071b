//! Backup and restore of a bootstrapped host, by the lines of docs/operations.md.

use serde_json::json;
use shef_integration_tests::lab::{lan::bare::Bare, wait::until};

use crate::bootstrap::{containers, deploy, first, hosts_ready, images, says};

#[actix::test]
async fn a_bootstrapped_host_is_backed_up_and_restored_by_a_docker_line_each() {
    let lab = Bare::start(1).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready").await;
    hosts_ready(&lab, 1).await;
    deploy(&lab, 3).await;
    let before = containers(&lab).await;

    let image = lab.registry.image("shef:1");
    let ip = format!("HOST_IP={}", lab.address(1));
    let run = ["run", "--rm", "--network", "host"];
    let backup = lab.docker(1, &[&run[..], &["-e", &ip, &image, "backup"]].concat()).await.unwrap();
    // What it says beside the backup comes behind it.
    let (backup, said) = backup.split_once("==> ").unwrap();
    assert!(said.contains("records of cluster"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cluster.backup"), backup).unwrap();

    let changed = lab.api(1).call("PATCH", "/v1/services/web?wait=60s", json!({ "replicas": 5 })).await;
    assert_eq!(changed.body["converged"], true, "{changed:?}");
    assert_eq!(containers(&lab).await.len(), 5);
    let mount = format!("{}:/backup:ro", directory.path().display());
    let volumes = ["-v", "shef-secrets:/run/shef:ro", "-v", &mount, &image];
    let restore = ["restore", "/backup/cluster.backup", "--redis", "redis://127.0.0.1:6379"];
    let password = ["--set", "redis.password_file=/run/shef/redis-password"];
    let words = [&run[..], &volumes, &restore, &password].concat();
    let refused = lab.docker(1, &words).await.unwrap_err();
    assert!(refused.contains("say --replace"), "{refused}");
    let said = lab.docker(1, &[&words[..], &["--replace"]].concat()).await.unwrap();
    assert!(said.contains("A running master starts again"), "{said}");
    until("the host has what the backup says", async || (containers(&lab).await == before).then_some(())).await;
    hosts_ready(&lab, 1).await;
    lab.api(1).until("/v1/services/web", |answer| answer.body["running"] == 3 && answer.body["replicas"] == 3).await;
}
