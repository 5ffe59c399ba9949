//! Keys that are due and wait for a lane.

use std::sync::Arc;

use super::name::Key;
use super::types::Lane;
use crate::fair_queue::FairQueue;

/// What a due key is for, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Its server answered it before, so pods depend on it, and no answer of another server is valid.
    Refresh,
    /// Its server answered it before, and another one did so lately.
    Renew,
    /// No server has answered the name yet, and none is being asked.
    First,
    /// Another server answered the name, or is being asked. Many names are answered sooner if none is asked of every
    /// server before the next is asked of one.
    Confirm,
}

/// Which queue a due key waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) urgency: Urgency,
    /// The key is slow or its server is down.
    pub(super) slow: bool,
}

/// Four urgencies, each slow or not.
const CLASSES: usize = 8;

impl Class {
    /// In the order in which they are served.
    const ALL: [Self; CLASSES] = [
        Self { urgency: Urgency::Refresh, slow: false },
        Self { urgency: Urgency::Refresh, slow: true },
        Self { urgency: Urgency::Renew, slow: false },
        Self { urgency: Urgency::Renew, slow: true },
        Self { urgency: Urgency::First, slow: false },
        Self { urgency: Urgency::First, slow: true },
        Self { urgency: Urgency::Confirm, slow: false },
        Self { urgency: Urgency::Confirm, slow: true },
    ];

    pub(super) fn lane(self) -> Lane {
        if self.slow { Lane::Slow } else { Lane::Normal }
    }

    /// Whether a key of this class has to make room for those of `other`.
    pub(super) fn is_behind(self, other: Self) -> bool {
        self.slow && !other.slow || self.urgency > other.urgency
    }

    fn index(self) -> usize {
        2 * self.urgency as usize + usize::from(self.slow)
    }
}

/// Lookups of one round; of these one is kept for each class but the first. Without this a schedule beyond the
/// permitted rate would be all refreshes, and new policies would wait for ever.
const ROUND: usize = 24;
/// Every so many lookups of a round the turn is another class's.
const KEPT_EVERY: usize = 3;
/// Entries of names that left are swept out when there are so many more of them than of live ones.
const STALE_SLACK: usize = 1_024;

#[derive(Debug, Default)]
struct Queue {
    entries: FairQueue<(Key, u64)>,
    /// Entries that are not stale.
    live: usize,
}

/// One fair queue per class. A ticket tells whether an entry still speaks for its key.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: [Queue; CLASSES],
    last_ticket: u64,
    turn: usize,
}

impl Queues {
    pub(super) fn push(&mut self, class: Class, namespace: &Arc<str>, key: Key) -> u64 {
        self.last_ticket += 1;
        let queue = &mut self.queues[class.index()];
        queue.entries.push(namespace, (key, self.last_ticket));
        queue.live += 1;
        self.last_ticket
    }

    /// The next entry of a class, stale or not. The caller calls [`Queues::left`] for one that is not.
    pub(super) fn pop(&mut self, class: Class) -> Option<(Key, u64)> {
        self.queues[class.index()].entries.pop()
    }

    /// A key is no longer queued: its entry was taken, or has become stale.
    pub(super) fn left(&mut self, class: Class) {
        let queue = &mut self.queues[class.index()];
        queue.live = queue.live.saturating_sub(1);
    }

    /// Whether a queue has so many stale entries that [`Queues::sweep`] should be called.
    pub(super) fn is_stale(&self, class: Class) -> bool {
        let queue = &self.queues[class.index()];
        queue.entries.len() > 2 * queue.live + STALE_SLACK
    }

    pub(super) fn sweep(&mut self, class: Class, is_live: impl Fn(Key, u64) -> bool) {
        self.queues[class.index()].entries.retain(|(key, ticket)| is_live(*key, *ticket));
    }

    /// Keys that wait for this lane.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        let of_lane = Class::ALL.iter().filter(|class| class.lane() == lane);
        of_lane.map(|class| self.queues[class.index()].live).sum()
    }

    /// The order in which the classes are tried this turn.
    pub(super) fn order(&self) -> impl Iterator<Item = Class> + use<> {
        let kept = if self.turn.is_multiple_of(KEPT_EVERY) { self.turn / KEPT_EVERY } else { 0 };
        Class::ALL.into_iter().skip(kept).take(1).chain(Class::ALL)
    }

    /// A lookup was sent.
    pub(super) fn end_turn(&mut self) {
        self.turn = (self.turn + 1) % ROUND;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_turn_in_a_round_and_refreshes_have_the_others() {
        let mut queues = Queues::default();
        let mut turns = [0; CLASSES];
        for _ in 0..ROUND {
            turns[queues.order().next().unwrap().index()] += 1;
            queues.end_turn();
        }
        assert_eq!(turns, [17, 1, 1, 1, 1, 1, 1, 1]);
    }
}
