//! What master and agents say to each other over HTTP, as JSON.
//!
//! Every message is safe to receive twice, late, or out of order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

use crate::{
    fields,
    ids::{BootId, ClusterId, Fence, Generation, NodeName, NodeUid, ReplicaId, Revision, ServiceName, Slot},
    image::{ImageDigest, ImageRef},
    registry::{Credentials, RegistryHost},
    spec::{OnDisconnect, Template},
    status::ReplicaStatus,
};

/// `POST` on the master: a [`Registration`], answered by [`Registered`].
pub const REGISTER_PATH: &str = "/agent/v1/register";
/// `POST` on the master: a [`Report`], answered by [`ReportAck`].
pub const REPORT_PATH: &str = "/agent/v1/report";
/// `POST` on the master: [`ImagesQuery`] is answered by [`ImagesNeeded`].
pub const IMAGES_PATH: &str = "/agent/v1/images";

/// Which of these images do the kept generations of services need?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesQuery {
    /// The images, as they were pulled.
    pub images: Vec<ImageRef>,
}

/// Of the images that were asked about, those that a kept generation needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesNeeded {
    /// The images.
    pub needed: Vec<ImageRef>,
}
/// `POST` on the agent: a [`Push`], answered by [`Accepted`], or 409 with [`PushRefused`].
pub const ASSIGNMENTS_PATH: &str = "/v1/assignments";
/// `POST` on the agent: a [`ProbePorts`], answered by a [`PortsOutcome`].
pub const PORTS_PATH: &str = "/v1/probe/ports";
/// `GET` on the agent: [`Alive`]. `POST` on the agent: a [`ProbeThrough`], answered by a [`ProbeOutcome`].
pub const PROBE_PATH: &str = "/v1/probe";

/// One replica that a host shall run.
///
/// One of a newer version is read as far as it is understood, is marked in its template, and is written as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(remote = "Self")]
pub struct Assignment {
    /// The replica, and its container's name.
    pub replica: ReplicaId,
    /// Its service.
    pub service: ServiceName,
    /// Its place in the service.
    pub slot: Slot,
    /// The spec's generation.
    pub generation: Generation,
    /// What to run.
    #[serde(serialize_with = "fields::serialize_template", deserialize_with = "fields::deserialize_template")]
    pub template: Arc<Template>,
    /// What the agent does by itself when no master is heard of for long.
    #[serde(default, skip_serializing_if = "OnDisconnect::is_keep")]
    pub on_disconnect: OnDisconnect,
    /// Which bytes its image's name stands for in this generation, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// Its container is made, with the image and all else that takes, and not started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prepare: bool,
}

impl Assignment {
    /// The image to make its container of: by digest, if that is known.
    #[must_use]
    pub fn image(&self) -> ImageRef {
        self.image_digest.as_ref().map_or_else(|| self.template.image.clone(), |digest| self.template.image.at(digest))
    }
}

/// What an agent's ledger has accepted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Accepted {
    /// Under which leadership.
    pub fence: Fence,
    /// Up to which revision.
    pub revision: Revision,
}

/// Master → agent: a change of the host's assignments, or all of them.
///
/// Only `remove` removes. A replica that the host holds and that a snapshot does
/// not list stays; the host reports it, and the master names it for removal if
/// its service does not know it.
///
/// A field that this version does not know may mean anything for what is set: nothing of `set` is started then. What is
/// to be removed is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(remote = "Self")]
pub struct Push {
    /// The cluster that orders.
    pub cluster: ClusterId,
    /// The leadership that orders.
    pub fence: Fence,
    /// The revision this change builds on; `None`: `set` and `remove` are
    /// everything that the master has to say, and they build on nothing.
    pub base: Option<Revision>,
    /// The revision after this change.
    pub revision: Revision,
    /// Assignments that are new, or all of them in a snapshot.
    pub set: Vec<Assignment>,
    /// Replicas to stop and remove.
    pub remove: Vec<ReplicaId>,
    /// The master names every removal. Masters of versions before 0.2 do not say so, and a snapshot of theirs means by
    /// not listing a replica that it is to go: see the agent's `admission`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_name: bool,
    /// What the registries of the images in `set` ask for. Kept in the agent's
    /// memory alone, until a push sets something of the registry without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<RegistryHost, Credentials>,
}

impl Serialize for Assignment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.template.not_understood.as_ref().and_then(|newer| newer.assignment()) {
            None => Self::serialize(self, to),
            Some(raw) => fields::serialize_raw(raw, to),
        }
    }
}

