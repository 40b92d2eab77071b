//! The first token of a new cluster: an administrator's, in a file of the master's data directory. Who may read
//! that file may use the master's socket, and so has the same rights. It is for the first days: a file is copied
//! more easily than a socket.

use std::{path::Path, time::Duration};

use shef_common::{clock::Now, files, ids::TokenName};

use super::{Role, Scope, Token, TokenKind, TokenRecord};
use crate::{
    identity::is_new_store,
    store::{Key, LeadOutcome, Store, add_at_start},
};

/// The file in the master's data directory.
pub const ADMIN_TOKEN: &str = "admin-token";
/// The token's name.
const NAME: &str = "admin";
/// How long it counts. Afterwards tokens are made by the socket, or by another token.
const FIRST_TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Its owner alone reads it.
const MODE: u32 = 0o600;

/// Makes the token, if the cluster is new and has none.
///
/// # Errors
/// It cannot be made, written or stored.
pub async fn first_token(data_dir: &Path, store: &dyn Store, led: &mut LeadOutcome) -> Result<(), String> {
    let has_tokens = led.records.iter().any(|record| matches!(record.key, Key::Token(_)));
    if has_tokens || !is_new_store(&led.records) {
        return Ok(());
    }
    let token = Token::random().ok_or("there are no random bytes")?;
    let kind = TokenKind::Api { role: Role::Admin, scope: Scope::default() };
    let (id, hash, created) = (token.id, token.hash, Now::read().wall);
    let expires = Some(created.after(FIRST_TOKEN_LIFE));
    let record = TokenRecord { id, hash, kind, created, expires };
    let name = TokenName::parse(NAME).map_err(|error| error.to_string())?;
    let value = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
    // One that does not count after all is replaced at the next start.
    let path = data_dir.join(ADMIN_TOKEN);
    files::make_data_dir(data_dir)
        .and_then(|()| files::replace(&path, MODE, format!("{}\n", token.text).as_bytes()))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    add_at_start(store, led, Key::Token(name), value).await.map_err(|error| error.to_string())?;
    log::info!(
        path:% = path.display();
        "this cluster has a first token, of an administrator, which counts for 7 days"
    );
    Ok(())
}
