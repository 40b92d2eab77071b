//! Commands inside of replicas, over WebSockets: from the user to the master,
//! and from the master to the agent, frame by frame the same.
//!
//! A binary frame is a byte that says which stream, and what was written to it.
//! A text frame is a [`Control`]. An empty frame of [`STDIN`] is the input's end.

use serde::{Deserialize, Serialize};

pub use crate::query::MAX_COMMAND;
use crate::{
    ids::ReplicaId,
    query::{InvalidParameter, cut, flag},
};

/// The first byte of input.
pub const STDIN: u8 = 0;
/// The first byte of what the command writes to its standard output.
pub const STDOUT: u8 = 1;
/// The first byte of what the command writes to its standard error.
pub const STDERR: u8 = 2;
/// The most bytes of one frame.
pub const MAX_FRAME_BYTES: usize = 60 * 1024;
/// How often each side sends a ping, in milliseconds.
pub const PING_MS: u64 = 10_000;
/// Who has said nothing for this long has gone, in milliseconds.
pub const SILENCE_MS: u64 = 45_000;
/// After one direction has failed, the other one is read until its last frame, but no longer than this, in
/// milliseconds. A server also reads what still comes in for so long before it closes: closing with unread
/// input resets the connection, and a reset throws away what the other side has not received yet.
pub const DRAIN_MS: u64 = 5_000;
/// What a command can be told beside its own parts.
const PARAMETERS: &str = "cmd, env, tty, detach, user, workdir";

/// The path of a replica's commands on its agent: `GET`, a WebSocket.
#[must_use]
pub fn path(replica: &ReplicaId) -> String {
    format!("/v1/replicas/{replica}/exec")
}

/// What is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOrder {
    /// The command and its arguments.
    pub cmd: Vec<String>,
    /// Variables beside the container's own, as `NAME=value`.
    pub env: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether the command runs detached: its output and its exit code are not sent to the caller.
    pub detach: bool,
    /// As whom; `None`: as the container's own user.
    pub user: Option<String>,
    /// Where; `None`: in the container's own directory.
    pub workdir: Option<String>,
}

impl ExecOrder {
    /// From the pairs of a query: `cmd` and `env` (repeated), `tty`, `detach`, `user`, `workdir`.
    ///
    /// # Errors
    /// [`InvalidParameter`] says which parameter must be what.
    pub fn read(pairs: Vec<(String, String)>) -> Result<Self, InvalidParameter> {
        let mut order = Self::default();
        for (name, value) in pairs {
            if value.contains('\0') {
                return Err(InvalidParameter::ZeroByte(name));
            }
            match name.as_str() {
                "cmd" => order.cmd.push(value),
                "env" => match value.split_once('=') {
                    Some((name, _)) if !name.is_empty() => order.env.push(value),
                    Some(_) | None => return Err(InvalidParameter::Env(cut(&value))),
                },
                "detach" => order.detach = flag("detach", &value)?,
                "tty" => order.tty = flag("tty", &value)?,
                "user" => order.user = Some(bounded("user", value, 256)?),
                "workdir" if value.starts_with('/') => {
                    order.workdir = Some(bounded("workdir", value, 4_096)?);
                }
                "workdir" => return Err(InvalidParameter::Workdir(cut(&value))),
                other => return Err(InvalidParameter::Unknown { name: cut(other), known: PARAMETERS }),
            }
        }
        if order.cmd.first().is_none_or(String::is_empty) {
            return Err(InvalidParameter::NoCommand);
        }
        let (most, bytes) = MAX_COMMAND;
        let all = order.cmd.iter().chain(&order.env).chain(&order.user).chain(&order.workdir);
        let (count, length) = (all.clone().count(), all.map(String::len).sum::<usize>());
        if count > most || length > bytes {
            return Err(InvalidParameter::LongCommand { count, length });
        }
        Ok(order)
    }

    /// As a query string, without the question mark.
    #[must_use]
    pub fn to_query(&self) -> String {
        let cmd = self.cmd.iter().map(|part| ("cmd", part.as_str()));
        let user = self.user.iter().map(|user| ("user", user.as_str()));
        let workdir = self.workdir.iter().map(|workdir| ("workdir", workdir.as_str()));
        let env = self.env.iter().map(|variable| ("env", variable.as_str()));
        let tty = [("tty", if self.tty { "true" } else { "false" })];
        // Agents of earlier versions know no such flag, and need none that is not set.
        let detach = self.detach.then_some(("detach", "true"));
        let pairs = tty.into_iter().chain(detach).chain(cmd).chain(env).chain(user).chain(workdir);
        pairs.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
    }
}

