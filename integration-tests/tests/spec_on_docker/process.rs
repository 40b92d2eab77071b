//! The process of a container: its settings, its platform, its limits and its end.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use shef_common::{
    labels,
    spec::Template,
    status::{ReplicaState, ReplicaStatus},
};
use shef_integration_tests::lab::{scripted_master::assignments, wait::until};

use super::{Site, is_well, template};

#[actix::test]
async fn a_process_is_made_as_its_spec_says() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let script = "trap 'exit 0' INT; echo \"$0 $A\" > /dev/shm/said; while :; do sleep 1 & wait $!; done";
    let spec = template(json!({
        "entrypoint": ["/bin/sh"], "command": ["-c", script, "named"], "env": {"A": "x y"},
        "working_dir": "/bin", "user": "7:8",
        "hostname": "web.local", "domainname": "example.org", "labels": {"team": "blue"}, "init": true,
        "tty": true, "read_only": true,
        "stop_signal": "SIGINT",
        "ulimits": {"nofile": {"soft": 100, "hard": 200}},
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "cap_add": ["NET_ADMIN"], "cap_drop": ["MKNOD"], "group_add": ["4711"], "oom_score_adj": 321,
        "shm_bytes": 1_048_576,
    }));
    site.order(spec, "it runs", is_well).await;
    let (found, host) = site.inspect().await;
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
    assert_eq!(site.exec("cat /dev/shm/said").await, "named x y");
    let limits = host.ulimits.unwrap();
    assert_eq!((limits.len(), limits[0].soft, limits[0].hard), (1, Some(100), Some(200)));
    // The soft limit of what is run beside it is at times the hard one: runc's own runtime raises it (runc
    // issue 4195).
    assert_eq!(site.exec("pwd; hostname; ulimit -H -n").await.replace("\r\n", "\n"), "/bin\nweb.local\n200");
    assert_eq!(site.exec("cat /proc/sys/kernel/domainname").await, "example.org");
    assert_eq!(site.exec("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await, "0");
    assert!(site.exec("cat /proc/self/status").await.contains("Uid:\t7"), "the user is the one asked for");
    let process = site.exec("grep Groups /proc/1/status").await;
    assert!(process.contains("4711"), "its processes are of the group: {process}");
    assert_eq!(site.exec("cat /proc/1/oom_score_adj").await, "321");
    assert!(site.exec("echo x > /bin/x").await.contains("Read-only"));
    agent.stop().await;
}

#[actix::test]
async fn a_container_has_of_the_host_what_its_spec_says() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let spec = template(json!({
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
        // Not privileged: a test's machine may not have all capabilities itself.
        "pid": "host", "ipc": "host", "userns": "host", "cgroup_parent": "/shef-test",
        "security_opt": ["seccomp=unconfined"],
    }));
    site.order(spec, "it runs", is_well).await;
    let (_, host) = site.inspect().await;
    assert_eq!(host.cgroup_parent.as_deref(), Some("/shef-test"));
    assert!(host.security_opt.unwrap().contains(&"seccomp=unconfined".to_owned()));
    for namespace in ["pid", "ipc", "user"] {
        let path = format!("/proc/self/ns/{namespace}");
        let own = std::fs::read_link(&path).unwrap();
        assert_eq!(site.exec(&format!("readlink {path}")).await.trim(), own.to_str().unwrap());
    }
    agent.stop().await;
}

#[actix::test]
async fn the_settings_of_a_host_are_those_of_the_spec() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let spec = template(json!({
        "extra_hosts": {"db": "10.9.8.7"}, "host_gateway": ["me"], "dns": ["10.0.0.53"],
        "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
        "devices": [{"source": "/dev/zero", "target": "/dev/nothing", "permissions": "r"}],
        "resources": {"limit": {"cpu_millis": 500, "memory_bytes": 33_554_432, "swap_bytes": 4_194_304,
            "pids": 50}},
    }));
    site.order(spec, "it runs", is_well).await;
    let (_, host) = site.inspect().await;
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert!(site.exec("grep NoNewPrivs /proc/1/status").await.ends_with('1'));
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
    let hosts = site.exec("cat /etc/hosts").await;
    assert!(hosts.contains("10.9.8.7\tdb") && hosts.contains("\tme"), "{hosts}");
    assert!(site.exec("cat /etc/resolv.conf").await.contains("10.0.0.53"));
    assert_eq!(site.exec("ls /dev/nothing").await, "/dev/nothing");
    agent.stop().await;
}

