//! Where the master's API is, as people write it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, UdpSocket},
};

use shef_master::config::DEFAULT_PORT;

use crate::transport::SOCKET;

/// Why a text is no address of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAddress {
    #[error("the API speaks HTTP, not {scheme}: give https://{rest} or http://{rest}")]
    Scheme { scheme: String, rest: String },
    #[error("must be an address such as 10.0.0.5:{DEFAULT_PORT}, but is {0:?}")]
    Host(String),
    #[error("a socket must be unix:///PATH, but is {0:?}")]
    Socket(String),
    #[error("the port must be a number from 1 to 65535, but is {0:?}")]
    Port(String),
    #[error("HOST_IP and PORT of the environment: {0}")]
    Environment(Box<Self>),
}

/// `given` as `http://HOST:PORT` or `https://HOST:PORT`, with what is missing added; `unix:///PATH` stays as
/// it is.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong with it.
pub(crate) fn parse(given: &str) -> Result<String, InvalidAddress> {
    if let Some(path) = given.trim().strip_prefix(SOCKET) {
        return if path.starts_with('/') {
            Ok(given.trim().to_owned())
        } else {
            Err(InvalidAddress::Socket(given.to_owned()))
        };
    }
    let (scheme, rest) = match given.trim().split_once("://") {
        None => ("http", given.trim()),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        Some((scheme, rest)) => {
            return Err(InvalidAddress::Scheme { scheme: scheme.to_owned(), rest: rest.to_owned() });
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

/// Whether docker-shef's variables say one.
pub(crate) fn is_in_env(env: &BTreeMap<String, String>) -> bool {
    ["HOST_IP", "PORT"].iter().any(|name| env.get(*name).is_some_and(|value| !value.is_empty()))
}

/// Whether they name this machine: by one of its addresses, or by saying nothing.
pub(crate) fn is_of_this_machine(env: &BTreeMap<String, String>) -> bool {
    let host = env.get("HOST_IP").filter(|value| !value.is_empty());
    host.is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|address| UdpSocket::bind((address, 0)).is_ok()))
}

/// The address that docker-shef's variables say.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong with it.
pub(crate) fn from_env(env: &BTreeMap<String, String>) -> Result<String, InvalidAddress> {
    let value = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let host = value("HOST_IP").map_or("127.0.0.1", String::as_str);
    let address = match value("PORT") {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    parse(&address).map_err(|error| InvalidAddress::Environment(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_leaves_out_is_added_and_what_is_wrong_is_told() {
        for (given, address) in [
            ("h:1", "http://h:1"),
            ("h:1/", "http://h:1"),
            ("http://h:1", "http://h:1"),
            ("localhost", "http://localhost:8044"),
            ("http://10.0.0.5", "http://10.0.0.5:8044"),
            ("http://h:1/v1", "http://h:1"),
            ("h/v1/", "http://h:8044"),
            ("http://h:1/shef/v1", "http://h:1/shef"),
            ("[::1]:1", "http://[::1]:1"),
            ("[::1]", "http://[::1]:8044"),
            ("fd00::5", "http://[fd00::5]:8044"),
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
    fn docker_shefs_variables_say_it() {
        let env = |pairs: &[(&str, &str)]| {
            from_env(&pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect())
        };
        assert_eq!(env(&[]).as_deref(), Ok("http://127.0.0.1:8044"));
        assert_eq!(env(&[("HOST_IP", "10.0.0.5")]).as_deref(), Ok("http://10.0.0.5:8044"));
        assert_eq!(env(&[("HOST_IP", "10.0.0.5"), ("PORT", "81")]).as_deref(), Ok("http://10.0.0.5:81"));
        let is_here = |host: &str| is_of_this_machine(&[("HOST_IP".to_owned(), host.to_owned())].into());
        assert!(is_here("") && is_here("127.0.0.1") && !is_here("192.0.2.1") && !is_here("elsewhere"));
        let refused = env(&[("PORT", "70000")]).unwrap_err().to_string();
        assert!(refused.starts_with("HOST_IP and PORT of the environment"), "{refused}");
    }
}
