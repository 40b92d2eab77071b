//! The labels on every container of ours, so that what runs can be rebuilt
//! from Docker itself. Containers without them, or of another cluster, are foreign.
//!
//! Labels are copied into lists, events and whatever exports them. So they hold no value of `env`: the names
//! of its variables stand in a label, and the values are read from the container itself.

use std::collections::{BTreeMap, HashMap};

use crate::{
    fields,
    ids::{ClusterId, Epoch, ReplicaId, ServiceName},
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
/// The replica's id. A container without it is older than this label; its name is the id then.
pub const REPLICA: &str = "shef.replica";
/// The template as JSON, without `env`. Older containers have `env` in it.
pub const SPEC: &str = "shef.spec";
/// The names of the variables in the template's `env`, as JSON; absent on an older container: the template
/// has none, or the label [`SPEC`] holds them.
pub const ENV_NAMES: &str = "shef.env-names";
/// What the agent does when no master is heard of, as JSON; absent on an older container: the replica runs
/// on.
pub const ON_DISCONNECT: &str = "shef.on-disconnect";
/// The digest that the image's name stands for; empty or absent: the host used the image that it had or
/// found.
pub const IMAGE_DIGEST: &str = "shef.image-digest";
/// The epoch under which the container was made.
pub const EPOCH: &str = "shef.epoch";
/// On every container and volume of the bootstrap: which part it is. Empty: none.
pub const PART: &str = "shef.system";
/// On every system container: what it was made of.
pub const MADE_OF: &str = "shef.system.made-of";
/// On the bootstrap's own container, given by its operator as docker-shef wants it: `true`.
pub const BOOTSTRAP: &str = "shef-bouter";

/// The labels of a container made for `assignment`. All of them are always there: the engine takes a missing
/// one from the image, whose author could set it to anything.
#[must_use]
pub fn of(cluster: &ClusterId, epoch: Epoch, assignment: &Assignment) -> HashMap<String, String> {
    let bare = Template { env: BTreeMap::new(), ..(*assignment.template).clone() };
    let template = serde_json::to_string(&bare).unwrap_or_default();
    let names: Vec<&String> = assignment.template.env.keys().collect();
    let digest = assignment.image_digest.as_ref().map(|digest| digest.as_str().to_owned());
    [
        (MANAGED, "true".to_owned()),
        (SERVICE_NAME, assignment.service.to_string()),
        (CLUSTER, cluster.to_string()),
        (SERVICE, assignment.service.to_string()),
        (SLOT, assignment.slot.to_string()),
        (GENERATION, assignment.generation.to_string()),
        (REPLICA, assignment.replica.to_string()),
        (SPEC, template),
        (EPOCH, epoch.to_string()),
        (ENV_NAMES, serde_json::to_string(&names).unwrap_or_default()),
        (ON_DISCONNECT, serde_json::to_string(&assignment.on_disconnect).unwrap_or_default()),
        (IMAGE_DIGEST, digest.unwrap_or_default()),
        (PART, String::new()),
        (MADE_OF, String::new()),
        (BOOTSTRAP, String::new()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Whether `labels` are of a container of `cluster` that a shef has made.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "the engine's client hands out this very type")]
pub fn are_ours(cluster: &ClusterId, labels: &HashMap<String, String>) -> bool {
    let get = |key: &str| labels.get(key).map(String::as_str);
    get(MANAGED) == Some("true") && get(CLUSTER) == Some(cluster.as_str())
}

/// The cluster that a container with `labels` belongs to, if shef made it.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "the engine's client hands out this very type")]
pub fn cluster(labels: &HashMap<String, String>) -> Option<ClusterId> {
    let is_managed = labels.get(MANAGED).is_some_and(|managed| managed == "true");
    labels.get(CLUSTER).filter(|_| is_managed).and_then(|cluster| ClusterId::parse(cluster).ok())
}

/// The replica that a container with `labels` was made for: by its label, and without one by its `name`.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "the engine's client hands out this very type")]
pub fn replica(name: &str, labels: &HashMap<String, String>) -> Option<ReplicaId> {
    ReplicaId::parse(labels.get(REPLICA).map_or(name.trim_start_matches('/'), String::as_str)).ok()
}

/// The assignment that a container was made for, if it is one of ours and of `cluster`. `env` is the
/// container's environment as `NAME=value`; without it the assignment lacks the variables that [`ENV_NAMES`]
/// names.
#[must_use]
#[expect(clippy::implicit_hasher, reason = "the engine's client hands out this very type")]
pub fn read(
    cluster: &ClusterId,
    name: &str,
    labels: &HashMap<String, String>,
    env: Option<&[String]>,
) -> Option<Assignment> {
    let get = |key: &str| labels.get(key).map(String::as_str);
    if !are_ours(cluster, labels) {
        return None;
    }
    let replica = replica(name, labels)?;
    let service = ServiceName::parse(get(SERVICE)?).ok()?;
    let mut template = fields::read_template(get(SPEC)?).ok()?;
    if let Some(names) = get(ENV_NAMES) {
        let names: Vec<String> = serde_json::from_str(names).ok()?;
        let variables = env.unwrap_or_default().iter().filter_map(|variable| variable.split_once('='));
        let ours = variables.filter(|(name, _)| names.iter().any(|ours| ours == name));
        template.env.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    (replica.service() == service.as_str()).then_some(())?;
    Some(Assignment {
        replica,
        service,
        slot: get(SLOT)?.parse().ok()?,
        generation: get(GENERATION)?.parse().ok()?,
        template: template.into(),
        // A value that cannot be read means the careful choice: the replica runs on.
        on_disconnect: get(ON_DISCONNECT)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(OnDisconnect::Keep),
        image_digest: get(IMAGE_DIGEST).and_then(|text| ImageDigest::parse(text).ok()),
        prepare: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Generation, Slot},
        image::ImageRef,
    };

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
        assert_eq!(read(&cluster, "/web-000007", &labels, None), Some(assignment()));
        let stops = Assignment { on_disconnect: OnDisconnect::StopAfter { seconds: 90 }, ..assignment() };
        assert_eq!(read(&cluster, "web-000007", &of(&cluster, Epoch(4), &stops), None), Some(stops));
        let digest = ImageDigest::parse(&format!("sha256:{}", "a".repeat(64))).ok();
        let resolved = Assignment { image_digest: digest, ..assignment() };
        assert_eq!(read(&cluster, "web-000007", &of(&cluster, Epoch(4), &resolved), None), Some(resolved));
    }

    /// The engine gives a container every label of its image that the container is not given itself.
    #[test]
    fn no_label_of_an_image_becomes_one_of_ours() {
        let cluster = ClusterId::parse("0123456789abcdef").unwrap();
        let image = [
            (ON_DISCONNECT, r#"{"stop_after":{"seconds":1}}"#),
            (IMAGE_DIGEST, "sha256:aaaa"),
            (ENV_NAMES, r#"["PATH"]"#),
            (SPEC, r#"{"image":"evil"}"#),
            (PART, "master"),
            (MADE_OF, "x"),
            (BOOTSTRAP, "true"),
            (MANAGED, "false"),
        ];
        let image = image.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let labels: HashMap<_, _> = image.into_iter().chain(of(&cluster, Epoch(4), &assignment())).collect();
        let env = ["PATH=/bin".to_owned()];
        assert_eq!(read(&cluster, "web-000007", &labels, Some(&env)), Some(assignment()));
        assert_eq!([PART, MADE_OF, BOOTSTRAP].map(|key| labels[key].as_str()), ["", "", ""]);
    }

    #[test]
    fn foreign_containers_are_not_ours() {
        let ours = ClusterId::parse("0123456789abcdef").unwrap();
        let other = ClusterId::parse("fedcba9876543210").unwrap();
        let labels = of(&ours, Epoch(4), &assignment());
        assert_eq!(read(&other, "/web-000007", &labels, None), None);
        let elsewhere = labels.clone().into_iter().chain([(SERVICE.to_owned(), "db".to_owned())]).collect();
        assert_eq!(read(&ours, "/web-000007", &elsewhere, None), None);
        assert_eq!(read(&ours, "/web-000007", &HashMap::new(), None), None);
        for (number, absurd) in [(GENERATION, "18446744073709551615"), (SLOT, "10000000"), (GENERATION, "-1")]
        {
            let mut labels = labels.clone();
            labels.insert(number.to_owned(), absurd.to_owned());
            assert_eq!(read(&ours, "/web-000007", &labels, None), None, "{number} {absurd}");
        }
    }

    #[test]
    fn a_container_is_known_by_its_label_whatever_its_name() {
        let cluster = ClusterId::parse("0123456789abcdef").unwrap();
        let labels = of(&cluster, Epoch(4), &assignment());
        assert_eq!(read(&cluster, "/renamed", &labels, None), Some(assignment()));
        assert_eq!(
            read(&cluster, "/web-000008", &labels, None),
            Some(assignment()),
            "also where the name is another replica's"
        );
    }

    #[test]
    fn no_label_holds_a_value_of_env_adoption_reads_the_container() {
        let cluster = ClusterId::parse("0123456789abcdef").unwrap();
        let mut template = (*assignment().template).clone();
        template.env = [("PASSWORD", "hunter2"), ("EMPTY", ""), ("ODD", "a=b\nc")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        let with_env = Assignment { template: template.into(), ..assignment() };
        let labels = of(&cluster, Epoch(4), &with_env);
        assert!(
            labels.values().all(|value| !value.contains("hunter2") && !value.contains("a=b")),
            "{labels:?}"
        );
        let env = ["PATH=/bin", "PASSWORD=hunter2", "EMPTY=", "ODD=a=b\nc"].map(str::to_owned);
        assert_eq!(read(&cluster, "x", &labels, Some(&env)), Some(with_env));
    }

    /// As version 0.1.0 wrote them. Never changed: hosts run such containers.
    #[test]
    fn labels_of_before_are_read() {
        let cluster = ClusterId::parse("0123456789abcdef").unwrap();
        let labels: HashMap<String, String> = [
            ("shef-managed-container", "true"),
            ("shef-serviceName", "web"),
            ("shef.cluster", "0123456789abcdef"),
            ("shef.service", "web"),
            ("shef.slot", "3"),
            ("shef.generation", "2"),
            ("shef.spec-hash", "0a1b2c3d4e5f6071"),
            ("shef.spec", r#"{"image":"nginx:1","env":{"K":"v"},"stop_grace_s":10}"#),
            ("shef.epoch", "4"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let mut template = (*assignment().template).clone();
        template.env = [("K".to_owned(), "v".to_owned())].into();
        let expected = Some(Assignment { template: template.into(), ..assignment() });
        assert_eq!(read(&cluster, "/web-000007", &labels, None), expected);
        assert_eq!(
            read(&cluster, "/web-000007", &labels, Some(&["K=v".to_owned(), "PATH=/bin".to_owned()])),
            expected
        );
        assert_eq!(
            read(&cluster, "/renamed", &labels, None),
            None,
            "without the label the name is all there is"
        );
    }
}
