//! What a master adds to the store before it serves anybody.

use std::time::Duration;

use shef_common::ids::Version;

use super::{Key, LeadOutcome, Record, Store, StoreError, Write, WriteOutcome};

/// How often, and how far apart, a store that does not confirm is tried.
const TRIES: (u32, Duration) = (10, Duration::from_millis(500));

/// Adds a record to the store, and to what `led` brought: one that is not there, or in the place of the
/// version `expect`.
///
/// # Errors
/// The store does not take it, or another master has added it.
pub async fn add_at_start(
    store: &dyn Store,
    led: &mut LeadOutcome,
    key: Key,
    expect: Option<Version>,
    value: Vec<u8>,
) -> Result<Version, StoreError> {
    write_at_start(store, led, Write { key, expect, value: Some(value.into()) }).await
}

/// Removes a record of this version from the store, and from what `led` brought.
///
/// # Errors
/// As [`add_at_start`].
pub async fn remove_at_start(
    store: &dyn Store,
    led: &mut LeadOutcome,
    key: Key,
    version: Version,
) -> Result<(), StoreError> {
    write_at_start(store, led, Write { key, expect: Some(version), value: None }).await.map(drop)
}

async fn write_at_start(
    store: &dyn Store,
    led: &mut LeadOutcome,
    write: Write,
) -> Result<Version, StoreError> {
    let writes = [write];
    let version = writes[0].version_after();
    let mut tries_left = TRIES.0;
    let outcomes = loop {
        // Sending it a second time is harmless.
        match store.commit(&led.cluster, &led.fence, &writes).await {
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Unconfirmed { .. }))
                if tries_left > 0 =>
            {
                tries_left -= 1;
                log::warn!(error:%, tries_left; "waiting for the store");
                tokio::time::sleep(TRIES.1).await;
            }
            outcomes => break outcomes?,
        }
    };
    if outcomes != [WriteOutcome::Done] {
        let why = "it holds another one, which another master has made; start again".to_owned();
        return Err(StoreError::Unreadable { why });
    }
    let [Write { key, value, .. }] = writes;
    led.records.retain(|record| record.key != key);
    if let Some(value) = value {
        led.records.push(Record { key, version, value });
        led.records.sort_by(|one, other| one.key.cmp(&other.key));
    }
    Ok(version)
}
