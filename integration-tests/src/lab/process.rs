//! A program that a test starts: its output in a file, its end with the test's.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::until_within;

/// How much of the end of a log is shown when a test fails, in bytes.
const SHOWN_BYTES: usize = 6_000;
/// Ports below those that the kernel gives away, and above those that programs are known by.
const BELOW_EPHEMERAL: std::ops::Range<u16> = 20_000..32_000;

/// One program. It can be started, ended and started again with the same words.
/// Whatever way the test ends, the system ends it too.
pub struct Process {
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    namespace: Option<PathBuf>,
    open_files: Option<(u64, u64)>,
    child: Option<Child>,
}

impl Process {
    /// `program` with `arguments`, which writes what it says to the file `log`. Not started yet.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
        log: PathBuf,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self {
            program: program.into(),
            arguments,
            variables: Vec::new(),
            log,
            namespace: None,
            open_files: None,
            child: None,
        }
    }

    /// Sets an environment variable; besides these there is only `PATH`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    /// Sets an environment variable for its next start.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_string()));
    }

    /// Starts it in the network namespace with this path (as in `/run/netns/NAME`).
    /// Of nothing else it has one of its own: with a private view of /sys an engine finds no cgroups.
    #[must_use]
    pub fn inside(mut self, namespace: impl Into<PathBuf>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Starts it with these limits on open files, the soft and the hard one.
    pub const fn limit_open_files(&mut self, soft: u64, hard: u64) {
        self.open_files = Some((soft, hard));
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.program.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        // setpriv makes the kernel end the program when the test's thread ends without cleaning up.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(namespace) = &self.namespace {
            // Both replace themselves by the program, which keeps the process's id.
            command.arg("nsenter").arg(format!("--net={}", namespace.display())).arg("--");
        }
        if let Some((soft, hard)) = self.open_files {
            command.arg("prlimit").arg(format!("--nofile={soft}:{hard}")).arg("--");
        }
        let child = command
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        self.child = Some(
            child.unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.program.display())),
        );
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// The id of its process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running program").id()
    }

    /// Ends it as a crash would, and waits until it is gone.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running program");
        child.kill().expect("the program can be killed");
        child.wait().expect("the program ends");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it has not ended within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("a running program");
        let status =
            until_within(limit, "the program ends", async || child.try_wait().expect("its status")).await;
        self.child = None;
        status
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Everything it has said, over all its runs.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already gone is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the end of {}\n{}", self.log.display(), end_of(&self.log));
        }
    }
}

fn end_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN_BYTES)..]).into_owned()
}

/// A port of the loopback that is free now, and that this process has given to nobody else. It is none that
/// the kernel gives away, to clients or for port 0: one of those may be somebody's before it is bound.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut drawn = std::iter::repeat_with(|| fastrand::u16(BELOW_EPHEMERAL)).take(1_000);
    drawn.find(|port| is_free(port) && given.insert(*port)).expect("a free port")
}
