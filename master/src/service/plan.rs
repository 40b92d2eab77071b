//! From what is wanted and what is observed to the next changes of the record.
//!
//! Per slot: once a replica of the generation that the slot is to run is good, on
//! a host where it may stay, every other replica of the slot goes; until then the
//! ones that run stay, and one new replica is on its way. Only an update that
//! stops first has the old one go before. Which generation that is, a rollout
//! says (`rollout`). The same rule serves first
//! starts, retries, updates and drains (start-first, a quarter of the replicas
//! at a time), moves of a rebalance, and hosts that are lost and come back.

use std::collections::{BTreeMap, BTreeSet};

use shef_common::{
    clock::MonoMs,
    ids::{NodeName, ReplicaId, Slot},
};

use super::{
    homes,
    knowledge::{Fare, Knowledge},
    rebalance,
    record::{ReplicaRecord, ServiceRecord, Want},
    rollout,
};
use crate::{membership::Standing, scheduler::Place};

/// The next changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Replicas to retire now.
    pub retire: Vec<ReplicaId>,
    /// Replicas whose move is given up: what was to take their place did not come to run.
    pub stay: Vec<ReplicaId>,
    /// Slots that want a new replica, with how many failed there in a row.
    pub place: Vec<(Place, u32)>,
    /// Slots that lose their replica before another is placed: they stop first.
    pub emptied: Vec<Slot>,
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

    /// Whether nothing is to be changed now.
    pub const fn is_idle(&self) -> bool {
        self.retire.is_empty() && self.stay.is_empty() && !self.needs_scheduler()
    }

    fn wake(&mut self, at: MonoMs) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The wanted replicas of each slot.
pub type Slots<'a> = BTreeMap<Slot, Vec<(&'a ReplicaRecord, Fare)>>;

/// How the wanted replicas of `record` fare, by slot.
pub fn slots<'a>(record: &'a ServiceRecord, know: &Knowledge) -> Slots<'a> {
    let mut slots = Slots::new();
    for replica in record.wanted() {
        slots.entry(replica.slot).or_default().push((replica, know.fare(record, replica)));
    }
    slots
}

/// How many slots may have an original and its replacement at once: a quarter;
/// while there is a rollout, what it allows.
pub fn surge(record: &ServiceRecord) -> usize {
    let (update, wanted) = (&record.spec.update, record.slots_wanted());
    let most = match &record.rollout {
        None => wanted.div_ceil(4),
        Some(_) if record.stops_first() => update.parallelism,
        Some(_) => update.surge(wanted),
    };
    most.max(1) as usize
}

/// The slots that are under way: those with an original and its replacement, and
/// those whose turn in a rollout has come and that are not through, or failed and
/// serve nobody.
pub fn busy(record: &ServiceRecord, slots: &Slots<'_>, know: &Knowledge) -> BTreeSet<Slot> {
    let has = |replicas: &[(&ReplicaRecord, Fare)], fares: &[Fare]| replicas.iter().any(|(_, fare)| fares.contains(fare));
    // A slot whose new replica failed holds its place, so that a bad update stops early.
    let doubled = |slot: Slot, replicas: &[(&ReplicaRecord, Fare)]| {
        let is_new = |(r, fare): &(&ReplicaRecord, Fare)| {
            r.generation == record.target(slot) && matches!(fare, Fare::Good | Fare::Proving | Fare::Coming | Fare::Failed)
        };
        has(replicas, &[Fare::Old, Fare::Leaving]) && replicas.iter().any(is_new)
    };
    let mut busy: BTreeSet<Slot> =
        slots.iter().filter(|(slot, replicas)| doubled(**slot, replicas)).map(|(slot, _)| *slot).collect();
    if let Some(rollout) = record.rollout.as_ref().filter(|_| record.is_gated()) {
        let unwell = |slot: &Slot| slots.get(slot).is_some_and(|replicas| !has(replicas, &[Fare::Good]));
        let serves_nobody = |slot: &Slot| slots.get(slot).is_some_and(|all| !all.iter().any(|(r, fare)| serves(r, *fare, know)));
        busy.extend(rollout.turned.iter().filter(|slot| unwell(slot)));
        busy.extend(rollout.failures.keys().filter(|slot| serves_nobody(slot)));
        busy.extend(free_slots(record, slots).into_iter().filter(|slot| rollout.is_in_hand(*slot)));
        busy.retain(|slot| !waits_for_room(record, *slot, slots, know));
    }
    busy
}

