//! False alarms: troubles under which no host may be called down.

use std::{path::Path, thread, time::Duration};

use shef_integration_tests::lab::{
    lan::{Host, LanLab},
    process::Process,
    shef::busybox,
};
use tokio::time::Instant;

/// How long an engine that answers slowly is stopped, and how long it goes on between.
const FROZEN: Duration = Duration::from_millis(1_500);
const THAWED: Duration = Duration::from_millis(300);

/// What a cluster has to live with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Of the packets of every host 5 % are lost, each way.
    Packets,
    /// Everything takes 200 ms longer, each way.
    Delay,
    /// Every core is busy.
    Cores,
    /// Every engine answers slowly.
    Engines,
}

impl Trouble {
    const ALL: [Self; 4] = [Self::Packets, Self::Delay, Self::Cores, Self::Engines];

    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.words().0 == name)
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Packets => ("packets", "5 % of the packets of every host lost, each way"),
            Self::Delay => ("delay", "200 ms delay each way, every host"),
            Self::Cores => ("cores", "every core busy"),
            Self::Engines => ("engines", "every engine slow"),
        }
    }
}

/// Each trouble, or the only one that is wanted, for `each`, with the replicas of a service changed all the
/// while.
pub async fn run(lan: &mut LanLab, each: Duration, only: Option<Trouble>) -> Result<(), String> {
    println!("\n== hosts called down, {} s each\n{:<48}{:>8}{:>10}", each.as_secs(), "", "down", "changes");
    let mut sum = 0;
    for trouble in Trouble::ALL.into_iter().filter(|trouble| only.is_none_or(|only| only == *trouble)) {
        let before = lan.called_down();
        let changes = match trouble {
            Trouble::Packets => {
                for host in ["h1", "h2", "h3"] {
                    lan.lose_packets(host, 5.0)?;
                }
                churn(lan, each).await
            }
            Trouble::Delay => {
                for host in ["h1", "h2", "h3"] {
                    lan.delay(host, Duration::from_millis(200)).await?;
                }
                churn(lan, each).await
            }
            Trouble::Cores => {
                let _load = Load::start(&lan.net.dir());
                churn(lan, each).await
            }
            Trouble::Engines => slow_engines(lan, each).await,
        };
        for host in ["h1", "h2", "h3"] {
            lan.heal(host)?;
        }
        lan.master.hosts(3).await;
        let down = lan.called_down() - before;
        println!("{:<48}{down:>8}{changes:>10}", trouble.words().1);
        sum += down;
    }
    lan.master.api.call("DELETE", "/v1/services/busy?wait=30s", serde_json::Value::Null).await;
    if sum == 0 { Ok(()) } else { Err(format!("{sum} hosts were called down for nothing")) }
}

/// Changes a service for as long, and tells how often.
async fn churn(lan: &LanLab, long: Duration) -> u32 {
    let (start, mut changes) = (Instant::now(), 0);
    while start.elapsed() < long {
        // Whether it converged in time is not what is measured.
        lan.master.api.call("PUT", "/v1/services/busy?wait=10s", busybox(3 + changes % 2 * 3)).await;
        changes += 1;
    }
    changes
}

async fn slow_engines(lan: &LanLab, long: Duration) -> u32 {
    let end = Instant::now() + long;
    let slow = async {
        while Instant::now() < end {
            lan.hosts.iter().for_each(Host::freeze_engine);
            tokio::time::sleep(FROZEN).await;
            lan.hosts.iter().for_each(Host::thaw_engine);
            tokio::time::sleep(THAWED).await;
        }
    };
    tokio::join!(slow, churn(lan, long)).1
}

/// Twice as many busy processes as there are cores.
struct Load(#[expect(dead_code, reason = "they end when it is dropped")] Vec<Process>);

impl Load {
    fn start(dir: &Path) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let processes = (0..cores * 2).map(|_| {
            let mut process = Process::new("sh", ["-c", "while :; do :; done"], dir.join("busy.log"));
            process.start();
            process
        });
        Self(processes.collect())
    }
}
