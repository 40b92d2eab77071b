//! Tokens from their creation to their end, and what callers may do.

mod joins;
mod readmissions;

use shef_common::{
    clock::WallMs,
    ids::{TokenName, Version},
};

use super::{
    core::{AccessCore, MAX_TOKENS},
    events::{Effect, Event, RecoveredAccess},
    kind::TokenKind,
    messages::{Created, TokenAsked, TokenRefused},
    need::{Caller, Denied, Need, Role, Scope},
    token::{Presented, RecoveredToken, Token, TokenRecord, TokenTable},
};
use crate::store::CommitError;

const NOW: WallMs = WallMs(1_000);

fn name(text: &str) -> TokenName {
    TokenName::parse(text).unwrap()
}

fn asked(role: Role, prefix: &str, expires: Option<u64>) -> TokenAsked {
    let kind = TokenKind::Api { role, scope: Scope::of(prefix).unwrap() };
    TokenAsked { kind, expires: expires.map(WallMs) }
}

/// Creates a token whose commit ends so.
fn create(
    core: &mut AccessCore,
    text: &str,
    asked: TokenAsked,
    outcome: Result<(), CommitError>,
) -> Vec<Effect> {
    let token = Token::random().unwrap();
    let mut effects = core.handle(Event::Create { ticket: 1, name: name(text), asked, token, now: NOW });
    if matches!(effects[..], [Effect::Commit { .. }]) {
        effects = core.handle(Event::Committed(name(text), outcome));
    }
    effects
}

/// What was published last, and what was answered.
fn outcome(
    effects: Vec<Effect>,
) -> (Option<std::sync::Arc<TokenTable>>, Result<Option<Created>, TokenRefused>) {
    let (mut table, mut answer) = (None, None);
    for effect in effects {
        match effect {
            Effect::Publish(_, published) => table = Some(published),
            Effect::Answer(_, answered) => answer = Some(answered),
            other => panic!("not to be done: {other:?}"),
        }
    }
    (table, answer.unwrap())
}

#[test]
fn a_token_of_a_clock_that_was_far_ahead_does_not_count() {
    const DAY: u64 = 24 * 3_600_000;
    let Token { text, id, hash } = Token::random().unwrap();
    let kind = TokenKind::Api { role: Role::Admin, scope: Scope::default() };
    let record = TokenRecord { id, hash, kind, created: WallMs(2 * DAY), expires: None };
    let name = name("admin");
    let table = TokenTable::of([(&name, &record)]);
    assert!(caller(&table, &text, WallMs(DAY)).is_ok(), "clocks differ");
    let ahead = Denied::Ahead { name, created: record.created };
    assert_eq!(caller(&table, &text, WallMs(DAY - 1)), Err(ahead));
}

fn caller(table: &TokenTable, token: &str, now: WallMs) -> Result<Caller, Denied> {
    table.caller(Presented::in_header(&format!("Bearer {token}"))?, now)
}

#[test]
fn a_token_counts_from_when_it_is_durable_until_it_expires_or_is_revoked() {
    let mut core = AccessCore::default();
    let (table, created) = outcome(create(&mut core, "ci", asked(Role::Viewer, "", Some(2_000)), Ok(())));
    let (table, created) = (table.unwrap(), created.unwrap().unwrap());
    let token = created.token;
    assert!(caller(&table, &token, WallMs(1_999)).is_ok());
    let expired = Denied::Expired { name: name("ci"), at: WallMs(2_000) };
    assert_eq!(caller(&table, &token, WallMs(2_000)), Err(expired));
    let other_secret = format!("{}{}", &token[..token.len() - 64], "0".repeat(64));
    let late = caller(&table, &other_secret, WallMs(2_000));
    assert_eq!(late, Err(Denied::Unknown), "it expired for who shows all of it");

    let effects = core.handle(Event::Revoke { ticket: 2, name: name("ci") });
    assert!(matches!(effects[..], [Effect::Commit { expect: Some(Version(1)), record: None, .. }]));
    let (table, revoked) = outcome(core.handle(Event::Committed(name("ci"), Ok(()))));
    assert_eq!(revoked, Ok(None));
    assert_eq!(caller(&table.unwrap(), &token, NOW), Err(Denied::Unknown));
}

#[test]
fn what_the_store_did_not_take_counts_nowhere() {
    let mut core = AccessCore::default();
    let lost = CommitError::Unavailable { why: "away".to_owned() };
    let (table, refused) = outcome(create(&mut core, "ci", asked(Role::Admin, "", None), Err(lost.clone())));
    assert!(table.is_none());
    assert_eq!(refused, Err(TokenRefused::Store(lost)));
    assert!(outcome(create(&mut core, "ci", asked(Role::Admin, "", None), Ok(()))).1.is_ok());
}