/// Whether `slot` has nothing but what is lost, if anything, there is no host for another, and no rollout has emptied
/// it: others need not wait for it, as they cost it nothing. One that a rollout has emptied may lack room because
/// the new generation takes more: every further one would fare like it.
pub fn waits_for_room(record: &ServiceRecord, slot: Slot, slots: &Slots<'_>, know: &Knowledge) -> bool {
    let is_emptied = record.rollout.as_ref().is_some_and(|rollout| rollout.emptied.contains(&slot));
    let is_lost = slots.get(&slot).is_none_or(|all| all.iter().all(|(_, fare)| *fare == Fare::Lost));
    let has_no_host = || know.unplaced.contains(&slot) || !homes::may_be_placed(record, slot, know);
    !is_emptied && is_lost && has_no_host()
}

/// Where a rollout stops old replicas first, the slots that serve nobody, for whatever reason: no more are to become so
/// than its parallelism.
pub fn dark(record: &ServiceRecord, slots: &Slots<'_>, know: &Knowledge) -> BTreeSet<Slot> {
    if record.rollout.is_none() || !record.stops_first() {
        return BTreeSet::new();
    }
    let is_dark = |replicas: &[(&ReplicaRecord, Fare)]| !replicas.iter().any(|(replica, fare)| serves(replica, *fare, know));
    let dark = slots.iter().filter(|(_, replicas)| is_dark(replicas)).map(|(slot, _)| *slot);
    dark.chain(free_slots(record, slots)).filter(|slot| !waits_for_room(record, *slot, slots, know)).collect()
}

/// Whether somebody may be served by `replica`, for all that is known.
pub fn serves(replica: &ReplicaRecord, fare: Fare, know: &Knowledge) -> bool {
    match fare {
        Fare::Good | Fare::Proving => true,
        Fare::Old | Fare::Leaving => !know.heard_of(replica) || know.is_well(replica),
        // What we have only just placed does not serve yet; what was placed before our own start may.
        Fare::Coming => !know.heard_of(replica) && !know.fresh.contains(&replica.id),
        Fare::Failed | Fare::Stranded | Fare::Lost => false,
    }
}

/// The slots that are to be filled, as nothing is wanted in them: first those that
/// a rollout has emptied, then others that it has in hand.
pub fn free_slots(record: &ServiceRecord, slots: &Slots<'_>) -> Vec<Slot> {
    // Whatever is still in slots that have lost their host.
    if !record.spec.mode.is_replicated() {
        return record.homes.keys().copied().filter(|slot| !slots.contains_key(slot)).collect();
    }
    let missing = (record.slots_wanted() as usize).saturating_sub(slots.len());
    if missing == 0 {
        return Vec::new();
    }
    // What was given up has the number of no slot that a rollout has emptied.
    let emptied: BTreeSet<Slot> = record.rollout.iter().flat_map(|rollout| rollout.emptied.iter()).copied().collect();
    let in_hand = record.rollout.iter().flat_map(|rollout| rollout.turned.iter().chain(rollout.failures.keys())).copied();
    let in_hand: BTreeSet<Slot> = in_hand.filter(|slot| !emptied.contains(slot)).collect();
    let others = (0..).map(Slot).filter(|slot| !emptied.contains(slot) && !in_hand.contains(slot));
    let all = emptied.iter().chain(&in_hand).copied().chain(others);
    all.filter(|slot| !slots.contains_key(slot)).take(missing).collect()
}

