//! The first token of a new cluster, or of one that nobody else could enter: an administrator's, in a file of
//! the master's data directory. Who may read that file may use the master's socket, and so has the same
//! rights. It is for the first days: a file is copied more easily than a socket.

use std::{fs, path::Path, time::Duration};

use shef_common::{
    clock::{Now, WallMs},
    files,
};

use super::{
    Presented, RecoveredToken, Role, Scope, Token, TokenKind, TokenRecord, TokenTable,
    administrators::token_to_make,
};
use crate::{
    identity::is_new_store,
    store::{Key, LeadOutcome, Record, Store, add_at_start},
};

/// The file in the master's data directory.
pub const ADMIN_TOKEN: &str = "admin-token";
/// How long it counts. Afterwards tokens are made by the socket, or by another token.
const FIRST_TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Its owner alone reads it.
const MODE: u32 = 0o600;

/// Whether a file holds a token that has expired, or that the store has not: it was revoked, or the store is
/// that of a backup.
fn is_stale(path: &Path, known: &[RecoveredToken], now: WallMs) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let Some(token) = Presented::in_text(text.trim()) else { return false };
    TokenTable::of(known.iter().map(|token| (&token.name, &token.record))).caller(token, now).is_err()
}

/// Makes the token, if the cluster is new and has none, or if nobody else could make one: there is no socket,
/// and no token of an administrator counts. One in its file that is not valid any more is removed.
///
/// # Errors
/// It cannot be made, written or stored.
pub async fn first_token(
    data_dir: &Path,
    store: &dyn Store,
    led: &mut LeadOutcome,
    has_socket: bool,
) -> Result<(), String> {
    let created = Now::read().wall;
    let is_new = is_new_store(&led.records);
    let (path, known) = (data_dir.join(ADMIN_TOKEN), tokens(&led.records));
    if is_stale(&path, &known, created) {
        let shown = path.display();
        match fs::remove_file(&path) {
            Ok(()) => log::info!(path:% = shown; "removed a token that is not valid any more"),
            Err(error) => log::warn!(path:% = shown, error:%; "a token that is not valid any more is left"),
        }
    }
    let Some(name) = token_to_make(&known, is_new, has_socket, created) else {
        return Ok(());
    };
    let token = Token::random().ok_or("there are no random bytes")?;
    let kind = TokenKind::Api { role: Role::Admin, scope: Scope::default() };
    let (id, hash) = (token.id, token.hash);
    let expires = Some(created.after(FIRST_TOKEN_LIFE));
    let record = TokenRecord { id, hash, kind, created, expires };
    let value = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
    // One that does not count after all is replaced at the next start.
    files::make_data_dir(data_dir)
        .and_then(|()| files::replace(&path, MODE, format!("{}\n", token.text).as_bytes()))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    let key = Key::Token(name.clone());
    add_at_start(store, led, key, None, value).await.map_err(|error| error.to_string())?;
    log::info!(
        token:% = name, path:% = path.display();
        "this cluster has a new token, of an administrator, valid for 7 days"
    );
    Ok(())
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
    use shef_common::ids::{TokenName, Version};

    use super::*;

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
