//! What a spec says is what a real engine makes of it.

use std::{collections::BTreeSet, time::Duration};

use bollard::{
    Docker,
    models::{ContainerInspectResponse, HealthStatusEnum, HostConfig},
};
use serde_json::{Value, json};
use shef_agent::{AgentHandle, EngineChoice, config::AgentConfig, start};
use shef_common::{
    clock::Now,
    docker::DockerTls,
    ids::{NodeName, ServiceName},
    image::ImageRef,
    labels,
    protocol::Assignment,
    spec::{ServiceSpec, Template},
    status::{Health, ReplicaState, ReplicaStatus},
};
use shef_integration_tests::lab::{
    engine::{BUSYBOX, LabEngine},
    scripted_master::{ScriptedMaster, assignments},
    wait::until,
};

struct Bench {
    master: ScriptedMaster,
    engine: LabEngine,
    data: tempfile::TempDir,
}

impl Bench {
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
            labels: [].into(),
            engine_concurrency: 6,
            pull_concurrency: 3,
            relist_interval_ms: 60_000,
            image_cleanup_percent: 100,
            engine_disk_dir: None,
            image_cleanup_interval_ms: 60_000,
            report_debounce_ms: 20,
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

#[actix::test]
async fn a_process_is_made_as_its_spec_says() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let script = "trap 'exit 0' INT; echo \"$0 $A\" > /dev/shm/said; while :; do sleep 1 & wait $!; done";
    let spec = template(json!({
        "entrypoint": ["/bin/sh"], "command": ["-c", script, "named"], "env": {"A": "x y"}, "working_dir": "/bin", "user": "7:8",
        "hostname": "web.local", "labels": {"team": "blue"}, "init": true, "tty": true, "read_only": true, "stop_signal": "SIGINT",
        "ulimits": {"nofile": {"soft": 100, "hard": 200}}, "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "cap_add": ["NET_ADMIN"], "cap_drop": ["MKNOD"], "group_add": ["4711"], "oom_score_adj": 321, "shm_bytes": 1_048_576,
    }));
    bench.order(spec, "it runs", is_well).await;
    let (found, host) = bench.inspect().await;
    let config = found.config.unwrap();
    assert_eq!((config.tty, host.init, host.readonly_rootfs), (Some(true), Some(true), Some(true)));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    let labels = config.labels.unwrap();
    assert_eq!((labels["team"].as_str(), labels[labels::MANAGED].as_str()), ("blue", "true"));
    assert_eq!(host.shm_size, Some(1_048_576));
    assert_eq!(
        (host.cap_add, host.cap_drop),
        (Some(vec!["NET_ADMIN".to_owned()]), Some(vec!["MKNOD".to_owned()]))
    );
    assert_eq!(bench.exec("cat /dev/shm/said").await, "named x y");
    let limits = host.ulimits.unwrap();
    assert_eq!((limits.len(), limits[0].soft, limits[0].hard), (1, Some(100), Some(200)));
    // The soft limit of what is run beside it is at times the hard one: runc's own runtime raises it (runc
    // issue 4195).
    assert_eq!(bench.exec("pwd; hostname; ulimit -H -n").await.replace("\r\n", "\n"), "/bin\nweb.local\n200");
    assert_eq!(bench.exec("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await, "0");
    assert!(bench.exec("cat /proc/self/status").await.contains("Uid:\t7"), "the user is the one asked for");
    let process = bench.exec("grep Groups /proc/1/status").await;
    assert!(process.contains("4711"), "its processes are of the group: {process}");
    assert_eq!(bench.exec("cat /proc/1/oom_score_adj").await, "321");
    assert!(bench.exec("echo x > /bin/x").await.contains("Read-only"));
    agent.stop().await;
}

#[actix::test]
async fn the_settings_of_a_host_are_those_of_the_spec() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let spec = template(json!({
        "extra_hosts": {"db": "10.9.8.7"}, "host_gateway": ["me"], "dns": ["10.0.0.53"], "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
        "devices": [{"source": "/dev/zero", "target": "/dev/nothing", "permissions": "r"}],
        "resources": {"limit": {"cpu_millis": 500, "memory_bytes": 33_554_432, "swap_bytes": 4_194_304, "pids": 50}},
    }));
    bench.order(spec, "it runs", is_well).await;
    let (_, host) = bench.inspect().await;
    assert_eq!(
        (host.nano_cpus, host.memory, host.memory_swap, host.pids_limit),
        (Some(500_000_000), Some(33_554_432), Some(37_748_736), Some(50))
    );
    let logging = host.log_config.unwrap();
    assert_eq!(
        (logging.typ.as_deref(), logging.config.unwrap()["max-size"].as_str()),
        (Some("json-file"), "1m")
    );
    assert_eq!(host.devices.unwrap()[0].cgroup_permissions.as_deref(), Some("r"));
    let hosts = bench.exec("cat /etc/hosts").await;
    assert!(hosts.contains("10.9.8.7\tdb") && hosts.contains("\tme"), "{hosts}");
    assert!(bench.exec("cat /etc/resolv.conf").await.contains("10.0.0.53"));
    assert_eq!(bench.exec("ls /dev/nothing").await, "/dev/nothing");
    agent.stop().await;
}

#[actix::test]
async fn a_container_is_made_of_an_image_of_its_platform_and_of_no_other() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (replica, _) = bench
        .order(template(json!({"pull": "never", "platform": format!("linux/{own}")})), "it runs", is_well)
        .await;
    let other = assignments("web", 2, 1, &template(json!({"pull": "never", "platform": "linux/s390x"})));
    bench.master.delta(1, &other, std::slice::from_ref(&replica)).await.unwrap();
    let status = bench.until(&other[0], "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_ref().unwrap().contains("platform"), "the engine says why: {status:?}");
    agent.stop().await;
}

#[actix::test]
async fn an_unhealthy_container_is_started_again_or_stopped_as_its_spec_says() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let spec = |on_unhealthy: &str| {
        template(json!({
            "command": ["/bin/sh", "-c", "rm -f /sick; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
            "health": {
                "test": {"shell": "! test -e /sick || { echo sick; exit 1; }"}, "interval_ms": 200, "timeout_ms": 5_000,
                "retries": 1, "on_unhealthy": on_unhealthy,
            },
        }))
    };
    let (replica, _) = bench.order(spec("restart"), "it runs", is_well).await;
    bench.exec("touch /sick").await;
    let again = |status: &ReplicaStatus| is_well(status) && status.restarts == 1;
    bench.until(&replica, "it is started again, and is well", again).await;
    let other = assignments("web", 2, 1, &spec("replace")).remove(0);
    bench.master.delta(1, std::slice::from_ref(&other), std::slice::from_ref(&replica)).await.unwrap();
    bench.until(&other, "it runs", is_well).await;
    bench.exec_in(other.replica.as_str(), "touch /sick").await;
    let failed = bench.until(&other, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("its health check fails: sick; it is to be replaced"));
    agent.stop().await;
}

#[actix::test]
async fn volumes_are_made_with_our_label_and_outlive_the_replica() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let bound = tempfile::tempdir().unwrap();
    std::fs::write(bound.path().join("given"), "by the host").unwrap();
    let mounts = json!({ "mounts": [
        {"type": "volume", "source": "web-data", "target": "/data"},
        {"type": "volume", "source": "web-fast", "target": "/fast", "driver": "local", "options": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}},
        {"type": "bind", "source": bound.path(), "target": "/bound", "read_only": true},
        {"type": "tmpfs", "target": "/scratch", "size_bytes": 1_048_576, "mode": 0o700},
        {"type": "tmpfs", "target": "/run", "size_bytes": 1_048_576, "mode": "750", "mount_options": ["exec", "uid=7"]},
    ]});
    bench.order(template(mounts.clone()), "it runs", is_well).await;
    assert_eq!(bench.exec("echo kept > /data/x; cat /bound/given").await, "by the host");
    assert!(bench.exec("echo y > /bound/y").await.ends_with("Read-only file system"));
    assert!(bench.exec("grep /scratch /proc/mounts").await.contains("size=1024k,mode=700"));
    let options = bench.exec("grep ' /run ' /proc/mounts").await;
    assert!(options.contains("size=1024k,mode=750,uid=7") && !options.contains("noexec"), "{options}");
    assert!(bench.exec("grep /fast /proc/mounts").await.contains("size=1024k"));
    let volume = bench.docker().inspect_volume("web-data").await.unwrap();
    assert_eq!(volume.labels[labels::MANAGED_VOLUME], "true");
    assert_eq!(volume.labels[labels::CLUSTER], bench.master.cluster.as_str());

    // The next replica of that volume finds what was written.
    let next = assignments("web", 2, 1, &template(mounts)).remove(0);
    bench.master.snapshot(2, std::slice::from_ref(&next)).await.unwrap();
    bench.until(&next, "the next one runs", is_well).await;
    bench
        .until(&assignments("web", 1, 1, &template(json!({})))[0], "the first is gone", |s| {
            s.state == ReplicaState::Stopped
        })
        .await;
    let read = std::process::Command::new("cat").arg(format!("{}/x", volume.mountpoint)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "kept\n");
    agent.stop().await;
}

