//! What must hold of what is stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shef_common::ids::{Fence, ReplicaId, ServiceName, Version};
use shef_master::{
    service::{ServiceRecord, Stored, Want, read_stored},
    store::{Key, Record, StoreError, Write, WriteOutcome},
};

use crate::sim::world::World;

/// So many of a service's last commits are remembered: those of two masters that do not know how theirs
/// ended.
const MOST_COMMITTING: usize = 16;

impl World {
    /// The store was called with writes.
    pub fn rules_stored(
        &mut self,
        _inc: u64,
        fence: &Fence,
        _writes: &[Write],
        _result: &Result<Vec<WriteOutcome>, StoreError>,
    ) {
        let changed = self.look_at_store();
        if changed {
            self.rules.changes.push(self.now);
        }
        if changed && self.rules.fence.as_ref() != Some(fence) && !self.rules.store_lost {
            self.violated(format!("the store took a write of epoch {}, which no longer leads", fence.epoch));
        }
    }

    /// The store was given back what it had lost.
    pub fn rules_restored(&mut self) {
        self.rules.changes.push(self.now);
        self.look_at_store();
    }

    /// Another store has a backup of everything that was stored: services have this committed.
    pub fn rules_backup_restored(&mut self) {
        for (name, (_, record)) in read_services(&self.store.records()) {
            self.rules_committing(&name, Some(&record));
        }
        self.look_at_store();
    }

    /// The store has lost something.
    pub fn rules_store_lost(&mut self) {
        self.rules.store_lost = true;
        self.rules.tail_lost |= !self.store.records().is_empty();
        let stored: Vec<_> = self.store.records();
        self.rules.raw = stored
            .iter()
            .map(|record| (record.key.clone(), (record.version, record.value.clone())))
            .collect();
        self.rules.stored = read_services(&stored);
    }

