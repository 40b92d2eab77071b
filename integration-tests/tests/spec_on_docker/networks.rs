//! Networks, addresses and published ports.

use std::collections::BTreeSet;

use bollard::models::HostConfig;
use serde_json::json;
use shef_common::{
    clock::Now,
    image::ImageRef,
    labels,
    status::{Health, ReplicaState, ReplicaStatus},
};
use shef_integration_tests::lab::{engine::BUSYBOX, scripted_master::assignments, wait::until};

use super::{Site, is_well, template};

#[actix::test]
async fn networks_are_made_once_with_our_label_and_all_are_joined_with_aliases() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let spec = template(json!({"networks": [
        {"name": "front", "aliases": ["www"]}, {"name": "back", "aliases": ["app", "api"]},
    ]}));
    let replicas = assignments("web", 1, 3, &spec);
    site.master.snapshot(1, &replicas).await.unwrap();
    for replica in &replicas {
        site.until(replica, "each runs", is_well).await;
        let found = site.docker().inspect_container(replica.replica.as_str(), None).await.unwrap();
        let joined = found.network_settings.unwrap().networks.unwrap();
        let mut names: Vec<_> = joined.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["back", "front"]);
        assert!(joined["front"].aliases.as_ref().unwrap().contains(&"www".to_owned()));
        assert!(joined["back"].aliases.as_ref().unwrap().contains(&"api".to_owned()));
    }
    for name in ["front", "back"] {
        let network = site.docker().inspect_network(name, None).await.unwrap();
        assert_eq!((network.driver.as_deref(), network.attachable), (Some("bridge"), Some(true)));
        assert_eq!(network.labels.unwrap()[labels::MANAGED_NETWORK], "true");
    }
    let all = site.docker().list_networks(None).await.unwrap();
    assert_eq!(
        all.iter().filter(|network| ["front", "back"].contains(&network.name.as_deref().unwrap())).count(),
        2
    );
    agent.stop().await;
}

#[actix::test]
async fn a_replica_has_the_address_of_its_spec_on_a_network_with_a_subnet() {
    let site = Site::new().await;
    let agent = site.agent().await;
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
        site.docker().create_network(body).await.unwrap();
    }
    let lan = json!({"name": "lan", "ipv4_address": "10.77.0.9"});
    let other = json!({"name": "other"});
    // The first network is one of the container's creation, the others are joined before its start.
    for (number, networks) in [(1, [&lan, &other]), (2, [&other, &lan])] {
        let replica = assignments("web", number, 1, &template(json!({"networks": networks}))).remove(0);
        let revision = 2 * u64::from(number) - 1;
        site.master.snapshot(revision, std::slice::from_ref(&replica)).await.unwrap();
        site.until(&replica, "it runs", is_well).await;
        let found = site.docker().inspect_container(replica.replica.as_str(), None).await.unwrap();
        let joined = found.network_settings.unwrap().networks.unwrap();
        assert_eq!(joined["lan"].ip_address.as_deref(), Some("10.77.0.9"), "{networks:?}");
        site.master.snapshot(revision + 1, &[]).await.unwrap();
        site.until(&replica, "it is gone", |status| status.state == ReplicaState::Stopped).await;
    }
    let nowhere = template(json!({"networks": [{"name": "other", "ipv4_address": "10.77.0.9"}]}));
    let nowhere = assignments("web", 3, 1, &nowhere).remove(0);
    site.master.snapshot(5, std::slice::from_ref(&nowhere)).await.unwrap();
    let status = site.until(&nowhere, "it fails", |status| status.state == ReplicaState::Failed).await;
    assert!(status.reason.as_ref().unwrap().contains("subnet"), "the engine says why: {status:?}");
    agent.stop().await;
}

