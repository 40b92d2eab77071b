//! `shef bootstrap --prepare`: answers a [`Question`] from within the host's own
//! network, and lays passwords and directories into our volumes. It runs in a
//! short-lived container with the master's variables.

use std::{
    fs,
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use serde::Deserialize;
use shef_common::{files, store::RedisFacts};

use crate::{
    belongs::Belongs,
    preflight::{Findings, Question},
    system::{
        AGENT_DIR, GIVEN_PASSWORD_FILE, MASTER_DIR, MASTER_USER, PASSWORD_FILE, REDIS_CONF_FILE, SECRETS_DIR,
    },
};

/// Redis, the master and the agent run as different users; the directory is closed to all others.
const OPEN_MODE: u32 = 0o444;

/// The variable that carries the [`Question`] as JSON.
pub const QUESTION_ENV: &str = "PREPARE_QUESTION";
/// The file in the helper's root directory with the password of a Redis that is not ours: everyone who may
/// inspect a container can read its variables.
pub const GIVEN_PASSWORD: &str = "shef-prepare-redis-password";
/// The file in the helper's root directory with the token by which the host joins.
pub const GIVEN_TOKEN: &str = "shef-prepare-join-token";
/// Where the agent looks for it, in its directory.
const TOKEN_FILE: &str = "join-token";
/// In the master's directory: the cluster that its store is to become, if that is empty.
const CLUSTER_FILE: &str = "cluster";
/// The agent's ledger, in its directory.
pub const LEDGER_FILE: &str = "agent-ledger.json";
/// Beside the ledger: the masters that the agent was started for, a line each.
const MASTERS_FILE: &str = "bootstrap-masters";
/// The most addresses of a host that are told.
const MAX_ADDRESSES: usize = 1_024;
/// The most bytes of a ledger that are read.
const MAX_LEDGER_BYTES: u64 = 256 << 20;

/// Why the host cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Somebody typed the command.
    #[error("this is run by `shef bootstrap` itself, not by people")]
    NoQuestion,
    /// The variable is no question.
    #[error("{QUESTION_ENV}: {0}")]
    Question(#[from] serde_json::Error),
    /// A file or directory of a volume.
    #[error("cannot {deed}: {source}")]
    Volume {
        /// What was to be done.
        deed: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes the system's error one that says what was to be done.
fn cannot(deed: &'static str) -> impl Fn(io::Error) -> PrepareError {
    move |source| PrepareError::Volume { deed, source }
}

/// Answers the question in the environment. `look_at_redis` looks at the Redis that the master's variables
/// name: what it is like, and in which format it holds a store.
///
/// # Errors
/// [`PrepareError`] when the question cannot be read or the volumes cannot be written.
pub async fn answer<E: ToString>(
    look_at_redis: impl AsyncFnOnce() -> Result<(RedisFacts, Option<u32>), E>,
) -> Result<Findings, PrepareError> {
    let text = std::env::var(QUESTION_ENV).map_err(|_| PrepareError::NoQuestion)?;
    let question: Question = serde_json::from_str(&text)?;
    if question.makes_secrets {
        let password = given(GIVEN_PASSWORD).map_err(cannot("read the password of the given Redis"))?;
        make_secrets(Path::new(SECRETS_DIR), password.as_deref()).map_err(cannot("write the passwords"))?;
        give_away(Path::new(MASTER_DIR)).map_err(cannot("make the master's directory"))?;
    }
    let agent = Path::new(AGENT_DIR);
    if let Some(token) = given(GIVEN_TOKEN).map_err(cannot("read the join token"))? {
        files::replace(&agent.join(TOKEN_FILE), files::PRIVATE, token.as_bytes())
            .map_err(cannot("lay down the join token"))?;
    }
    let belongs = belongs(agent);
    if let Some(cluster) = belongs.cluster.as_deref().filter(|_| question.take_over && question.makes_secrets)
    {
        files::replace(&Path::new(MASTER_DIR).join(CLUSTER_FILE), OPEN_MODE, cluster.as_bytes())
            .map_err(cannot("note which cluster goes on"))?;
    }
    if !question.masters_to_note.is_empty() {
        let lines = question.masters_to_note.join("\n");
        files::replace(&agent.join(MASTERS_FILE), OPEN_MODE, lines.as_bytes())
            .map_err(cannot("note the masters"))?;
    }
    let taken = question.ports.iter().filter(|(_, ip, port)| is_taken(*ip, *port)).cloned().collect();
    let mut findings = Findings {
        is_own_address: is_own(question.host_ip),
        own_addresses: own_addresses(),
        taken,
        redis: None,
        stored_format: None,
        outward: outward(),
        belongs,
    };
    if question.redis.is_some() || question.own_redis_runs {
        match look_at_redis().await {
            Ok((facts, format)) => (findings.redis, findings.stored_format) = (Some(Ok(facts)), format),
            Err(error) => findings.redis = Some(Err(error.to_string())),
        }
    }
    Ok(findings)
}

/// What the bootstrap has handed over under that name.
fn given(name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(Path::new("/").join(name)) {
        Ok(given) => Ok(Some(given)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the agent's directory says of the cluster that the host belongs to. A ledger that cannot be read says
/// nothing here: the agent itself refuses to start on it, and says why.
fn belongs(agent: &Path) -> Belongs {
    #[derive(Deserialize)]
    struct Ledger {
        cluster: Option<String>,
    }
    let is_small = |path: &Path| fs::metadata(path).is_ok_and(|found| found.len() <= MAX_LEDGER_BYTES);
    let read = |name: &str| {
        Some(agent.join(name)).filter(|path| is_small(path)).and_then(|path| fs::read_to_string(path).ok())
    };
    let ledger: Option<Ledger> = read(LEDGER_FILE).and_then(|text| serde_json::from_str(&text).ok());
    let masters = read(MASTERS_FILE).unwrap_or_default();
    Belongs {
        cluster: ledger.and_then(|ledger| ledger.cluster),
        masters: masters.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect(),
    }
}

/// An address is this host's if one can listen on it.
fn is_own(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok()
}

/// The address from which this host speaks to others; nothing is sent to find it.
fn outward() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(ip) => Some(ip).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()),
        std::net::IpAddr::V6(_) => None,
    }
}

fn own_addresses() -> Vec<Ipv4Addr> {
    let names = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut found: Vec<Ipv4Addr> = local_addresses(&names);
    found.extend(outward());
    found.retain(|ip| !ip.is_loopback());
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_ADDRESSES);
    found
}

/// The addresses that the kernel's table calls LOCAL: each stands on the line above.
fn local_addresses(table: &str) -> Vec<Ipv4Addr> {
    let lines: Vec<&str> = table.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[1].contains("/32 host LOCAL"));
    pairs.filter_map(|pair| pair[0].trim().strip_prefix("|-- ")?.parse().ok()).collect()
}

fn is_taken(ip: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Makes the password of our own Redis if there is none yet, and notes one that was given.
fn make_secrets(dir: &Path, given: Option<&str>) -> io::Result<()> {
    // Readable in the containers that mount the volume, and outside only for root, who owns the engine's
    // volumes.
    fs::create_dir_all(dir)?;
    let path = dir.join(PASSWORD_FILE);
    let password = match fs::read_to_string(&path) {
        Ok(password) if password.trim().len() == 32 => password,
        Ok(_) => new_password(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_password(&path)?,
        Err(error) => return Err(error),
    };
    files::replace(
        &dir.join(REDIS_CONF_FILE),
        OPEN_MODE,
        format!("requirepass {}\n", password.trim()).as_bytes(),
    )?;
    if let Some(given) = given {
        files::replace(&dir.join(GIVEN_PASSWORD_FILE), OPEN_MODE, given.as_bytes())?;
    }
    Ok(())
}

fn new_password(path: &Path) -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let password = u128::from_ne_bytes(bytes);
    let password = format!("{password:032x}");
    files::replace(path, OPEN_MODE, password.as_bytes())?;
    Ok(password)
}

/// The master runs as an unprivileged user, who gets its directory.
fn give_away(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if fs::metadata(dir)?.uid() != MASTER_USER {
        std::os::unix::fs::chown(dir, Some(MASTER_USER), Some(MASTER_USER))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        make_secrets(dir.path(), None).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let first = read(PASSWORD_FILE);
        assert_eq!((first.len(), read(REDIS_CONF_FILE)), (32, format!("requirepass {first}\n")));
        make_secrets(dir.path(), None).unwrap();
        assert_eq!(read(PASSWORD_FILE), first);
        fs::remove_file(dir.path().join(PASSWORD_FILE)).unwrap();
        fs::write(dir.path().join(PASSWORD_FILE), "torn").unwrap();
        make_secrets(dir.path(), None).unwrap();
        assert_eq!(read(PASSWORD_FILE).len(), 32);
    }

    #[test]
    fn the_agents_directory_tells_cluster_and_masters() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(belongs(dir.path()), Belongs::default());
        fs::write(
            dir.path().join(LEDGER_FILE),
            r#"{"format":1,"uid":"00000000000000bb","cluster":"00000000000000aa"}"#,
        )
        .unwrap();
        fs::write(dir.path().join(MASTERS_FILE), "10.0.0.1:8044\n10.0.0.2:8044").unwrap();
        let found = belongs(dir.path());
        assert_eq!(found.cluster.as_deref(), Some("00000000000000aa"));
        assert_eq!(found.masters, ["10.0.0.1:8044", "10.0.0.2:8044"]);
        fs::write(dir.path().join(LEDGER_FILE), "torn").unwrap();
        assert_eq!(belongs(dir.path()).cluster, None);
    }

    #[test]
    fn a_given_password_is_noted_for_the_master() {
        let dir = tempfile::tempdir().unwrap();
        make_secrets(dir.path(), Some("s3cret")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(GIVEN_PASSWORD_FILE)).unwrap(), "s3cret");
    }

    #[test]
    fn addresses_and_ports_are_found_as_they_are() {
        assert!(
            is_own(Ipv4Addr::LOCALHOST)
                && !is_own(Ipv4Addr::new(192, 0, 2, 77))
                && !is_own(Ipv4Addr::UNSPECIFIED)
        );
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(is_taken(Ipv4Addr::LOCALHOST, port));
        drop(taken);
        assert!(!is_taken(Ipv4Addr::LOCALHOST, port));
        let table = "Local:\n        |-- 10.0.0.1\n           /32 host LOCAL\n        |-- \
                     10.0.0.0\n           /24 link UNICAST\n";
        assert_eq!(local_addresses(table), [Ipv4Addr::new(10, 0, 0, 1)]);
    }
}