impl<'de> Deserialize<'de> for Assignment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        let mut unknown = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        let mut json = serde_json::Deserializer::from_str(raw.get());
        match Self::deserialize(serde_ignored::Deserializer::new(&mut json, &mut note)) {
            Ok(known) if unknown.is_empty() => Ok(known),
            Ok(known) => {
                Ok(Self { template: fields::of_a_newer_assignment(&known.template, raw.get(), &unknown).into(), ..known })
            }
            Err(error) if fields::is_of_a_newer_version(&error) => {
                let least: LeastAssignment = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
                Ok(least.into_assignment(raw.get(), &[error.to_string()]))
            }
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}

/// What every version has of an assignment.
#[derive(Deserialize)]
struct LeastAssignment {
    replica: ReplicaId,
    service: ServiceName,
    slot: Slot,
    generation: Generation,
    #[serde(deserialize_with = "fields::deserialize_template")]
    template: Arc<Template>,
}

impl LeastAssignment {
    fn into_assignment(self, raw: &str, unknown: &[String]) -> Assignment {
        let Self { replica, service, slot, generation, template } = self;
        let template = fields::of_a_newer_assignment(&template, raw, unknown).into();
        // What is not known is the careful choice: to run on.
        let on_disconnect = OnDisconnect::Keep;
        Assignment { replica, service, slot, generation, template, on_disconnect, image_digest: None, prepare: false }
    }
}

impl Serialize for Push {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Push {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        let mut push = Self::deserialize(serde_ignored::Deserializer::new(from, &mut note))?;
        if !unknown.is_empty() {
            for assignment in &mut push.set {
                assignment.template = fields::not_understood(&assignment.template, &unknown).into();
            }
        }
        Ok(push)
    }
}

/// Agent → master, 409: why a push was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PushRefused {
    /// The rule that refused.
    pub why: Refusal,
    /// What the ledger holds, so that the master can mend its next push.
    pub accepted: Option<Accepted>,
    /// For how long no master that knows this host has answered the agent, in milliseconds. A master that does not
    /// lead any more goes by it. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::bounds::optional_number")]
    pub leader_silent_ms: Option<u64>,
}

/// The rules by which an agent refuses a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The agent belongs to another cluster.
    OtherCluster,
    /// A higher epoch, or another leader of the same epoch, has been accepted.
    StaleFence,
    /// The change does not build on what the ledger holds: send a snapshot.
    WrongBase,
    /// The host's ledger could not be written, or its engine has not been read yet.
    NotReady,
    /// The epoch or the revision is further ahead than any count comes in one step.
    OutOfBounds,
}

/// Agent → master: who I am and what I hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Registration {
    /// The host's name.
    pub node: NodeName,
    /// The host's lasting identity.
    pub uid: NodeUid,
    /// This run of the agent.
    pub boot: BootId,
    /// The cluster the host belongs to, if it has joined one.
    pub cluster: Option<ClusterId>,
    /// What the ledger has accepted last.
    pub accepted: Option<Accepted>,
    /// Everything the host holds: its ledger, and containers with our labels.
    pub holds: Vec<Assignment>,
    /// What the host is.
    pub host: HostInfo,
    /// For how long no master that knows this host has answered the agent, in milliseconds; since the agent's start at
    /// most. A master that meets a leader which it does not know goes by it. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::bounds::optional_number")]
    pub leader_silent_ms: Option<u64>,
    /// What the agent understands. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Understands::is_default")]
    pub understands: Understands,
}

/// What an agent understands beyond the first version of the protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Understands {
    /// The agent removes only what a push names. Without this, a snapshot makes it remove everything that the snapshot
    /// does not list.
    #[serde(default)]
    pub removal_by_name: bool,
    /// The fields of templates that it understands, as [`fields`] names them; without them: those of the first version.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "fields::bounded")]
    pub fields: BTreeSet<String>,
}

impl Understands {
    /// Whether it is what the first version of the protocol has.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a host is and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostInfo {
    /// The host's IPv4 address, as docker-shef's `HOST_IP`.
    pub address: std::net::Ipv4Addr,
    /// Where the agent listens, as `http://address:port`.
    pub agent_url: String,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The host's processors.
    pub cpus: u32,
    /// The host's memory in bytes.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub memory_bytes: u64,
    /// The engine's version, as in `20.10.24`.
    pub engine_version: String,
    /// The engine's API version, as in `1.41`.
    pub engine_api: String,
    /// As in `linux`.
    pub os: String,
    /// As in `x86_64`.
    pub arch: String,
    /// shef's own version.
    pub shef_version: String,
}

