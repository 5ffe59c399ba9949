//! Moments, always passed in: the domain reads no clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of the process's own monotonic clock: milliseconds since some start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

/// Wall-clock time: seconds since the Unix epoch. Only what is stored uses it (last seen, retention, conditions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// Whole minutes since the epoch, rounded up: what the book stores, so that rounding never expires early.
    pub fn minutes_up(self) -> UnixMinutes {
        UnixMinutes(u32::try_from(self.0.div_ceil(60)).unwrap_or(u32::MAX))
    }
}

/// Minutes since the Unix epoch: 4 bytes are enough until the year 10136.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMinutes(pub u32);

impl From<UnixMinutes> for UnixTime {
    fn from(minutes: UnixMinutes) -> Self {
        Self(u64::from(minutes.0) * 60)
    }
}

/// Both clocks, read together by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For waiting, timeouts and TTLs.
    pub instant: Instant,
    /// For what is stored; the shell never lets it run backwards.
    pub unix: UnixTime,
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self { instant: self.instant + duration, unix: UnixTime(self.unix.0.saturating_add(duration.as_secs())) }
    }
}