#[actix::test]
async fn what_the_engine_cannot_mount_is_a_failure_in_its_own_words() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let spec = template(json!({"mounts": [{"type": "bind", "source": "/nonexistent/path", "target": "/x"}]}));
    let (_, status) = bench.order(spec, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_deref().unwrap().contains("/nonexistent/path"), "{status:?}");
    let spec = template(
        json!({"mounts": [{"type": "volume", "source": "some-data", "target": "/x", "driver": "no-such-driver"}]}),
    );
    let second = assignments("web", 2, 1, &spec).remove(0);
    bench.master.delta(1, std::slice::from_ref(&second), &[]).await.unwrap();
    let status = bench.until(&second, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(
        status.reason.as_deref().unwrap().contains("no-such-driver"),
        "no image is pulled for it: {status:?}"
    );
    agent.stop().await;
}

#[actix::test]
async fn networks_are_made_once_with_our_label_and_all_are_joined_with_aliases() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let spec = template(
        json!({"networks": [{"name": "front", "aliases": ["www"]}, {"name": "back", "aliases": ["app", "api"]}]}),
    );
    let replicas = assignments("web", 1, 3, &spec);
    bench.master.snapshot(1, &replicas).await.unwrap();
    for replica in &replicas {
        bench.until(replica, "each runs", is_well).await;
        let found = bench.docker().inspect_container(replica.replica.as_str(), None).await.unwrap();
        let joined = found.network_settings.unwrap().networks.unwrap();
        let mut names: Vec<_> = joined.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["back", "front"]);
        assert!(joined["front"].aliases.as_ref().unwrap().contains(&"www".to_owned()));
        assert!(joined["back"].aliases.as_ref().unwrap().contains(&"api".to_owned()));
    }
    for name in ["front", "back"] {
        let network = bench.docker().inspect_network(name, None).await.unwrap();
        assert_eq!((network.driver.as_deref(), network.attachable), (Some("bridge"), Some(true)));
        assert_eq!(network.labels.unwrap()[labels::MANAGED_NETWORK], "true");
    }
    let all = bench.docker().list_networks(None).await.unwrap();
    assert_eq!(
        all.iter().filter(|network| ["front", "back"].contains(&network.name.as_deref().unwrap())).count(),
        2
    );
    agent.stop().await;
}

