//! What a master orders a host to run, and what the host's agent says to that.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

use super::LedgerDigest;
use crate::{
    fields,
    ids::{ClusterId, Fence, Generation, ReplicaId, Revision, ServiceName, Slot},
    image::{ImageDigest, ImageRef},
    registry::{Credentials, RegistryHost},
    spec::{OnDisconnect, Template},
};

/// One replica that a host shall run.
///
/// One of a newer version is read as far as it is understood, is marked in its template, and is written as it
/// came.
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
    /// The container's image and settings.
    #[serde(
        serialize_with = "fields::serialize_template",
        deserialize_with = "fields::deserialize_template"
    )]
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
        self.image_digest
            .as_ref()
            .map_or_else(|| self.template.image.clone(), |digest| self.template.image.at(digest))
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
/// A field that this version does not know may mean anything for what is set: nothing of `set` is started
/// then. What is to be removed is removed.
///
/// An agent that takes templates once is sent at most [`super::MAX_PUSH_BYTES`] at a time: what is left
/// follows as a change, a snapshot's too.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
pub struct Push {
    /// The cluster that orders.
    pub cluster: ClusterId,
    /// The leadership that orders.
    pub fence: Fence,
    /// The revision this change builds on; `None`: it builds on no revision.
    pub base: Option<Revision>,
    /// Without `base`: the digest that the ledger must have before this change, under any leader. With it a
    /// new leader takes a host over without sending the assignments again.
    pub holds: Option<LedgerDigest>,
    /// The revision after this change.
    pub revision: Revision,
    /// Assignments that are new, or all of them in a snapshot, of which the rest may follow as changes.
    pub set: Vec<Assignment>,
    /// Replicas to stop and remove.
    pub remove: Vec<ReplicaId>,
    /// The master names every removal. Masters of versions before 0.2 do not say so, and a snapshot of theirs
    /// means by not listing a replica that it is to go: see the agent's `admission`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_name: bool,
    /// What the registries of the images in `set` ask for. Kept in the agent's
    /// memory alone, until a push sets something of the registry without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<RegistryHost, Credentials>,
    /// Whether it is written with each template once. Agents take that if they say so when they register.
    #[schemars(skip)]
    pub templates_once: bool,
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
            Ok(known) => Ok(Self {
                template: fields::of_a_newer_assignment(&known.template, raw.get(), &unknown).into(),
                ..known
            }),
            Err(error) if fields::is_of_a_newer_version(&error) => {
                let least: LeastAssignment = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
                Ok(least.into_assignment(raw.get(), &[error.to_string()]))
            }
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}

/// The fields of an assignment that every version has.
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
        // An unknown value means the careful choice: the replica runs on.
        let on_disconnect = OnDisconnect::Keep;
        Assignment {
            replica,
            service,
            slot,
            generation,
            template,
            on_disconnect,
            image_digest: None,
            prepare: false,
        }
    }
}

/// Agent → master, 409: why a push was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PushRefused {
    /// The rule that refused.
    pub why: Refusal,
    /// The digest of the ledger, so that the master can correct its next push.
    pub accepted: Option<Accepted>,
    /// For how long the agent has heard nothing of a leader that knows this host, neither an answer nor an
    /// order, in milliseconds. A master that does not lead any more learns from it who leads. Agents of versions before 0.2 do not say.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub leader_silent_ms: Option<u64>,
}

/// The rules by which an agent refuses a push.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The agent belongs to another cluster.
    #[error("it belongs to another cluster")]
    OtherCluster,
    /// A higher epoch, or another leader of the same epoch, has been accepted.
    #[error("it follows another leader")]
    StaleFence,
    /// The change does not build on what the ledger holds: send a snapshot.
    #[error("the change builds on another state than the host's")]
    WrongBase,
    /// The host's ledger could not be written, or its engine has not been read yet.
    #[error("its ledger cannot be written, or its engine has not been read yet")]
    NotReady,
    /// The epoch or the revision is further ahead than any count comes in one step.
    #[error("the epoch or the revision is too far ahead")]
    OutOfBounds,
}
