//! What is known of one name: who wants it, and what each server last said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::queues::{Class, Urgency};
use super::types::{ServerId, SubscriberId};
use crate::answer::{AnswerKind, Family, LookupFailure, Outcome, Resolution};
use crate::fqdn::Fqdn;
use crate::time::Instant;

/// So long past its validity an answer of another server still counts: a server that is down for minutes must not
/// take addresses out of the union, one that is gone for good must not keep them.
pub(super) const ELSEWHERE_GRACE: Duration = Duration::from_secs(3_600);

/// A name in the table; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameId(pub(super) u64);

/// What is looked up: at most one lookup per key is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: NameId,
    pub(super) family: Family,
    pub(super) server: ServerId,
}

/// Where a key is in its cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not due before this moment.
    Waiting(Instant),
    /// Due; the entry with this ticket stands in the queue of this class.
    Queued(Class, u64),
    /// Sent.
    InFlight,
    /// Failed; its server has to show first whether it answers anything.
    Parked,
}

/// The last successful answer of one server.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) kind: AnswerKind,
    /// Sorted, without duplicates.
    pub(super) addresses: Arc<[IpAddr]>,
    pub(super) valid_until: Instant,
    /// The random number of its expiry, kept so that a changed refresh interval gives the same moment again.
    pub(super) jitter: u64,
    /// It is the first, or the first after a failure: many names are asked at the same moment then.
    pub(super) follows_none: bool,
}

/// What one server said about one family.
#[derive(Debug)]
pub(super) struct KeyState {
    pub(super) phase: Phase,
    /// How the last lookup ended; none has ended without it.
    pub(super) last: Option<Result<(), LookupFailure>>,
    pub(super) answer: Option<Answer>,
    /// When the lookup that gave `answer` was sent.
    pub(super) asked: Instant,
    /// The last lookup was late or had no answer.
    pub(super) slow: bool,
    /// Failures in a row while the server answered other names.
    pub(super) failures: u32,
}

impl KeyState {
    pub(super) fn new(due: Instant) -> Self {
        Self { phase: Phase::Waiting(due), last: None, answer: None, asked: due, slow: false, failures: 0 }
    }

    pub(super) fn succeeded(&self) -> bool {
        matches!(self.last, Some(Ok(())))
    }
}

/// One name and everybody who wants it.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) host: Fqdn,
    subscribers: BTreeMap<SubscriberId, Duration>,
    /// How many subscribers have which refresh interval.
    refreshes: BTreeMap<Duration, usize>,
    /// One key per present server and family; a name without subscribers keeps only those in flight.
    pub(super) keys: BTreeMap<(Family, ServerId), KeyState>,
}

