//! When a key is due again.

use std::time::Duration;

use super::types::Config;
use crate::time::Instant;

/// Most that an expired answer is asked late: names of one zone do not come in step, and 0.2 s is no TTL.
const EXPIRY_JITTER_MILLIS: u64 = 200;
/// Least time between two lookups of a spread, so that a few of them do not take the whole spread.
const SPREAD_STEP: Duration = Duration::from_millis(10);
/// A back-off is shortened by up to a quarter, so that names that failed together do not return together.
const BACKOFF_JITTER_PARTS: u32 = 4;

/// When an answer is asked for again: when it has expired, but within the floor and the policies' longest interval.
pub(super) fn after_answer(
    config: &Config,
    asked: Instant,
    valid_until: Instant,
    jitter: u64,
    refresh: Duration,
) -> Instant {
    let expired = valid_until + Duration::from_millis(jitter % EXPIRY_JITTER_MILLIS);
    let latest = asked + refresh.max(config.min_refresh);
    expired.clamp(asked + config.min_refresh, latest)
}

/// The `failures`th back-off in a row.
pub(super) fn backoff(config: &Config, failures: u32, jitter: u64) -> Duration {
    let doubled =
        config.first_backoff.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let full = doubled.min(config.longest_backoff);
    let quarter = (full / BACKOFF_JITTER_PARTS).as_millis().try_into().unwrap_or(u64::MAX);
    full - Duration::from_millis(jitter % u64::max(quarter, 1))
}

/// The distance of `count` lookups that become due at once.
pub(super) fn spread_step(config: &Config, count: usize) -> Duration {
    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    (config.spread / count).min(SPREAD_STEP)
}

/// Another random number for each of many items (the finalizer of splitmix64).
pub(super) fn mix(random: u64, item: u64) -> u64 {
    let mut z = random.wrapping_add(item.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ttl: u64, refresh: u64, jitter: u64, expected_millis: u64) {
        let (asked, answered) = (Instant(100_000), Instant(100_050));
        let valid_until = answered + Duration::from_secs(ttl);
        let due = after_answer(&Config::default(), asked, valid_until, jitter, Duration::from_secs(refresh));
        assert_eq!(due.since(asked).as_millis(), u128::from(expected_millis), "ttl {ttl} refresh {refresh}");
    }

    #[test]
    fn an_answer_is_asked_again_when_it_expires_within_floor_and_refresh() {
        check(30, 600, 0, 30_050);
        check(30, 600, 399, 30_249);
        check(0, 600, 7, 10_000);
        check(5, 600, 7, 10_000);
        check(1 << 31, 600, 7, 600_000);
        check(300, 60, 7, 60_000);
        check(300, 1, 7, 10_000);
    }

    #[test]
    fn back_off_doubles_from_a_second_to_five_minutes() {
        for (failures, full) in [(0, 1_u64), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (40, 300), (u32::MAX, 300)] {
            assert_eq!(backoff(&Config::default(), failures, 0), Duration::from_secs(full), "{failures}");
            let jittered = backoff(&Config::default(), failures, u64::MAX);
            assert!(jittered * 4 >= Duration::from_secs(full) * 3 && jittered <= Duration::from_secs(full));
        }
    }

    #[test]
    fn a_few_lookups_are_spread_less_than_many() {
        let config = Config::default();
        assert_eq!(spread_step(&config, 0), Duration::from_millis(10));
        assert_eq!(spread_step(&config, 10), Duration::from_millis(10));
        assert_eq!(spread_step(&config, 20_000) * 20_000, Duration::from_secs(5));
    }
}
