//! What a spec says is what a real engine makes of it.

mod checks;
mod networks;
mod process;
mod volumes;

use bollard::{
    Docker,
    models::{ContainerInspectResponse, HostConfig},
};
use serde_json::{Value, json};
use shef_agent::{
    AgentHandle, EngineChoice,
    config::{AgentConfig, PolicyConfig},
    start,
};
use shef_common::{
    docker::DockerTls,
    ids::{NodeName, ServiceName},
    protocol::Assignment,
    spec::{ServiceSpec, Template},
    status::{Health, ReplicaState, ReplicaStatus},
};
use shef_integration_tests::lab::{
    engine::{BUSYBOX, LabEngine},
    scripted_master::{ScriptedMaster, assignments},
};

struct Site {
    master: ScriptedMaster,
    engine: LabEngine,
    data: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let engine = LabEngine::start().await;
        engine.import_busybox().await;
        Self { master: ScriptedMaster::start(), engine, data: tempfile::tempdir().unwrap() }
    }

    async fn agent(&self) -> AgentHandle {
        let config = AgentConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            host_ip: [127, 0, 0, 1].into(),
            node_name: Some(NodeName::parse("lab").unwrap()),
            masters: vec![self.master.url.clone()],
            docker_host: self.engine.url(),
            docker_tls: DockerTls::default(),
            data_dir: self.data.path().to_owned(),
            secrets_dir: shef_integration_tests::cluster::SECRETS_DIR.into(),
            labels: [].into(),
            engine_concurrency: 6,
            pull_concurrency: 3,
            relist_interval_ms: 60_000,
            image_cleanup_percent: 100,
            engine_disk_dir: None,
            image_cleanup_interval_ms: 60_000,
            report_debounce_ms: 20,
            policy: PolicyConfig::open(),
            tls: shef_common::tls::TlsMode::Off,
            join_token: None,
            only_tls: false,
        };
        let before = self.master.received().registrations.len();
        let agent = start(config, EngineChoice::Docker).await.unwrap();
        self.master.until("a registration", |received| received.registrations.len() > before).await;
        agent
    }

    /// Orders one replica and waits until its status fits.
    async fn order(
        &self,
        template: Template,
        what: &str,
        fits: impl Fn(&ReplicaStatus) -> bool,
    ) -> (Assignment, ReplicaStatus) {
        let assignment = assignments("web", 1, 1, &template).remove(0);
        self.master.snapshot(1, std::slice::from_ref(&assignment)).await.unwrap();
        let status = self.until(&assignment, what, fits).await;
        (assignment, status)
    }

    async fn until(
        &self,
        of: &Assignment,
        what: &str,
        fits: impl Fn(&ReplicaStatus) -> bool,
    ) -> ReplicaStatus {
        self.master.until(what, |received| received.statuses.get(&of.replica).is_some_and(&fits)).await;
        self.master.received().statuses[&of.replica].clone()
    }

    async fn inspect(&self) -> (ContainerInspectResponse, HostConfig) {
        let found = self.docker().inspect_container("web-000001", None).await.unwrap();
        let host = found.host_config.clone().unwrap();
        (found, host)
    }

    fn docker(&self) -> Docker {
        self.engine.client()
    }

    /// What a command in the first container writes, trimmed.
    async fn exec(&self, line: &str) -> String {
        self.exec_in("web-000001", line).await
    }

    async fn exec_in(&self, container: &str, line: &str) -> String {
        use futures_util::StreamExt as _;
        let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        let options = bollard::models::ExecConfig {
            cmd: Some(command),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = self.docker().create_exec(container, options).await.unwrap();
        let bollard::exec::StartExecResults::Attached { mut output, .. } =
            self.docker().start_exec(&exec.id, None).await.unwrap()
        else {
            panic!("not attached")
        };
        let mut written = String::new();
        while let Some(part) = output.next().await {
            written += &String::from_utf8_lossy(part.unwrap().as_ref());
        }
        written.trim().to_owned()
    }
}

/// A template as a user would write it.
fn template(mut fields: Value) -> Template {
    fields["image"] = BUSYBOX.into();
    fields["stop_grace_s"] = 1.into();
    if fields.get("command").is_none() {
        fields["command"] =
            json!(["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 1 & wait $!; done"]);
    }
    let spec =
        ServiceSpec::read(fields.as_object().unwrap().clone(), Some(&ServiceName::parse("web").unwrap()));
    (*spec.unwrap().template).clone()
}

fn is_well(status: &ReplicaStatus) -> bool {
    status.state == ReplicaState::Running && status.health == Health::Healthy
}
