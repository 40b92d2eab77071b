//! The labels on every container of ours, so that what runs can be rebuilt
//! from Docker itself. Containers without them, or of another cluster, are foreign.

use std::collections::HashMap;

use crate::{
    ids::{ClusterId, Epoch, Generation, ReplicaId, ServiceName, Slot},
    image::ImageDigest,
    protocol::Assignment,
    spec::{OnDisconnect, Template},
};

/// docker-shef's own mark: `true` on every managed container.
pub const MANAGED: &str = "shef-managed-container";
/// `true` on every volume that was made for a replica.
pub const MANAGED_VOLUME: &str = "shef-managed-volume";
/// `true` on every network that was made for a replica.
pub const MANAGED_NETWORK: &str = "shef-managed-network";
/// docker-shef's own: the service's name.
pub const SERVICE_NAME: &str = "shef-serviceName";
/// The cluster's id.
pub const CLUSTER: &str = "shef.cluster";
/// The service's name.
pub const SERVICE: &str = "shef.service";
/// The replica's slot.
pub const SLOT: &str = "shef.slot";
/// The spec's generation.
pub const GENERATION: &str = "shef.generation";
/// The template's digest.
pub const SPEC_HASH: &str = "shef.spec-hash";
/// The template itself, as JSON.
pub const SPEC: &str = "shef.spec";
/// What happens without a master, as JSON; absent: the replica runs on.
pub const ON_DISCONNECT: &str = "shef.on-disconnect";
/// Which bytes the image's name stands for; absent: whichever the host had or found.
pub const IMAGE_DIGEST: &str = "shef.image-digest";
/// The epoch under which the container was made.
pub const EPOCH: &str = "shef.epoch";

/// The labels of a container made for `assignment`.
#[must_use]
pub fn of(cluster: &ClusterId, epoch: Epoch, assignment: &Assignment) -> HashMap<String, String> {
    let template = serde_json::to_string(&assignment.template).unwrap_or_default();
    let on_disconnect = serde_json::to_string(&assignment.on_disconnect).unwrap_or_default();
    let digest = assignment.image_digest.as_ref().map(|digest| (IMAGE_DIGEST, digest.as_str().to_owned()));
    let on_disconnect = (!assignment.on_disconnect.is_keep()).then_some((ON_DISCONNECT, on_disconnect));
    [
        (MANAGED, "true".to_owned()),
        (SERVICE_NAME, assignment.service.to_string()),
        (CLUSTER, cluster.to_string()),
        (SERVICE, assignment.service.to_string()),
        (SLOT, assignment.slot.to_string()),
        (GENERATION, assignment.generation.to_string()),
        (SPEC_HASH, assignment.template.digest()),
        (SPEC, template),
        (EPOCH, epoch.to_string()),
    ]
    .into_iter()
    .chain(on_disconnect)
    .chain(digest)
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// The assignment that a container named `name` with `labels` was made for, if
/// it is one of ours and of `cluster`.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "the engine's client hands out this very type")]
pub fn read(cluster: &ClusterId, name: &str, labels: &HashMap<String, String>) -> Option<Assignment> {
    let get = |key: &str| labels.get(key).map(String::as_str);
    if get(MANAGED) != Some("true") || get(CLUSTER) != Some(cluster.as_str()) {
        return None;
    }
    let replica = ReplicaId::parse(name.trim_start_matches('/')).ok()?;
    let service = ServiceName::parse(get(SERVICE)?).ok()?;
    let template: Template = serde_json::from_str(get(SPEC)?).ok()?;
    (replica.service() == service.as_str()).then_some(())?;
    Some(Assignment {
        replica,
        service,
        slot: Slot(get(SLOT)?.parse().ok()?),
        generation: Generation(get(GENERATION)?.parse().ok()?),
        template: template.into(),
        // What cannot be read is the careful choice: to run on.
        on_disconnect: get(ON_DISCONNECT).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(OnDisconnect::Keep),
        image_digest: get(IMAGE_DIGEST).and_then(|text| ImageDigest::parse(text).ok()),
        prepare: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageRef;

    fn assignment() -> Assignment {
        let service = ServiceName::parse("web").unwrap();
        Assignment {
            replica: ReplicaId::new(&service, 7),
            service,
            slot: Slot(3),
            generation: Generation(2),
            template: Template::of(ImageRef::parse("nginx:1").unwrap()).into(),
            on_disconnect: OnDisconnect::Keep,
            image_digest: None,
            prepare: false,
        }
    }

    #[test]
    fn an_assignment_survives_the_way_through_labels() {
        let cluster = ClusterId::parse("0123456789abcdef").unwrap();
        let labels = of(&cluster, Epoch(4), &assignment());
        assert_eq!(read(&cluster, "/web-000007", &labels), Some(assignment()));
        assert!(!labels.contains_key(ON_DISCONNECT), "the default needs no label");
        let stops = Assignment { on_disconnect: OnDisconnect::StopAfter { seconds: 90 }, ..assignment() };
        assert_eq!(read(&cluster, "web-000007", &of(&cluster, Epoch(4), &stops)), Some(stops));
        let digest = ImageDigest::parse(&format!("sha256:{}", "a".repeat(64))).ok();
        let resolved = Assignment { image_digest: digest, ..assignment() };
        assert_eq!(read(&cluster, "web-000007", &of(&cluster, Epoch(4), &resolved)), Some(resolved));
    }

    #[test]
    fn foreign_containers_are_not_ours() {
        let ours = ClusterId::parse("0123456789abcdef").unwrap();
        let other = ClusterId::parse("fedcba9876543210").unwrap();
        let labels = of(&ours, Epoch(4), &assignment());
        assert_eq!(read(&other, "/web-000007", &labels), None);
        assert_eq!(read(&ours, "/db-000007", &labels), None);
        assert_eq!(read(&ours, "/web-000007", &HashMap::new()), None);
    }
}
