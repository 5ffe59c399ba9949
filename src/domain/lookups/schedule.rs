//! When a key is due again.

use std::time::Duration;

use super::name::Answer;
use super::types::Config;
use crate::time::Instant;

/// Most that an expired answer is asked late: names of one zone do not come in step, and 0.2 s is no TTL.
const EXPIRY_JITTER_MILLIS: u64 = 200;
/// From this interval on the first answer is asked again early; half of it is past the work of a start.
const DESYNCHRONISED_FROM: Duration = Duration::from_secs(40);
/// Most time between two lookups of a spread, so that a few of them do not take the whole spread: a thousand in a second hurt
/// no server, and a policy whose hosts answer far from each other is written for each of them.
const SPREAD_STEP: Duration = Duration::from_millis(1);
/// A back-off is shortened by up to a quarter, so that names that failed together do not return together.
const BACKOFF_JITTER_PARTS: u32 = 4;

/// When an answer is asked for again: when it has expired, but within the floor and the policies' longest interval.
///
/// A start or the end of an outage asks for all names at once, and equal TTLs would keep them in step for good: thousands of
/// changes would be found in the same second. So an answer that follows none is asked again at a moment of the second half
/// of its interval.
pub(super) fn after_answer(config: &Config, asked: Instant, answer: &Answer, refresh: Duration) -> Instant {
    let expired = answer.valid_until + Duration::from_millis(answer.jitter % EXPIRY_JITTER_MILLIS);
    let latest = asked + refresh.max(config.min_refresh);
    let due = expired.clamp(asked + config.min_refresh, latest);
    let interval = due.since(asked);
    if !answer.follows_none || interval < DESYNCHRONISED_FROM {
        return due;
    }
    let half: u64 = (interval / 2).as_millis().try_into().unwrap_or(u64::MAX);
    // Other digits than the expiry's.
    let early = Duration::from_millis(answer.jitter / EXPIRY_JITTER_MILLIS % half.max(1));
    asked + (interval - early).max(config.min_refresh)
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
    use std::sync::Arc;

    use super::*;
    use crate::answer::AnswerKind;

    const ASKED: Instant = Instant(100_000);

    fn asked_again_after(ttl: u64, refresh: u64, jitter: u64, follows_none: bool) -> Duration {
        let valid_until = Instant(100_050) + Duration::from_secs(ttl);
        let answer = Answer { kind: AnswerKind::Positive, addresses: Arc::new([]), valid_until, jitter, follows_none };
        after_answer(&Config::default(), ASKED, &answer, Duration::from_secs(refresh)).since(ASKED)
    }

    #[track_caller]
    fn check(ttl: u64, refresh: u64, jitter: u64, expected_millis: u64) {
        let after = asked_again_after(ttl, refresh, jitter, false);
        assert_eq!(after.as_millis(), u128::from(expected_millis), "ttl {ttl} refresh {refresh}");
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
    fn names_that_were_asked_at_once_are_asked_again_over_half_of_the_interval() {
        let after = |number: u64| asked_again_after(60, 600, mix(1, number), true).as_secs_f64();
        let times: Vec<f64> = (0..1_000).map(after).collect();
        assert!(times.iter().all(|time| (30.0..=60.3).contains(time)));
        for second in 30..60 {
            let count = times.iter().filter(|time| (second as f64..second as f64 + 1.0).contains(time)).count();
            assert!((10..60).contains(&count), "{count} of 1,000 in second {second}");
        }
        assert!(asked_again_after(30, 600, mix(1, 1), true) >= Duration::from_secs(30), "a short TTL is kept");
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
        assert_eq!(spread_step(&config, 0), Duration::from_millis(1));
        assert_eq!(spread_step(&config, 10), Duration::from_millis(1));
        assert_eq!(spread_step(&config, 20_000) * 20_000, Duration::from_secs(5));
    }
}
