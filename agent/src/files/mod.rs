//! The files that secrets and configs are mounted from.
//!
//! Invariants:
//! - They lie in memory, in a directory of this host's agent that only root enters, or nowhere.
//! - A file that has its name is whole: it is written under another one first.
//! - A content is asked of a master when a container that mounts it is made or started. It is kept nowhere
//!   else.
//! - A file that no replica of the host mounts is removed.

mod directory;
mod fetch;
mod name;

use std::{collections::BTreeSet, path::PathBuf, rc::Rc};

use shef_common::{
    contents::ContentId,
    spec::{ContentMount, Template},
};

use self::{directory::Directory, name::FileName};
use crate::engine::{BoundFile, EngineError};

pub use self::fetch::Fetcher;

/// The files of this host.
#[derive(Clone)]
pub struct Files(Rc<Place>);

enum Place {
    /// The engine makes no containers: nothing is mounted.
    Nowhere,
    /// The engine is on another machine, where this agent lays no files.
    Elsewhere,
    Here {
        directory: Directory,
        fetcher: Fetcher,
    },
}

impl Files {
    /// No files, for an engine in memory.
    #[must_use]
    pub fn nowhere() -> Self {
        Self(Rc::new(Place::Nowhere))
    }

    /// No files, as the engine is on another machine.
    #[must_use]
    pub fn elsewhere() -> Self {
        Self(Rc::new(Place::Elsewhere))
    }

    /// Files in `directory`, with what `fetcher` brings. It has the same path for the agent and the engine.
    #[must_use]
    pub fn here(directory: PathBuf, fetcher: Fetcher) -> Self {
        Self(Rc::new(Place::Here { directory: Directory(directory), fetcher }))
    }

    /// Lays the files that `template` mounts, unless they are there.
    ///
    /// # Errors
    /// [`EngineError::NotYet`] while no master brings a content, [`EngineError::Refused`] where no file can
    /// be laid.
    pub async fn lay(&self, template: &Template) -> Result<Vec<BoundFile>, EngineError> {
        if !template.has_contents() {
            return Ok(Vec::new());
        }
        let (directory, fetcher) = match &*self.0 {
            Place::Nowhere => return Ok(Vec::new()),
            Place::Elsewhere => {
                return Err(EngineError::Refused(
                    "secrets and configs are files of the agent's own machine, and the engine is on another \
                     one (docker_host)"
                        .to_owned(),
                ));
            }
            Place::Here { directory, fetcher } => (directory, fetcher),
        };
        let mut laid = Vec::new();
        for (kind, mount) in template.contents() {
            let content = mount.content(kind).ok_or_else(|| {
                EngineError::Refused(format!(
                    "the order does not say which content of {kind} {} is meant",
                    mount.source
                ))
            })?;
            let name = FileName::of(&content, mount);
            if !directory.has(&name).await? {
                let bytes = fetcher.fetch(&content).await?;
                directory.write(&name, bytes, mount).await?;
            }
            laid.push(bound(directory, &name, &content, mount));
        }
        Ok(laid)
    }

    /// Removes every file that none of `templates` mounts.
    pub async fn keep_only(&self, templates: impl Iterator<Item = &Template>) {
        let Place::Here { directory, .. } = &*self.0 else { return };
        directory.keep_only(needed(templates)).await;
    }
}

/// What the container is told of a file.
fn bound(directory: &Directory, name: &FileName, content: &ContentId, mount: &ContentMount) -> BoundFile {
    BoundFile { source: directory.path(name), target: mount.path(content.kind) }
}

/// The files that `templates` mount.
fn needed<'a>(templates: impl Iterator<Item = &'a Template>) -> BTreeSet<FileName> {
    let of = |template: &'a Template| {
        let contents = template.contents();
        contents.filter_map(|(kind, mount)| Some(FileName::of(&mount.content(kind)?, mount)))
    };
    templates.flat_map(of).collect()
}

/// The files of `template` below `directory`, whether they are there or not.
#[cfg(test)]
pub(crate) fn files_of(template: &Template, directory: &str) -> Vec<BoundFile> {
    let directory = Directory(directory.into());
    let of = |(kind, mount): (_, &ContentMount)| {
        let content = mount.content(kind)?;
        Some(bound(&directory, &FileName::of(&content, mount), &content, mount))
    };
    template.contents().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(secrets: serde_json::Value) -> Template {
        serde_json::from_value(json!({ "image": "app", "secrets": secrets })).unwrap()
    }

    #[test]
    fn a_file_is_shared_by_mounts_that_want_the_same_and_by_no_others() {
        let version = "a".repeat(32);
        let mounts = |more: serde_json::Value| {
            let mut mount = json!({"source": "db", "version": version});
            mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            template(json!([mount]))
        };
        let one = mounts(json!({"target": "a"}));
        let same = mounts(json!({"target": "b", "mode": 0o444}));
        assert_eq!(needed([&one, &same].into_iter()).len(), 1);
        for other in
            [json!({"mode": 0o400}), json!({"uid": 1}), json!({"gid": 1}), json!({"version": "b".repeat(32)})]
        {
            assert_eq!(needed([&one, &mounts(other)].into_iter()).len(), 2);
        }
        let config: Template = serde_json::from_value(
            json!({"image": "app", "configs": [{"source": "db", "version": version}]}),
        )
        .unwrap();
        assert_eq!(needed([&one, &config].into_iter()).len(), 2);
        let bound = files_of(&one, "/run/shef/secrets/x").remove(0);
        assert_eq!(bound.target, "/run/secrets/a");
        assert_eq!(bound.source, format!("/run/shef/secrets/x/secret.db.{version}.444.0.0"));
    }

    #[actix_rt::test]
    async fn an_order_that_names_no_version_and_an_engine_elsewhere_are_refused() {
        let unresolved = template(json!([{"source": "db"}]));
        let refused = Files::elsewhere().lay(&unresolved).await.unwrap_err();
        assert!(refused.to_string().contains("the engine is on another one"), "{refused}");
        assert_eq!(Files::nowhere().lay(&unresolved).await, Ok(Vec::new()));
        let fetcher = Fetcher::new(Vec::new(), "h0".parse().unwrap(), None);
        let here = Files::here("/nowhere".into(), fetcher);
        let refused = here.lay(&unresolved).await.unwrap_err();
        assert!(refused.to_string().contains("which content of secret db is meant"), "{refused}");
        assert_eq!(here.lay(&template(json!([]))).await, Ok(Vec::new()));
    }
}
