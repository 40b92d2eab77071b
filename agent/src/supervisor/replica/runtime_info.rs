//! Facts about a running container: its addresses, and whether it is healthy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shef_common::{
    clock::{MonoMs, Now},
    spec::{HealthCheck, HealthTest, HttpCheck, Template},
    status::PublishedPort,
};

use super::{Replica, Seen};
use crate::{
    engine::{Check, Container, ContainerState},
    health::{Target, Verdict},
};

/// A running container's addresses and health.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct RuntimeInfo {
    check: CheckState,
    /// The engine says that its check fails, and that counts from then on, if it still fails.
    excused_until: Option<MonoMs>,
    /// Whether addresses and check are not known of this run yet.
    unseen: bool,
    /// Whether the kernel has killed a process of this run for want of memory.
    out_of_memory: bool,
    ports: Vec<PublishedPort>,
    /// Its address on its first network.
    address: Option<IpAddr>,
    /// The networks of its template that it is not joined to.
    cut_off: Option<String>,
    /// Whether its image has a check of its own; `None`: not known.
    image_check: Option<bool>,
    /// Counts its runs, so that checks of an earlier one do not count.
    run: u64,
}

/// The outcome of a running container's check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CheckState {
    /// It has none.
    None,
    /// It has not passed yet; why it failed last.
    Starting(Option<String>),
    /// The last check passed.
    Healthy,
    /// As many checks failed in a row as the check's `retries` say.
    Unhealthy(Output),
}

/// The output of a failing check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    /// The engine is to be asked.
    Unasked,
    /// Nothing.
    Nothing,
    /// This.
    Words(String),
}

impl Output {
    fn of(words: Option<String>) -> Self {
        words.map_or(Self::Nothing, Self::Words)
    }
}

impl CheckState {
    /// The state after `self`, by the engine's own check. A list does not say why it fails, an inspection
    /// does.
    fn next(&self, container: &Container) -> Self {
        let is_look = container.env.is_some();
        let output = container.check_output.clone();
        match container.check {
            Check::None => Self::None,
            Check::Starting => Self::Starting(output),
            Check::Healthy => Self::Healthy,
            Check::Unhealthy if is_look => Self::Unhealthy(Output::of(output)),
            Check::Unhealthy => Self::Unhealthy(match self {
                Self::Starting(Some(words)) | Self::Unhealthy(Output::Words(words)) => {
                    Output::Words(words.clone())
                }
                Self::None | Self::Starting(None) | Self::Healthy | Self::Unhealthy(_) => Output::Unasked,
            }),
        }
    }
}

impl RuntimeInfo {
    pub(super) const fn new() -> Self {
        let ports = Vec::new();
        Self {
            check: CheckState::None,
            excused_until: None,
            unseen: false,
            out_of_memory: false,
            ports,
            address: None,
            cut_off: None,
            image_check: None,
            run: 0,
        }
    }

    /// Whether the engine is to be looked at for them.
    pub(super) const fn wants_look(&self) -> bool {
        self.unseen
    }

    /// Whether the engine is to be asked what its failing check has said.
    pub(super) const fn wants_output(&self) -> bool {
        matches!(self.check, CheckState::Unhealthy(Output::Unasked))
    }

    pub(super) const fn is_out_of_memory(&self) -> bool {
        self.out_of_memory
    }

    pub(super) const fn runs_out_of_memory(&mut self) {
        self.out_of_memory = true;
    }

    pub(super) const fn look_again(&mut self) {
        self.unseen = true;
    }

    pub(super) fn ports(&self) -> &[PublishedPort] {
        if self.unseen { &[] } else { &self.ports }
    }

    /// What the engine says of its check. A failure counts from `excused_until` on.
    fn engine_says(&mut self, check: CheckState, excused_until: Option<MonoMs>) {
        let is_failure = |check: &CheckState| matches!(check, CheckState::Unhealthy(_));
        self.excused_until = excused_until.filter(|_| is_failure(&check) && !is_failure(&self.check));
        if self.excused_until.is_none() {
            self.check = check;
        }
    }

    /// When a failure counts that was excused.
    pub(super) const fn excused_until(&self) -> Option<MonoMs> {
        self.excused_until
    }

    /// Its process has ended.
    pub(super) fn ended(&mut self) {
        self.excused_until = None;
        (self.check, self.unseen) = (CheckState::None, false);
        (self.address, self.cut_off) = (None, None);
        self.ports.clear();
    }

    pub(super) const fn is_starting(&self) -> bool {
        self.unseen || matches!(self.check, CheckState::Starting(_))
    }

