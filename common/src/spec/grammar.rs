//! The engine's grammars for what a spec names. What it would refuse, or read
//! differently, is refused before anything is stored.

use super::Operator;

/// Names of volumes, networks and volume drivers: Docker's restricted names.
pub(super) const NAME: &str =
    "must be 2 to 128 letters, digits, underscores, dots and hyphens that begin with a letter or a digit";
/// Names of volumes and networks that are not a user's to choose.
pub(super) const RESERVED: &str = "must not begin with shef-, as such names are the control plane's own";
/// Host names, aliases and names in `extra_hosts`.
pub(super) const HOST: &str = "must be 1 to 63 letters, digits, underscores, dots and hyphens that begin \
                               and end with a letter or a digit";
/// Paths.
pub(super) const PATH: &str = "must be an absolute path without .. or control characters";
/// Capabilities.
pub(super) const CAPABILITY: &str = "must be ALL or a capability such as NET_ADMIN or CAP_NET_ADMIN";
/// Signals.
pub(super) const SIGNAL: &str = "must be a signal such as SIGTERM, SIGRTMIN+3 or 15 (1 to 64)";
/// Kernel parameters.
pub(super) const SYSCTL: &str = "must be a kernel parameter that a container has of its own (net.*, \
                                 fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*)";
pub(super) const SECURITY_OPTION: &str = "must be a security option such as seccomp=unconfined, \
                                          apparmor=PROFILE, label=type:NAME, systempaths=unconfined or \
                                          no-new-privileges=false";
/// Names of ulimits, as the engine knows them.
pub(super) const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// Kernel parameters of a container, beside those below `net.` and `fs.mqueue.`.
const SYSCTLS: [&str; 9] = [
    "kernel.domainname",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];
/// Signals by name, as engines know them (moby/sys/signal).
#[rustfmt::skip]
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP",
    "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
/// Capabilities without `CAP_`, as in capabilities(7).
#[rustfmt::skip]
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE",
    "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN",
    "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
];
/// Keys and values of labels of containers.
pub(super) const MAX_LABEL: usize = 4_096;

fn is_word(text: &str, lengths: std::ops::RangeInclusive<usize>, more: &[u8]) -> bool {
    let bytes = text.as_bytes();
    lengths.contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

pub(super) fn is_name(text: &str) -> bool {
    is_word(text, 2..=128, b"_.-")
}

/// Whether volumes and networks of this name are the control plane's own.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("shef-")
}

/// As [`is_name`], with what drivers from registries are called besides.
pub(super) fn is_driver(text: &str) -> bool {
    is_word(text, 1..=128, b"_.-/:@")
}

/// Whether a health check may set the header: those that say where a message ends are its own.
pub(super) fn is_header(name: &str) -> bool {
    let own = ["connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect"];
    (1..=64).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && !own.contains(&name.to_ascii_lowercase().as_str())
}

pub(super) fn is_host(text: &str) -> bool {
    is_word(text, 1..=63, b"_.-") && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// An absolute path without `..`, without control characters, of at most 4096 bytes.
pub(super) fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 4_096
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != "..")
}

pub(super) fn is_capability(text: &str) -> bool {
    let name = text.strip_prefix("CAP_").unwrap_or(text);
    text == "ALL" || CAPABILITIES.contains(&name)
}

/// As the engine takes them; of a seccomp profile the text itself would be handed over, and none is taken.
pub(super) fn is_security_option(text: &str) -> bool {
    let is_profile = |value: &str| is_word(value, 1..=255, b"_.-:/");
    match text.split_once('=') {
        Some(("seccomp" | "systempaths", value)) => value == "unconfined",
        Some(("apparmor" | "label", value)) => is_profile(value),
        Some(("no-new-privileges", value)) => matches!(value, "true" | "false"),
        Some(_) => false,
        None => text == "no-new-privileges",
    }
}

pub(super) fn is_signal(text: &str) -> bool {
    match text.parse::<u8>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => {
            let name = text.strip_prefix("SIG").unwrap_or(text);
            let real_time = |sign: &str| name.strip_prefix(sign).and_then(|number| number.parse().ok());
            SIGNALS.contains(&name)
                || real_time("RTMIN+").is_some_and(|number: u8| (1..=15).contains(&number))
                || real_time("RTMAX-").is_some_and(|number: u8| (1..=14).contains(&number))
        }
    }
}

/// `user[:group]`, by name or number.
pub(super) fn is_user(text: &str) -> bool {
    match text.split_once(':') {
        Some((user, group)) => is_account(user) && is_account(group),
        None => is_account(text),
    }
}

/// A user or a group, by name or number; numbers as engines take them.
pub(super) fn is_account(text: &str) -> bool {
    let of_no_name = |c: char| c.is_control() || c.is_whitespace() || c == ':';
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    (1..=64).contains(&text.len())
        && if is_number { text.parse::<i32>().is_ok() } else { !text.contains(of_no_name) }
}

/// A kernel parameter that a container has of its own. Every other is the host's, and engines refuse it.
pub(super) fn is_sysctl(text: &str) -> bool {
    let dotted = text.replace('/', ".");
    let inner = |prefix| dotted.strip_prefix(prefix).is_some_and(|rest: &str| !rest.is_empty());
    is_word(text, 3..=128, b"_.-/")
        && (inner("net.") || inner("fs.mqueue.") || SYSCTLS.contains(&dotted.as_str()))
}

/// A path without empty parts and `.`, as engines compare them.
pub(super) fn plain(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .fold(String::new(), |path, part| path + "/" + part)
}

/// A key of hosts: `node.name`, `node.os`, `node.arch` or `label.KEY`.
pub(super) fn is_constraint_key(key: &str) -> bool {
    matches!(key, "node.name" | "node.os" | "node.arch")
        || key.strip_prefix("label.").is_some_and(is_host_label)
}

/// A key of a host's label.
pub(super) fn is_host_label(key: &str) -> bool {
    (1..=128).contains(&key.len()) && !key.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// How many values an operator takes: the least and the most, and in words.
pub(super) const fn values_of(op: Operator) -> (usize, usize, &'static str) {
    match op {
        Operator::Is => (1, 1, "one value for =="),
        Operator::IsNot => (1, 1, "one value for !="),
        Operator::In => (1, 64, "1 to 64 values for in"),
        Operator::Exists => (0, 0, "no values for exists"),
    }
}
