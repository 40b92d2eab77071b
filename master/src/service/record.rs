//! What the store keeps of a service: the spec and where its replicas are to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use shef_common::{
    clock::WallMs,
    ids::{Generation, NodeName, ReplicaId, Slot},
    image::{ImageDigest, ImageRef},
    protocol::Assignment,
    spec::{Mode, Pull, Rebalance, ServiceSpec, Template},
};

pub use super::replica::{ReplicaRecord, Want};
use super::{
    bound::Bindings,
    replicas::Replicas,
    rollout::state::{Ended, Kept, Probation, Rollout},
    slot_set::SlotSet,
};
use crate::{
    contents::ContentUse,
    scheduler::{Claim, LoadChange, Requirements},
};

/// One service as it is stored. Only the master writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServiceRecord {
    /// What the user wants.
    pub spec: ServiceSpec,
    /// Counts the changes of the template.
    pub generation: Generation,
    /// A tombstone: the service is gone once every host has confirmed.
    #[serde(default)]
    pub deleted: bool,
    /// When it was created.
    pub created: WallMs,
    /// When the user changed it last.
    pub updated: WallMs,
    /// Rebuilt from what hosts hold, and not changed by its user since: it grows
    /// with what further hosts bring.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    /// A rebalance that a user asked for and that is not through, with its moves a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalancing: Option<u32>,
    /// Slots that are bound to a host: by the volume that they have there, or because there is one a host.
    #[serde(default, skip_serializing_if = "Bindings::is_empty", rename = "homes")]
    #[schemars(with = "BTreeMap<Slot, NodeName>")]
    pub bindings: Bindings,
    /// The number of the next replica: none has it, or had it. 0: there was none yet, or a version before 0.2
    /// made them.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "read_number")]
    pub next_number: u32,
    /// The slots that updates have emptied and that nothing was placed in since, also where the update has
    /// ended. At most as many as there are slots.
    #[serde(default, skip_serializing_if = "SlotSet::is_empty")]
    #[schemars(with = "BTreeSet<Slot>")]
    pub emptied: SlotSet,
    /// Every replica that a host may hold.
    #[schemars(with = "Vec<ReplicaRecord>")]
    pub replicas: Replicas,
    /// Templates of other generations, which hosts still hold replicas of or which a rollout goes back to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<Generation, Arc<Template>>,
    /// Which bytes the image's name stands for in a generation, by the word of the first host that fetched
    /// it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<Generation, ImageDigest>,
    /// The highest generation so far, if it is not the one that is wanted. See [`ServiceRecord::newest`].
    #[serde(default)]
    pub newest: Generation,
    /// The way to `generation`, while it is not everywhere. A service's first generation has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The generation is in place everywhere, and is rolled back if it fails within a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<Probation>,
    /// Generations that were good before this one, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Kept>,
    /// How the last rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rollout: Option<Ended>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The number of a replica, or the one after the last.
pub(super) fn read_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(from)?;
    if number > ReplicaId::MAX_NUMBER + 1 {
        return Err(serde::de::Error::custom(format!(
            "must be at most {}, but is {number}",
            ReplicaId::MAX_NUMBER + 1
        )));
    }
    Ok(number)
}

impl ServiceRecord {
    /// A new service without replicas yet.
    #[must_use]
    pub fn new(spec: ServiceSpec, now: WallMs) -> Self {
        Self {
            spec,
            generation: Generation(1),
            deleted: false,
            imported: false,
            rebalancing: None,
            bindings: Bindings::default(),
            created: now,
            updated: now,
            next_number: 0,
            emptied: SlotSet::default(),
            replicas: Replicas::default(),
            earlier: BTreeMap::new(),
            digests: BTreeMap::new(),
            newest: Generation(1),
            rollout: None,
            probation: None,
            history: Vec::new(),
            last_rollout: None,
        }
    }

    /// The replicas that are to run.
    pub fn wanted(&self) -> impl Iterator<Item = &ReplicaRecord> {
        self.replicas.iter().filter(|replica| replica.want == Want::Run)
    }

    /// What replicas of a generation run.
    #[must_use]
    pub fn template(&self, generation: Generation) -> &Arc<Template> {
        self.earlier.get(&generation).unwrap_or(&self.spec.template)
    }

    /// The bytes that replicas of a generation run, if that is known and theirs to be held to.
    #[must_use]
    pub fn image_digest(&self, generation: Generation) -> Option<&ImageDigest> {
        self.digests.get(&generation)
    }