/// Master → agent: you are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Registered {
    /// The cluster, to be kept by a host that had none.
    pub cluster: ClusterId,
    /// Who leads.
    pub fence: Fence,
    /// How often to report when nothing changes, in milliseconds.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub report_interval_ms: u64,
}

/// Agent → master: heartbeat and changed statuses in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterId,
    /// The host.
    pub node: NodeName,
    /// This run of the agent.
    pub boot: BootId,
    /// Counts the reports of this run; an older one than the last is ignored.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub seq: u64,
    /// What the ledger has accepted last.
    pub accepted: Option<Accepted>,
    /// Whether `statuses` is everything the host holds.
    pub full: bool,
    /// Statuses that changed since the last acknowledged report, or all.
    pub statuses: Vec<ReplicaStatus>,
    /// Why the engine does not answer, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_error: Option<String>,
    /// How long the last report took to be answered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::bounds::optional_number")]
    pub round_trip_ms: Option<u64>,
}

/// Master → agent: what became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportAck {
    /// Who leads.
    pub fence: Fence,
    /// Whether the master asks for a full report.
    pub want_full: bool,
    /// Whether the master does not know this host or this run: register first.
    pub want_registration: bool,
    /// How often to report from now on, in milliseconds, if that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::bounds::optional_number")]
    pub report_interval_ms: Option<u64>,
    /// Orders that could not be brought to the agent directly: to be taken as if
    /// they had been posted. The next report's `accepted` answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Box<Push>>,
}

/// Agent → whoever asks: this agent is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alive {
    /// The host.
    pub node: NodeName,
    /// Its lasting identity.
    pub uid: NodeUid,
    /// This run of the agent.
    pub boot: BootId,
}

/// Master → agent: look whether another agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeThrough {
    /// The other agent's address, as `http://address:port`.
    pub agent_url: String,
    /// How long it may take, in milliseconds: 1 to [`MAX_PROBE_MS`].
    #[serde(deserialize_with = "crate::bounds::number")]
    pub limit_ms: u64,
}

/// Master → agent: look whether anything listens at a host's published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbePorts {
    /// Where: 1 to [`MAX_PROBED_PORTS`] addresses.
    pub addresses: Vec<SocketAddrV4>,
    /// How long each may take, in milliseconds: 1 to [`MAX_PROBE_MS`].
    #[serde(deserialize_with = "crate::bounds::number")]
    pub limit_ms: u64,
}

/// The most addresses in one [`ProbePorts`].
pub const MAX_PROBED_PORTS: usize = 64;

/// What a look at published ports brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortsOutcome {
    /// At least one takes connections.
    Open,
    /// None does.
    Closed,
    /// Nobody has looked: it says nothing of the host.
    NotProbed {
        /// Why nobody has looked.
        why: String,
    },
}

/// The longest that a probe may take, in milliseconds.
pub const MAX_PROBE_MS: u64 = 10_000;

/// What a probe of an agent brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The agent answers.
    Answered(Alive),
    /// The host is there, its agent is not: the connection was refused, or made and then not served.
    AgentSilent {
        /// In the client's words.
        why: String,
    },
    /// Nothing is heard of the host.
    Unreachable {
        /// In the client's words.
        why: String,
    },
    /// Nobody has looked: whoever should have probed had no socket for it. It says
    /// nothing of the host. Agents answer 503 instead, which earlier masters know.
    NotProbed {
        /// In the client's words.
        why: String,
    },
}

/// The bodies as they go over the wire. A change here is a change of the
/// protocol: agents and masters of two versions must go on understanding each other.
#[cfg(test)]
mod wire {
    use insta::assert_snapshot;

    use super::*;
    use crate::{
        clock::WallMs,
        ids::{Epoch, LeaderId},
        image::ImageRef,
        problem::{Code, FieldError, Problem},
        status::{Health, ReplicaState},
    };

    fn json(body: &impl Serialize) -> String {
        serde_json::to_string_pretty(body).unwrap()
    }
    fn fence() -> Fence {
        Fence { epoch: Epoch(3), leader: LeaderId::parse("00000000000000aa").unwrap() }
    }
    fn cluster() -> ClusterId {
        ClusterId::parse("00000000000000cc").unwrap()
    }