#[actix::test]
async fn a_replica_has_the_address_of_its_spec_on_a_network_with_a_subnet() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let ipam = bollard::models::Ipam {
        config: Some(vec![bollard::models::IpamConfig {
            subnet: Some("10.77.0.0/24".to_owned()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    for (name, ipam) in [("lan", Some(ipam)), ("other", None)] {
        let body =
            bollard::models::NetworkCreateRequest { name: name.to_owned(), ipam, ..Default::default() };
        bench.docker().create_network(body).await.unwrap();
    }
    let lan = json!({"name": "lan", "ipv4_address": "10.77.0.9"});
    let other = json!({"name": "other"});
    // The first network is one of the container's creation, the others are joined before its start.
    for (number, networks) in [(1, [&lan, &other]), (2, [&other, &lan])] {
        let replica = assignments("web", number, 1, &template(json!({"networks": networks}))).remove(0);
        let revision = 2 * u64::from(number) - 1;
        bench.master.snapshot(revision, std::slice::from_ref(&replica)).await.unwrap();
        bench.until(&replica, "it runs", is_well).await;
        let found = bench.docker().inspect_container(replica.replica.as_str(), None).await.unwrap();
        let joined = found.network_settings.unwrap().networks.unwrap();
        assert_eq!(joined["lan"].ip_address.as_deref(), Some("10.77.0.9"), "{networks:?}");
        bench.master.snapshot(revision + 1, &[]).await.unwrap();
        bench.until(&replica, "it is gone", |status| status.state == ReplicaState::Stopped).await;
    }
    let nowhere = template(json!({"networks": [{"name": "other", "ipv4_address": "10.77.0.9"}]}));
    let nowhere = assignments("web", 3, 1, &nowhere).remove(0);
    bench.master.snapshot(5, std::slice::from_ref(&nowhere)).await.unwrap();
    let status = bench.until(&nowhere, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_ref().unwrap().contains("subnet"), "the engine says why: {status:?}");
    agent.stop().await;
}

#[actix::test]
async fn a_network_goes_when_nothing_needs_it_and_stays_while_somebody_is_in_it() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let body = bollard::models::NetworkCreateRequest { name: "foreign".to_owned(), ..Default::default() };
    bench.docker().create_network(body).await.unwrap();
    let spec = template(json!({"networks": [{"name": "front"}, {"name": "back"}, {"name": "foreign"}]}));
    let (replica, _) = bench.order(spec, "it runs", is_well).await;
    // Somebody else's container, which does not run, is to join one of them.
    let body = bollard::models::ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        host_config: Some(HostConfig { network_mode: Some("back".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let other = bench.docker().create_container(None, body).await.unwrap().id;
    bench.master.delta(1, &[], std::slice::from_ref(&replica)).await.unwrap();
    bench.until(&replica, "it is gone", |status| status.state == ReplicaState::Stopped).await;
    let names = async || {
        let all = bench.docker().list_networks(None).await.unwrap();
        all.into_iter()
            .filter_map(|network| network.name)
            .filter(|name| name != "host" && name != "none")
            .collect::<BTreeSet<_>>()
    };
    until("the unused network is gone", async || (!names().await.contains("front")).then_some(())).await;
    let left = ["back", "bridge", "foreign"].map(str::to_owned);
    assert_eq!(names().await, left.into(), "one is somebody's, and one was not made for a replica");

    // A new agent looks, too.
    agent.stop().await;
    bench.docker().remove_container(&other, None).await.unwrap();
    let agent = bench.agent().await;
    until("the other is gone, too", async || (!names().await.contains("back")).then_some(())).await;
    agent.stop().await;
}

#[actix::test]
async fn a_name_that_begins_the_id_of_something_else_stays_a_name() {
    let bench = Bench::new().await;
    let mut begins = Vec::new();
    for name in ["other", "another"] {
        let body = bollard::models::NetworkCreateRequest { name: name.to_owned(), ..Default::default() };
        begins.push(bench.docker().create_network(body).await.unwrap().id[..6].to_owned());
    }
    let agent = bench.agent().await;
    let spec = template(json!({"networks": [{"name": begins[0]}, {"name": begins[1]}]}));
    bench.order(spec, "it runs", is_well).await;
    let (found, _) = bench.inspect().await;
    let joined = found.network_settings.unwrap().networks.unwrap();
    let names: BTreeSet<&String> = joined.keys().collect();
    assert_eq!(names, begins.iter().collect(), "{joined:?}");
    for (name, endpoint) in &joined {
        assert!(
            !endpoint.network_id.as_ref().unwrap().starts_with(name.as_str()),
            "it joined the other's: {endpoint:?}"
        );
    }

    let id = bench.docker().inspect_image(BUSYBOX).await.unwrap().id.unwrap();
    let digits = &id.strip_prefix("sha256:").unwrap()[..8];
    let images = [digits.to_owned(), format!("sha256:{digits}")];
    for (number, image) in (2..).zip(&images) {
        let mut spec = template(json!({"pull": "never"}));
        spec.image = ImageRef::parse(image).unwrap();
        let replica = assignments("web", number, 1, &spec).remove(0);
        bench.master.delta(u64::from(number) - 1, std::slice::from_ref(&replica), &[]).await.unwrap();
        let status = bench.until(&replica, "it fails", |status| status.state == ReplicaState::Failed).await;
        assert!(
            status.reason.as_ref().unwrap().contains("No such image"),
            "no image has this name: {status:?}"
        );
    }
    agent.stop().await;
}

#[actix::test]
async fn published_ports_are_told_as_the_engine_chose_them_also_after_a_restart_and_by_a_new_agent() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = template(json!({"ports": [
        {"target": 80}, {"target": 81, "published": free, "host_ip": "127.0.0.1"}, {"target": 53, "protocol": "udp"},
        {"target": "90-91"}, {"target": 70, "host_ip": "::1"},
    ]}));
    let (replica, status) = bench.order(spec, "it runs", is_well).await;
    let binding = |status: &ReplicaStatus, target: u16| {
        status.ports.iter().find(|port| port.target == target).copied().unwrap()
    };
    assert_eq!(status.ports.len(), 6, "{status:?}");
    assert_eq!(binding(&status, 70).host_ip, std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST));
    assert!(
        [90, 91].into_iter().all(|target| binding(&status, target).published != 0),
        "a range is each of its ports"
    );
    assert_eq!(binding(&status, 81).shown(None), format!("127.0.0.1:{free}->81/tcp"));
    assert_eq!(binding(&status, 53).protocol.as_str(), "udp");
    assert!(binding(&status, 80).host_ip.is_unspecified() && binding(&status, 80).published != 0);

    // Somebody else takes what the engine chose, so that it has to choose another.
    let before = binding(&status, 80).published;
    bench.docker().stop_container("web-000001", None).await.unwrap();
    let taken = std::net::TcpListener::bind(("0.0.0.0", before));
    let again = bench.until(&replica, "it runs again", |status| is_well(status) && status.restarts > 0).await;
    let (found, _) = bench.inspect().await;
    let chosen = found.network_settings.unwrap().ports.unwrap()["80/tcp"].as_ref().unwrap()[0]
        .host_port
        .clone()
        .unwrap();
    assert_eq!(binding(&again, 80).published.to_string(), chosen);
    drop(taken);

    agent.stop().await;
    bench.master.received().statuses.clear();
    let restarted = Now::read().wall;
    let agent = bench.agent().await;
    let is_old = |status: &ReplicaStatus| is_well(status) && status.since < restarted;
    let adopted = bench.until(&replica, "it is adopted, and as old as its container", is_old).await;
    assert_eq!(adopted.ports, again.ports);
    agent.stop().await;
}

#[actix::test]
async fn a_replica_counts_only_when_the_engines_check_has_passed() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let check = json!({"health": {"test": {"shell": "test -e /tmp-ok"}, "interval_ms": 200, "timeout_ms": 1_000, "retries": 2}});
    let starting =
        |status: &ReplicaStatus| status.state == ReplicaState::Running && status.health == Health::Starting;
    let (replica, status) = bench.order(template(check), "it is starting", starting).await;
    assert_eq!(status.reason.as_deref(), Some("its health check has not passed yet"));
    bench.until(&replica, "its check fails", |status| status.health == Health::Unhealthy).await;
    bench.exec("echo > /tmp-ok").await;
    bench.until(&replica, "its check passes", is_well).await;
    let (found, _) = bench.inspect().await;
    assert_eq!(found.state.unwrap().health.unwrap().status, Some(HealthStatusEnum::HEALTHY));
    bench.exec("rm /tmp-ok").await;
    let says = |status: &ReplicaStatus, words: &str| {
        status.health == Health::Unhealthy && status.reason.as_deref() == Some(words)
    };
    let silent = "its health check fails: it ended with code 1";
    bench
        .until(&replica, "its check fails again and has written nothing", |status| says(status, silent))
        .await;
    agent.stop().await;
}

#[actix::test]
async fn a_failing_check_shows_what_it_wrote_also_to_a_new_agent() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let check = json!({"health": {"test": {"shell": "echo asked; echo no database; exit 3"}, "interval_ms": 200, "timeout_ms": 1_000, "retries": 1}});
    let says =
        |status: &ReplicaStatus| status.reason.as_deref() == Some("its health check fails: no database");
    let (replica, _) = bench.order(template(check), "it says why", says).await;
    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    bench.until(&replica, "a new agent says why", says).await;
    agent.stop().await;
}

#[actix::test]
async fn a_replica_that_was_disconnected_from_its_network_is_unhealthy() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let (replica, _) =
        bench.order(template(json!({"networks": [{"name": "front"}]})), "it runs", is_well).await;
    let cut =
        bollard::models::NetworkDisconnectRequest { container: "web-000001".to_owned(), force: Some(true) };
    bench.docker().disconnect_network("front", cut).await.unwrap();
    // A new agent looks at everything at once.
    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    let status = bench.until(&replica, "it is unhealthy", |status| status.health == Health::Unhealthy).await;
    assert_eq!(status.reason.as_deref(), Some("it is joined to no network: somebody has disconnected it"));
    agent.stop().await;
}

#[actix::test]
async fn what_the_kernel_kills_for_want_of_memory_says_so() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let eats = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let spec = template(
        json!({"command": ["/bin/sh", "-c", eats], "resources": {"limit": {"memory_bytes": 16_777_216}}}),
    );
    let says = |status: &ReplicaStatus| {
        status.reason.as_deref().is_some_and(|why| why.contains("ran out of memory and was killed"))
    };
    let (_, status) = bench.order(spec, "it says so", says).await;
    assert_eq!(status.exit_code, Some(137), "{status:?}");
    agent.stop().await;
}

