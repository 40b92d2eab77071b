//! The states of a replica and who may move it between them. The table here is
//! the only place that knows.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{clock::WallMs, ids::ReplicaId, image::ImageDigest, spec::Protocol};

/// Where a replica stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Wanted, but no host has been chosen yet.
    Pending,
    /// A host has been chosen.
    Assigned,
    /// The host waits for the image.
    Pulling,
    /// Its image is there and its container is made; it is not to start.
    Prepared,
    /// The container is being created and started.
    Starting,
    /// The container runs.
    Running,
    /// Its process ended with 0, and its restart policy leaves it at that: it is done.
    Complete,
    /// The container is being stopped and removed.
    Stopping,
    /// The container is gone.
    Stopped,
    /// It could not be started or kept running; the reason says why.
    Failed,
}

/// Who owns a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The master: desired state.
    Master,
    /// The agent: observed state.
    Agent,
}

impl ReplicaState {
    /// Every state, in the order of a replica's life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Assigned,
        Self::Pulling,
        Self::Prepared,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];

    /// Who may move a replica from `self` to `to`; `None`: the move is not allowed.
    ///
    /// States never go back: a replacement is a new replica in the same slot,
    /// and a container made anew on its host counts as a restart, see
    /// [`ReplicaStatus::supersedes`].
    ///
    /// ```
    /// use shef_common::status::{Owner, ReplicaState::{Assigned, Pending, Running, Starting}};
    ///
    /// assert_eq!(Pending.mover(Assigned), Some(Owner::Master));
    /// assert_eq!(Starting.mover(Running), Some(Owner::Agent));
    /// assert_eq!(Running.mover(Starting), None);
    /// ```
    #[must_use]
    pub const fn mover(self, to: Self) -> Option<Owner> {
        use ReplicaState::{
            Assigned, Complete, Failed, Pending, Prepared, Pulling, Running, Starting, Stopped, Stopping,
        };
        match (self, to) {
            (Pending, Assigned | Failed) => Some(Owner::Master),
            (Assigned, Pulling | Prepared | Starting | Running | Complete | Stopping | Stopped | Failed)
            | (Pulling, Prepared | Starting | Running | Complete | Stopping | Stopped | Failed)
            | (Prepared, Starting | Running | Complete | Stopping | Stopped | Failed)
            | (Starting, Running | Complete | Stopping | Stopped | Failed)
            | (Running, Complete | Stopping | Stopped | Failed)
            | (Complete, Stopping | Stopped | Failed)
            | (Stopping, Stopped | Failed)
            | (Failed, Stopping | Stopped) => Some(Owner::Agent),
            (
                Pending | Assigned | Pulling | Prepared | Starting | Running | Complete | Stopping | Stopped
                | Failed,
                _,
            ) => None,
        }
    }
}

/// The health of a replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Healthy, or without a check and up.
    #[default]
    Healthy,
    /// It has been started, and its check has not passed yet, or its addresses are not known yet.
    Starting,
    /// The check fails, or the process keeps exiting and the engine restarts it.
    Unhealthy,
}

/// A port of a replica on its host, as the engine chose it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct PublishedPort {
    /// The container's port.
    pub target: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The host's address that listens; unspecified: all of them.
    pub host_ip: IpAddr,
    /// The host's port.
    pub published: u16,
}

impl PublishedPort {
    /// As a person reads it, as in `10.0.0.2:32768->80/tcp`; `host` is the host's address. A host that is
    /// known by a loopback address alone has others, so there a port that is open on all of them is shown as
    /// Docker does.
    #[must_use]
    pub fn shown(&self, host: Option<IpAddr>) -> String {
        let of_host = host.filter(|host| self.host_ip.is_unspecified() && !host.is_loopback());
        let address = of_host.unwrap_or(self.host_ip);
        format!("{}->{}/{}", SocketAddr::new(address, self.published), self.target, self.protocol.as_str())
    }
}

