//! Which container is a replica's.
//!
//! A container's identity is the label with the replica's id, not its name, which any user can change. A copy
//! carries the same labels (`docker commit` writes them into an image), so a container under another name
//! counts only if it was made of the image that its labels name.

use shef_common::{
    ids::{ClusterId, ReplicaId},
    labels,
    protocol::Assignment,
};

use super::Container;

impl Container {
    /// The assignment it was made for, if it belongs to `cluster`. See [`Container::lacks_env`].
    #[must_use]
    pub fn assignment(&self, cluster: &ClusterId) -> Option<Assignment> {
        let assignment = labels::read(cluster, &self.name, &self.labels, self.env.as_deref())?;
        let image = assignment.image();
        let has_its_name = self.name == assignment.replica.as_str();
        let made_of = self.image.as_deref();
        let has_its_image = made_of == Some(&*image.never_an_id()) || made_of == Some(image.as_str());
        (has_its_name || has_its_image).then_some(assignment)
    }

    /// Whether its assignment's `env` is unknown: a list does not contain it, an inspection does.
    #[must_use]
    pub fn lacks_env(&self) -> bool {
        self.env.is_none() && self.labels.contains_key(labels::ENV_NAMES)
    }

    /// Whether its labels name the replica of another name than its own.
    #[must_use]
    pub fn is_renamed(&self) -> bool {
        self.labels.get(labels::REPLICA).is_some_and(|replica| *replica != self.name)
    }
}

/// Of the containers that have a replica's name or its label, the one that is the replica's: the one that is
/// `known` already, else the one with its name, else always the same one.
#[must_use]
pub fn own<'a>(
    cluster: &ClusterId,
    replica: &ReplicaId,
    known: Option<&str>,
    found: impl IntoIterator<Item = &'a Container>,
) -> Option<&'a Container> {
    let is_known = |container: &Container| known == Some(container.id.as_str());
    let is_its = |container: &&Container| {
        is_known(container) && labels::are_ours(cluster, &container.labels)
            || container.assignment(cluster).is_some_and(|assignment| assignment.replica == *replica)
    };
    found.into_iter().filter(is_its).min_by_key(|container| {
        (!is_known(container), container.name != replica.as_str(), container.id.clone())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use shef_common::{
        ids::{Epoch, Generation, ServiceName, Slot},
        image::ImageRef,
        spec::{OnDisconnect, Template},
    };

    use super::*;
    use crate::engine::{ContainerState, RestartPolicy};

    fn cluster() -> ClusterId {
        ClusterId::parse("0123456789abcdef").unwrap()
    }

    fn container(id: &str, name: &str, image: &str, labels: HashMap<String, String>) -> Container {
        let image = Some(image.to_owned());
        Container {
            image,
            ..Container::new(id, name, labels, ContainerState::Running, RestartPolicy::Unknown)
        }
    }

    fn own_labels() -> (ReplicaId, HashMap<String, String>) {
        let service = ServiceName::parse("web").unwrap();
        let assignment = Assignment {
            replica: ReplicaId::new(&service, 7),
            service,
            slot: Slot(3),
            generation: Generation(2),
            template: Template::of(ImageRef::parse("nginx:1").unwrap()).into(),
            on_disconnect: OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        };
        (assignment.replica.clone(), labels::of(&cluster(), Epoch(1), &assignment))
    }

    #[test]
    fn a_renamed_container_is_its_replicas_and_a_copy_of_it_is_not() {
        let (replica, labels) = own_labels();
        let renamed = container("b", "renamed", "nginx:1", labels.clone());
        let copy = container("a", "copy", "committed", labels.clone());
        let foreign = container("c", "web-000007", "nginx:1", HashMap::new());
        let all = [copy.clone(), renamed, foreign];
        assert_eq!(own(&cluster(), &replica, None, &all).map(|found| found.id.as_str()), Some("b"));
        assert_eq!(own(&cluster(), &replica, None, [&copy]), None, "its image is another one");
    }

    #[test]
    fn of_two_candidates_the_known_id_counts_first_and_then_the_name() {
        let (replica, labels) = own_labels();
        let both = [
            container("a", "renamed", "nginx:1", labels.clone()),
            container("b", "web-000007", "nginx:1", labels),
        ];
        assert_eq!(own(&cluster(), &replica, None, &both).map(|found| found.id.as_str()), Some("b"));
        assert_eq!(own(&cluster(), &replica, Some("a"), &both).map(|found| found.id.as_str()), Some("a"));
    }

    #[test]
    fn a_container_from_before_the_label_is_known_by_name_or_record() {
        let (replica, mut labels) = own_labels();
        labels.remove(labels::REPLICA);
        let named = container("a", "web-000007", "nginx:1", labels.clone());
        assert!(own(&cluster(), &replica, None, [&named]).is_some());
        let renamed = container("a", "renamed", "nginx:1", labels);
        assert!(own(&cluster(), &replica, None, [&renamed]).is_none());
        assert!(own(&cluster(), &replica, Some("a"), [&renamed]).is_some());
    }
}
