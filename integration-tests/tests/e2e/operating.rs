//! Hosts and registries from the command line.

use rustix::termios::LocalModes;
use serde_json::json;
use shef_integration_tests::lab::shef::{HostLab, busybox};

use crate::terminal::{Terminal, json_of, refused, said, shef};

fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .skip(1)
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect()
}

#[actix::test]
async fn hosts_are_listed_emptied_kept_free_and_forgotten() {
    let mut site = HostLab::start(2, &[]).await;
    site.master.deploy("web", busybox(4)).await;
    let ls = said(&shef(&site, &["node", "ls"], "").await);
    let shown = rows(&ls);
    assert!(shown.len() == 2 && shown.iter().all(|row| row[2..5] == ["ready", "yes", "2"]), "{ls}");
    let (one, other) = (shown[0][0].to_owned(), shown[1][0].to_owned());

    // The command ends when the host is empty.
    let drained = said(&shef(&site, &["node", "drain", &one], "").await);
    assert!(drained.starts_with(&format!("==> {one} is to be emptied\n")), "{drained}");
    assert!(drained.ends_with(&format!("==> {one} is empty\n")), "{drained}");
    let nodes = json_of(&shef(&site, &["node", "ls", "--json"], "").await);
    let wanted = |name: &str| {
        nodes["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap()["wanted"].clone()
    };
    assert_eq!((wanted(&one), wanted(&other)), (json!(0), json!(4)));
    assert_eq!(site.settled(&["web"]).await.len(), 4);

    said(&shef(&site, &["node", "activate", &one], "").await);
    said(&shef(&site, &["node", "cordon", &other], "").await);
    site.master.deploy("next", busybox(1)).await;
    let ls = said(&shef(&site, &["node", "ls"], "").await);
    let shown = rows(&ls);
    assert!(shown[0][3..5] == ["yes", "1"] && shown[1][3..5] == ["no, cordoned", "4"], "{ls}");

    // One that is there is not forgotten by mistake.
    let there = refused(&shef(&site, &["node", "rm", &one], "").await);
    assert!(there.contains(&one) && there.contains("force"), "{there}");
    site.agents[0].process.kill();
    said(&shef(&site, &["node", "rm", "--force", &one], "").await);
    let unknown = refused(&shef(&site, &["node", "drain", &one], "").await);
    assert!(unknown.contains(&format!("there is no node {one}")), "{unknown}");
}

#[actix::test]
async fn the_cluster_is_shown_and_commands_that_change_nothing_say_so() {
    let site = HostLab::start(2, &[]).await;
    let shown = said(&shef(&site, &["cluster", "show"], "").await);
    let json = json_of(&shef(&site, &["cluster", "show", "--json"], "").await);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], format!("cluster:      {}", json["cluster"].as_str().unwrap()));
    assert_eq!(lines[1], format!("leader:       {} (epoch 1)", json["leader"].as_str().unwrap()));
    let open = "API:          open to everybody who reaches it (insecure = true)";
    let plain = "TLS:          off, 2 hosts speak without it";
    let expected = ["hosts:        2 ready", "replacement:  on", "CA:           none", open, plain];
    assert_eq!(lines[2..7], expected);
    assert!(lines[7].starts_with("audit log:    up to line ") && lines.len() == 8, "{shown}");
    let resumed = said(&shef(&site, &["cluster", "resume"], "").await);
    assert_eq!(resumed, "==> replacement was not held back\n");
    let took_over = said(&shef(&site, &["cluster", "take-over"], "").await);
    assert!(took_over.starts_with("==> this master leads already; "), "{took_over}");
}

#[actix::test]
async fn a_password_is_read_from_standard_input_and_never_shown() {
    let site = HostLab::start(0, &[]).await;
    let login = ["registry", "login", "registry.local:5000", "--username"];
    let kept = said(&shef(&site, &[&login[..], &["me"]].concat(), "unprintable\n").await);
    assert_eq!(
        kept,
        "==> registry.local:5000: hosts log in as me; the password was not checked: no host is ready to \
         ask it\n"
    );
    let none = refused(&shef(&site, &[&login[..], &["me"]].concat(), "").await);
    assert!(none.contains("no password on standard input"), "{none}");
    let bad = refused(&shef(&site, &[&login[..], &["a:b"]].concat(), "x").await);
    assert!(bad.contains("username: must be of 1 to 255 bytes without a colon"), "{bad}");

    // A terminal does not show what is typed, and is as before afterwards.
    let mut terminal = Terminal::open(&site, &[&login[..], &["typist"]].concat(), (24, 80));
    terminal.shows("Password: ").await;
    assert!(!terminal.mode().contains(LocalModes::ECHO));
    terminal.keys("unprintable\n");
    terminal.shows("hosts log in as typist").await;
    assert_eq!(terminal.ends().await, Some(0));
    assert!(terminal.mode().contains(LocalModes::ECHO) && !terminal.has_shown("unprintable"));

    let ls = said(&shef(&site, &["registry", "ls"], "").await);
    assert_eq!(rows(&ls)[0][..2], ["registry.local:5000", "typist"], "{ls}");
    assert_eq!(
        json_of(&shef(&site, &["registry", "ls", "--json"], "").await)["registries"][0]["readable"],
        true
    );
    said(&shef(&site, &["registry", "logout", "registry.local:5000"], "").await);
    assert_eq!(said(&shef(&site, &["registry", "ls"], "").await), "REGISTRY  USER  SINCE  REASON\n");
    let gone = refused(&shef(&site, &["registry", "logout", "registry.local:5000"], "").await);
    assert!(gone.contains("registry.local:5000"), "{gone}");
}

#[actix::test]
async fn what_a_service_uses_and_what_happens_to_it_is_told() {
    let site = HostLab::start(1, &[]).await;
    site.master.deploy("web", busybox(2)).await;
    let mut all = Terminal::open(&site, &["events", "--service", "web", "--after", "1-0"], (24, 200));
    all.shows("service_created service=web").await;
    all.shows("replica_state service=web").await;
    all.shows("state=running").await;
    said(&shef(&site, &["scale", "web=1"], "").await);
    all.shows("replica_gone service=web").await;
    let stats = said(&shef(&site, &["stats", "web"], "").await);
    let shown = rows(&stats);
    assert!(shown.len() == 2 && shown[0][0].starts_with("web-") && shown[1][0] == "total", "{stats}");
    assert!(
        shown[0][2].ends_with(" %") && shown[0][3].ends_with("iB") && shown[0][3] == shown[1][3],
        "{stats}"
    );
    let pids = json_of(&shef(&site, &["stats", "web", "--json"], "").await)["total"]["pids"].clone();
    assert_eq!(shown[1][9], pids.to_string());
    assert!(refused(&shef(&site, &["stats", "none"], "").await).contains("there is no service none"));
}
