//! The time limits by which hosts are judged, and how they grow with the cluster.

use shef_common::clock::DurationMs;

/// So many hosts report in a millisecond, at most: a thousand take two seconds.
const MS_PER_HOST: u64 = 2;
/// The interval moves in steps of this.
const STEP_MS: u64 = 100;
/// How many round trips a probe over a new connection and a lost packet need.
const ROUND_TRIPS: u64 = 4;
/// No network is granted more for its round trips.
const MOST_ROUND_TRIPS: DurationMs = DurationMs(3_000);

/// The time limits of the membership.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often a host reports, in a small cluster.
    pub report_interval: DurationMs,
    /// After how long without a report a host is suspect, in a small cluster.
    pub suspect_after: DurationMs,
    /// How long a suspect is probed before it is down, round trips apart.
    pub probe_window: DurationMs,
    /// How long hosts that the store knows may take to call in after the master's start.
    pub awaited_for: DurationMs,
    /// The brake: more than this share of the hosts, in per cent, lost together.
    pub brake_share_percent: u32,
    /// After how long replacement goes on although hosts are still lost.
    pub brake_release_after: DurationMs,
    /// How long a host that flapped must be up before it takes replicas.
    pub flap_hold: DurationMs,
    /// How often hosts report in a cluster of the present size; the membership sets it.
    pub interval: DurationMs,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            report_interval: DurationMs(500),
            suspect_after: DurationMs(1_200),
            probe_window: DurationMs(750),
            awaited_for: DurationMs(5_000),
            brake_share_percent: 33,
            brake_release_after: DurationMs(300_000),
            flap_hold: DurationMs(300_000),
            interval: DurationMs(500),
        }
    }
}

impl Timing {
    /// The same limits, for a cluster without hosts yet.
    #[must_use]
    pub const fn fresh(self) -> Self {
        Self { interval: self.report_interval, ..self }
    }

    /// The silence that makes a suspect, at the present interval.
    #[must_use]
    pub fn suspect_after(&self) -> DurationMs {
        DurationMs(self.suspect_after.0 * self.interval.0 / self.report_interval.0.max(1))
    }

    /// How long a suspect is probed whose reports take `round_trip` to be answered.
    #[must_use]
    pub fn window(&self, round_trip: DurationMs) -> DurationMs {
        DurationMs(self.probe_window.0 + (ROUND_TRIPS * round_trip.0).min(MOST_ROUND_TRIPS.0))
    }

    /// Fits the interval to so many hosts. Returns it if it has changed: upwards
    /// at once, downwards only by much, so that it does not change with every host.
    pub fn fit(&mut self, hosts: usize) -> Option<DurationMs> {
        let wanted = (hosts as u64 * MS_PER_HOST).div_ceil(STEP_MS) * STEP_MS;
        let wanted = DurationMs(wanted.max(self.report_interval.0));
        if wanted > self.interval || wanted.0 * 10 < self.interval.0 * 7 {
            self.interval = wanted;
            return Some(wanted);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_the_cluster_and_shrinks_late() {
        let mut timing = Timing::default();
        assert_eq!(timing.fit(250), None);
        assert_eq!(timing.fit(1_000), Some(DurationMs(2_000)));
        assert_eq!(timing.suspect_after(), DurationMs(4_800));
        assert_eq!(timing.fit(800), None, "a few hosts less change nothing");
        assert_eq!(timing.fit(100), Some(DurationMs(500)));
    }
}
