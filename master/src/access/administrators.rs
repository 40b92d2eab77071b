//! Whether administrators can call a master without a socket: by tokens alone. Pure.

use std::time::Duration;

use shef_common::{clock::WallMs, ids::TokenName};

use super::{
    need::Role,
    token::{RecoveredToken, TokenRecord},
};

/// How long before the last token of an administrator expires the log warns of it.
const WARNED_BEFORE: Duration = Duration::from_secs(2 * 24 * 3_600);
/// The name of a token that a master makes by itself; further ones have a number behind it.
const NAME: &str = "admin";
/// How long a token that a master makes by itself counts. Afterwards tokens are made by the socket, or by
/// another token.
pub(super) const FIRST_TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long after its end such a token's record is removed.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a cluster may have been left alone, as far as the clock is believed.
const MOST_AHEAD: Duration = Duration::from_secs(366 * 24 * 3_600);
/// How far the clock may be behind what is stored: those of two masters differ.
const MOST_BEHIND: Duration = Duration::from_secs(24 * 3_600);

/// Whether the clock of a master that starts may be right, by what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockCheck {
    /// The time by that clock.
    pub now: WallMs,
    /// The latest time that is stored, if that is too far from it.
    pub differs_from: Option<WallMs>,
}

impl ClockCheck {
    /// By the latest time at which somebody changed something; `None`: nothing is known of that.
    #[must_use]
    pub fn by(now: WallMs, newest: Option<WallMs>) -> Self {
        let is_far = |newest: &WallMs| now > newest.after(MOST_AHEAD) || now.after(MOST_BEHIND) < *newest;
        Self { now, differs_from: newest.filter(is_far) }
    }
}

impl RecoveredToken {
    /// Whether a master has made it by itself, as far as it shows.
    #[must_use]
    pub fn is_masters_own(&self) -> bool {
        let number = self.name.as_str().strip_prefix(NAME);
        let has_name = number.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.parse::<u64>().is_ok())
        });
        has_name
            && is_admins(&self.record)
            && self.record.expires == Some(self.record.created.after(FIRST_TOKEN_LIFE))
    }

    /// Whether its record may go: a master has made it by itself, and it expired long ago, or was made by a
    /// clock that was ahead by far.
    pub(super) fn may_go(&self, now: WallMs) -> bool {
        let ended = self.record.expires.is_some_and(|end| end.after(KEPT_AFTER_END) <= now);
        self.is_masters_own() && (ended || self.record.is_ahead(now))
    }
}

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

    #[test]
    fn a_clock_is_believed_within_a_year_of_what_is_stored() {
        let differs = |now: u64, newest: Option<u64>| {
            ClockCheck::by(WallMs(now * DAY), newest.map(|newest| WallMs(newest * DAY)))
                .differs_from
                .is_some()
        };
        assert!(!differs(50_000, None), "a new cluster knows no other time");
        assert!(!differs(1_000, Some(1_000)) && !differs(1_366, Some(1_000)) && !differs(999, Some(1_000)));
        assert!(differs(1_367, Some(1_000)) && differs(998, Some(1_000)));
    }

    #[test]
    fn records_that_a_master_has_made_for_itself_go_a_month_after_they_expired() {
        let made = |name: &str, role, made: i64| {
            let mut made_at = token(name, role, Some(made + 7));
            made_at.record.created = WallMs(NOW.0.strict_add_signed(made * DAY.cast_signed()));
            made_at
        };
        for name in ["admin", "admin-2", "admin-31"] {
            assert!(made(name, Role::Admin, -37).may_go(NOW) && !made(name, Role::Admin, -36).may_go(NOW));
        }
        assert!(made("admin-2", Role::Admin, 26_000).may_go(NOW), "one of 2099");
        for other in ["admins", "admin-x", "ci"] {
            assert!(!made(other, Role::Admin, -90).may_go(NOW), "{other}");
        }
        assert!(!made("admin", Role::Viewer, -90).may_go(NOW));
        assert!(!token("admin", Role::Admin, Some(-90)).may_go(NOW), "somebody gave it another end");
        assert!(!token("admin", Role::Admin, None).may_go(NOW));
    }
}
