//! What a person can have done to a lab that runs: the orders of `shef-lab`, and
//! the socket over which a lab's owner takes them.

use std::{fmt, fmt::Write as _, path::PathBuf, str::FromStr, time::Duration};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{Cut, LanLab, names::dir_of, sweep};

/// The longest order, in bytes.
const MAX_ORDER: u64 = 4_096;

/// A program of a lab, or a whole host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The master.
    Master,
    /// The Redis.
    Redis,
    /// A host's agent.
    Agent(String),
    /// A host's engine.
    Engine(String),
    /// A host with all that runs on it.
    Host(String),
}

impl Part {
    /// The part that these words name: `master`, `redis`, `agent h2`, `engine h2` or `h2`.
    ///
    /// # Errors
    /// What can be named.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["master"] => Ok(Self::Master),
            ["redis"] => Ok(Self::Redis),
            ["agent", host] => Ok(Self::Agent((*host).to_owned())),
            ["engine", host] => Ok(Self::Engine((*host).to_owned())),
            [host] if host.starts_with('h') => Ok(Self::Host((*host).to_owned())),
            _ => Err(format!(
                "{:?} names nothing: master, redis, agent h2, engine h2, or h2 for the whole host",
                words.join(" ")
            )),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.write_str("the master"),
            Self::Redis => f.write_str("Redis"),
            Self::Agent(host) => write!(f, "the agent of {host}"),
            Self::Engine(host) => write!(f, "the engine of {host}"),
            Self::Host(host) => f.write_str(host),
        }
    }
}

/// What is to be done to a lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is said in the help of shef-lab, and in docs/lab.md")]
pub enum Order {
    Status,
    Down,
    Cut { host: String, way: String },
    Heal { host: String },
    LosePackets { host: String, percent: f64 },
    Delay { host: String, ms: u64 },
    Kill(Part),
    Start(Part),
    Stop(Part),
    Cont(Part),
    FillDisk,
    FreeDisk,
    WipeStore,
}

/// The socket of the lab `id`.
#[must_use]
pub fn socket_of(id: &str) -> PathBuf {
    dir_of(id).join("control")
}

/// The labs that take orders.
#[must_use]
pub fn listening() -> Vec<String> {
    sweep::alive().into_iter().filter(|id| socket_of(id).exists()).collect()
}

/// Gives the lab `id` an order, and brings what it says.
///
/// # Errors
/// Its refusal, or why it cannot be reached.
pub async fn give(id: &str, order: &Order) -> Result<String, String> {
    let unreachable = |error: std::io::Error| format!("the lab {id} cannot be reached: {error}");
    let mut stream = UnixStream::connect(socket_of(id)).await.map_err(unreachable)?;
    let line = serde_json::to_string(order).map_err(|error| error.to_string())? + "\n";
    stream.write_all(line.as_bytes()).await.map_err(unreachable)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(unreachable)?;
    serde_json::from_str(&answer).map_err(|_| format!("the lab {id} ended before it answered"))?
}

