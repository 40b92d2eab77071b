//! Which calls have a line in the audit log, beside the table of calls: whatever may change something has
//! one, unless it is named here, and whatever is refused for want of identity or rights.

use shef_common::{
    contents::CONTENT_PATH,
    protocol::{IMAGES_PATH, REGISTER_PATH, REPORT_PATH},
    tls::RENEW_PATH,
};

/// When a call has a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// Each time.
    Always,
    /// Each time, unless one address makes many: it changes nothing of the cluster.
    WhileFew,
    /// When its caller may not make it.
    WhenRefused,
}

/// What outlives the call for its caller alone, and what hosts read.
pub const WHILE_FEW: [(&str, &str); 4] = [
    ("post", "/v1/login-links"),
    ("post", "/v1/sessions"),
    ("delete", "/v1/sessions"),
    ("post", CONTENT_PATH),
];

/// What only reads, and has a line: commands in replicas, and whatever tells of secrets and tokens.
pub const READS: [(&str, &str); 4] = [
    ("get", "/v1/services/{name}/replicas/{id}/exec"),
    ("get", "/v1/backup"),
    ("get", "/v1/secrets"),
    ("get", "/v1/tokens"),
];

/// What is no `GET`, and changes nothing that outlives it or nothing but what hosts say of themselves.
pub const NO_CHANGES: [(&str, &str); 6] = [
    ("post", "/v1/services/{name}/plan"),
    ("post", "/node"),
    ("post", REGISTER_PATH),
    ("post", REPORT_PATH),
    ("post", IMAGES_PATH),
    ("post", RENEW_PATH),
];

/// When the call has a line.
pub fn audited(method: &'static str, path: &'static str) -> Audited {
    let call = (method, path);
    if WHILE_FEW.contains(&call) {
        Audited::WhileFew
    } else if READS.contains(&call) || method != "get" && !NO_CHANGES.contains(&call) {
        Audited::Always
    } else {
        Audited::WhenRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{Need, Role},
        http::routes::calls,
    };

    #[test]
    fn whatever_more_than_a_viewer_is_needed_for_is_audited() {
        for call in calls() {
            let is_more = match call.needs {
                Need::Service => true,
                Need::Role(role) => role > Role::Viewer,
                Need::Nothing => false,
            };
            let name = (call.method, call.path);
            let is_left_out = NO_CHANGES.contains(&name) || name == ("get", "/v1/audit");
            assert_eq!(
                is_more && !is_left_out,
                is_more && audited(call.method, call.path) == Audited::Always,
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_exceptions_are_calls_that_there_are() {
        let all: Vec<_> = calls().iter().map(|call| (call.method, call.path)).collect();
        for exception in READS.iter().chain(&NO_CHANGES).chain(&WHILE_FEW) {
            assert!(all.contains(exception) || exception.1.starts_with("/agent/"), "{exception:?}");
        }
    }
}