/// Whether a new replica of the slot has to wait for one that goes.
fn waits_for_removal(record: &ServiceRecord, slot: Slot, know: &Knowledge) -> bool {
    let there = |node: &NodeName| matches!(know.condition(node).standing, Standing::Ready | Standing::Suspect);
    let goes = |r: &ReplicaRecord| r.slot == slot && r.want == Want::Remove && there(&r.node);
    record.stops_first() && record.replicas.iter().any(goes)
}

/// Plans the next step for `record`.
pub fn plan(record: &ServiceRecord, know: &Knowledge) -> Plan {
    let mut plan = Plan::default();
    if record.deleted {
        let there = record.replicas.iter().filter(|replica| replica.want != Want::Remove);
        plan.retire = there.map(|replica| replica.id.clone()).collect();
        return plan;
    }
    let mut slots = slots(record, know);
    plan.retire.extend(rollout::idle(record, &slots));
    give_up_unbound(record, &mut slots, &mut plan);
    retire_overdue(know, &mut slots, &mut plan);
    give_up_surplus(record, &mut slots, &mut plan);

    let mut busy = busy(record, &slots, know);
    busy.extend(dark(record, &slots, know));
    let mut surge_left = surge(record).saturating_sub(busy.len());
    for (slot, replicas) in &slots {
        plan_slot(record, *slot, replicas, know, &mut surge_left, &mut plan);
    }
    let free = free_slots(record, &slots).into_iter().filter(|slot| !waits_for_removal(record, *slot, know));
    plan.place.extend(free.map(|slot| (Place { slot, avoid: None }, record.failures_of(slot))));
    plan.place.retain(|(place, _)| homes::may_be_placed(record, place.slot, know));
    // What a rollout has emptied comes back before others get the room that it had.
    let is_emptied = |slot| record.rollout.as_ref().is_some_and(|rollout| rollout.emptied.contains(&slot));
    plan.place.sort_by_key(|(place, _)| !is_emptied(place.slot));
    plan
}

/// In mode `global`, a slot without a host goes at once: nothing is to take its place.
fn give_up_unbound(record: &ServiceRecord, slots: &mut Slots<'_>, plan: &mut Plan) {
    if record.spec.mode.is_replicated() {
        return;
    }
    slots.retain(|slot, replicas| {
        let stays = record.homes.contains_key(slot);
        if !stays {
            plan.retire.extend(replicas.iter().map(|(replica, _)| replica.id.clone()));
        }
        stays
    });
}

/// What still is on a host whose drain is past its deadline goes, replaced or not.
fn retire_overdue(know: &Knowledge, slots: &mut Slots<'_>, plan: &mut Plan) {
    for replicas in slots.values_mut() {
        replicas.retain(|(replica, _)| {
            let condition = know.condition(&replica.node);
            let stays = !(condition.is_leaving() && condition.overdue);
            if !stays {
                plan.retire.push(replica.id.clone());
            }
            stays
        });
    }
    slots.retain(|_, replicas| !replicas.is_empty());
}