#[actix::test]
async fn on_the_hosts_network_a_check_does_not_take_another_process_for_the_containers() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = |command: &str| {
        template(json!({"command": ["/bin/sh", "-c", command], "networks": [{"name": "host"}],
            "health": {"test": {"tcp": {"port": port}}, "interval_ms": 200, "timeout_ms": 1_000, "retries": 1}}))
    };
    let serves = format!("exec httpd -f -p {port} -h /");
    bench.order(spec(&serves), "the first serves", is_well).await;
    // It could never bind the port, and something answers there.
    let dead =
        assignments("web", 2, 1, &spec("trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done")).remove(0);
    bench.master.delta(1, std::slice::from_ref(&dead), &[]).await.unwrap();
    let status = bench.until(&dead, "its check fails", |status| status.health == Health::Unhealthy).await;
    let why = format!("port {port} of the host is served by a process of another container or of the host");
    assert!(status.reason.as_deref().unwrap().ends_with(&why), "{status:?}");
    let healthy = bench.master.received().histories[dead.replica.as_str()].clone();
    assert!(healthy.contains(&ReplicaState::Running), "{healthy:?}");
    agent.stop().await;
}

#[actix::test]
async fn the_agent_checks_over_http_what_has_no_shell_and_goes_on_after_its_own_restart() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let script = "mkdir -p /www; exec httpd -f -p 8080 -h /www";
    let check = json!({"command": ["/bin/sh", "-c", script], "health": {"test": {"http": {"port": 8080, "path": "/ok"}},
        "interval_ms": 200, "timeout_ms": 1_000, "retries": 2}});
    let refuses = |status: &ReplicaStatus| {
        status.health == Health::Unhealthy
            && status.reason.as_deref().is_some_and(|reason| reason.ends_with("/ok answered 404"))
    };
    let (replica, _) = bench.order(template(check), "its check fails", refuses).await;
    bench.exec("echo > /www/ok").await;
    bench.until(&replica, "its check passes", is_well).await;
    let (found, _) = bench.inspect().await;
    assert_eq!(
        found.state.unwrap().health.and_then(|health| health.status).unwrap_or(HealthStatusEnum::NONE),
        HealthStatusEnum::NONE
    );

    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    bench.until(&replica, "it is checked again", is_well).await;
    bench.exec("rm /www/ok").await;
    bench.until(&replica, "its check fails again", refuses).await;
    agent.stop().await;
}

