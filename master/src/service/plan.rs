//! From what is wanted and what is observed to the next changes of the record.
//!
//! Per slot: once a replica of the newest generation runs well on a reachable
//! host, every other replica of the slot goes; until then the ones that run
//! stay, and one new replica is on its way. The same rule serves first starts,
//! retries, updates (start-first, a quarter of the replicas at a time) and
//! hosts that are lost and come back.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId, Slot},
    status::{Health, ReplicaState, ReplicaStatus},
};

use super::record::{ReplicaRecord, ServiceRecord};
use crate::scheduler::Place;

/// What is known of the hosts and replicas of a service.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// The latest word of the hosts.
    pub observed: BTreeMap<ReplicaId, ReplicaStatus>,
    /// Hosts that are down.
    pub down: BTreeSet<NodeName>,
    /// When a failed replica may be replaced.
    pub retry_at: BTreeMap<ReplicaId, MonoMs>,
}

/// How a replica that is to run fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fare {
    /// The newest generation, running and healthy on a reachable host.
    Good,
    /// The newest generation, not there yet (or unwell, or not told of yet), on a reachable host.
    Coming,
    /// It failed.
    Failed,
    /// An earlier generation that runs, for all that is known.
    Old,
    /// Its host is down.
    Lost,
}

impl Knowledge {
    /// How `replica` of `record` fares.
    pub fn fare(&self, record: &ServiceRecord, replica: &ReplicaRecord) -> Fare {
        let status = self.observed.get(&replica.id);
        let state = status.map_or(ReplicaState::Assigned, |status| status.state);
        let healthy = status.is_none_or(|status| status.health == Health::Healthy);
        if matches!(state, ReplicaState::Failed | ReplicaState::Stopping | ReplicaState::Stopped) {
            return Fare::Failed;
        }
        if self.down.contains(&replica.node) {
            return Fare::Lost;
        }
        match (replica.generation == record.generation, state == ReplicaState::Running) {
            (true, true) if healthy => Fare::Good,
            (true, _) => Fare::Coming,
            (false, true) => Fare::Old,
            // After a start of the master it may well run: its host has not told yet.
            (false, false) if status.is_none() => Fare::Old,
            (false, false) => Fare::Failed,
        }
    }

    /// Whether its host has told of `replica`.
    fn heard_of(&self, replica: &ReplicaRecord) -> bool {
        self.observed.contains_key(&replica.id)
    }
}

/// The next changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Replicas to retire now.
    pub retire: Vec<ReplicaId>,
    /// Slots that want a new replica, with how many failed there in a row.
    pub place: Vec<(Place, u32)>,
    /// Slots of which `give_up` are to go; the scheduler chooses.
    pub candidates: Vec<(Slot, NodeName)>,
    /// How many of the candidates are to go.
    pub give_up: usize,
    /// When to plan again at the latest.
    pub wake_at: Option<MonoMs>,
}

impl Plan {
    /// Whether the scheduler has to be asked.
    pub const fn needs_scheduler(&self) -> bool {
        !self.place.is_empty() || self.give_up > 0
    }
}

/// How many slots an update may have in two generations at once.
fn surge(replicas: u32) -> usize {
    replicas.div_ceil(4).max(1) as usize
}