    /// What a replica that is starting waits for.
    pub(super) fn awaits(&self) -> Option<String> {
        match &self.check {
            CheckState::Starting(Some(why)) => Some(format!("its health check has not passed yet: {why}")),
            CheckState::Starting(None) => Some("its health check has not passed yet".to_owned()),
            CheckState::None | CheckState::Healthy | CheckState::Unhealthy(_) => None,
        }
    }

    /// What its check says, if it fails and its output is known.
    pub(super) fn failing_check(&self) -> Option<String> {
        let fails = matches!(self.check, CheckState::Unhealthy(Output::Words(_) | Output::Nothing));
        self.check_problem().filter(|_| fails && !self.unseen)
    }

    pub(super) fn problem(&self) -> Option<String> {
        if self.cut_off.is_some() {
            return self.cut_off.clone();
        }
        self.check_problem()
    }

    fn check_problem(&self) -> Option<String> {
        match &self.check {
            CheckState::Unhealthy(Output::Words(why)) => Some(format!("its health check fails: {why}")),
            CheckState::Unhealthy(Output::Unasked | Output::Nothing) => {
                Some("its health check fails".to_owned())
            }
            CheckState::None | CheckState::Starting(_) | CheckState::Healthy => None,
        }
    }
}

/// The networks of its template that a running container is not joined to.
fn cut_off(template: &Template, container: &Container) -> Option<String> {
    let joined = container.networks.as_ref().filter(|_| container.state == ContainerState::Running)?;
    if joined.is_empty() {
        return Some("it is joined to no network: somebody has disconnected it".to_owned());
    }
    let lacks = template.networks.iter().find(|network| !joined.contains(&network.name))?;
    Some(format!("it is not joined to its network {}: somebody has disconnected it", lacks.name))
}

/// Who checks whether a replica is healthy.
enum Checker<'a> {
    /// The image's own check, if it has one.
    Image,
    /// The engine, as the spec says.
    Engine,
    /// The agent, as the spec says.
    Agent(&'a HealthCheck, u16),
    /// Nothing: it is healthy while it runs.
    Nobody,
}

fn checker(template: &Template) -> Checker<'_> {
    match &template.health {
        None => Checker::Image,
        Some(health) => match health.test {
            HealthTest::Cmd(_) | HealthTest::Shell(_) => Checker::Engine,
            HealthTest::Http(HttpCheck { port, .. }) | HealthTest::Tcp { port } => {
                Checker::Agent(health, port)
            }
            HealthTest::None => Checker::Nobody,
        },
    }
}

impl Replica {
    /// Whether its image has a check, if a look has shown it.
    pub const fn image_check(&self) -> Option<bool> {
        self.runtime_info.image_check
    }

    /// Its process has begun, and the event was missed. The agent's check starts again; checks of the run
    /// before do not count. The engine's list shows the engine's own check.
    pub(super) fn runs_anew(&mut self) {
        let is_ours =
            self.order.assignment().is_some_and(|of| matches!(checker(&of.template), Checker::Agent(..)));
        self.runtime_info.run += 1;
        self.runtime_info.out_of_memory = false;
        self.runtime_info.excused_until = None;
        if is_ours {
            self.runtime_info.check = CheckState::Starting(None);
        }
    }

    /// Its process has begun.
    pub(super) fn begins(&mut self) {
        self.forgets_run();
        let Some(assignment) = self.order.assignment() else { return };
        let template = &assignment.template;
        let runtime_info = &mut self.runtime_info;
        runtime_info.run += 1;
        runtime_info.cut_off = None;
        runtime_info.out_of_memory = false;
        runtime_info.excused_until = None;
        let (check, unknown) = match checker(template) {
            Checker::Image => match runtime_info.image_check {
                None => (CheckState::None, true),
                Some(true) => (CheckState::Starting(None), false),
                Some(false) => (CheckState::None, false),
            },
            Checker::Engine | Checker::Agent(..) => (CheckState::Starting(None), false),
            Checker::Nobody => (CheckState::None, false),
        };
        runtime_info.check = check;
        runtime_info.unseen = unknown;
        self.is_to_be_seen_anew();
    }

    /// Its ports and its address may be others: where they matter, the engine is asked for them, and nothing
    /// is checked there until it has answered.
    pub(super) fn is_to_be_seen_anew(&mut self) {
        let Some(assignment) = self.order.assignment() else { return };
        let template = &assignment.template;
        let has_places = !template.ports.is_empty() || matches!(checker(template), Checker::Agent(..));
        self.runtime_info.unseen |= has_places;
    }

