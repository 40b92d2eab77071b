//! Several Docker hosts on this machine, with a shef cluster on them, to break at will.

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use clap::{Parser, Subcommand};
use rustix::process::geteuid;
use shef_integration_tests::lab::{
    lan::{
        LanLab, Plan,
        command::{Order, Part, give, listening},
        names::ROOT,
        sweep,
    },
    release::Release,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long a lab may take to come up or to go down.
const LIMIT: Duration = Duration::from_mins(2);

/// Real Docker hosts on this machine, each in a network namespace, with a shef
/// cluster on them. See docs/lab.md.
#[derive(Parser)]
#[command(name = "shef-lab")]
struct Cli {
    /// The lab that is meant, where several run (`shef-lab status` names them).
    #[arg(long, global = true)]
    lab: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Start a lab and stay until ctrl-C or `down`.
    Up {
        /// How many hosts, 1 to 64.
        #[arg(default_value_t = 3)]
        hosts: usize,
        /// Return when it is up, and leave it running.
        #[arg(long)]
        detach: bool,
        /// Run the master on this host (1: on h1) instead of in a namespace of its own.
        #[arg(long, value_name = "N")]
        master_on: Option<usize>,
        /// Keep the master's state in a Redis of the lab's.
        #[arg(long)]
        redis: bool,
        /// The version of the hosts' engines, as in 28; several, as in 20,26,28, for hosts in turn. Else the
        /// machine's own.
        #[arg(long, value_name = "VERSIONS")]
        engine: Option<String>,
        /// Start a registry that the hosts reach.
        #[arg(long)]
        registry: bool,
        /// Put the master's file on a disk of this size, for `fill-disk`.
        #[arg(long, value_name = "MB")]
        disk_mb: Option<u32>,
        /// A setting of the master, as in `SHEF_MASTER_PROBE_WINDOW_MS=500`.
        #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
        set: Vec<(String, String)>,
    },
    /// Take the lab away, and what labs left whose owner was killed.
    Down,
    /// Hosts, addresses, and containers on the engines against what the API says.
    Status,
    /// Cut a host off: both, incoming, outgoing, master, pushes or reports.
    Cut {
        /// The host.
        host: String,
        /// What no longer gets through.
        #[arg(default_value = "both")]
        way: String,
    },
    /// Mend all that the network does to a host.
    Heal {
        /// The host.
        host: String,
    },
    /// Have a host lose a share of its packets, each way.
    LosePackets {
        /// The host.
        host: String,
        /// The share.
        percent: f64,
    },
    /// Delay what a host says and hears.
    Delay {
        /// The host.
        host: String,
        /// How long, each way.
        ms: u64,
    },
    /// Kill -9: master, redis, agent h2, engine h2; or lose the whole host: h2.
    Kill {
        /// What.
        #[arg(required = true)]
        part: Vec<String>,
    },
    /// Start again what was killed; a host boots with the disk it had.
    Start {
        /// What.
        #[arg(required = true)]
        part: Vec<String>,
    },
    /// Stop in its tracks (SIGSTOP).
    Stop {
        /// What.
        #[arg(required = true)]
        part: Vec<String>,
    },
    /// Let go on (SIGCONT).
    Cont {
        /// What.
        #[arg(required = true)]
        part: Vec<String>,
    },
    /// Fill the disk of the master's file.
    FillDisk,
    /// Make room there again.
    FreeDisk,
    /// Take away all that the store holds.
    WipeStore,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !geteuid().is_root() {
        eprintln!("shef-lab: a lab makes network namespaces and starts engines: run it as root");
        return ExitCode::FAILURE;
    }
    match actix_rt::System::new().block_on(run(cli)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("shef-lab: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<String, String> {
    let part = |words: &[String]| Part::parse(words);
    let order = match cli.what {
        What::Up { detach: true, .. } => return detached().await,
        What::Up { hosts, detach: false, master_on, redis, engine, registry, disk_mb, set } => {
            let engines = engine.map_or_else(|| Ok(Vec::new()), |names| Release::list(&names, "engine"))?;
            let plan = Plan { hosts, master_on, redis, disk_mb, registry, engines, settings: set };
            return up(&plan).await;
        }
        What::Down => return down(cli.lab).await,
        What::Status => Order::Status,
        What::Cut { host, way } => Order::Cut { host, way },
        What::Heal { host } => Order::Heal { host },
        What::LosePackets { host, percent } => Order::LosePackets { host, percent },
        What::Delay { host, ms } => Order::Delay { host, ms },
        What::Kill { part: words } => Order::Kill(part(&words)?),
        What::Start { part: words } => Order::Start(part(&words)?),
        What::Stop { part: words } => Order::Stop(part(&words)?),
        What::Cont { part: words } => Order::Cont(part(&words)?),
        What::FillDisk => Order::FillDisk,
        What::FreeDisk => Order::FreeDisk,
        What::WipeStore => Order::WipeStore,
    };
    give(&chosen(cli.lab)?, &order).await
}

/// The lab that is meant.
fn chosen(named: Option<String>) -> Result<String, String> {
    let labs = listening();
    match (named, labs.as_slice()) {
        (Some(name), _) if labs.contains(&name) => Ok(name),
        (Some(name), _) => Err(format!("there is no lab {name}; running: {}", labs.join(", "))),
        (None, [lab]) => Ok(lab.clone()),
        (None, []) => Err("no lab runs: start one with `shef-lab up 3`".to_owned()),
        (None, _) => Err(format!("several labs run; name one with --lab: {}", labs.join(", "))),
    }
}

async fn up(plan: &Plan) -> Result<String, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to: {error}"));
    let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    // Whatever has been started belongs to the future that ends here, and ends with it.
    let life = async {
        let mut lan = LanLab::start(plan).await?;
        println!("lab {} is up: {}", lan.net.id(), lan.master.api.url);
        lan.serve_orders().await
    };
    tokio::select! {
        done = life => done?,
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Ok(String::new())
}

/// What the process `owner` of a lab says that runs without a terminal.
fn detached_log(owner: u32) -> PathBuf {
    PathBuf::from(ROOT).join(format!("detached-{owner}.log"))
}

/// Starts the same command again without the terminal, and waits until its lab takes orders.
async fn detached() -> Result<String, String> {
    std::fs::create_dir_all(ROOT).map_err(|error| format!("{ROOT} cannot be made: {error}"))?;
    // Others may start labs at the same moment: the log has its owner's name once that is known.
    let log = detached_log(std::process::id());
    let file = std::fs::File::create(&log)
        .map_err(|error| format!("{} cannot be written: {error}", log.display()))?;
    let words = std::env::args_os().skip(1).filter(|word| word != "--detach");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut owner = Command::new("setsid")
        .arg(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(|error| error.to_string())?)
        .stderr(file)
        .spawn()
        .map_err(|error| format!("the lab's owner cannot be started: {error}"))?;
    let pid = owner.id();
    std::fs::rename(&log, detached_log(pid)).map_err(|error| format!("its log has no name: {error}"))?;
    let log = detached_log(pid);
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let waited = async {
        loop {
            if let Some(lab) = listening().into_iter().find(|lab| sweep::owner_in(lab) == Some(pid)) {
                return Ok(lab);
            }
            if let Ok(Some(_)) = owner.try_wait() {
                let said = said();
                let _ = std::fs::remove_file(&log);
                return Err(format!("the lab did not come up:\n{said}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let lab = tokio::time::timeout(LIMIT, waited)
        .await
        .map_err(|_| format!("the lab is not up yet:\n{}", said()))??;
    give(&lab, &Order::Status).await
}

async fn down(named: Option<String>) -> Result<String, String> {
    let swept = sweep::sweep();
    let mut text = String::new();
    if !swept.is_empty() {
        text = format!("swept what labs left whose owners were killed: {}\n", swept.join(", "));
    }
    if named.is_none() && listening().is_empty() {
        return if text.is_empty() { Err("no lab runs".to_owned()) } else { Ok(text) };
    }
    let lab = chosen(named)?;
    // It answers by ending.
    let _ = give(&lab, &Order::Down).await;
    let gone = async {
        while !sweep::is_orphan(&lab) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.map_err(|_| format!("the lab {lab} does not go down"))?;
    // A lab that ran in the foreground has none.
    let _ = sweep::owner_in(&lab).map(|owner| std::fs::remove_file(detached_log(owner)));
    Ok(format!("{text}lab {lab} is down\n"))
}
