//! Where a Docker engine is reached, and a client for it: master's neighbours (agent, bootstrap and
//! command line) all connect here.
//!
//! Addresses and variables are the docker command's: `unix://`, `tcp://` (over TLS where
//! `DOCKER_TLS_VERIFY` is set, with the files of `DOCKER_CERT_PATH`) and `ssh://`.

mod dial;
mod reason;
mod ssh;
mod tls;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use bollard::{API_DEFAULT_VERSION, Docker};
use serde::{Deserialize, Serialize};

pub use reason::reason;
pub use tls::InvalidTls;

use self::{dial::Dial, ssh::SshTarget, tls::TlsFiles};

/// The forms of an engine's address, for messages.
pub const ADDRESS_RULE: &str = "unix:///PATH, tcp://HOST:PORT, http://HOST:PORT or \
                                ssh://[USER@]HOST[:PORT][/PATH of the engine's socket there]";
/// The port of an engine that speaks plain HTTP.
const PLAIN_PORT: u16 = 2375;
/// The port of an engine that speaks TLS.
const TLS_PORT: u16 = 2376;

/// How `tcp://` addresses are spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerTls {
    /// Whether TLS is spoken, and the engine's certificate is checked.
    pub verify: bool,
    /// The directory of `ca.pem`, `cert.pem` and `key.pem`; without it, that of the docker command.
    pub cert_path: Option<PathBuf>,
}

impl DockerTls {
    /// As `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say: any value but the empty one switches TLS on.
    #[must_use]
    pub fn new(verify: &str, cert_path: &str) -> Self {
        Self {
            verify: !verify.is_empty(),
            cert_path: Some(cert_path).filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }

    /// What the environment of this process says.
    #[must_use]
    pub fn from_env() -> Self {
        let value = |name| std::env::var(name).unwrap_or_default();
        Self::new(&value("DOCKER_TLS_VERIFY"), &value("DOCKER_CERT_PATH"))
    }

    /// The same for a process with another environment and working directory.
    #[must_use]
    pub fn anywhere(&self) -> Self {
        let directory = self.directory();
        Self { verify: self.verify, cert_path: Some(std::path::absolute(&directory).unwrap_or(directory)) }
    }

    /// The directory of the three files: the one that is given, or else that of the docker command.
    fn directory(&self) -> PathBuf {
        let of_the_docker_command = || {
            let own = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
            own.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".docker")))
                .unwrap_or_else(|| ".docker".into())
        };
        self.cert_path.clone().unwrap_or_else(of_the_docker_command)
    }
}

/// Where an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerAddress {
    host: Host,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Unix(String),
    /// `HOST:PORT`.
    Plain(String),
    Tls {
        host: String,
        port: u16,
        files: TlsFiles,
    },
    Ssh(SshTarget),
}

/// Why a text is not an engine's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of a Docker engine must be {ADDRESS_RULE}, but is {given:?}{because}")]
pub struct InvalidDockerAddress {
    given: String,
    because: &'static str,
}

/// Why there is no client for an engine.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
    /// bollard refuses the address.
    #[error("{}", reason(.0))]
    Client(#[from] bollard::errors::Error),
}

impl fmt::Display for DockerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Unix(path) => write!(f, "unix://{path}"),
            Host::Plain(address) => write!(f, "tcp://{address}"),
            Host::Tls { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Host::Ssh(target) => target.fmt(f),
        }
    }
}