/// More slots than wanted: those in which nothing runs for all that is known go
/// first, then those that are to move anyway, the highest first; of the others
/// the scheduler chooses.
fn give_up_surplus(record: &ServiceRecord, slots: &mut Slots<'_>, plan: &mut Plan) {
    let mut surplus = slots.len().saturating_sub(record.slots_wanted() as usize);
    let has = |slot: &Vec<(&ReplicaRecord, Fare)>, fares: &[Fare]| slot.iter().any(|(_, fare)| fares.contains(fare));
    for runs in [&[Fare::Good, Fare::Proving, Fare::Old, Fare::Leaving][..], &[Fare::Good, Fare::Proving, Fare::Old]] {
        let lesser: Vec<Slot> =
            slots.iter().rev().filter(|(_, slot)| !has(slot, runs)).map(|(slot, _)| *slot).take(surplus).collect();
        for slot in lesser {
            surplus -= 1;
            plan.retire.extend(slots.remove(&slot).into_iter().flatten().map(|(replica, _)| replica.id.clone()));
        }
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
    slot: Slot,
    replicas: &[(&ReplicaRecord, Fare)],
    know: &Knowledge,
    surge_left: &mut usize,
    plan: &mut Plan,
) {
    let with = |wanted: Fare| replicas.iter().filter(move |(_, fare)| *fare == wanted).map(|(replica, _)| *replica);
    let leaves = |replica: &ReplicaRecord| know.has_to_leave(record, replica);
    if with(Fare::Good).next().is_some() {
        return keep_one_good(replicas, know, plan);
    }
    if with(Fare::Coming).chain(with(Fare::Proving)).next().is_some() {
        return keep_one_coming(record, replicas, know, plan);
    }
    // Of several other generations (an update amid an update) one that is known to run stays, the last good one above all.
    let from = record.rollout.as_ref().and_then(|rollout| rollout.from);
    let worth = |replica: &&ReplicaRecord| (know.is_well(replica), Some(replica.generation) == from, replica.generation);
    if let Some(keeper) = with(Fare::Old).filter(|replica| know.runs(replica)).max_by_key(worth) {
        // What is not told of may fare better than one that is unwell.
        let goes = |r: &&ReplicaRecord| r.id != keeper.id && (know.is_well(keeper) || know.heard_of(r));
        plan.retire.extend(with(Fare::Old).filter(goes).map(|replica| replica.id.clone()));
    }
    // Until its turn comes, a slot stays as it is.
    let has_turn = record.rollout.as_ref().is_none_or(|rollout| rollout.from.is_none() || rollout.turned.contains(&slot));
    if !has_turn && with(Fare::Old).any(|replica| !leaves(replica)) {
        return plan.retire.extend(with(Fare::Failed).map(|replica| replica.id.clone()));
    }
    // A rebalance is worth no second try at once: the original stays where it is.
    if let Some(original) = with(Fare::Leaving).find(|replica| !leaves(replica)) {
        return plan.stay.push(original.id.clone());
    }
    // A new one that is to leave before it has proved itself needs no replacement beside an old one.
    let is_leaving = with(Fare::Leaving).next().is_some();
    if is_leaving && with(Fare::Old).any(|replica| know.is_well(replica) && !leaves(replica)) {
        // Even where the old one is to go first, it does not go together with it.
        return plan.retire.extend(with(Fare::Leaving).map(|replica| replica.id.clone()));
    }
    let target = record.target(slot);
    let failed: Vec<&ReplicaRecord> = with(Fare::Failed).filter(|replica| replica.generation == target).collect();
    if failed.iter().any(|replica| know.ended_for_good(record, replica)) {
        return;
    }
    if let Some(wait_until) = failed.iter().filter_map(|r| know.retry_at.get(&r.id)).max().filter(|at| **at > know.now()) {
        return plan.wake(*wait_until);
    }
    // What is unwell serves nobody: its replacement takes nobody's place.
    let is_served = replicas.iter().any(|(replica, fare)| serves(replica, *fare, know));
    if failed.is_empty() && !(has_turn && record.is_gated()) && is_served {
        if *surge_left == 0 {
            return;
        }
        *surge_left -= 1;
    }
    if record.stops_first() && with(Fare::Old).next().is_some() {
        // Nothing stops for what could not come.
        if !homes::may_be_placed(record, slot, know) {
            return;
        }
        // What takes its place is planned once it is gone.
        plan.emptied.push(slot);
        return plan.retire.extend(with(Fare::Old).chain(with(Fare::Failed)).map(|replica| replica.id.clone()));
    }
    let attempt = failed.iter().map(|r| r.attempt + 1).max().unwrap_or_else(|| record.failures_of(slot));
    let avoid = failed.last().map(|r| r.node.clone());
    plan.place.push((Place { slot, avoid }, attempt));
}

/// Of several that are on their way the one that has come farthest stays. Those
/// that nothing is known of may run: they are let be.
fn keep_one_coming(record: &ServiceRecord, replicas: &[(&ReplicaRecord, Fare)], know: &Knowledge, plan: &mut Plan) {
    let is_coming = |fare: Fare| matches!(fare, Fare::Coming | Fare::Proving);
    let matters = replicas.len() > 1 || record.rollout.is_some() || rebalance::rate(record).is_some();
    for (replica, _) in replicas.iter().filter(|(_, fare)| is_coming(*fare)) {
        let passes_at = know.passes_at(record, replica).filter(|_| matters);
        know.strands_at(replica).into_iter().chain(passes_at).filter(|at| *at > know.now()).for_each(|at| plan.wake(at));
    }
    let heard = replicas.iter().filter(|(replica, _)| know.heard_of(replica));
    let coming = heard.clone().rev().filter(|(_, fare)| is_coming(*fare));
    let keeper = coming.max_by_key(|(r, fare)| (*fare == Fare::Proving, know.observed.get(&r.id).map(|status| status.state)));
    let keeper = keeper.map(|(replica, _)| &replica.id);
    let doubled = heard.filter(|(r, fare)| *fare == Fare::Failed || is_coming(*fare) && Some(&r.id) != keeper);
    plan.retire.extend(doubled.map(|(r, _)| r.id.clone()));
}

/// One good replica stays, if possible on a host that reports; all others go,
/// unless nobody knows for now whether its host is still there.
fn keep_one_good(replicas: &[(&ReplicaRecord, Fare)], know: &Knowledge, plan: &mut Plan) {
    let standing = |replica: &ReplicaRecord| know.condition(&replica.node).standing;
    let good = replicas.iter().filter(|(_, fare)| *fare == Fare::Good).map(|(replica, _)| *replica);
    let Some(keeper) = good.min_by_key(|replica| standing(replica) != Standing::Ready) else { return };
    if !matches!(standing(keeper), Standing::Suspect | Standing::Down) {
        plan.retire.extend(replicas.iter().filter(|(r, _)| r.id != keeper.id).map(|(r, _)| r.id.clone()));
    }
}

#[cfg(test)]
mod tests {
    use shef_common::{
        clock::{DurationMs, WallMs},
        ids::{Generation, ServiceName},
        image::ImageRef,
        spec::{Order, RestartCondition, ServiceSpec, Template, Update},
        status::{Health, ReplicaState, ReplicaStatus},
    };

    use super::{
        super::{
            knowledge::AWAY_PATIENCE,
            rollout::{Phase, Rollout, Terms},
        },
        *,
    };
    use crate::membership::{HostCondition, Intent};

    /// Another generation without a rollout, as records of before rollouts have them.
    fn bare_update(record: &mut ServiceRecord, template: Template) {
        record.set_template(template.into(), WallMs(0), Terms { good: false, history_limit: 0 });
        record.rollout = None;
    }

    /// One slot with a replica of each of these generations, of which the last is the newest.
    fn record(generations: &[u32]) -> ServiceRecord {
        let name = ServiceName::parse("web").unwrap();
        let template = |n: u32| Template::of(ImageRef::parse(&format!("app:{n}")).unwrap());
        let update = Update { monitor_ms: 0, ..Update::default() };
        let spec = ServiceSpec { update, ..ServiceSpec::of(name.clone(), 1, template(1)) };
        let mut record = ServiceRecord::new(spec, WallMs(0));
        for (n, &generation) in (1..).zip(generations) {
            while record.generation < Generation(generation.into()) {
                bare_update(&mut record, template(generation));
            }
            record.replicas.push(ReplicaRecord {
                id: ReplicaId::new(&name, n),
                slot: Slot(0),
                generation: record.generation,
                node: NodeName::parse("h1").unwrap(),
                want: Want::Run,
                attempt: 0,
                moving: false,
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
        bare_update(&mut record, Template::of(ImageRef::parse("app:3").unwrap()));
        let mut know = Knowledge::default();
        assert_eq!(plan(&record, &know).retire, [], "after a start of the master either may run");
        let first = hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        let second = record.replicas[1].id.clone();
        assert_eq!(plan(&record, &know).retire, [second]);
        hears(&mut know, 2, ReplicaState::Running, Health::Healthy);
        assert_eq!(plan(&record, &know).retire, [first]);
    }

    #[test]
    fn of_several_on_their_way_the_one_that_has_come_farthest_stays() {
        let record = record(&[1, 1]);
        let mut know = Knowledge::default();
        let first = hears(&mut know, 1, ReplicaState::Pulling, Health::Healthy);
        let second = hears(&mut know, 2, ReplicaState::Running, Health::Unhealthy);
        assert_eq!(plan(&record, &know).retire, [first], "one that runs, though unwell, is worth more than a pull");
        hears(&mut know, 1, ReplicaState::Running, Health::Unhealthy);
        assert_eq!(plan(&record, &know).retire, [second]);
    }

    fn condition(standing: Standing) -> HostCondition {
        HostCondition::of(standing)
    }
    fn h1() -> NodeName {
        NodeName::parse("h1").unwrap()
    }
    fn placed(plan: &Plan) -> Vec<u32> {
        plan.place.iter().map(|(place, _)| place.slot.0).collect()
    }

    #[test]
    fn only_a_host_that_is_lost_loses_its_replicas() {
        let record = record(&[1]);
        let mut know = Knowledge::default();
        hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        let held = HostCondition { held: true, ..condition(Standing::Down) };
        let stay = [Standing::Awaited, Standing::Ready, Standing::Suspect, Standing::AgentDown, Standing::EngineDown];
        for kept in stay.map(condition).into_iter().chain([held]) {
            know.host_changed(&h1(), kept, true);
            assert_eq!(plan(&record, &know), Plan::default(), "{kept:?}");
        }
        know.host_changed(&h1(), condition(Standing::Down), true);
        assert_eq!(placed(&plan(&record, &know)), [0]);
    }

    #[test]
    fn what_failed_on_a_host_that_is_lost_since_is_placed_without_a_delay() {
        let record = record(&[1]);
        let mut know = Knowledge::default();
        let id = hears(&mut know, 1, ReplicaState::Failed, Health::Healthy);
        know.retry_at.insert(id, MonoMs(10_000));
        assert_eq!(plan(&record, &know).wake_at, Some(MonoMs(10_000)));
        know.host_changed(&h1(), condition(Standing::Down), true);
        assert_eq!(plan(&record, &know).place, [(Place { slot: Slot(0), avoid: None }, 0)]);
    }

    #[test]
    fn what_is_done_and_what_its_restart_policy_gave_up_is_not_placed_again() {
        let mut record = record(&[1]);
        let mut template = (*record.spec.template).clone();
        template.restart.condition = RestartCondition::Never;
        record.spec.template = template.into();
        let mut know = Knowledge::default();
        let id = hears(&mut know, 1, ReplicaState::Complete, Health::Healthy);
        assert_eq!(know.fare(&record, &record.replicas[0]), Fare::Good);
        know.host_changed(&h1(), condition(Standing::Down), true);
        assert_eq!(plan(&record, &know), Plan::default(), "what is done on a lost host is done");
        know.host_changed(&h1(), condition(Standing::Ready), true);

        hears(&mut know, 1, ReplicaState::Failed, Health::Healthy);
        assert_eq!(placed(&plan(&record, &know)), [0], "what never ran is tried again");
        know.observed.get_mut(&id).unwrap().exit_code = Some(1);
        assert_eq!(plan(&record, &know), Plan::default());
    }

    #[test]
    fn what_its_host_has_not_begun_before_it_went_out_of_reach_is_placed_again_after_a_while() {
        let record = record(&[1]);
        let id = record.replicas[0].id.clone();
        for standing in [Standing::Suspect, Standing::AgentDown, Standing::EngineDown] {
            let mut know = Knowledge::default();
            know.fresh.insert(id.clone());
            know.host_changed(&h1(), condition(standing), true);
            let at = MonoMs(0) + AWAY_PATIENCE;
            assert_eq!(plan(&record, &know), Plan { wake_at: Some(at), ..Plan::default() }, "{standing:?}");
            know.it_is(at);
            assert_eq!(placed(&plan(&record, &know)), [0], "{standing:?}");
            assert_eq!(plan(&record, &know).retire, [], "it goes when another runs");
            hears(&mut know, 1, ReplicaState::Starting, Health::Healthy);
            assert_eq!(plan(&record, &know), Plan::default(), "it has come about after all");
            // Placed before our own start, it may have run there for long.
            let mut know = Knowledge::default();
            know.host_changed(&h1(), condition(standing), true);
            know.it_is(at + DurationMs(1));
            assert_eq!(plan(&record, &know), Plan::default());
        }
    }

    #[test]
    fn a_drained_host_keeps_what_it_runs_until_its_deadline() {
        let record = record(&[1]);
        let mut know = Knowledge::default();
        let id = hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        let drained = HostCondition { intent: Intent::Drained { deadline: None }, ..condition(Standing::Ready) };
        know.host_changed(&h1(), drained, true);
        assert_eq!((placed(&plan(&record, &know)), plan(&record, &know).retire), (vec![0], vec![]));
        know.host_changed(&h1(), HostCondition { overdue: true, ..drained }, true);
        assert_eq!((placed(&plan(&record, &know)), plan(&record, &know).retire), (vec![0], vec![id]));
    }

    #[test]
    fn nothing_that_runs_goes_for_one_on_a_suspect_host() {
        let record = record(&[1, 1]);
        let mut record = record;
        record.replicas[1].node = NodeName::parse("h2").unwrap();
        let mut know = Knowledge::default();
        let drained = HostCondition { intent: Intent::Drained { deadline: None }, ..condition(Standing::Ready) };
        know.host_changed(&h1(), drained, true);
        know.host_changed(&record.replicas[1].node, condition(Standing::Suspect), true);
        let first = hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        hears(&mut know, 2, ReplicaState::Running, Health::Healthy);
        assert_eq!(plan(&record, &know), Plan::default());
        know.host_changed(&record.replicas[1].node, condition(Standing::Ready), true);
        assert_eq!(plan(&record, &know).retire, [first]);
    }

    #[test]
    fn a_move_that_fails_leaves_the_original_where_it_is() {
        let mut record = record(&[1, 1]);
        record.replicas[0].moving = true;
        let mut know = Knowledge::default();
        let first = hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        assert_eq!(plan(&record, &know), Plan::default(), "its replacement is on its way");
        let second = hears(&mut know, 2, ReplicaState::Failed, Health::Healthy);
        assert_eq!(plan(&record, &know), Plan { stay: vec![first], ..Plan::default() });
        record.replicas[0].moving = false;
        assert_eq!(plan(&record, &know).retire, [second]);
    }

    #[test]
    fn what_was_only_just_placed_serves_nobody_yet() {
        let mut record = record(&[1, 2]);
        record.spec.replicas = 2;
        record.spec.update = Update { order: Order::StopFirst, parallelism: 1, ..record.spec.update };
        record.replicas[0].slot = Slot(1);
        record.rollout = Some(Rollout {
            from: None,
            phase: Phase::RollingBack { failed: Generation(3), why: String::new() },
            started: WallMs(0),
            turned: BTreeSet::new(),
            failures: BTreeMap::new(),
            emptied: BTreeSet::new(),
            last_failure: None,
            promoted: false,
        });
        let mut know = Knowledge::default();
        let old = hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        know.placed([&record.replicas[1].id].into_iter());
        assert_eq!(plan(&record, &know), Plan::default(), "one slot at a time");
        hears(&mut know, 2, ReplicaState::Running, Health::Healthy);
        assert_eq!(plan(&record, &know).retire, [old]);
    }

    #[test]
    fn a_lost_replacement_does_not_block_its_slot() {
        let mut record = record(&[1, 2]);
        record.replicas[1].node = NodeName::parse("h2").unwrap();
        let mut know = Knowledge::default();
        hears(&mut know, 1, ReplicaState::Running, Health::Healthy);
        know.host_changed(&record.replicas[1].node, condition(Standing::Down), true);
        assert_eq!(placed(&plan(&record, &know)), [0]);
    }
}