    /// The images of every generation that runs, or can be gone back to: by name, and by digest where that is
    /// known.
    #[must_use]
    pub fn kept_images(&self) -> Vec<ImageRef> {
        let images = self.generations().flat_map(|(generation, template)| {
            let by_digest = self.image_digest(generation).map(|digest| template.image.at(digest));
            [Some(template.image.clone()), by_digest].into_iter().flatten()
        });
        images.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The contents that every generation mounts which runs, or can be gone back to.
    #[must_use]
    pub fn kept_contents(&self) -> Vec<ContentUse> {
        self.generations().flat_map(|(generation, template)| ContentUse::of(generation, template)).collect()
    }

    /// Whether it is to be noted which bytes the image's name stands for in a
    /// generation. Not where the name says so itself, and not where nothing is
    /// fetched: what was brought to a host by hand often has no digest there.
    #[must_use]
    pub fn lacks_digest(&self, generation: Generation) -> bool {
        let template = self.template(generation);
        self.has_generation(generation)
            && !self.digests.contains_key(&generation)
            && !template.image.has_digest()
            && template.pull != Pull::Never
    }

    /// Takes over what a host runs as `generation`. In another life of the service, of before its store was
    /// emptied, that number may have stood for another template, which then gets a number of its own.
    pub fn adopt(&mut self, generation: Generation, template: &Arc<Template>) -> Generation {
        let known = self.generations().find(|(known, _)| *known == generation);
        let twin = || self.generations().find(|(_, known)| *known == template).map(|(twin, _)| twin);
        let adopted = match known {
            Some((_, known)) if known != template => twin().unwrap_or_else(|| self.newest().next()),
            _ => generation,
        };
        self.newest = self.newest().max(adopted);
        if adopted != self.generation {
            self.earlier.entry(adopted).or_insert_with(|| template.clone());
        }
        adopted
    }

    /// Every generation that runs, or can be gone back to.
    pub(super) fn generations(&self) -> impl Iterator<Item = (Generation, &Arc<Template>)> {
        let kept = self.history.iter().map(|kept| (kept.generation, &kept.template));
        let earlier = self.earlier.iter().map(|(generation, template)| (*generation, template));
        kept.chain(earlier).chain([(self.generation, &self.spec.template)])
    }

    fn has_generation(&self, generation: Generation) -> bool {
        self.generations().any(|(known, _)| known == generation)
    }

    /// What `replica` claims of its host.
    #[must_use]
    pub fn claim(&self, replica: &ReplicaRecord) -> Claim {
        let requires = Requirements::from(&**self.template(replica.generation));
        Claim { replica: replica.id.clone(), node: replica.node.clone(), requires }
    }

    /// How many of its replicas may move in a minute; `None`: they stay.
    #[must_use]
    pub fn moves_per_minute(&self) -> Option<u32> {
        let of_spec = match self.spec.rebalance {
            Rebalance::Off => None,
            Rebalance::On { per_minute } => Some(per_minute),
        };
        self.rebalancing.or(of_spec).filter(|_| !self.deleted)
    }

    /// How many slots are to have a replica: as many as the user says, or one a host.
    #[must_use]
    pub fn slots_wanted(&self) -> u32 {
        match self.spec.mode {
            Mode::Replicated => self.spec.replicas,
            Mode::Global => u32::try_from(self.bindings.slots().len()).unwrap_or(u32::MAX),
        }
    }

    /// The order that makes `replica` run.
    #[must_use]
    pub fn assignment(&self, replica: &ReplicaRecord) -> Assignment {
        let template = self.template(replica.generation);
        Assignment {
            replica: replica.id.clone(),
            service: self.spec.name.clone(),
            slot: replica.slot,
            generation: replica.generation,
            template: template.clone(),
            on_disconnect: self.spec.on_disconnect,
            image_digest: self.image_digest(replica.generation).cloned(),
            prepare: replica.want == Want::Prepare,
        }
    }

    /// Marks these replicas for removal.
    pub fn retire_these(&mut self, ids: &[(Slot, ReplicaId)]) {
        self.replicas.change_these(ids, |replica| replica.want = Want::Remove);
    }

    /// Marks replicas for removal.
    pub fn retire(&mut self, gone: impl Fn(&ReplicaRecord) -> bool) {
        let goes = |replica: &ReplicaRecord| replica.want != Want::Remove && gone(replica);
        self.replicas.change(goes, |replica| replica.want = Want::Remove);
    }

    /// Drops replicas of `slots` that are confirmed gone, and templates that nothing runs any more.
    pub fn drop_confirmed(&mut self, slots: &SlotSet, confirmed: impl Fn(&ReplicaRecord) -> bool) {
        self.replicas.retain_in(slots, |replica| replica.want != Want::Remove || !confirmed(replica));
        self.forget_unused();
    }

    /// Gives up the move of these replicas, and the rebalance that a user asked for with it.
    pub fn cancel_moves(&mut self, ids: &[(Slot, ReplicaId)]) {
        self.replicas.change_these(ids, |replica| replica.moving = false);
        self.rebalancing = None;
    }

    /// Drops everything on hosts that are forgotten: nothing runs there any more, by an operator's word.
    pub fn forget_hosts(&mut self, nodes: &BTreeSet<NodeName>) {
        if nodes.is_empty() {
            return;
        }
        let forgotten = |node: &NodeName| nodes.contains(node);
        self.replicas.retain(|replica| !forgotten(&replica.node));
        self.bindings.retain(|_, bound_node| !forgotten(bound_node));
        self.forget_unused();
    }

    /// The generation to which a failure goes back: of the rollout that is under way, or of the one that has
    /// just ended.
    #[must_use]
    pub fn goes_back_to(&self) -> Option<Generation> {
        let of_rollout = self.rollout.as_ref().and_then(|rollout| rollout.from);
        of_rollout.or_else(|| self.probation.as_ref().map(|probation| probation.from))
    }

    /// Drops templates that hosts hold nothing of and no rollout goes back to.
    pub(super) fn forget_unused(&mut self) {
        self.forget_given_up();
        let from = self.goes_back_to();
        // What is to be removed claims of its host what it takes, until it is gone.
        self.earlier
            .retain(|generation, _| from == Some(*generation) || self.replicas.has_generation(*generation));
        let mut digests = std::mem::take(&mut self.digests);
        digests.retain(|generation, _| self.has_generation(*generation));
        self.digests = digests;
    }
}

fn by_id(replicas: Vec<&ReplicaRecord>) -> BTreeMap<&ReplicaId, &ReplicaRecord> {
    replicas.into_iter().map(|replica| (&replica.id, replica)).collect()
}

/// What is sent to hosts after a record became durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Per host: replicas to run and replicas to remove.
    pub orders: BTreeMap<NodeName, (Vec<Assignment>, Vec<ReplicaId>)>,
    /// What hosts are loaded with.
    pub load: Vec<LoadChange>,
    /// Replicas that are to run and were not in the record before.
    pub placed: Vec<ReplicaId>,
}

