//! Keys that are due and wait for a lane.

use std::sync::Arc;

use super::name::Key;
use super::types::Lane;
use crate::fair_queue::FairQueue;

/// What a due key is, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It answered before, and soon.
    Refresh,
    /// It answered before, but late.
    SlowRefresh,
    /// It never answered, and nobody knows that it is slow.
    First,
    /// It never answered, and is slow or its server is down.
    SlowFirst,
}

impl Class {
    pub(super) fn new(answered: bool, slow: bool) -> Self {
        match (answered, slow) {
            (true, false) => Self::Refresh,
            (true, true) => Self::SlowRefresh,
            (false, false) => Self::First,
            (false, true) => Self::SlowFirst,
        }
    }

    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Refresh | Self::First => Lane::Normal,
            Self::SlowRefresh | Self::SlowFirst => Lane::Slow,
        }
    }
}

/// Turns of one round: of eight lookups, one is kept for each less urgent class. Without this a schedule beyond the
/// permitted rate would be all refreshes, and new policies would wait for ever.
const ROUND: u8 = 8;
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
    queues: [Queue; 4],
    last_ticket: u64,
    turn: u8,
}

impl Queues {
    pub(super) fn push(&mut self, class: Class, namespace: &Arc<str>, key: Key) -> u64 {
        self.last_ticket += 1;
        let queue = &mut self.queues[class as usize];
        queue.entries.push(namespace, (key, self.last_ticket));
        queue.live += 1;
        self.last_ticket
    }

    /// The next entry of a class, stale or not. The caller calls [`Queues::left`] for one that is not.
    pub(super) fn pop(&mut self, class: Class) -> Option<(Key, u64)> {
        self.queues[class as usize].entries.pop()
    }

    /// A key is no longer queued: its entry was taken, or has become stale.
    pub(super) fn left(&mut self, class: Class) {
        let queue = &mut self.queues[class as usize];
        queue.live = queue.live.saturating_sub(1);
    }

    /// Whether a queue has so many stale entries that [`Queues::sweep`] should be called.
    pub(super) fn is_stale(&self, class: Class) -> bool {
        let queue = &self.queues[class as usize];
        queue.entries.len() > 2 * queue.live + STALE_SLACK
    }

    pub(super) fn sweep(&mut self, class: Class, is_live: impl Fn(Key, u64) -> bool) {
        self.queues[class as usize].entries.retain(|(key, ticket)| is_live(*key, *ticket));
    }

    /// Keys that wait for this lane.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        let classes = [Class::Refresh, Class::SlowRefresh, Class::First, Class::SlowFirst];
        let of_lane = classes.iter().filter(|class| class.lane() == lane);
        of_lane.map(|class| self.queues[*class as usize].live).sum()
    }

    /// The order in which the classes are tried this turn.
    pub(super) fn order(&self) -> [Class; 5] {
        let preferred = match self.turn {
            3 => Class::First,
            5 => Class::SlowRefresh,
            7 => Class::SlowFirst,
            _ => Class::Refresh,
        };
        [preferred, Class::Refresh, Class::SlowRefresh, Class::First, Class::SlowFirst]
    }

    /// A lookup was sent.
    pub(super) fn end_turn(&mut self) {
        self.turn = (self.turn + 1) % ROUND;
    }
}
