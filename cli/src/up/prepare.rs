//! Finds out what [`super::plan`] decides on, and carries out what it decided.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufRead as _, IsTerminal as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use shef_common::{docker::DockerTls, files};

use super::plan::{Plan, Rights, Situation, Step, plan};
use crate::{
    Failure,
    engine::{Candidate, DEFAULT_URL, Probe, candidates, probe},
    layers::quoted,
    say,
    tail::tail,
};

/// How long a started engine may take until its socket takes connections.
const WAIT_LIMIT: Duration = Duration::from_mins(1);
/// How often it is tried.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// What `dockerd` writes when it gives up.
const GAVE_UP: &str = "failed to start daemon";
/// Where programs of the system lie that a user's PATH may leave out.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The log of an engine that `shef up` has started, in the data directory.
const ENGINE_LOG: &str = "dockerd.log";
/// The process of the engine at the usual socket.
const ENGINE_PID: &str = "/var/run/docker.pid";

/// The log of the engine at `url`, if it is one that a `shef up` over this directory has started, and that
/// runs.
pub(crate) fn own_engines_log(url: &str, data_dir: &Path) -> Option<PathBuf> {
    let pid: u32 = fs::read_to_string(ENGINE_PID).ok().filter(|_| url == DEFAULT_URL)?.trim().parse().ok()?;
    let log = data_dir.join(ENGINE_LOG).canonicalize().ok()?;
    is_output_of(pid, &log).then_some(log)
}

/// Whether a process writes to this file. Only who may look into the process learns that it does.
fn is_output_of(pid: u32, file: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|output| output == file)
}

/// Brings about an engine that answers, and tells which.
pub(super) async fn engine(
    configured: Option<(&str, String)>,
    tls: &DockerTls,
    env: &BTreeMap<String, String>,
    data_dir: &Path,
    yes: bool,
) -> Result<Candidate, Failure> {
    let mut engines = Vec::new();
    for candidate in candidates(configured, env) {
        let said = probe(&candidate.url, tls).await;
        if let Probe::Answers { version, api } = &said {
            say::step(format_args!(
                "Docker {version} (API {}.{}) answers at {}",
                api.0, api.1, candidate.url
            ));
            engines.push((candidate, said));
            break;
        }
        engines.push((candidate, said));
    }
    match plan(&situation(engines, env)) {
        Plan::Use(candidate) => Ok(candidate),
        Plan::Refuse(why) => Err(Failure(why)),
        Plan::Prepare(why, steps) => {
            say::step(why);
            agree(&steps, yes)?;
            let log = data_dir.join(ENGINE_LOG);
            for step in &steps {
                carry_out(step, &log).await?;
            }
            let candidate =
                Candidate { url: DEFAULT_URL.into(), named_by: "just started".into(), wanted: true };
            match probe(&candidate.url, tls).await {
                Probe::Answers { version, .. } => {
                    say::step(format_args!("Docker {version} answers at {}", candidate.url));
                    Ok(candidate)
                }
                Probe::Silent(why) => {
                    Err(Failure(format!("the Docker engine was started, but does not answer: {why}")))
                }
                Probe::Denied => Err(Failure(format!(
                    "the Docker engine runs, but {} is not for this user",
                    candidate.url
                ))),
            }
        }
    }
}

fn situation(engines: Vec<(Candidate, Probe)>, env: &BTreeMap<String, String>) -> Situation {
    let user = env
        .get("USER")
        .or_else(|| env.get("LOGNAME"))
        .cloned()
        .unwrap_or_else(|| rustix::process::geteuid().as_raw().to_string());
    let rights = match () {
        () if rustix::process::geteuid().is_root() => Rights::Root,
        () if find("sudo", env).is_some() => Rights::Sudo,
        () => Rights::User,
    };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Situation {
        engines,
        os_release: fs::read_to_string("/etc/os-release").unwrap_or_default(),
        rights,
        dockerd: find("dockerd", env).is_some(),
        systemd: Path::new("/run/systemd/system").is_dir(),
        in_docker_group: is_member(&groups, "docker", &user),
        user,
    }
}

/// Whether `/etc/group` lists `user` in `group`.
fn is_member(groups: &str, group: &str, user: &str) -> bool {
    let line = groups.lines().find(|line| line.split(':').next() == Some(group));
    let members = line.and_then(|line| line.split(':').nth(3)).unwrap_or_default();
    members.split(',').any(|member| member == user)
}

fn find(program: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let dirs = path.split(':').chain(SYSTEM_DIRS).filter(|dir| !dir.is_empty());
    dirs.map(|dir| Path::new(dir).join(program)).find(|file| file.is_file())
}

/// Shows the commands to be run, and asks for consent at a terminal.
fn agree(steps: &[Step], yes: bool) -> Result<(), Failure> {
    say::step("these commands change that:");
    for step in steps {
        match step {
            Step::Run { why, command } => say::line(format_args!("      {}    # {why}", command.join(" "))),
            Step::StartDaemon { command } => {
                say::line(format_args!("      {}    # start the Docker engine", command.join(" ")));
            }
            Step::Wait => {}
            Step::StartAgainInGroup => {
                say::line("      sg docker -c ...    # this command again, as a member of the group docker");
            }
        }
    }
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "nothing was changed, as there is no terminal to ask at: say --yes to have this run, or start a \
             Docker engine, or name one by --docker-host",
        ));
    }
    print!("    Go on? [Y/n] ");
    _ = std::io::stdout().flush();
    let mut answer = String::new();
    _ = std::io::stdin().lock().read_line(&mut answer);
    let agreed = matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") && !answer.is_empty();
    if agreed {
        Ok(())
    } else {
        Err(Failure::new("nothing was changed; start a Docker engine, or name one by --docker-host"))
    }
}

