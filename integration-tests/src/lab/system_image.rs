//! The image of shef itself and one of Redis, built with a real `docker build` from
//! the checkout's `Dockerfile`, on a base made on the spot: no public registry is
//! reached. Built once, in an engine of its own that ends with it, and kept beside the program until that
//! changes.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Write as _,
    path::{Path, PathBuf},
};

use bollard::{
    Docker, body_full,
    query_parameters::{ImportImageOptions, RemoveImageOptions},
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::{process::Command, sync::OnceCell};

use super::{
    engine::{ENGINE_VARIABLE, EngineSocket, LabEngine},
    registry::LabRegistry,
    shef::binary,
};

/// The base of both images.
const BASE: &str = "shef-lab/base:1";
/// The image of shef, and the same once more with another label: what an upgrade goes to.
const SHEF: [&str; 2] = ["shef-lab/shef:1", "shef-lab/shef:2"];
/// The image of Redis.
const REDIS: &str = "shef-lab/redis:1";
/// What of the checkout goes into an image, but for the program.
const CONTEXT: [&str; 4] = ["Dockerfile", ".dockerignore", "LICENSE-MIT", "LICENSE-APACHE"];
/// The machine's Redis.
const REDIS_SERVER: &str = "/usr/bin/redis-server";
const REDIS_CLI: &str = "/usr/bin/redis-cli";
/// Whom the Redis image runs as, as the official one does in the end.
const REDIS_USER: u64 = 999;
/// What a base for shef has besides the libraries.
const BASE_FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/:/none\n"),
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];
/// The machine's bundle of certificate authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The images, as `docker save` gives them.
pub struct SystemImages {
    saved: Bytes,
}

/// Where the images have been pushed to.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The image of shef.
    pub shef: String,
    /// The same with another label.
    pub upgrade: String,
    /// The image of Redis.
    pub redis: String,
}

impl SystemImages {
    /// Builds them, or brings those that were built before in this process.
    ///
    /// # Panics
    /// If a program that is needed is missing, or the build fails.
    pub async fn get() -> &'static Self {
        static BUILT: OnceCell<SystemImages> = OnceCell::const_new();
        BUILT.get_or_init(Self::kept_or_built).await
    }

    async fn kept_or_built() -> Self {
        let release = std::env::var(ENGINE_VARIABLE).unwrap_or_else(|_| "own".to_owned());
        let prefix = format!("lab-images-{release}-");
        let kept = binary().with_file_name(format!("{prefix}{:016x}.tar", ingredients()));
        if let Ok(saved) = fs::read(&kept) {
            return Self { saved: saved.into() };
        }
        let built = Self::build().await;
        remove_others(&kept, &prefix);
        let written =
            tempfile::NamedTempFile::new_in(kept.parent().expect("the program lies in a directory"))
                .and_then(|mut file| file.write_all(&built.saved).map(|()| file))
                .and_then(|file| file.persist(&kept).map_err(|error| error.error));
        written.expect("the images are kept beside the program");
        built
    }

    async fn build() -> Self {
        let engine = LabEngine::start().await;
        let context = tempfile::tempdir().expect("a temporary directory");
        for file in CONTEXT {
            fs::copy(checkout().join(file), context.path().join(file)).expect("a file of the checkout");
        }
        fs::create_dir_all(context.path().join("target/release")).expect("a directory");
        let packed = context.path().join("target/release/shef");
        run(Command::new("strip").arg("-o").arg(&packed).arg(binary())).await;
        engine.import(BASE, &base(&packed), Vec::new()).await;
        for (tag, revision) in SHEF.iter().zip(["1", "2"]) {
            let base = format!("BASE_IMAGE={BASE}");
            let revision = format!("REVISION={revision}");
            let arguments = ["--target", "packed", "--build-arg", &base, "--build-arg", &revision];
            build(&engine, context.path(), tag, &arguments).await;
        }
        import_redis(&engine.socket(), REDIS).await;
        let images: Vec<&str> = SHEF.into_iter().chain([REDIS]).collect();
        let saved: Vec<Bytes> =
            engine.client().export_images(&images).try_collect().await.expect("the images are saved");
        Self { saved: saved.concat().into() }
    }

    /// Gives them to an engine, under their names in the lab: shef, the same for an upgrade, Redis.
    ///
    /// # Panics
    /// If it does not take them.
    pub async fn load(&self, docker: &Docker) -> [&'static str; 3] {
        let body = body_full(self.saved.clone());
        let loaded: Result<Vec<_>, _> =
            docker.import_image(ImportImageOptions::default(), body, None).try_collect().await;
        loaded.expect("the images are taken");
        [SHEF[0], SHEF[1], REDIS]
    }

    /// Pushes them to `registry`, as `shef:1`, `shef:2` and `redis:7`, through an engine that reaches it, and
    /// takes them away from the engine again.
    ///
    /// # Panics
    /// If engine or registry refuse.
    pub async fn push(&self, docker: &Docker, registry: &LabRegistry) -> Pushed {
        let names = ["shef:1", "shef:2", "redis:7"];
        for (source, name) in self.load(docker).await.into_iter().zip(names) {
            registry.push(docker, source, name).await;
            docker.remove_image(source, None::<RemoveImageOptions>, None).await.expect("the name is gone");
        }
        let [shef, upgrade, redis] = names.map(|name| registry.image(name));
        Pushed { shef, upgrade, redis }
    }
}

