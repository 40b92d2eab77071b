//! The processes in a fake engine's containers: they end when told to, and the
//! engine starts them again as Docker does.

use std::{collections::BTreeMap, time::Duration};

use shef_common::clock::{MonoMs, Now};

use super::{FakeHost, State};
use crate::engine::{ContainerState, EventKind, RestartPolicy};

/// Docker's back-off between its restarts: 100 ms doubling to a minute, anew after 10 s up.
const RESTARTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));
const SETTLED_MS: u64 = 10_000;

/// How the processes of an image end.
#[derive(Debug, Clone)]
pub struct CrashLoop {
    /// So long after their start.
    pub after: Duration,
    /// With this code.
    pub exit_code: i64,
    /// Having written this.
    pub log: Vec<String>,
}

/// What is known of the processes.
#[derive(Debug, Default)]
pub(super) struct Processes {
    crash_loops: BTreeMap<String, CrashLoop>,
    /// By the container's id.
    all: BTreeMap<String, Process>,
}

#[derive(Debug, Default)]
struct Process {
    image: String,
    /// Counts its runs, to tell the one that is to end from a later one.
    run: u64,
    started: MonoMs,
    delay: Duration,
}

impl Processes {
    pub fn made(&mut self, id: &str, image: &str) {
        self.all.insert(id.to_owned(), Process { image: image.to_owned(), ..Process::default() });
    }

    pub fn set_crash_loop(&mut self, image: String, crash: CrashLoop) {
        self.crash_loops.insert(image, crash);
    }

    pub fn log(&self, id: &str) -> Vec<String> {
        let crash = self.all.get(id).and_then(|process| self.crash_loops.get(&process.image));
        crash.map(|crash| crash.log.clone()).unwrap_or_default()
    }
}

impl FakeHost {
    /// Starts a container's process, and has it end again if its image's do.
    pub(super) fn process_starts(&self, state: &mut State, id: &str) {
        let Ok(container) = state.by_id(id) else { return };
        if container.state == ContainerState::Running {
            return;
        }
        container.state = ContainerState::Running;
        let container = container.clone();
        state.emit(&container, EventKind::Started);
        let Some(process) = state.processes.all.get_mut(id) else { return };
        process.run += 1;
        process.started = Now::read().mono;
        if let Some(crash) = state.processes.crash_loops.get(&process.image).cloned() {
            let (host, id, run) = (self.clone(), id.to_owned(), process.run);
            actix::spawn(async move {
                tokio::time::sleep(crash.after).await;
                host.process_ends(&id, run, crash.exit_code);
            });
        }
    }

    fn process_ends(&self, id: &str, run: u64, exit_code: i64) {
        let mut state = self.state();
        let Some(process) = state.processes.all.get_mut(id).filter(|process| process.run == run) else {
            return;
        };
        let (first, longest) = RESTARTS;
        let settled = (Now::read().mono - process.started).0 >= SETTLED_MS;
        process.delay =
            if settled || process.delay.is_zero() { first } else { (process.delay * 2).min(longest) };
        let delay = process.delay;
        let Ok(container) = state.by_id(id) else { return };
        if container.state != ContainerState::Running {
            return;
        }
        let restarts = container.policy == RestartPolicy::UnlessStopped;
        container.state = if restarts { ContainerState::Restarting } else { ContainerState::Exited };
        let container = container.clone();
        state.emit(&container, EventKind::Died { exit_code });
        if restarts {
            let (host, id) = (self.clone(), id.to_owned());
            actix::spawn(async move {
                tokio::time::sleep(delay).await;
                let mut state = host.state();
                if state.by_id(&id).is_ok_and(|container| container.state == ContainerState::Restarting) {
                    host.process_starts(&mut state, &id);
                }
            });
        }
    }
}
