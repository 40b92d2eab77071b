//! The floor: the engine driven directly through bollard, with nothing of shef
//! but the containers' labels and settings.

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum},
    query_parameters::{CreateContainerOptions, RemoveContainerOptions, StopContainerOptions},
};
use futures_util::{StreamExt as _, stream};
use shef_common::{
    ids::{ClusterId, Epoch},
    labels,
    protocol::Assignment,
    spec::Template,
};
use shef_integration_tests::lab::scripted_master::assignments;

/// Drives an engine.
pub struct Floor {
    client: Docker,
    cluster: ClusterId,
}

impl Floor {
    /// Through `client`.
    ///
    /// # Panics
    /// Never: the cluster's id is one.
    pub fn new(client: Docker) -> Self {
        Self { client, cluster: ClusterId::parse("00000000000f1004").expect("an id") }
    }

    /// Creates and starts `count` containers of `template`, at most `concurrency`
    /// at once; the next one begins when one runs.
    ///
    /// # Panics
    /// If the engine refuses.
    pub async fn create(&self, template: &Template, count: u32, concurrency: usize) {
        let each = stream::iter(assignments("floor", 0, count, template)).map(|assignment| async move {
            let options =
                CreateContainerOptions { name: Some(assignment.replica.to_string()), ..Default::default() };
            let created = self
                .client
                .create_container(Some(options), self.body(&assignment))
                .await
                .expect("it is created");
            self.client.start_container(&created.id, None).await.expect("it is started");
        });
        each.buffer_unordered(concurrency).collect::<Vec<()>>().await;
    }

    /// Stops (the signal, then the grace) and removes what [`Floor::create`] made.
    ///
    /// # Panics
    /// If the engine refuses.
    pub async fn remove(&self, template: &Template, count: u32, concurrency: usize) {
        let grace_s = i32::try_from(template.stop_grace_s).expect("a short grace");
        let each = stream::iter(assignments("floor", 0, count, template)).map(|assignment| async move {
            let name = assignment.replica.as_str();
            let stop = StopContainerOptions { t: Some(grace_s), ..Default::default() };
            self.client.stop_container(name, Some(stop)).await.expect("it is stopped");
            let remove = RemoveContainerOptions { v: true, force: true, ..Default::default() };
            self.client.remove_container(name, Some(remove)).await.expect("it is removed");
        });
        each.buffer_unordered(concurrency).collect::<Vec<()>>().await;
    }

    /// Creates and starts as many anew, and stops and removes each one's predecessor
    /// once it runs, at most `concurrency` pairs at once.
    ///
    /// # Panics
    /// If the engine refuses.
    #[allow(dead_code, reason = "not every bench updates")]
    pub async fn replace(&self, template: &Template, count: u32, concurrency: usize) {
        let old = assignments("floor", 0, count, template);
        let pairs = old.into_iter().zip(assignments("next", 0, count, template));
        let each = stream::iter(pairs).map(|(old, new)| async move {
            let options =
                CreateContainerOptions { name: Some(new.replica.to_string()), ..Default::default() };
            let created =
                self.client.create_container(Some(options), self.body(&new)).await.expect("it is created");
            self.client.start_container(&created.id, None).await.expect("it is started");
            let grace_s = i32::try_from(template.stop_grace_s).expect("a short grace");
            let stop = StopContainerOptions { t: Some(grace_s), ..Default::default() };
            self.client.stop_container(old.replica.as_str(), Some(stop)).await.expect("it is stopped");
            let remove = RemoveContainerOptions { v: true, force: true, ..Default::default() };
            self.client.remove_container(old.replica.as_str(), Some(remove)).await.expect("it is removed");
        });
        each.buffer_unordered(concurrency).collect::<Vec<()>>().await;
    }

    /// Removes whatever [`Floor::replace`] has left running.
    ///
    /// # Panics
    /// If the engine refuses.
    #[allow(dead_code, reason = "not every bench updates")]
    pub async fn remove_next(&self, template: &Template, count: u32) {
        for new in assignments("next", 0, count, template) {
            let remove = RemoveContainerOptions { v: true, force: true, ..Default::default() };
            self.client.remove_container(new.replica.as_str(), Some(remove)).await.expect("it is removed");
        }
    }

    /// What the agent asks the engine for, but for the mark by which an agent on
    /// the same engine would listen to these containers' events.
    fn body(&self, assignment: &Assignment) -> ContainerCreateBody {
        let mut labels = labels::of(&self.cluster, Epoch(1), assignment);
        labels.remove(labels::MANAGED);
        labels.insert("bench-managed-container".to_owned(), "true".to_owned());
        let template = &assignment.template;
        ContainerCreateBody {
            image: Some(template.image.as_str().to_owned()),
            cmd: Some(template.command.clone()),
            env: Some(template.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            labels: Some(labels),
            host_config: Some(HostConfig {
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                    maximum_retry_count: None,
                }),
                init: Some(false),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}
