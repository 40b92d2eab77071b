//! One host of a lab: a network namespace with a real engine and a real agent.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use rustix::process::Signal;

use super::{
    super::{
        process::Process,
        release::Release,
        shef::Agent,
        socket::EngineSocket,
        system::{children_of, command_line, kill, shim_sockets, signal, unmount_below},
    },
    names::PREFIX,
    net::{Namespace, Net},
    sweep,
};

/// Where agents listen.
pub const AGENT_PORT: u16 = 11_044;
/// Where the lab's registry listens.
pub const REGISTRY_PORT: u16 = 5_000;
/// How long an engine may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A host: its engine, its agent, its cable.
pub struct Host {
    /// Its name, as in `h1`.
    pub name: String,
    /// Its network.
    pub namespace: Namespace,
    /// Its agent.
    pub agent: Agent,
    /// Its engine's daemon.
    pub engine: Process,
    /// Its engine's release.
    pub release: Release,
    lab: String,
    dir: PathBuf,
}

impl Host {
    /// Host `n`, counted from 1, with this release of the engine, whose agent reports to `master`. Nothing of
    /// it runs yet.
    ///
    /// # Errors
    /// What the system refused.
    pub fn new(net: &Net, n: usize, release: &Release, master: SocketAddr) -> Result<Self, String> {
        let (namespace, name) = (net.for_host(n)?, format!("h{n}"));
        let dir = net.dir().join(&name);
        fs::create_dir_all(&dir).map_err(|error| format!("{} cannot be made: {error}", dir.display()))?;
        let at = |file: &str| dir.join(file).display().to_string();
        let url = format!("unix://{}", at("s"));
        let words = [
            ("--data-root", at("data")),
            ("--exec-root", at("exec")),
            ("--pidfile", at("pid")),
            ("-H", url.clone()),
            ("--cgroup-parent", format!("/{PREFIX}{}/{name}", net.id())),
            ("--exec-opt", "native.cgroupdriver=cgroupfs".to_owned()),
            ("--storage-driver", "overlay2".to_owned()),
            ("--insecure-registry", format!("{}:{REGISTRY_PORT}", net.address())),
        ];
        let words = words.into_iter().flat_map(|(key, value)| [key.to_owned(), value]);
        let engine =
            Process::new(release.program(), words, dir.join("dockerd.log")).with("PATH", release.path());
        let engine = engine.inside(namespace.path());
        let listen = SocketAddr::from((namespace.address, AGENT_PORT));
        let mut agent = Agent::at(listen, &name, &dir, master, &url);
        agent.process = agent.process.inside(namespace.path());
        Ok(Self { name, namespace, agent, engine, release: release.clone(), lab: net.id().to_owned(), dir })
    }

    /// What speaks to its engine, whether its cable is in or not.
    #[must_use]
    pub fn socket(&self) -> EngineSocket {
        EngineSocket::new(format!("unix://{}", self.dir.join("s").display()))
    }

    /// Where the agent keeps its ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Starts the engine on what it had, and waits until it answers.
    ///
    /// # Panics
    /// If it runs already, or does not answer in time; its log says why.
    pub async fn start_engine(&mut self) {
        self.engine.start();
        let answered = tokio::time::timeout(START_LIMIT, self.socket().answers()).await.is_ok();
        assert!(answered, "the engine of {} does not answer", self.name);
    }

    /// Kills the engine's daemons as a crash would: containers live on.
    ///
    /// # Panics
    /// If it was not running.
    pub fn kill_engine(&mut self) {
        let below = self.daemons();
        self.engine.kill();
        below.into_iter().for_each(kill);
        // A dead process that nobody has reaped would pass for a running one.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.dir.join(file));
        }
    }

    /// Stops the engine in its tracks; connections to it are taken by the kernel, and nobody answers.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze_engine(&self) {
        self.engine.signal(Signal::STOP);
        self.daemons().into_iter().for_each(|pid| signal(pid, Signal::STOP));
    }

    /// Lets a frozen engine go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw_engine(&self) {
        self.daemons().into_iter().for_each(|pid| signal(pid, Signal::CONT));
        self.engine.signal(Signal::CONT);
    }

    /// The daemons below the engine's: its containerd.
    fn daemons(&self) -> Vec<u32> {
        let is_containerd = |pid: &u32| {
            command_line(*pid).is_some_and(|line| {
                line.split(' ').next().is_some_and(|program| program.ends_with("containerd"))
            })
        };
        children_of(self.engine.id()).into_iter().filter(is_containerd).collect()
    }

    /// Pulls the host's plug: its cable first, since a dead host refuses nothing,
    /// then everything that runs on it, containers too.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn lose(&mut self) {
        self.namespace.cable(false).expect("the cable comes out");
        self.end_everything();
    }

    /// Ends everything that runs on the host, containers too. Its kernel lives on, and refuses connections.
    pub fn end_everything(&mut self) {
        for process in [&mut self.agent.process, &mut self.engine] {
            if process.is_running() {
                process.kill();
            }
        }
        sweep::end_host(&self.lab, &self.name, self.namespace.name());
    }

    /// Boots a lost host again: what was in memory is gone, what was on disk is
    /// there, and containers start again if they are to. Its agent starts too.
    ///
    /// # Panics
    /// If it is not lost, or does not come up.
    pub async fn boot(&mut self) {
        self.boot_engine().await;
        self.agent.process.start();
    }

    /// The same without the agent: what of it runs, its engine starts.
    ///
    /// # Panics
    /// If it is not lost, or does not come up.
    pub async fn boot_engine(&mut self) {
        for socket in shim_sockets(&self.dir) {
            let _ = fs::remove_file(socket);
        }
        unmount_below(&self.dir);
        let _ = fs::remove_dir_all(self.dir.join("exec"));
        let _ = fs::remove_file(self.dir.join("pid"));
        self.namespace.cable(true).expect("the cable goes in");
        self.start_engine().await;
    }
}
