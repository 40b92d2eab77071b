//! Where the paths that a template mounts really lead: a symbolic link below an allowed directory may lead
//! out of it, and be put there by a container that may write there.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use shef_common::{
    policy::Policy,
    spec::{Demand, Template},
};

use crate::engine::{EngineError, NamedVolume};

/// The most symbolic links on the way to one path, as the kernel's own bound.
const MOST_LINKS: usize = 40;

/// How long the way of a container's mounts may take to follow.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether a container is to be made, or to be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// It is to be made.
    New,
    /// It was made before, and is to be started.
    Existing,
}

/// Compares what is mounted with the host's policy, after following symbolic links.
#[derive(Debug, Clone)]
pub struct Binds {
    policy: Arc<Policy>,
    host_root: Option<PathBuf>,
}

impl Binds {
    /// `host_root`: where the host's root directory is seen. Without it the engine's host is another one, and
    /// its links cannot be followed.
    #[must_use]
    pub fn new(policy: Policy, host_root: Option<PathBuf>) -> Self {
        Self { policy: Arc::new(policy), host_root }
    }

    /// The host's policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Follows every path that `template` mounts, also by those of its volumes that exist, whatever they were
    /// made with. An existing volume is refused only if a link leads it elsewhere: the policy may have been
    /// another one when it was made.
    ///
    /// # Errors
    /// [`EngineError::Refused`] if one leads to where the policy lets nothing be mounted, or cannot be
    /// followed.
    pub async fn check(
        &self,
        template: &Template,
        existing: &[NamedVolume],
        container: Container,
    ) -> Result<(), EngineError> {
        let mut demands = template.demands();
        for NamedVolume { name, driver, options } in existing {
            let made_with = Demand::of_volume(driver, options);
            let refused = self.policy.refuses(&made_with).filter(|_| container == Container::New);
            if let Some(refusal) = refused.and_then(|demand| self.policy.refusal(demand)) {
                return Err(EngineError::Refused(format!("{refusal} (the volume {name} was made so)")));
            }
            demands.extend(made_with);
        }
        let paths: Vec<String> = demands
            .into_iter()
            .filter_map(|demand| if let Demand::Bind(path) = demand { Some(path) } else { None })
            .collect();
        let Some(root) = self.host_root.clone().filter(|_| !paths.is_empty()) else { return Ok(()) };
        let policy = self.policy.clone();
        // On the pool for what may block: a path may lie on a server that does not answer.
        let follow_all = move || paths.iter().try_for_each(|path| follow(&policy, &root, path, container));
        match tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(follow_all)).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(error)) => Err(EngineError::Refused(format!("its mounts cannot be followed: {error}"))),
            Err(_) => Err(EngineError::Refused(format!(
                "the file system of one of its mounts does not answer within {} s",
                LIMIT.as_secs()
            ))),
        }
    }
}

fn follow(policy: &Policy, root: &Path, path: &str, container: Container) -> Result<(), EngineError> {
    let leads_to = match resolve(root, path) {
        Ok(leads_to) => leads_to,
        // The engine says so itself, and makes nothing of it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(EngineError::Refused(format!("the mount of {path} cannot be followed: {error}")));
        }
    };
    let is_itself = || parts(Path::new(path)) == parts(Path::new(&leads_to));
    match policy.refusal(&Demand::Bind(leads_to.clone())) {
        Some(_) if container == Container::Existing && is_itself() => Ok(()),
        Some(refusal) => Err(EngineError::Refused(format!("{refusal} ({path} leads there)"))),
        None => Ok(()),
    }
}

