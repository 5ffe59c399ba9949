//! The process's clocks, read together: the only place that reads them for the domain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use egress_domain::time::{Instant, Now, UnixTime};

/// Both clocks. Clones agree with each other.
#[derive(Clone, Debug)]
pub struct Clock {
    start: tokio::time::Instant,
    /// The latest wall-clock second that was told: a clock that is set back must not make what is stored older.
    latest: Arc<AtomicU64>,
}

impl Clock {
    /// A clock whose monotonic time starts now, at zero.
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now(), latest: Arc::default() }
    }

    /// The present moment. The monotonic part follows tokio's time, also where a test has paused it.
    pub fn now(&self) -> Now {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Before 1970 is no time that a machine with a working clock can have.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let latest = self.latest.fetch_max(seconds, Ordering::Relaxed).max(seconds);
        Now { instant: Instant(millis), unix: UnixTime(latest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_monotonic_part_follows_tokio() {
        let clock = Clock::start();
        assert_eq!(clock.now().instant, Instant(0));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now().instant, Instant(1_500));
    }

    #[tokio::test]
    async fn the_wall_clock_never_runs_backwards() {
        let clock = Clock::start();
        let ahead = clock.now().unix.0 + 3_600;
        clock.latest.store(ahead, Ordering::Relaxed);
        assert_eq!(clock.clone().now().unix, UnixTime(ahead));
    }
}
