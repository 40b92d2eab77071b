//! The image, built from the project's `Dockerfile` by the classic builder, on real engines.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{CreateContainerOptions, StartContainerOptions},
};
use shef_integration_tests::{
    cluster::Api,
    lab::{
        engine::LabEngine, process::free_port, registry::LabRegistry, system_image::SystemImages, wait::until,
    },
};

/// Starts a container in the machine's network.
async fn start(docker: &Docker, name: &str, body: ContainerCreateBody) {
    let host = HostConfig { network_mode: Some("host".to_owned()), ..body.host_config.unwrap_or_default() };
    let body = ContainerCreateBody { host_config: Some(host), ..body };
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    docker.create_container(Some(options), body).await.expect("a container");
    docker.start_container(name, None::<StartContainerOptions>).await.expect("it starts");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn health(docker: &Docker, name: &str) -> String {
    let found = docker.inspect_container(name, None).await.expect("the container");
    found
        .state
        .and_then(|state| state.health)
        .and_then(|health| health.status)
        .map(|status| status.to_string())
        .unwrap_or_default()
}

#[actix::test]
async fn the_image_runs_a_master_as_nobody_with_redis_beside_it() {
    let (engine, registry) = (LabEngine::start().await, LabRegistry::start().await);
    let docker = engine.client();
    let pushed = SystemImages::get().await.push(&docker, &registry).await;
    let images = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.unwrap();
    assert!(images.is_empty(), "only the registry has them: {images:?}");
    for image in [&pushed.shef, &pushed.upgrade, &pushed.redis] {
        let ran = std::process::Command::new("docker")
            .args(["-H", &engine.url(), "pull", "-q", image])
            .status()
            .unwrap();
        assert!(ran.success(), "{image}");
    }
    let found = docker.inspect_image(&pushed.shef).await.unwrap();
    let other = docker.inspect_image(&pushed.upgrade).await.unwrap();
    assert_ne!(found.id, other.id);
    let config = found.config.unwrap();
    let labels = config.labels.unwrap();
    let label = |name: &str| labels.get(&format!("org.opencontainers.image.{name}")).map(String::as_str);
    assert_eq!(
        (label("title"), label("licenses"), label("revision")),
        (Some("shef"), Some("MIT OR Apache-2.0"), Some("1"))
    );
    assert_eq!(config.entrypoint, Some(words(&["/usr/local/bin/shef"])));

    let (redis_port, port) = (free_port().to_string(), free_port());
    let redis = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        &redis_port,
        "--dir",
        "/data",
        "--appendonly",
        "yes",
    ];
    let body =
        ContainerCreateBody { image: Some(pushed.redis), cmd: Some(words(&redis)), ..Default::default() };
    start(&docker, "redis", body).await;
    let (listen, url) = (
        format!("SHEF_MASTER_LISTEN=127.0.0.1:{port}"),
        format!("SHEF_REDIS_URL=redis://127.0.0.1:{redis_port}"),
    );
    let asked = format!("SHEF_HEALTH_URL=http://127.0.0.1:{port}/healthz");
    // The engine asks every 10 s, and the first time after as long: the test does not wait for that.
    let often = bollard::models::HealthConfig { interval: Some(500_000_000), ..Default::default() };
    let master = ContainerCreateBody {
        image: Some(pushed.shef.clone()),
        cmd: Some(words(&["master"])),
        user: Some("65532:65532".to_owned()),
        env: Some(words(&["HOST_IP=127.0.0.1", "SHEF_INSECURE=true", &listen, &url, &asked])),
        healthcheck: Some(often.clone()),
        // Where the key of the cluster's CA is kept.
        host_config: Some(HostConfig {
            tmpfs: Some([("/var/lib/shef/master".to_owned(), "uid=65532".to_owned())].into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    start(&docker, "master", master.clone()).await;
    until("the master is healthy", async || (health(&docker, "master").await == "healthy").then_some(()))
        .await;
    let api = Api::new(format!("127.0.0.1:{port}").parse().unwrap());
    assert_eq!(api.get("/readyz").await.status, 200);

    // What a bootstrapped host's operator types.
    let run =
        ["-H", &engine.url(), "run", "--rm", "--network", "host", &pushed.shef, "backup", "--api", &api.url];
    let backup = tokio::process::Command::new("docker").args(run).output().await.unwrap();
    let text = String::from_utf8_lossy(&backup.stdout);
    assert!(backup.status.success() && text.starts_with("{\"shef_backup\":1,"), "{backup:?}");

    // One that is not there is told as well; so is a bootstrap that is not ready.
    let elsewhere = format!("SHEF_HEALTH_URL=http://127.0.0.1:{}/healthz", free_port());
    let sick = ContainerCreateBody {
        env: Some(words(&[
            "HOST_IP=127.0.0.1",
            &format!("SHEF_MASTER_LISTEN=127.0.0.1:{}", free_port()),
            &elsewhere,
        ])),
        user: None,
        healthcheck: Some(bollard::models::HealthConfig {
            retries: Some(1),
            start_period: Some(1_000_000),
            ..often
        }),
        labels: Some(HashMap::new()),
        ..master
    };
    start(&docker, "sick", sick).await;
    until("the other is unhealthy", async || (health(&docker, "sick").await == "unhealthy").then_some(()))
        .await;
    let alone = ["-H", &engine.url(), "run", "--rm", "--network", "none", &pushed.shef, "health"];
    let alone = tokio::process::Command::new("docker").args(alone).output().await.unwrap();
    assert!(
        !alone.status.success() && String::from_utf8_lossy(&alone.stderr).contains("no bootstrap runs here"),
        "{alone:?}"
    );
}
