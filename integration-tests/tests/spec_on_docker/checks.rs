//! Health checks, by the engine and by the agent.

use std::time::Duration;

use bollard::models::HealthStatusEnum;
use serde_json::json;
use shef_common::status::{Health, ReplicaState, ReplicaStatus};
use shef_integration_tests::lab::scripted_master::assignments;

use super::{Site, is_well, template};

#[actix::test]
async fn an_unhealthy_container_is_started_again_or_stopped_as_its_spec_says() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let spec = |on_unhealthy: &str| {
        template(json!({
            "command": ["/bin/sh", "-c", "rm -f /sick; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; \
                                          done"],
            "health": {
                "test": {"shell": "! test -e /sick || { echo sick; exit 1; }"}, "interval_ms": 200,
                "timeout_ms": 5_000,
                "retries": 1, "on_unhealthy": on_unhealthy,
            },
        }))
    };
    let (replica, _) = site.order(spec("restart"), "it runs", is_well).await;
    site.exec("touch /sick").await;
    let again = |status: &ReplicaStatus| is_well(status) && status.restarts == 1;
    site.until(&replica, "it is started again, and is well", again).await;
    let other = assignments("web", 2, 1, &spec("replace")).remove(0);
    site.master.delta(1, std::slice::from_ref(&other), std::slice::from_ref(&replica)).await.unwrap();
    site.until(&other, "it runs", is_well).await;
    site.exec_in(other.replica.as_str(), "touch /sick").await;
    let failed = site.until(&other, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("its health check fails: sick; it is to be replaced"));
    agent.stop().await;
}

#[actix::test]
async fn a_replica_counts_only_when_the_engines_check_has_passed() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let check = json!({"health": {
        "test": {"shell": "test -e /tmp-ok"}, "interval_ms": 200, "timeout_ms": 1_000, "retries": 2,
    }});
    let starting =
        |status: &ReplicaStatus| status.state == ReplicaState::Running && status.health == Health::Starting;
    let (replica, status) = site.order(template(check), "it is starting", starting).await;
    assert_eq!(status.reason.as_deref(), Some("its health check has not passed yet"));
    site.until(&replica, "its check fails", |status| status.health == Health::Unhealthy).await;
    site.exec("echo > /tmp-ok").await;
    site.until(&replica, "its check passes", is_well).await;
    let (found, _) = site.inspect().await;
    assert_eq!(found.state.unwrap().health.unwrap().status, Some(HealthStatusEnum::HEALTHY));
    site.exec("rm /tmp-ok").await;
    let says = |status: &ReplicaStatus, words: &str| {
        status.health == Health::Unhealthy && status.reason.as_deref() == Some(words)
    };
    let silent = "its health check fails: it ended with code 1";
    site.until(&replica, "its check fails again and has written nothing", |status| says(status, silent))
        .await;
    agent.stop().await;
}

#[actix::test]
async fn a_failing_check_shows_what_it_wrote_also_to_a_new_agent() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let check = json!({"health": {
        "test": {"shell": "echo asked; echo no database; exit 3"},
        "interval_ms": 200, "timeout_ms": 1_000, "retries": 1,
    }});
    let says =
        |status: &ReplicaStatus| status.reason.as_deref() == Some("its health check fails: no database");
    let (replica, _) = site.order(template(check), "it says why", says).await;
    agent.stop().await;
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    site.until(&replica, "a new agent says why", says).await;
    agent.stop().await;
}

#[actix::test]
async fn on_the_hosts_network_a_check_knows_the_containers_own_process() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = |command: &str| {
        template(json!({"command": ["/bin/sh", "-c", command], "networks": [{"name": "host"}],
            "health": {"test": {"tcp": {"port": port}}, "interval_ms": 200, "timeout_ms": 1_000,
                "retries": 1}}))
    };
    let serves = format!("exec httpd -f -p {port} -h /");
    site.order(spec(&serves), "the first serves", is_well).await;
    // It could never bind the port, and something answers there.
    let dead =
        assignments("web", 2, 1, &spec("trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done")).remove(0);
    site.master.delta(1, std::slice::from_ref(&dead), &[]).await.unwrap();
    let status = site.until(&dead, "its check fails", |status| status.health == Health::Unhealthy).await;
    let why = format!("port {port} of the host is served by a process of another container or of the host");
    assert!(status.reason.as_deref().unwrap().ends_with(&why), "{status:?}");
    let healthy = site.master.received().histories[dead.replica.as_str()].clone();
    assert!(healthy.contains(&ReplicaState::Running), "{healthy:?}");
    agent.stop().await;
}

#[actix::test]
async fn the_agent_checks_over_http_and_goes_on_after_its_restart() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let script = "mkdir -p /www; exec httpd -f -p 8080 -h /www";
    let check = json!({"command": ["/bin/sh", "-c", script],
        "health": {"test": {"http": {"port": 8080, "path": "/ok"}},
        "interval_ms": 200, "timeout_ms": 1_000, "retries": 2}});
    let refuses = |status: &ReplicaStatus| {
        status.health == Health::Unhealthy
            && status.reason.as_deref().is_some_and(|reason| reason.ends_with("/ok answered 404"))
    };
    let (replica, _) = site.order(template(check), "its check fails", refuses).await;
    site.exec("echo > /www/ok").await;
    site.until(&replica, "its check passes", is_well).await;
    let (found, _) = site.inspect().await;
    assert_eq!(
        found.state.unwrap().health.and_then(|health| health.status).unwrap_or(HealthStatusEnum::NONE),
        HealthStatusEnum::NONE
    );
    agent.stop().await;
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    site.until(&replica, "it is checked again", is_well).await;
    site.exec("rm /www/ok").await;
    site.until(&replica, "its check fails again", refuses).await;
    agent.stop().await;
}

#[actix::test]
async fn a_connection_is_check_enough_for_what_speaks_no_http() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let script = "trap 'exit 0' TERM; while [ ! -e /go ]; do sleep 1 & wait $!; done; while :; do nc -l \
                  -p 9000 < /dev/null; done";
    let check = json!({"command": ["/bin/sh", "-c", script],
        "health": {"test": {"tcp": {"port": 9000}}, "interval_ms": 60_000,
        "timeout_ms": 1_000}});
    let starting = |status: &ReplicaStatus| {
        status.health == Health::Starting
            && status.reason.as_deref().is_some_and(|reason| reason.contains("refused"))
    };
    let (replica, _) = site.order(template(check), "nothing listens", starting).await;
    site.exec("echo > /go").await;
    site.until(&replica, "it listens, long before its interval is over", is_well).await;
    tokio::time::timeout(Duration::from_secs(20), agent.stop()).await.unwrap();
}
