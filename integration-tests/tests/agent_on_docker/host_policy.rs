//! What the host's policy refuses, on a real engine.

use std::os::unix::fs::symlink;

use shef_common::policy::Policy;

use super::*;

impl Site {
    /// An agent of a host that lets services mount what lies below `directory`, and nothing else.
    async fn restricted(&self, directory: &std::path::Path) -> AgentHandle {
        let bind_dirs = vec![directory.to_str().unwrap().to_owned()];
        let policy = Policy { bind_dirs, ..Policy::default() };
        let policy = PolicyConfig { policy: Some(policy), ..PolicyConfig::open() };
        let config = AgentConfig { policy, ..config(&self.master, self.engine.url(), self.data.path()) };
        let before = self.master.received().registrations.len();
        let agent = start(config, EngineChoice::Docker).await.unwrap();
        self.master.until("a registration", |received| received.registrations.len() > before).await;
        agent
    }

    fn reason(&self, replica: &Assignment) -> String {
        self.master.received().statuses[replica.replica.as_str()].reason.clone().unwrap_or_default()
    }
}

/// A service that mounts `path`.
fn mounts(service: &str, path: &std::path::Path) -> Vec<Assignment> {
    let mut template = shell(BUSYBOX, OBEDIENT, 1);
    let source = path.to_str().unwrap().to_owned();
    template.mounts = vec![Mount::Bind { source, target: "/mounted".into(), read_only: false }];
    assignments(service, 1, 1, &template)
}

#[actix::test]
async fn mounts_that_lead_out_of_the_allowed_directories_are_never_made() {
    let site = Site::new().await;
    let allowed = tempfile::tempdir().unwrap();
    let data = allowed.path().join("data");
    std::fs::create_dir(&data).unwrap();
    symlink("/etc", allowed.path().join("link")).unwrap();
    let agent = site.restricted(allowed.path()).await;
    assert_eq!(
        site.master.received().registrations.last().unwrap().host.policy.as_ref().unwrap().bind_dirs,
        [allowed.path().to_str().unwrap()],
        "the master knows the policy"
    );

    // A volume that somebody has made of a path is that path.
    let made = VolumeCreateRequest {
        name: Some("made".to_owned()),
        driver_opts: Some(
            [("type", "none"), ("o", "bind"), ("device", "/etc")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        ),
        ..Default::default()
    };
    site.engine.client().create_volume(made).await.unwrap();
    let mut template = shell(BUSYBOX, OBEDIENT, 1);
    template.mounts = vec![Mount::Volume {
        source: "made".to_owned(),
        target: "/mounted".to_owned(),
        read_only: false,
        driver: String::new(),
        options: [].into(),
        sticky: false,
    }];
    let by_volume = assignments("by-volume", 1, 1, &template);

    let fine = mounts("fine", &data);
    let (named, linked) = (mounts("named", "/etc".as_ref()), mounts("linked", &allowed.path().join("link")));
    let all = [fine.clone(), named.clone(), linked.clone(), by_volume.clone()].concat();
    site.master.snapshot(1, &all).await.unwrap();
    site.master.until_all(&fine, ReplicaState::Running).await;
    site.master.until_all(&named, ReplicaState::Failed).await;
    site.master.until_all(&linked, ReplicaState::Failed).await;
    site.master.until_all(&by_volume, ReplicaState::Failed).await;
    for (refused, what) in [
        (&named[0], "refuses the mount of /etc; "),
        (&linked[0], "/link leads there)"),
        (&by_volume[0], "(the volume made was made so)"),
    ] {
        assert!(site.reason(refused).contains(what), "{}", site.reason(refused));
    }
    let made = site.containers().await;
    assert_eq!(made.len(), 1, "{made:?}");

    // What may be mounted now leads elsewhere: what runs goes on, and is not started again.
    std::fs::remove_dir(&data).unwrap();
    symlink("/etc", &data).unwrap();
    assert_eq!(site.containers().await, made);
    site.engine.client().stop_container("fine-000001", None).await.unwrap();
    site.master.until_all(&fine, ReplicaState::Failed).await;
    assert!(site.reason(&fine[0]).contains("refuses the mount of /etc; "), "{}", site.reason(&fine[0]));
    assert_eq!(site.containers().await["fine-000001"].1, "exited");
    agent.stop().await;
}

#[actix::test]
async fn what_runs_outlives_a_policy_that_would_refuse_it() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let web = mounts("web", "/etc".as_ref());
    site.master.snapshot(1, &web).await.unwrap();
    site.master.until_all(&web, ReplicaState::Running).await;
    let before = site.containers().await;
    agent.stop().await;
    let agent = site.restricted("/srv".as_ref()).await;
    site.master.until_all(&web, ReplicaState::Running).await;
    assert_eq!(site.containers().await, before);
    agent.stop().await;
}
