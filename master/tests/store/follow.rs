//! A store in a real Redis as another master follows it.

use std::collections::BTreeMap;

use deadpool_redis::redis::Value;
use shef_common::ids::{Epoch, Fence};
use shef_master::store::{
    Backup, Key, Record, Store, StoreError, Write,
    redis::{Place, RedisOptions, RedisStore},
};

use crate::{
    conformance::{cluster, delete, lead, leader, record, service, set},
    redis_server::RedisServer,
};

/// A leader's store, and a follower with what it knows.
struct Followed {
    server: RedisServer,
    leading: RedisStore,
    fence: Fence,
    following: RedisStore,
    place: Option<Place>,
    known: BTreeMap<Key, Record>,
}

impl Followed {
    async fn start() -> Self {
        let server = RedisServer::start(&[]);
        let leading = RedisStore::open(&server.options()).await.unwrap();
        let fence = lead(&leading, 1).await.fence;
        let following = RedisStore::open(&server.options()).await.unwrap();
        Self { server, leading, fence, following, place: None, known: BTreeMap::new() }
    }

    async fn commit(&self, writes: &[Write]) {
        self.leading.commit(&cluster(1), &self.fence, writes).await.unwrap();
    }

    /// Follows, and tells whether everything was read, and how many records came.
    async fn follow(&mut self) -> (bool, usize) {
        let told = self.following.follow(self.place.as_ref()).await.unwrap();
        let count = told.records.len() + told.gone.len();
        if told.everything {
            self.known.clear();
        }
        self.known.extend(told.records.into_iter().map(|record| (record.key.clone(), record)));
        told.gone.iter().for_each(|key| drop(self.known.remove(key)));
        self.place = Some(told.place);
        assert_eq!((told.fence, told.cluster), (self.fence.clone(), cluster(1)));
        (told.everything, count)
    }