#[actix::test]
async fn a_connection_is_check_enough_for_what_speaks_no_http() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let script = "trap 'exit 0' TERM; while [ ! -e /go ]; do sleep 1 & wait $!; done; while :; do nc -l -p 9000 < /dev/null; done";
    let check = json!({"command": ["/bin/sh", "-c", script], "health": {"test": {"tcp": {"port": 9000}}, "interval_ms": 60_000,
        "timeout_ms": 1_000}});
    let starting = |status: &ReplicaStatus| {
        status.health == Health::Starting
            && status.reason.as_deref().is_some_and(|reason| reason.contains("refused"))
    };
    let (replica, _) = bench.order(template(check), "nothing listens", starting).await;
    bench.exec("echo > /go").await;
    bench.until(&replica, "it listens, long before its interval is over", is_well).await;
    tokio::time::timeout(Duration::from_secs(20), agent.stop()).await.unwrap();
}

#[actix::test]
async fn what_is_done_stays_so_and_what_fails_is_started_again_as_often_as_its_spec_allows() {
    let bench = Bench::new().await;
    let agent = bench.agent().await;
    let ends = |script: &str, restart: Value| {
        template(json!({"command": ["/bin/sh", "-c", script], "restart": restart}))
    };
    let done = ends("sleep 1; exit 0", json!({"condition": "on_failure"}));
    let (done, status) =
        bench.order(done, "it is done", |status| status.state == ReplicaState::Complete).await;
    assert_eq!((status.exit_code, status.reason.as_deref()), (Some(0), Some("ended with code 0")));
    let (_, host) = bench.inspect().await;
    assert_eq!(host.restart_policy.unwrap().name, Some(bollard::models::RestartPolicyNameEnum::NO));

    let spec = ends("exit 3", json!({"condition": "on_failure", "delay_ms": 100, "max_attempts": 1}));
    let fails = assignments("web", 2, 1, &spec).remove(0);
    bench.master.delta(1, std::slice::from_ref(&fails), &[]).await.unwrap();
    let status = bench.until(&fails, "it is given up", |status| status.state == ReplicaState::Failed).await;
    assert_eq!(
        status.reason.as_deref(),
        Some("exited with code 3 after 1 restarts, as many as max_attempts allows")
    );

    // A new agent finds both as they ended, and starts neither.
    agent.stop().await;
    bench.master.received().statuses.clear();
    let agent = bench.agent().await;
    bench.until(&done, "it is still done", |status| status.state == ReplicaState::Complete).await;
    let missing = template(json!({"pull": "never"}));
    let missing =
        Template { image: shef_common::image::ImageRef::parse("shef-lab/missing:1").unwrap(), ..missing };
    let third = assignments("web", 3, 1, &missing).remove(0);
    bench.master.delta(2, std::slice::from_ref(&third), &[]).await.unwrap();
    let status = bench.until(&third, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_deref().unwrap().contains("pull is never"), "{status:?}");
    agent.stop().await;
}
