//! Hosts that are to leave their cluster, or to begin another one.

use serde_json::json;
use shef_integration_tests::lab::lan::bare::{BOOTSTRAP, BareLab};

use super::{containers, deploy, first, first_on, further, hosts_ready, images, says};

#[actix::test]
async fn a_host_of_another_cluster_begins_no_master_unless_told_to() {
    let lab = BareLab::start(2).await;
    images(&lab).await;
    first(&lab, "shef:1").await;
    further(&lab, 2, "shef:1").await;
    says(&lab, 2, "this host is ready").await;
    hosts_ready(&lab, 2).await;
    let cluster = lab.api(1).get("/v1/cluster").await.body["cluster"].as_str().unwrap().to_owned();
    let whose =
        format!("this host belongs to the cluster {cluster}, whose master is at {}:8044", lab.address(1));
    // By its agent's container, and by the note in the volume of one that was removed.
    for removed in [&[BOOTSTRAP][..], &[BOOTSTRAP, "shef-guard", "shef-agent"]] {
        lab.docker(2, &[&["rm", "-f"], removed].concat()).await.unwrap();
        first_on(&lab, 2, &[]).await;
        says(&lab, 2, &whose).await;
        assert!(!lab.hosts[1].socket().all().await.contains_key("shef-master"));
    }
    lab.docker(2, &["rm", "-f", BOOTSTRAP]).await.unwrap();
    further(&lab, 2, "shef:1").await;
    says(&lab, 2, "this host is ready").await;
    // Its master is lost for good: it takes that one's place, and the cluster stays what it was.
    for name in [BOOTSTRAP, "shef-guard", "shef-agent", "shef-master"] {
        lab.docker(1, &["rm", "-f", name]).await.unwrap();
    }
    lab.docker(2, &["rm", "-f", BOOTSTRAP]).await.unwrap();
    first_on(&lab, 2, &[("SHEF_BOOTSTRAP_TAKE_OVER", "true")]).await;
    says(&lab, 2, "the cluster is ready").await;
    assert_eq!(lab.api(2).get("/v1/cluster").await.body["cluster"], cluster.as_str());
}

/// Takes shef away from the first host; what that says.
pub(super) async fn uninstall(lab: &BareLab, flags: &[&str]) -> String {
    let (image, url) = (lab.registry.image("shef:1"), lab.hosts[0].socket().url().to_owned());
    let mount = format!("{}:/var/run/docker.sock", url.trim_start_matches("unix://"));
    let words = ["run", "--rm", "-v", &mount, &image, "bootstrap", "--uninstall"];
    lab.docker(1, &[&words[..], flags].concat()).await.unwrap()
}

#[actix::test]
async fn an_uninstall_leaves_the_users_containers_unless_told_and_then_no_trace() {
    let lab = BareLab::start(1).await;
    images(&lab).await;
    let busybox = lab.registry.image("busybox:1");
    // As one whose image has these labels: it is neither a bootstrap nor a part nor a replica.
    let labels = [
        "shef-bouter=true",
        "shef.system=master",
        "shef-managed-container=true",
        "shef.cluster=00000000000000cc",
        "shef.replica=web-000001",
    ];
    let labels = labels.iter().flat_map(|label| ["-l", *label]);
    let posing = ["run", "-d", "--name", "posing"].into_iter().chain(labels);
    let posing = posing.chain([busybox.as_str(), "/bin/sh", "-c", "sleep 10000"]).collect::<Vec<_>>();
    lab.docker(1, &posing).await.unwrap();
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready").await;
    deploy(&lab, 3).await;
    let data = json!({
        "image": busybox, "stop_grace_s": 1, "networks": [{"name": "front"}],
        "mounts": [{"type": "volume", "source": "data", "target": "/data"}],
    });
    let answer = lab.api(1).call("PUT", "/v1/services/data?wait=60s", data).await;
    assert!(answer.status == 201 && answer.body["converged"] == true, "{answer:?}");
    lab.docker(1, &["run", "-d", "--name", "theirs", "-v", "theirs:/data", &busybox]).await.unwrap();
    let before = containers(&lab).await;
    let said = uninstall(&lab, &[]).await;
    assert!(said.contains("removed shef-master") && said.contains("--services"), "{said}");
    for left in ["networks of services: front", "volumes of services: data", "shef-secrets"] {
        assert!(said.contains(left), "{said}");
    }
    let left = lab.hosts[0].socket().all().await;
    assert!(left.len() == 6 && left.contains_key("theirs") && left.contains_key("posing"), "{left:#?}");
    assert_eq!(containers(&lab).await, before);
    // Its data is there: a new bootstrap goes on where the old one ended.
    first(&lab, "shef:1").await;
    says(&lab, 1, "the cluster is ready").await;
    lab.api(1).until("/v1/services/web", |answer| answer.body["state"] == "running").await;
    assert_eq!(containers(&lab).await, before);
    let said = uninstall(&lab, &["--volumes", "--services"]).await;
    assert!(said.contains("removed the network front") && said.contains("removed the volume data"), "{said}");
    assert!(said.contains("nothing of shef is left on this host but images"), "{said}");
    let left: Vec<String> = lab.hosts[0].socket().all().await.into_keys().collect();
    assert_eq!(left, ["posing", "theirs"]);
    assert_eq!(lab.docker(1, &["volume", "ls", "-q"]).await.unwrap(), "theirs");
    let networks = lab.docker(1, &["network", "ls", "--format", "{{.Name}}"]).await.unwrap();
    assert_eq!(
        networks.lines().collect::<std::collections::BTreeSet<_>>(),
        ["bridge", "host", "none"].into()
    );
}
