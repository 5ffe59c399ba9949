//! Which name is asked of which server when, and what the answers mean together.
//!
//! A *key* is one (server, name, family). It is waiting, due, in flight or parked; at most one lookup of it is in
//! flight, whoever wants it. The caller sends what [`Lookups::next`] hands out, reports each result with
//! [`Lookups::complete`], calls [`Lookups::overdue`] when it wakes, and sleeps until [`Lookups::next_wake`].
//!
//! - Due keys wait in fair queues by urgency for one of two lanes. A lookup without an answer for 250 ms leaves the
//!   normal lane, so that dead names delay nobody.
//! - A failing key backs off on its own while its server answers others. A server that answers nothing is probed, its
//!   failing keys are parked, and its first answer makes them due.
//! - A subscriber hears each answer of each server together with what the other servers last answered.

mod flights;
mod health;
mod members;
mod name;
mod outcome;
mod queues;
mod schedule;
mod servers;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::flights::Flights;
use self::health::{Health, Server};
use self::name::{Key, KeyState, Name, NameId, Phase};
use self::queues::{Class, Queues, Urgency};
pub use self::types::*;
use crate::fqdn::Fqdn;
use crate::time::Instant;

/// The schedule of all lookups of a replica.
#[derive(Debug)]
pub struct Lookups {
    config: Config,
    names: BTreeMap<NameId, Name>,
    by_host: HashMap<Fqdn, NameId>,
    last_name: u64,
    subscriptions: BTreeMap<SubscriberId, Subscription>,
    /// Nothing until the first list: not knowing the servers yet is no failure.
    servers: Option<BTreeMap<ServerId, Server>>,
    /// Keys that are [`Phase::Waiting`], by when they are due.
    due: BTreeSet<(Instant, Key)>,
    /// When a server is to be probed; at most one entry per server.
    probes: BTreeSet<(Instant, ServerId)>,
    queues: Queues,
    flights: Flights,
    ended: BTreeMap<Ended, u64>,
}

#[derive(Debug)]
struct Subscription {
    namespace: Arc<str>,
    names: BTreeSet<NameId>,
}

impl Lookups {
    /// No subscribers, and servers not known yet.
    pub fn new(config: Config) -> Self {
        Self {
            names: BTreeMap::new(),
            by_host: HashMap::new(),
            last_name: 0,
            subscriptions: BTreeMap::new(),
            servers: None,
            due: BTreeSet::new(),
            probes: BTreeSet::new(),
            queues: Queues::default(),
            flights: Flights::new(&config),
            ended: BTreeMap::new(),
            config,
        }
    }

    /// The next lookup to send, if one is due and its lane has room. Call it until it gives nothing.
    pub fn next(&mut self, now: Instant) -> Option<Dispatch> {
        self.enqueue_due(now);
        if let Some(probe) = self.next_probe(now) {
            return Some(probe);
        }
        // A key that changed its queue on the first pass may be served on the second.
        let key = self.take_queued(now).or_else(|| self.take_queued(now));
        let (key, lane) = key?;
        self.queues.end_turn();
        self.dispatch(now, key, lane)
    }

    /// Whether [`Lookups::next`] would give something; in rare cases it then gives nothing.
    pub fn ready(&mut self, now: Instant) -> bool {
        self.enqueue_due(now);
        let probe = self.probes.first().is_some_and(|(at, _)| *at <= now);
        let has_work = |lane| self.queues.waiting(lane) > 0 && self.flights.has_room(lane);
        // What waits for the normal lane may turn out to wait for the slow one.
        probe || has_work(Lane::Normal) || has_work(Lane::Slow)
    }

