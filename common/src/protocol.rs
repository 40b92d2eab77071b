//! What master and agents say to each other over HTTP, as JSON.
//!
//! Every message is safe to receive twice, late, or out of order.

mod digest;
mod orders;
mod probe_key;
mod wire_push;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
};

use serde::{Deserialize, Serialize};

pub use self::{
    digest::{Fingerprint, Fingerprints, LedgerDigest},
    orders::{Accepted, Assignment, Push, PushRefused, Refusal},
    probe_key::ProbeKey,
    wire_push::{MAX_PUSH_BYTES, MAX_WRITTEN_OUT_BYTES},
};

use crate::{
    fields,
    ids::{BootId, ClusterId, EngineId, Fence, NodeName, NodeUid},
    image::ImageRef,
    policy::Policy,
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
    /// What its ledger holds. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerDigest>,
    /// What the host is.
    pub host: HostInfo,
    /// For how long no master that knows this host has answered the agent, in milliseconds; since the agent's
    /// start at most. A master that meets a leader which it does not know goes by it. Agents of versions
    /// before 0.2 do not say.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub leader_silent_ms: Option<u64>,
    /// Whether `holds` is all that the host holds: its engine has shown its containers since it is known
    /// which of them are the cluster's. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// Of a host that knows no cluster: those of which its engine has containers, or two of them if there are
    /// more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<ClusterId>,
    /// What a master shows the agent to have it try other hosts' addresses. Agents of versions before
    /// 0.2 do not say, and try them for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_key: Option<ProbeKey>,
    /// What the agent understands. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Understands::is_default")]
    pub understands: Understands,
}

/// What an agent understands beyond the first version of the protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Understands {
    /// The agent removes only what a push names. Without this, a snapshot makes it remove everything that the
    /// snapshot does not list.
    #[serde(default)]
    pub removal_by_name: bool,
    /// The agent reads pushes that have each template once, and takes a snapshot in parts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub templates_once: bool,
    /// The agent tells the digest of its ledger, and takes a push that builds on one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ledger_digest: bool,
    /// The fields of templates that it understands, as [`fields`] names them; without them: those of the
    /// first version.
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
    /// Where the agent listens, as `http://ADDRESS:PORT` and nothing more; an IPv6 address in brackets.
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
    /// The engine's identity, which outlives the agent's data directory. Agents of versions before 0.2 do not
    /// say, nor does one whose engine is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<EngineId>,
    /// What services may ask of the host; without one, everything. Agents of versions before 0.2 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
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
    /// Where the agent listens, as it has registered: a report from elsewhere is of another one that says it
    /// is this run. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_url: Option<String>,
    /// Counts the reports of this run; an older one than the last is ignored.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub seq: u64,
    /// What the ledger has accepted last.
    pub accepted: Option<Accepted>,
    /// What its ledger holds, as of that. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerDigest>,
    /// Whether `statuses` is everything the host holds.
    pub full: bool,
    /// Statuses that changed since the last acknowledged report, or all.
    pub statuses: Vec<ReplicaStatus>,
    /// Why the engine does not answer, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_error: Option<String>,
    /// How long the last report took to be answered, in milliseconds.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
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
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub report_interval_ms: Option<u64>,
    /// Orders that could not be brought to the agent directly: to be taken as if
    /// they had been posted. The next report's `accepted` answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Box<Push>>,
    /// Hosts that have been forgotten, and whose certificates may not have expired: they are not taken any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<NodeUid>,
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
    /// Where it says that it listens, as in [`HostInfo`]. Agents of versions before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_url: Option<String>,
}

/// Master → agent: look whether another agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbeThrough {
    /// The other agent's address, as `http://ADDRESS:PORT`.
    pub agent_url: String,
    /// How long it may take, in milliseconds: 1 to [`MAX_PROBE_MS`].
    #[serde(deserialize_with = "crate::bounds::number")]
    pub limit_ms: u64,
    /// The key that the asked agent has registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ProbeKey>,
}

/// Master → agent: look whether anything listens at a host's published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProbePorts {
    /// Where: 1 to [`MAX_PROBED_PORTS`] addresses.
    pub addresses: Vec<SocketAddrV4>,
    /// How long each may take, in milliseconds: 1 to [`MAX_PROBE_MS`].
    #[serde(deserialize_with = "crate::bounds::number")]
    pub limit_ms: u64,
    /// The key that the asked agent has registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ProbeKey>,
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
        ids::{Epoch, Generation, LeaderId, ReplicaId, Revision, ServiceName, Slot},
        problem::{Code, FieldError, Problem},
        spec::{OnDisconnect, Template},
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
            holds: None,
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
            templates_once: false,
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
            {"replica":"web-000012","service":"web","slot":0,"generation":2,"template":{"image":"nginx:1.27","env":{"A":"1"},"stop_grace_s":10}}
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
        let mut status =
            ReplicaStatus::new(ReplicaId::parse("web-000012").unwrap(), ReplicaState::Running, WallMs(5));
        status.health = Health::Unhealthy;
        status.reason = Some("exited with code 1".into());
        let report = Report {
            cluster: cluster(),
            node: NodeName::parse("h1").unwrap(),
            boot: BootId::parse("00000000000000bb").unwrap(),
            agent_url: None,
            seq: 4,
            accepted: Some(Accepted { fence: fence(), revision: Revision(7) }),
            ledger: None,
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
        assert_snapshot!(json(&ReportAck { fence: fence(), want_full: true, want_registration: false, report_interval_ms: None, push: None, denied: Vec::new() }), @r#"
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
