//! Liveness: every loop of the process shows that it advances.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Beats per bound: one that comes late, or is missed, is no alarm.
const BEATS_PER_BOUND: u32 = 4;
/// A timer of zero length would spin.
const SHORTEST: Duration = Duration::from_millis(1);

/// The loops of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Vec<Heartbeat>>>);

/// One loop's sign of life. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    name: &'static str,
    bound: Duration,
    last: Arc<Mutex<Instant>>,
}

/// A loop that has been silent for longer than its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Which loop.
    pub name: &'static str,
    /// For how long.
    pub silent: Duration,
}

impl Liveness {
    /// A loop that promises to beat within `bound` from now, and so on; a loop that has ended is silent.
    pub fn heartbeat(&self, name: &'static str, bound: Duration) -> Heartbeat {
        let heartbeat = Heartbeat { name, bound, last: Arc::new(Mutex::new(Instant::now())) };
        lock(&self.0).push(heartbeat.clone());
        heartbeat
    }

    /// Which of these loops have been silent for longer than `bound`, whatever they promised.
    pub fn silent_longer_than(&self, bound: Duration, names: &[&str]) -> Vec<&'static str> {
        let now = Instant::now();
        let loops = lock(&self.0);
        let silent = loops.iter().filter(|beat| now.duration_since(*lock(&beat.last)) > bound).map(|beat| beat.name);
        silent.filter(|name| names.contains(name)).collect()
    }

    /// The loops that have been silent for too long; empty when all is well.
    pub fn stale(&self) -> Vec<Stale> {
        let now = Instant::now();
        let silent = |heartbeat: &Heartbeat| now.duration_since(*lock(&heartbeat.last));
        let loops = lock(&self.0);
        let stale = loops.iter().filter(|heartbeat| silent(heartbeat) > heartbeat.bound);
        stale.map(|heartbeat| Stale { name: heartbeat.name, silent: silent(heartbeat) }).collect()
    }
}

impl Heartbeat {
    /// The loop is at work now.
    pub fn beat(&self) {
        *lock(&self.last) = Instant::now();
    }

    /// How often a loop that has nothing else to do should beat.
    pub fn interval(&self) -> Duration {
        (self.bound / BEATS_PER_BOUND).max(SHORTEST)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const BOUND: Duration = Duration::from_secs(8);

    #[track_caller]
    fn check(liveness: &Liveness, expected: &[&str]) {
        let names: Vec<&str> = liveness.stale().iter().map(|stale| stale.name).collect();
        assert_eq!(names, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_stale_only_after_its_own_bound() {
        let liveness = Liveness::default();
        let (_quick, slow) = (liveness.heartbeat("quick", BOUND), liveness.heartbeat("slow", BOUND * 2));
        advance(BOUND).await;
        check(&liveness, &[]);
        advance(Duration::from_millis(1)).await;
        check(&liveness, &["quick"]);
        slow.beat();
        advance(BOUND * 2).await;
        check(&liveness, &["quick"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_heals_a_stale_loop() {
        let liveness = Liveness::default();
        let heartbeat = liveness.heartbeat("router", BOUND);
        advance(BOUND * 3).await;
        assert_eq!(liveness.stale(), [Stale { name: "router", silent: BOUND * 3 }]);
        heartbeat.beat();
        check(&liveness, &[]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_has_ended_becomes_stale() {
        let liveness = Liveness::default();
        drop(liveness.heartbeat("writer", BOUND));
        advance(BOUND * 2).await;
        check(&liveness, &["writer"]);
    }
}
