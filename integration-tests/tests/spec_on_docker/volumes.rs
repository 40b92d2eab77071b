//! Volumes and other mounts.

use serde_json::json;
use shef_common::{labels, status::ReplicaState};
use shef_integration_tests::lab::scripted_master::assignments;

use super::{Site, is_well, template};

#[actix::test]
async fn volumes_are_made_with_our_label_and_outlive_the_replica() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let bound = tempfile::tempdir().unwrap();
    std::fs::write(bound.path().join("given"), "by the host").unwrap();
    let mounts = json!({ "mounts": [
        {"type": "volume", "source": "web-data", "target": "/data"},
        {"type": "volume", "source": "web-fast", "target": "/fast", "driver": "local",
            "options": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}},
        {"type": "bind", "source": bound.path(), "target": "/bound", "read_only": true},
        {"type": "tmpfs", "target": "/scratch", "size_bytes": 1_048_576, "mode": "0700"},
        {"type": "tmpfs", "target": "/run", "size_bytes": 1_048_576, "mode": "750",
            "mount_options": ["exec", "uid=7"]},
    ]});
    site.order(template(mounts.clone()), "it runs", is_well).await;
    assert_eq!(site.exec("echo kept > /data/x; cat /bound/given").await, "by the host");
    assert!(site.exec("echo y > /bound/y").await.ends_with("Read-only file system"));
    assert!(site.exec("grep /scratch /proc/mounts").await.contains("size=1024k,mode=700"));
    let options = site.exec("grep ' /run ' /proc/mounts").await;
    assert!(options.contains("size=1024k,mode=750,uid=7") && !options.contains("noexec"), "{options}");
    assert!(site.exec("grep /fast /proc/mounts").await.contains("size=1024k"));
    let volume = site.docker().inspect_volume("web-data").await.unwrap();
    assert_eq!(volume.labels[labels::MANAGED_VOLUME], "true");
    assert_eq!(volume.labels[labels::CLUSTER], site.master.cluster.as_str());

    // The next replica of that volume finds what was written.
    let next = assignments("web", 2, 1, &template(mounts)).remove(0);
    site.master.snapshot(2, std::slice::from_ref(&next)).await.unwrap();
    site.until(&next, "the next one runs", is_well).await;
    site.until(&assignments("web", 1, 1, &template(json!({})))[0], "the first is gone", |s| {
        s.state == ReplicaState::Stopped
    })
    .await;
    let read = std::process::Command::new("cat").arg(format!("{}/x", volume.mountpoint)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "kept\n");
    agent.stop().await;
}

#[actix::test]
async fn what_the_engine_cannot_mount_is_a_failure_in_its_own_words() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let spec = template(json!({"mounts": [{"type": "bind", "source": "/nonexistent/path", "target": "/x"}]}));
    let (_, status) = site.order(spec, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_deref().unwrap().contains("/nonexistent/path"), "{status:?}");
    let spec = template(json!({"mounts": [
        {"type": "volume", "source": "some-data", "target": "/x", "driver": "no-such-driver"},
    ]}));
    let second = assignments("web", 2, 1, &spec).remove(0);
    site.master.delta(1, std::slice::from_ref(&second), &[]).await.unwrap();
    let status = site.until(&second, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(
        status.reason.as_deref().unwrap().contains("no-such-driver"),
        "no image is pulled for it: {status:?}"
    );
    agent.stop().await;
}