async fn carry_out(step: &Step, log: &Path) -> Result<(), Failure> {
    match step {
        Step::Run { why, command } => {
            say::step(format_args!("{why}: {}", command.join(" ")));
            let status = program(command).stdin(Stdio::inherit()).status();
            let status =
                status.map_err(|error| Failure::because(format!("cannot run {}", command[0]), &error))?;
            if !status.success() {
                return Err(Failure(format!(
                    "`{}` failed ({status}): see its words above",
                    command.join(" ")
                )));
            }
            Ok(())
        }
        Step::StartDaemon { command } => start_daemon(command, log),
        Step::Wait => wait(log).await,
        Step::StartAgainInGroup => Err(start_again_in_group()),
    }
}

fn program(command: &[String]) -> Command {
    let mut program = Command::new(&command[0]);
    let path = std::env::var("PATH").unwrap_or_default();
    program.args(&command[1..]).env("PATH", format!("{path}:{}", SYSTEM_DIRS.join(":")));
    program
}

fn start_daemon(command: &[String], log: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::because(format!("cannot write {}", log.display()), &error);
    _ = fs::rename(log, log.with_extension("log.1"));
    let file = files::open(log, OpenOptions::new().create(true).append(true)).map_err(failed)?;
    let copy = file.try_clone().map_err(failed)?;
    say::step(format_args!(
        "start the Docker engine: {} (log: {}, pid: /var/run/docker.pid)",
        command.join(" "),
        log.display()
    ));
    let status = program(command).stdin(Stdio::null()).stdout(file).stderr(copy).status();
    let status = status.map_err(|error| Failure::because(format!("cannot run {}", command[0]), &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure(format!("`{}` failed ({status})\n{}", command.join(" "), tail(log, 10))))
    }
}

async fn wait(log: &Path) -> Result<(), Failure> {
    let socket = DEFAULT_URL.trim_start_matches("unix://");
    let try_until_it_connects = async {
        loop {
            match UnixStream::connect(socket) {
                Ok(_) => return true,
                // It is up, though not for this user: joining its group comes next.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return true,
                Err(_) if tail(log, 10).contains(GAVE_UP) => return false,
                Err(_) => tokio::time::sleep(TRY_EVERY).await,
            }
        }
    };
    match tokio::time::timeout(WAIT_LIMIT, try_until_it_connects).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure(format!(
            "the Docker engine gave up; the end of its log, {}:\n{}",
            log.display(),
            tail(log, 10)
        ))),
        Err(_) => {
            let waited = WAIT_LIMIT.as_secs();
            Err(Failure(format!(
                "no Docker engine within {waited} s; the end of its log, {}:\n{}",
                log.display(),
                tail(log, 20)
            )))
        }
    }
}

/// Replaces this process by the same command in the group `docker`; comes back only on failure.
fn start_again_in_group() -> Failure {
    let words = std::env::current_exe()
        .map(|exe| exe.to_string_lossy().into_owned())
        .into_iter()
        .chain(std::env::args().skip(1));
    let line = words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ");
    if std::env::var_os(AGAIN).is_some() {
        return Failure::new("this user is in the group docker, but the engine does not let it in");
    }
    say::step(format_args!("going on as a member of the group docker: {line}"));
    let error = Command::new("sg").args(["docker", "-c", &line]).env(AGAIN, "1").exec();
    Failure::because("cannot start again through `sg docker`: log in again, and start shef again", &error)
}

/// Set in the environment of a process that was started again, so that it happens once.
const AGAIN: &str = "_SHEF_STARTED_AGAIN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        let word = "a 'b' $c \\ \"d\"\n";
        let output =
            Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }

    #[test]
    fn members_of_a_group_are_found() {
        let groups = "adm:x:4:ann,bob\ndocker:x:101:bob,eve\n";
        assert!(
            is_member(groups, "docker", "bob")
                && !is_member(groups, "docker", "ann")
                && !is_member(groups, "none", "bob")
        );
    }

    #[test]
    fn an_engine_is_shefs_own_if_it_writes_to_the_log_of_this_directory() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().canonicalize().unwrap().join(ENGINE_LOG);
        assert_eq!(own_engines_log("tcp://127.0.0.1:1", dir.path()), None);
        let file = fs::File::create(&log).unwrap();
        let mut engine = Command::new("sleep").arg("60").stdout(file).spawn().unwrap();
        assert!(is_output_of(engine.id(), &log));
        assert!(!is_output_of(std::process::id(), &log), "one that was started otherwise");
        engine.kill().unwrap();
        engine.wait().unwrap();
    }

    #[test]
    fn nothing_is_run_unasked() {
        // Tests have no terminal.
        let said = agree(&[Step::Wait], false).unwrap_err().0;
        assert!(said.starts_with("nothing was changed") && said.contains("say --yes"), "{said}");
        assert!(agree(&[Step::Wait], true).is_ok());
    }

    #[actix_rt::test]
    async fn a_program_that_fails_is_told_with_its_command() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("d.log");
        let failing = Step::Run { why: "try".into(), command: vec!["false".into()] };
        assert!(carry_out(&failing, &log).await.unwrap_err().0.contains("`false` failed"));
        let daemon =
            Step::StartDaemon { command: ["sh", "-c", "echo no room; exit 3"].map(str::to_owned).to_vec() };
        assert!(carry_out(&daemon, &log).await.unwrap_err().0.contains("no room"));
    }
}
