//! Which of the waiting writes is next: lanes by importance, namespaces in turn within a lane.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fair_queue::FairQueue;
use crate::object::ObjectKey;
use crate::time::Instant;
use crate::write::Lane;

/// A write of a lower lane that has waited so long may pass the others now and then: a status that is half a minute
/// old begins to mislead the person who reads it.
pub const AGED_AFTER: Duration = Duration::from_secs(30);
/// One slot in so many goes to aged writes: they move on, and it costs the important ones 6 %.
pub const AGED_SLOT: u32 = 16;

/// Where in the order of arrival a write stands. It keeps its place when a newer one replaces it or when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) since: Instant,
}

#[derive(Clone, Debug, Default)]
struct Waiting {
    fair: FairQueue<(ObjectKey, Place)>,
    /// The same by age.
    ages: BTreeMap<u64, Instant>,
}

/// The writes that could be sent now.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<Lane, Waiting>,
    /// Slots given since an aged write had one.
    slots: u32,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.values().all(|waiting| waiting.fair.is_empty())
    }

    pub(super) fn push(&mut self, lane: Lane, key: ObjectKey, place: Place) {
        let waiting = self.lanes.entry(lane).or_default();
        waiting.ages.insert(place.number, place.since);
        let namespace = key.namespace().clone();
        waiting.fair.push(&namespace, (key, place));
    }

    pub(super) fn remove(&mut self, lane: Lane, key: &ObjectKey, place: Place) {
        let waiting = self.lanes.entry(lane).or_default();
        waiting.ages.remove(&place.number);
        waiting.fair.remove(key.namespace(), |(_, other)| *other == place);
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<ObjectKey> {
        let first = self.lanes.iter().find(|(_, waiting)| !waiting.fair.is_empty()).map(|(lane, _)| *lane)?;
        self.slots = self.slots.saturating_add(1);
        let aged = if self.slots >= AGED_SLOT { self.aged(first, now) } else { None };
        if aged.is_some() {
            self.slots = 0;
        }
        let waiting = self.lanes.get_mut(&aged.unwrap_or(first))?;
        let (key, place) = waiting.fair.pop()?;
        waiting.ages.remove(&place.number);
        Some(key)
    }

    /// The lane below `first` whose oldest write has waited longest, and too long.
    fn aged(&self, first: Lane, now: Instant) -> Option<Lane> {
        let oldest = |(lane, waiting): (&Lane, &Waiting)| Some((*waiting.ages.values().next()?, *lane));
        let lower = self.lanes.iter().filter(|(lane, _)| **lane > first);
        lower.filter_map(oldest).min().filter(|(since, _)| now.since(*since) >= AGED_AFTER).map(|(_, lane)| lane)
    }
}
