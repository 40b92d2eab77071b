//! Whether administrators can call a master without a socket: by tokens alone. Pure.

use std::time::Duration;

use shef_common::{clock::WallMs, ids::TokenName};

use super::{
    need::Role,
    token::{RecoveredToken, TokenRecord},
};

/// How long before the last token of an administrator expires the log warns of it.
const WARNED_BEFORE: Duration = Duration::from_secs(2 * 24 * 3_600);
/// The name of a token that a master makes by itself.
const NAME: &str = "admin";

/// For how long a token of an administrator counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAccess {
    /// For longer than the log warns before.
    Lasting,
    /// The last one expires soon.
    Until(WallMs),
    /// None counts.
    Ended,
}

impl AdminAccess {
    /// By these tokens.
    pub fn by<'a>(tokens: impl IntoIterator<Item = &'a TokenRecord>, now: WallMs) -> Self {
        let count = tokens.into_iter().filter(|token| is_admins(token) && token.counts(now));
        let last = count.map(|token| token.expires.unwrap_or(WallMs(u64::MAX))).max();
        match last {
            None => Self::Ended,
            Some(expires) if expires <= now.after(WARNED_BEFORE) => Self::Until(expires),
            Some(_) => Self::Lasting,
        }
    }
}

/// The name of the token that a master makes at its start: the first one of a new cluster, or another one if
/// nobody else could make it. It takes no other one's place: the master's clock may be wrong.
pub(super) fn token_to_make(
    tokens: &[RecoveredToken],
    is_new_store: bool,
    has_socket: bool,
    now: WallMs,
) -> Option<TokenName> {
    let is_first = tokens.is_empty() && is_new_store;
    let records = tokens.iter().map(|token| &token.record);
    let nobody_enters = !has_socket && AdminAccess::by(records, now) == AdminAccess::Ended;
    if !is_first && !nobody_enters {
        return None;
    }
    let names = (1..).map(|n| if n == 1 { NAME.to_owned() } else { format!("{NAME}-{n}") });
    let mut names = names.map_while(|name| TokenName::parse(&name).ok());
    names.find(|name| tokens.iter().all(|token| token.name != *name))
}

fn is_admins(token: &TokenRecord) -> bool {
    token.kind.api_role() == Some(Role::Admin)
}

#[cfg(test)]
mod tests {
    use shef_common::ids::Version;

    use super::{
        super::{kind::TokenKind, need::Scope},
        *,
    };

    const DAY: u64 = 24 * 3_600 * 1_000;
    const NOW: WallMs = WallMs(100 * DAY);

    fn token(name: &str, role: Role, expires_in_days: Option<i64>) -> RecoveredToken {
        let kind = TokenKind::Api { role, scope: Scope::default() };
        let expires = expires_in_days.map(|days| WallMs(NOW.0.strict_add_signed(days * DAY.cast_signed())));
        let record =
            TokenRecord { id: String::new(), hash: String::new(), kind, created: WallMs(0), expires };
        RecoveredToken { name: TokenName::parse(name).unwrap(), version: Version(3), record }
    }

    #[test]
    fn the_end_of_the_last_administrators_token_is_seen_before_it_comes() {
        use Role::{Admin, Operator};
        for (tokens, access) in [
            (vec![], AdminAccess::Ended),
            (vec![token("a", Operator, None)], AdminAccess::Ended),
            (vec![token("a", Admin, Some(-1))], AdminAccess::Ended),
            (vec![token("a", Admin, Some(1))], AdminAccess::Until(WallMs(101 * DAY))),
            (vec![token("a", Admin, Some(1)), token("b", Admin, Some(3))], AdminAccess::Lasting),
            (vec![token("a", Admin, Some(-1)), token("b", Admin, None)], AdminAccess::Lasting),
        ] {
            assert_eq!(AdminAccess::by(tokens.iter().map(|token| &token.record), NOW), access, "{tokens:?}");
        }
    }

    #[test]
    fn a_master_makes_a_token_if_the_cluster_is_new_or_nobody_could_enter() {
        use Role::{Admin, Viewer};
        let make = |tokens: &[RecoveredToken], is_new, has_socket| {
            let made = token_to_make(tokens, is_new, has_socket, NOW);
            made.map(|name| name.as_str().to_owned())
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(make(&[], true, true), named("admin"));
        assert_eq!(make(&[], false, true), None, "its cluster had none: the socket makes them");
        assert_eq!(make(&[], false, false), named("admin"));
        let expired = token("admin", Admin, Some(-1));
        assert_eq!(make(std::slice::from_ref(&expired), true, true), None);
        assert_eq!(make(std::slice::from_ref(&expired), false, false), named("admin-2"));
        // One was made in 2099, when the clock was wrong: the expired one has kept its record.
        let mut ahead = token("admin-2", Admin, Some(27_000));
        ahead.record.created = WallMs(NOW.0 + 26_993 * DAY);
        assert_eq!(make(&[expired, ahead], false, false), named("admin-3"));
        assert_eq!(make(&[token("me", Admin, Some(1))], false, false), None);
        // A name that stands for something else keeps it.
        assert_eq!(make(&[token("admin", Viewer, None)], false, false), named("admin-2"));
    }
}
