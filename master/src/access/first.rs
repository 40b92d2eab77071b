//! The first token of a new cluster, or of one that nobody else could enter: an administrator's, in a file of
//! the master's data directory. Who may read that file may use the master's socket, and so has the same
//! rights. It is for the first days: a file is copied more easily than a socket.

use std::{
    fs,
    path::{Path, PathBuf},
};

use shef_common::{clock::WallMs, files};

use super::{
    ClockCheck, Presented, RecoveredToken, Role, Scope, Token, TokenKind, TokenRecord, TokenTable,
    administrators::{FIRST_TOKEN_LIFE, token_to_make},
};
use crate::{
    identity::is_new_store,
    store::{Key, LeadOutcome, Record, Store, add_at_start, remove_at_start},
};

/// The file in the master's data directory.
pub const ADMIN_TOKEN: &str = "admin-token";
/// Its owner alone reads it.
const MODE: u32 = 0o600;

fn text_in(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn holds_token(path: &Path) -> bool {
    Presented::in_text(text_in(path).trim()).is_some()
}

/// Whether a file holds a token that has expired, or that the store has not: it was revoked, or the store is
/// that of a backup.
fn is_stale(path: &Path, known: &[RecoveredToken], now: WallMs) -> bool {
    let text = text_in(path);
    let Some(token) = Presented::in_text(text.trim()) else { return false };
    TokenTable::of(known.iter().map(|token| (&token.name, &token.record))).caller(token, now).is_err()
}

/// A token that stands in its file, and the records of earlier ones that may go.
#[derive(Debug)]
pub struct FirstToken {
    path: PathBuf,
    has_socket: bool,
    clock: ClockCheck,
    /// `None`: none was needed.
    made: Option<TokenRecord>,
}

impl FirstToken {
    /// Makes the token and writes its file, if the cluster is new and has none, or if nobody else could make
    /// one: there is no socket, and no token of an administrator counts. One in its file that is not valid any
    /// more is removed. By a clock that cannot be right nothing is done to a token in the file.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn prepared(
        data_dir: &Path,
        records: &[Record],
        has_socket: bool,
        clock: ClockCheck,
    ) -> Result<Self, String> {
        let (path, known) = (data_dir.join(ADMIN_TOKEN), tokens(records));
        let name = token_to_make(&known, is_new_store(records), has_socket, clock.now);
        let none = Self { path, has_socket, clock, made: None };
        let (path, shown) = (&none.path, none.path.display());
        let is_stale = is_stale(path, &known, clock.now);
        if let Some(newest) = clock.differs_from.filter(|_| holds_token(path) && (is_stale || name.is_some()))
        {
            log::error!(
                path:% = shown, now:% = clock.now.iso(), newest:% = newest.iso();
                "this clock is too far from the latest time that is stored: the token of an administrator is \
                 neither removed nor replaced; set the clock right, or, if it is right, delete the file and \
                 start again"
            );
            return Ok(none);
        }
        if is_stale {
            match fs::remove_file(path) {
                Ok(()) => log::info!(path:% = shown; "removed a token that is not valid any more"),
                Err(error) => {
                    log::warn!(path:% = shown, error:%; "a token that is not valid any more is left");
                }
            }
        }
        if name.is_none() {
            return Ok(none);
        }
        let token = Token::random().ok_or("there are no random bytes")?;
        let kind = TokenKind::Api { role: Role::Admin, scope: Scope::default() };
        let (id, hash, created) = (token.id, token.hash, clock.now);
        let expires = Some(created.after(FIRST_TOKEN_LIFE));
        // One that is not stored after all is replaced at the next start.
        files::make_data_dir(data_dir)
            .and_then(|()| files::replace(path, MODE, format!("{}\n", token.text).as_bytes()))
            .map_err(|error| format!("{shown} cannot be written: {error}"))?;
        Ok(Self { made: Some(TokenRecord { id, hash, kind, created, expires }), ..none })
    }

    /// Has the store know the token, and removes records of earlier ones that may go.
    ///
    /// # Errors
    /// The store does not take the token.
    pub async fn stored(self, store: &dyn Store, led: &mut LeadOutcome) -> Result<(), String> {
        let Self { path, has_socket, clock, made } = self;
        if clock.differs_from.is_none() {
            for token in tokens(&led.records).into_iter().filter(|token| token.may_go(clock.now)) {
                let RecoveredToken { name, version, .. } = token;
                match remove_at_start(store, led, Key::Token(name.clone()), version).await {
                    Ok(()) => log::info!(token:% = name; "removed the record of a token that has expired"),
                    Err(error) => log::warn!(token:% = name, error:%; "an expired token's record is left"),
                }
            }
        }
        let Some(record) = made else { return Ok(()) };
        // By what is stored now: another master may have made one meanwhile.
        let known = tokens(&led.records);
        let name = token_to_make(&known, is_new_store(&led.records), has_socket, clock.now);
        let Some(name) = name else { return Ok(()) };
        let value = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        let key = Key::Token(name.clone());
        add_at_start(store, led, key, None, value).await.map_err(|error| error.to_string())?;
        log::info!(
            token:% = name, path:% = path.display();
            "this cluster has a new token, of an administrator, valid for 7 days"
        );
        Ok(())
    }
}

