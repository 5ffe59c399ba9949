//! How long a watch or list that failed waits before it is tried again.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Wait after the first failure: a connection that was merely closed is back before anybody notices.
const FIRST: Duration = Duration::from_millis(400);
/// Longest wait, before jitter of up to half as much again. After an outage a watch needs up to three attempts: a restarted
/// API server has not read the roles yet, and then answers with 410. kube's own 30 s would leave changes unseen for minutes.
const MAX: Duration = Duration::from_secs(2);
/// Without a failure for so long the next one is a first one: more than the longest wait with its jitter.
const FORGIVEN: Duration = Duration::from_secs(20);

/// The waits of one watch.
pub fn watch_backoff() -> impl Backoff {
    WatchBackoff { next: FIRST, last: None }
}

/// Doubles from [`FIRST`] to [`MAX`]; each wait is up to half as long again at random, so that replicas do not come at once.
struct WatchBackoff {
    next: Duration,
    last: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.replace(now).is_some_and(|last| now - last > FORGIVEN) {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = MAX.min(wait * 2);
        Some(wait.mul_f64(1.0 + rand::random::<f64>() / 2.0))
    }
}

impl Backoff for WatchBackoff {
    /// Called on every event, and the beginning of a list is one, also of a list that fails: only time forgives.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use kube::runtime::WatchStreamExt as _;

    use super::*;

    #[test]
    fn waits_grow_and_an_outage_of_any_length_leaves_none_longer_than_three_seconds() {
        let waits: Vec<Duration> = watch_backoff().take(50).collect();
        assert_eq!(waits.len(), 50, "a watch is never given up");
        assert!(waits[0] < FIRST * 2, "{waits:?}");
        assert!(waits[10..].iter().all(|wait| (MAX..=MAX * 3 / 2).contains(wait)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_always_fails_is_tried_ever_more_rarely_although_each_begins_well() {
        let begun = Instant::now();
        let lists = stream::iter((0..20).flat_map(|_| [Ok("a list begins"), Err("it fails")])).boxed();
        let seen = lists.backoff(watch_backoff()).collect::<Vec<_>>().await;
        assert_eq!(seen.len(), 40);
        assert!(begun.elapsed() > MAX * 15, "{:?} for 20 attempts", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_while_without_a_failure_the_next_one_is_a_first_one() {
        let mut backoff = watch_backoff();
        let before = backoff.by_ref().nth(10);
        tokio::time::advance(FORGIVEN * 2).await;
        assert!(before >= Some(MAX) && backoff.next() < Some(FIRST * 2));
    }
}
