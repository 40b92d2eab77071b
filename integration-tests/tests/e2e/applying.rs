//! Services from the command line, on real engines: files applied, watched, changed, taken away.

use rustix::process::Signal;
use serde_json::json;
use shef_integration_tests::{
    cluster::PATIENCE,
    lab::{
        engine::BUSYBOX,
        process::Process,
        shef::{HostLab, binary},
        wait::until,
    },
};

use crate::terminal::{json_of, refused, said, shef};

#[actix::test]
async fn a_service_is_applied_from_files_looked_at_changed_and_taken_away() {
    let site = HostLab::start(2, &[]).await;
    let file = |name: &str, text: &str| {
        let path = site.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let script = "echo $A $B $C $HOME; exec sleep 1000000";
    let web = file(
        "web.toml",
        &format!(
            "name = \"web\"\nimage = \"{BUSYBOX}\"\nreplicas = 2\nstop_grace_s = 1\ncommand = [\"sh\", \
             \"-c\", \"{script}\"]\n\
             [env]\nB = \"spec\"\n[update]\nmonitor_ms = 100\nprobation_ms = 0\n"
        ),
    );
    let env = file("env", "# for web\nA='from file'\nB=file\nC=file\n");

    // Of several files all are sound or none is sent.
    let bad = file("bad.json", r#"{"name": "bad", "image": "a:1", "replicas": -1}"#);
    let none = refused(&shef(&site, &["apply", &web, &bad], "").await);
    assert!(none.contains("bad.json: replicas: must be a whole number from 0 to 10000, but is -1"), "{none}");
    let odd = file("odd", "A=1\nB C=2\n");
    let none = refused(&shef(&site, &["apply", &web, "--env-file", &odd], "").await);
    assert!(none.contains("odd: line 2: ") && none.contains("KEY is \"B C\""), "{none}");
    assert_eq!(said(&shef(&site, &["ls"], "").await), "SERVICE  IMAGE  HEALTHY  GENERATION  STATE\n");

    // Applied, with a plan before; variables of the file, the spec, the flag.
    let full = ["apply", &web, "--env-file", &env, "--env", "C=flag"];
    let plan = said(&shef(&site, &[&full[..], &["--plan"]].concat(), "").await);
    assert!(
        plan.contains("web does not exist yet")
            && plan.contains(r#"+ env: {"A":"from file","B":"spec","C":"flag"}"#)
            && plan.contains("create"),
        "{plan}"
    );
    let applied = said(&shef(&site, &full, "").await);
    assert!(applied.ends_with("==> web: 2 of 2 healthy, generation 1\n"), "{applied}");
    until("both have got their variables", async || {
        let logs = said(&shef(&site, &["logs", "web"], "").await);
        (logs.lines().filter(|line| line.contains("| from file spec flag")).count() == 2).then_some(())
    })
    .await;
    let again = said(&shef(&site, &[&full[..], &["--plan"]].concat(), "").await);
    assert!(again.starts_with("web: nothing would change"), "{again}");

    // Looked at.
    let ls = said(&shef(&site, &["ls"], "").await);
    assert!(
        ls.lines().nth(1).unwrap().split_whitespace().eq(["web", BUSYBOX, "2/2", "1", "running"]),
        "{ls}"
    );
    let ps = said(&shef(&site, &["ps", "web"], "").await);
    let rows: Vec<Vec<&str>> = ps.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row[4..6] == ["running", "healthy"]), "{ps}");
    assert_ne!(rows[0][3], rows[1][3], "one a host: {ps}");
    let api = json_of(&shef(&site, &["ps", "web", "--json"], "").await);
    assert_eq!(api["replica_states"].as_array().unwrap().len(), 2);
    assert_eq!(json_of(&shef(&site, &["ls", "--json"], "").await)["services"][0]["name"], "web");

    // Changed: by standard input, only as planned, and told why it is not so.
    let version = api["version"].to_string();
    let mut spec = api.clone();
    spec.as_object_mut()
        .unwrap()
        .retain(|key, _| ["name", "image", "command", "env", "stop_grace_s"].contains(&key.as_str()));
    spec["update"] = json!({"monitor_ms": 100, "probation_ms": 0, "parallelism": 2, "deadline_ms": 20000});
    spec["env"]["A"] = json!("piped");
    let piped = ["apply", "-", "--replicas", "2", "--if-version", &version];
    let update = said(&shef(&site, &piped, &spec.to_string()).await);
    assert!(
        update.contains("web is to run generation 2") && update.ends_with("healthy, generation 2\n"),
        "{update}"
    );
    let outdated = refused(&shef(&site, &piped, &spec.to_string()).await);
    assert!(outdated.contains("web: ") && outdated.contains("version"), "{outdated}");
    let bad = ["apply", "-", "--replicas", "2", "--image", "127.0.0.1:1/none:1"];
    let failed = shef(&site, &bad, &spec.to_string()).await;
    assert!(refused(&failed).contains("generation 3 was rolled back to 2"), "{failed:?}");

    // Scaled, rolled back, and gone.
    let scaled = json_of(&shef(&site, &["scale", "web=3", "--json"], "").await);
    assert_eq!((&scaled["converged"], site.settled(&["web"]).await.len()), (&json!(true), 3));
    let back = said(&shef(&site, &["rollback", "web", "--to", "1"], "").await);
    assert!(back.ends_with("==> web: 3 of 3 healthy, generation 1\n"), "{back}");
    let quick = said(&shef(&site, &["apply", "--name", "quick", "--image", BUSYBOX, "--detach"], "").await);
    assert_eq!(quick, "==> quick is to run generation 1\n");
    let gone = said(&shef(&site, &["rm", "web", "quick"], "").await);
    assert!(gone.contains("==> web is gone") && gone.ends_with("==> quick is gone\n"), "{gone}");
    assert!(site.containers().await.is_empty());
    assert!(refused(&shef(&site, &["rm", "web"], "").await).contains("there is no service web"));
}

#[actix::test]
async fn a_canary_and_its_waiting_command_outlive_the_masters_restart() {
    let mut site = HostLab::start(1, &[]).await;
    let spec = |version: &str, canary: u32| {
        json!({
            "name": "web", "image": BUSYBOX, "replicas": 2, "stop_grace_s": 0, "env": {"VERSION": version},
            "update": {"monitor_ms": 100, "probation_ms": 0, "canary": canary},
        })
        .to_string()
    };
    said(&shef(&site, &["apply", "-"], &spec("1", 0)).await);
    let canary = said(&shef(&site, &["apply", "-"], &spec("2", 1)).await);
    assert!(
        canary.contains("1 of 2 replaced")
            && canary.contains("waits to be promoted or aborted: `shef rollout promote web`"),
        "{canary}"
    );
    let ls = said(&shef(&site, &["ls"], "").await);
    assert!(ls.contains("pending: ") && ls.contains("waits to be promoted or aborted"), "{ls}");
    let paused = said(&shef(&site, &["rollout", "pause", "web"], "").await);
    assert!(paused.starts_with("==> web: 1 of 2 replaced; paused: "), "{paused}");
    said(&shef(&site, &["rollout", "resume", "web"], "").await);
    let promoted = said(&shef(&site, &["rollout", "promote", "web"], "").await);
    assert!(promoted.ends_with("==> web: 2 of 2 healthy, generation 2\n"), "{promoted}");
    assert!(refused(&shef(&site, &["rollout", "promote", "web"], "").await).contains("no rollout"));

    // The agent does nothing until it is let go: the restart is not through before the master is killed.
    site.agents[0].process.signal(Signal::STOP);
    let words = ["restart", "--api", &site.master.api.url, "web"];
    let mut restart = Process::new(binary(), words, site.dir.path().join("restart.log"));
    restart.start();
    until("it has its answer, and waits", async || restart.said().contains("==> web: ").then_some(())).await;
    site.master.process.kill();
    until("it has seen that nobody is there", async || restart.said().contains("asking again").then_some(()))
        .await;
    site.master.start().await;
    site.agents[0].process.signal(Signal::CONT);
    assert!(restart.ended(PATIENCE).await.success(), "{}", restart.said());
    // A restart is an update, and has its canary.
    assert!(restart.said().contains("waits to be promoted or aborted: `shef rollout"), "{}", restart.said());
}

#[actix::test]
async fn apply_ends_after_the_trial_and_says_how_it_failed() {
    let site = HostLab::start(1, &[]).await;
    let spec = |name: &str, script: &str, more: serde_json::Value| {
        let mut spec = json!({
            "name": name, "image": BUSYBOX, "stop_grace_s": 0, "command": ["sh", "-c", script],
            "update": {"monitor_ms": 3000},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec.to_string()
    };
    let fails = "echo no database; sleep 1; exit 5";
    // The first deployment: what crash-loops, and a job that ends with an error.
    let never = json!({"restart": {"condition": "never"}, "replicas": 2});
    for (name, more, tried) in [("web", json!({}), "is tried again"), ("job", never, "not started again")] {
        let why = refused(&shef(&site, &["apply", "-"], &spec(name, fails, more)).await);
        assert!(why.contains(&format!("{name}: the trial has failed, and ")), "{why}");
        assert!(why.contains(&format!("{tried}: {name}-")), "{why}");
        assert!(why.contains("code 5") && why.contains("its last line: no database"), "{why}");
    }
    let ls = said(&shef(&site, &["ls"], "").await);
    assert!(ls.contains("code 5") && !ls.contains("is being started on"), "{ls}");
    let ps = said(&shef(&site, &["ps", "job"], "").await);
    assert!(
        ps.contains("unhealthy")
            && ps.contains("exited with code 5")
            && ps.contains("last line: no database"),
        "{ps}"
    );

    // An update that is in place is on probation; what fails then is rolled back, with the number of
    // replicas.
    let well = said(
        &shef(
            &site,
            &["apply", "-"],
            &spec("db", "exec sleep 1000000", json!({"update": {"monitor_ms": 500}})),
        )
        .await,
    );
    assert!(well.ends_with("==> db: 1 of 1 healthy, generation 1\n"), "{well}");
    let later =
        json!({"replicas": 2, "update": {"monitor_ms": 500, "parallelism": 2, "probation_ms": 600_000}});
    let fails_when_told = "until test -e /fail; do sleep 0.1; done; echo no disk; exit 6";
    let update = said(&shef(&site, &["apply", "-"], &spec("db", fails_when_told, later)).await);
    assert!(update.contains("2 of 2 healthy, generation 2; on probation for "), "{update}");
    let view = site.master.service("db").await.unwrap();
    let newest = view["replica_states"].as_array().unwrap().iter().filter(|r| r["generation"] == 2);
    let targets: Vec<String> = newest.map(|r| format!("db/{}", r["id"].as_str().unwrap())).collect();
    let make_fail =
        async |target: &str| shef(&site, &["exec", target, "--", "sh", "-c", "echo > /fail"], "").await;
    said(&make_fail(&targets[0]).await);
    // This one may be on its way out by now.
    make_fail(&targets[1]).await;
    let back = until("it is rolled back", async || {
        let view = site.master.service("db").await?;
        (view["generation"] == 1 && view["state"] == "running").then_some(view)
    })
    .await;
    let why = back["last_rollout"]["rolled_back"].as_str().unwrap_or_default();
    assert!(why.contains("code 6") && why.contains("its last line: no disk"), "{back:#}");
    assert_eq!((&back["replicas"], &back["probation"]), (&json!(1), &json!(null)), "{back:#}");
}