    /// A look shows its container.
    pub(super) fn shows_runtime_info(&mut self, container: &Container, now: Now) {
        let excused_until = self.outside.excuses_checks_until(now.mono);
        let runtime_info = &mut self.runtime_info;
        if !matches!(container.state, ContainerState::Running | ContainerState::Paused) {
            runtime_info.ended();
            return;
        }
        let Some(assignment) = self.order.assignment() else { return };
        let template = &assignment.template;
        let changed = self.seen != Seen::Present { id: container.id.clone(), state: ContainerState::Running }
            && self.seen != Seen::Present { id: container.id.clone(), state: ContainerState::Paused };
        if changed {
            // The event of its start was lost, or it ran before the agent did.
            runtime_info.run += 1;
            runtime_info.check = CheckState::Starting(None);
        }
        runtime_info.unseen = false;
        runtime_info.ports.clone_from(&container.ports);
        runtime_info.cut_off = cut_off(template, container);
        let first = template.networks.first().map_or("bridge", |network| network.name.as_str());
        runtime_info.address =
            container.addresses.get(first).or_else(|| container.addresses.values().next()).copied();
        match checker(template) {
            Checker::Image => {
                runtime_info.image_check = Some(container.check != Check::None);
                runtime_info.engine_says(runtime_info.check.next(container), excused_until);
            }
            Checker::Engine => {
                runtime_info.engine_says(runtime_info.check.next(container), excused_until);
            }
            Checker::Agent(..) => {}
            Checker::Nobody => runtime_info.check = CheckState::None,
        }
    }

    /// The engine's check has changed its mind.
    pub(super) fn engine_checked(&mut self, healthy: bool, now: Now) {
        let agents =
            self.order.assignment().is_some_and(|of| matches!(checker(&of.template), Checker::Agent(..)));
        if !agents {
            let check = if healthy { CheckState::Healthy } else { CheckState::Unhealthy(Output::Unasked) };
            self.runtime_info.engine_says(check, self.outside.excuses_checks_until(now.mono));
        }
    }

    /// Time has passed. Returns whether a failure counts now that was excused.
    pub(super) fn ends_excuse(&mut self, now: Now) -> bool {
        let is_over = self.runtime_info.excused_until.take_if(|at| *at <= now.mono).is_some();
        if is_over {
            self.engine_checked(false, now);
        }
        is_over
    }

    /// Another replica has shown whether the image has a check. Returns whether that was all that a look was
    /// for.
    pub fn learn_image_check(&mut self, has: bool, now: Now) -> bool {
        let Some(assignment) = self.order.assignment() else { return false };
        let enough = self.runtime_info.unseen && matches!(checker(&assignment.template), Checker::Image);
        let enough =
            enough && self.runtime_info.image_check.is_none() && assignment.template.ports.is_empty();
        self.runtime_info.image_check = Some(has);
        if enough && !self.is_busy() {
            self.runtime_info.unseen = false;
            self.runtime_info.check = if has { CheckState::Starting(None) } else { CheckState::None };
            self.update_status(now);
        }
        enough
    }

    /// The check that the agent is to make, and of which run; `None`: none now.
    pub fn to_check(&self) -> Option<(u64, Target, &HealthCheck)> {
        let template = &self.order.assignment()?.template;
        let Checker::Agent(health, port) = checker(template) else { return None };
        let runs = matches!(self.seen, Seen::Present { state: ContainerState::Running, .. });
        if !self.desired.is_to_run() || !runs || self.runtime_info.unseen {
            return None;
        }
        let on_host = template.networks.first().is_some_and(|network| network.name == "host");
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // Its own address alone: a port of the host may be another's.
        let address = if on_host { Some(local) } else { self.runtime_info.address }
            .map(|address| SocketAddr::new(address, port));
        let shares = self.container_id().filter(|_| on_host).map(str::to_owned);
        let page = match &health.test {
            HealthTest::Http(page) => Some(page.clone()),
            HealthTest::Cmd(_) | HealthTest::Shell(_) | HealthTest::Tcp { .. } | HealthTest::None => None,
        };
        Some((self.runtime_info.run, Target { address, shares, page }, health))
    }

    /// The agent's check of this run has come to a verdict.
    pub fn agent_checked(&mut self, run: u64, verdict: Verdict, why: Option<String>, now: Now) {
        if run != self.runtime_info.run {
            return;
        }
        self.runtime_info.check = match verdict {
            Verdict::Starting => CheckState::Starting(why),
            Verdict::Healthy => CheckState::Healthy,
            Verdict::Unhealthy => CheckState::Unhealthy(Output::of(why)),
        };
        if !self.is_busy() {
            self.update_status(now);
        }
    }
}