    fn knows(&self, records: &[Record]) {
        assert_eq!(self.known.values().collect::<Vec<_>>(), records.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_follower_reads_what_has_changed_and_no_more() {
    let mut store = Followed::start().await;
    let (a, b, c) = (service("a"), service("b"), service("c"));
    store.commit(&[set(&a, None, "1"), set(&b, None, "1")]).await;
    assert_eq!(store.follow().await, (true, 2));
    assert_eq!(store.follow().await, (false, 0));
    store.commit(&[set(&a, Some(1), "2")]).await;
    store.commit(&[set(&a, Some(2), "3"), delete(&b, 1)]).await;
    store.commit(&[set(&c, None, "1")]).await;
    assert_eq!(store.follow().await, (false, 3), "each record once, as it is now");
    store.knows(&[record(&a, 3, "3"), record(&c, 1, "1")]);
    // What changes nothing is no change.
    store.commit(&[set(&c, None, "1"), set(&a, Some(1), "9")]).await;
    assert_eq!(store.follow().await, (false, 0));
    // Another leader goes on with the same log.
    store.fence = lead(&store.leading, 2).await.fence;
    store.commit(&[set(&c, Some(1), "2")]).await;
    assert_eq!(store.follow().await, (false, 1));
    store.knows(&[record(&a, 3, "3"), record(&c, 2, "2")]);
}

#[tokio::test]
async fn a_follower_reads_everything_where_the_log_has_a_gap() {
    let mut store = Followed::start().await;
    let a = service("a");
    store.commit(&[set(&a, None, "1"), set(&service("b"), None, "1")]).await;
    store.follow().await;
    for gap in ["DEL", "XTRIM", "XADD", "SET"] {
        let before = store.known[&a].version.0;
        store.commit(&[set(&a, Some(before), gap)]).await;
        match gap {
            "XTRIM" => store.server.run::<Value>(&["XTRIM", "shef:changes", "MAXLEN", "0"]),
            "DEL" => store.server.run(&["DEL", "shef:changes"]),
            "XADD" => store.server.run(&["XADD", "shef:changes", "*", "after", "1 0-1"]),
            // Something else lies there: commits go on without the log.
            _ => store.server.run(&["SET", "shef:changes", "other"]),
        };
        store.commit(&[set(&service("b"), Some(before), gap)]).await;
        assert_eq!(store.follow().await, (true, 2), "{gap}");
        store.knows(&[record(&a, before + 1, gap), record(&service("b"), before + 1, gap)]);
    }
    store.commit(&[set(&a, Some(5), "6")]).await;
    assert_eq!(store.follow().await, (true, 2), "each time, while it does");
    store.server.run::<Value>(&["DEL", "shef:changes"]);
    store.commit(&[set(&a, Some(6), "7")]).await;
    assert_eq!(store.follow().await, (true, 2));
    store.commit(&[set(&a, Some(7), "8")]).await;
    assert_eq!(store.follow().await, (false, 1), "and then the log goes on");
    // So many at once are not named.
    let many: Vec<_> = (0..101).map(|n| set(&service(&format!("s{n}")), None, "1")).collect();
    store.commit(&many).await;
    assert_eq!(store.follow().await, (true, 103));
}

/// A master of a version that knows no log leaves it as it is.
#[tokio::test]
async fn a_follower_reads_everything_after_a_leader_that_keeps_no_log() {
    let mut store = Followed::start().await;
    let a = service("a");
    store.commit(&[set(&a, None, "1")]).await;
    assert_eq!(store.follow().await, (true, 1));
    for follows_meanwhile in [true, false] {
        let version = store.known[&a].version.0;
        // As such a master leads, and commits.
        let epoch = (store.fence.epoch.0 + 1).to_string();
        store.server.run::<Value>(&["HSET", "shef:store", "epoch", &epoch, "leader", "00000000000000ff"]);
        store.server.run::<Value>(&["HSET", "shef:store", "service/a", &format!("{} theirs", version + 1)]);
        store.fence = lead(&store.leading, 1).await.fence;
        if follows_meanwhile {
            assert_eq!(store.follow().await, (true, 1));
        }
        store.commit(&[set(&service("b"), (!follows_meanwhile).then_some(1), "b")]).await;
        assert_eq!(store.follow().await, (true, 2), "{follows_meanwhile}");
        assert_eq!(store.known[&a], record(&a, version + 1, "theirs"));
    }
}

#[tokio::test]
async fn a_follower_reads_everything_of_a_store_that_was_emptied_or_replaced() {
    let mut store = Followed::start().await;
    let a = service("a");
    store.commit(&[set(&a, None, "1"), set(&service("b"), None, "1")]).await;
    store.follow().await;
    store.server.run::<Value>(&["FLUSHALL"]);
    assert_eq!(store.following.follow(store.place.as_ref()).await, Err(StoreError::Emptied));
    store.leading.restore(&cluster(1), &store.fence, &[record(&a, 1, "1")]).await.unwrap();
    assert_eq!(store.follow().await, (true, 1));
    assert_eq!(store.follow().await, (false, 0));
    store.knows(&[record(&a, 1, "1")]);
    store.commit(&[set(&a, Some(1), "2")]).await;
    let backup = Backup {
        cluster: cluster(1),
        fence: Fence { epoch: Epoch(40), leader: leader(3) },
        records: vec![record(&service("c"), 3, "3")],
    };
    store.fence = store.leading.load(&backup, true).await.unwrap();
    assert_eq!(store.follow().await, (true, 1));
    store.knows(&[record(&service("c"), 3, "3")]);
    // Another backup of the same epoch.
    store.server.run::<Value>(&["FLUSHALL"]);
    let other = Backup { records: vec![record(&service("d"), 3, "3")], ..backup };
    store.fence = store.leading.load(&other, false).await.unwrap();
    assert_eq!(store.follow().await, (true, 1));
    store.knows(&[record(&service("d"), 3, "3")]);
}

#[tokio::test]
async fn a_user_without_a_right_to_the_log_commits_all_the_same() {
    let mut store = Followed::start().await;
    let rights = [
        "ACL",
        "SETUSER",
        "shef",
        "on",
        ">secret",
        "~shef:store",
        "-@all",
        "+@hash",
        "+exists",
        "+@scripting",
    ];
    store.server.run::<Value>(&[&rights[..], &["+@connection"]].concat());
    let (username, password) = (Some("shef".into()), Some("secret".into()));
    store.leading =
        RedisStore::open(&RedisOptions { username, password, ..store.server.options() }).await.unwrap();
    store.commit(&[set(&service("a"), None, "1")]).await;
    assert_eq!(store.follow().await, (true, 1));
    store.commit(&[set(&service("a"), Some(1), "2")]).await;
    assert_eq!(store.follow().await, (true, 1));
    store.knows(&[record(&service("a"), 2, "2")]);
}
