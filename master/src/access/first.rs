//! The first token of a new cluster, or of one that nobody else could enter: an administrator's, in a file of the
//! master's data directory. Who may read that file may use the master's socket, and so has the same rights. It is for
//! the first days: a file is copied more easily than a socket.

use std::{path::Path, time::Duration};

use shef_common::{clock::Now, files};

use super::{RecoveredToken, Role, Scope, Token, TokenKind, TokenRecord, administrators::token_to_make};
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

/// Makes the token, if the cluster is new and has none, or if nobody else could make one: there is no socket, and no
/// token of an administrator counts.
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
    let Some((name, in_place_of)) = token_to_make(&tokens(&led.records), is_new, has_socket, created) else {
        return Ok(());
    };
    let token = Token::random().ok_or("there are no random bytes")?;
    let kind = TokenKind::Api { role: Role::Admin, scope: Scope::default() };
    let (id, hash) = (token.id, token.hash);
    let expires = Some(created.after(FIRST_TOKEN_LIFE));
    let record = TokenRecord { id, hash, kind, created, expires };
    let value = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
    // One that does not count after all is replaced at the next start.
    let path = data_dir.join(ADMIN_TOKEN);
    files::make_data_dir(data_dir)
        .and_then(|()| files::replace(&path, MODE, format!("{}\n", token.text).as_bytes()))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    let key = Key::Token(name.clone());
    add_at_start(store, led, key, in_place_of, value).await.map_err(|error| error.to_string())?;
    log::info!(
        token:% = name, path:% = path.display();
        "this cluster has a new token, of an administrator, which counts for 7 days"
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
