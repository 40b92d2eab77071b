//! A line of the audit log, and how lines are chained. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use ring::{
    digest::{SHA256, digest},
    hmac,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shef_common::{
    bounds,
    clock::WallMs,
    ids::{NodeName, NodeUid, ServiceName, TokenName},
};

use crate::{access::Role, registries::hex};

/// What the first line of all names as the line before.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditLine {
    /// Counts the lines, from 1 on. Their order is that of their numbers: clocks may be set.
    #[serde(deserialize_with = "bounds::number")]
    pub n: u64,
    /// The SHA-256 of the line before, without its line break: 64 hexadecimal digits; of the first line
    /// zeros.
    pub prev: String,
    /// When the request came, by the master's clock, in milliseconds since 1970.
    pub time: WallMs,
    /// The event, with its fields beside these.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// The HMAC-SHA-256 of the line without this field, by a key made from `secret.key`: 64 hexadecimal
    /// digits. Absent: the master had no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// A request was answered.
    Request {
        /// What was asked, and how it was answered.
        #[serde(flatten)]
        request: AuditedRequest,
    },
    /// Further requests of one address changed nothing and have no line of their own.
    Repeated {
        /// Where they came from; absent: from addresses of which too many were seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
        /// The number of these requests.
        #[serde(deserialize_with = "bounds::number")]
        count: u64,
        /// When the first of them came, in milliseconds since 1970.
        since: WallMs,
    },
    /// Lines could not be kept: the disk took none for too long.
    Lost {
        /// The number of lost lines.
        #[serde(deserialize_with = "bounds::number")]
        count: u64,
    },
    /// The oldest lines were removed though they are young: the files were larger than `audit_max_bytes`.
    Removed {
        /// The number of the first one.
        #[serde(deserialize_with = "bounds::number")]
        first: u64,
        /// The number of the last one.
        #[serde(deserialize_with = "bounds::number")]
        last: u64,
        /// How many they were.
        #[serde(deserialize_with = "bounds::number")]
        count: u64,
    },
    /// A host has joined with replicas that the store did not know: services are made of them, or take them,
    /// unless an answer to the host refuses that.
    TakenOver {
        /// The host's name.
        node: NodeName,
        /// Its lasting identity.
        uid: NodeUid,
        /// How many replicas of which services, of the first 100.
        services: BTreeMap<ServiceName, u32>,
        /// How many further services.
        #[serde(default, skip_serializing_if = "is_none")]
        more: u32,
    },
    /// A master goes on with the log.
    Started {
        /// shef's version.
        version: String,
        /// Whether the master before has stopped as it should. Otherwise requests that were under way may
        /// have no line.
        tidy: bool,
    },
    /// The master has stopped.
    Stopped,
    /// What stands between the line before and this one is no line: a crash tore it.
    ClosedOff {
        /// How many bytes, without the line break at their end.
        #[serde(deserialize_with = "bounds::number")]
        bytes: u64,
        /// Their SHA-256: 64 hexadecimal digits.
        sha256: String,
    },
}

/// How many services a line names.
const MOST_SERVICES: usize = 100;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_none(more: &u32) -> bool {
    *more == 0
}

impl AuditEvent {
    /// A host has joined with replicas of these services.
    pub fn taken_over(node: NodeName, uid: NodeUid, services: BTreeMap<ServiceName, u32>) -> Self {
        let more = services.len().saturating_sub(MOST_SERVICES).try_into().unwrap_or(u32::MAX);
        Self::TakenOver { node, uid, services: services.into_iter().take(MOST_SERVICES).collect(), more }
    }

    /// What it is, in a few words: of a request its call.
    pub fn kind(&self) -> String {
        let word = match self {
            Self::Request { request } => return format!("{} {}", request.method, request.call),
            Self::Repeated { .. } => "repeated",
            Self::Lost { .. } => "lost",
            Self::Removed { .. } => "removed",
            Self::TakenOver { .. } => "taken_over",
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::ClosedOff { .. } => "closed_off",
        };
        word.to_owned()
    }
}