/// Plans the next step for `record`.
pub fn plan(record: &ServiceRecord, know: &Knowledge, now: MonoMs) -> Plan {
    let mut plan = Plan::default();
    if record.deleted {
        plan.retire = record.wanted().map(|replica| replica.id.clone()).collect();
        return plan;
    }
    let mut slots: BTreeMap<Slot, Vec<(&ReplicaRecord, Fare)>> = BTreeMap::new();
    for replica in record.wanted() {
        slots.entry(replica.slot).or_default().push((replica, know.fare(record, replica)));
    }
    give_up_surplus(record, &mut slots, &mut plan);

    // A slot whose new replica failed holds its place, so that a bad update stops early.
    let newest = |replica: &ReplicaRecord| replica.generation == record.generation;
    let updating = |slot: &Vec<(&ReplicaRecord, Fare)>| {
        slot.iter().any(|(_, fare)| *fare == Fare::Old) && slot.iter().any(|(replica, _)| newest(replica))
    };
    let mut surge_left = surge(record.spec.replicas).saturating_sub(slots.values().filter(|slot| updating(slot)).count());
    for replicas in slots.values() {
        plan_slot(record, replicas, know, now, &mut surge_left, &mut plan);
    }
    let missing = (record.spec.replicas as usize).saturating_sub(slots.len());
    let free = (0..).map(Slot).filter(|slot| !slots.contains_key(slot));
    plan.place.extend(free.take(missing).map(|slot| (Place { slot, avoid: None }, 0)));
    plan
}

/// More slots than wanted: those without a good replica go first, the highest
/// first; of the others the scheduler chooses.
fn give_up_surplus(record: &ServiceRecord, slots: &mut BTreeMap<Slot, Vec<(&ReplicaRecord, Fare)>>, plan: &mut Plan) {
    let mut surplus = slots.len().saturating_sub(record.spec.replicas as usize);
    let good = |slot: &Vec<(&ReplicaRecord, Fare)>| slot.iter().any(|(_, fare)| matches!(fare, Fare::Good | Fare::Old));
    let lesser: Vec<Slot> = slots.iter().rev().filter(|(_, slot)| !good(slot)).map(|(slot, _)| *slot).take(surplus).collect();
    for slot in lesser {
        surplus -= 1;
        plan.retire.extend(slots.remove(&slot).into_iter().flatten().map(|(replica, _)| replica.id.clone()));
    }
    if surplus > 0 {
        plan.give_up = surplus;
        plan.candidates = slots
            .iter()
            .filter_map(|(slot, replicas)| replicas.first().map(|(replica, _)| (*slot, replica.node.clone())))
            .collect();
    }
}

fn plan_slot(
    record: &ServiceRecord,
    replicas: &[(&ReplicaRecord, Fare)],
    know: &Knowledge,
    now: MonoMs,
    surge_left: &mut usize,
    plan: &mut Plan,
) {
    let find = |wanted: Fare| replicas.iter().find(|(_, fare)| *fare == wanted).map(|(replica, _)| *replica);
    if let Some(keeper) = find(Fare::Good) {
        plan.retire.extend(replicas.iter().filter(|(r, _)| r.id != keeper.id).map(|(r, _)| r.id.clone()));
        return;
    }
    if find(Fare::Coming).is_some() {
        // Of several that are on their way the one that has come farthest stays. Those
        // that nothing is known of may run: they are let be.
        let heard = replicas.iter().filter(|(replica, _)| know.heard_of(replica));
        let coming = heard.clone().rev().filter(|(_, fare)| *fare == Fare::Coming).map(|(replica, _)| &replica.id);
        let keeper = coming.max_by_key(|id| know.observed.get(*id).map(|status| status.state));
        let doubled = heard.filter(|(r, fare)| *fare == Fare::Failed || *fare == Fare::Coming && Some(&r.id) != keeper);
        plan.retire.extend(doubled.map(|(r, _)| r.id.clone()));
        return;
    }
    // Of several earlier generations (an update amid an update) one that is known to run stays.
    let runs =
        |replica: &ReplicaRecord| know.observed.get(&replica.id).is_some_and(|status| status.state == ReplicaState::Running);
    let old = replicas.iter().filter(|(_, fare)| *fare == Fare::Old).map(|(replica, _)| *replica);
    if let Some(keeper) = old.clone().filter(|replica| runs(replica)).max_by_key(|replica| replica.generation) {
        plan.retire.extend(old.filter(|replica| replica.id != keeper.id).map(|replica| replica.id.clone()));
    }
    let failed: Vec<&ReplicaRecord> = replicas
        .iter()
        .filter(|(replica, fare)| *fare == Fare::Failed && replica.generation == record.generation)
        .map(|(replica, _)| *replica)
        .collect();
    if let Some(wait_until) = failed.iter().filter_map(|r| know.retry_at.get(&r.id)).max().filter(|at| **at > now) {
        plan.wake_at = Some(plan.wake_at.map_or(*wait_until, |at| at.min(*wait_until)));
        return;
    }
    if find(Fare::Old).is_some() && failed.is_empty() {
        if *surge_left == 0 {
            return;
        }
        *surge_left -= 1;
    }
    let Some(slot) = replicas.first().map(|(replica, _)| replica.slot) else { return };
    let attempt = failed.iter().map(|r| r.attempt + 1).max().unwrap_or(0);
    let avoid = failed.last().map(|r| r.node.clone());
    plan.place.push((Place { slot, avoid }, attempt));
}

