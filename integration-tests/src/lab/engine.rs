//! A private Docker engine for one test process: its own data, its own socket,
//! no network, nothing left behind. Needs root and Debian's `docker.io`. The
//! environment variable `TEST_ENGINE` chooses its release.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bollard::Docker;

pub use super::socket::{BUSYBOX, EngineSocket, OBEDIENT, Seen, busybox_tar};
use super::{
    bridge::Bridge,
    release::Release,
    system::{children_of, command_line, kill, processes_naming, shim_sockets, terminate, unmount_below},
};

/// How long an engine may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an engine may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The environment variable that names the releases of the engine, as in `28`, or `20,28` for hosts in turn.
pub const ENGINE_VARIABLE: &str = "TEST_ENGINE";

/// The releases that tests and labs run their engines from: those of [`ENGINE_VARIABLE`], or the machine's
/// own.
///
/// # Errors
/// One of them is not on this machine.
pub fn releases() -> Result<Vec<Release>, String> {
    Release::chosen(ENGINE_VARIABLE, "engine")
}

/// A running `dockerd`. Ends, with everything it started, when dropped.
pub struct LabEngine {
    directory: tempfile::TempDir,
    release: Release,
    daemon: Option<Child>,
    bridge: Bridge,
    /// Arguments of the daemon beside those that every lab's engine has.
    arguments: Vec<String>,
}

impl LabEngine {
    /// Starts an engine and waits until it answers.
    ///
    /// # Panics
    /// If it cannot be started: a test without its engine proves nothing.
    pub async fn start() -> Self {
        Self::start_with([]).await
    }

    /// Starts an engine with more arguments, as in `-H tcp://…`, and waits until it answers.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start_with(arguments: impl IntoIterator<Item = String>) -> Self {
        let directory =
            tempfile::Builder::new().prefix("shef-lab-").tempdir().expect("a temporary directory");
        let arguments = arguments.into_iter().collect();
        let release = releases().expect("the chosen release of the engine").swap_remove(0);
        let mut engine = Self { directory, release, daemon: None, bridge: Bridge::new(), arguments };
        engine.boot().await;
        engine
    }

    /// Starts the daemon on the directory as it is.
    ///
    /// # Panics
    /// If it does not answer in time; its log says why.
    pub async fn boot(&mut self) {
        let directory = self.path().to_owned();
        let at = |name: &str| directory.join(name);
        let log = fs::File::create(at("log")).expect("a log file");
        // setpriv makes the kernel end the daemon, and it its containers, when the test's thread ends without
        // cleaning up.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "dockerd"])
            .args([
                "--bridge",
                self.bridge.name(),
                "--iptables=false",
                "--ip-masq=false",
                "--ip-forward=false",
            ])
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("-H")
            .arg(self.url())
            .args(&self.arguments)
            .env("PATH", self.release.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts: install docker.io and run as root");
        self.daemon = Some(daemon);
        let answered = tokio::time::timeout(START_LIMIT, self.socket().answers()).await.is_ok();
        assert!(answered, "dockerd does not answer: {}", fs::read_to_string(at("log")).unwrap_or_default());
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where it keeps its images.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Its release.
    #[must_use]
    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// The engine's address, as `unix:///…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.path().join("s").display())
    }

    /// What speaks to the engine.
    #[must_use]
    pub fn socket(&self) -> EngineSocket {
        EngineSocket::new(self.url())
    }

    /// A client of the engine.
    #[must_use]
    pub fn client(&self) -> Docker {
        self.socket().client()
    }

    /// Gives the engine the image [`BUSYBOX`].
    pub async fn import_busybox(&self) {
        self.socket().import_busybox().await;
    }

    /// Gives the engine an image made of one tar and of Dockerfile instructions.
    pub async fn import(&self, name: &str, tar: &[u8], changes: Vec<String>) {
        self.socket().import(name, tar, changes).await;
    }

    /// Every container of ours, whatever its cluster, by name; none of an engine that has crashed.
    pub async fn managed(&self) -> BTreeMap<String, Seen> {
        if self.daemon.is_some() { self.socket().managed().await } else { BTreeMap::new() }
    }

    /// Every container, by name; none of an engine that has crashed.
    pub async fn all(&self) -> BTreeMap<String, Seen> {
        if self.daemon.is_some() { self.socket().all().await } else { BTreeMap::new() }
    }

    /// Kills the daemon as a crash would: containers and shims live on.
    ///
    /// # Panics
    /// If it was not running.
    pub fn crash(&mut self) {
        let mut daemon = self.daemon.take().expect("a running daemon");
        daemon.kill().expect("dockerd can be killed");
        daemon.wait().expect("dockerd ends");
        // Its containerd is its child and would keep the lock.
        for pid in processes_naming(self.path()) {
            if command_line(pid)
                .is_some_and(|line| line.contains("containerd") && !line.contains("containerd-shim"))
            {
                kill(pid);
            }
        }
        // A dead process that nobody has reaped would pass for a running one.
        let _ = fs::remove_file(self.path().join("pid"));
        let _ = fs::remove_file(self.path().join("exec/containerd/containerd.pid"));
    }

    /// Ends the daemon as a service manager would; it stops its containers.
    ///
    /// # Panics
    /// If it was not running or does not end.
    pub fn terminate(&mut self) {
        let mut daemon = self.daemon.take().expect("a running daemon");
        terminate(daemon.id());
        assert!(ends(&mut daemon), "dockerd does not end");
    }

    fn clean_up(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let url = self.url();
            // Containers and networks first: what a daemon leaves behind is harder to find, and a bridge
            // keeps its subnet.
            let _ = Command::new("sh")
                .arg("-c")
                .arg(
                    "ids=$(docker -H \"$0\" ps -aq); [ -z \"$ids\" ] || docker -H \"$0\" rm -fv $ids; \
                      docker -H \"$0\" network prune -f",
                )
                .arg(&url)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            terminate(daemon.id());
            if !ends(&mut daemon) {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
        let sockets = shim_sockets(self.path());
        // What a hard kill left: shims, the containers' processes below them, containerd.
        for pid in processes_naming(self.path()) {
            for child in children_of(pid) {
                kill(child);
            }
            kill(pid);
        }
        for socket in sockets {
            let _ = fs::remove_file(socket);
        }
        unmount_below(self.path());
    }
}

impl Drop for LabEngine {
    fn drop(&mut self) {
        self.clean_up();
    }
}

fn ends(daemon: &mut Child) -> bool {
    for _ in 0..STOP_LIMIT.as_millis() / 20 {
        if matches!(daemon.try_wait(), Ok(Some(_))) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_is_not_on_this_machine_is_refused_with_what_to_do() {
        assert!(Release::named("28").unwrap_err().contains("as in engine-28"));
        let refusal = Release::list("1", "engine").unwrap_err();
        assert!(
            refusal.contains("engine-1 is not on this machine") || refusal.contains("cannot be run"),
            "{refusal}"
        );
    }
}
