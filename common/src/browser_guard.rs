//! Refuses requests that a web page has a browser send. Programs send no `Origin`, and need no more than to
//! name the server as it is known.
//!
//! A page may have its visitor's browser call any address that the browser reaches. Browsers add `Origin` to
//! each such call that changes something and to each WebSocket. What a page reads without one, it reads
//! because its own host name was pointed at this server (DNS rebinding): then `Host` is a name that this
//! server does not have.

use std::net::IpAddr;

use awc::http::{
    Method,
    header::{HOST, HeaderMap, HeaderName, ORIGIN, UPGRADE},
};

use crate::problem::{Code, Problem};

/// The host names by which a server is known, besides its addresses, `localhost` and names without a dot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNames(Vec<String>);

/// The parts of a request that tell whether a web page sent it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The header `Host`.
    pub host: Option<&'a str>,
    /// The header `Origin`.
    pub origin: Option<&'a str>,
    /// The header `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// Whether it only reads: by `GET`, `HEAD` or `OPTIONS`, and not to open a WebSocket.
    pub only_reads: bool,
}

impl<'a> Caller<'a> {
    /// Who sends a request with this method and these headers.
    #[must_use]
    pub fn of(method: &Method, headers: &'a HeaderMap) -> Self {
        // A value that is not text is no name.
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        Self {
            host: text(HOST),
            origin: text(ORIGIN),
            fetch_site: text(HeaderName::from_static("sec-fetch-site")),
            only_reads: method.is_safe() && !headers.contains_key(UPGRADE),
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It names another server.
    #[error("this server is not known as {0}; use its address, or add the name to {KEY} of its settings")]
    Host(String),
    /// A page of another site has it sent.
    #[error("the web page of {0} may not call this server")]
    Origin(String),
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::Host(_) => Code::UnknownHost,
            Refusal::Origin(_) => Code::ForeignPage,
        };
        Self::new(code, refusal.to_string())
    }
}

/// The setting that names a master's [`KnownNames`].
pub const KEY: &str = "api_names";

/// The longest part of a refused header that is shown.
const SHOWN: usize = 100;

/// A name in a list that is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name")]
pub struct NotAHostName(pub String);

impl KnownNames {
    /// The names in `list`, separated by commas; `*.example.com` stands for every name below `example.com`.
    ///
    /// # Errors
    /// [`NotAHostName`]: the first one that is none.
    pub fn parse(list: &str) -> Result<Self, NotAHostName> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names = names.map(|name| {
            let labels = name.strip_prefix("*.").unwrap_or(name);
            let is_label = |label: &str| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let is_name = labels.len() <= 253 && labels.split('.').all(is_label);
            if is_name { Ok(name.to_ascii_lowercase()) } else { Err(NotAHostName(name.to_owned())) }
        });
        names.collect::<Result<_, _>>().map(Self)
    }

    /// These names count, too: host names, or `*.` and one.
    pub fn add(&mut self, names: &[String]) {
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        self.0.extend(names.filter(|name| !self.0.contains(name)).collect::<Vec<_>>());
    }

    /// The names, without those that stand for many.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|name| !name.starts_with('*'))
    }

    /// Whether the request may be answered.
    ///
    /// # Errors
    /// The header that forbids it.
    pub fn admit(&self, caller: Caller<'_>) -> Result<(), Refusal> {
        let shown = |text: &str| text.escape_debug().take(SHOWN).collect::<String>();
        let Some(host) = caller.host.filter(|host| !host.is_empty()) else {
            // No browser leaves it out.
            return caller.origin.map_or(Ok(()), |origin| Err(Refusal::Origin(shown(origin))));
        };
        if let Some(origin) = caller.origin
            && !origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        {
            return Err(Refusal::Origin(shown(origin)));
        }
        let is_of_others = matches!(caller.fetch_site, Some("cross-site" | "same-site"));
        if is_of_others && !caller.only_reads {
            return Err(Refusal::Origin("another site".to_owned()));
        }
        let may_be_of_a_page = caller.origin.is_some() || caller.only_reads;
        if may_be_of_a_page && !self.has(host) { Err(Refusal::Host(shown(host))) } else { Ok(()) }
    }

    /// Whether the server is known by the name, or address, in the header `host`.
    fn has(&self, host: &str) -> bool {
        let bracketed =
            host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside);
        let name = bracketed.unwrap_or_else(|| host.split(':').next().unwrap_or_default());
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_local = || !name.contains('.') || name.ends_with(".localhost");
        name.parse::<IpAddr>().is_ok() || bracketed.is_none() && (is_local() || self.lists(&name))
    }

    fn lists(&self, name: &str) -> bool {
        self.0.iter().any(|known| match known.strip_prefix('*') {
            Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
            None => known == name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> KnownNames {
        KnownNames::parse("shef.example.com, *.Internal").unwrap()
    }

    fn reads(host: &str) -> Result<(), Refusal> {
        names().admit(Caller { host: Some(host), origin: None, fetch_site: None, only_reads: true })
    }

    fn changes(host: &str, origin: Option<&str>, fetch_site: Option<&str>) -> Result<(), Refusal> {
        names().admit(Caller { host: Some(host), origin, fetch_site, only_reads: false })
    }

    #[test]
    fn a_server_is_known_by_its_addresses_local_names_and_those_listed() {
        for host in [
            "10.0.0.1:8044",
            "127.0.0.1",
            "[::1]:8044",
            "[fd00::1]",
            "localhost:8044",
            "app.localhost",
            "master1:8044",
            "shef.example.com",
            "SHEF.example.com.:8044",
            "a.b.internal",
        ] {
            assert_eq!(reads(host), Ok(()), "{host}");
        }
        for host in [
            "rebind.example.org:8044",
            "x.shef.example.com",
            "shef.example.com.evil.org",
            "internal.evil.org",
            "10.0.0.1.evil.org",
            "evilinternal.org",
            "[evil.org]:8044",
            "evil.localhost.org",
        ] {
            assert!(matches!(reads(host), Err(Refusal::Host(_))), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing_and_programs_may_by_any_name() {
        let foreign = |outcome| matches!(outcome, Err(Refusal::Origin(_)));
        assert!(foreign(changes("10.0.0.1:8044", Some("https://evil.org"), None)));
        assert!(foreign(changes("10.0.0.1:8044", Some("null"), None)));
        assert!(foreign(changes("localhost:8044", Some("http://localhost:3000"), None)));
        assert!(foreign(changes("localhost:8044", None, Some("cross-site"))));
        assert!(foreign(changes("", Some("http://localhost:8044"), None)));
        let rebound = changes("evil.org:8044", Some("http://evil.org:8044"), Some("same-origin"));
        assert_eq!(rebound, Err(Refusal::Host("evil.org:8044".to_owned())));
        assert_eq!(changes("localhost:8044", Some("http://LOCALHOST:8044"), Some("same-origin")), Ok(()));
        assert_eq!(changes("some.where.else:8044", None, None), Ok(()), "no browser sent this");
    }

    #[test]
    fn a_name_that_is_none_is_refused_when_the_settings_are_read() {
        for wrong in ["*", "*.", "a b.c", "http://x.y", "a..b", "x.y:8044"] {
            assert_eq!(
                KnownNames::parse(&format!("ok.example.com,{wrong}")),
                Err(NotAHostName(wrong.to_owned()))
            );
        }
        assert_eq!(KnownNames::parse(" , "), Ok(KnownNames::default()));
    }
}