#[actix::test]
async fn a_container_is_made_of_an_image_of_its_platform_and_of_no_other() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (replica, _) = site
        .order(template(json!({"pull": "never", "platform": format!("linux/{own}")})), "it runs", is_well)
        .await;
    let other = assignments("web", 2, 1, &template(json!({"pull": "never", "platform": "linux/s390x"})));
    site.master.delta(1, &other, std::slice::from_ref(&replica)).await.unwrap();
    let status = site.until(&other[0], "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_ref().unwrap().contains("platform"), "the engine says why: {status:?}");
    agent.stop().await;
}

#[actix::test]
async fn a_command_ends_with_whoever_reads_it_and_a_detached_one_does_not() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let (assignment, _) = site.order(template(json!({})), "it runs", is_well).await;
    assert_eq!(site.inspect().await.1.pids_limit, Some(4_096), "also without a word in the spec");
    let exec = async |query: &str| {
        let url = format!("{}/v1/replicas/{}/exec?{query}", site.master.agent_url(), assignment.replica);
        awc::Client::new().ws(url).connect().await.expect("a WebSocket").1
    };
    // One that gives in to the hang-up with its child, and one that does not, with a child in a terminal.
    let flood = exec("cmd=sh&cmd=-c&cmd=yes%20flood%7Ccat").await;
    let stubborn = exec("cmd=sh&cmd=-c&cmd=trap%20%27%27%20HUP%3B%20yes%20stubborn&tty=true").await;
    let mut detached = exec("cmd=sleep&cmd=4321&detach=true").await;
    assert!(detached.next().await.is_some(), "it has begun");
    drop(detached);
    let count = async |word: &str| site.exec(&format!("ps | grep -c '[{}]{}'", &word[..1], &word[1..])).await;
    for (mut socket, word) in [(flood, "yes flood"), (stubborn, "yes stubborn")] {
        assert!(socket.next().await.is_some(), "it writes");
        assert_ne!(count(word).await, "0");
        drop(socket);
        until("it has ended", async || (count(word).await == "0").then_some(())).await;
    }
    assert_eq!(count("sleep 4321").await, "1");
    agent.stop().await;
}

#[actix::test]
async fn what_the_kernel_kills_for_want_of_memory_says_so() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let eats = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let spec = template(
        json!({"command": ["/bin/sh", "-c", eats], "resources": {"limit": {"memory_bytes": 16_777_216}}}),
    );
    let says = |status: &ReplicaStatus| {
        status.reason.as_deref().is_some_and(|why| why.contains("ran out of memory and was killed"))
    };
    let (_, status) = site.order(spec, "it says so", says).await;
    assert_eq!(status.exit_code, Some(137), "{status:?}");
    agent.stop().await;
}

#[actix::test]
async fn what_is_done_stays_so_and_what_fails_restarts_as_its_spec_allows() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let ends = |script: &str, restart: Value| {
        template(json!({"command": ["/bin/sh", "-c", script], "restart": restart}))
    };
    let done = ends("sleep 1; exit 0", json!({"condition": "on_failure"}));
    let (done, status) =
        site.order(done, "it is done", |status| status.state == ReplicaState::Complete).await;
    assert_eq!((status.exit_code, status.reason.as_deref()), (Some(0), Some("ended with code 0")));
    let (_, host) = site.inspect().await;
    assert_eq!(host.restart_policy.unwrap().name, Some(bollard::models::RestartPolicyNameEnum::NO));

    let spec = ends("exit 3", json!({"condition": "on_failure", "delay_ms": 100, "max_attempts": 1}));
    let fails = assignments("web", 2, 1, &spec).remove(0);
    site.master.delta(1, std::slice::from_ref(&fails), &[]).await.unwrap();
    let status = site.until(&fails, "it is given up", |status| status.state == ReplicaState::Failed).await;
    assert_eq!(
        status.reason.as_deref(),
        Some("exited with code 3 after 1 restarts, as many as max_attempts allows")
    );

    // A new agent finds both as they ended, and starts neither.
    agent.stop().await;
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    site.until(&done, "it is still done", |status| status.state == ReplicaState::Complete).await;
    let missing = template(json!({"pull": "never"}));
    let missing =
        Template { image: shef_common::image::ImageRef::parse("shef-lab/missing:1").unwrap(), ..missing };
    let third = assignments("web", 3, 1, &missing).remove(0);
    site.master.delta(2, std::slice::from_ref(&third), &[]).await.unwrap();
    let status = site.until(&third, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_deref().unwrap().contains("pull is never"), "{status:?}");
    agent.stop().await;
}