impl LanLab {
    /// Carries out orders, one at a time, until one says to go down.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub async fn serve_orders(&mut self) -> Result<(), String> {
        let listener = UnixListener::bind(socket_of(self.net.id()))
            .map_err(|error| format!("no orders can be taken: {error}"))?;
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let mut line = String::new();
            let read = BufReader::new((&mut stream).take(MAX_ORDER)).read_line(&mut line).await;
            let answer = match read
                .map_err(|error| error.to_string())
                .and_then(|_| serde_json::from_str(&line).map_err(|error| error.to_string()))
            {
                Ok(Order::Down) => {
                    // Answered by the end of the connection, when nothing is left.
                    return Ok(());
                }
                Ok(order) => self.carry_out(order).await,
                Err(error) => Err(format!("that is no order: {error}")),
            };
            let text = serde_json::to_string(&answer).unwrap_or_default();
            // Whoever asked may have gone.
            let _ = stream.write_all(text.as_bytes()).await;
        }
    }

    async fn carry_out(&mut self, order: Order) -> Result<String, String> {
        match order {
            Order::Status => return Ok(self.status().await),
            // Ends the lab's owner, which is not in here.
            Order::Down => {}
            Order::Cut { host, way } => self.cut(&host, Cut::from_str(&way)?)?,
            Order::Heal { host } => self.heal(&host)?,
            Order::LosePackets { host, percent } => self.lose_packets(&host, percent)?,
            Order::Delay { host, ms } => self.delay(&host, Duration::from_millis(ms)).await?,
            Order::Kill(part) => self.kill(&part)?,
            Order::Start(part) => self.start_part(&part).await?,
            Order::Stop(part) => self.signal(&part, Signal::STOP)?,
            Order::Cont(part) => self.signal(&part, Signal::CONT)?,
            Order::FillDisk => self.fill_disk()?,
            Order::FreeDisk => self.free_disk()?,
            Order::WipeStore => self.wipe_store()?,
        }
        Ok(String::new())
    }

    fn kill(&mut self, part: &Part) -> Result<(), String> {
        self.must_run(part)?;
        match part {
            Part::Master => self.master.process.kill(),
            Part::Redis => self.redis.as_mut().ok_or("this lab has no Redis")?.process.kill(),
            Part::Agent(host) => self.host_mut(host)?.agent.process.kill(),
            Part::Engine(host) => self.host_mut(host)?.kill_engine(),
            Part::Host(host) => self.host_mut(host)?.lose(),
        }
        Ok(())
    }

    async fn start_part(&mut self, part: &Part) -> Result<(), String> {
        if self.runs(part)? {
            return Err(format!("{part} runs already"));
        }
        match part {
            Part::Master => self.master.start().await,
            Part::Redis => self.redis.as_mut().ok_or("this lab has no Redis")?.boot().await,
            Part::Agent(host) => self.host_mut(host)?.agent.process.start(),
            Part::Engine(host) => self.host_mut(host)?.start_engine().await,
            Part::Host(host) => self.host_mut(host)?.boot().await,
        }
        Ok(())
    }

    fn signal(&mut self, part: &Part, signal: Signal) -> Result<(), String> {
        self.must_run(part)?;
        let engine = |host: &super::Host| {
            if signal == Signal::STOP { host.freeze_engine() } else { host.thaw_engine() }
        };
        match part {
            Part::Master => self.master.process.signal(signal),
            Part::Redis => self.redis.as_ref().ok_or("this lab has no Redis")?.process.signal(signal),
            Part::Agent(host) => self.host(host)?.agent.process.signal(signal),
            Part::Engine(host) => engine(self.host(host)?),
            Part::Host(host) => {
                let host = self.host(host)?;
                host.agent.process.signal(signal);
                engine(host);
            }
        }
        Ok(())
    }

    fn runs(&mut self, part: &Part) -> Result<bool, String> {
        Ok(match part {
            Part::Master => self.master.process.is_running(),
            Part::Redis => self
                .redis
                .as_mut()
                .ok_or("this lab has no Redis: start it with --redis")?
                .process
                .is_running(),
            Part::Agent(host) => self.host_mut(host)?.agent.process.is_running(),
            Part::Engine(host) => self.host_mut(host)?.engine.is_running(),
            Part::Host(host) => {
                let host = self.host_mut(host)?;
                host.engine.is_running() || host.agent.process.is_running()
            }
        })
    }

    fn must_run(&mut self, part: &Part) -> Result<(), String> {
        if self.runs(part)? { Ok(()) } else { Err(format!("{part} does not run")) }
    }

    /// The hosts, what runs on each engine, and what the API says of them.
    async fn status(&mut self) -> String {
        let nodes = self.master.api.attempt("GET", "/v1/nodes", &[], Vec::new()).await;
        let mut text =
            format!("lab {}   API {}   {}\n", self.net.id(), self.master.api.url, self.net.dir().display());
        if let Some(registry) = &self.registry {
            let _ = writeln!(text, "registry {}", registry.image(""));
        }
        if let Err(why) = &nodes {
            let _ = writeln!(text, "the master does not answer: {why}");
        }
        let _ = writeln!(
            text,
            "{:<6}{:<16}{:<9}{:<9}{:<9}{:>8}{:>8}  {:<12}why",
            "host", "address", "release", "engine", "agent", "running", "wanted", "state"
        );
        let running = self.by_host().await;
        let nodes = nodes
            .ok()
            .and_then(|answer| answer.body["nodes"].as_array().or(answer.body.as_array()).cloned())
            .unwrap_or_default();
        for host in &mut self.hosts {
            let node =
                nodes.iter().find(|node| node["name"] == host.name.as_str()).cloned().unwrap_or_default();
            let count = running
                .get(&host.name)
                .map_or(0, |all| all.values().filter(|seen| seen.state == "running").count());
            let up = |runs: bool| if runs { "runs" } else { "-" };
            let (engine, agent) = (up(host.engine.is_running()), up(host.agent.process.is_running()));
            let (state, wanted) = (node["state"].as_str().unwrap_or("-"), node["wanted"].to_string());
            let why = node["reason"].as_str().unwrap_or_default();
            let (address, release) = (host.namespace.address.to_string(), host.release.version());
            let _ = writeln!(
                text,
                "{:<6}{address:<16}{release:<9}{engine:<9}{agent:<9}{count:>8}{wanted:>8}  {state:<12}{why}",
                host.name
            );
        }
        text
    }
}
