//! A real image registry (Debian's `docker-registry`) on a free loopback port.

use std::net::{Ipv4Addr, SocketAddr};

use bollard::{
    Docker,
    auth::DockerCredentials,
    query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions},
};
use futures_util::TryStreamExt as _;
use tempfile::TempDir;

use super::{
    process::{Process, free_port},
    wait::until,
};

/// A running registry. Engines take it without TLS, since it is on the loopback.
pub struct LabRegistry {
    /// The server.
    pub process: Process,
    address: String,
    is_guarded: bool,
    _directory: TempDir,
}

impl LabRegistry {
    /// Starts one, empty.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).await
    }

    /// Starts one that asks everybody who they are. `logins` are lines of htpasswd with
    /// bcrypt, one of them of the user `lab` with the password `lab`, who pushes.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start_guarded(logins: &[&str]) -> Self {
        Self::make(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), logins).await
    }

    /// Starts one at an address of this machine; engines must be told to take it without TLS.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::make(address, &[]).await
    }

    /// Starts one at an address of this machine that asks everybody who they are, as [`Self::start_guarded`]
    /// does.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start_guarded_at(address: SocketAddr, logins: &[&str]) -> Self {
        Self::make(address, logins).await
    }

    async fn make(address: SocketAddr, logins: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = address.to_string();
        let file = directory.path().join("config.yml");
        let data = directory.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: \
             {{addr: {address:?}, secret: lab}}\n",
            data.display()
        );
        if !logins.is_empty() {
            let path = directory.path().join("htpasswd");
            std::fs::write(&path, logins.join("\n")).expect("a file of logins");
            config.push_str("auth:\n  htpasswd:\n    realm: lab\n    path: ");
            config.push_str(&path.display().to_string());
        }
        std::fs::write(&file, config).expect("a configuration file");
        let log = directory.path().join("log");
        let words = ["serve".into(), file.into_os_string()];
        let mut process = Process::new("docker-registry", words, log).with("OTEL_TRACES_EXPORTER", "none");
        process.start();
        until("docker-registry listens (Debian: install docker-registry)", async || {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Self { process, address, is_guarded: !logins.is_empty(), _directory: directory }
    }

    /// The reference of `repository:tag` here.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Pushes the engine's image `source` as `repository:tag`, and takes that name away from the engine
    /// again.
    ///
    /// # Panics
    /// If engine or registry refuse.
    pub async fn push(&self, docker: &Docker, source: &str, name: &str) {
        let image = self.image(name);
        let (repo, tag) = image.rsplit_once(':').expect("a tag");
        let tagged = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
        docker.tag_image(source, Some(tagged)).await.expect("the image has another name");
        let lab = || Some("lab".to_owned());
        let login = self.is_guarded.then(|| DockerCredentials {
            username: lab(),
            password: lab(),
            ..Default::default()
        });
        let options = PushImageOptions { tag: Some(tag.to_owned()), ..Default::default() };
        let pushed: Result<Vec<_>, _> = docker.push_image(repo, Some(options), login).try_collect().await;
        let pushed = pushed.expect("the image is pushed");
        assert!(pushed.iter().all(|step| step.error_detail.is_none()), "{pushed:?}");
        docker.remove_image(&image, None::<RemoveImageOptions>, None).await.expect("the name is gone");
    }

    /// The requests so far that asked for `part` (as in `/blobs/`) of `repository`, as the access log tells
    /// them.
    #[must_use]
    pub fn requests(&self, method: &str, repository: &str, part: &str) -> Vec<String> {
        let start = format!("\"{method} /v2/{repository}{part}");
        self.process.said().lines().filter(|line| line.contains(&start)).map(str::to_owned).collect()
    }
}