impl Name {
    pub(super) fn new(host: Fqdn) -> Self {
        Self { host, subscribers: BTreeMap::new(), refreshes: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// Adds a subscriber or changes its interval; true if the shortest interval changed.
    pub(super) fn join(&mut self, subscriber: SubscriberId, refresh: Duration) -> bool {
        let before = self.refresh();
        if let Some(old) = self.subscribers.insert(subscriber, refresh) {
            self.forget_refresh(old);
        }
        *self.refreshes.entry(refresh).or_default() += 1;
        self.refresh() != before
    }

    /// Removes a subscriber; true if the shortest interval changed.
    pub(super) fn leave(&mut self, subscriber: SubscriberId) -> bool {
        let before = self.refresh();
        if let Some(old) = self.subscribers.remove(&subscriber) {
            self.forget_refresh(old);
        }
        self.refresh() != before
    }

    fn forget_refresh(&mut self, refresh: Duration) {
        if let Some(count) = self.refreshes.get_mut(&refresh) {
            *count -= 1;
            if *count == 0 {
                self.refreshes.remove(&refresh);
            }
        }
    }

    /// The shortest interval of all subscribers.
    pub(super) fn refresh(&self) -> Duration {
        self.refreshes.first_key_value().map_or(Duration::MAX, |(refresh, _)| *refresh)
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty()
    }

    pub(super) fn first_subscriber(&self) -> Option<SubscriberId> {
        self.subscribers.first_key_value().map(|(id, _)| *id)
    }

    pub(super) fn subscribers(&self) -> Vec<SubscriberId> {
        self.subscribers.keys().copied().collect()
    }

    fn of_family(&self, family: Family) -> impl Iterator<Item = (ServerId, &KeyState)> {
        let servers = (family, ServerId(0))..=(family, ServerId(u32::MAX));
        self.keys.range(servers).map(|((_, server), state)| (*server, state))
    }

    /// What a lookup of this key would be for.
    pub(super) fn urgency(&self, now: Instant, family: Family, server: ServerId) -> Urgency {
        let is_answered = self.keys.get(&(family, server)).is_some_and(|state| state.answer.is_some());
        let is_served = |state: &KeyState| {
            let answer = state.answer.as_ref();
            state.phase == Phase::InFlight || answer.is_some_and(|answer| !is_answered || answer.valid_until > now)
        };
        let mut others = self.of_family(family).filter(|(other, _)| *other != server);
        match (is_answered, others.any(|(_, state)| is_served(state))) {
            (true, false) => Urgency::Refresh,
            (true, true) => Urgency::Renew,
            (false, false) => Urgency::First,
            (false, true) => Urgency::Confirm,
        }
    }

    /// Whether every server has answered or failed.
    pub(super) fn is_settled(&self, family: Family) -> bool {
        self.of_family(family).all(|(_, state)| state.last.is_some())
    }

    fn resolution(&self, family: Family, outcome: Outcome) -> Resolution {
        Resolution { host: self.host.clone(), family, outcome, settled: self.is_settled(family) }
    }

    /// What a subscriber hears when no server is known.
    pub(super) fn unreachable(&self, family: Family) -> Resolution {
        self.resolution(family, Outcome::Failure(LookupFailure::Unreachable))
    }

    /// What this server's answer means.
    pub(super) fn answered(&self, now: Instant, family: Family, server: ServerId) -> Option<Resolution> {
        let answer = self.keys.get(&(family, server))?.answer.as_ref()?;
        let others = self.of_family(family).filter(|(other, _)| *other != server);
        let present = others.filter_map(|(_, state)| state.answer.as_ref());
        let mut elsewhere: Vec<IpAddr> = present
            .filter(|other| other.valid_until + ELSEWHERE_GRACE >= now)
            .flat_map(|other| other.addresses.iter())
            .filter(|address| answer.addresses.binary_search(address).is_err())
            .copied()
            .collect();
        elsewhere.sort_unstable();
        elsewhere.dedup();
        let addresses = answer.addresses.clone();
        let outcome = Outcome::Answer { kind: answer.kind, addresses, elsewhere: elsewhere.into() };
        Some(self.resolution(family, outcome))
    }

    /// What this server's failure means; nothing while another server has to say its word first, and nothing twice.
    pub(super) fn failed(
        &self,
        family: Family,
        server: ServerId,
        failure: LookupFailure,
        is_first: bool,
    ) -> Option<Resolution> {
        let others = || self.of_family(family).filter(|(other, _)| *other != server).map(|(_, state)| state);
        let all_failed = others().all(|state| matches!(state.last, Some(Err(_))));
        let any_succeeded = others().any(KeyState::succeeded);
        if all_failed {
            Some(self.resolution(family, Outcome::Failure(failure)))
        } else if any_succeeded && is_first && self.is_settled(family) {
            Some(self.resolution(family, Outcome::OneServerFailed))
        } else {
            None
        }
    }

    /// What is known now, for a subscriber that heard nothing yet.
    pub(super) fn known(&self, now: Instant, family: Family) -> Vec<Resolution> {
        let fresh = self.of_family(family).filter(|(_, state)| {
            let answer = state.answer.as_ref();
            state.succeeded() && answer.is_some_and(|answer| answer.valid_until + ELSEWHERE_GRACE >= now)
        });
        let answers: Vec<Resolution> = fresh.filter_map(|(server, _)| self.answered(now, family, server)).collect();
        if !answers.is_empty() {
            return answers;
        }
        let mut failure = None;
        for (_, state) in self.of_family(family) {
            match state.last {
                Some(Err(last)) => failure = Some(last),
                Some(Ok(())) | None => return Vec::new(),
            }
        }
        failure.map(|failure| self.resolution(family, Outcome::Failure(failure))).into_iter().collect()
    }
}
