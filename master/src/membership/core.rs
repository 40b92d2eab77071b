//! The state machine of the membership: it alone says what is true of a host.
//!
//! Silence makes a suspect, not a corpse. A suspect is probed, directly and
//! through other hosts, as in SWIM (Das, Gupta, Motivala: "SWIM", DSN 2002). A
//! master that was late itself blames nobody, an idea of Lifeguard's (Dadgar,
//! Phillips, Currey, 2018).

use std::{collections::BTreeMap, sync::Arc};

use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::NodeName,
};

use super::{
    HostChanged, HostCondition, Standing,
    brake::Brake,
    events::{Effect, Event, Probe},
    host::Host,
    timing::Timing,
};

/// Through how many other hosts a suspect is probed in a round.
const HELPERS: usize = 3;
/// How many probes may be under way at once; hosts beyond wait, and are not down before.
const MAX_PROBES: usize = 256;
/// A timer that is late by more says that this process had no time.
const LATE: DurationMs = DurationMs(150);
/// The master itself looks no oftener than this.
const LEAST_WAIT: DurationMs = DurationMs(10);
/// A reason that changes alone is told no oftener than this.
const WHY_EVERY: DurationMs = DurationMs(1_000);
/// Of a probe's time, what the way to the helper and back is given.
const DETOUR: DurationMs = DurationMs(100);

#[derive(Debug)]
struct Told {
    condition: HostCondition,
    why: Option<Arc<str>>,
    at: MonoMs,
}

/// Every host's condition, and how it came about.
#[derive(Debug)]
pub struct MembershipCore {
    timing: Timing,
    hosts: BTreeMap<NodeName, Host>,
    told: BTreeMap<NodeName, Told>,
    brake: Brake,
    probes: usize,
    /// When it asked to be woken.
    asked: Option<MonoMs>,
}

