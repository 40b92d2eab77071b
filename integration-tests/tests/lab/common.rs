//! What several of these tests wait for.

use serde_json::Value;
use shef_integration_tests::{
    cluster::Answer,
    lab::{lan::LanLab, wait::until},
};

/// Waits until the API shows the host in `state`, and brings what it shows.
pub async fn host_is(lan: &LanLab, host: &str, state: &str) -> Value {
    lan.master
        .api
        .until(&format!("/v1/nodes/{host}"), |answer: &Answer| answer.body["state"] == state)
        .await
        .body
}

/// Waits until `count` containers of ours run on the hosts named.
pub async fn running_on(lan: &mut LanLab, hosts: &[&str], count: usize) {
    until("so many run there", async || {
        let all = lan.by_host().await;
        let here = all
            .iter()
            .filter(|(host, _)| hosts.contains(&host.as_str()))
            .flat_map(|(_, containers)| containers.values());
        (here.filter(|seen| seen.state == "running").count() == count).then_some(())
    })
    .await;
}

/// Waits until the replacements of what `service` has on `host` have passed their trial: until then the
/// originals win if they come back.
pub async fn nothing_is_wanted_on(lan: &LanLab, host: &str, service: &str) {
    let path = format!("/v1/services/{service}");
    let gone = |answer: &Answer| {
        let replicas = answer.body["replica_states"].as_array().map_or(&[][..], Vec::as_slice);
        replicas.iter().all(|replica| replica["node"] != host || replica["want"] == "remove")
    };
    lan.master.api.until(&path, gone).await;
}
