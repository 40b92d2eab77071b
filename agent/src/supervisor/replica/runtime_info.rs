//! What is known of a running container beside that it runs: its addresses,
//! and whether it is healthy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shef_common::{
    clock::Now,
    spec::{HealthCheck, HealthTest, HttpCheck, Template},
    status::PublishedPort,
};

use super::{Replica, Seen, Wish};
use crate::{
    engine::{Check, Container, ContainerState},
    health::{Target, Verdict},
};

/// A running container's addresses and health.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct RuntimeInfo {
    check: Check,
    /// Whether addresses and check are not known of this run yet.
    unseen: bool,
    ports: Vec<PublishedPort>,
    /// Its address on its first network.
    address: Option<IpAddr>,
    /// Why its check fails.
    why: Option<String>,
    /// Whether the engine's check fails, and has not been asked why.
    wants_output: bool,
    /// What it lacks of the networks that it is to be joined to.
    cut_off: Option<String>,
    /// Whether its image has a check of its own; `None`: not known.
    image_check: Option<bool>,
    /// Counts its runs, so that checks of an earlier one do not count.
    run: u64,
}

impl RuntimeInfo {
    pub(super) const fn new() -> Self {
        let ports = Vec::new();
        Self {
            check: Check::None,
            unseen: false,
            ports,
            address: None,
            why: None,
            wants_output: false,
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
        self.wants_output
    }

    pub(super) const fn look_again(&mut self) {
        self.unseen = true;
    }

    pub(super) fn ports(&self) -> &[PublishedPort] {
        if self.unseen { &[] } else { &self.ports }
    }

    /// Its process has ended.
    pub(super) fn ended(&mut self) {
        (self.check, self.unseen, self.address, self.why) = (Check::None, false, None, None);
        (self.wants_output, self.cut_off) = (false, None);
        self.ports.clear();
    }

    pub(super) const fn is_starting(&self) -> bool {
        self.unseen || matches!(self.check, Check::Starting)
    }

    /// What a replica that is starting waits for.
    pub(super) fn awaits(&self) -> Option<String> {
        let check = !self.unseen || self.check == Check::Starting;
        check.then(|| {
            self.why.as_ref().map_or_else(
                || "its health check has not passed yet".to_owned(),
                |why| format!("its health check has not passed yet: {why}"),
            )
        })
    }

    pub(super) fn trouble(&self) -> Option<String> {
        if self.cut_off.is_some() {
            return self.cut_off.clone();
        }
        let fails = self.check == Check::Unhealthy;
        fails.then(|| {
            self.why.as_ref().map_or_else(
                || "its health check fails".to_owned(),
                |why| format!("its health check fails: {why}"),
            )
        })
    }

    /// Whether its image has a check, if a look has shown it.
    pub(in crate::supervisor) const fn image_check(&self) -> Option<bool> {
        self.image_check
    }
}

impl RuntimeInfo {
    /// What the engine tells of its own check: a list does not tell why it fails, a look does.
    fn engine_says(&mut self, container: &Container) {
        let is_look = container.env.is_some();
        self.check = container.check;
        if is_look || self.check != Check::Unhealthy {
            self.why.clone_from(&container.check_output);
        }
        self.wants_output = self.check == Check::Unhealthy && self.why.is_none() && !is_look;
    }
}

/// What a running container lacks of the networks of its template.
fn cut_off(template: &Template, container: &Container) -> Option<String> {
    let joined = container.networks.as_ref().filter(|_| container.state == ContainerState::Running)?;
    if joined.is_empty() {
        return Some("it is joined to no network: somebody has disconnected it".to_owned());
    }
    let lacks = template.networks.iter().find(|network| !joined.contains(&network.name))?;
    Some(format!("it is not joined to its network {}: somebody has disconnected it", lacks.name))
}

/// What says whether a replica is healthy.
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
    /// Its process has begun.
    pub(super) fn begins(&mut self) {
        let Some(assignment) = &self.assignment else { return };
        let template = &assignment.template;
        let runtime_info = &mut self.runtime_info;
        runtime_info.run += 1;
        runtime_info.why = None;
        (runtime_info.wants_output, runtime_info.cut_off) = (false, None);
        self.out_of_memory = false;
        let (check, unknown) = match checker(template) {
            Checker::Image => match runtime_info.image_check {
                None => (Check::None, true),
                Some(true) => (Check::Starting, false),
                Some(false) => (Check::None, false),
            },
            Checker::Engine => (Check::Starting, false),
            Checker::Agent(..) => (Check::Starting, true),
            Checker::Nobody => (Check::None, false),
        };
        runtime_info.check = check;
        runtime_info.unseen = unknown || !template.ports.is_empty();
    }

    /// A look shows its container.
    pub(super) fn shows_runtime_info(&mut self, container: &Container) {
        let runtime_info = &mut self.runtime_info;
        if !matches!(container.state, ContainerState::Running | ContainerState::Paused) {
            runtime_info.ended();
            return;
        }
        let Some(assignment) = &self.assignment else { return };
        let template = &assignment.template;
        let changed = self.seen != Seen::Present { id: container.id.clone(), state: ContainerState::Running }
            && self.seen != Seen::Present { id: container.id.clone(), state: ContainerState::Paused };
        if changed {
            // Its start went unheard, or it ran before the agent did.
            runtime_info.run += 1;
            runtime_info.check = Check::Starting;
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
                runtime_info.engine_says(container);
            }
            Checker::Engine => runtime_info.engine_says(container),
            Checker::Agent(..) => {}
            Checker::Nobody => runtime_info.check = Check::None,
        }
    }

    /// The engine's check has changed its mind.
    pub(super) fn engine_checked(&mut self, healthy: bool) {
        let agents =
            self.assignment.as_ref().is_some_and(|of| matches!(checker(&of.template), Checker::Agent(..)));
        if !agents {
            self.runtime_info.check = if healthy { Check::Healthy } else { Check::Unhealthy };
            (self.runtime_info.why, self.runtime_info.wants_output) = (None, !healthy);
        }
    }

    /// Another replica has shown whether the image has a check. Returns whether that was all that a look was
    /// for.
    pub fn learn_image_check(&mut self, has: bool, now: Now) -> bool {
        let Some(assignment) = &self.assignment else { return false };
        let enough = self.runtime_info.unseen && matches!(checker(&assignment.template), Checker::Image);
        let enough =
            enough && self.runtime_info.image_check.is_none() && assignment.template.ports.is_empty();
        self.runtime_info.image_check = Some(has);
        if enough && self.busy.is_none() {
            self.runtime_info.unseen = false;
            self.runtime_info.check = if has { Check::Starting } else { Check::None };
            self.judge(now);
        }
        enough
    }

    /// What the agent is to check, and in which run; `None`: nothing now.
    pub fn to_check(&self) -> Option<(u64, Target, &HealthCheck)> {
        let template = &self.assignment.as_ref()?.template;
        let Checker::Agent(health, port) = checker(template) else { return None };
        let runs = matches!(self.seen, Seen::Present { state: ContainerState::Running, .. });
        if self.wish != Wish::Run || !runs || self.runtime_info.unseen {
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
            Verdict::Starting => Check::Starting,
            Verdict::Healthy => Check::Healthy,
            Verdict::Unhealthy => Check::Unhealthy,
        };
        self.runtime_info.why = why;
        if self.busy.is_none() {
            self.judge(now);
        }
    }
}
