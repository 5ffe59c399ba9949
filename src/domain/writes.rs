//! The queue of pending writes: what is sent next, when, and what becomes of a write that failed.
//!
//! * The latest write of an object wins; one per object is in flight.
//! * Lanes by importance, namespaces in turn within a lane, and a slot now and then for what has waited long.
//! * The limit of writes in flight adapts to the API server; Retry-After and a write budget bound the rate.
//! * A write that failed for the moment is sent again, unless a newer one of its object came: nothing is lost.
//!
//! A timed-out write may have been committed. It is simply sent again: a create then finds the object (and the policy
//! rereads it), everything else is idempotent. The server is told to give up when we do, so that an old write is hardly
//! ever committed after a newer one; if it is, the watch shows it as drift.
//!
//! The queue knows no requests: `P` is whatever the writer sends, cheap to clone.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use crate::object::ObjectKey;
use crate::time::Instant;
use crate::write::Lane;

mod budget;
mod failure;
mod lanes;
mod limit;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use budget::Budget;
use lanes::{Lanes, Place};
use limit::AdaptiveLimit;

pub use failure::{FENCED_BACKOFF, FIRST_BACKOFF, MAX_BACKOFF, MAX_PAUSE, PROBE_INTERVAL, Transient, TransientKind};
pub use lanes::{AGED_AFTER, AGED_SLOT};
pub use limit::{MAX_LIMIT, START_LIMIT};

/// Events are many and each has a key of its own, so latest-wins does not bound them. Ten thousand are a few megabytes,
/// and more than a person reads; the oldest go.
pub const MAX_PENDING_EVENTS: usize = 10_000;

/// Names one `put`; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A write that must be sent now, and answered with [`WriteQueue::finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing<P> {
    /// What it goes to.
    pub key: ObjectKey,
    /// Which `put` it comes from.
    pub ticket: Ticket,
    /// What was put.
    pub payload: P,
}

/// The state of the queue, for metrics and debugging. Counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Writes that wait, whatever for.
    pub pending: BTreeMap<Lane, usize>,
    /// Writes that were sent and not answered.
    pub in_flight: usize,
    /// How many may be in flight now.
    pub limit: usize,
    /// Whether the API server cannot be reached, so that only probes are sent.
    pub unreachable: bool,
    /// Writes that a newer one of their object replaced before they were sent.
    pub coalesced: u64,
    /// Writes put back after a failure.
    pub retried: u64,
    /// Answers that said: too many requests.
    pub throttled: u64,
    /// Events dropped at the bound.
    pub dropped_events: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct WriteQueue<P> {
    objects: BTreeMap<ObjectKey, Object<P>>,
    lanes: Lanes,
    /// Objects in back-off, by the end of it.
    sleeping: BTreeSet<(Instant, ObjectKey)>,
    /// Pending Events, the oldest first.
    events: BTreeMap<Place, ObjectKey>,
    limit: AdaptiveLimit,
    budget: Budget,
    /// The server asked for nothing before.
    paused_until: Instant,
    /// While the server cannot be reached: when the next probe is due.
    next_probe: Option<Instant>,
    /// Writes sent so far.
    sent: u64,
    last_ticket: u64,
    stats: Stats,
}

#[derive(Clone, Debug)]
struct Object<P> {
    pending: Option<Pending<P>>,
    flight: Option<Flight<P>>,
    /// Failures in a row.
    failures: u32,
}

#[derive(Clone, Debug)]
struct Pending<P> {
    ticket: Ticket,
    payload: P,
    lane: Lane,
    place: Place,
    waits: Waits,
}

/// What a pending write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// A slot.
    InLane,
    /// The end of its back-off.
    Until(Instant),
    /// The answer to the one in flight.
    Behind,
}

#[derive(Clone, Debug)]
struct Flight<P> {
    ticket: Ticket,
    payload: P,
    lane: Lane,
    place: Place,
    /// Number among all writes sent.
    sent: u64,
    /// Must not be sent again.
    withdrawn: bool,
}

impl<P: Clone> WriteQueue<P> {
    /// An empty queue; `max_writes_per_second` none leaves the rate to the server.
    pub fn new(max_writes_per_second: Option<NonZeroU32>) -> Self {
        Self {
            objects: BTreeMap::new(),
            lanes: Lanes::default(),
            sleeping: BTreeSet::new(),
            events: BTreeMap::new(),
            limit: AdaptiveLimit::default(),
            budget: Budget::new(max_writes_per_second),
            paused_until: Instant::default(),
            next_probe: None,
            sent: 0,
            last_ticket: 0,
            stats: Stats::default(),
        }
    }

