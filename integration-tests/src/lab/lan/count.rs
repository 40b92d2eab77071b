//! The last word of every test: real containers on every engine against what the API says.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{
    super::{engine::Seen, wait::until},
    LanLab,
};

impl LanLab {
    /// How often the master has called a host down, in all its runs.
    #[must_use]
    pub fn called_down(&self) -> usize {
        self.master.called_down()
    }

    /// Every container of ours on the hosts whose engine runs, by host and name.
    pub async fn by_host(&mut self) -> BTreeMap<String, BTreeMap<String, Seen>> {
        let running = self
            .hosts
            .iter_mut()
            .filter_map(|host| host.engine.is_running().then_some((host.name.clone(), host.socket())));
        join_all(running.map(|(name, socket)| async move { (name, socket.managed().await) }))
            .await
            .into_iter()
            .collect()
    }

    /// Every container of ours, by name.
    ///
    /// # Panics
    /// If one replica has containers on two hosts: their names say whose they are, and no name is used twice.
    pub async fn containers(&mut self) -> BTreeMap<String, Seen> {
        let mut all = BTreeMap::new();
        for (host, containers) in self.by_host().await {
            for (name, seen) in containers {
                assert!(all.insert(name.clone(), seen).is_none(), "{name} is on {host} and on another host");
            }
        }
        all
    }

    /// Waits until exactly the replicas that the services `names` want run, on the
    /// engines and in the API's words, each on the host that the API names; and brings their containers.
    ///
    /// # Panics
    /// If it does not come to that.
    pub async fn settled(&mut self, names: &[&str]) -> BTreeMap<String, Seen> {
        until("exactly what is wanted runs, where the API says", async || {
            let mut wanted = Vec::new();
            for name in names {
                let service = self.master.service(name).await?;
                let replicas = service["replica_states"].as_array()?;
                if service["state"] != "running" || replicas.len() as u64 != service["replicas"].as_u64()? {
                    return None;
                }
                let place = |replica: &serde_json::Value| {
                    Some((replica["node"].as_str()?.to_owned(), replica["id"].as_str()?.to_owned()))
                };
                wanted.extend(replicas.iter().filter_map(place));
            }
            wanted.sort();
            let by_host = self.by_host().await;
            let mut found: Vec<(String, String)> = Vec::new();
            let mut all = BTreeMap::new();
            for (host, containers) in by_host {
                for (name, seen) in containers {
                    if seen.state != "running" {
                        return None;
                    }
                    found.push((host.clone(), name.clone()));
                    all.insert(name, seen);
                }
            }
            found.sort();
            (found == wanted).then_some(all)
        })
        .await
    }
}
