//! A lab goes whole, whatever becomes of its owner.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use shef_integration_tests::lab::{
    lan::{
        LanLab, Plan,
        command::{Order, give, listening},
        names::dir_of,
        sweep,
    },
    shef::busybox,
    system::shim_sockets,
    wait::until,
};

/// `shef-lab up 2`, killed when it is dropped.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        sweep::sweep();
    }
}

async fn owner() -> (Owner, String) {
    let command =
        Command::new(env!("CARGO_BIN_EXE_shef-lab")).args(["up", "2"]).stdout(Stdio::null()).spawn();
    let owner = Owner(command.expect("shef-lab starts"));
    let id = format!("{}a", owner.0.id());
    until("the lab takes orders", async || listening().contains(&id).then_some(())).await;
    (owner, id)
}

fn sockets(id: &str) -> BTreeSet<PathBuf> {
    ["h1", "h2"].iter().flat_map(|host| shim_sockets(&dir_of(id).join(host))).collect()
}

#[actix::test]
async fn a_lab_whose_owner_was_killed_is_swept_without_a_trace() {
    for _ in 0..2 {
        let (mut owner, id) = owner().await;
        let status = give(&id, &Order::Status).await.unwrap();
        let api =
            status.split_whitespace().find(|word| word.starts_with("http://")).expect("the API's address");
        let api =
            shef_integration_tests::cluster::Api::new(api.trim_start_matches("http://").parse().unwrap());
        let made = api.call("PUT", "/v1/services/web?wait=60s", busybox(4)).await;
        assert_eq!(made.body["converged"], true, "{made:?}");
        let status = give(&id, &Order::Status).await.unwrap();
        assert!(status.lines().filter(|line| line.contains("ready")).count() == 2, "{status}");
        let shims = sockets(&id);
        assert_eq!(shims.len(), 4, "one a container");
        assert!(sweep::remains(&id).len() > 10, "there is something to sweep");

        owner.0.kill().unwrap();
        owner.0.wait().unwrap();
        assert!(sweep::sweep().contains(&id));
        assert_eq!(sweep::remains(&id), Vec::<String>::new());
        assert!(shims.iter().all(|socket| fs::symlink_metadata(socket).is_err()), "{shims:?}");
    }
}

#[actix::test]
async fn a_lab_leaves_nothing_behind_even_with_a_killed_engine() {
    let mut lan = LanLab::start(&Plan::hosts(3)).await.unwrap();
    lan.master.deploy("web", busybox(6)).await;
    lan.hosts[0].lose();
    lan.hosts[1].kill_engine();
    lan.hosts[2].freeze_engine();
    let id = lan.net.id().to_owned();
    drop(lan);
    assert_eq!(sweep::remains(&id), Vec::<String>::new());
}

#[actix::test]
async fn an_order_for_what_is_not_there_says_what_there_is() {
    let (_owner, id) = owner().await;
    let refused = give(&id, &Order::Heal { host: "h7".to_owned() }).await.unwrap_err();
    assert_eq!(refused, "there is no host h7: this lab has h1 to h2");
    let refused =
        give(&id, &Order::Cut { host: "h1".to_owned(), way: "sideways".to_owned() }).await.unwrap_err();
    assert!(refused.contains("both, incoming, outgoing"), "{refused}");
    let refused = give(&id, &Order::FillDisk).await.unwrap_err();
    assert!(refused.contains("--disk-mb"), "{refused}");
}