    /// Adds a write. It replaces a pending one of the same object, and takes its place and the better of both lanes; it
    /// waits for the answer to one in flight, and for the end of its object's back-off.
    pub fn put(&mut self, now: Instant, key: ObjectKey, lane: Lane, payload: P) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let object =
            self.objects.entry(key.clone()).or_insert_with(|| Object { pending: None, flight: None, failures: 0 });
        let waits = if object.flight.is_some() { Waits::Behind } else { Waits::InLane };
        if let Some(pending) = object.pending.as_mut().filter(|pending| pending.lane <= lane) {
            self.stats.coalesced += 1;
            pending.ticket = ticket;
            pending.payload = payload;
            return ticket;
        }
        let place = Place { since: now, number: ticket.0 };
        let pending = match self.take_pending(&key) {
            Some(old) => {
                self.stats.coalesced += 1;
                Pending { ticket, payload, lane, ..old }
            }
            None => Pending { ticket, payload, lane, place, waits },
        };
        self.set_pending(key, pending);
        ticket
    }

    /// Forgets the pending write of an object. One in flight goes on, but is not sent again.
    pub fn withdraw(&mut self, key: &ObjectKey) {
        self.take_pending(key);
        if let Some(flight) = self.objects.get_mut(key).and_then(|object| object.flight.as_mut()) {
            flight.withdrawn = true;
        }
        self.forget_if_done(key);
    }

    /// The next write to send, if one may be sent now.
    pub fn pop(&mut self, now: Instant) -> Option<Outgoing<P>> {
        self.wake(now);
        if self.stats.in_flight >= self.limit.get() || self.opens_at(now) > now {
            return None;
        }
        let key = self.lanes.pop(now)?;
        let object = self.objects.get_mut(&key)?;
        let Pending { ticket, payload, lane, place, .. } = object.pending.take()?;
        object.flight =
            Some(Flight { ticket, payload: payload.clone(), lane, place, sent: self.sent, withdrawn: false });
        self.count_pending(lane, -1);
        self.events.remove(&place);
        self.sent += 1;
        self.stats.in_flight += 1;
        self.budget.spend(now);
        if let Some(probe) = &mut self.next_probe {
            *probe = now + PROBE_INTERVAL;
        }
        Some(Outgoing { key, ticket, payload })
    }

    /// Takes the answer to a write that was sent: definite, or a failure for the moment. Gives the payload back when the
    /// answer is final. `jitter` is a random number from 0 to 1. An answer nobody waits for is ignored.
    pub fn finish(
        &mut self,
        now: Instant,
        key: &ObjectKey,
        ticket: Ticket,
        answer: Result<(), Transient>,
        jitter: f64,
    ) -> Option<P> {
        let object = self.objects.get_mut(key)?;
        let flight = object.flight.take_if(|flight| flight.ticket == ticket)?;
        object.failures = if answer.is_ok() { 0 } else { object.failures.saturating_add(1) };
        let reachable =
            !matches!(answer, Err(Transient { kind: TransientKind::Unreachable | TransientKind::Timeout, .. }));
        if reachable {
            self.next_probe = None;
        }
        let final_payload = match answer {
            Ok(()) => {
                self.limit.succeeded(self.stats.in_flight);
                self.release(key, Waits::InLane);
                Some(flight.payload)
            }
            Err(transient) => {
                self.failed(now, key, flight, transient, jitter);
                None
            }
        };
        self.stats.in_flight = self.stats.in_flight.saturating_sub(1);
        self.forget_if_done(key);
        final_payload
    }

    /// When [`WriteQueue::pop`] may next give a write without a `put` or `finish` before; none when only those help.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.stats.in_flight >= self.limit.get() {
            return None;
        }
        let ready = if self.lanes.is_empty() { self.sleeping.first()?.0 } else { now };
        Some(ready.max(self.opens_at(now)))
    }

    /// Whether nothing is pending or in flight: all that was put has a final answer, or was withdrawn.
    pub fn is_idle(&self) -> bool {
        self.objects.is_empty()
    }

    /// The state of the queue.
    pub fn stats(&self) -> Stats {
        Stats { limit: self.limit.get(), unreachable: self.next_probe.is_some(), ..self.stats.clone() }
    }

    /// When the whole queue may send again; `now` or later.
    fn opens_at(&self, now: Instant) -> Instant {
        self.budget.ready_at(now).max(self.paused_until).max(self.next_probe.unwrap_or(now))
    }

    /// Moves the objects whose back-off has ended into their lanes.
    fn wake(&mut self, now: Instant) {
        while let Some((_, key)) = self.sleeping.first().filter(|(until, _)| *until <= now).cloned() {
            self.release(&key, Waits::InLane);
        }
    }

    /// Lets the pending write of an object wait for something else.
    fn release(&mut self, key: &ObjectKey, waits: Waits) {
        if let Some(pending) = self.take_pending(key) {
            self.set_pending(key.clone(), Pending { waits, ..pending });
        }
    }

    fn take_pending(&mut self, key: &ObjectKey) -> Option<Pending<P>> {
        let pending = self.objects.get_mut(key)?.pending.take()?;
        match pending.waits {
            Waits::InLane => self.lanes.remove(pending.lane, key, pending.place),
            Waits::Until(until) => _ = self.sleeping.remove(&(until, key.clone())),
            Waits::Behind => {}
        }
        self.events.remove(&pending.place);
        self.count_pending(pending.lane, -1);
        Some(pending)
    }

    /// The object must be known and have no pending write.
    fn set_pending(&mut self, key: ObjectKey, pending: Pending<P>) {
        let Some(object) = self.objects.get_mut(&key) else { return };
        match pending.waits {
            Waits::InLane => self.lanes.push(pending.lane, key.clone(), pending.place),
            Waits::Until(until) => _ = self.sleeping.insert((until, key.clone())),
            Waits::Behind => {}
        }
        let (lane, place) = (pending.lane, pending.place);
        object.pending = Some(pending);
        self.count_pending(lane, 1);
        if matches!(key, ObjectKey::Event(..)) {
            self.events.insert(place, key);
            self.bound_events();
        }
    }

    fn bound_events(&mut self) {
        while self.events.len() > MAX_PENDING_EVENTS {
            let Some((_, oldest)) = self.events.pop_first() else { return };
            self.take_pending(&oldest);
            self.forget_if_done(&oldest);
            self.stats.dropped_events += 1;
        }
    }

    fn count_pending(&mut self, lane: Lane, change: isize) {
        let count = self.stats.pending.entry(lane).or_default();
        *count = count.saturating_add_signed(change);
    }

    /// An object without pending and flying write is not kept; its failures are forgotten with it.
    fn forget_if_done(&mut self, key: &ObjectKey) {
        if self.objects.get(key).is_some_and(|object| object.pending.is_none() && object.flight.is_none()) {
            self.objects.remove(key);
        }
    }
}
