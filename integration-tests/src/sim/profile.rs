//! Which faults a run has, and how often.

/// Faults that come on their own, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chaos {
    /// The master's process is killed, between any two effects.
    CrashMaster,
    /// An agent's process is killed, between any two effects.
    CrashAgent,
    /// A host's network is cut for a while.
    Cut,
    /// A switch fails: three hosts at least are cut off, one after the other, and come back together.
    CutMany,
    /// A host is cut from the master for a while, and not from other hosts.
    CutFromMaster,
    /// A host's engine does not answer for a while.
    EngineAway,
    /// The engine's event stream ends.
    StreamEnds,
    /// A container's process ends; the engine starts it again.
    Exit,
    /// Somebody removes a container by hand.
    Vanish,
    /// Somebody stops a container by hand.
    HandStop,
    /// Somebody kills a running container by hand, and removes it or leaves it there.
    HandKill,
    /// Somebody gives a container another name.
    Rename,
    /// The store refuses everything for a while.
    StoreAway,
    /// The store loses the last of what it confirmed.
    LoseTail,
    /// The store is emptied while the master runs.
    Empty,
    /// The master is killed and the store emptied before it is started again.
    EmptyWhileDown,
    /// A second master starts on the same store while the first one runs.
    SecondMaster,
    /// The host of the master is lost, for others, with its store; another one goes on from a backup. Later
    /// the first one is back.
    LoseMastersHost,
    /// An operator takes a backup, or puts the last one in the place of what is stored.
    Backup,
    /// A host's agent is started with another name for a while.
    RenameHost,
    /// A host's agent is started with another address, for good.
    Readdress,
    /// Somebody registers a host, with all that is public of it, at an address of his own.
    Impostor,
    /// Somebody joins with a token that he has seen.
    Thief,
    /// Somebody with the certificate of a host, or with none, speaks for another host.
    Liar,
    /// A wall clock jumps.
    WallJump,
    /// The master, or a host's agent, has no socket left for a while.
    NoSockets,
}

/// How a run goes wrong. Probabilities are in thousandths.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and every mix of them occurs")]
pub struct Profile {
    /// Its name in a failure's report.
    pub name: &'static str,
    /// A message or its answer is lost.
    pub lose: u32,
    /// A message comes twice.
    pub double: u32,
    /// A message takes up to 20 s.
    pub late: u32,
    /// An engine's answer is lost, the operation done.
    pub engine_done_unanswered: u32,
    /// An engine's answer is lost, the operation not done.
    pub engine_not_done: u32,
    /// An engine refuses.
    pub engine_refuses: u32,
    /// An agent that starts has lost its data directory.
    pub ledger_lost: u32,
    /// An agent that starts is of a version before the log, and takes the log's head for its ledger.
    pub downgraded: u32,
    /// A ledger cannot be written.
    pub ledger_fails: u32,
    /// A store call is refused.
    pub store_refuses: u32,
    /// A store call is done, its answer lost.
    pub store_done_unanswered: u32,
    /// A store call is lost.
    pub store_not_done: u32,
    /// A store call takes up to 8 s.
    pub store_slow: u32,
    /// A service's image is one that no registry has, until the faults stop.
    pub bad_image: u32,
    /// A service's image is one whose processes end soon after every start, until the faults stop.
    pub crashing_image: u32,
    /// What comes on its own, by weight.
    pub chaos: &'static [(Chaos, u32)],
    /// How long, on average, between two of those, in milliseconds.
    pub chaos_every_ms: u64,
    /// The store may forget what was acknowledged: promises about that are not checked.
    pub store_forgets: bool,
    /// Services reserve memory, publish ports, have constraints or are global, and hosts have not room for
    /// all.
    pub demanding: bool,
    /// Two masters run at times, and agents know both.
    pub two_masters: bool,
    /// Hosts are cordoned, drained, activated and forgotten, and services rebalanced.
    pub operators: bool,
    /// Half of the agents are of older versions until they are upgraded: a quarter are of the first one.
    pub older_agents: bool,
    /// Hosts join with tokens, and are known by certificates.
    pub identities: bool,
    /// A cluster that speaks plainly is upgraded to TLS.
    pub upgrades: bool,
    /// The master has a CA, which outlives the store, where the number of hosts is even. Members speak plainly.
    pub keeps_ca: bool,
}

