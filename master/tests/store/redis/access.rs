//! Who may use the Redis of a store: passwords, access lists, open ones, TLS.

use super::*;

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let server = RedisServer::start(&[]);
    for password in [Some("geheim".to_owned()), None] {
        let error = RedisStore::open(&RedisOptions { password, ..server.options() }).await.err().unwrap();
        assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("check user, password") && !text.contains("geheim"), "{text}");
    }
}

/// The lines of docs/operations.md that make a user of its own, as typed on `server`; its options.
fn documented_user(server: &RedisServer) -> RedisOptions {
    let lines = include_str!("../../../../docs/operations.md").lines();
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("ACL SETUSER shef ")).collect();
    let [rights, waits] = lines[..] else {
        panic!("a line for every version, and one for WAITAOF: {lines:?}")
    };
    let password = "its own";
    let typed = |line: &str| {
        let words = line.split(' ').map(|word| word.replace("PASSWORD", password)).collect::<Vec<_>>();
        server.run::<Value>(&words.iter().map(String::as_str).collect::<Vec<_>>());
    };
    typed(rights);
    if server.run::<Vec<Value>>(&["COMMAND", "INFO", "WAITAOF"]) != [Value::Nil] {
        typed(waits);
    }
    RedisOptions { username: Some("shef".into()), password: Some(password.into()), ..server.options() }
}

#[tokio::test]
async fn the_documented_user_needs_no_more_than_its_rights() {
    for server in std::iter::once(RedisServer::start(&[]))
        .chain(releases().map(|release| RedisServer::start_release(release, &[])))
    {
        let options = documented_user(&server);
        redis_conforms_as(&server, &options).await;
        let following = RedisStore::open(&options).await.unwrap();
        following.follow(None).await.unwrap();
        assert_eq!(inspect(&options).await.unwrap().appendonly, Some(true));
        let denied: Vec<Vec<Value>> = server.run(&["ACL", "LOG"]);
        let mut denied = denied.iter().map(|entry| format!("{entry:?}"));
        // A client library that tells its name is no need.
        let needed = denied.find(|entry| !entry.contains("client|setinfo"));
        assert_eq!(needed, None, "a right is missing");
        for beyond in
            [&["FLUSHALL"][..], &["CONFIG", "SET", "dir", "/"], &["GET", "other"], &["SCRIPT", "FLUSH"]]
        {
            let client = deadpool_redis::redis::Client::open(format!(
                "redis://shef:its%20own@127.0.0.1:{}/3",
                server.port
            ));
            let mut command = deadpool_redis::redis::cmd(beyond[0]);
            beyond[1..].iter().for_each(|word| _ = command.arg(*word));
            let answer = command.query::<Value>(&mut client.unwrap().get_connection().unwrap());
            assert_eq!(answer.unwrap_err().code(), Some("NOPERM"), "{beyond:?}");
        }
    }
}

/// This machine's address in its network; `None`: it has none.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[tokio::test]
async fn an_open_redis_of_a_network_is_refused_unless_it_is_meant() {
    let Some(own) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let open = ["--bind", "0.0.0.0", "--requirepass", "", "--protected-mode", "no"];
    let server = RedisServer::start(&open);
    let mut options = RedisOptions::new(format!("redis://{own}:{}/3", server.port));
    options.connect_timeout_ms = DurationMs(3_000);
    for refused in [
        RedisStore::open(&options).await.err(),
        inspect(&options).await.err(),
        stored_format(&StoreOptions::Redis(options.clone())).await.err(),
    ] {
        assert!(matches!(refused, Some(OpenError::Open { .. })), "{refused:?}");
    }
    let near = RedisOptions { url: format!("redis://localhost:{}/3", server.port), ..options.clone() };
    lead(&RedisStore::open(&near).await.unwrap(), 1).await;
    let meant = RedisOptions { allow_open: true, ..options.clone() };
    lead(&RedisStore::open(&meant).await.unwrap(), 2).await;
    // Its user `default` needs no password, and takes any that comes with a name.
    let client = deadpool_redis::redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut acl = |words: &[&str]| {
        deadpool_redis::redis::cmd("ACL").arg("SETUSER").arg(words).exec(&mut connection).is_ok()
    };
    let any = |name: &str| RedisOptions {
        username: Some(name.to_owned()),
        password: Some("any".to_owned()),
        ..options.clone()
    };
    let refused = RedisStore::open(&any("default")).await.err();
    assert!(matches!(refused, Some(OpenError::Open { .. })), "{refused:?}");
    if !acl(&["shef", "on", ">any", "~*", "+@all"]) {
        return eprintln!("no more is tried: this Redis knows no users");
    }
    let refused = RedisStore::open(&any("shef")).await.err();
    assert!(matches!(refused, Some(OpenError::Open { .. })), "its user keeps nobody else out: {refused:?}");
    assert!(acl(&["default", "resetpass", ">other"]));
    lead(&RedisStore::open(&any("shef")).await.unwrap(), 3).await;
}

#[tokio::test]
async fn tls_is_spoken_and_the_certificate_checked() {
    let certs = tempfile::tempdir().unwrap();
    let path = |name: &str| certs.path().join(name).to_str().unwrap().to_owned();
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(certs.path()).output();
        assert!(done.expect("openssl must be on the PATH for this test").status.success(), "{arguments}");
    };
    std::fs::write(path("ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=redis");
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out \
         cert.pem",
    );
    let tls_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (tls, cert, key, ca) = (tls_port.to_string(), path("cert.pem"), path("key.pem"), path("ca.pem"));
    let server = RedisServer::start(&[
        "--tls-port",
        &tls,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    let mut options = server.options();
    options.url = format!("rediss://127.0.0.1:{tls}/3");
    let error = RedisStore::open(&options).await.err().unwrap();
    assert!(matches!(error, OpenError::Unreachable { .. }), "an unknown authority: {error:?}");
    options.tls_ca_file = Some(ca.into());
    let store = RedisStore::open(&options).await.unwrap();
    let fence = lead(&store, 1).await.fence;
    assert_eq!(
        store.commit(&cluster(1), &fence, &[set(&service("web"), None, "{}")]).await.unwrap(),
        [WriteOutcome::Done]
    );
}
