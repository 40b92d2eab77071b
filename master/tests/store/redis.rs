//! The store in a real Redis: its promises, its refusals, its format.

mod access;

use std::process::Command;

use deadpool_redis::redis::Value;
use shef_common::{
    clock::DurationMs,
    ids::{Epoch, Fence, Version},
};
use shef_master::store::{
    Backup, FORMAT, OpenError, RedisFacts, Store, StoreError, StoreOptions, WriteOutcome,
    ahead_of_other_stores, inspect, open,
    redis::{RedisOptions, RedisStore},
    stored_format,
};

use crate::{
    conformance::{cluster, conforms, delete, lead, leader, record, service, set},
    redis_server::{RedisServer, release::Release},
};

#[tokio::test]
async fn redis_conforms() {
    redis_conforms_on(&RedisServer::start(&[])).await;
}

/// The releases that `.ci/releases` unpacks, all of which know WAITAOF. One that is not here is skipped with
/// a message.
fn releases() -> impl Iterator<Item = Release> {
    let named = |name| Release::named(name).inspect_err(|why| eprintln!("skipped: {why}")).ok();
    ["redis-8", "valkey-8"].into_iter().filter_map(named)
}

#[tokio::test]
async fn later_releases_of_redis_and_valkey_conform() {
    for release in releases() {
        redis_conforms_on(&RedisServer::start_release(release, &[])).await;
    }
}

async fn redis_conforms_on(server: &RedisServer) {
    redis_conforms_as(server, &server.options()).await;
}

