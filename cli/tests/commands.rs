//! The program as a person runs it: what it prints and how it ends.

use std::process::{Command, Output};

/// `shef` with nothing of this process's environment that configures it.
fn shef(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shef"));
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nowhere")
        .envs(env.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it says when it refuses; it must not have succeeded.
fn refusal(args: &[&str], env: &[(&str, &str)]) -> String {
    let output = shef(args, env);
    assert!(!output.status.success(), "{args:?} succeeded: {}", stdout(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_tells_its_version_and_its_commands() {
    assert_eq!(stdout(&shef(&["--version"], &[])), format!("shef {}\n", env!("CARGO_PKG_VERSION")));
    let help = stdout(&shef(&["--help"], &[]));
    for command in [
        "up",
        "down",
        "apply",
        "ls",
        "ps",
        "history",
        "scale",
        "rm",
        "master",
        "agent",
        "settings",
        "workload",
        "workload-image",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing in {help}");
    }
}

#[test]
fn the_configuration_tells_where_each_value_came_from() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "push_timeout_ms = 700\n[redis]\nprefix = \"mine\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let env = [
        ("HOST_IP", "10.0.0.5"),
        ("SHEF_MASTER_HTTP_WORKERS", "3"),
        ("REDIS_HOST", "db"),
        ("SHEF_REDIS_PASSWORD", "hush"),
    ];
    let table = stdout(&shef(&["settings", "master", "--config", path], &env));
    let line = |key: &str| {
        let found = table.lines().find(|line| line.split_whitespace().next() == Some(key));
        found
            .unwrap_or_else(|| panic!("{key} is missing in {table}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("host_ip"), "host_ip = \"10.0.0.5\" # env HOST_IP");
    assert_eq!(line("http_workers"), "http_workers = 3 # env SHEF_MASTER_HTTP_WORKERS");
    assert_eq!(line("push_timeout_ms"), format!("push_timeout_ms = 700 # {path}:1"));
    assert_eq!(line("redis.prefix"), format!("redis.prefix = \"mine\" # {path}:3"));
    assert_eq!(line("redis.url"), "redis.url = \"redis://db:6379\" # env REDIS_HOST");
    assert_eq!(line("store_timeout_ms"), "store_timeout_ms = 5000 # default");
    assert!(!table.contains("hush") && line("redis.password").contains("****"));
    let columns: std::collections::BTreeSet<_> = table.lines().map(|line| line.find(" = ")).collect();
    assert_eq!(columns.len(), 1, "the columns are aligned");

    let output = stdout(&shef(&["settings", "master", "--config", path, "--json"], &env));
    let json: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        json["http_workers"],
        serde_json::json!({ "value": 3, "origin": "env SHEF_MASTER_HTTP_WORKERS" })
    );
    assert_eq!(json["redis.password"]["value"], "****");
}

#[test]
fn a_password_in_a_url_is_not_printed_either() {
    let env = [("HOST_IP", "10.0.0.5"), ("SHEF_REDIS_URL", "redis://me:hush@db:1")];
    for args in [&["settings"][..], &["settings", "--json"], &["settings", "master"]] {
        let output = stdout(&shef(args, &env));
        assert!(
            !output.contains("hush") && output.contains("redis://db:1") && output.contains("****"),
            "{output}"
        );
    }
}

#[test]
fn what_is_missing_is_told_after_what_is_there() {
    for (program, key) in
        [("master", "push_timeout_ms"), ("agent", "relist_interval_ms"), ("bootstrap", "host_ip")]
    {
        let output = shef(&["settings", program], &[]);
        assert!(output.status.success() && stdout(&output).contains(key), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        let words = format!("==> shef {program} does not start with this: host_ip is not set: ");
        assert!(told.starts_with(&words), "{told}");
    }
    // What is wrong is a failure.
    let wrong = refusal(&["settings", "master"], &[("HOST_IP", "here")]);
    assert!(wrong.contains("env HOST_IP says \"here\""), "{wrong}");
}

#[test]
fn nothing_starts_with_a_wrong_configuration() {
    assert!(refusal(&["master"], &[]).contains("host_ip is not set"));
    assert!(refusal(&["agent"], &[("HOST_IP", "here")]).contains("env HOST_IP says \"here\""));
    let address = [("HOST_IP", "127.0.0.1")];
    let said = refusal(&["master", "--set", "push_timeout_ms=1"], &address);
    assert!(
        said.contains("from 100 to 60000") && said.contains("flag --set push_timeout_ms says \"1\""),
        "{said}"
    );
    assert!(refusal(&["master", "--set", "bogus=1"], &address).contains("there is no key \"bogus\""));
    assert!(refusal(&["agent"], &[address[0], ("SHEF_AGENT_BOGUS", "1")]).contains("SHEF_AGENT_BOGUS"));
    assert!(
        refusal(&["agent", "--config", "/nowhere/a.toml"], &address)
            .contains("/nowhere/a.toml cannot be read")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "\nbogus = 1\n").unwrap();
    let path = file.path().to_str().unwrap();
    for program in ["master", "agent"] {
        assert!(
            refusal(&[program, "--config", path], &address)
                .contains(&format!("unknown key \"bogus\" in {path}:2"))
        );
    }
}

#[test]
fn up_refuses_a_port_that_is_taken_and_an_engine_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said =
        refusal(&["up", "--data-dir", dir, "--api", &address, "--docker-host", "unix:///nowhere.sock"], &[]);
    assert!(
        said.contains(&format!("port {} of 127.0.0.1 is taken", taken.local_addr().unwrap().port()))
            && said.contains(&format!("(process {}): choose another by --api", std::process::id())),
        "{said}"
    );
    let said = refusal(
        &["up", "--data-dir", dir, "--api", "127.0.0.1:0", "--agent", &address],
        &[("DOCKER_HOST", "unix:///nowhere.sock")],
    );
    assert!(said.contains("is taken") && said.contains("--agent"), "{said}");
    let free = ["up", "--data-dir", dir, "--api", "127.0.0.1:0", "--agent", "127.0.0.1:0"];
    let said = refusal(&free, &[("DOCKER_HOST", "unix:///nowhere.sock")]);
    assert!(said.contains("unix:///nowhere.sock (from env DOCKER_HOST) does not answer"), "{said}");
}

#[test]
fn down_says_so_where_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["down", "--data-dir", dir.path().to_str().unwrap()];
    let said = refusal(&args, &[]);
    assert!(
        said.starts_with(&format!("shef: no `shef up` has run over {}: ", dir.path().display())),
        "{said}"
    );
    std::fs::write(dir.path().join("shef.pid.json"), "").unwrap();
    let output = shef(&args, &[]);
    assert!(output.status.success() && stdout(&output).starts_with("nothing runs over "));
}

#[test]
fn an_address_of_the_api_that_cannot_be_one_is_refused_in_words() {
    for (api, why) in [
        ("", "must be an address such as 10.0.0.5:8044"),
        ("localhost:99999", "the port must be a number from 1 to 65535, but is \"99999\""),
        ("https://localhost", "--ca DIGEST"),
    ] {
        let said = refusal(&["ls", "--api", api], &[]);
        assert!(said.contains(why), "{said}");
    }
    let said = refusal(&["ls"], &[("HOST_IP", "127.0.0.1"), ("PORT", "70000")]);
    assert!(said.starts_with("shef: HOST_IP and PORT of the environment: the port must be"), "{said}");
    let said = refusal(&["login", "http://10.0.0.5", "--ca", "00"], &[]);
    assert!(said.contains("http://10.0.0.5:8044 has no CA"), "{said}");
    let said = refusal(&["login", "10.0.0.5", "--ca", "00", "--token", "t"], &[]);
    assert!(said.contains("the digest of a CA"), "it is https: {said}");
    for (api, why) in [
        ("unix:///nowhere.sock", "there is no socket /nowhere.sock (SHEF_API)"),
        ("127.0.0.1:1", "http://127.0.0.1:1 (SHEF_API) does not answer: nothing listens"),
    ] {
        let said = refusal(&["ls"], &[("SHEF_API", api)]);
        assert!(said.contains(why) && said.contains("`shef up -d`"), "{said}");
    }
    // Nobody listens at port 1.
    let said = refusal(&["ls", "--api", "127.0.0.1:1/v1"], &[]);
    assert!(said.starts_with("shef: http://127.0.0.1:1 (--api) does not answer: nothing listens"), "{said}");
}

#[test]
fn down_with_services_fails_where_nothing_runs_to_delete_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("master")).unwrap();
    let said = refusal(&["down", "--services", "--data-dir", dir.path().to_str().unwrap()], &[]);
    let place = format!("--data-dir {}", dir.path().display());
    let hint = format!("`shef up -d {place}`, then `shef down {place} --services`");
    assert!(said.contains(&hint), "{said}");
}
