//! A private Docker engine for one test process: its own data, its own socket,
//! no network, nothing left behind. Needs root and Debian's `docker.io`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{CreateImageOptions, ListContainersOptions},
};
use futures_util::{TryStreamExt as _, future::join_all};

use super::bridge::Bridge;

/// How long an engine may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an engine may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The image that every lab engine can be given.
pub const BUSYBOX: &str = "shef-lab/busybox:1";

/// Runs until it is told to stop, and then ends at once.
pub const OBEDIENT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// A container as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// As in `running`.
    pub state: String,
    /// When its process was started last, as the engine writes it.
    pub started_at: String,
    /// As in `unless-stopped`.
    pub restart_policy: String,
    /// Its image, as it was named when it was made.
    pub image: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// A running `dockerd`. Ends, with everything it started, when dropped.
pub struct LabEngine {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    bridge: Bridge,
}

impl LabEngine {
    /// Starts an engine and waits until it answers.
    ///
    /// # Panics
    /// If it cannot be started: a test without its engine proves nothing.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("shef-lab-").tempdir().expect("a temporary directory");
        let mut engine = Self { directory, daemon: None, bridge: Bridge::new() };
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
        // setpriv makes the kernel end the daemon, and it its containers, when the test's thread ends without cleaning up.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "dockerd"])
            .args(["--bridge", self.bridge.name(), "--iptables=false", "--ip-masq=false", "--ip-forward=false"])
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("-H")
            .arg(self.url())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts: install docker.io and run as root");
        self.daemon = Some(daemon);
        let answers = async {
            loop {
                if let Ok(client) = Docker::connect_with_unix(&self.url(), 60, API_DEFAULT_VERSION)
                    && client.ping().await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answered = tokio::time::timeout(START_LIMIT, answers).await.is_ok();
        assert!(answered, "dockerd does not answer: {}", fs::read_to_string(at("log")).unwrap_or_default());
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The engine's address, as `unix:///…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.path().join("s").display())
    }

    /// A client of the engine.
    ///
    /// # Panics
    /// If the engine's socket is gone.
    #[must_use]
    pub fn client(&self) -> Docker {
        Docker::connect_with_unix(&self.url(), 120, API_DEFAULT_VERSION).expect("the engine's socket")
    }

    /// Gives the engine the image [`BUSYBOX`]: one static binary and its applets as
    /// links. Without a command of its own a container runs [`OBEDIENT`].
    ///
    /// # Panics
    /// If the engine does not take it.
    pub async fn import_busybox(&self) {
        let command = serde_json::json!(["/bin/sh", "-c", OBEDIENT]);
        self.import(BUSYBOX, &busybox_tar(), vec![format!("CMD {command}")]).await;
    }

    /// Gives the engine an image made of one tar and of Dockerfile instructions.
    ///
    /// # Panics
    /// If the engine does not take it.
    pub async fn import(&self, name: &str, tar: &[u8], changes: Vec<String>) {
        let (repo, tag) = name.rsplit_once(':').expect("a tag");
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            changes,
            ..Default::default()
        };
        let body = bollard::body_full(tar.to_vec().into());
        let done: Result<Vec<_>, _> = self.client().create_image(Some(options), Some(body), None).try_collect().await;
        done.expect("the image is taken");
    }

    /// Every container of ours, whatever its cluster, by name; none of an engine that has crashed.
    pub async fn managed(&self) -> BTreeMap<String, Seen> {
        let mut all = self.all().await;
        all.retain(|_, seen| seen.labels.contains_key(shef_common::labels::MANAGED));
        all
    }

    /// Every container, by name; none of an engine that has crashed.
    ///
    /// # Panics
    /// If the engine does not tell.
    pub async fn all(&self) -> BTreeMap<String, Seen> {
        if self.daemon.is_none() {
            return BTreeMap::new();
        }
        let docker = self.client();
        let options = ListContainersOptions { all: true, ..Default::default() };
        let list = docker.list_containers(Some(options)).await.expect("the engine's list");
        let ids = list.into_iter().filter_map(|summary| summary.id);
        // One that has gone since the list was made is not there.
        join_all(ids.map(|id| inspect(&docker, id))).await.into_iter().flatten().collect()
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
            if command_line(pid).is_some_and(|line| line.contains("containerd") && !line.contains("containerd-shim")) {
                signal(pid, "KILL");
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
        signal(daemon.id(), "TERM");
        assert!(ends(&mut daemon), "dockerd does not end");
    }

    fn clean_up(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let url = self.url();
            // Containers first: what a daemon leaves behind is harder to find.
            let _ = Command::new("sh")
                .arg("-c")
                .arg("ids=$(docker -H \"$0\" ps -aq) && [ -n \"$ids\" ] && docker -H \"$0\" rm -fv $ids")
                .arg(&url)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            signal(daemon.id(), "TERM");
            if !ends(&mut daemon) {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
        // What a hard kill left: shims, the containers' processes below them, containerd.
        for pid in processes_naming(self.path()) {
            for child in children_of(pid) {
                signal(child, "KILL");
            }
            signal(pid, "KILL");
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.path().display().to_string();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|target| target.starts_with(&root));
        for target in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").args(["-l", target]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for LabEngine {
    fn drop(&mut self) {
        self.clean_up();
    }
}

async fn inspect(docker: &Docker, id: String) -> Option<(String, Seen)> {
    let found = docker.inspect_container(&id, None).await.ok()?;
    let (state, config) = (found.state?, found.config?);
    let seen = Seen {
        id,
        state: state.status?.to_string(),
        started_at: state.started_at?,
        restart_policy: found.host_config?.restart_policy?.name?.to_string(),
        image: config.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
    };
    Some((found.name?.trim_start_matches('/').to_owned(), seen))
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
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

fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn processes_naming(directory: &Path) -> Vec<u32> {
    let needle = directory.display().to_string();
    let own = std::process::id();
    all_processes().filter(|&pid| pid != own && command_line(pid).is_some_and(|line| line.contains(&needle))).collect()
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the command's name in brackets: state, parent.
        let after = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        after.split(' ').nth(1).and_then(|text| text.parse().ok()) == Some(parent)
    };
    all_processes().filter(is_child).collect()
}

/// A root file system of busybox alone.
fn busybox_tar() -> Vec<u8> {
    let binary = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let binary = fs::read(binary.expect("busybox: install busybox-static")).expect("busybox can be read");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(binary.len() as u64);
    tar.append_data(&mut header, "bin/busybox", binary.as_slice()).expect("a tar in memory");
    for applet in ["sh", "sleep", "true", "false", "echo", "kill", "httpd"] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox").expect("a tar in memory");
    }
    let mut bytes = tar.into_inner().expect("a tar in memory");
    bytes.flush().expect("memory");
    bytes
}