    /// Takes in what changed in the store; returns whether anything did.
    pub(in crate::sim) fn look_at_store(&mut self) -> bool {
        let records = self.store.records();
        let now: BTreeMap<Key, (Version, Bytes)> = records
            .iter()
            .map(|record| (record.key.clone(), (record.version, record.value.clone())))
            .collect();
        let mut services = BTreeSet::new();
        let before = std::mem::replace(&mut self.rules.raw, now.clone());
        let mut changed = false;
        for key in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let (old, new) = (before.get(key), now.get(key));
            if old == new {
                continue;
            }
            changed = true;
            self.rules.has_host |= matches!(key, Key::Node(_));
            if new.is_some() {
                self.check_name(key);
            }
            services.extend(key.service().cloned());
        }
        for name in services {
            let old_version = before.get(&Key::head(name.clone())).map(|(version, _)| *version);
            self.service_stored(&name, old_version, in_the_store(&records, &name));
        }
        changed
    }

    /// A host is a member under one name.
    fn check_name(&mut self, key: &Key) {
        let Key::Node(name) = key else { return };
        let Some(host) = self.hosts.iter().find(|host| host.alias.as_ref() == Some(name)) else { return };
        if self.rules.raw.contains_key(&Key::Node(host.node.clone())) {
            let rule = format!("{name} is stored as a second host, and is {} by another name", host.node);
            self.violated(rule);
        }
    }

    fn service_stored(
        &mut self,
        name: &ServiceName,
        old_version: Option<Version>,
        new: Option<Result<(Version, ServiceRecord), String>>,
    ) {
        let old = self.rules.stored.remove(name).map(|(_, record)| record);
        let new = match new.transpose() {
            Ok(new) => new,
            Err(why) => return self.violated(format!("the store holds what cannot be read: {why}")),
        };
        let log = self.rules.log.entry(name.clone()).or_default();
        match &new {
            Some((version, record)) => log.push((*version, Some(record.clone()))),
            None => log.push((old_version.unwrap_or_default().next(), None)),
        }
        let record = new.as_ref().map(|(_, record)| record);
        self.check_committed(name, record);
        self.check_spec(name, old.as_ref(), record);
        self.check_dropped(name, old.as_ref(), record);
        self.check_numbers(name, old.as_ref(), record);
        self.check_rollout(name, old.as_ref(), record);
        self.check_canary(name, record);
        self.serves_at_most(name, old.as_ref(), record);
        self.check_homes(name, old.as_ref(), record);
        self.rules_placed(old.as_ref(), record);
        self.rules_room(old.as_ref(), record);
        for replica in record.iter().flat_map(|record| &record.replicas) {
            match replica.want {
                Want::Run => self.rules.wanted.insert(replica.id.clone()),
                Want::Prepare => {
                    self.rules.only_made.insert(replica.id.clone());
                    self.rules.wanted.insert(replica.id.clone())
                }
                Want::Remove => self.rules.unwanted.insert(replica.id.clone()),
            };
        }
        if let Some(new) = new {
            self.rules.stored.insert(name.clone(), new);
        }
    }

    /// A service has this committed; `None`: nothing of it is to be left.
    pub fn rules_committing(&mut self, name: &ServiceName, record: Option<&ServiceRecord>) {
        let committing = self.rules.committing.entry(name.clone()).or_default();
        committing.extend(record.cloned());
        if committing.len() > MOST_COMMITTING {
            committing.pop_front();
        }
    }

    /// What the parts of a service make is what it had committed.
    fn check_committed(&mut self, name: &ServiceName, new: Option<&ServiceRecord>) {
        let committing = self.rules.committing.get(name);
        let is_known = |new| committing.is_some_and(|committing| committing.contains(new));
        if !self.rules.store_lost && new.is_some_and(|new| !is_known(new)) {
            self.violated(format!("{name} is stored as nobody has committed it: {new:?}"));
        }
    }

    /// What is stored was asked for by somebody.
    fn check_spec(&mut self, name: &ServiceName, old: Option<&ServiceRecord>, new: Option<&ServiceRecord>) {
        let Some(new) = new else {
            if old.is_some_and(|old| !old.deleted) && !self.user.deletes.contains(name) {
                self.violated(format!("the record of {name} is gone, and nobody deleted it"));
            }
            return;
        };
        if new.imported || self.rules.store_lost {
            return;
        }
        let replicas = self.user.replicas.get(name).is_some_and(|asked| asked.contains(&new.spec.replicas));
        let image =
            self.user.images.get(name).is_some_and(|asked| asked.contains(&new.spec.template.image.pinned()));
        if !replicas || !image {
            self.violated(format!("{name} is stored with a spec that nobody asked for: {:?}", new.spec));
        }
        if new.deleted && !self.user.deletes.contains(name) {
            self.violated(format!("{name} is stored as deleted, and nobody asked for that"));
        }
    }

    /// A replica leaves its record only when no host holds its container any more.
    fn check_dropped(
        &mut self,
        name: &ServiceName,
        old: Option<&ServiceRecord>,
        new: Option<&ServiceRecord>,
    ) {
        if self.rules.tail_lost {
            return;
        }
        for replica in old.iter().flat_map(|old| &old.replicas) {
            let kept = new.is_some_and(|new| new.replicas.iter().any(|kept| kept.id == replica.id));
            let id = replica.id.as_str();
            if !kept
                && !self.is_left_behind(&replica.node, &replica.id)
                && let Some(host) = self.hosts.iter().find(|host| {
                    // Once in 16 million, one that a forgotten host still holds has had the same name.
                    host.engine.containers.contains_key(id) && !self.is_left_behind(&host.node, &replica.id)
                })
            {
                let node = &host.node;
                let rule = format!(
                    "{id} is no longer in the record of {name}, but {node} still holds its container"
                );
                return self.violated(rule);
            }
        }
    }

    /// As long as a service lives, no replica of it has the number of an earlier one.
    fn check_numbers(
        &mut self,
        name: &ServiceName,
        old: Option<&ServiceRecord>,
        new: Option<&ServiceRecord>,
    ) {
        let ids = |record: Option<&ServiceRecord>| -> BTreeSet<ReplicaId> {
            record.into_iter().flat_map(|record| &record.replicas).map(|replica| replica.id.clone()).collect()
        };
        let (before, after) = (ids(old), ids(new));
        let created = |record: Option<&ServiceRecord>| record.map(|record| record.created);
        if created(old) != created(new) {
            return self.rules.dropped.retain(|id| id.service() != name.as_str());
        }
        if let Some(again) = after.difference(&before).find(|id| self.rules.dropped.contains(*id))
            && !self.rules.store_lost
        {
            self.violated(format!("{again} is the number of a second replica"));
        }
        self.rules.dropped.extend(before.difference(&after).cloned());
    }

    // --- the master -------------------------------------------------------
}

fn read_services(stored: &[Record]) -> BTreeMap<ServiceName, (Version, ServiceRecord)> {
    let names: BTreeSet<&ServiceName> = stored.iter().filter_map(|record| record.key.service()).collect();
    let read = |name: &ServiceName| Some((name.clone(), in_the_store(stored, name)?.ok()?));
    names.into_iter().filter_map(read).collect()
}

/// The service `name` as it is in the store, with how often it was committed.
fn in_the_store(records: &[Record], name: &ServiceName) -> Option<Result<(Version, ServiceRecord), String>> {
    let parts: Vec<Record> = records.iter().filter(|r| r.key.service() == Some(name)).cloned().collect();
    (!parts.is_empty()).then(|| match read_stored(&parts) {
        Ok(Stored { record, versions }) => Ok((versions.of_head().unwrap_or_default(), record)),
        Err((key, error)) => Err(format!("{key}: {error}")),
    })
}