/// The difference between what was durable and what is.
#[must_use]
pub fn changes(old: Option<&ServiceRecord>, new: Option<&ServiceRecord>) -> Changes {
    let none = Replicas::default();
    let (before, after) =
        (old.map_or(&none, |record| &record.replicas), new.map_or(&none, |record| &record.replicas));
    // Of a replica's assignment only this can change. Neither touches a container that is there.
    let amended = |generation: Generation| {
        let (Some(old), Some(new)) = (old, new) else { return false };
        old.spec.on_disconnect != new.spec.on_disconnect
            || old.image_digest(generation) != new.image_digest(generation)
    };
    let all_may_be = match old.zip(new) {
        Some((old, new)) => old.spec.on_disconnect != new.spec.on_disconnect || old.digests != new.digests,
        None => false,
    };
    let (before, after) =
        if all_may_be { (before.iter().collect(), after.iter().collect()) } else { before.differing(after) };
    let (before, after) = (by_id(before), by_id(after));
    let mut changes = Changes::default();
    let mut required: BTreeMap<Generation, Requirements> = BTreeMap::new();
    let mut claim = |record: &ServiceRecord, replica: &ReplicaRecord| {
        let of_template = || Requirements::from(&**record.template(replica.generation));
        let requires = required.entry(replica.generation).or_insert_with(of_template).clone();
        Claim { replica: replica.id.clone(), node: replica.node.clone(), requires }
    };
    for (&id, &replica) in &after {
        let was = before.get(id).map(|replica| replica.want);
        if was.is_none() && replica.want != Want::Prepare {
            changes.load.extend(new.map(|record| LoadChange::Occupy(claim(record, replica))));
        }
        if was != Some(replica.want) && replica.want == Want::Remove {
            changes.load.push(LoadChange::Vacate(id.clone(), replica.node.clone()));
        }
        match (was, replica.want) {
            (was, Want::Run | Want::Prepare)
                if was.is_none() || was == Some(replica.want) && amended(replica.generation) =>
            {
                changes.placed.extend(was.is_none().then(|| id.clone()));
                let assignment = new.map(|record| record.assignment(replica));
                changes.orders.entry(replica.node.clone()).or_default().0.extend(assignment);
            }
            (None | Some(Want::Run | Want::Prepare), Want::Remove) => {
                changes.orders.entry(replica.node.clone()).or_default().1.push(id.clone());
            }
            (_, Want::Run | Want::Prepare) | (Some(Want::Remove), Want::Remove) => {}
        }
    }
    for (id, replica) in before.into_iter().filter(|(id, _)| !after.contains_key(id)) {
        changes.load.push(LoadChange::Release(id.clone(), replica.node.clone()));
    }
    changes
}