#[actix::test]
async fn a_network_goes_when_nothing_needs_it_and_stays_while_somebody_is_in_it() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let body = bollard::models::NetworkCreateRequest { name: "foreign".to_owned(), ..Default::default() };
    site.docker().create_network(body).await.unwrap();
    let spec = template(json!({"networks": [{"name": "front"}, {"name": "back"}, {"name": "foreign"}]}));
    let (replica, _) = site.order(spec, "it runs", is_well).await;
    // Somebody else's container, which does not run, is to join one of them.
    let body = bollard::models::ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        host_config: Some(HostConfig { network_mode: Some("back".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let other = site.docker().create_container(None, body).await.unwrap().id;
    site.master.delta(1, &[], std::slice::from_ref(&replica)).await.unwrap();
    site.until(&replica, "it is gone", |status| status.state == ReplicaState::Stopped).await;
    let names = async || {
        let all = site.docker().list_networks(None).await.unwrap();
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
    site.docker().remove_container(&other, None).await.unwrap();
    let agent = site.agent().await;
    until("the other is gone, too", async || (!names().await.contains("back")).then_some(())).await;
    agent.stop().await;
}

#[actix::test]
async fn a_name_that_begins_the_id_of_something_else_stays_a_name() {
    let site = Site::new().await;
    let mut begins = Vec::new();
    for name in ["other", "another"] {
        let body = bollard::models::NetworkCreateRequest { name: name.to_owned(), ..Default::default() };
        begins.push(site.docker().create_network(body).await.unwrap().id[..6].to_owned());
    }
    let agent = site.agent().await;
    let spec = template(json!({"networks": [{"name": begins[0]}, {"name": begins[1]}]}));
    site.order(spec, "it runs", is_well).await;
    let (found, _) = site.inspect().await;
    let joined = found.network_settings.unwrap().networks.unwrap();
    let names: BTreeSet<&String> = joined.keys().collect();
    assert_eq!(names, begins.iter().collect(), "{joined:?}");
    for (name, endpoint) in &joined {
        assert!(
            !endpoint.network_id.as_ref().unwrap().starts_with(name.as_str()),
            "it joined the other's: {endpoint:?}"
        );
    }

    let id = site.docker().inspect_image(BUSYBOX).await.unwrap().id.unwrap();
    let digits = &id.strip_prefix("sha256:").unwrap()[..8];
    let images = [digits.to_owned(), format!("sha256:{digits}")];
    for (number, image) in (2..).zip(&images) {
        let mut spec = template(json!({"pull": "never"}));
        spec.image = ImageRef::parse(image).unwrap();
        let replica = assignments("web", number, 1, &spec).remove(0);
        site.master.delta(u64::from(number) - 1, std::slice::from_ref(&replica), &[]).await.unwrap();
        let status = site.until(&replica, "it fails", |status| status.state == ReplicaState::Failed).await;
        assert!(
            status.reason.as_ref().unwrap().contains("No such image"),
            "no image has this name: {status:?}"
        );
    }
    agent.stop().await;
}

#[actix::test]
async fn published_ports_are_reported_as_the_engine_chose_them() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = template(json!({"ports": [
        {"target": 80}, {"target": 81, "published": free, "host_ip": "127.0.0.1"},
        {"target": 53, "protocol": "udp"},
        {"target": "90-91"}, {"target": 70, "host_ip": "::1"},
    ]}));
    let (replica, status) = site.order(spec, "it runs", is_well).await;
    let binding = |status: &ReplicaStatus, target: u16| {
        status.ports.iter().find(|port| port.target == target).copied().unwrap()
    };
    // The engine may choose another port for IPv6, where that of IPv4 is taken.
    let targets: BTreeSet<u16> = status.ports.iter().map(|port| port.target).collect();
    assert_eq!(targets, [53, 70, 80, 81, 90, 91].into(), "{status:?}");
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
    let turns = status.turns;
    site.docker().stop_container("web-000001", None).await.unwrap();
    let taken = std::net::TcpListener::bind(("0.0.0.0", before));
    let again = site.until(&replica, "it runs again", |status| is_well(status) && status.turns > turns).await;
    let (found, _) = site.inspect().await;
    let chosen = found.network_settings.unwrap().ports.unwrap()["80/tcp"].as_ref().unwrap()[0]
        .host_port
        .clone()
        .unwrap();
    assert_eq!(binding(&again, 80).published.to_string(), chosen);
    drop(taken);

    agent.stop().await;
    site.master.received().statuses.clear();
    let restarted = Now::read().wall;
    let agent = site.agent().await;
    let is_old = |status: &ReplicaStatus| is_well(status) && status.since < restarted;
    let adopted = site.until(&replica, "it is adopted, and as old as its container", is_old).await;
    assert_eq!(adopted.ports, again.ports);
    agent.stop().await;
}

#[actix::test]
async fn a_replica_that_was_disconnected_from_its_network_is_unhealthy() {
    let site = Site::new().await;
    let agent = site.agent().await;
    let (replica, _) =
        site.order(template(json!({"networks": [{"name": "front"}]})), "it runs", is_well).await;
    let cut =
        bollard::models::NetworkDisconnectRequest { container: "web-000001".to_owned(), force: Some(true) };
    site.docker().disconnect_network("front", cut).await.unwrap();
    // A new agent looks at everything at once.
    agent.stop().await;
    site.master.received().statuses.clear();
    let agent = site.agent().await;
    let status = site.until(&replica, "it is unhealthy", |status| status.health == Health::Unhealthy).await;
    assert_eq!(status.reason.as_deref(), Some("it is joined to no network: somebody has disconnected it"));
    agent.stop().await;
}
