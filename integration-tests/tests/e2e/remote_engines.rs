//! Engines that are reached as the docker command reaches them: over plain TCP, over TLS with certificates of
//! its own, and through ssh.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use shef_integration_tests::lab::{
    engine::LabEngine,
    process::{Process, free_port},
    shef::{Agent, HostLab, Master, binary, busybox},
    wait::until,
};
use tempfile::TempDir;

use crate::terminal::{shef, text};

/// The name of the demo image in these tests.
const IMAGE: &str = "remote:1";

/// Runs a script of the shell, in `dir`.
fn run(dir: &Path, script: &str) {
    let ran = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", text(&ran.stderr));
}

/// An authority, and what it gave to engine (127.0.0.1) and client, below `dir`: `NAME/{ca,cert,key}.pem`.
fn certificates(dir: &Path) {
    run(
        dir,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
         -subj /CN=ca -days 2
         for name in engine client; do
           mkdir -p $name; cp ca.pem $name/ca.pem
           printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > ext
           openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name/key.pem -out csr \
         -subj /CN=$name
           openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name/cert.pem -days 2 \
         -extfile ext
         done",
    );
}

/// A site of one host, whose agent reaches `engine` at `url` with `settings`.
async fn site(engine: LabEngine, url: &str, settings: &[(&str, &str)]) -> HostLab {
    engine.import_busybox().await;
    let dir = tempfile::tempdir().unwrap();
    let mut master = Master::new(dir.path(), &[]);
    let agent = Agent::new(dir.path(), 1, master.address, url, settings);
    master.start().await;
    let mut site = HostLab { master, agents: vec![agent], engines: vec![engine], dir };
    site.agents[0].process.start();
    site.master.hosts(1).await;
    site
}

/// A service comes to run, a command runs inside, and its containers go.
async fn everything_works(site: &HostLab) {
    site.master.deploy("web", busybox(2)).await;
    assert_eq!(site.settled(&["web"]).await.len(), 2);
    let cat = shef(site, &["exec", "web", "--", "sh", "-c", "cat; exit 7"], "typed\n").await;
    assert_eq!((text(&cat.stdout), cat.status.code()), ("typed\n".to_owned(), Some(7)), "{cat:?}");
    site.master.api.call("DELETE", "/v1/services/web?wait=60s", serde_json::Value::Null).await;
    until("nothing is left", async || site.containers().await.is_empty().then_some(())).await;
}

/// `shef workload-image` at `url`.
fn makes_an_image(url: &str, settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(["workload-image", "--docker-host", url, "--tag", IMAGE]).envs(settings.iter().copied());
    command.output().unwrap()
}

#[actix::test]
async fn an_engine_over_tls_works_as_with_the_docker_command() {
    let certs = tempfile::tempdir().unwrap();
    certificates(certs.path());
    let file = |name: &str| certs.path().join(name).display().to_string();
    let url = format!("tcp://127.0.0.1:{}", free_port());
    let arguments = ["-H", &url, "--tlsverify", "--tlscacert", &file("ca.pem"), "--tlscert"]
        .map(str::to_owned)
        .into_iter();
    let arguments = arguments.chain([file("engine/cert.pem"), "--tlskey".to_owned(), file("engine/key.pem")]);
    let engine = LabEngine::start_with(arguments).await;
    let path = file("client");
    let tls = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path.as_str())];

    let docker = Command::new("docker").args(["-H", &url, "version"]).envs(tls).output().unwrap();
    assert!(docker.status.success(), "the docker command itself: {}", text(&docker.stderr));
    let made = makes_an_image(&url, &tls);
    assert!(made.status.success(), "{made:?}");
    let site = site(engine, &url, &tls).await;
    everything_works(&site).await;

    // What is refused is told.
    let plain = makes_an_image(&url, &[]);
    assert!(!plain.status.success() && text(&plain.stderr).contains("HTTPS server"), "{plain:?}");
    fs::create_dir(certs.path().join("stranger")).unwrap();
    certificates(&certs.path().join("stranger"));
    let path = file("stranger/client");
    let other = makes_an_image(&url, &[("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &path)]);
    assert!(!other.status.success() && text(&other.stderr).contains("invalid peer certificate"), "{other:?}");
    fs::remove_file(certs.path().join("client/key.pem")).unwrap();
    let half = makes_an_image(&url, &tls);
    assert!(text(&half.stderr).contains("client/key.pem is not there"), "{half:?}");
}

/// An ssh server that lets one key in, and a directory whose `ssh` shows that key.
struct SshServer {
    _process: Process,
    dir: TempDir,
    port: u16,
}

impl SshServer {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (at, port) = (|name: &str| dir.path().join(name).display().to_string(), free_port());
        fs::create_dir_all("/run/sshd").unwrap();
        run(
            dir.path(),
            "for key in host user; do ssh-keygen -q -t ed25519 -N '' -f $key; done; cp user.pub authorized",
        );
        let server = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile \
             none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n",
            at("host"),
            at("authorized")
        );
        fs::write(at("server"), server).unwrap();
        let host = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let client = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nIdentityAgent none\n",
            at("user"),
            at("known")
        );
        fs::write(at("client"), client).unwrap();
        fs::create_dir(at("bin")).unwrap();
        let counted =
            format!("#!/bin/sh\necho x >> {}\nexec /usr/bin/ssh -F {} \"$@\"\n", at("calls"), at("client"));
        fs::write(at("bin/ssh"), counted).unwrap();
        fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut process =
            Process::new("/usr/sbin/sshd", ["-D", "-e", "-f", &at("server")], PathBuf::from(at("log")));
        process.start();
        Self { _process: process, dir, port }
    }

    /// A `PATH` that finds the client first.
    fn path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.dir.path().join("bin").display())
    }

    /// How often ssh was called.
    fn calls(&self) -> usize {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().lines().count()
    }
}

#[actix::test]
async fn an_engine_behind_ssh_works_as_with_the_docker_command() {
    let (server, engine) = (SshServer::start(), LabEngine::start().await);
    let socket = engine.url().replace("unix://", "");
    let url = format!("ssh://root@127.0.0.1:{}{socket}", server.port);
    let path = server.path();
    let env = [("PATH", path.as_str())];

    until("the ssh server lets us in", async || makes_an_image(&url, &env).status.success().then_some(()))
        .await;
    let site = site(engine, &url, &env).await;
    everything_works(&site).await;
    assert!(server.calls() > 0, "everything went through ssh");

    // What is refused is told, in ssh's own words.
    fs::write(server.dir.path().join("authorized"), "").unwrap();
    let refused = makes_an_image(&url, &env);
    assert!(!refused.status.success() && text(&refused.stderr).contains("Permission denied"), "{refused:?}");
}

#[actix::test]
async fn an_engine_over_plain_tcp_works_as_with_the_docker_command() {
    let url = format!("tcp://127.0.0.1:{}", free_port());
    let engine = LabEngine::start_with(["-H", &url, "--tls=false"].map(str::to_owned)).await;
    let site = site(engine, &url, &[]).await;
    everything_works(&site).await;
}
