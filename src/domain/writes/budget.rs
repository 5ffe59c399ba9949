//! The write budget: a token bucket that bounds what the controller asks of a shared API server.

use std::num::NonZeroU32;

use crate::time::Instant;

/// The bucket holds this part of a second's tokens: a burst passes, and every second stays within a tenth of the rate.
const BURST_FRACTION: u64 = 10;
/// Tokens are counted in thousandths, so that the rate per second is the rate of thousandths per millisecond.
const TOKEN: u64 = 1_000;

/// Without a rate it is never empty.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    rate: Option<NonZeroU32>,
    /// Thousandths of tokens at `filled`.
    tokens: u64,
    filled: Instant,
}

impl Budget {
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        Self { rate, tokens: rate.map_or(0, capacity), filled: Instant::default() }
    }

    /// When the next write may be sent; `now` or later.
    pub(super) fn ready_at(&self, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let missing = TOKEN.saturating_sub(self.tokens_at(now, rate));
        Instant(now.0.saturating_add(missing.div_ceil(u64::from(rate.get()))))
    }

    /// Takes the token of a write that is sent now.
    pub(super) fn spend(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        self.tokens = self.tokens_at(now, rate).saturating_sub(TOKEN);
        self.filled = now;
    }

    fn tokens_at(&self, now: Instant, rate: NonZeroU32) -> u64 {
        let millis = now.0.saturating_sub(self.filled.0);
        self.tokens.saturating_add(millis.saturating_mul(rate.get().into())).min(capacity(rate))
    }
}

fn capacity(rate: NonZeroU32) -> u64 {
    (u64::from(rate.get()) * TOKEN / BURST_FRACTION).max(TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spends whenever it may for ten seconds and gives the count.
    #[track_caller]
    fn check(rate: u32, expected: u64) {
        let mut budget = Budget::new(NonZeroU32::new(rate));
        let (mut now, mut sent) = (Instant(5_000), 0);
        loop {
            now = budget.ready_at(now);
            if now >= Instant(15_000) {
                break;
            }
            budget.spend(now);
            sent += 1;
        }
        assert_eq!(sent, expected, "at {rate} per second");
    }

    #[test]
    fn ten_seconds_give_ten_times_the_rate_and_one_burst() {
        check(1, 10);
        check(7, 70);
        check(50, 504);
        check(1_000, 10_099);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut budget = Budget::new(None);
        budget.spend(Instant(7));
        assert_eq!(budget.ready_at(Instant(7)), Instant(7));
    }
}
