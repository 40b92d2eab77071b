//! The image of `shef workload`, made on the spot: this binary and the shared
//! libraries it needs, imported as one layer. No registry and no builder takes part.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use bollard::{Docker, body_full, query_parameters::CreateImageOptionsBuilder};
use futures_util::TryStreamExt as _;
use shef_common::image::ImageRef;

/// The image's usual name.
pub const DEFAULT_TAG: &str = concat!("shef/workload:", env!("CARGO_PKG_VERSION"));
/// The port it serves.
const PORT: u16 = 8080;
/// The label that tells from which binary an image was made.
const SOURCE_LABEL: &str = "shef-workload-source";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name is not one.
    #[error(transparent)]
    Tag(#[from] shef_common::image::InvalidImage),
    /// A variable that would end its instruction.
    #[error("an environment variable must be KEY=VALUE without control characters, but is {0:?}")]
    Env(String),
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// The engine refuses.
    #[error("the Docker engine does not take the image: {}", shef_common::docker::reason(.0))]
    Engine(#[from] bollard::errors::Error),
}

/// Makes sure that the engine has the image `tag` of this process's own binary,
/// with `env` (each `KEY=VALUE`) set in it. An image that was made from the same
/// binary with the same variables is kept.
///
/// # Errors
/// [`ImageError`] says what is wrong with which value or file.
pub async fn workload_image(docker: &Docker, tag: &str, env: &[String]) -> Result<(), ImageError> {
    workload_image_of(docker, Path::new("/proc/self/exe"), tag, env).await
}

/// As [`workload_image`], from the `shef` binary at `binary`: for tests, which are not `shef` themselves.
///
/// # Errors
/// As [`workload_image`].
pub async fn workload_image_of(
    docker: &Docker,
    binary: &Path,
    tag: &str,
    env: &[String],
) -> Result<(), ImageError> {
    let image = ImageRef::parse(tag)?;
    if let Some(wrong) = env
        .iter()
        .find(|pair| !pair.contains('=') || pair.starts_with('=') || pair.contains(char::is_control))
    {
        return Err(ImageError::Env(wrong.clone()));
    }
    let source = source_of(binary, env)?;
    if let Ok(found) = docker.inspect_image(&image.never_an_id()).await
        && let Some(labels) = found.config.and_then(|config| config.labels)
        && labels.get(SOURCE_LABEL) == Some(&source)
    {
        return Ok(());
    }
    let binary = binary.to_owned();
    let made = tokio::task::spawn_blocking(move || archive(&binary)).await;
    let archive = made.map_err(|error| ImageError::File {
        path: "the archive".into(),
        source: io::Error::other(error),
    })??;
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(image.as_str())
        .changes(changes(env, &source))
        .build();
    docker.create_image(Some(options), Some(body_full(archive.into())), None).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Whether the engine has the image `tag`, and shef has made it.
pub async fn is_there(docker: &Docker, tag: &str) -> bool {
    let found = docker.inspect_image(tag).await.ok();
    let labels = found.and_then(|found| found.config).and_then(|config| config.labels);
    labels.is_some_and(|labels| labels.contains_key(SOURCE_LABEL))
}

/// A mark of the binary and what is set in the image: another one is made when either changes.
fn source_of(binary: &Path, env: &[String]) -> Result<String, ImageError> {
    let failed = |source| ImageError::File { path: binary.to_owned(), source };
    let metadata = std::fs::metadata(binary).map_err(failed)?;
    let modified =
        metadata.modified().map_err(failed)?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}",
        metadata.len(),
        modified.as_nanos(),
        env.join(" ").escape_default().to_string().replace(['\\', '"', '\''], "_")
    ))
}

/// The image's settings as Dockerfile instructions.
fn changes(env: &[String], source: &str) -> Vec<String> {
    let mut lines = vec![
        "CMD [\"/shef\", \"workload\"]".to_owned(),
        format!("EXPOSE {PORT}"),
        format!("LABEL {SOURCE_LABEL}=\"{source}\""),
    ];
    for (key, value) in env.iter().filter_map(|pair| pair.split_once('=')) {
        let value: String = value
            .chars()
            .flat_map(|c| matches!(c, '"' | '\\' | '$').then_some('\\').into_iter().chain([c]))
            .collect();
        lines.push(format!("ENV {key}=\"{value}\""));
    }
    lines
}

/// The root file system: `/shef`, and each shared library under its own path.
fn archive(binary: &Path) -> Result<Vec<u8>, ImageError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| ImageError::File { path: path.to_owned(), source })
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &Path, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        let added = tar.append_data(&mut header, name.strip_prefix("/").unwrap_or(name), bytes);
        added.map_err(|source| ImageError::File { path: name.to_owned(), source })
    };
    add(Path::new("/shef"), &stripped(binary).map_or_else(|| read(binary), Ok)?)?;
    for library in libraries(binary) {
        add(&library, &read(&library)?)?;
    }
    tar.into_inner().map_err(|source| ImageError::File { path: "the archive".into(), source })
}

/// The binary without debug information, where `strip` is at hand: a tenth of the size.
fn stripped(binary: &Path) -> Option<Vec<u8>> {
    let real = std::fs::canonicalize(binary).ok()?;
    let out = std::env::temp_dir().join(format!(
        "shef-stripped-{}-{}",
        std::process::id(),
        shef_common::ids::random()
    ));
    let done = Command::new("strip")
        .arg("-o")
        .arg(&out)
        .arg(real)
        .output()
        .is_ok_and(|output| output.status.success());
    let bytes = done.then(|| std::fs::read(&out).ok()).flatten();
    _ = std::fs::remove_file(&out);
    bytes
}

/// The shared libraries and the loader, as `ldd` finds them; none for a static binary.
fn libraries(binary: &Path) -> BTreeSet<PathBuf> {
    let real = std::fs::canonicalize(binary).unwrap_or_else(|_| binary.to_owned());
    let output = Command::new("ldd").arg(real).output().map(|output| output.stdout).unwrap_or_default();
    paths_in_ldd(&String::from_utf8_lossy(&output))
}

fn paths_in_ldd(text: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let right = line.split_once("=>").map_or(line, |(_, right)| right);
        right.split_whitespace().next().filter(|path| path.starts_with('/')).map(PathBuf::from)
    };
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldds_lines_name_libraries_and_loader() {
        let text = "\tlinux-vdso.so.1 (0x7)\n\tlibgcc_s.so.1 => /lib/x/libgcc_s.so.1 (0x7)\n\tlost.so => \
                    not found\n\t/lib64/ld-linux-x86-64.so.2 (0x7)\n";
        let expected = ["/lib/x/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths_in_ldd(text), expected.into());
        assert!(paths_in_ldd("\tstatically linked\n").is_empty());
    }

    #[test]
    fn variables_cannot_end_their_instruction() {
        let lines = changes(&["A=x \"y\" $z".into()], "s");
        assert_eq!(lines.last().unwrap(), r#"ENV A="x \"y\" \$z""#);
    }

    #[test]
    fn the_archive_holds_the_binary_and_its_libraries() {
        let bytes = archive(Path::new("/bin/true")).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths[0], Path::new("shef"));
        assert!(paths.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{paths:?}");
    }
}
