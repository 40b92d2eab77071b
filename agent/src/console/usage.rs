//! What replicas use: two samples of the engine's counters, half a second apart,
//! and the difference. Kept for a second, so that many readers cost no more than one.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use futures_util::{StreamExt as _, stream};
use shef_common::{
    clock::{DurationMs, MonoMs, Now},
    ids::ReplicaId,
    usage::{ReplicaUsage, Usage},
};
use tokio::sync::Semaphore;

use super::{Consoles, Hidden};
use crate::engine::EngineError;

/// How long a result is good.
const KEPT: DurationMs = DurationMs(1_000);
/// The time between the two samples.
const APART: Duration = Duration::from_millis(500);
/// The most samples that the engine takes at once.
const MAX_SAMPLES: usize = 8;
/// How long one sample may take.
const SAMPLE_LIMIT: Duration = Duration::from_secs(5);

/// A container's counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Processor time of the container, in nanoseconds.
    pub cpu_ns: u64,
    /// Processor time of the whole host, in nanoseconds.
    pub host_cpu_ns: u64,
    /// The host's processors.
    pub cpus: u32,
    /// Memory in use, without what the kernel only caches.
    pub memory_bytes: u64,
    /// The limit of that.
    pub memory_limit_bytes: u64,
    /// Received over all networks.
    pub network_rx_bytes: u64,
    /// Sent over all networks.
    pub network_tx_bytes: u64,
    /// Read from block devices.
    pub block_read_bytes: u64,
    /// Written to block devices.
    pub block_write_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Sample {
    /// What was used from `before` to now.
    #[must_use]
    pub fn since(&self, before: &Self) -> Usage {
        let (used, passed) =
            (self.cpu_ns.saturating_sub(before.cpu_ns), self.host_cpu_ns.saturating_sub(before.host_cpu_ns));
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let share = if passed == 0 { 0.0 } else { used as f64 / passed as f64 };
        Usage {
            cpu_percent: (share * f64::from(self.cpus) * 10_000.0).round() / 100.0,
            memory_bytes: self.memory_bytes,
            memory_limit_bytes: self.memory_limit_bytes,
            network_rx_bytes: self.network_rx_bytes,
            network_tx_bytes: self.network_tx_bytes,
            block_read_bytes: self.block_read_bytes,
            block_write_bytes: self.block_write_bytes,
            pids: self.pids,
        }
    }
}

/// Why it is not known what a replica uses.
#[derive(Debug, thiserror::Error)]
enum NotMeasured {
    #[error(transparent)]
    Hidden(#[from] Hidden),
    #[error("{}", .0.reason())]
    Engine(EngineError),
    #[error("the engine has not measured it within {} s", SAMPLE_LIMIT.as_secs())]
    TooSlow,
}

/// Measures what replicas use.
#[derive(Clone)]
pub struct Meter {
    consoles: Consoles,
    slots: Rc<Semaphore>,
    known: Rc<RefCell<BTreeMap<ReplicaId, (MonoMs, Usage)>>>,
}

impl Meter {
    /// Of the replicas that `consoles` shows.
    #[must_use]
    pub fn new(consoles: Consoles) -> Self {
        Self { consoles, slots: Rc::new(Semaphore::new(MAX_SAMPLES)), known: Rc::default() }
    }

    /// What each of `replicas` uses.
    pub async fn measure(&self, replicas: Vec<ReplicaId>) -> Vec<ReplicaUsage> {
        let now = Now::read().mono;
        self.known.borrow_mut().retain(|_, (at, _)| *at + KEPT > now);
        let each = replicas.into_iter().map(|replica| async move {
            let known = self.known.borrow().get(&replica).map(|(_, usage)| *usage);
            let measured = match known {
                Some(usage) => Ok(usage),
                None => self.one(&replica).await,
            };
            match measured {
                Ok(usage) => ReplicaUsage { replica, usage: Some(usage), why: None },
                Err(error) => ReplicaUsage { replica, usage: None, why: Some(error.to_string()) },
            }
        });
        // The waits overlap; the engine's work is bounded by the slots.
        stream::iter(each).buffer_unordered(shef_common::usage::MAX_REPLICAS).collect().await
    }

    async fn one(&self, replica: &ReplicaId) -> Result<Usage, NotMeasured> {
        let id = {
            // Nobody closes the semaphore.
            let _slot = self.slots.acquire().await;
            self.consoles.find_running(replica).await?.id
        };
        let before = self.sample(&id).await?;
        tokio::time::sleep(APART).await;
        let usage = self.sample(&id).await?.since(&before);
        self.known.borrow_mut().insert(replica.clone(), (Now::read().mono, usage));
        Ok(usage)
    }

    async fn sample(&self, id: &str) -> Result<Sample, NotMeasured> {
        let _slot = self.slots.acquire().await;
        let sample = tokio::time::timeout(SAMPLE_LIMIT, self.consoles.console().sample(id)).await;
        sample.map_err(|_| NotMeasured::TooSlow)?.map_err(NotMeasured::Engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_a_share_of_one_processor() {
        let before = Sample { cpu_ns: 1_000, host_cpu_ns: 10_000, cpus: 4, ..Sample::default() };
        let after = Sample { cpu_ns: 1_500, host_cpu_ns: 12_000, memory_bytes: 7, ..before };
        let usage = after.since(&before);
        assert!((usage.cpu_percent - 100.0).abs() < 0.01, "{usage:?}");
        assert_eq!(usage.memory_bytes, 7);
        assert!(before.since(&before).cpu_percent.abs() < 0.01, "no time has passed");
    }
}