async fn redis_conforms_as(server: &RedisServer, options: &RedisOptions) {
    let store = RedisStore::open(options).await.unwrap();
    let next = RedisStore::open(options).await.unwrap();
    conforms(&store, &next, async || server.cut_connections(), async || server.run(&["FLUSHALL"])).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_redis_was_killed() {
    let mut server = RedisServer::start(&[]);
    let store = open(&StoreOptions::Redis(server.options())).await.unwrap();
    let fence = lead(&*store, 1).await.fence;
    store.commit(&cluster(1), &fence, &[set(&service("web"), None, "{}")]).await.unwrap();
    server.kill();
    let refused = store.check(&fence).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    server.restart();
    assert_eq!(store.check(&fence).await, Ok(()));
    server.kill();
    server.restart();
    let outcome = store.check(&fence).await;
    assert!(
        matches!(outcome, Err(StoreError::Unavailable { .. })),
        "however fast the restart was: {outcome:?}"
    );
    assert_eq!(store.check(&fence).await, Ok(()));
    assert_eq!(lead(&*store, 1).await.records, [record(&service("web"), 1, "{}")]);
}

#[tokio::test]
async fn a_look_at_a_redis_tells_what_it_is_and_leaves_no_trace() {
    let server = RedisServer::start(&["--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"]);
    let options = server.options();
    let looked = inspect(&options).await.unwrap();
    assert!(looked.version.as_ref().is_some_and(|version| version.contains('.')), "{looked:?}");
    let wanted = RedisFacts {
        version: looked.version.clone(),
        maxmemory_policy: Some("allkeys-lru".into()),
        appendonly: Some(true),
        appendfsync: Some("everysec".into()),
        role: Some("master".into()),
        empty: true,
        cluster: None,
    };
    assert_eq!(looked, wanted);
    let stored = async || stored_format(&StoreOptions::Redis(options.clone())).await.unwrap();
    assert_eq!((stored().await, server.run::<i64>(&["DBSIZE"])), (None, 0));
    lead(&RedisStore::open(&options).await.unwrap(), 1).await;
    assert_eq!((stored().await, inspect(&options).await.unwrap().empty), (Some(FORMAT), false));
    assert!(inspect(&options).await.unwrap().cluster.is_some_and(|cluster| cluster.len() == 16));
    server.run::<Value>(&["HSET", "shef:store", "format", "7"]);
    assert_eq!(stored().await, Some(7), "a newer one is told, not refused");
    let error = inspect(&RedisOptions { password: None, ..options.clone() }).await.err().unwrap();
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let error = RedisStore::open(&server.options()).await.err().unwrap();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_redis_that_knows_waitaof_is_waited_for() {
    for release in releases() {
        let version = release.version().to_owned();
        let mut server = RedisServer::start_release(release, &["--appendfsync", "everysec"]);
        // Its file is synced once a second.
        let options = RedisOptions { command_timeout_ms: DurationMs(10_000), ..server.options() };
        let store = RedisStore::open(&options).await.unwrap();
        let fence = lead(&store, 1).await.fence;
        store.commit(&cluster(1), &fence, &[set(&service("web"), None, "{}")]).await.unwrap();
        let stats: String = server.run(&["INFO", "commandstats"]);
        // Once for the leadership, and once for the commit.
        assert!(stats.contains("cmdstat_waitaof:calls=2,"), "{version}: {stats}");
        server.kill();
        server.restart();
        let _ = store.check(&fence).await;
        assert_eq!(lead(&store, 2).await.records, [record(&service("web"), 1, "{}")], "{version}");
    }
}

#[tokio::test]
async fn a_redis_before_waitaof_is_not_asked_to_wait() {
    let Some(release) = Release::own("redis").ok().filter(|release| release.version().starts_with("7.0."))
    else {
        eprintln!("skipped: the machine's own Redis is not 7.0");
        return;
    };
    let server = RedisServer::start_release(release, &[]);
    let store = RedisStore::open(&server.options()).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    assert_eq!(
        store.commit(&cluster(1), &fence, &[set(&service("web"), None, "{}")]).await.unwrap(),
        [WriteOutcome::Done]
    );
    assert_eq!(server.run::<Vec<Value>>(&["COMMAND", "INFO", "WAITAOF"]), [Value::Nil]);
}

#[tokio::test]
async fn a_connection_that_was_cut_is_made_again_unnoticed() {
    let server = RedisServer::start(&[]);
    let store = RedisStore::open(&server.options()).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    server.cut_connections();
    assert_eq!(
        store.commit(&cluster(1), &fence, &[set(&service("web"), None, "{}")]).await.unwrap(),
        [WriteOutcome::Done]
    );
}

/// Format 1 as its first version wrote it.
#[tokio::test]
async fn the_fields_of_format_1_are_read_and_newer_ones_refused() {
    let server = RedisServer::start(&[]);
    let fields = [
        "HSET",
        "shef:store",
        "format",
        "1",
        "cluster",
        "0000000000000007",
        "epoch",
        "42",
        "leader",
        "0000000000000007",
        "session",
        "3",
        "service/web",
        "2 {\"image\":\"web:1\"}",
        "stats",
        "1 {}",
    ];
    server.run::<Value>(&fields);
    let store = RedisStore::open(&server.options()).await.unwrap();
    let led = store.lead(&leader(1), Epoch(0), &cluster(9)).await.unwrap();
    assert_eq!((led.cluster, led.fence.epoch, led.was_empty), (cluster(7), Epoch(43), false));
    assert_eq!(led.records[0], record(&service("web"), 2, "{\"image\":\"web:1\"}"));
    assert_eq!((led.records.len(), led.records[1].version), (2, Version(1)));

    assert_eq!(server.run::<String>(&["HGET", "shef:store", "format"]), FORMAT.to_string());
    server.run::<Value>(&["HSET", "shef:store", "format", "1"]);
    let fenced = store.commit(&cluster(1), &led.fence, &[set(&service("web"), Some(2), "{}")]).await;
    assert!(matches!(fenced, Err(StoreError::Unreadable { .. })), "only who leads raises it: {fenced:?}");

    let newer = (FORMAT + 1).to_string();
    server.run::<Value>(&["HSET", "shef:store", "format", &newer]);
    let error = RedisStore::open(&server.options()).await.err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error:?}");
    for refused in [
        store.lead(&leader(1), Epoch(0), &cluster(9)).await.map(|_| ()),
        store.commit(&cluster(1), &led.fence, &[set(&service("web"), Some(2), "{}")]).await.map(|_| ()),
        store.check(&led.fence).await,
    ] {
        assert!(matches!(refused, Err(StoreError::Unreadable { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_redis_that_refuses_to_write_has_changed_nothing() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let store = RedisStore::open(&server.options()).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    let (a, b) = (service("a"), service("b"));
    store.commit(&cluster(1), &fence, &[set(&a, None, "1"), set(&b, None, "1")]).await.unwrap();
    let batch = [set(&a, Some(1), "2"), set(&service("c"), None, "1"), delete(&b, 1)];

    server.run::<Value>(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = store.commit(&cluster(1), &fence, &batch).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable { why } if why.contains("OOM")), "{refused:?}");
    assert_eq!(store.check(&fence).await, Ok(()), "reading goes on");
    server.run::<Value>(&["CONFIG", "SET", "maxmemory", "0"]);

    server.run::<Value>(&["REPLICAOF", "127.0.0.1", "1"]);
    let refused = store.commit(&cluster(1), &fence, &batch).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable { .. }), "{refused:?}");
    server.run::<Value>(&["REPLICAOF", "NO", "ONE"]);

    server.run::<Value>(&["SCRIPT", "FLUSH"]);
    assert_eq!(lead(&store, 1).await.records, [record(&a, 1, "1"), record(&b, 1, "1")]);
}

#[tokio::test]
async fn a_delayed_request_of_an_earlier_connection_changes_nothing() {
    let server = RedisServer::start(&[]);
    let store = RedisStore::open(&server.trusting_options()).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    let create = [set(&service("a"), None, "1")];
    server.signal("STOP");
    // Sent, and waiting in the socket of the first connection.
    let first = store.commit(&cluster(1), &fence, &create).await;
    assert!(matches!(first, Err(StoreError::Unconfirmed { .. })), "{first:?}");
    server.signal("CONT");
    assert_eq!(store.commit(&cluster(1), &fence, &create).await.unwrap(), [WriteOutcome::Done]);
    assert_eq!(
        store.commit(&cluster(1), &fence, &[delete(&service("a"), 1)]).await.unwrap(),
        [WriteOutcome::Done]
    );
    // What the first connection would have said, had it been later still.
    let script = include_str!("../../src/store/redis/commit.lua");
    let epoch = fence.epoch.to_string();
    let late: Vec<String> = server.run(&[
        "EVAL",
        script,
        "1",
        "shef:store",
        &FORMAT.to_string(),
        &epoch,
        fence.leader.as_str(),
        "1",
        "service/a",
        "",
        "1",
        "set",
        "1",
    ]);
    assert_eq!(late, ["stale", "2"]);
    assert_eq!(lead(&store, 1).await.records, []);
}

/// As earlier versions left it: one host's registration raised the epoch beyond all numbers.
#[tokio::test]
async fn a_store_with_an_absurd_epoch_says_so_and_is_repaired_by_a_backup() {
    let server = RedisServer::start(&[]);
    let store = RedisStore::open(&server.options()).await.unwrap();
    lead(&store, 1).await;
    let backup =
        Backup { cluster: cluster(1), fence: Fence { epoch: Epoch(3), leader: leader(1) }, records: vec![] };
    for absurd in ["18446744073709551616", "9007199254740992", "nan", "inf"] {
        server.run::<Value>(&["HSET", "shef:store", "epoch", absurd]);
        let refused = store.lead(&leader(2), Epoch(0), &cluster(1)).await.unwrap_err().to_string();
        assert!(refused.contains("leaves none for the next leader; restore a backup"), "{absurd}: {refused}");
        let repaired = ahead_of_other_stores(Epoch(3)).next();
        assert_eq!(store.load(&backup, true).await.unwrap().epoch, repaired, "{absurd}");
        assert_eq!(lead(&store, 1).await.fence.epoch, repaired.next(), "{absurd}");
    }
}

#[tokio::test]
async fn a_record_with_an_absurd_version_is_named() {
    let server = RedisServer::start(&[]);
    let store = RedisStore::open(&server.options()).await.unwrap();
    lead(&store, 1).await;
    server.run::<Value>(&["HSET", "shef:store", "service/web", "18446744073709551615 {}"]);
    let refused = store.lead(&leader(2), Epoch(0), &cluster(1)).await.unwrap_err().to_string();
    assert!(refused.contains("service/web") && refused.contains("18446744073709551615"), "{refused}");
}

/// A Redis that lost the leadership which came last takes writes of that leader, however many connections the
/// leader before had.
#[tokio::test]
async fn a_redis_that_lost_the_latest_leadership_takes_its_writes() {
    let mut server = RedisServer::start(&[]);
    let old = RedisStore::open(&server.options()).await.unwrap();
    let fence = lead(&old, 1).await.fence;
    for n in 0..4_u64 {
        old.commit(&cluster(1), &fence, &[set(&service("web"), (n > 0).then_some(n), &n.to_string())])
            .await
            .unwrap();
        server.cut_connections();
    }
    assert_eq!(server.run::<String>(&["HGET", "shef:store", "session"]), "4");
    let earlier = server.copy_of_disk();
    let new = RedisStore::open(&server.options()).await.unwrap();
    let led = lead(&new, 2).await;
    server.kill();
    server.go_back_to(&earlier);
    server.restart();
    assert_eq!(
        server.run::<String>(&["HGET", "shef:store", "leader"]),
        leader(1).as_str(),
        "the latest leadership is lost"
    );
    // However fast the restart was, it is told once.
    let outcome = new.check(&led.fence).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    for n in 4..8_u64 {
        let write = [set(&service("web"), Some(n), "new")];
        assert_eq!(
            new.commit(&cluster(1), &led.fence, &write).await,
            Ok(vec![WriteOutcome::Done]),
            "write {n}"
        );
    }
    assert_eq!(server.run::<String>(&["HGET", "shef:store", "leader"]), leader(2).as_str());
}

/// Should a store ever hold a higher session of this very leadership, the next connection is numbered above
/// it.
#[tokio::test]
async fn a_stale_connection_is_given_up_for_one_that_is_not() {
    let server = RedisServer::start(&[]);
    let store = RedisStore::open(&server.options()).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    server.run::<Value>(&["HSET", "shef:store", "session", "1000"]);
    let write = [set(&service("web"), None, "{}")];
    let stale = store.commit(&cluster(1), &fence, &write).await;
    assert!(
        matches!(&stale, Err(StoreError::Unavailable { why }) if why.contains("a later connection")),
        "{stale:?}"
    );
    assert_eq!(store.commit(&cluster(1), &fence, &write).await, Ok(vec![WriteOutcome::Done]));
    assert_eq!(server.run::<String>(&["HGET", "shef:store", "session"]), "1001");
}
