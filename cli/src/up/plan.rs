//! The steps until an engine answers: decided here from the findings, carried out elsewhere. Nothing here
//! touches the machine.

use crate::engine::{Candidate, DEFAULT_URL, OLDEST_API, Probe};

/// The findings about the machine and the user.
#[derive(Debug, Clone)]
pub struct Situation {
    /// Each address that comes into question, with what it said, the first choice first.
    pub engines: Vec<(Candidate, Probe)>,
    /// The text of `/etc/os-release`; empty where there is none.
    pub os_release: String,
    /// The rights of the one who asks.
    pub rights: Rights,
    /// Whether `dockerd` is installed.
    pub dockerd: bool,
    /// Whether systemd runs the machine.
    pub systemd: bool,
    /// The user's name, for joining the engine's group.
    pub user: String,
    /// Whether the user is in the group `docker` already.
    pub in_docker_group: bool,
}

/// What the process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Root,
    /// Everything by way of `sudo`.
    Sudo,
    /// No more than its user.
    User,
}

/// The way to an engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// One answers.
    Use(Candidate),
    /// None answers; these steps, in this order, change that. The first text says why.
    Prepare(String, Vec<Step>),
    /// Nothing that this program should do helps; the text says what does.
    Refuse(String),
}

/// One step of [`Plan::Prepare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Runs a program to its end, which must succeed.
    Run {
        /// What for, for people.
        why: String,
        /// Program and arguments, with `sudo` where it is needed.
        command: Vec<String>,
    },
    /// Starts `dockerd` detached from the terminal, its log in a file.
    StartDaemon {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Waits until the usual socket takes connections.
    Wait,
    /// Starts this command again as a member of the group `docker`, which only new sessions have.
    StartAgainInGroup,
}

/// Debian's package of the engine.
const PACKAGE: &str = "docker.io";

/// Decides.
#[must_use]
pub fn plan(situation: &Situation) -> Plan {
    let answering = situation.engines.iter().find_map(|(candidate, probe)| match probe {
        Probe::Answers { version, api } => Some((candidate, version, *api)),
        Probe::Denied | Probe::Silent(_) => None,
    });
    if let Some((candidate, version, api)) = answering {
        if api < OLDEST_API {
            return Plan::Refuse(format!(
                "the Docker engine at {} ({version}) is too old: its API is {}.{}, and at least {}.{} \
                 (Docker 19.03) is needed",
                candidate.url, api.0, api.1, OLDEST_API.0, OLDEST_API.1
            ));
        }
        return Plan::Use(candidate.clone());
    }
    if let Some((candidate, probe)) =
        situation.engines.iter().find(|(candidate, _)| candidate.wanted && candidate.url != DEFAULT_URL)
    {
        return Plan::Refuse(format!(
            "the Docker engine at {} (from {}) {}: start it, or name another by --docker-host",
            candidate.url,
            candidate.named_by,
            silence(probe)
        ));
    }
    match situation.engines.iter().find(|(candidate, _)| candidate.url == DEFAULT_URL) {
        Some((_, Probe::Denied)) => join_group(situation),
        _ => install_and_start(situation),
    }
}

fn silence(probe: &Probe) -> String {
    match probe {
        Probe::Silent(why) => format!("does not answer ({why})"),
        Probe::Denied => "does not let this user in".into(),
        Probe::Answers { .. } => "answers".into(),
    }
}

/// The engine runs, but its socket is not for this user.
fn join_group(situation: &Situation) -> Plan {
    let why = format!("a Docker engine runs at {DEFAULT_URL}, but does not let {} in", situation.user);
    match situation.rights {
        Rights::Sudo => Plan::Prepare(why, joining(situation)),
        Rights::Root => Plan::Refuse(format!(
            "{why}, who is root: a security module forbids it; name another engine by --docker-host"
        )),
        Rights::User => Plan::Refuse(format!(
            "{why}: let an administrator run `usermod -aG docker {}`, log in again, and start shef again",
            situation.user
        )),
    }
}

/// A user who is no member of the group yet becomes one, and goes on as such.
fn joining(situation: &Situation) -> Vec<Step> {
    let why = format!("let {} use the engine (who may do that is as powerful as root)", situation.user);
    let join = run(situation.rights, &why, &["usermod", "-aG", "docker", &situation.user]);
    let join = (!situation.in_docker_group).then_some(join);
    join.into_iter().chain([Step::StartAgainInGroup]).collect()
}

fn install_and_start(situation: &Situation) -> Plan {
    let tried: Vec<_> = situation
        .engines
        .iter()
        .map(|(candidate, probe)| format!("{} {}", candidate.url, silence(probe)))
        .collect();
    let why = format!("no Docker engine answers: {}", tried.join("; "));
    let rights = situation.rights;
    let is_debian = is_debian(&situation.os_release);
    if rights == Rights::User {
        let todo = if situation.dockerd { "start Docker".to_owned() } else { advice(&situation.os_release) };
        return Plan::Refuse(format!(
            "{why}; without root or sudo it cannot be changed from here: let an administrator {todo}"
        ));
    }
    let mut steps = Vec::new();
    if !situation.dockerd {
        if !is_debian {
            return Plan::Refuse(format!(
                "{why}; on this system please {}, start it, and start shef again",
                advice(&situation.os_release)
            ));
        }
        let lock = "DPkg::Lock::Timeout=120";
        steps.push(run(
            rights,
            "read the package lists",
            &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", lock, "update"],
        ));
        let install = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-q",
            "-o",
            lock,
            "install",
            "-y",
            "--no-install-recommends",
        ];
        let packages = [PACKAGE, "ca-certificates"];
        steps.push(run(rights, "install Debian's Docker engine", &[&install[..], &packages[..]].concat()));
    }
    if situation.systemd {
        steps.push(run(rights, "start the Docker engine", &["systemctl", "start", "docker"]));
    } else {
        steps.push(Step::StartDaemon { command: with_rights(rights, &["setsid", "--fork", "dockerd"]) });
    }
    steps.push(Step::Wait);
    if rights == Rights::Sudo {
        steps.extend(joining(situation));
    }
    Plan::Prepare(why, steps)
}

fn run(rights: Rights, why: &str, command: &[&str]) -> Step {
    Step::Run { why: why.to_owned(), command: with_rights(rights, command) }
}

fn with_rights(rights: Rights, command: &[&str]) -> Vec<String> {
    let sudo = (rights == Rights::Sudo).then_some("sudo");
    sudo.into_iter().chain(command.iter().copied()).map(str::to_owned).collect()
}

/// Every word by which an `os-release` names its distribution and those it is made from.
fn distributions(os_release: &str) -> impl Iterator<Item = &str> {
    let values = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    values.flat_map(|value| value.trim().trim_matches(['"', '\'']).split_whitespace())
}

fn is_debian(os_release: &str) -> bool {
    distributions(os_release).any(|name| matches!(name, "debian" | "ubuntu"))
}

/// What to do by hand, by distribution.
fn advice(os_release: &str) -> String {
    let command = distributions(os_release).find_map(|name| match name {
        "debian" | "ubuntu" => Some("apt-get install docker.io"),
        "fedora" => Some("dnf install moby-engine"),
        "rhel" | "centos" => Some("dnf install docker-ce (from Docker's own repository)"),
        "arch" => Some("pacman -S docker"),
        "alpine" => Some("apk add docker"),
        "suse" | "opensuse" => Some("zypper install docker"),
        _ => None,
    });
    let engine = "install Docker Engine 19.03 or newer";
    command.map_or_else(|| engine.to_owned(), |command| format!("{engine}: `{command}`"))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
