//! Looking into replicas on real engines: logs, statistics and commands, through the command line.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use rustix::{
    process::{Pid, Signal, kill_process_group},
    termios::LocalModes,
};
use serde_json::{Value, json};
use shef_integration_tests::lab::{
    engine::BUSYBOX,
    shef::{HostLab, binary},
    wait::until,
};

use tempfile::TempDir;

use crate::terminal::{Terminal, shef, text};

#[actix::test]
async fn logs_statistics_and_commands_reach_replicas_on_real_engines() {
    let site = HostLab::start(2, &[]).await;
    let script = "echo out; echo err >&2; i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done";
    let spec = json!({ "image": BUSYBOX, "command": ["sh", "-c", script], "replicas": 2, "stop_grace_s": 1 });
    site.master.deploy("web", spec).await;

    // Logs: both outputs, both hosts, in the order of time, and with an end.
    let lines = until("both have written for a while", async || {
        let said = shef(&site, &["logs", "--json", "web"], "").await;
        let lines: Vec<Value> =
            text(&said.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.iter().filter(|line| line["line"] == "tick 5").count() == 2).then_some(lines)
    })
    .await;
    // What a container writes to its two outputs the engine itself may keep in another order.
    let times =
        lines.iter().filter(|line| line["stream"] == "stdout").map(|line| line["time"].as_str().unwrap());
    assert!(times.is_sorted(), "{lines:?}");
    for (stream, line) in [("stdout", "out"), ("stderr", "err")] {
        assert_eq!(
            lines.iter().filter(|l| l["line"] == line && l["stream"] == stream).count(),
            2,
            "{lines:?}"
        );
    }
    let since = lines.iter().rfind(|line| line["line"] == "tick 3").unwrap()["time"].as_str().unwrap();
    let later = shef(&site, &["logs", "--json", "--since", since, "web"], "").await;
    let first: Value = serde_json::from_str(text(&later.stdout).lines().next().unwrap()).unwrap();
    assert!(first["time"].as_str().unwrap() >= since, "{first}");
    let id = lines[0]["replica"].as_str().unwrap();
    let last = shef(&site, &["logs", "-n", "1", &format!("web/{id}")], "").await;
    assert!(
        text(&last.stdout).starts_with(&format!("{id} | tick ")) && text(&last.stdout).lines().count() == 1,
        "{last:?}"
    );

    // Statistics.
    let stats = site.master.api.get("/v1/services/web/stats").await.body;
    assert_eq!((stats["replicas"].as_array().unwrap().len(), &stats["missing"]), (2, &json!([])), "{stats}");
    for field in ["memory_bytes", "memory_limit_bytes", "pids"] {
        assert!(
            stats["replicas"].as_array().unwrap().iter().all(|replica| replica[field].as_u64().unwrap() > 0),
            "{field}: {stats}"
        );
    }

    // Commands: input with its end, both outputs, the code, a terminal, and what cannot be run.
    let cat = shef(
        &site,
        &["exec", "-w", "/bin", "web", "--", "sh", "-c", "cat; pwd; echo bad >&2; exit 7"],
        "typed\n",
    )
    .await;
    assert_eq!(
        (text(&cat.stdout), text(&cat.stderr), cat.status.code()),
        ("typed\n/bin\n".to_owned(), "bad\n".to_owned(), Some(7))
    );
    // A command that ends while input still flows, by a pipe that is never empty.
    for attempt in 0..5 {
        let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let mut exec = Command::new(binary());
        exec.args(["exec", "--api", &site.master.api.url, "web", "--", "sh", "-c", "exit 7"])
            .stdin(yes.stdout.take().unwrap());
        let exec = tokio::task::spawn_blocking(move || exec.output().unwrap()).await.unwrap();
        yes.wait().unwrap();
        assert_eq!(exec.status.code(), Some(7), "attempt {attempt}: {exec:?}");
    }
    let tty =
        shef(&site, &["exec", "-t", &format!("web/{id}"), "--", "sh", "-c", "test -t 0 && test -t 1"], "")
            .await;
    assert!(tty.status.success(), "{tty:?}");
    // The end of the input is no end of what a terminal shows.
    let tty =
        shef(&site, &["exec", "-t", "web", "--", "sh", "-c", "cat; sleep 1; echo tty; exit 4"], "").await;
    assert_eq!((text(&tty.stdout).as_str(), tty.status.code()), ("tty\r\n", Some(4)), "{tty:?}");
    // Variables, a command that is left to itself, and one of more than 4 KiB.
    let env = shef(
        &site,
        &["exec", "-it", "-e", "A=b c", "-e", "NOT_SET_HERE", "web", "--", "sh", "-c", "echo $A"],
        "",
    );
    assert_eq!(text(&env.await.stdout).trim(), "b c");
    let target = format!("web/{id}");
    let begun =
        shef(&site, &["exec", "-d", &target, "--", "sh", "-c", "echo done > /made; sleep 1000"], "").await;
    assert!(begun.status.success() && begun.stdout.is_empty(), "{begun:?}");
    let look = "until grep done /made 2>/dev/null; do sleep 0.1; done";
    assert_eq!(text(&shef(&site, &["exec", &target, "--", "sh", "-c", look], "").await.stdout), "done\n");
    let long = "x".repeat(16_000);
    let counted = shef(&site, &["exec", "web", "--", "sh", "-c", "echo ${#1}", "sh", &long], "").await;
    assert_eq!(text(&counted.stdout), "16000\n", "{counted:?}");
    let longer = shef(&site, &["exec", "web", "--", "echo", &long, &long], "").await;
    assert!(text(&longer.stderr).contains("16384 bytes together"), "{longer:?}");
    let none = shef(&site, &["exec", "web", "--", "/no/such/program"], "").await;
    assert!(!none.status.success() && !none.stderr.is_empty() | !none.stdout.is_empty(), "{none:?}");
    let unknown = shef(&site, &["exec", "none", "--", "true"], "").await;
    assert!(text(&unknown.stderr).contains("there is no service none"), "{unknown:?}");
}

