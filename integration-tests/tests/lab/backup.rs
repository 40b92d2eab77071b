//! Backup and restore of a bootstrapped host and of its key, by the lines of docs/operations.md.

use serde_json::json;
use shef_integration_tests::lab::{lan::bare::BareLab, wait::until};

use crate::bootstrap::{containers, deploy, first, hosts_ready, images, says};

#[actix::test]
async fn a_bootstrapped_host_is_backed_up_and_restored_by_a_docker_line_each() {
    let lab = BareLab::start(1).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready").await;
    hosts_ready(&lab, 1).await;
    deploy(&lab, 3).await;
    let before = containers(&lab).await;

    let image = lab.registry.image("shef:1");
    let run = ["run", "--rm", "--network", "host"];
    let backup = lab.docker(1, &["exec", "shef-master", "shef", "backup"]).await.unwrap();
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
    until("the host has what the backup says", async || (containers(&lab).await == before).then_some(()))
        .await;
    hosts_ready(&lab, 1).await;
    lab.api(1)
        .until("/v1/services/web", |answer| answer.body["running"] == 3 && answer.body["replicas"] == 3)
        .await;
}

/// The lines of the shell blocks behind `heading` in docs/operations.md.
fn documented(heading: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.map(str::to_owned).collect()
}

#[actix::test]
async fn the_secret_key_is_saved_and_restored_by_the_documented_lines() {
    let lab = BareLab::start(1).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready").await;
    let registry = json!({ "username": "me", "password": "geheim" });
    let set = lab.api(1).call("PUT", "/v1/registries/registry.example", registry).await;
    assert!(set.status < 300, "{set:?}");
    let readable = async || {
        let answer = lab.api(1).attempt("GET", "/v1/registries", &[], Vec::new()).await.ok()?;
        (answer.status == 200).then(|| !answer.body.to_string().contains("\"readable\":false"))
    };
    let [save, restore] =
        documented("Registry credentials").try_into().expect("how it is saved, and how it is restored");
    let directory = tempfile::tempdir().unwrap();
    let run = |lines: String| {
        let (url, directory) = (lab.hosts[0].socket().url().to_owned(), directory.path().to_owned());
        async move {
            let mut shell = tokio::process::Command::new("sh");
            let ran = shell
                .args(["-ec", &lines])
                .current_dir(directory)
                .env("DOCKER_HOST", url)
                .output()
                .await
                .unwrap();
            assert!(ran.status.success(), "{lines}: {}", String::from_utf8_lossy(&ran.stderr));
        }
    };
    run(save).await;
    assert_eq!(std::fs::metadata(directory.path().join("secret.key")).unwrap().len(), 32);

    // The volume with the key is lost, and the next master has made another one: it cannot sign for the
    // cluster.
    lab.docker(1, &["rm", "-f", "shef-bootstrap", "shef-guard", "shef-agent", "shef-master"]).await.unwrap();
    lab.docker(1, &["volume", "rm", "shef-master"]).await.unwrap();
    first(&lab, "shef:1").await;
    until("the master says so", async || {
        let said = lab.docker(1, &["logs", "shef-master"]).await.ok()?;
        said.contains("was encrypted with another key").then_some(())
    })
    .await;
    run(restore).await;
    until("the credentials can be read again", async || readable().await.filter(|readable| *readable)).await;
}
