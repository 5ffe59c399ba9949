//! The process's clocks, read together: the only place that reads them for the domain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use egress_domain::shard::fence::Moment;
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
        let millis = millis(self.start.elapsed());
        // Before 1970 is no time that a machine with a working clock can have.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let latest = self.latest.fetch_max(seconds, Ordering::Relaxed).max(seconds);
        Now { instant: Instant(millis), unix: UnixTime(latest) }
    }
}

/// The clocks that Leases are judged by. Suspension of the machine counts; tokio's clock, which sleeps with it, would let
/// a replica that woke up write.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl BootClock {
    /// The present moment: CLOCK_BOOTTIME and the wall clock, in milliseconds.
    pub fn now(self) -> Moment {
        // Linux has the clock since 2.6.39, so the call cannot fail there; without it time stands still, and the wall
        // clock alone ends the right to write.
        let boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { boot: Instant(millis(boot.unwrap_or_default())), wall: millis(wall) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
