//! How many writes may be in flight: found out by additive increase and halving, as TCP finds its window.

/// Where the search starts: a small API server answers so many at once without queueing.
pub const START_LIMIT: usize = 8;
/// Never more: beyond it the server's own queue grows, not its throughput (measured: flat from 8 to 64 in flight).
pub const MAX_LIMIT: usize = 64;

/// The limit, and what it has learned.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveLimit {
    limit: usize,
    /// Successes since the limit last changed.
    successes: usize,
    /// Writes sent before this one say nothing about the present limit.
    cut_at: u64,
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self { limit: START_LIMIT, successes: 0, cut_at: 0 }
    }
}

impl AdaptiveLimit {
    pub(super) fn get(&self) -> usize {
        self.limit
    }

    /// The server answered. Only a limit in full use is raised: an idle one proves nothing.
    pub(super) fn succeeded(&mut self, in_flight: usize) {
        if in_flight < self.limit {
            return;
        }
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit = (self.limit + 1).min(MAX_LIMIT);
            self.successes = 0;
        }
    }

    /// The server was overloaded when it got the write number `sent` of the `total` so far.
    pub(super) fn overloaded(&mut self, sent: u64, total: u64) {
        // One overload fails many at once: what was sent under the old limit must not halve the new one again.
        if sent < self.cut_at {
            return;
        }
        self.limit = (self.limit / 2).max(1);
        self.successes = 0;
        self.cut_at = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_successes_in_full_use_raises_the_limit_by_one() {
        let mut limit = AdaptiveLimit::default();
        for _ in 0..START_LIMIT {
            assert_eq!(limit.get(), START_LIMIT);
            limit.succeeded(START_LIMIT);
        }
        assert_eq!(limit.get(), START_LIMIT + 1);
    }

    #[test]
    fn an_idle_limit_stays() {
        let mut limit = AdaptiveLimit::default();
        (0..1_000).for_each(|_| limit.succeeded(START_LIMIT - 1));
        assert_eq!(limit.get(), START_LIMIT);
    }

    #[test]
    fn the_limit_ends_at_its_bounds() {
        let mut limit = AdaptiveLimit::default();
        (0..10_000).for_each(|_| limit.succeeded(limit.get()));
        assert_eq!(limit.get(), MAX_LIMIT);
        (0..100).for_each(|n| limit.overloaded(n, n + 1));
        assert_eq!(limit.get(), 1);
    }

    #[test]
    fn one_overload_halves_once_however_many_writes_it_fails() {
        let mut limit = AdaptiveLimit::default();
        (0..8).for_each(|sent| limit.overloaded(sent, 8));
        assert_eq!(limit.get(), 4);
        limit.overloaded(8, 12);
        assert_eq!(limit.get(), 2);
    }
}