    /// When to call [`Lookups::overdue`] and [`Lookups::next`] again, if nothing else happens before.
    pub fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        if self.ready(now) {
            return Some(now);
        }
        let due = self.due.first().map(|(at, _)| *at);
        let probe = self.probes.first().map(|(at, _)| *at);
        [due, probe, self.flights.next_overdue()].into_iter().flatten().min()
    }

    /// Moves lookups without an answer for too long out of the normal lane. One that finds the slow lane full is given
    /// up and sent again later; one to a server that is down counts as unanswered.
    pub fn overdue(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        while let Some((id, flight)) = self.flights.pop_overdue(now) {
            let is_down = self.server(flight.key.server).is_some_and(Server::is_down);
            if !is_down && (flight.lane != Lane::Normal || self.flights.has_room(Lane::Slow)) {
                self.flights.slow_down(id);
                continue;
            }
            self.flights.end(id);
            effects.cancel.push(id);
            effects.deliveries.extend(self.give_up(now, id, flight.key, is_down));
        }
        effects
    }

    /// Gauges.
    pub fn stats(&self) -> Stats {
        let servers = || self.servers.iter().flat_map(BTreeMap::values);
        Stats {
            names: self.names.len(),
            subscribers: self.subscriptions.len(),
            normal: self.flights.count(Lane::Normal),
            slow: self.flights.count(Lane::Slow),
            probes: self.flights.count(Lane::Probe),
            queued: self.queues.waiting(Lane::Normal) + self.queues.waiting(Lane::Slow),
            parked: servers().map(Server::parked).sum(),
            servers: servers().count(),
            servers_down: servers().filter(|server| server.is_down()).count(),
        }
    }

    /// How many lookups ended in which way.
    pub fn ended(&self) -> impl Iterator<Item = (Ended, u64)> {
        self.ended.iter().map(|(ended, count)| (*ended, *count))
    }

    /// Whether this server counts as down.
    pub fn is_down(&self, server: ServerId) -> bool {
        self.server(server).is_some_and(Server::is_down)
    }

    fn enqueue_due(&mut self, now: Instant) {
        while let Some((at, key)) = self.due.first().copied()
            && at <= now
        {
            // Also takes it out of the due ones.
            self.enqueue(now, key);
        }
    }

    fn next_probe(&mut self, now: Instant) -> Option<Dispatch> {
        while let Some((at, id)) = self.probes.first().copied()
            && at <= now
        {
            self.probes.pop_first();
            let names = &self.names;
            let is_free = |key| state_of(names, key).is_some_and(|state| state.phase != Phase::InFlight);
            let Some(server) = self.servers.as_mut().and_then(|servers| servers.get_mut(&id)) else {
                continue;
            };
            server.probe_at = None;
            let key = if server.can_probe() { server.probe_candidate(is_free) } else { None };
            if key.is_none() && server.health == Health::Suspect(None) {
                server.health = Health::Down;
            }
            if server.is_down() {
                self.probe_at(id, now + self.config.probe_interval);
            }
            if let Some(probe) = key.and_then(|key| self.dispatch(now, key, Lane::Probe)) {
                if let Some(server) = self.server_mut(id) {
                    server.probe_sent(probe.id);
                }
                return Some(probe);
            }
        }
        None
    }

    /// The next queued key whose lane has room, and the lane.
    fn take_queued(&mut self, now: Instant) -> Option<(Key, Lane)> {
        for class in self.queues.order() {
            while self.flights.has_room(class.lane()) {
                let Some((key, ticket)) = self.queues.pop(class) else {
                    break;
                };
                if self.state(key).is_none_or(|state| state.phase != Phase::Queued(class, ticket)) {
                    continue;
                }
                let present = self.class(now, key);
                if present.is_behind(class) {
                    // Its server went down while it waited, or another one answered.
                    self.enqueue(now, key);
                    continue;
                }
                // Its server came back while it waited.
                let is_quick = !present.slow && self.flights.has_room(Lane::Normal);
                return Some((key, if is_quick { Lane::Normal } else { class.lane() }));
            }
        }
        None
    }

    fn dispatch(&mut self, now: Instant, key: Key, lane: Lane) -> Option<Dispatch> {
        let host = self.names.get(&key.name)?.host.clone();
        let is_known = self.state(key)?.answer.is_some();
        self.set_phase(key, Phase::InFlight);
        let id = self.flights.start(now, key, lane);
        let refresh = is_known || lane == Lane::Probe;
        Some(Dispatch { id, server: key.server, host, family: key.family, refresh, lane })
    }

    fn enqueue(&mut self, now: Instant, key: Key) {
        let subscription = self.names.get(&key.name).and_then(Name::first_subscriber);
        let subscription = subscription.and_then(|id| self.subscriptions.get(&id));
        let Some(subscription) = subscription else {
            // Cannot be: a name without subscribers has only keys in flight. It must not come back for ever.
            self.due.retain(|(_, other)| *other != key);
            return;
        };
        let class = self.class(now, key);
        let ticket = self.queues.push(class, &subscription.namespace, key);
        self.set_phase(key, Phase::Queued(class, ticket));
        if self.queues.is_stale(class) {
            let names = &self.names;
            let phase = |key| state_of(names, key).map(|state| state.phase);
            self.queues.sweep(class, |key, ticket| phase(key) == Some(Phase::Queued(class, ticket)));
        }
    }

    fn class(&self, now: Instant, key: Key) -> Class {
        let slow = self.state(key).is_some_and(|state| state.slow) || self.is_down(key.server);
        let urgency =
            self.names.get(&key.name).map_or(Urgency::Confirm, |name| name.urgency(now, key.family, key.server));
        Class { urgency, slow }
    }

    fn set_phase(&mut self, key: Key, phase: Phase) {
        let Some(state) = self.state_mut(key) else {
            return;
        };
        let old = std::mem::replace(&mut state.phase, phase);
        self.leave_phase(key, old);
        match phase {
            Phase::Waiting(due) => drop(self.due.insert((due, key))),
            Phase::Parked => {
                if let Some(server) = self.server_mut(key.server) {
                    server.park(key);
                }
            }
            Phase::Queued(..) | Phase::InFlight => {}
        }
    }

    fn leave_phase(&mut self, key: Key, phase: Phase) {
        match phase {
            Phase::Waiting(due) => drop(self.due.remove(&(due, key))),
            Phase::Queued(class, _) => self.queues.left(class),
            Phase::Parked => {
                if let Some(server) = self.server_mut(key.server) {
                    server.unpark(key);
                }
            }
            Phase::InFlight => {}
        }
    }

    fn probe_at(&mut self, id: ServerId, at: Instant) {
        if let Some(server) = self.servers.as_mut().and_then(|servers| servers.get_mut(&id)) {
            if let Some(old) = server.probe_at.replace(at) {
                self.probes.remove(&(old, id));
            }
            self.probes.insert((at, id));
        }
    }

    fn state(&self, key: Key) -> Option<&KeyState> {
        state_of(&self.names, key)
    }

    fn state_mut(&mut self, key: Key) -> Option<&mut KeyState> {
        self.names.get_mut(&key.name)?.keys.get_mut(&(key.family, key.server))
    }

    fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.as_ref()?.get(&id)
    }

    fn server_mut(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.as_mut()?.get_mut(&id)
    }
}

fn state_of(names: &BTreeMap<NameId, Name>, key: Key) -> Option<&KeyState> {
    names.get(&key.name)?.keys.get(&(key.family, key.server))
}
