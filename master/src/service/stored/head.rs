//! The head of a service: the part that does not grow with its replicas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use shef_common::{
    clock::WallMs,
    ids::{Generation, ServiceName},
    image::ImageDigest,
    spec::{Mode, OnDisconnect, Placement, Rebalance, ServiceSpec, Template, Update},
};

use crate::service::{
    bound::Bindings,
    record::{self, ServiceRecord},
    replicas::Replicas,
    rollout::{Ended, Kept, Probation, Rollout},
    slot_set::SlotSet,
};

/// A service without its templates and without what belongs to single slots.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Head {
    spec: SpecHead,
    generation: Generation,
    #[serde(default)]
    newest: Generation,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    created: WallMs,
    updated: WallMs,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    imported: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rebalancing: Option<u32>,
    #[serde(default, deserialize_with = "record::read_number")]
    next_number: u32,
    /// The other generations that hosts hold replicas of, or that a rollout goes back to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    earlier: BTreeSet<Generation>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<Generation, ImageDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<Rollout>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probation: Option<Probation>,
    /// The generations that were good before this one, the latest last, and when each was left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<(Generation, WallMs)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_rollout: Option<Ended>,
}

/// The spec without the template.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
struct SpecHead {
    name: ServiceName,
    #[serde(deserialize_with = "shef_common::spec::readable_replicas")]
    replicas: u32,
    #[serde(default, skip_serializing_if = "OnDisconnect::is_keep")]
    on_disconnect: OnDisconnect,
    #[serde(default, skip_serializing_if = "Rebalance::is_off")]
    rebalance: Rebalance,
    #[serde(default, skip_serializing_if = "Mode::is_replicated")]
    mode: Mode,
    #[serde(default, skip_serializing_if = "Placement::is_none")]
    placement: Placement,
    #[serde(default, skip_serializing_if = "Update::is_default")]
    update: Update,
}

impl Head {
    pub(super) fn of(record: &ServiceRecord) -> Self {
        // A new field must be listed here with the place where it is stored.
        let ServiceRecord {
            spec,
            generation,
            deleted,
            created,
            updated,
            imported,
            rebalancing,
            bindings: _,
            next_number,
            emptied: _,
            replicas: _,
            earlier,
            digests,
            newest,
            rollout,
            probation,
            history,
            last_rollout,
        } = record;
        let ServiceSpec { name, replicas, template: _, on_disconnect, rebalance, mode, placement, update } =
            spec;
        let rollout = rollout.clone().map(|rollout| Rollout {
            started_slots: SlotSet::default(),
            failures: BTreeMap::new(),
            once_emptied: SlotSet::default(),
            ..rollout
        });
        Self {
            spec: SpecHead {
                name: name.clone(),
                replicas: *replicas,
                on_disconnect: *on_disconnect,
                rebalance: *rebalance,
                mode: *mode,
                placement: placement.clone(),
                update: *update,
            },
            generation: *generation,
            newest: *newest,
            deleted: *deleted,
            created: *created,
            updated: *updated,
            imported: *imported,
            rebalancing: *rebalancing,
            next_number: *next_number,
            earlier: earlier.keys().copied().collect(),
            digests: digests.clone(),
            rollout,
            probation: probation.clone(),
            history: history.iter().map(|kept| (kept.generation, kept.left)).collect(),
            last_rollout: last_rollout.clone(),
        }
    }

    /// The record without what is on pages; `template` finds what a generation runs.
    pub(super) fn into_record<E>(
        self,
        template: impl Fn(Generation) -> Result<Arc<Template>, E>,
    ) -> Result<ServiceRecord, E> {
        let SpecHead { name, replicas, on_disconnect, rebalance, mode, placement, update } = self.spec;
        // One template that several fields name is kept once.
        let named =
            self.earlier.iter().copied().chain(self.history.iter().map(|(generation, _)| *generation));
        let named: BTreeSet<Generation> = named.chain([self.generation]).collect();
        let templates: BTreeMap<Generation, Arc<Template>> = named
            .into_iter()
            .map(|generation| Ok((generation, template(generation)?)))
            .collect::<Result<_, E>>()?;
        let of = |generation: &Generation| templates[generation].clone();
        Ok(ServiceRecord {
            spec: ServiceSpec {
                name,
                replicas,
                template: of(&self.generation),
                on_disconnect,
                rebalance,
                mode,
                placement,
                update,
            },
            generation: self.generation,
            deleted: self.deleted,
            created: self.created,
            updated: self.updated,
            imported: self.imported,
            rebalancing: self.rebalancing,
            bindings: Bindings::default(),
            next_number: self.next_number,
            emptied: SlotSet::default(),
            replicas: Replicas::default(),
            earlier: self.earlier.iter().map(|generation| (*generation, of(generation))).collect(),
            digests: self.digests,
            newest: self.newest,
            rollout: self.rollout,
            probation: self.probation,
            history: self
                .history
                .iter()
                .map(|(generation, left)| Kept {
                    generation: *generation,
                    template: of(generation),
                    left: *left,
                })
                .collect(),
            last_rollout: self.last_rollout,
        })
    }
}

/// Whether this is a service in one part, as format 1 had it.
pub(super) fn is_whole(value: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Whole {
        replicas: Option<IgnoredAny>,
    }
    serde_json::from_slice(value).is_ok_and(|whole: Whole| whole.replicas.is_some())
}
