//! Following a store that another master writes to.

use bytes::Bytes;
use shef_common::ids::{ClusterId, Fence};

use super::{FOLLOW, FORMAT, RedisStore, parse, parts, refusal, text};
use crate::store::{Key, Record, StoreError};

/// A place in the change log of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Bytes);

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Where to go on.
    pub place: Place,
    /// The store's cluster.
    pub cluster: ClusterId,
    /// The fence of the leader.
    pub fence: Fence,
    /// Whether these are all records, and not only those that have changed: there was no place to begin from,
    /// or the log does not go back that far.
    pub everything: bool,
    /// The records as they are at this place, in the order of their keys.
    pub records: Vec<Record>,
    /// The records that are gone.
    pub gone: Vec<Key>,
}

impl RedisStore {
    /// What has changed since `place`, or everything. It is one state of the store, not a mixture.
    ///
    /// # Errors
    /// [`StoreError`], of which [`StoreError::Emptied`] says that there is nothing to follow.
    pub async fn follow(&self, place: Option<&Place>) -> Result<Followed, StoreError> {
        let from = place.map_or_else(Bytes::new, |Place(place)| place.clone());
        let answer = self.run(&FOLLOW, false, |_| vec![text(&FORMAT), text(&self.change_log), from]).await?;
        let (everything, rest) = match parts(&answer) {
            ("everything", rest) => (true, rest),
            ("changed", rest) => (false, rest),
            other => return Err(refusal(other)),
        };
        let [place, cluster, epoch, leader, fields @ ..] = rest else {
            return Err(refusal(parts(&answer)));
        };
        let (there, gone): (Vec<_>, Vec<_>) = fields.chunks_exact(2).partition(|pair| !pair[1].is_empty());
        Ok(Followed {
            place: Place(place.clone()),
            cluster: parse(cluster, "cluster")?,
            fence: Fence { epoch: parse(epoch, "epoch")?, leader: parse(leader, "leader")? },
            everything,
            records: super::records(&there.concat())?,
            gone: gone.iter().map(|pair| parse(&pair[0], "a key")).collect::<Result<_, _>>()?,
        })
    }
}
