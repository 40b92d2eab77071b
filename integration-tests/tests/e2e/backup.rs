//! `shef backup` and `shef restore` on both stores: what comes back is what was,
//! on real engines, and what runs of it is left alone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::json;
use shef_integration_tests::lab::{
    engine::Seen,
    redis::{LabRedis, PASSWORD},
    shef::{HostLab, binary, busybox},
    wait::until,
};

/// How one run of the program ended, and what it said.
struct Said {
    succeeded: bool,
    text: String,
}

/// Runs `shef` with `words`, and with the settings of the master's store.
async fn shef(settings: &[(&str, &str)], words: &[&str]) -> Said {
    let mut command = tokio::process::Command::new(binary());
    let run = command.args(words).envs(settings.iter().copied()).output().await.expect("the program runs");
    let text = [run.stdout, run.stderr].concat();
    Said { succeeded: run.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}

fn redis_settings(redis: &LabRedis) -> Vec<(&'static str, String)> {
    vec![("SHEF_REDIS_URL", redis.url()), ("SHEF_REDIS_PASSWORD", PASSWORD.to_owned())]
}

/// The part of `all` that belongs to `service`.
fn of(service: &str, all: &BTreeMap<String, Seen>) -> BTreeMap<String, Seen> {
    let mut found = all.clone();
    found.retain(|name, _| name.starts_with(&format!("{service}-")));
    found
}

/// Two services, a backup of them, and many changes after it. Brings what ran then.
async fn changed_since_a_backup(site: &HostLab, file: &Path) -> BTreeMap<String, Seen> {
    let master = &site.master;
    master.deploy("web", busybox(3)).await;
    master.deploy("db", busybox(1)).await;
    let before = site.settled(&["db", "web"]).await;
    let words = ["backup", "--api", &master.address.to_string(), "--out", file.to_str().unwrap()];
    let said = shef(&[], &words).await;
    assert!(said.succeeded && said.text.contains("records of cluster"), "{}", said.text);
    let streamed = shef(&[], &words[..3]).await;
    assert!(streamed.succeeded && streamed.text.starts_with("{\"shef_backup\":1,"), "{}", streamed.text);

    master.deploy("web", busybox(5)).await;
    master.deploy("late", busybox(2)).await;
    let gone = master.api.call("DELETE", "/v1/services/db?wait=60s", json!({})).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(site.settled(&["late", "web"]).await.len(), 7);
    before
}

/// What was backed up runs, and what ran of it all the time was left alone.
async fn as_it_was(site: &HostLab, before: &BTreeMap<String, Seen>) {
    site.master.hosts(2).await;
    let after = site.settled(&["db", "web"]).await;
    assert_eq!(of("web", &after), of("web", before), "not one was touched");
    assert_eq!((after.len(), site.master.service("late").await), (4, None));
    // And it is a cluster to work with.
    site.master.deploy("web", busybox(4)).await;
    let more = site.settled(&["db", "web"]).await;
    assert!(after.iter().all(|(name, seen)| more.get(name) == Some(seen)), "{more:?}");
}

fn backup_file(site: &HostLab) -> PathBuf {
    site.dir.path().join("cluster.backup")
}

#[actix::test]
async fn a_wiped_embedded_store_is_restored_and_hosts_follow_it() {
    let mut site = HostLab::start(2, &[]).await;
    let file = backup_file(&site);
    let before = changed_since_a_backup(&site, &file).await;
    let data = site.master.data.clone();
    let own = format!("data_dir={}", data.display());
    let words = ["restore", file.to_str().unwrap(), "--set", &own];
    let in_use = shef(&[], &words).await;
    assert!(!in_use.succeeded && in_use.text.contains("is in use by process"), "{}", in_use.text);

    site.master.process.kill();
    let full = shef(&[], &words).await;
    assert!(!full.succeeded && full.text.contains("say --replace"), "{}", full.text);
    let torn = site.dir.path().join("torn.backup");
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&torn, &text[..text.len() - 30]).unwrap();
    let refused = shef(&[], &["restore", torn.to_str().unwrap(), "--replace", words[2], words[3]]).await;
    assert!(!refused.succeeded && refused.text.contains("is torn"), "{}", refused.text);

    std::fs::remove_dir_all(&data).unwrap();
    let said = shef(&[], &words).await;
    assert!(said.succeeded && said.text.contains("Start the master now"), "{}", said.text);
    site.master.start().await;
    as_it_was(&site, &before).await;
}

#[actix::test]
async fn a_redis_is_restored_when_wiped_and_under_a_running_master() {
    let redis = LabRedis::start().await;
    let settings = redis_settings(&redis);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut site = HostLab::start(2, &settings).await;
    let file = backup_file(&site);
    let before = changed_since_a_backup(&site, &file).await;
    let path = file.to_str().unwrap();

    let full = shef(&settings, &["restore", path]).await;
    assert!(!full.succeeded && full.text.contains("say --replace"), "{}", full.text);
    assert_eq!(site.master.service("late").await.unwrap()["state"], "running", "nothing was changed");
    let said = shef(&settings, &["restore", path, "--replace"]).await;
    assert!(said.succeeded && said.text.contains("A running master starts again"), "{}", said.text);
    assert!(!said.text.contains(PASSWORD));
    until("the master has started again", async || {
        site.master.process.said().contains("master is up again").then_some(())
    })
    .await;
    site.master.answers().await;
    as_it_was(&site, &before).await;

    // Once more, with nothing left of the store, and nobody running.
    site.master.deploy("late", busybox(2)).await;
    site.settled(&["db", "late", "web"]).await;
    site.master.process.kill();
    let _: String = redis.run(0, &["FLUSHALL"]);
    let said = shef(&settings, &["restore", path]).await;
    assert!(said.succeeded, "{}", said.text);
    site.master.start().await;
    as_it_was(&site, &before).await;
}
