//! The counters of `/stats`: counted in memory, saved about every second.
//!
//! They are not exact: a crash may lose the last second of counting.

mod actor;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::service::Tally;

pub use actor::{SaveNow, StatsActor};

/// Counters since the cluster's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Counts {
    /// Requests of docker-shef's API that were answered with success.
    #[serde(deserialize_with = "shef_common::bounds::number")]
    pub requests_succeeded: u64,
    /// Requests of docker-shef's API that were refused or failed.
    #[serde(deserialize_with = "shef_common::bounds::number")]
    pub requests_failed: u64,
    /// Containers that came to run.
    #[serde(deserialize_with = "shef_common::bounds::number")]
    pub containers_created: u64,
    /// Containers that are gone.
    #[serde(deserialize_with = "shef_common::bounds::number")]
    pub containers_deleted: u64,
    /// Services that were created.
    #[serde(deserialize_with = "shef_common::bounds::number")]
    pub services_created: u64,
    /// Services that were deleted.
    #[serde(deserialize_with = "shef_common::bounds::number")]
    pub services_deleted: u64,
}

/// The live counters, shared by everything that counts.
#[derive(Debug, Default)]
pub struct Stats {
    requests_succeeded: AtomicU64,
    requests_failed: AtomicU64,
    containers_created: AtomicU64,
    containers_deleted: AtomicU64,
    services_created: AtomicU64,
    services_deleted: AtomicU64,
}

impl Stats {
    /// Goes on from what was saved.
    #[must_use]
    pub fn starting_at(counts: Counts) -> Self {
        Self {
            requests_succeeded: counts.requests_succeeded.into(),
            requests_failed: counts.requests_failed.into(),
            containers_created: counts.containers_created.into(),
            containers_deleted: counts.containers_deleted.into(),
            services_created: counts.services_created.into(),
            services_deleted: counts.services_deleted.into(),
        }
    }

    /// Counts the outcomes of services and containers.
    pub fn add(&self, tally: Tally) {
        self.containers_created.fetch_add(tally.containers_created, Relaxed);
        self.containers_deleted.fetch_add(tally.containers_deleted, Relaxed);
        self.services_created.fetch_add(tally.services_created, Relaxed);
        self.services_deleted.fetch_add(tally.services_deleted, Relaxed);
    }

    /// Counts a request.
    pub fn request(&self, succeeded: bool) {
        let counter = if succeeded { &self.requests_succeeded } else { &self.requests_failed };
        counter.fetch_add(1, Relaxed);
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            requests_succeeded: self.requests_succeeded.load(Relaxed),
            requests_failed: self.requests_failed.load(Relaxed),
            containers_created: self.containers_created.load(Relaxed),
            containers_deleted: self.containers_deleted.load(Relaxed),
            services_created: self.services_created.load(Relaxed),
            services_deleted: self.services_deleted.load(Relaxed),
        }
    }
}