#[actix::test]
async fn long_lines_are_whole_and_a_tail_counts_lines_on_real_engines() {
    let site = HostLab::start(1, &[]).await;
    // More than two of the parts that an engine keeps.
    let script = "echo first; head -c 40000 /dev/zero | tr '\\0' x; echo; echo last; sleep 1000";
    for (name, tty) in [("pipe", false), ("terminal", true)] {
        let spec =
            json!({ "image": BUSYBOX, "command": ["sh", "-c", script], "tty": tty, "stop_grace_s": 0 });
        site.master.deploy(name, spec).await;
        let lines = until("all is written", async || {
            let said = shef(&site, &["logs", "--json", "-n", "2", name], "").await;
            let lines: Vec<Value> =
                text(&said.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (lines.last()?["line"] == "last").then_some(lines)
        })
        .await;
        assert_eq!((lines.len(), &lines[0]["line"]), (2, &json!("x".repeat(40_000))), "{name}");
    }
    let silent = json!({ "image": BUSYBOX, "command": ["sleep", "1000"], "logging": { "driver": "none" },
        "stop_grace_s": 0 });
    site.master.deploy("silent", silent).await;
    let said = shef(&site, &["logs", "silent"], "").await;
    assert_eq!(text(&said.stdout).matches("is missing here").count(), 1, "{said:?}");
}

#[actix::test]
async fn what_is_followed_goes_on_where_it_was_when_the_master_was_away() {
    let mut site = HostLab::start(1, &[]).await;
    let script = "i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.1; done";
    site.master
        .deploy("web", json!({ "image": BUSYBOX, "command": ["sh", "-c", script], "stop_grace_s": 0 }))
        .await;
    let api = &site.master.api.url.clone();
    let (mut logs, events) = (Followed::of(&["logs", "-f", "web"], api), Followed::of(&["events"], api));
    logs.shows("tick 5").await;
    site.master.process.kill();
    logs.says("asking again").await;
    events.says("asking again").await;
    site.master.start().await;
    logs.says("it answers again").await;
    events.says("it answers again").await;
    let seen = logs.ticks().len();
    until("it goes on", async || (logs.ticks().len() > seen + 5).then_some(())).await;
    let ticks = logs.ticks();
    assert_eq!(ticks, (1..=ticks.len() as u64).collect::<Vec<_>>(), "each line once, and none left out");
    site.master
        .deploy("other", json!({ "image": BUSYBOX, "command": ["sleep", "1000"], "stop_grace_s": 0 }))
        .await;
    events.shows("service_created service=other").await;
    // The end of what is followed is its end.
    site.master.api.raw("DELETE", "/v1/services/web?wait=30s", &[], vec![]).await;
    let child = &mut logs.child;
    let ended = until("it ends", async || child.try_wait().unwrap()).await;
    assert_eq!(ended.code(), Some(0));
}

/// A command that goes on, and what it has written so far, in files.
struct Followed {
    child: Child,
    written: TempDir,
}

impl Followed {
    fn of(words: &[&str], api: &str) -> Self {
        let written = tempfile::tempdir().unwrap();
        let file = |name| Stdio::from(File::create(written.path().join(name)).unwrap());
        let mut shef = Command::new(binary());
        shef.arg(words[0]).args(["--api", api]).args(&words[1..]).stdout(file("out")).stderr(file("err"));
        let child = shef.spawn().unwrap();
        Self { child, written }
    }

    fn read(&self, file: &str) -> String {
        text(&std::fs::read(self.written.path().join(file)).unwrap())
    }

    async fn shows(&self, words: &str) {
        until(&format!("it shows {words:?}"), async || self.read("out").contains(words).then_some(())).await;
    }

    async fn says(&self, words: &str) {
        until(&format!("it says {words:?}"), async || self.read("err").contains(words).then_some(())).await;
    }

    fn ticks(&self) -> Vec<u64> {
        let out = self.read("out");
        let whole = out.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| line.rsplit_once("tick ")?.1.parse().ok()).collect()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[actix::test]
async fn a_command_gets_every_key_and_leaves_the_terminal_as_it_was() {
    let site = HostLab::start(1, &[]).await;
    site.master.deploy("web", json!({ "image": BUSYBOX, "stop_grace_s": 0 })).await;
    let open = || Terminal::open(&site, &["exec", "-t", "web", "--", "/bin/sh"], (33, 101));
    let keys_of_a_line = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;

    let mut terminal = open();
    let before = terminal.mode();
    assert!(before.contains(keys_of_a_line));
    // What is typed before the shell is there is not lost, and its size is known from the start.
    terminal.keys("busybox stty size; echo so=$((6*7))\n");
    terminal.shows("33 101").await;
    terminal.shows("so=42").await;
    assert!(!terminal.mode().intersects(keys_of_a_line), "every key is for the command");
    terminal.resize((40, 120));
    terminal.keys("until busybox stty size | busybox grep '40 120'; do :; done; echo sized=$((1+1))\n");
    terminal.shows("sized=2").await;
    // ^C ends what runs inside, and neither the shell nor shef.
    terminal.keys("echo begins=$((2+3)); busybox sleep 1000\n");
    terminal.shows("begins=5").await;
    terminal.keys("\x03");
    terminal.keys("echo code=$?\n");
    terminal.shows("code=130").await;
    terminal.keys("exit 5\n");
    assert_eq!((terminal.ends().await, terminal.mode()), (Some(5), before));

    // Also when shef is told to end while the command runs.
    let mut killed = open();
    killed.keys("echo so=$((6*7))\n");
    killed.shows("so=42").await;
    assert_ne!(killed.mode(), before);
    kill_process_group(Pid::from_child(&killed.child), Signal::TERM).unwrap();
    killed.shows("SIGTERM: the command is ended").await;
    assert_eq!((killed.ends().await, killed.mode()), (Some(1), before));
}