/// A request, without its body, its query and whatever proves its caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditedRequest {
    /// The caller.
    pub by: AuditCaller,
    /// The address that it came from; absent: by the master's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// As in `PUT`.
    pub method: String,
    /// The address with the names of its parts, as in `/v1/services/{name}`; empty: an address that there is
    /// not.
    pub call: String,
    /// What the call was about: the parts of its address, and the service, secret or host that its body
    /// named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub object: BTreeMap<String, String>,
    /// The status of the answer; `null`: the client left before it was answered, and the change may have come
    /// about.
    pub status: Option<u16>,
    /// The error's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AuditCaller {
    /// A process that may open the master's socket.
    Socket {
        /// The user that it runs as.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// The holder of a token.
    Token {
        /// Its name.
        token: TokenName,
        /// The part of its text that finds it.
        id: String,
        /// Its role.
        role: Role,
    },
    /// A browser that has logged in.
    Session {
        /// The token by which its link was made; absent: the link was made over the socket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<TokenName>,
        /// The part of its text that finds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Its role.
        role: Role,
    },
    /// A host with its certificate.
    Host {
        /// Its lasting identity.
        uid: NodeUid,
    },
    /// Anybody: the API is open (`insecure = true`).
    Anybody,
    /// A caller who has proved nothing.
    Unknown {
        /// The id of the token that it has shown, whether there is such a token or not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
}

/// Where a chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The number of the latest line; 0: there is none.
    pub n: u64,
    /// Its SHA-256.
    pub hash: String,
}

impl Default for Link {
    fn default() -> Self {
        Self { n: 0, hash: NOTHING.to_owned() }
    }
}

/// The SHA-256 of `bytes` as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

impl Link {
    /// The next line, and its text without a line break. The chain stands behind the line then.
    pub fn append(
        &mut self,
        time: WallMs,
        event: AuditEvent,
        key: Option<&hmac::Key>,
    ) -> (AuditLine, String) {
        let mut line = AuditLine { n: self.n + 1, prev: self.hash.clone(), time, event, mac: None };
        let text = |line: &AuditLine| {
            // Strings and numbers always serialise.
            serde_json::to_string(line).unwrap_or_default()
        };
        line.mac = key.map(|key| hex(hmac::sign(key, text(&line).as_bytes()).as_ref()));
        let text = text(&line);
        *self = Self { n: line.n, hash: sha256(text.as_bytes()) };
        (line, text)
    }
}

/// Whether a line's proof is right; `None`: it has none.
pub fn proof_is_right(line: &str, key: &hmac::Key) -> Option<bool> {
    let (before, mac) = line.strip_suffix("\"}")?.rsplit_once(",\"mac\":\"")?;
    let tag = unhex(mac)?;
    Some(hmac::verify(key, format!("{before}}}").as_bytes(), &tag).is_ok())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AuditEvent {
        let request = AuditedRequest {
            by: AuditCaller::Unknown { id: None },
            from: "10.0.0.7".parse().ok(),
            method: "PUT".to_owned(),
            call: "/v1/services/{name}".to_owned(),
            object: BTreeMap::from([("name".to_owned(), "a\n\"mac\":\"b\u{7}\"}".to_owned())]),
            status: Some(401),
            code: Some("unauthenticated".to_owned()),
        };
        AuditEvent::Request { request }
    }

    #[test]
    fn a_line_is_one_line_is_read_as_it_was_written_and_proves_itself() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let other = hmac::Key::new(hmac::HMAC_SHA256, b"another");
        let mut link = Link::default();
        let (first, text) = link.append(WallMs(7), request(), Some(&key));
        assert!(!text.chars().any(char::is_control), "{text}");
        assert_eq!(serde_json::from_str::<AuditLine>(&text).unwrap(), first);
        assert_eq!((first.n, first.prev.as_str(), link.hash), (1, NOTHING, sha256(text.as_bytes())));
        assert_eq!(proof_is_right(&text, &key), Some(true));
        assert_eq!(proof_is_right(&text, &other), Some(false));
        assert_eq!(proof_is_right(&text.replace("401", "201"), &key), Some(false));
        let mut link = Link { n: 1, hash: sha256(text.as_bytes()) };
        let (second, text) = link.append(WallMs(3), AuditEvent::Stopped, None);
        assert_eq!((second.n, proof_is_right(&text, &key)), (2, None));
        assert_eq!(second.prev, sha256(text_of(&first).as_bytes()));
    }

    fn text_of(line: &AuditLine) -> String {
        serde_json::to_string(line).unwrap()
    }
}
