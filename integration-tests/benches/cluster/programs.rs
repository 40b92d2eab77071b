//! The programs that are measured and those they need, as processes that end with their guards.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use shef_integration_tests::cluster::Api;
use tokio::net::TcpStream;

use crate::measure::note;

/// How long a program may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a program may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often something is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The release binary.
#[derive(Clone)]
pub struct Shef {
    path: PathBuf,
    open_files: Option<(u64, u64)>,
}

impl Shef {
    /// Has cargo build the binary as it ships (nothing to do if it is there), and finds it.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn build() -> Self {
        note("building `shef` (release) if it is not up to date ...");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--quiet", "--package", "shef", "--bin", "shef"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo says of this package would pass for a change of others, and have them built again.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start))
            {
                build.env_remove(name);
            }
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "`cargo build --release --package shef` failed");
        // This program lies in target/release/deps.
        let own = std::env::current_exe().expect("this program's own path");
        let path = own.ancestors().nth(2).expect("a target directory").join("shef");
        assert!(path.exists(), "there is no {}", path.display());
        Self { path, open_files: None }
    }

    /// The same binary, started with these limits on open files, the soft and the hard one.
    pub fn with_open_files(&self, soft: u64, hard: u64) -> Self {
        Self { open_files: Some((soft, hard)), ..self.clone() }
    }

    /// Starts `shef` with `arguments` and nothing of this process's environment but the path.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&self, arguments: &[&str], log: &Path) -> Process {
        let mut command = match self.open_files {
            // It replaces itself by the program, which keeps the process's id.
            Some((soft, hard)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={soft}:{hard}")).arg("--").arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("SHEF_INSECURE", "true");
        Process::start(command, log)
    }

    /// Starts a master on the store that `more` names, or on the embedded one, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn master(&self, dir: &Path, more: &[&str]) -> Master {
        self.master_at(free_address(), dir, more).await
    }

    /// The same, at an address of one's choice.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn master_at(&self, address: SocketAddr, dir: &Path, more: &[&str]) -> Master {
        let log = dir.join("master.log");
        let (listen, data) = (address.to_string(), dir.join("master").display().to_string());
        let mut arguments =
            vec!["master", "--host-ip", "127.0.0.1", "--listen", &listen, "--data-dir", &data];
        arguments.extend(more);
        let mut process = self.start(&arguments, &log);
        tokio::select! {
            () = wait_for_port(address) => {}
            status = process.end() => {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the master ended with {status}: {log}")
            }
        }
        let api = Api::new(address);
        api.until("/readyz", |answer| answer.status == 200).await;
        Master { process, address, api }
    }

    /// Starts an agent of `master` over the engine at `docker_host`, and waits until its host is ready.
    ///
    /// # Panics
    /// If the host does not become ready.
    pub async fn agent(&self, dir: &Path, master: &Master, docker_host: &str, more: &[&str]) -> Process {
        let (listen, masters) = (free_address().to_string(), master.address.to_string());
        let data = dir.join("agent").display().to_string();
        let mut arguments =
            vec!["agent", "--host-ip", "127.0.0.1", "--node-name", "bench", "--docker-host", docker_host];
        arguments.extend(["--listen", &listen, "--masters", &masters, "--data-dir", &data]);
        // Programs of earlier versions make no such token, and need none.
        let _ = master.api.raw("DELETE", "/v1/tokens/bench", &[], Vec::new()).await;
        let asked = serde_json::json!({ "role": "agent" });
        let token = master.api.call("PUT", "/v1/tokens/bench", asked).await.body["token"].clone();
        let token = token.as_str().map(|token| format!("join_token={token}"));
        arguments.extend(token.iter().flat_map(|token| ["--set", token.as_str()]));
        arguments.extend(more);
        let process = self.start(&arguments, &dir.join("agent.log"));
        // A host that is known from an earlier agent is ready only once this one has registered.
        master
            .api
            .until("/v1/nodes/bench", |answer| {
                let url = answer.body["agent_url"].as_str().unwrap_or_default();
                answer.body["state"] == "ready" && url.ends_with(&listen)
            })
            .await;
        process
    }
}

/// A running master.
pub struct Master {
    /// The process.
    pub process: Process,
    /// Where its API listens.
    pub address: SocketAddr,
    /// Its API.
    pub api: Api,
}

/// A child that is told to stop when dropped, and killed if it does not.
pub struct Process(Child);

impl Process {
    /// Starts `command`; what it says goes to the end of `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let copy = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn();
        Self(
            child.unwrap_or_else(|error| {
                panic!("{} does not start: {error}", command.get_program().display())
            }),
        )
    }

    /// Resident memory now and at its highest, in bytes.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn resident(&self) -> Resident {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("the process lives");
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of that name");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1_024
        };
        Resident { now: bytes("VmRSS:"), highest: bytes("VmHWM:") }
    }

    /// Waits until it ends by itself.
    async fn end(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.0.try_wait().expect("a child of ours") {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops it gracefully.
    pub fn stop(self) {
        drop(self);
    }

    /// Kills it (`kill -9`) and waits for its end.
    pub fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn signal(&self, name: &str) {
        // Gone already is as good.
        let _ = Command::new("kill")
            .args([&format!("-{name}"), &self.0.id().to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("TERM");
        for _ in 0..STOP_LIMIT.as_millis() / 5 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process holds in memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    /// At this moment (`VmRSS`).
    pub now: u64,
    /// The most so far (`VmHWM`).
    pub highest: u64,
}

/// A Redis server with an append-only file.
pub struct Redis {
    /// As in `redis://127.0.0.1:6379`.
    pub url: String,
    _process: Process,
}

impl Redis {
    /// Starts one in `dir` and waits until it takes connections.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(dir: &Path, appendfsync: &str) -> Self {
        std::fs::create_dir_all(dir).expect("a directory");
        let address = free_address();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--dir"])
            .arg(dir);
        command.args(["--appendonly", "yes", "--appendfsync", appendfsync]);
        let process = Process::start(command, &dir.join("log"));
        wait_for_port(address).await;
        Self { url: format!("redis://{address}"), _process: process }
    }
}

/// An address on the loopback that nobody listened on a moment ago.
///
/// # Panics
/// If there is none.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// Waits until somebody listens.
///
/// # Panics
/// After [`START_LIMIT`].
pub async fn wait_for_port(address: SocketAddr) {
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let came = tokio::time::timeout(START_LIMIT, listens).await.is_ok();
    assert!(came, "nobody listens on {address} after {} s", START_LIMIT.as_secs());
}