    #[test]
    fn a_push() {
        let service = ServiceName::parse("web").unwrap();
        let mut template = Template::of(ImageRef::parse("nginx:1.27").unwrap());
        template.env.insert("A".into(), "1".into());
        let push = Push {
            cluster: cluster(),
            fence: fence(),
            base: Some(Revision(6)),
            revision: Revision(7),
            set: vec![Assignment {
                replica: ReplicaId::new(&service, 12),
                service: service.clone(),
                slot: Slot(0),
                generation: Generation(2),
                template: template.into(),
                on_disconnect: OnDisconnect::Keep,
                image_digest: None,
                prepare: false,
            }],
            remove: vec![ReplicaId::new(&service, 11)],
            by_name: true,
            credentials: BTreeMap::new(),
        };
        assert_snapshot!(json(&push), @r#"
        {
          "cluster": "00000000000000cc",
          "fence": {
            "epoch": 3,
            "leader": "00000000000000aa"
          },
          "base": 6,
          "revision": 7,
          "set": [
            {
              "replica": "web-000012",
              "service": "web",
              "slot": 0,
              "generation": 2,
              "template": {
                "image": "nginx:1.27",
                "env": {
                  "A": "1"
                },
                "stop_grace_s": 10
              }
            }
          ],
          "remove": [
            "web-000011"
          ],
          "by_name": true
        }
        "#);
        assert_eq!(serde_json::from_str::<Push>(&json(&push)).unwrap(), push);
    }

    #[test]
    fn a_refusal() {
        let accepted = Some(Accepted { fence: fence(), revision: Revision(7) });
        assert_snapshot!(json(&PushRefused { why: Refusal::WrongBase, accepted, leader_silent_ms: None }), @r#"
        {
          "why": "wrong_base",
          "accepted": {
            "fence": {
              "epoch": 3,
              "leader": "00000000000000aa"
            },
            "revision": 7
          }
        }
        "#);
    }

    #[test]
    fn a_report_and_its_answer() {
        let mut status = ReplicaStatus::new(ReplicaId::parse("web-000012").unwrap(), ReplicaState::Running, WallMs(5));
        status.health = Health::Unhealthy;
        status.reason = Some("exited with code 1".into());
        let report = Report {
            cluster: cluster(),
            node: NodeName::parse("h1").unwrap(),
            boot: BootId::parse("00000000000000bb").unwrap(),
            seq: 4,
            accepted: Some(Accepted { fence: fence(), revision: Revision(7) }),
            full: false,
            statuses: vec![status],
            engine_error: None,
            round_trip_ms: None,
        };
        assert_snapshot!(json(&report), @r#"
        {
          "cluster": "00000000000000cc",
          "node": "h1",
          "boot": "00000000000000bb",
          "seq": 4,
          "accepted": {
            "fence": {
              "epoch": 3,
              "leader": "00000000000000aa"
            },
            "revision": 7
          },
          "full": false,
          "statuses": [
            {
              "replica": "web-000012",
              "state": "running",
              "health": "unhealthy",
              "reason": "exited with code 1",
              "restarts": 0,
              "since": 5
            }
          ]
        }
        "#);
        assert_snapshot!(json(&ReportAck { fence: fence(), want_full: true, want_registration: false, report_interval_ms: None, push: None }), @r#"
        {
          "fence": {
            "epoch": 3,
            "leader": "00000000000000aa"
          },
          "want_full": true,
          "want_registration": false
        }
        "#);
    }

    #[test]
    fn a_problem() {
        let error = FieldError { field: "image".into(), message: "is required".into() };
        let problem = Problem::new(Code::InvalidBody, "image: is required").with_errors(vec![error]);
        assert_snapshot!(json(&problem), @r#"
        {
          "type": "urn:shef:problem:invalid_body",
          "title": "The request body is not valid",
          "status": 400,
          "code": "invalid_body",
          "detail": "image: is required",
          "errors": [
            {
              "field": "image",
              "message": "is required"
            }
          ]
        }
        "#);
        assert_snapshot!(json(&Problem::new(Code::StoreUnavailable, "the store does not answer")), @r#"
        {
          "type": "urn:shef:problem:store_unavailable",
          "title": "The store does not answer",
          "status": 503,
          "code": "store_unavailable",
          "detail": "the store does not answer",
          "retry_after_s": 1
        }
        "#);
    }
}