#[cfg(test)]
mod tests {
    use shef_common::{
        clock::WallMs,
        ids::{Generation, ServiceName},
        image::ImageRef,
        spec::{ServiceSpec, Template},
    };

    use super::{super::record::Want, *};

    /// One slot with a replica of each of these generations, of which the last is the newest.
    fn record(generations: &[u32]) -> ServiceRecord {
        let name = ServiceName::parse("web").unwrap();
        let template = |n: u32| Template::of(ImageRef::parse(&format!("app:{n}")).unwrap()).into();
        let spec = ServiceSpec {
            name: name.clone(),
            replicas: 1,
            template: template(1),
            on_disconnect: shef_common::spec::OnDisconnect::Keep,
            rebalance: shef_common::spec::Rebalance::Off,
        };
        let mut record = ServiceRecord::new(spec, WallMs(0));
        for (n, &generation) in (1..).zip(generations) {
            while record.generation < Generation(generation.into()) {
                record.set_template(template(generation));
            }
            record.replicas.push(ReplicaRecord {
                id: ReplicaId::new(&name, n),
                slot: Slot(0),
                generation: record.generation,
                node: NodeName::parse("h1").unwrap(),
                want: Want::Run,
                attempt: 0,
            });
        }
        record
    }

    fn hears(know: &mut Knowledge, n: u32, state: ReplicaState, health: Health) -> ReplicaId {
        let id = ReplicaId::new(&ServiceName::parse("web").unwrap(), n);
        let status = ReplicaStatus { health, ..ReplicaStatus::new(id.clone(), state, WallMs(0)) };
        know.observed.insert(id.clone(), status);
        id
    }

    #[test]
    fn of_several_earlier_generations_one_that_runs_stays() {
        let mut record = record(&[1, 2]);
        record.set_template(Template::of(ImageRef::parse("app:3").unwrap()).into());
        let mut know = Knowledge::default();
        assert_eq!(plan(&record, &know, MonoMs(0)).retire, [], "after a start of the master either may run");
        let first = hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        let second = record.replicas[1].id.clone();
        assert_eq!(plan(&record, &know, MonoMs(0)).retire, [second]);
        hears(&mut know, 2, ReplicaState::Running, Health::Healthy);
        assert_eq!(plan(&record, &know, MonoMs(0)).retire, [first]);
    }

    #[test]
    fn of_several_on_their_way_the_one_that_has_come_farthest_stays() {
        let record = record(&[1, 1]);
        let mut know = Knowledge::default();
        let first = hears(&mut know, 1, ReplicaState::Pulling, Health::Healthy);
        let second = hears(&mut know, 2, ReplicaState::Running, Health::Unhealthy);
        assert_eq!(plan(&record, &know, MonoMs(0)).retire, [first], "one that runs, though unwell, is worth more than a pull");
        hears(&mut know, 1, ReplicaState::Running, Health::Unhealthy);
        assert_eq!(plan(&record, &know, MonoMs(0)).retire, [second]);
    }
}