/// The tokens of these records. Whoever recovers them says which cannot be read.
fn tokens(records: &[Record]) -> Vec<RecoveredToken> {
    let token = |record: &Record| match &record.key {
        Key::Token(name) => {
            let read = serde_json::from_slice(&record.value).ok()?;
            Some(RecoveredToken { name: name.clone(), version: record.version, record: read })
        }
        _ => None,
    };
    records.iter().filter_map(token).collect()
}

#[cfg(test)]
mod tests {
    use shef_common::ids::{ClusterId, Epoch, LeaderId, TokenName, Version};

    use super::*;
    use crate::store::fake::FakeStore;

    const DAY: u64 = 24 * 3_600 * 1_000;
    const NOW: WallMs = WallMs(20_000 * DAY);

    /// A start at `now` of a master without a socket; the latest time that is stored is `newest`. Returns the
    /// names of the tokens that are stored.
    async fn start(dir: &Path, store: &FakeStore, now: WallMs, newest: WallMs) -> Vec<String> {
        let leader = LeaderId::parse("00000000000000aa").unwrap();
        let cluster = ClusterId::parse("00000000000000c1").unwrap();
        let clock = ClockCheck::by(now, Some(newest));
        let records = store.look().await.unwrap().records;
        let token = FirstToken::prepared(dir, &records, false, clock).unwrap();
        let mut led = store.lead(&leader, Epoch(0), &cluster).await.unwrap();
        token.stored(store, &mut led).await.unwrap();
        assert_eq!(led.records, store.records());
        tokens(&led.records).into_iter().map(|token| token.name.to_string()).collect()
    }

    #[actix_rt::test]
    async fn a_clock_that_cannot_be_right_replaces_no_token() {
        let (dir, store) = (tempfile::tempdir().unwrap(), FakeStore::new());
        let path = dir.path().join(ADMIN_TOKEN);
        assert_eq!(start(dir.path(), &store, NOW, NOW).await, ["admin"]);
        let first = fs::read_to_string(&path).unwrap();
        let in_2099 = WallMs(47_300 * DAY);
        for wrong in [in_2099, WallMs(0)] {
            // However often it starts so.
            for _ in 0..2 {
                assert_eq!(start(dir.path(), &store, wrong, NOW).await, ["admin"]);
                assert_eq!(fs::read_to_string(&path).unwrap(), first);
            }
        }
        assert_eq!(start(dir.path(), &store, NOW, NOW).await, ["admin"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        // It expires, and is replaced; its record goes a month later.
        let later = |days: u64| WallMs(NOW.0 + days * DAY);
        assert_eq!(start(dir.path(), &store, later(8), NOW).await, ["admin", "admin-2"]);
        assert_ne!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(start(dir.path(), &store, later(37), NOW).await, ["admin", "admin-2"]);
        // Who was away for longer deletes the file.
        let before = fs::read_to_string(&path).unwrap();
        assert_eq!(start(dir.path(), &store, later(500), NOW).await, ["admin", "admin-2"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        fs::remove_file(&path).unwrap();
        assert_eq!(start(dir.path(), &store, later(500), NOW).await, ["admin", "admin-2", "admin-3"]);
        assert_ne!(fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_known_before_the_lead_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let clock = ClockCheck::by(NOW, None);
        let why = FirstToken::prepared(&dir.path().join("file"), &[], false, clock).unwrap_err();
        assert!(why.contains("admin-token cannot be written"), "{why}");
    }

    #[test]
    fn a_token_is_stale_that_the_store_has_not_or_that_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ADMIN_TOKEN);
        assert!(!is_stale(&path, &[], WallMs(1)), "there is no file");
        let Token { text, id, hash } = Token::random().unwrap();
        fs::write(&path, format!("{text}\n")).unwrap();
        assert!(is_stale(&path, &[], WallMs(1)), "a restore brings no tokens back");
        let kind = TokenKind::Api { role: Role::Admin, scope: Scope::default() };
        let record = TokenRecord { id, hash, kind, created: WallMs(0), expires: Some(WallMs(2)) };
        let known =
            [RecoveredToken { name: TokenName::parse("admin").unwrap(), version: Version(1), record }];
        assert!(!is_stale(&path, &known, WallMs(1)));
        assert!(is_stale(&path, &known, WallMs(2)));
        fs::write(&path, "mine").unwrap();
        assert!(!is_stale(&path, &[], WallMs(1)), "it is no token");
    }
}
