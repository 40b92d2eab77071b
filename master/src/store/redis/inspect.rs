//! A look at a Redis without becoming its master: reads only.

use deadpool_redis::{PoolError, redis::cmd};

use super::{
    RedisOptions, RedisStore, refused,
    server::{Settings, field_in},
};
use crate::store::OpenError;

/// What matters of a Redis that is to be a store. `None`: it does not tell.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RedisFacts {
    /// Its version, as in `7.0.15`.
    pub version: Option<String>,
    /// `maxmemory-policy`; only `noeviction` keeps the store.
    pub maxmemory_policy: Option<String>,
    /// Whether it keeps an append-only file, without which a restart loses data.
    pub appendonly: Option<bool>,
    /// How often that file is synced: `always`, `everysec` or `no`.
    pub appendfsync: Option<String>,
    /// `master`, or `slave` for a replica, which refuses writes.
    pub role: Option<String>,
    /// Whether nothing lies under the store's key.
    pub empty: bool,
    /// The cluster whose store it is; none where nothing is stored.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// Looks at the Redis that `options` name.
///
/// # Errors
/// [`OpenError`] if it does not answer, or does not let us in.
pub async fn inspect(options: &RedisOptions) -> Result<RedisFacts, OpenError> {
    let store = RedisStore::unconnected(options)?;
    let failed = |error| refused(&store.name, &error);
    let mut connection = store.pool.get().await.map_err(failed)?;
    let exists: i64 = cmd("EXISTS")
        .arg(&store.key)
        .query_async(&mut connection)
        .await
        .map_err(|error| failed(PoolError::Backend(error)))?;
    let cluster: Option<String> = cmd("HGET")
        .arg(&store.key)
        .arg("cluster")
        .query_async(&mut connection)
        .await
        .map_err(|error| failed(PoolError::Backend(error)))?;
    let settings = Settings::ask(&mut connection).await.map_err(|error| failed(PoolError::Backend(error)))?;
    let field = |name| field_in(&settings.info, name).map(str::to_owned);
    Ok(RedisFacts {
        version: field("redis_version"),
        role: field("role"),
        maxmemory_policy: settings.policy,
        appendonly: settings.append_only.map(|text| text == "yes"),
        appendfsync: settings.fsync,
        empty: exists == 0,
        cluster,
    })
}

/// The format of the store in the Redis that `options` name; none where nothing is stored.
///
/// # Errors
/// [`OpenError`] if it does not answer, does not let us in, or what is there is no number.
pub async fn stored_format(options: &RedisOptions) -> Result<Option<u32>, OpenError> {
    let store = RedisStore::unconnected(options)?;
    let mut connection = store.pool.get().await.map_err(|error| refused(&store.name, &error))?;
    store.format(&mut connection).await
}
