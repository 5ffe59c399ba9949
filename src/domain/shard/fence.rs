//! Until when a replica may write: its last complete sign of life, less a margin.

use std::time::Duration;

use crate::time::Instant;

/// One moment on both clocks that the fence is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Time since the machine was booted, suspension included (CLOCK_BOOTTIME).
    pub boot: Instant,
    /// Wall-clock time, milliseconds since the Unix epoch. It only ever shortens: a machine whose boot clock stood still
    /// (a frozen virtual machine) finds out by it.
    pub wall: u64,
}

/// The end of the right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    boot: Instant,
    wall: u64,
}

impl Fence {
    /// The fence of a renewal whose first request was sent then.
    pub fn after(sent: Moment, lasts: Duration) -> Self {
        let millis = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        Self { boot: sent.boot + lasts, wall: sent.wall.saturating_add(millis) }
    }

    /// Whether a write may be sent now.
    pub fn is_ahead_of(self, now: Moment) -> bool {
        now.boot < self.boot && now.wall < self.wall
    }

    /// When it comes, by the boot clock.
    pub fn boot(self) -> Instant {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(boot: u64, wall: u64, expected: bool) {
        let fence = Fence::after(Moment { boot: Instant(1_000), wall: 50_000 }, Duration::from_millis(500));
        assert_eq!(fence.is_ahead_of(Moment { boot: Instant(boot), wall }), expected, "{boot} {wall}");
    }

    #[test]
    fn it_holds_until_its_time_and_not_a_millisecond_longer() {
        check(1_499, 50_499, true);
        check(1_500, 50_499, false);
    }

    #[test]
    fn a_wall_clock_that_ran_on_shortens_it_and_one_set_back_does_not_lengthen_it() {
        check(1_100, 50_500, false);
        check(1_500, 10, false);
        check(1_499, 10, true);
    }
}