/// What an agent observed of one replica. Only agents write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplicaStatus {
    /// The replica.
    pub replica: ReplicaId,
    /// Where it stands.
    pub state: ReplicaState,
    /// How it fares, while it runs.
    #[serde(default)]
    pub health: Health,
    /// Why it failed or is unhealthy, in the engine's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The container's id, 64 hexadecimal digits, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// How often the container was made or started again since the agent's start, except after it was stopped
    /// past shef.
    #[serde(default)]
    pub restarts: u32,
    /// Orders the statuses of one run of an agent where their states go back, restart or not: at least
    /// `restarts`; 0 from agents of before 0.2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turns: u32,
    /// Which bytes its image's name stood for, if its image was fetched by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// Which bytes its container was made of, by the digest that the engine knows for its image's name;
    /// absent if the engine knows none, as of an image that was built or loaded there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_of: Option<ImageDigest>,
    /// A warning about a running replica: a volume existed already and is defined otherwise than the spec
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The code with which its process ended last; absent if it was stopped past shef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The last lines that it wrote before that: at most 10, of at most 200 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log_lines: Vec<String>,
    /// Its ports on the host, while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// Since when, by the host's clock.
    pub since: WallMs,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ReplicaStatus {
    /// A status with nothing to tell but its state.
    #[must_use]
    pub fn new(replica: ReplicaId, state: ReplicaState, since: WallMs) -> Self {
        Self {
            replica,
            state,
            health: Health::Healthy,
            reason: None,
            container_id: None,
            restarts: 0,
            turns: 0,
            image_digest: None,
            made_of: None,
            warning: None,
            exit_code: None,
            last_log_lines: Vec::new(),
            ports: Vec::new(),
            since,
        }
    }

    /// Whether this may follow `earlier` in one run of an agent: after a
    /// restart anything may, else only what the table allows the agent, or the
    /// same state with other details.
    #[must_use]
    pub fn supersedes(&self, earlier: &Self) -> bool {
        let turn = |status: &Self| status.turns.max(status.restarts);
        turn(self) > turn(earlier)
            || turn(self) == turn(earlier)
                && (self.state == earlier.state || earlier.state.mover(self.state) == Some(Owner::Agent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReplicaState::{Assigned, Failed, Pending, Running, Stopped};

    #[test]
    fn states_never_go_back() {
        for from in ReplicaState::ALL {
            for to in ReplicaState::ALL {
                if from.mover(to).is_some() && from != Failed {
                    assert!(to > from, "{from:?} -> {to:?}");
                }
            }
        }
    }

    #[test]
    fn everything_but_stopped_can_fail_and_stopped_is_the_end() {
        for from in ReplicaState::ALL {
            assert_eq!(from.mover(Failed).is_some(), from != Stopped && from != Failed, "{from:?}");
            assert_eq!(Stopped.mover(from), None);
        }
    }

    #[test]
    fn only_the_master_moves_what_no_host_has_yet() {
        for to in ReplicaState::ALL {
            assert_ne!(Pending.mover(to), Some(Owner::Agent));
        }
        assert_eq!(Pending.mover(Assigned), Some(Owner::Master));
    }

    #[test]
    fn an_address_is_shown_with_the_hosts_own_where_all_listen() {
        let everywhere = IpAddr::from([0, 0, 0, 0]);
        let port =
            PublishedPort { target: 80, protocol: Protocol::Tcp, host_ip: everywhere, published: 32_768 };
        assert_eq!(port.shown(Some(IpAddr::from([10, 0, 0, 2]))), "10.0.0.2:32768->80/tcp");
        assert_eq!(port.shown(None), "0.0.0.0:32768->80/tcp");
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(port.shown(Some(loopback)), "0.0.0.0:32768->80/tcp", "it is open on other addresses, too");
        let one = PublishedPort { host_ip: IpAddr::from([127, 0, 0, 1]), protocol: Protocol::Udp, ..port };
        assert_eq!(one.shown(Some(everywhere)), "127.0.0.1:32768->80/udp");
    }

    #[test]
    fn a_restart_may_begin_anew() {
        let id = ReplicaId::parse("web-000001").unwrap();
        let running = ReplicaStatus::new(id.clone(), Running, WallMs(0));
        let mut starting = ReplicaStatus::new(id, ReplicaState::Starting, WallMs(1));
        assert!(!starting.supersedes(&running));
        starting.restarts = 1;
        assert!(starting.supersedes(&running));
        assert!(!running.supersedes(&starting));
    }
}
