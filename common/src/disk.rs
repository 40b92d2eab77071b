//! What images take on a host's disk, and what of it can be given back.

use serde::{Deserialize, Serialize};

use crate::image::ImageRef;

/// `POST` on the agent: [`DiskQuery`] is answered by [`DiskUsage`].
pub const DISK_PATH: &str = "/v1/disk";

/// What is asked of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskQuery {
    /// Whether images are removed that nothing needs, whatever is free.
    pub prune: bool,
}

/// What is on a host's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DiskUsage {
    /// How much of the engine's disk is used, in percent; absent: that cannot be told.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::bounds::optional_number"
    )]
    pub used_percent: Option<u64>,
    /// The images that shef pulled.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub images: u64,
    /// What they take, in bytes. Data that two images share counts for both.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub image_bytes: u64,
    /// Of these, the images that neither a replica nor a kept generation needs.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub unneeded_images: u64,
    /// The size of the unneeded images, in bytes.
    #[serde(deserialize_with = "crate::bounds::number")]
    pub unneeded_bytes: u64,
    /// The images that were removed now.
    pub removed: Vec<ImageRef>,
}
