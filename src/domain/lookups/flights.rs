//! Lookups that were sent and have no result yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::name::Key;
use super::types::{Config, Lane, LookupId};
use crate::time::Instant;

/// A lookup in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) key: Key,
    pub(super) sent: Instant,
    pub(super) lane: Lane,
}

/// All lookups in flight, by lane.
#[derive(Debug)]
pub(super) struct Flights {
    by_id: BTreeMap<LookupId, Flight>,
    /// When each is overdue, in the order they were sent; those that ended are skipped.
    overdue: VecDeque<(Instant, LookupId)>,
    last_id: u64,
    normal: usize,
    slow: usize,
    probes: usize,
    normal_lane: usize,
    slow_lane: usize,
    slow_after: Duration,
}

impl Flights {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            by_id: BTreeMap::new(),
            overdue: VecDeque::new(),
            last_id: 0,
            normal: 0,
            slow: 0,
            probes: 0,
            normal_lane: config.normal_lane,
            slow_lane: config.slow_lane,
            slow_after: config.slow_after,
        }
    }

    /// Whether one more lookup fits. Probes are bounded per server, not here.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        match lane {
            Lane::Normal => self.normal < self.normal_lane,
            Lane::Slow => self.slow < self.slow_lane,
            Lane::Probe => true,
        }
    }

    pub(super) fn count(&self, lane: Lane) -> usize {
        match lane {
            Lane::Normal => self.normal,
            Lane::Slow => self.slow,
            Lane::Probe => self.probes,
        }
    }

    fn counter(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Normal => &mut self.normal,
            Lane::Slow => &mut self.slow,
            Lane::Probe => &mut self.probes,
        }
    }

    pub(super) fn start(&mut self, now: Instant, key: Key, lane: Lane) -> LookupId {
        self.last_id += 1;
        let id = LookupId(self.last_id);
        self.by_id.insert(id, Flight { key, sent: now, lane });
        *self.counter(lane) += 1;
        // A probe runs its full time: an answer that comes late still shows that the server lives.
        if lane != Lane::Probe {
            self.overdue.push_back((now + self.slow_after, id));
        }
        id
    }

    /// Forgets a lookup, because it ended or because nobody wants its result.
    pub(super) fn end(&mut self, id: LookupId) -> Option<Flight> {
        let flight = self.by_id.remove(&id)?;
        *self.counter(flight.lane) -= 1;
        Some(flight)
    }

    /// Forgets all lookups of these keys.
    pub(super) fn end_all(&mut self, of: impl Fn(Key) -> bool) -> Vec<(LookupId, Flight)> {
        let all = self.by_id.iter().map(|(id, flight)| (*id, *flight));
        let ended: Vec<(LookupId, Flight)> = all.filter(|(_, flight)| of(flight.key)).collect();
        for (id, _) in &ended {
            self.end(*id);
        }
        ended
    }

    /// A lookup that is overdue now; each is reported once.
    pub(super) fn pop_overdue(&mut self, now: Instant) -> Option<(LookupId, Flight)> {
        while self.next_overdue()? <= now {
            let (_, id) = self.overdue.pop_front()?;
            if let Some(flight) = self.by_id.get(&id) {
                return Some((id, *flight));
            }
        }
        None
    }

    /// When the next lookup is overdue.
    pub(super) fn next_overdue(&mut self) -> Option<Instant> {
        while let Some((at, id)) = self.overdue.front() {
            if self.by_id.contains_key(id) {
                return Some(*at);
            }
            self.overdue.pop_front();
        }
        None
    }

    /// Counts a lookup of the normal lane against the slow one from now on.
    pub(super) fn slow_down(&mut self, id: LookupId) {
        if let Some(flight) = self.by_id.get_mut(&id)
            && flight.lane == Lane::Normal
        {
            flight.lane = Lane::Slow;
            self.normal -= 1;
            self.slow += 1;
        }
    }
}
