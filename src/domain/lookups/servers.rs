//! Who is asked, and for which families.

use std::collections::BTreeSet;
use std::time::Duration;

use super::health::Server;
use super::name::{Key, NameId};
use super::types::{Delivery, Effects, Lane, LookupId, ServerId};
use super::{Lookups, schedule};
use crate::answer::{Families, Family};
use crate::time::Instant;

impl Lookups {
    /// Sets the servers to ask. The answers of one that left no longer count; a new one is asked for everything.
    pub fn set_servers(&mut self, now: Instant, list: &[ServerId]) -> Effects {
        let list: BTreeSet<ServerId> = list.iter().copied().collect();
        let old: BTreeSet<ServerId> = self.servers.iter().flat_map(|servers| servers.keys().copied()).collect();
        if self.servers.is_some() && list == old {
            return Effects::default();
        }
        let wanted = self.wanted();
        let families: Vec<Family> = self.config.families.iter().collect();
        let pairs = || wanted.iter().flat_map(|name| families.iter().map(|family| (*name, *family)));
        // Whoever waits for the last word of a server that leaves has to be told that there is none to wait for.
        let unsettled: Vec<(NameId, Family)> = match old.is_empty() {
            true => pairs().collect(),
            false => pairs().filter(|(name, family)| !self.is_settled(*name, *family)).collect(),
        };
        let mut effects = Effects::default();
        for gone in old.difference(&list) {
            effects.cancel.extend(self.cancel(now, |key| key.server == *gone));
            self.remove_server(*gone);
        }
        let servers = self.servers.get_or_insert_default();
        for new in list.difference(&old) {
            servers.insert(*new, Server::new());
        }
        // Without a server before, every name is late already; else a new server is not met with everything at once.
        let step = if old.is_empty() { Duration::ZERO } else { schedule::spread_step(&self.config, wanted.len()) };
        let mut due = now;
        for name in &wanted {
            self.add_keys(due, *name);
            due = due + step;
        }
        for (name, family) in if list.is_empty() { pairs().collect() } else { unsettled } {
            if self.is_settled(name, family) {
                effects.deliveries.extend(self.deliveries(now, name, family));
            }
        }
        effects
    }

    fn is_settled(&self, name: NameId, family: Family) -> bool {
        self.names.get(&name).is_some_and(|name| name.is_settled(family))
    }

    fn deliveries(&self, now: Instant, name: NameId, family: Family) -> Vec<Delivery> {
        let Some(name) = self.names.get(&name) else {
            return Vec::new();
        };
        let resolutions = if self.has_no_server() { vec![name.unreachable(family)] } else { name.known(now, family) };
        let subscribers = || name.subscribers();
        resolutions.into_iter().map(|resolution| Delivery { resolution, subscribers: subscribers() }).collect()
    }

    /// Sets the families to look up. What is known of one that is off is forgotten; one that is new is asked for
    /// everything.
    pub fn set_families(&mut self, now: Instant, families: Families) -> Effects {
        let old = std::mem::replace(&mut self.config.families, families);
        let mut effects = Effects::default();
        for gone in old.iter().filter(|family| !families.has(*family)) {
            effects.cancel.extend(self.cancel(now, |key| key.family == gone));
        }
        let new: Vec<Family> = families.iter().filter(|family| !old.has(*family)).collect();
        if new.is_empty() {
            return effects;
        }
        let wanted = self.wanted();
        let step = schedule::spread_step(&self.config, wanted.len());
        let mut due = now;
        for name in &wanted {
            self.add_keys(due, *name);
            due = due + step;
        }
        if self.has_no_server() {
            let pairs = wanted.iter().flat_map(|name| new.iter().map(|family| (*name, *family)));
            effects.deliveries = pairs.flat_map(|(name, family)| self.deliveries(now, name, family)).collect();
        }
        effects
    }

    fn wanted(&self) -> Vec<NameId> {
        self.names.iter().filter(|(_, name)| name.is_wanted()).map(|(id, _)| *id).collect()
    }

    fn remove_server(&mut self, server: ServerId) {
        let removed = self.servers.as_mut().and_then(|servers| servers.remove(&server));
        if let Some(at) = removed.and_then(|removed| removed.probe_at) {
            self.probes.remove(&(at, server));
        }
    }

    /// Forgets these keys and their lookups.
    fn cancel(&mut self, now: Instant, is_gone: impl Fn(Key) -> bool) -> Vec<LookupId> {
        let ended = self.flights.end_all(&is_gone);
        for (id, flight) in ended.iter().filter(|(_, flight)| flight.lane == Lane::Probe) {
            if self.server_mut(flight.key.server).is_some_and(|server| server.probe_cancelled(*id)) {
                self.probe_at(flight.key.server, now);
            }
        }
        let keys = self.names.iter().flat_map(|(name, state)| {
            state.keys.keys().map(|(family, server)| Key { name: *name, family: *family, server: *server })
        });
        let gone: Vec<Key> = keys.filter(|key| is_gone(*key)).collect();
        for key in gone {
            self.drop_key(key);
            self.drop_if_unwanted(key.name);
        }
        ended.into_iter().map(|(id, _)| id).collect()
    }
}
