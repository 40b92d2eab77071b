//! A look at a Redis without becoming its master: reads only.

use deadpool_redis::{PoolError, redis::cmd};

use super::{
    RedisOptions, RedisStore, refused,
    server::{Settings, field_in},
};
use crate::store::{OpenError, RedisFacts};

/// Looks at the Redis that `options` name.
///
/// # Errors
/// [`OpenError`] if it does not answer, or does not let us in.
pub async fn inspect(options: &RedisOptions) -> Result<RedisFacts, OpenError> {
    options.refuse_if_open().await?;
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
    options.refuse_if_open().await?;
    let store = RedisStore::unconnected(options)?;
    let mut connection = store.pool.get().await.map_err(|error| refused(&store.name, &error))?;
    store.format(&mut connection).await
}