impl MembershipCore {
    /// A cluster without hosts yet.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing: timing.fresh(),
            hosts: BTreeMap::new(),
            told: BTreeMap::new(),
            brake: Brake::default(),
            probes: 0,
            asked: None,
        }
    }

    /// Takes one event.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.excuse_if_late(now.mono);
        match event {
            Event::Heard { node, pulse } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    // Of one that was ready before, what is due only moves away.
                    let as_before = host.standing == Standing::Ready;
                    host.heard(pulse, now.mono);
                    if as_before { self.tell(&node, now, &mut effects) } else { self.look_at(&node, now, &mut effects) }
                }
            }
            Event::Known { node, uid, agent_url, intent } => {
                let grace = self.timing.awaited_for;
                self.hosts.entry(node).or_insert_with(|| Host::new(uid, agent_url, intent, now.mono, grace));
                self.look_at_all(now, &mut effects);
            }
            Event::IntentChanged { node, intent } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.intent = intent;
                }
                self.look_at(&node, now, &mut effects);
            }
            Event::ProbeDone { node, round, via, outcome } => {
                self.probes = self.probes.saturating_sub(1);
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.probed(round, via, outcome, now.mono);
                }
                self.look_at(&node, now, &mut effects);
            }
            Event::Forgotten(node) => {
                self.hosts.remove(&node);
                self.told.remove(&node);
                self.look_at_all(now, &mut effects);
            }
            Event::ReleaseBrake => {
                self.brake.release(&mut self.hosts);
                self.look_at_all(now, &mut effects);
            }
            Event::Wake => {
                self.asked = None;
                self.look_at_all(now, &mut effects);
            }
        }
        effects
    }

    /// How often hosts are to report.
    #[must_use]
    pub const fn interval(&self) -> DurationMs {
        self.timing.interval
    }

    /// What is true of `node`, as it was told last.
    #[must_use]
    pub fn condition(&self, node: &NodeName) -> Option<HostCondition> {
        self.told.get(node).map(|told| told.condition)
    }

    fn excuse_if_late(&mut self, now: MonoMs) {
        let Some(lateness) = self.asked.map(|asked| now - asked).filter(|lateness| *lateness > LATE) else { return };
        // It is excused once: until the timer rings it counts as asked for now.
        self.asked = Some(now);
        self.hosts.values_mut().for_each(|host| host.excuse(lateness));
    }

    /// What time has brought for every host, and for the cluster.
    fn look_at_all(&mut self, now: Now, effects: &mut Vec<Effect>) {
        effects.extend(self.timing.fit(self.hosts.len()).map(Effect::Interval));
        let names: Vec<NodeName> = self.hosts.keys().cloned().collect();
        // All suspects are known as such before the first is called down: the brake counts them.
        self.hosts.values_mut().for_each(|host| host.suspect_if_silent(&self.timing, now.mono));
        for name in &names {
            self.move_on(name, now.mono, effects);
        }
        effects.extend(self.brake.look(&mut self.hosts, &self.timing, now.mono));
        for name in &names {
            self.tell(name, now, effects);
        }
        let wakes = self.hosts.values().filter_map(|host| host.wake_at(&self.timing, now));
        self.ask(wakes.chain(self.brake.wake_at()).min(), now.mono, effects);
    }

    /// What an event has brought for one host.
    fn look_at(&mut self, name: &NodeName, now: Now, effects: &mut Vec<Effect>) {
        self.move_on(name, now.mono, effects);
        effects.extend(self.brake.look(&mut self.hosts, &self.timing, now.mono));
        self.tell(name, now, effects);
        let wake = self.hosts.get(name).and_then(|host| host.wake_at(&self.timing, now));
        self.ask(wake, now.mono, effects);
    }

    fn move_on(&mut self, name: &NodeName, now: MonoMs, effects: &mut Vec<Effect>) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.settle(&self.timing, now);
        }
        if self.hosts.get(name).is_some_and(|host| host.is_lost(&self.timing, now)) {
            let held = self.brake.on_loss(&mut self.hosts, name, &self.timing, now);
            if let Some(host) = self.hosts.get_mut(name) {
                host.goes_down(held, now);
            }
        }
        self.probe_if_due(name, now, effects);
    }

    fn ask(&mut self, at: Option<MonoMs>, now: MonoMs, effects: &mut Vec<Effect>) {
        if let Some(at) = at {
            let at = at.max(now + LEAST_WAIT);
            self.asked = Some(self.asked.map_or(at, |asked| asked.min(at)));
            effects.push(Effect::WakeAt(at));
        }
    }

    fn probe_if_due(&mut self, name: &NodeName, now: MonoMs, effects: &mut Vec<Effect>) {
        let helpers = if self.hosts.get(name).is_some_and(Host::needs_helpers) { self.helpers(name) } else { Vec::new() };
        let Some(host) = self.hosts.get_mut(name) else { return };
        let Some((round, limit)) = host.next_round(&self.timing, now) else { return };
        if self.probes + 1 + helpers.len() > MAX_PROBES {
            return host.round_put_off(now);
        }
        let agent_url = host.agent_url.clone();
        host.round_begun(round, 1 + helpers.len());
        self.probes += 1 + helpers.len();
        let probe = |via, limit| Probe { node: name.clone(), round, agent_url: agent_url.clone(), via, limit };
        effects.push(Effect::Probe(probe(None, limit)));
        let detoured = DurationMs(limit.0.saturating_sub(DETOUR.0));
        effects.extend(helpers.into_iter().map(|helper| Effect::Probe(probe(Some(helper), detoured))));
    }

    /// The next few hosts by name that are heard of.
    fn helpers(&self, of: &NodeName) -> Vec<(NodeName, Arc<str>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.hosts.range::<NodeName, _>((Excluded(of), Unbounded));
        let before = self.hosts.range::<NodeName, _>((Unbounded, Excluded(of)));
        let ready = after.chain(before).filter(|(_, host)| host.standing == Standing::Ready);
        ready.take(HELPERS).map(|(name, host)| (name.clone(), host.agent_url.clone())).collect()
    }

    fn tell(&mut self, name: &NodeName, now: Now, effects: &mut Vec<Effect>) {
        let Some(host) = self.hosts.get(name) else { return };
        let condition = host.condition(now);
        let told = self.told.get(name);
        let same = told.is_some_and(|told| told.condition == condition);
        if same && told.is_some_and(|told| now.mono - told.at < WHY_EVERY) {
            return;
        }
        let why: Option<Arc<str>> = host.why(&self.timing).map(Arc::from);
        if same && told.is_some_and(|told| told.why == why) {
            return;
        }
        self.told.insert(name.clone(), Told { condition, why: why.clone(), at: now.mono });
        effects.push(Effect::Changed(HostChanged { node: name.clone(), condition, why }));
    }
}