#[test]
fn a_name_is_taken_once_and_tokens_are_bounded() {
    let mut core = AccessCore::default();
    let mut make = |text: &str| outcome(create(&mut core, text, asked(Role::Viewer, "", None), Ok(()))).1;
    make("ci").unwrap();
    assert_eq!(make("ci"), Err(TokenRefused::Exists(name("ci"))));
    for n in 1..MAX_TOKENS {
        make(&format!("t{n}")).unwrap();
    }
    assert_eq!(make("more"), Err(TokenRefused::TooMany(MAX_TOKENS)));
    let unknown = core.handle(Event::Revoke { ticket: 1, name: name("more") });
    assert_eq!(outcome(unknown).1, Err(TokenRefused::NotFound(name("more"))));
}

#[test]
fn only_the_whole_token_in_the_header_is_recognised() {
    let mut core = AccessCore::default();
    let (table, created) = outcome(create(&mut core, "ci", asked(Role::Viewer, "", None), Ok(())));
    let (table, token) = (table.unwrap(), created.unwrap().unwrap().token);
    let other = Token::random().unwrap().text;
    let (id, _) = token.rsplit_once('_').unwrap();
    let (_, foreign_secret) = other.rsplit_once('_').unwrap();
    for (wrong, denied) in [
        (String::new(), Denied::Malformed),
        (token.to_uppercase(), Denied::Malformed),
        (token[..token.len() - 1].to_owned(), Denied::Malformed),
        (format!("{token}0"), Denied::Malformed),
        (token.replacen("shef_", "", 1), Denied::Malformed),
        (format!("{id}_{foreign_secret}"), Denied::Unknown),
        (other.clone(), Denied::Unknown),
    ] {
        assert_eq!(caller(&table, &wrong, NOW), Err(denied), "{wrong}");
    }
    assert!(caller(&table, &token, NOW).is_ok());
    for none in [format!("Basic {token}"), token, String::new()] {
        assert_eq!(Presented::in_header(&none).err(), Some(Denied::NoToken));
    }
}

#[test]
fn no_secret_is_stored_or_shown_but_in_the_answer() {
    let mut core = AccessCore::default();
    let token = Token::random().unwrap();
    let (_, secret) =
        token.text.clone().rsplit_once('_').map(|(id, s)| (id.to_owned(), s.to_owned())).unwrap();
    assert!(!format!("{token:?}").contains(&secret));
    let create =
        Event::Create { ticket: 1, name: name("ci"), asked: asked(Role::Viewer, "", None), token, now: NOW };
    let effects = core.handle(create);
    assert!(!format!("{effects:?}").contains(&secret));
    let [Effect::Commit { record: Some(record), .. }] = &effects[..] else { panic!("{effects:?}") };
    let stored = serde_json::to_string(record).unwrap();
    assert!(!stored.contains(&secret));
    let read: TokenRecord = serde_json::from_str(&stored).unwrap();
    let recovered = RecoveredToken { name: name("ci"), version: Version(1), record: read };
    let recovered = RecoveredAccess { tokens: vec![recovered], ..RecoveredAccess::default() };
    let (_, first) = AccessCore::recover(recovered, NOW);
    assert!(!format!("{first:?}").contains(&secret));
}

#[test]
fn each_role_may_what_those_before_it_may_and_no_more() {
    let holder = |role| Caller::Token { id: String::new(), name: name("t"), role, scope: Scope::default() };
    for has in Role::ALL {
        for needed in Role::ALL {
            let may = holder(has).may(Need::Role(needed), None);
            assert_eq!(may.is_ok(), has >= needed, "{has} {needed}");
        }
        assert!(holder(has).may(Need::Nothing, None).is_ok());
        assert_eq!(holder(has).may(Need::Service, Some("web")).is_ok(), has >= Role::Deployer, "{has}");
    }
    assert!(Caller::Administrator.may(Need::Role(Role::Admin), None).is_ok());
}

#[test]
fn a_deployer_of_some_services_changes_no_other() {
    let holder = Caller::Token {
        id: String::new(),
        name: name("t"),
        role: Role::Deployer,
        scope: Scope::of("team-a-").unwrap(),
    };
    for (service, is_its) in [("team-a-web", true), ("team-a-", true), ("team-ab", false), ("web", false)] {
        assert_eq!(holder.may(Need::Service, Some(service)).is_ok(), is_its, "{service}");
    }
    assert!(holder.may(Need::Service, None).is_ok(), "the name stands in the body, and is asked about there");
    assert!(holder.may_change(&"web".parse().unwrap()).is_err());
    assert!(holder.may(Need::Role(Role::Viewer), None).is_ok());
    let viewer =
        Caller::Token { id: String::new(), name: name("t"), role: Role::Viewer, scope: Scope::default() };
    assert!(viewer.may_change(&"web".parse().unwrap()).is_err(), "whatever was asked before");
    assert!(Scope::of("Team").is_none() && Scope::of("a b").is_none() && Scope::of("-a").is_none());
}
