//! The embedded store: its promises, its file, and who may have it.

use std::{fs, path::Path};

use shef_common::ids::{Epoch, Version};
use shef_master::store::{
    FORMAT, Key, OpenError, Store, StoreOptions, WriteOutcome,
    embedded::{EmbeddedStore, FILE},
    open, stored_format,
};

use crate::conformance::{cluster, conforms, lead, leader, record, service, set};

#[tokio::test]
async fn the_embedded_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).await.unwrap();
    conforms(&store, &store, async || (), async || fs::remove_file(dir.path().join(FILE)).unwrap()).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    let store = open(&StoreOptions::Embedded { path: path.clone() }).await.unwrap();
    let fence = lead(&*store, 1).await.fence;
    assert_eq!(
        store.commit(&cluster(1), &fence, &[set(&service("web"), None, "{}")]).await.unwrap(),
        [WriteOutcome::Done]
    );
    drop(store);
    let led = lead(&EmbeddedStore::open(&path).await.unwrap(), 2).await;
    assert_eq!((led.fence.epoch, led.was_empty), (fence.epoch.next(), false));
    assert_eq!(led.records, [record(&service("web"), 1, "{}")]);
}

#[tokio::test]
async fn a_file_in_use_says_who_has_it_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(dir.path()).await.unwrap();
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())) && text.contains("stop that one"),
        "{text}"
    );
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::Embedded { path: dir.path().join("none") };
    assert_eq!(stored_format(&options).await.unwrap(), None);
    assert!(!dir.path().join("none").exists(), "looking makes nothing");
    let options = StoreOptions::Embedded { path: dir.path().to_owned() };
    let store = EmbeddedStore::open(dir.path()).await.unwrap();
    assert!(matches!(stored_format(&options).await, Err(OpenError::Locked { .. })));
    lead(&store, 1).await;
    drop(store);
    assert_eq!(stored_format(&options).await.unwrap(), Some(FORMAT));
    let db = redb::Database::open(dir.path().join(FILE)).unwrap();
    let txn = db.begin_write().unwrap();
    let newer = (FORMAT + 1).to_string();
    txn.open_table(redb::TableDefinition::<&str, &str>::new("meta"))
        .unwrap()
        .insert("format", newer.as_str())
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    assert_eq!(stored_format(&options).await.unwrap(), Some(FORMAT + 1));
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error:?}");
    let expected = format!("has format {newer}, and this version of shef reads up to {FORMAT}");
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    fs::write(&path, "something of somebody's").unwrap();
    let error = EmbeddedStore::open(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("move it away"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"something of somebody's");
}

/// Format 1 as its first version wrote it. The file is never written again: a
/// version of shef that cannot read it must not be released.
#[tokio::test]
async fn the_bytes_of_format_1_are_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/fixtures/format-1.redb");
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture, dir.path().join(FILE)).unwrap();
    let store = EmbeddedStore::open(dir.path()).await.unwrap();
    let led = store.lead(&leader(9), Epoch(0), &cluster(9)).await.unwrap();
    assert_eq!((led.cluster, led.fence.epoch, led.was_empty), (cluster(7), Epoch(43), false));
    let node = Key::Node("h1.example.org".parse().unwrap());
    let wanted = [
        record(&service("api"), 1, "{}"),
        record(&service("web"), 2, r#"{"image":"web:1","note":"é"}"#),
        record(&node, 1, r#"{"address":"10.0.0.1:11044"}"#),
        record(&Key::Stats, 1, r#"{"created":3}"#),
    ];
    assert_eq!(led.records, wanted);
    let write = [set(&service("web"), Some(2), "{}")];
    assert_eq!(store.commit(&cluster(1), &led.fence, &write).await.unwrap(), [WriteOutcome::Done]);
    assert_eq!(lead(&store, 9).await.records[1].version, Version(3));
}

#[tokio::test]
async fn a_damaged_page_is_an_error_that_says_what_to_do() {
    const PAGE: usize = 4_096;
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    let value = format!("{:?}", "x".repeat(300));
    let writes: Vec<_> = (0..200).map(|n| set(&service(&format!("web-{n}")), None, &value)).collect();
    store.commit(&cluster(1), &fence, &writes).await.unwrap();
    drop(store);
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    let is_used = |page: &usize| whole[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0);
    let mut found = 0;
    for page in (1..whole.len() / PAGE).filter(is_used) {
        let mut damaged = whole.clone();
        damaged[page * PAGE..][..64].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        match EmbeddedStore::open(dir.path()).await {
            // Nothing that counts lies there.
            Ok(store) => assert_eq!(lead(&store, 2).await.records.len(), 200, "page {page}"),
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, OpenError::Damaged { .. }) && !text.contains("panicked"), "{text}");
                assert!(text.contains("restore it from a copy, or move it away"), "{text}");
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found} damaged pages were found");
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone_also_one_of_an_earlier_version() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    drop(EmbeddedStore::open(dir.path()).await.unwrap());
    assert_eq!((mode(&path), mode(dir.path())), (0o600, 0o700));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    drop(EmbeddedStore::open(dir.path()).await.unwrap());
    assert_eq!((mode(&path), mode(dir.path())), (0o600, 0o700));
}
