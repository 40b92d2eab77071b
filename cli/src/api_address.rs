//! Where the master's API is, as people write it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use shef_common::config::API_ENV;
use shef_master::config::DEFAULT_PORT;

/// What an address by socket begins with.
pub(crate) const SOCKET: &str = "unix://";

/// Why a text is no address of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAddress {
    #[error("the API speaks HTTP, not {scheme}: give https://{rest} or http://{rest}")]
    Scheme { scheme: String, rest: String },
    #[error("must be an address such as 10.0.0.5:{DEFAULT_PORT}, but is {0:?}")]
    Host(String),
    #[error("{0} has no CA: it is shown over https:// alone")]
    NoCa(String),
    #[error("a socket must be unix:///PATH, but is {0:?}")]
    Socket(String),
    #[error("the port must be a number from 1 to 65535, but is {0:?}")]
    Port(String),
    #[error("{0} of the environment: {1}")]
    Environment(&'static str, Box<Self>),
}

/// `given` as `http://HOST:PORT` or `https://HOST:PORT`, with what is missing added: the scheme is that of
/// TLS unless the address is this machine's own. `unix:///PATH` stays as it is.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong with it.
pub(crate) fn parse(given: &str) -> Result<String, InvalidAddress> {
    read(given, |host| if is_loopback(host) { "http" } else { "https" })
}

/// The same of a master that is known by its CA, which it shows over TLS alone.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong with it.
pub(crate) fn parse_with_ca(given: &str) -> Result<String, InvalidAddress> {
    let address = read(given, |_| "https")?;
    if address.starts_with("https://") { Ok(address) } else { Err(InvalidAddress::NoCa(address)) }
}

/// Whether nothing that is sent to it leaves this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// `scheme`: that of a host for which none is given.
fn read(given: &str, scheme: impl FnOnce(&str) -> &'static str) -> Result<String, InvalidAddress> {
    if let Some(path) = given.trim().strip_prefix(SOCKET) {
        return if path.starts_with('/') {
            Ok(given.trim().to_owned())
        } else {
            Err(InvalidAddress::Socket(given.to_owned()))
        };
    }
    let (said, rest) = match given.trim().split_once("://") {
        None => (None, given.trim()),
        Some((said, rest)) if said.eq_ignore_ascii_case("http") => (Some("http"), rest),
        Some((said, rest)) if said.eq_ignore_ascii_case("https") => (Some("https"), rest),
        Some((said, rest)) => {
            return Err(InvalidAddress::Scheme { scheme: said.to_owned(), rest: rest.to_owned() });
        }
    };
    // Every path of the API begins with its version.
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").unwrap_or(rest).trim_end_matches('/');
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (host, port) = split(authority)?;
    if !is_host(&host) || path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c)) {
        return Err(InvalidAddress::Host(given.to_owned()));
    }
    let scheme = said.unwrap_or_else(|| scheme(&host));
    Ok(format!("{scheme}://{host}:{port}{path}"))
}

/// Host and port of an authority. An IPv6 address without brackets has no port.
fn split(authority: &str) -> Result<(String, u16), InvalidAddress> {
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Ok((format!("[{authority}]"), DEFAULT_PORT));
    }
    Ok(match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host.to_owned(), checked(port)?),
        Some(_) | None => (authority.to_owned(), DEFAULT_PORT),
    })
}

/// Whether it is a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    }
}

fn checked(port: &str) -> Result<u16, InvalidAddress> {
    let number = port.parse().ok().filter(|port| *port > 0);
    number.ok_or_else(|| InvalidAddress::Port(port.to_owned()))
}

/// The address in `SHEF_API`, if it is set.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong with it.
pub(crate) fn from_own_variable(env: &BTreeMap<String, String>) -> Result<Option<String>, InvalidAddress> {
    let given = env.get(API_ENV).filter(|value| !value.is_empty());
    let invalid = |error| InvalidAddress::Environment(API_ENV, Box::new(error));
    given.map(|given| parse(given).map_err(invalid)).transpose()
}