/// The path of the host to which `path` leads, with the host's root directory at `root`.
fn resolve(root: &Path, path: &str) -> io::Result<String> {
    let mut ahead: VecDeque<OsString> = parts(Path::new(path));
    let (mut resolved, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&part);
        let seen = root.join(next.strip_prefix("/").unwrap_or(&next));
        if !seen.symlink_metadata()?.file_type().is_symlink() {
            resolved = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        let target = seen.read_link()?;
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            ahead.push_front(part);
        }
    }
    resolved.into_os_string().into_string().map_err(|_| io::ErrorKind::InvalidFilename.into())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    /// A host's root directory with links in it, and a policy that allows `/srv`.
    fn host() -> (tempfile::TempDir, Binds) {
        let root = tempfile::tempdir().unwrap();
        for directory in ["etc", "srv/www", "var/run"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("var/run/docker.sock"), "").unwrap();
        for (target, link) in [
            ("/etc", "srv/absolute"),
            ("../etc", "srv/relative"),
            ("../../../../../etc", "srv/www/above"),
            ("www", "srv/inside"),
            ("absolute", "srv/twice"),
            ("loop", "srv/loop"),
            ("/var/run", "srv/socket"),
            ("/srv", "home"),
        ] {
            symlink(target, root.path().join(link)).unwrap();
        }
        let policy = Policy {
            bind_dirs: vec!["/srv".into()],
            off_limits: vec!["/var/run/docker.sock".into()],
            ..Policy::default()
        };
        let binds = Binds::new(policy, Some(root.path().to_owned()));
        (root, binds)
    }

    #[tokio::test]
    async fn a_link_that_leads_out_of_an_allowed_directory_is_refused() {
        let (_root, binds) = host();
        for (path, refused) in [
            ("/srv/www", None),
            ("/srv/inside", None),
            ("/srv/./inside", None),
            ("/srv/not-there", None),
            ("/srv/absolute", Some("refuses the mount of /etc;")),
            ("/srv/relative", Some("refuses the mount of /etc;")),
            ("/srv/www/above", Some("refuses the mount of /etc;")),
            ("/srv/twice", Some("refuses the mount of /etc;")),
            ("/srv/socket", Some("refuses the mount of /var/run (")),
            ("/srv/loop", Some("cannot be followed")),
        ] {
            for mount in [
                json!({"type": "bind", "source": path, "target": "/m"}),
                json!({"type": "volume", "source": "v", "target": "/m",
                    "options": {"o": "bind", "device": path}}),
            ] {
                let template = serde_json::from_value(json!({"image": "app", "mounts": [mount]})).unwrap();
                let said =
                    binds.check(&template, &[], Container::New).await.map_err(|error| error.to_string());
                match refused {
                    None => assert_eq!(said, Ok(()), "{path}"),
                    Some(words) => assert!(said.unwrap_err().contains(words), "{path}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_volume_that_exists_is_taken_for_what_it_was_made_of() {
        let (_root, binds) = host();
        let plain = json!({"type": "volume", "source": "v", "target": "/m"});
        let template: Template = serde_json::from_value(json!({"image": "app", "mounts": [plain]})).unwrap();
        let made_of = |device: &str| NamedVolume {
            name: "v".to_owned(),
            driver: "local".to_owned(),
            options: [("o".to_owned(), "bind".to_owned()), ("device".to_owned(), device.to_owned())].into(),
        };
        for (device, refused) in [
            ("/srv/www", None),
            ("/etc", Some("refuses the mount of /etc; the host's operator")),
            ("/srv/absolute", Some("refuses the mount of /etc; the host's operator")),
        ] {
            let said = binds
                .check(&template, &[made_of(device)], Container::New)
                .await
                .map_err(|error| error.to_string());
            match refused {
                None => assert_eq!(said, Ok(()), "{device}"),
                Some(words) => assert!(said.unwrap_err().contains(words), "{device}"),
            }
        }
    }

    #[tokio::test]
    async fn what_exists_is_started_again_unless_a_link_leads_it_elsewhere() {
        let (_root, binds) = host();
        let mounts = |path: &str| {
            let bind = json!({"type": "bind", "source": path, "target": "/m"});
            serde_json::from_value::<Template>(json!({"image": "app", "mounts": [bind]})).unwrap()
        };
        let checked = async |path: &str, container| binds.check(&mounts(path), &[], container).await.is_ok();
        assert!(!checked("/etc", Container::New).await);
        assert!(checked("/etc", Container::Existing).await, "its policy allowed it when it was made");
        assert!(!checked("/srv/absolute", Container::Existing).await);
    }
}