impl DockerAddress {
    /// Checks `url`; reads no file and does not connect.
    ///
    /// # Errors
    /// [`InvalidDockerAddress`] for anything but what [`ADDRESS_RULE`] says.
    pub fn parse(url: &str, tls: &DockerTls) -> Result<Self, InvalidDockerAddress> {
        let refused = |because| InvalidDockerAddress { given: url.chars().take(200).collect(), because };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused(""))?;
        let host = match scheme {
            "unix" if rest.starts_with('/') => Host::Unix(rest.to_owned()),
            "tcp" if tls.verify => {
                let (host, port) = host_and_port(rest, TLS_PORT).ok_or_else(|| refused(""))?;
                Host::Tls { host, port, files: TlsFiles::within(&tls.directory()) }
            }
            "tcp" | "http" => {
                let (host, port) = host_and_port(rest, PLAIN_PORT).ok_or_else(|| refused(""))?;
                Host::Plain(format!("{host}:{port}"))
            }
            "ssh" => Host::Ssh(SshTarget::parse(rest).map_err(refused)?),
            _ => return Err(refused("")),
        };
        Ok(Self { host })
    }

    /// The path of the engine's socket on this host, if it is reached by one.
    #[must_use]
    pub fn socket(&self) -> Option<&str> {
        match &self.host {
            Host::Unix(path) => Some(path),
            Host::Plain(_) | Host::Tls { .. } | Host::Ssh(_) => None,
        }
    }

    /// Whether the engine is on the machine with the address `own`, as far as its address says.
    #[must_use]
    pub fn is_on(&self, own: Ipv4Addr) -> bool {
        let is_own = |host: &str| {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback() || ip == IpAddr::V4(own))
        };
        match &self.host {
            Host::Unix(_) => true,
            Host::Plain(address) => {
                is_own(address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host))
            }
            Host::Tls { host, .. } => is_own(host),
            Host::Ssh(_) => false,
        }
    }

    /// A client whose calls take at most `limit_s` seconds until their answer begins. It connects when it is
    /// first used.
    ///
    /// # Errors
    /// [`ConnectError::Tls`] for files that cannot be read; [`ConnectError::Client`] where the client cannot
    /// be made.
    pub fn client(&self, limit_s: u64) -> Result<Docker, ConnectError> {
        let client = match &self.host {
            Host::Unix(path) => Docker::connect_with_unix(path, limit_s, API_DEFAULT_VERSION)?,
            Host::Plain(address) => {
                Docker::connect_with_http(&format!("tcp://{address}"), limit_s, API_DEFAULT_VERSION)?
            }
            Host::Tls { host, port, files } => Dial::tls(host, *port, files)?.client(limit_s)?,
            Host::Ssh(target) => Dial::ssh(target.clone()).client(limit_s)?,
        };
        Ok(client)
    }
}

/// The parts of `HOST[:PORT]`, which may end with a slash.
fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an IPv6 address is within its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (text, default_port),
    };
    let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let known = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    known.then(|| (host.to_owned(), port))
}

/// Whether `text` is a name or an IPv4 address, and no option of a program.
fn is_host_name(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(url: &str) -> Result<String, String> {
        DockerAddress::parse(url, &DockerTls::default())
            .map(|address| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_the_docker_commands() {
        for (given, read) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("tcp://10.0.0.5:2375", "tcp://10.0.0.5:2375"),
            ("tcp://engine/", "tcp://engine:2375"),
            ("http://[::1]:99", "tcp://[::1]:99"),
            ("ssh://host", "ssh://host"),
            ("ssh://me@host:22/run/x.sock", "ssh://me@host:22/run/x.sock"),
        ] {
            assert_eq!(plain(given).as_deref(), Ok(read));
        }
        let tls = DockerTls::new("0", "/certs");
        assert_eq!(
            DockerAddress::parse("tcp://engine", &tls).unwrap().to_string(),
            "tcp://engine:2376",
            "any value counts"
        );
        assert!(!DockerTls::new("", "/certs").verify);
    }

    #[test]
    fn an_address_says_whether_the_engine_is_on_this_machine() {
        let is_here = |url: &str, verify: &str| {
            DockerAddress::parse(url, &DockerTls::new(verify, "/certs")).unwrap().is_on([10, 0, 0, 5].into())
        };
        for here in [
            "unix:///run/x.sock",
            "tcp://127.0.0.1:1",
            "tcp://localhost",
            "http://[::1]:99",
            "tcp://10.0.0.5",
        ] {
            assert!(is_here(here, "") && is_here(here, "1"), "{here}");
        }
        for elsewhere in ["tcp://10.0.0.6:2375", "tcp://engine", "ssh://localhost"] {
            assert!(!is_here(elsewhere, "") && !is_here(elsewhere, "1"), "{elsewhere}");
        }
    }

    #[test]
    fn a_text_that_is_no_address_is_refused_with_what_to_do() {
        for given in [
            "",
            "ftp://x",
            "unix://x",
            "tcp://",
            "tcp://a:0",
            "tcp://a:b",
            "tcp://a/b",
            "tcp://u@a:1",
            "tcp://[x]:1",
            "fd://",
            "x",
        ] {
            let refused = plain(given).unwrap_err();
            assert!(
                refused.contains("must be unix:///PATH, tcp://HOST:PORT")
                    && refused.contains(&format!("{given:?}")),
                "{refused}"
            );
        }
        assert!(plain("ssh://me:secret@host").unwrap_err().contains("password"));
        for given in [
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-l@host",
            "ssh://host?x",
            "ssh://host/a b",
            "ssh://host/a;b",
        ] {
            let refused = plain(given).unwrap_err();
            assert!(refused.contains(&format!("but is {given:?}")), "{refused}");
        }
    }
}
