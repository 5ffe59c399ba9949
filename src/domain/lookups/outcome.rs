//! What the end of a lookup changes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::flights::Flight;
use super::health::{Relief, Verdict};
use super::name::{Answer, Key, Phase};
use super::types::{Answered, Delivery, Ended, Lane, LookupId};
use super::{Lookups, schedule};
use crate::answer::{Family, LookupFailure, Resolution};
use crate::time::Instant;

impl Lookups {
    /// A lookup ended. `jitter` is any random number. Nothing is said to anybody if the lookup is not known (any more)
    /// or its failure changes nothing for the subscribers.
    pub fn complete(
        &mut self,
        now: Instant,
        id: LookupId,
        result: Result<Answered, LookupFailure>,
        jitter: u64,
    ) -> Option<Delivery> {
        let flight = self.flights.end(id)?;
        self.count(Ended::of(&result));
        if flight.lane == Lane::Probe
            && let Some(server) = self.server_mut(flight.key.server)
        {
            server.probe_ended();
        }
        let is_slow = now.since(flight.sent) > self.config.slow_after;
        let delivery = match result {
            Ok(answer) => self.succeeded(now, flight, answer, is_slow, jitter),
            Err(failure) => self.failed(now, id, flight.key, failure, is_slow, jitter),
        };
        self.drop_if_unwanted(flight.key.name);
        delivery
    }

    /// A lookup was cancelled because it took too long.
    pub(super) fn give_up(&mut self, now: Instant, id: LookupId, key: Key, is_down: bool) -> Option<Delivery> {
        let delivery = if is_down {
            self.count(Ended::Failure(LookupFailure::Timeout));
            // Without jitter: the key is parked.
            self.failed(now, id, key, LookupFailure::Timeout, true, 0)
        } else {
            self.count(Ended::GivenUp);
            if let Some(state) = self.state_mut(key) {
                state.slow = true;
            }
            self.set_phase(key, Phase::Waiting(now));
            None
        };
        self.drop_if_unwanted(key.name);
        delivery
    }

    fn succeeded(
        &mut self,
        now: Instant,
        flight: Flight,
        answer: Answered,
        is_slow: bool,
        jitter: u64,
    ) -> Option<Delivery> {
        let key = flight.key;
        let Answered { kind, addresses, valid_until } = answer;
        let addresses = canonical(addresses, key.family).into();
        let state = self.state_mut(key)?;
        let follows_none = !state.succeeded();
        state.last = Some(Ok(()));
        state.answer = Some(Answer { kind, addresses, valid_until, jitter, follows_none });
        state.asked = flight.sent;
        state.slow = is_slow;
        state.failures = 0;
        self.wait_for_expiry(key);
        let relief = self.server_mut(key.server).map(|server| server.succeeded(now, key));
        match relief {
            None | Some(Relief::None) => {}
            Some(Relief::BackOff(keys)) => keys.into_iter().for_each(|key| self.back_off(now, key, jitter)),
            Some(Relief::Due(keys)) => self.make_due(now, keys),
        }
        let name = self.names.get(&key.name)?;
        self.deliver(key, name.answered(now, key.family, key.server)?)
    }

    fn failed(
        &mut self,
        now: Instant,
        id: LookupId,
        key: Key,
        failure: LookupFailure,
        is_slow: bool,
        jitter: u64,
    ) -> Option<Delivery> {
        let state = self.state_mut(key)?;
        let is_first = state.last.is_none();
        state.last = Some(Err(failure));
        state.slow = is_slow || failure == LookupFailure::Timeout;
        let server = self.servers.as_mut()?.get_mut(&key.server)?;
        let verdict = server.failed(&self.config, now, id, key);
        match verdict {
            Verdict::BackOff => self.back_off(now, key, jitter),
            Verdict::Park | Verdict::ParkAndProbe | Verdict::ParkUntilUp => self.set_phase(key, Phase::Parked),
        }
        match verdict {
            Verdict::BackOff | Verdict::Park => {}
            Verdict::ParkAndProbe => self.probe_at(key.server, now),
            Verdict::ParkUntilUp => self.probe_at(key.server, now + self.config.probe_interval),
        }
        let name = self.names.get(&key.name)?;
        self.deliver(key, name.failed(key.family, key.server, failure, is_first)?)
    }

    fn back_off(&mut self, now: Instant, key: Key, jitter: u64) {
        if let Some(state) = self.state_mut(key) {
            state.failures = state.failures.saturating_add(1);
            let failures = state.failures;
            let jitter = schedule::mix(jitter, key.name.0);
            let due = now + schedule::backoff(&self.config, failures, jitter);
            self.set_phase(key, Phase::Waiting(due));
        }
    }

    /// The server of these keys is back: those that it answered before come first, for pods depend on them.
    fn make_due(&mut self, now: Instant, keys: BTreeSet<Key>) {
        let is_answered = |key: &Key| self.state(*key).is_some_and(|state| state.answer.is_some());
        let (answered, others): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(is_answered);
        let step = schedule::spread_step(&self.config, answered.len() + others.len());
        let mut after = Duration::ZERO;
        for key in answered.into_iter().chain(others) {
            self.set_phase(key, Phase::Waiting(now + after));
            after += step;
        }
    }

    /// Sets when a key that answered is due again.
    pub(super) fn wait_for_expiry(&mut self, key: Key) {
        let Some(name) = self.names.get(&key.name) else {
            return;
        };
        let state = name.keys.get(&(key.family, key.server));
        if let Some((state, answer)) = state.and_then(|state| Some(state).zip(state.answer.as_ref())) {
            let due = schedule::after_answer(&self.config, state.asked, answer, name.refresh());
            self.set_phase(key, Phase::Waiting(due));
        }
    }

    fn deliver(&self, key: Key, resolution: Resolution) -> Option<Delivery> {
        let subscribers = self.names.get(&key.name)?.subscribers();
        (!subscribers.is_empty()).then_some(Delivery { resolution, subscribers })
    }

    fn count(&mut self, ended: Ended) {
        *self.ended.entry(ended).or_default() += 1;
    }
}

fn canonical(mut addresses: Vec<IpAddr>, family: Family) -> Vec<IpAddr> {
    addresses.retain(|address| Family::of(address) == family);
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