/// The address that docker-shef's variables say, and which they are. `PORT` without `HOST_IP` says none, as
/// any program may have it. It is this machine's own, whose master takes plain calls from here.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong with it.
pub(crate) fn from_host_ip(env: &BTreeMap<String, String>) -> Result<(String, &'static str), InvalidAddress> {
    let value = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let (address, from) = match (value("HOST_IP"), value("PORT")) {
        (Some(host), Some(port)) => (format!("{host}:{port}"), "HOST_IP and PORT of the environment"),
        (Some(host), None) => (host.clone(), "HOST_IP of the environment"),
        (None, _) => ("127.0.0.1".to_owned(), "the default"),
    };
    let invalid = |error| InvalidAddress::Environment("HOST_IP and PORT", Box::new(error));
    Ok((read(&address, |_| "http").map_err(invalid)?, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_leaves_out_is_added_and_what_is_wrong_is_told() {
        for (given, address) in [
            ("h:1", "https://h:1"),
            ("10.0.0.5", "https://10.0.0.5:8044"),
            ("127.0.0.9:1/", "http://127.0.0.9:1"),
            ("http://h:1", "http://h:1"),
            ("localhost", "http://localhost:8044"),
            ("http://10.0.0.5", "http://10.0.0.5:8044"),
            ("http://h:1/v1", "http://h:1"),
            ("h/v1/", "https://h:8044"),
            ("http://h:1/shef/v1", "http://h:1/shef"),
            ("[::1]:1", "http://[::1]:1"),
            ("[::1]", "http://[::1]:8044"),
            ("fd00::5", "https://[fd00::5]:8044"),
            ("HTTP://h", "http://h:8044"),
            ("HTTPS://h/v1", "https://h:8044"),
        ] {
            assert_eq!(parse(given).as_deref(), Ok(address), "{given}");
        }
        for (given, why) in [
            ("", "must be an address such as 10.0.0.5:8044, but is \"\""),
            (" ", "must be an address such as 10.0.0.5:8044, but is \" \""),
            (":1", "must be an address such as 10.0.0.5:8044, but is \":1\""),
            ("h:1?a", "the port must be a number from 1 to 65535, but is \"1?a\""),
            ("h:99999", "the port must be a number from 1 to 65535, but is \"99999\""),
            ("h:0", "the port must be a number from 1 to 65535, but is \"0\""),
            ("[::1", "must be an address such as 10.0.0.5:8044, but is \"[::1\""),
            ("[::g]:1", "must be an address such as 10.0.0.5:8044, but is \"[::g]:1\""),
            ("a:b:80", "must be an address such as 10.0.0.5:8044, but is \"a:b:80\""),
            ("h\u{7}:1", "must be an address such as 10.0.0.5:8044, but is \"h\\u{7}:1\""),
            ("ftp://h:1", "the API speaks HTTP, not ftp: give https://h:1 or http://h:1"),
        ] {
            assert_eq!(parse(given).unwrap_err().to_string(), why, "{given}");
        }
    }

    #[test]
    fn a_master_that_is_known_by_its_ca_is_spoken_to_over_tls() {
        for (given, address) in [
            ("h", Ok("https://h:8044")),
            ("127.0.0.1", Ok("https://127.0.0.1:8044")),
            ("https://h:1", Ok("https://h:1")),
            ("http://h", Err("http://h:8044 has no CA: it is shown over https:// alone")),
            ("unix:///s", Err("unix:///s has no CA: it is shown over https:// alone")),
        ] {
            let read = parse_with_ca(given).map_err(|error| error.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), address, "{given}");
        }
    }

    #[test]
    fn a_variable_that_is_no_address_is_named() {
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
        let refused = from_host_ip(&env(&[("HOST_IP", "h"), ("PORT", "70000")])).unwrap_err().to_string();
        assert!(refused.starts_with("HOST_IP and PORT of the environment: the port"), "{refused}");
        let refused = from_own_variable(&env(&[("SHEF_API", "ftp://h")])).unwrap_err().to_string();
        assert!(refused.starts_with("SHEF_API of the environment: the API speaks"), "{refused}");
        assert_eq!(from_own_variable(&env(&[("SHEF_API", "")])), Ok(None));
    }
}