fn bounded(name: &'static str, value: String, most: usize) -> Result<String, InvalidParameter> {
    let length = value.len();
    if (1..=most).contains(&length) {
        Ok(value)
    } else {
        Err(InvalidParameter::Length { name, most, length })
    }
}

/// Fit for a part of a path or of a query.
#[must_use]
pub fn escaped(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'~' | b':');
    text.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}

/// What text frames say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// To the command: the new size of its terminal.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
    /// The last frame: how the command has ended.
    ExitCode(i64),
    /// The last frame: the command could not be run, or its end could not be observed.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Vec<(String, String)> {
        let plain = |text: &str| {
            let (mut out, mut rest) = (Vec::new(), text.bytes());
            while let Some(c) = rest.next() {
                let hex = |rest: &mut std::str::Bytes<'_>| {
                    u8::try_from(char::from(rest.next().unwrap()).to_digit(16).unwrap()).unwrap()
                };
                out.push(if c == b'%' { hex(&mut rest) * 16 + hex(&mut rest) } else { c });
            }
            String::from_utf8(out).unwrap()
        };
        query
            .split('&')
            .map(|pair| pair.split_once('=').map(|(name, value)| (plain(name), plain(value))).unwrap())
            .collect()
    }

    #[test]
    fn an_order_survives_its_way_over_the_wire() {
        let order = ExecOrder {
            cmd: vec!["sh".to_owned(), "-c".to_owned(), "echo \"a&b=%\" ; é".to_owned(), String::new()],
            env: vec!["A=b=c".to_owned(), "B=".to_owned()],
            tty: true,
            detach: true,
            user: Some("1000:1000".to_owned()),
            workdir: Some("/tmp".to_owned()),
        };
        assert_eq!(ExecOrder::read(pairs(&order.to_query())), Ok(order));
    }

    #[test]
    fn wrong_orders_are_refused_by_name() {
        for (query, message) in [
            ("tty=true", "cmd must be given, once for the command and once for each argument"),
            ("cmd=", "cmd must be given, once for the command and once for each argument"),
            ("cmd=a&tty=2", "tty must be true or false, but is \"2\""),
            ("cmd=a&workdir=b", "workdir must be an absolute path, but is \"b\""),
            ("cmd=a&user=", "user must be 1 to 256 bytes, but is 0"),
            ("cmd=a&env=b", "env must be NAME=value, but is \"b\""),
            ("cmd=a&env=%3Db", "env must be NAME=value, but is \"=b\""),
            ("cmd=a&detach=2", "detach must be true or false, but is \"2\""),
            (
                "cmd=a&privileged=true",
                "\"privileged\" is not a parameter of this call; it takes: cmd, env, tty, detach, user, \
                 workdir",
            ),
            ("cmd=a%00", "\"cmd\" must not hold a zero byte"),
        ] {
            assert_eq!(ExecOrder::read(pairs(query)).unwrap_err().to_string(), message, "{query}");
        }
        let refused = ExecOrder::read(vec![("cmd".to_owned(), "a".to_owned()); 257]).unwrap_err();
        assert_eq!(refused, InvalidParameter::LongCommand { count: 257, length: 257 });
    }

    #[test]
    fn the_longest_command_fits_into_an_address_whatever_it_holds() {
        let (most, bytes) = MAX_COMMAND;
        let part = |length| "\u{1}".repeat(length);
        let order = ExecOrder { cmd: vec![part(bytes / most); most], ..ExecOrder::default() };
        let query = order.to_query();
        assert!(query.len() < 60_000, "{} bytes", query.len());
        assert_eq!(ExecOrder::read(pairs(&query)), Ok(order));
        let longer = ExecOrder { cmd: vec!["a".to_owned(), part(bytes)], ..ExecOrder::default() };
        let refused = ExecOrder::read(pairs(&longer.to_query())).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cmd, env, user and workdir must be at most 256 and 16384 bytes together, but are 2 and 16385 \
             bytes: put what is longer into the input or into a file"
        );
    }

    #[test]
    fn controls_read_as_documented() {
        let text = |control: Control| serde_json::to_string(&control).unwrap();
        assert_eq!(text(Control::Resize { rows: 24, cols: 80 }), r#"{"resize":{"rows":24,"cols":80}}"#);
        assert_eq!(text(Control::ExitCode(3)), r#"{"exit_code":3}"#);
        assert_eq!(text(Control::Error("no".to_owned())), r#"{"error":"no"}"#);
    }
}
