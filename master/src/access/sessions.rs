//! Logins of browsers: a code that counts once and for minutes, and the session that it is exchanged for. In
//! memory alone: after a restart of the master people log in again. The page keeps its session where no other
//! port of the address is shown it, and sends it as a header: a cookie would go to each of them.

use std::{collections::BTreeMap, time::Duration};

use shef_common::clock::WallMs;

use super::{
    need::{Caller, Denied},
    token::{TokenTable, hash, random_secret},
};

/// How long a code counts.
pub const CODE_LIFE: Duration = Duration::from_secs(10 * 60);
/// How long a session lasts.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// How many codes, and how many sessions, a caller has at most: the ones that end first make way. There are
/// no more callers than tokens.
const MOST_OF_ONE: usize = 20;

/// What somebody may do, and until when.
#[derive(Debug, Clone)]
struct Grant {
    caller: Caller,
    until: WallMs,
}

/// The codes and sessions that count, by the hashes of their secrets.
#[derive(Debug, Default)]
pub struct Sessions {
    codes: BTreeMap<String, Grant>,
    sessions: BTreeMap<String, Grant>,
}

impl Sessions {
    /// A code by which somebody gets the rights of `caller`; `None`: there are no random bytes.
    pub fn invite(&mut self, caller: Caller, now: WallMs) -> Option<String> {
        let secret = random_secret()?;
        add(&mut self.codes, &secret, Grant { caller, until: now.after(CODE_LIFE) }, now);
        Some(secret)
    }

    /// The session of who shows this code, which counts no more; `None`: it does not count.
    pub fn begin(&mut self, code: &str, now: WallMs) -> Option<String> {
        let Grant { caller, .. } = self.codes.remove(&hash(code)).filter(|code| code.until > now)?;
        let secret = random_secret()?;
        add(&mut self.sessions, &secret, Grant { caller, until: now.after(SESSION_LIFE) }, now);
        Some(secret)
    }

    /// Whose session it is. It has the rights that its token has now, if this is still there.
    ///
    /// # Errors
    /// [`Denied::NoSession`]: it is none.
    pub fn caller(&self, secret: &str, tokens: &TokenTable, now: WallMs) -> Result<Caller, Denied> {
        let grant = self.sessions.get(&hash(secret)).filter(|session| session.until > now);
        match grant.ok_or(Denied::NoSession)? {
            Grant { caller: Caller::Administrator, .. } => Ok(Caller::Administrator),
            Grant { caller: Caller::Token { id, .. }, .. } => tokens.holder(id, now),
        }
    }

    /// Ends a session.
    pub fn end(&mut self, secret: &str) {
        self.sessions.remove(&hash(secret));
    }
}

fn add(grants: &mut BTreeMap<String, Grant>, secret: &str, grant: Grant, now: WallMs) {
    grants.retain(|_, grant| grant.until > now);
    // A caller who makes many loses its own.
    let own = grants.iter().filter(|(_, other)| other.caller == grant.caller);
    if own.clone().count() >= MOST_OF_ONE {
        let first = own.min_by_key(|(_, grant)| grant.until).map(|(hash, _)| hash.clone());
        first.and_then(|first| grants.remove(&first));
    }
    grants.insert(hash(secret), grant);
}

#[cfg(test)]
mod tests {
    use shef_common::ids::TokenName;

    use super::*;
    use crate::access::{Role, Scope, Token, TokenKind, TokenRecord};

    fn record(role: Role, expires: Option<WallMs>) -> TokenRecord {
        let Token { id, hash, .. } = Token::random().unwrap();
        let kind = TokenKind::Api { role, scope: Scope::default() };
        TokenRecord { id, hash, kind, created: WallMs(900), expires }
    }

    fn holder(name: &TokenName, id: &str, role: Role) -> Caller {
        Caller::Token { id: id.to_owned(), name: name.clone(), role, scope: Scope::default() }
    }

    #[test]
    fn a_code_counts_once_and_for_minutes_and_a_session_for_hours() {
        let (mut sessions, tokens) = (Sessions::default(), TokenTable::default());
        let (start, code_ends) = (WallMs(1_000), WallMs(1_000).after(CODE_LIFE));
        let late = sessions.invite(Caller::Administrator, start).unwrap();
        assert_eq!(sessions.begin(&late, code_ends), None, "it has expired");
        let code = sessions.invite(Caller::Administrator, start).unwrap();
        assert_eq!(sessions.begin("0000", start), None);
        let session = sessions.begin(&code, start).unwrap();
        assert_eq!(sessions.begin(&code, start), None, "it was used");
        assert_eq!(sessions.caller(&session, &tokens, start), Ok(Caller::Administrator));
        assert_eq!(sessions.caller(&code, &tokens, start), Err(Denied::NoSession), "a code is no session");
        let ends = start.after(SESSION_LIFE);
        assert_eq!(sessions.caller(&session, &tokens, ends), Err(Denied::NoSession));
        sessions.end(&session);
        assert_eq!(sessions.caller(&session, &tokens, start), Err(Denied::NoSession));
    }

    #[test]
    fn a_session_has_the_rights_of_its_token_as_long_as_that_one_counts() {
        let name = TokenName::parse("ci").unwrap();
        let first = record(Role::Admin, None);
        let mut sessions = Sessions::default();
        let now = WallMs(1_000);
        let code = sessions.invite(holder(&name, &first.id, Role::Admin), now).unwrap();
        let session = sessions.begin(&code, now).unwrap();
        let with = |record: TokenRecord| {
            let table = TokenTable::of([(&name, &record)]);
            sessions.caller(&session, &table, WallMs(2_000))
        };
        let role = |caller: Result<Caller, Denied>| match caller {
            Ok(Caller::Token { role, .. }) => Some(role),
            Ok(Caller::Administrator) | Err(_) => None,
        };
        assert_eq!(role(with(first.clone())), Some(Role::Admin));
        let expired = TokenRecord { expires: Some(WallMs(1_500)), ..first };
        assert_eq!(role(with(expired)), None, "it has expired");
        assert_eq!(role(with(record(Role::Viewer, None))), None, "another one of that name and time");
        assert_eq!(role(sessions.caller(&session, &TokenTable::default(), now)), None, "it was revoked");
    }

    #[test]
    fn a_caller_with_too_many_loses_its_own_and_nobody_elses() {
        let mut sessions = Sessions::default();
        let mut make = |caller: Caller, at| sessions.invite(caller, WallMs(at)).unwrap();
        let name = TokenName::parse("ci").unwrap();
        let other = make(holder(&name, "0", Role::Viewer), 0);
        let codes: Vec<_> = (1..=MOST_OF_ONE as u64 + 1).map(|at| make(Caller::Administrator, at)).collect();
        assert_eq!(sessions.codes.len(), MOST_OF_ONE + 1);
        let now = WallMs(2_000);
        assert_eq!(sessions.begin(&codes[0], now), None, "the first one made way");
        assert!(sessions.begin(&codes[1], now).is_some() && sessions.begin(&other, now).is_some());
    }
}
