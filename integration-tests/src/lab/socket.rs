//! What tests ask of an engine through its socket.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    path::PathBuf,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    query_parameters::{CreateImageOptions, ListContainersOptions},
};
use futures_util::{TryStreamExt as _, future::join_all};

/// The image that every lab engine can be given.
pub const BUSYBOX: &str = "shef-lab/busybox:1";

/// Runs until it is told to stop, and then ends at once.
pub const OBEDIENT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// A container as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// As in `running`.
    pub state: String,
    /// When its process was started last, as the engine writes it.
    pub started_at: String,
    /// As in `unless-stopped`.
    pub restart_policy: String,
    /// Its image, as it was named when it was made.
    pub image: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// The address of an engine.
#[derive(Debug, Clone)]
pub struct EngineSocket {
    url: String,
}

impl EngineSocket {
    /// The engine at `url`, as in `unix:///…`.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self { url }
    }

    /// Its address, as `unix:///…`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits, without a bound of its own, until the engine answers.
    pub async fn answers(&self) {
        loop {
            if let Ok(client) = Docker::connect_with_unix(&self.url, 60, API_DEFAULT_VERSION)
                && client.ping().await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client of the engine.
    ///
    /// # Panics
    /// If the engine's socket is gone.
    #[must_use]
    pub fn client(&self) -> Docker {
        Docker::connect_with_unix(&self.url, 120, API_DEFAULT_VERSION).expect("the engine's socket")
    }

    /// Gives the engine the image [`BUSYBOX`]: one static binary and its applets as
    /// links. Without a command of its own a container runs [`OBEDIENT`].
    ///
    /// # Panics
    /// If the engine does not take it.
    pub async fn import_busybox(&self) {
        let command = serde_json::json!(["/bin/sh", "-c", OBEDIENT]);
        self.import(BUSYBOX, &busybox_tar(), vec![format!("CMD {command}")]).await;
    }

    /// Gives the engine an image made of one tar and of Dockerfile instructions.
    ///
    /// # Panics
    /// If the engine does not take it.
    pub async fn import(&self, name: &str, tar: &[u8], changes: Vec<String>) {
        let (repo, tag) = name.rsplit_once(':').expect("a tag");
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            changes,
            ..Default::default()
        };
        let body = bollard::body_full(tar.to_vec().into());
        let done: Result<Vec<_>, _> =
            self.client().create_image(Some(options), Some(body), None).try_collect().await;
        done.expect("the image is taken");
    }

    /// Every container of ours, whatever its cluster, by name.
    pub async fn managed(&self) -> BTreeMap<String, Seen> {
        let mut all = self.all().await;
        all.retain(|_, seen| seen.labels.contains_key(shef_common::labels::MANAGED));
        all
    }

    /// Every container, by name.
    ///
    /// # Panics
    /// If the engine does not tell.
    pub async fn all(&self) -> BTreeMap<String, Seen> {
        let docker = self.client();
        let options = ListContainersOptions { all: true, ..Default::default() };
        let list = docker.list_containers(Some(options)).await.expect("the engine's list");
        let ids = list.into_iter().filter_map(|summary| summary.id);
        join_all(ids.map(|id| inspect(&docker, id))).await.into_iter().flatten().collect()
    }
}

async fn inspect(docker: &Docker, id: String) -> Option<(String, Seen)> {
    let found = match docker.inspect_container(&id, None).await {
        Ok(found) => found,
        // It goes or has gone since the list was made.
        Err(Error::DockerResponseServerError { .. }) => return None,
        Err(error) => panic!("the engine does not tell what {id} is: {error}"),
    };
    let (state, config) = (found.state?, found.config?);
    let seen = Seen {
        id,
        state: state.status?.to_string(),
        started_at: state.started_at?,
        restart_policy: found.host_config?.restart_policy?.name?.to_string(),
        image: config.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
    };
    Some((found.name?.trim_start_matches('/').to_owned(), seen))
}

/// A root file system of busybox alone, as a tar.
///
/// # Panics
/// If there is no busybox here.
pub fn busybox_tar() -> Vec<u8> {
    busybox_with(&[])
}

/// The same with programs beside it: path and script.
///
/// # Panics
/// If there is no busybox here.
#[must_use]
pub fn busybox_with(scripts: &[(&str, &str)]) -> Vec<u8> {
    let binary =
        ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let binary = fs::read(binary.expect("busybox: install busybox-static")).expect("busybox can be read");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(binary.len() as u64);
    tar.append_data(&mut header, "bin/busybox", binary.as_slice()).expect("a tar in memory");
    for applet in [
        "sh", "sleep", "true", "false", "echo", "kill", "httpd", "cat", "grep", "hostname", "ls", "mkdir",
        "nc", "rm",
    ] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox").expect("a tar in memory");
    }
    for (path, script) in scripts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(script.len() as u64);
        tar.append_data(&mut header, path, script.as_bytes()).expect("a tar in memory");
    }
    let mut bytes = tar.into_inner().expect("a tar in memory");
    bytes.flush().expect("memory");
    bytes
}
