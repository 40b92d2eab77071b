//! A reader of the documentation, who types every command of a page on hosts of a
//! lab: one shell a host, in which variables and functions stay.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    super::{
        page::{blocks, fits},
        shef::binary,
    },
    host::Host,
};

/// How long the commands of one block may take on a machine that is busy with other things.
const BLOCK_LIMIT: Duration = Duration::from_secs(180);
/// Where the pages say that the engine listens.
const USUAL_SOCKET: &str = "/var/run/docker.sock:";
/// Directories of its own in place of `/var/lib` and `/run/shef`, which `shef up` writes to, and then a shell
/// that notes failures.
const START: &str = "mkdir -p /run/shef && mount -t tmpfs page /run/shef && mount -t tmpfs page /var/lib && \
                     exec bash --norc --noprofile";
const NOTE_FAILURES: &str = "set -E; trap 'failed=$?' ERR; failed=0\n";

/// A reader at the hosts of a lab.
pub struct Reader<'a> {
    hosts: &'a [Host],
    shells: Vec<Option<Shell>>,
}

impl<'a> Reader<'a> {
    /// One who has typed nothing yet.
    #[must_use]
    pub fn new(hosts: &'a [Host]) -> Self {
        Self { hosts, shells: hosts.iter().map(|_| None).collect() }
    }

    /// Types commands on host 1 before any page is read.
    ///
    /// # Panics
    /// One of them fails.
    pub async fn prepare(&mut self, commands: &str) {
        let (failed, printed) = self.shell(1).run(commands).await;
        assert_eq!(failed, "0", "{commands}: {printed}");
    }

    /// Types the commands of the page `path` (from the checkout's root), and compares what is printed with
    /// what the page shows. `replacing` has texts of the page and what stands for them here: addresses,
    /// image names.
    ///
    /// # Panics
    /// A command ends otherwise than the page says, the output is another, or the page does not have a text
    /// to replace.
    pub async fn read(&mut self, path: &str, replacing: &[(&str, &str)]) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let mut page = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        for (text, here) in replacing {
            assert!(page.contains(text), "{path} does not say {text:?} any more");
            page = page.replace(text, here);
        }
        let mut differences = Vec::new();
        for block in blocks(&page).unwrap_or_else(|error| panic!("{path}: {error}")) {
            let (failed, printed) = self.shell(block.host).run(&block.commands).await;
            let printed = without_warnings(&printed);
            let found = format!("{path}, line {}:\n{}\n--- prints\n{printed}", block.line, block.commands);
            println!("{found}");
            assert_eq!(failed != "0", block.fails, "{found}--- ends with {failed}");
            if let Some(shown) = block.output.filter(|shown| !fits(shown, &printed)) {
                differences.push(format!("{found}--- instead of\n{shown}\n"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    fn shell(&mut self, host: usize) -> &mut Shell {
        self.shells[host - 1].get_or_insert_with(|| Shell::open(&self.hosts[host - 1]))
    }
}

/// What is printed, without what is said of a cluster that is as open as the lab's are where a test needs
/// that, and as no reader's is.
fn without_warnings(printed: &str) -> String {
    let is_warning =
        |line: &&str| line.starts_with("==> insecure = true: ") || line.starts_with("==> tls = off: ");
    printed.split_inclusive('\n').filter(|line| !is_warning(line)).collect()
}

/// A shell on a host, in an empty directory.
struct Shell {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    directory: TempDir,
    /// Where secrets and configs lie: in memory, as on hosts of which `/run` is.
    _memory: TempDir,
    socket: String,
}

impl Shell {
    fn open(host: &Host) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let home = directory.path().join("home");
        fs::create_dir(&home).expect("a directory");
        let url = host.socket().url().to_owned();
        let programs = binary().parent().expect("the directory of shef").display().to_string();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command.arg(format!("--net={}", host.namespace.path().display()));
        command.args(["--", "unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", START]);
        command.env_clear().env("PATH", format!("{programs}:{}", host.release.path()));
        command.env("HOME", &home).env("LANG", "C.UTF-8").env("DOCKER_HOST", &url).current_dir(&home);
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        command.env("SHEF_AGENT_SECRETS_DIR", memory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("a shell");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output")).lines();
        let socket = url.trim_start_matches("unix://").to_owned();
        Self { _process: process, input, output, directory, _memory: memory, socket }
    }

    /// Runs commands: how the last one that failed ended, and what all of them printed.
    async fn run(&mut self, commands: &str) -> (String, String) {
        let [script, printed] = ["script", "printed"].map(|name| self.directory.path().join(name));
        let script_text = commands.replace(USUAL_SOCKET, &format!("{}:", self.socket));
        fs::write(&script, script_text).expect("a script");
        let line = format!(
            "{NOTE_FAILURES}. {} </dev/null >{} 2>&1; echo \"$failed\"\n",
            script.display(),
            printed.display()
        );
        self.input.write_all(line.as_bytes()).await.expect("the shell reads");
        let failed = tokio::time::timeout(BLOCK_LIMIT, self.output.next_line()).await;
        let text = String::from_utf8_lossy(&fs::read(&printed).unwrap_or_default()).into_owned();
        let failed = failed.unwrap_or_else(|_| panic!("{commands} do not end:\n{text}"));
        (failed.expect("the shell's output").expect("the shell runs"), text)
    }
}