impl Profile {
    /// Only the user, and latencies.
    #[must_use]
    pub fn calm() -> Self {
        Self { name: "calm", ..Self::default() }
    }
    /// Nothing fails but what users bring: images that cannot be had and images that crash.
    #[must_use]
    pub fn rollouts() -> Self {
        Self { name: "rollouts", bad_image: 150, crashing_image: 250, ..Self::default() }
    }
    /// Messages lost, late, doubled and reordered.
    #[must_use]
    pub fn messages() -> Self {
        Self { name: "messages", lose: 60, double: 60, late: 30, ..Self::default() }
    }
    /// Hosts that have not room for all, with masters, agents and hosts that go and come.
    #[must_use]
    pub fn placement() -> Self {
        Self {
            name: "placement",
            demanding: true,
            operators: true,
            chaos: &[(Chaos::Cut, 3), (Chaos::CrashMaster, 3), (Chaos::CrashAgent, 1)],
            chaos_every_ms: 4_000,
            lose: 10,
            ..Self::default()
        }
    }
    /// Agents that lose their data directories, on hosts where services may keep data.
    #[must_use]
    pub fn ledgers() -> Self {
        Self {
            name: "ledgers",
            demanding: true,
            ledger_lost: 300,
            downgraded: 300,
            chaos: &[(Chaos::Cut, 2), (Chaos::CrashMaster, 1), (Chaos::CrashAgent, 4)],
            chaos_every_ms: 4_000,
            ..Self::default()
        }
    }
    /// The same, while the store is emptied too, and engines are away.
    #[must_use]
    pub fn emptied_ledgers() -> Self {
        Self {
            name: "emptied_ledgers",
            ledger_lost: 300,
            chaos: &[
                (Chaos::EmptyWhileDown, 3),
                (Chaos::Cut, 1),
                (Chaos::CrashAgent, 3),
                (Chaos::CrashMaster, 3),
                (Chaos::EngineAway, 2),
            ],
            chaos_every_ms: 4_000,
            store_forgets: true,
            ..Self::default()
        }
    }
    /// Master and agents killed and started again.
    #[must_use]
    pub fn crashes() -> Self {
        Self {
            name: "crashes",
            operators: true,
            older_agents: true,
            chaos: &[(Chaos::CrashMaster, 3), (Chaos::CrashAgent, 3)],
            chaos_every_ms: 4_000,
            lose: 5,
            late: 5,
            ..Self::default()
        }
    }
    /// Hosts cut off and back, flapping.
    #[must_use]
    pub fn hosts() -> Self {
        Self {
            name: "hosts",
            operators: true,
            chaos: &[
                (Chaos::Cut, 6),
                (Chaos::CutMany, 1),
                (Chaos::CutFromMaster, 3),
                (Chaos::CrashAgent, 1),
                (Chaos::CrashMaster, 1),
            ],
            chaos_every_ms: 3_000,
            lose: 10,
            ..Self::default()
        }
    }
    /// A second master on the same store, while hosts are cut off and processes killed.
    #[must_use]
    pub fn two_masters() -> Self {
        Self {
            name: "two_masters",
            two_masters: true,
            chaos: &[
                (Chaos::SecondMaster, 4),
                (Chaos::CrashMaster, 2),
                (Chaos::Cut, 2),
                (Chaos::CutFromMaster, 2),
                (Chaos::CrashAgent, 1),
            ],
            chaos_every_ms: 4_000,
            lose: 30,
            ..Self::default()
        }
    }
    /// The host of the first master is lost, and back when another one leads from a backup.
    #[must_use]
    pub fn two_stores() -> Self {
        Self {
            name: "two_stores",
            two_masters: true,
            chaos: &[
                (Chaos::LoseMastersHost, 4),
                (Chaos::Backup, 1),
                (Chaos::Cut, 2),
                (Chaos::CutFromMaster, 1),
                (Chaos::CrashAgent, 1),
            ],
            chaos_every_ms: 4_000,
            lose: 30,
            ..Self::default()
        }
    }
    /// Hosts that change their addresses, and somebody who calls himself one of them.
    #[must_use]
    pub fn impostors() -> Self {
        Self {
            name: "impostors",
            chaos: &[
                (Chaos::Impostor, 6),
                (Chaos::Readdress, 2),
                (Chaos::CrashAgent, 2),
                (Chaos::CrashMaster, 1),
                (Chaos::Cut, 1),
            ],
            chaos_every_ms: 2_000,
            ledger_lost: 100,
            ..Self::default()
        }
    }
    /// Hosts that join, are forgotten, and are cut off for longer than their certificates count; and somebody
    /// who has stolen tokens and a certificate.
    #[must_use]
    pub fn identities() -> Self {
        Self {
            name: "identities",
            identities: true,
            operators: true,
            chaos: &[
                (Chaos::Liar, 3),
                (Chaos::Thief, 3),
                (Chaos::Cut, 3),
                (Chaos::CutFromMaster, 1),
                (Chaos::CrashAgent, 2),
                (Chaos::CrashMaster, 3),
            ],
            chaos_every_ms: 2_000,
            lose: 20,
            ..Self::default()
        }
    }
    /// A cluster that speaks plainly is upgraded to TLS while processes are killed and hosts cut off.
    #[must_use]
    pub fn upgrades() -> Self {
        Self {
            name: "upgrades",
            upgrades: true,
            chaos: &[(Chaos::Cut, 2), (Chaos::CrashAgent, 2), (Chaos::CrashMaster, 2)],
            chaos_every_ms: 3_000,
            lose: 20,
            ..Self::default()
        }
    }
    /// Processes that run out of sockets, beside hosts that are really cut off.
    #[must_use]
    pub fn sockets() -> Self {
        Self {
            name: "sockets",
            chaos: &[
                (Chaos::NoSockets, 5),
                (Chaos::Cut, 2),
                (Chaos::CutFromMaster, 2),
                (Chaos::CrashAgent, 1),
            ],
            chaos_every_ms: 3_000,
            ..Self::default()
        }
    }
    /// Engines that time out, refuse and go away; containers that exit, vanish or are stopped.
    #[must_use]
    pub fn engines() -> Self {
        Self {
            name: "engines",
            engine_done_unanswered: 40,
            engine_not_done: 40,
            engine_refuses: 20,
            ledger_fails: 30,
            bad_image: 200,
            crashing_image: 100,
            chaos: &[
                (Chaos::EngineAway, 2),
                (Chaos::StreamEnds, 2),
                (Chaos::Exit, 4),
                (Chaos::Vanish, 3),
                (Chaos::HandStop, 3),
                (Chaos::Rename, 2),
                (Chaos::CrashAgent, 2),
                (Chaos::RenameHost, 1),
            ],
            chaos_every_ms: 2_000,
            ..Self::default()
        }
    }
    /// Nothing fails; somebody stops, kills and removes running containers by hand.
    #[must_use]
    pub fn hands() -> Self {
        Self {
            name: "hands",
            chaos: &[(Chaos::HandStop, 1), (Chaos::HandKill, 2)],
            chaos_every_ms: 2_000,
            ..Self::default()
        }
    }
    /// A store that refuses, is slow, or does not confirm.
    #[must_use]
    pub fn store() -> Self {
        Self {
            name: "store",
            store_refuses: 30,
            store_done_unanswered: 50,
            store_not_done: 50,
            store_slow: 40,
            chaos: &[(Chaos::StoreAway, 2), (Chaos::CrashMaster, 2), (Chaos::RenameHost, 1)],
            chaos_every_ms: 5_000,
            ..Self::default()
        }
    }
    /// A store that loses its tail or is emptied under a running master.
    #[must_use]
    pub fn store_loss() -> Self {
        Self {
            name: "store_loss",
            store_done_unanswered: 20,
            store_not_done: 20,
            chaos: &[
                (Chaos::LoseTail, 3),
                (Chaos::Empty, 2),
                (Chaos::Backup, 3),
                (Chaos::StoreAway, 1),
                (Chaos::CrashMaster, 1),
            ],
            chaos_every_ms: 5_000,
            store_forgets: true,
            ..Self::default()
        }
    }
    /// A store that is found empty at the master's start.
    #[must_use]
    pub fn emptied() -> Self {
        Self {
            name: "emptied",
            keeps_ca: true,
            older_agents: true,
            chaos: &[(Chaos::EmptyWhileDown, 3), (Chaos::Cut, 1), (Chaos::CrashAgent, 1)],
            chaos_every_ms: 8_000,
            store_forgets: true,
            ..Self::default()
        }
    }
    /// Everything that a store which keeps its promises leaves possible.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            name: "everything",
            lose: 30,
            double: 30,
            late: 15,
            engine_done_unanswered: 15,
            engine_not_done: 15,
            engine_refuses: 5,
            ledger_fails: 10,
            store_refuses: 10,
            store_done_unanswered: 15,
            store_not_done: 15,
            store_slow: 10,
            bad_image: 100,
            crashing_image: 50,
            chaos: &[
                (Chaos::CrashMaster, 3),
                (Chaos::CrashAgent, 3),
                (Chaos::Cut, 5),
                (Chaos::EngineAway, 1),
                (Chaos::StreamEnds, 1),
                (Chaos::Exit, 2),
                (Chaos::Vanish, 2),
                (Chaos::HandStop, 2),
                (Chaos::Rename, 1),
                (Chaos::StoreAway, 1),
                (Chaos::WallJump, 2),
            ],
            chaos_every_ms: 2_500,
            ledger_lost: 0,
            downgraded: 0,
            store_forgets: false,
            demanding: false,
            two_masters: false,
            operators: true,
            older_agents: true,
            identities: false,
            upgrades: false,
            keeps_ca: false,
        }
    }

    /// Whether hosts are members by certificates, at some time at least.
    #[must_use]
    pub const fn uses_tls(&self) -> bool {
        self.identities || self.upgrades
    }

    /// Whether nothing ever fails: then what runs is never more than an update may add.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.lose == 0 && self.late == 0 && self.chaos.is_empty()
    }

    /// Whether nothing fails by itself: whatever ends was stopped by somebody.
    #[must_use]
    pub fn is_by_hand(&self) -> bool {
        let by_hand = |(chaos, _): &(Chaos, u32)| matches!(chaos, Chaos::HandStop | Chaos::HandKill);
        let faults = self.lose + self.late + self.bad_image + self.crashing_image + self.engine_refuses;
        faults == 0 && !self.chaos.is_empty() && self.chaos.iter().all(by_hand)
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::calm(),
            Self::rollouts(),
            Self::messages(),
            Self::placement(),
            Self::crashes(),
            Self::ledgers(),
            Self::emptied_ledgers(),
            Self::hosts(),
            Self::impostors(),
            Self::identities(),
            Self::upgrades(),
            Self::sockets(),
            Self::two_masters(),
            Self::two_stores(),
            Self::engines(),
            Self::hands(),
            Self::store(),
            Self::store_loss(),
            Self::emptied(),
            Self::everything(),
        ]
    }
}
