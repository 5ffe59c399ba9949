//! Repairs of what others changed: at once, then ever more rarely, so that a fight costs little.

use std::time::Duration;

use crate::time::Instant;

/// Wait before the second repair; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest wait: a fight costs one write in 5 minutes in the end.
const MAX_DELAY: Duration = Duration::from_secs(300);
/// So many repairs within [`CONTEST_WINDOW`] mean that somebody else insists.
const CONTEST_REPAIRS: usize = 3;
const CONTEST_WINDOW: Duration = Duration::from_secs(60);
/// Peace for so long starts the count anew: twice the longest wait, so that a lasting fight never looks like peace.
const FORGET_AFTER: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Default)]
pub(crate) struct DriftBackoff {
    repairs: u32,
    last: [Option<Instant>; CONTEST_REPAIRS],
    next_allowed: Instant,
    contested: bool,
}

impl DriftBackoff {
    /// A repair is being made of what another client did.
    pub(crate) fn record(&mut self, now: Instant) {
        self.record_mutation(now);
        if self.last[CONTEST_REPAIRS - 1].is_some_and(|first| now.since(first) <= CONTEST_WINDOW) {
            self.contested = true;
        }
    }

    /// A repair is being made of what the API server's own admission did: nobody contests, but it costs as much.
    pub(crate) fn record_mutation(&mut self, now: Instant) {
        if self.last[0].is_some_and(|last| now.since(last) >= FORGET_AFTER) {
            *self = Self::default();
        }
        self.last.rotate_right(1);
        self.last[0] = Some(now);
        self.repairs += 1;
        let doublings = self.repairs.saturating_sub(1).min(16);
        let delay = (FIRST_DELAY * (1 << doublings)).min(MAX_DELAY);
        self.next_allowed = now + delay;
    }

    pub(crate) fn allows(&self, now: Instant) -> bool {
        now >= self.next_allowed
    }

    pub(crate) fn next_allowed(&self) -> Instant {
        self.next_allowed
    }

    /// Somebody else insists; true until there has been peace for [`FORGET_AFTER`].
    pub(crate) fn is_contested(&self, now: Instant) -> bool {
        self.contested && self.contested_until().is_some_and(|until| now < until)
    }

    pub(crate) fn contested_until(&self) -> Option<Instant> {
        self.last[0].filter(|_| self.contested).map(|last| last + FORGET_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_costs_at_most_20_repairs_in_5_minutes_and_is_called_contested_at_the_third() {
        let mut drift = DriftBackoff::default();
        let mut repairs = 0;
        for tenth in 0..3_000_u64 {
            let now = Instant(tenth * 100);
            if drift.allows(now) {
                repairs += 1;
                drift.record(now);
                assert_eq!(drift.is_contested(now), repairs >= 3, "repair {repairs}");
            }
        }
        assert!((3..=20).contains(&repairs), "{repairs}");
    }

    #[test]
    fn peace_of_ten_minutes_starts_anew() {
        let mut drift = DriftBackoff::default();
        for second in [0, 1, 3] {
            drift.record(Instant(second * 1000));
        }
        assert!(drift.is_contested(Instant(5_000)));
        assert!(!drift.is_contested(Instant(3_000) + FORGET_AFTER));
        drift.record(Instant(3_000) + FORGET_AFTER);
        assert!(drift.allows(Instant(3_000) + FORGET_AFTER + FIRST_DELAY));
    }
}
