//! What several of these tests wait for.

use serde_json::Value;
use shef_integration_tests::{
    cluster::Answer,
    lab::{lan::Lan, wait::until},
};

/// Waits until the API shows the host in `state`, and brings what it shows.
pub async fn host_is(lan: &Lan, host: &str, state: &str) -> Value {
    lan.master.api.until(&format!("/v1/nodes/{host}"), |answer: &Answer| answer.body["state"] == state).await.body
}

/// Waits until `count` containers of ours run on the hosts named.
pub async fn running_on(lan: &mut Lan, hosts: &[&str], count: usize) {
    until("so many run there", async || {
        let all = lan.by_host().await;
        let here = all.iter().filter(|(host, _)| hosts.contains(&host.as_str())).flat_map(|(_, containers)| containers.values());
        (here.filter(|seen| seen.state == "running").count() == count).then_some(())
    })
    .await;
}
