//! Looks at the disk now and then, and removes images while it is above its mark.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use actix::{MailboxError, Recipient};
use shef_common::{
    client::{CallError, HostClient},
    disk::DiskUsage,
    image::ImageRef,
    protocol::{IMAGES_PATH, ImagesNeeded, ImagesQuery},
};

use super::{
    disk::{EngineDisk, used_percent},
    pulled::{Pulled, unneeded},
};
use crate::{
    engine::{Engine, EngineError},
    supervisor::Describe,
};

/// How long a master may take to say what is needed.
const MASTER_LIMIT: Duration = Duration::from_secs(10);

/// Why it is not known which images are needed, or what they take.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The engine does not say how large an image is.
    #[error("{}", .0.reason())]
    Engine(EngineError),
    /// The supervisor is gone.
    #[error(transparent)]
    Supervisor(#[from] MailboxError),
    /// The supervisor stops.
    #[error("the supervisor does not say what it holds")]
    NotDescribed,
    /// The agent has no master.
    #[error("there is no master to ask")]
    NoMaster,
    /// No master answers; this is the outcome of the last call.
    #[error(transparent)]
    Master(#[from] CallError),
}

/// What a cleaner works with.
pub struct Cleaner {
    /// The engine.
    pub engine: Rc<dyn Engine>,
    /// The images that shef has pulled.
    pub pulled: Rc<Pulled>,
    /// Tells what the host holds.
    pub describe: Recipient<Describe>,
    /// For calls to them.
    pub client: HostClient,
    /// Where masters are.
    pub masters: Vec<String>,
    /// The disk that its images are on.
    pub disk: EngineDisk,
    /// Above how many percent of the disk images are removed; 100: never.
    pub above_percent: u64,
    /// Between two looks.
    pub every: Duration,
}

/// Goes on until it is dropped.
pub async fn clean_up(cleaner: Rc<Cleaner>) {
    loop {
        tokio::time::sleep(cleaner.every).await;
        if cleaner.above_percent < 100
            && let Err(why) = cleaner.clean_above_mark().await
        {
            log::warn!(why:%; "the disk is above its mark, and no image can be removed");
        }
    }
}

impl Cleaner {
    async fn clean_above_mark(&self) -> Result<(), CleanError> {
        let Some(directory) = self.disk.directory(&*self.engine).await else { return Ok(()) };
        let is_above = || used_percent(&directory).is_some_and(|used| used > self.above_percent);
        if is_above() {
            self.clean(is_above).await?;
        }
        Ok(())
    }

    /// The disk space of images; with `prune`, unneeded images are removed first.
    ///
    /// # Errors
    /// [`CleanError`]: the usage is not known.
    pub async fn usage(&self, prune: bool) -> Result<DiskUsage, CleanError> {
        let removed = if prune { self.clean(|| true).await? } else { BTreeSet::new() };
        let unneeded: BTreeSet<ImageRef> = self.unneeded().await?.into_iter().collect();
        let mut usage = DiskUsage { removed: removed.into_iter().collect(), ..DiskUsage::default() };
        for image in self.pulled.all() {
            let bytes = self.engine.image_bytes(&image).await.map_err(CleanError::Engine)?;
            let Some(bytes) = bytes else { continue };
            usage.images += 1;
            usage.image_bytes = usage.image_bytes.saturating_add(bytes);
            if unneeded.contains(&image) {
                usage.unneeded_images += 1;
                usage.unneeded_bytes = usage.unneeded_bytes.saturating_add(bytes);
            }
        }
        usage.used_percent = self.disk.directory(&*self.engine).await.and_then(|path| used_percent(&path));
        Ok(usage)
    }

    /// What can be removed, the oldest first.
    async fn unneeded(&self) -> Result<Vec<ImageRef>, CleanError> {
        let pulled = self.pulled.all();
        if pulled.is_empty() {
            return Ok(Vec::new());
        }
        let needed = self.needed(&pulled).await?;
        // Asked last: whatever a master has ordered meanwhile is held by now.
        let holds = self.describe.send(Describe).await?.ok_or(CleanError::NotDescribed)?.holds;
        let held = holds
            .iter()
            .flat_map(|assignment| [assignment.image(), assignment.template.image.clone()])
            .collect();
        Ok(unneeded(&pulled, &held, &needed))
    }

    /// Removes what nothing needs, while `goes_on` says so.
    async fn clean(&self, goes_on: impl Fn() -> bool) -> Result<BTreeSet<ImageRef>, CleanError> {
        let mut gone = BTreeSet::new();
        for image in self.unneeded().await? {
            if !goes_on() {
                break;
            }
            match self.engine.remove_image(&image).await {
                Ok(true) => {
                    log::info!(image:%; "removed an image that nothing needs any more");
                    gone.insert(image);
                }
                // A container was made of it.
                Ok(false) => {}
                Err(error) => {
                    log::warn!(image:%, why:% = error; "an image cannot be removed");
                    break;
                }
            }
        }
        self.pulled.remove(&gone);
        Ok(gone)
    }

    async fn needed(&self, pulled: &[ImageRef]) -> Result<BTreeSet<ImageRef>, CleanError> {
        let mut failed = CleanError::NoMaster;
        for master in &self.masters {
            let query = ImagesQuery { images: pulled.to_vec() };
            match self
                .client
                .post::<_, ImagesNeeded>(&format!("{master}{IMAGES_PATH}"), &query, MASTER_LIMIT)
                .await
            {
                Ok(answer) => return Ok(answer.needed.into_iter().collect()),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}
