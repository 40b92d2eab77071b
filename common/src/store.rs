//! Facts about the store that are needed outside the master: the bootstrap checks a Redis before a master
//! starts on it.

/// The format of what is stored: of the records, and of how both stores lay them down. Since format 2 a
/// service is stored in parts.
pub const FORMAT: u32 = 2;

/// The facts about a Redis that matter for a store. `None`: it does not tell.
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