/// Gives an engine the machine's Redis as the official image has it: the programs, a directory for the data,
/// no entry point in the way.
///
/// # Panics
/// If there is no Redis on this machine, or the engine does not take it.
pub async fn import_redis(engine: &EngineSocket, name: &str) {
    let mut tar = Tar::new();
    for program in [REDIS_SERVER, REDIS_CLI] {
        tar.program(Path::new(program), program);
    }
    tar.text(
        "etc/passwd",
        &format!("root:x:0:0:root:/:/none\nredis:x:{REDIS_USER}:{REDIS_USER}:redis:/data:/none\n"),
    );
    tar.text("etc/group", &format!("root:x:0:\nredis:x:{REDIS_USER}:\n"));
    tar.directory("data", REDIS_USER, 0o755);
    tar.directory("tmp", 0, 0o1777);
    let user = format!("USER {REDIS_USER}:{REDIS_USER}");
    let changes = ["ENV PATH=/usr/bin", &user, "WORKDIR /data", "VOLUME /data", "CMD [\"redis-server\"]"];
    engine.import(name, &tar.finish(), changes.map(str::to_owned).into()).await;
}

/// Stands for what the images are made of, but for the machine's libraries.
fn ingredients() -> u64 {
    let mut hasher = DefaultHasher::new();
    include_bytes!("system_image.rs").hash(&mut hasher);
    for file in [binary(), Path::new(REDIS_SERVER), Path::new(REDIS_CLI), Path::new(AUTHORITIES)] {
        let facts = fs::metadata(file).ok();
        facts.map(|facts| (facts.len(), facts.modified().ok())).hash(&mut hasher);
    }
    for file in CONTEXT {
        fs::read(checkout().join(file)).expect("a file of the checkout").hash(&mut hasher);
    }
    hasher.finish()
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout")
}

/// Those of earlier programs: a test that reads one has it open.
fn remove_others(kept: &Path, prefix: &str) {
    for entry in
        fs::read_dir(kept.parent().expect("the program lies in a directory")).into_iter().flatten().flatten()
    {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // Another test may have done so.
            _ = fs::remove_file(entry.path());
        }
    }
}

async fn build(engine: &LabEngine, context: &Path, tag: &str, arguments: &[&str]) {
    let mut docker = Command::new("docker");
    docker.env("PATH", engine.release().path());
    docker.args(["-H", &engine.url(), "build", "-t", tag]).args(arguments).arg(context);
    // The classic builder: what Debian's docker.io has.
    run(docker.env("DOCKER_BUILDKIT", "0")).await;
}

async fn run(command: &mut Command) {
    let output = command.output().await.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let said =
        || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed: {}", said());
}

/// A base for shef: the machine's own libraries, authorities and a few files.
fn base(program: &Path) -> Vec<u8> {
    let mut tar = Tar::new();
    tar.libraries_of(program);
    for (name, text) in BASE_FILES {
        tar.text(name, text);
    }
    if let Ok(authorities) = fs::read_to_string(AUTHORITIES) {
        tar.text(AUTHORITIES.trim_start_matches('/'), &authorities);
    }
    tar.directory("tmp", 0, 0o1777);
    tar.directory("run", 0, 0o755);
    tar.finish()
}

/// A root file system in the making.
struct Tar {
    builder: tar::Builder<Vec<u8>>,
    libraries: BTreeSet<PathBuf>,
}

impl Tar {
    fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()), libraries: BTreeSet::new() }
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        self.builder
            .append_data(&mut header, name.trim_start_matches('/'), content)
            .expect("a tar in memory");
    }

    fn text(&mut self, name: &str, content: &str) {
        self.add(name, 0o644, content.as_bytes());
    }

    fn directory(&mut self, name: &str, owner: u64, mode: u32) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        header.set_uid(owner);
        header.set_gid(owner);
        self.builder.append_data(&mut header, format!("{name}/"), std::io::empty()).expect("a tar in memory");
    }

    /// A program of this machine, links followed, under the name `name`, and its libraries.
    fn program(&mut self, path: &Path, name: &str) {
        let content = fs::read(path).unwrap_or_else(|error| panic!("{} is needed: {error}", path.display()));
        self.add(name, 0o755, &content);
        self.libraries_of(path);
    }

    /// The libraries and the loader that `ldd` names, each once.
    fn libraries_of(&mut self, program: &Path) {
        let output = std::process::Command::new("ldd").arg(program).output().expect("ldd runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let path = |line: &str| {
            let right = line.split_once("=>").map_or(line, |(_, right)| right);
            right.split_whitespace().next().filter(|path| path.starts_with('/')).map(PathBuf::from)
        };
        for library in text.lines().filter_map(path) {
            if self.libraries.insert(library.clone()) {
                let content = fs::read(&library).expect("a library can be read");
                self.add(&library.to_string_lossy(), 0o755, &content);
            }
        }
    }

    fn finish(self) -> Vec<u8> {
        self.builder.into_inner().expect("a tar in memory")
    }
}
