//! Who wants to know, and who is asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::health::Server;
use super::name::{Key, KeyState, Name, NameId, Phase};
use super::types::{Delivery, Effects, ServerId, SubscriberId};
use super::{Lookups, Subscription, schedule};
use crate::answer::{Family, Resolution};
use crate::fqdn::Fqdn;
use crate::time::Instant;

impl Lookups {
    /// Sets what a subscriber wants to know, in place of what it wanted before, and how long it accepts an answer at
    /// most. Gives what is known of the hosts that are new to it; one resolution per server that answered.
    pub fn subscribe(
        &mut self,
        now: Instant,
        id: SubscriberId,
        namespace: Arc<str>,
        hosts: &[Fqdn],
        refresh: Duration,
    ) -> Vec<Resolution> {
        let names: BTreeSet<NameId> = hosts.iter().map(|host| self.name_of(host)).collect();
        let subscription = Subscription { namespace, names: names.clone() };
        let old = self.subscriptions.insert(id, subscription).map(|old| old.names).unwrap_or_default();
        let mut resolutions = Vec::new();
        for name in &names {
            let changed = self.names.get_mut(name).is_some_and(|name| name.join(id, refresh));
            self.add_keys(now, *name);
            if changed {
                self.reschedule(*name);
            }
            if !old.contains(name) {
                resolutions.extend(self.known(now, *name));
            }
        }
        for name in old.difference(&names) {
            self.leave(*name, id);
        }
        resolutions
    }

    /// A subscriber is gone; what nobody else wants to know is forgotten.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        let names = self.subscriptions.remove(&id).map(|subscription| subscription.names);
        for name in names.into_iter().flatten() {
            self.leave(name, id);
        }
    }

    /// Sets the servers to ask. The answers of one that left no longer count; a new one is asked for everything.
    pub fn set_servers(&mut self, now: Instant, list: &[ServerId]) -> Effects {
        let list: BTreeSet<ServerId> = list.iter().copied().collect();
        let old: BTreeSet<ServerId> = self.servers.iter().flat_map(|servers| servers.keys().copied()).collect();
        let wanted: Vec<NameId> = self.names.iter().filter(|(_, name)| name.is_wanted()).map(|(id, _)| *id).collect();
        let families: Vec<Family> = self.config.families.iter().collect();
        let pairs = || wanted.iter().flat_map(|name| families.iter().map(|family| (*name, *family)));
        // Whoever waits for the last word of a server that leaves has to be told that there is none to wait for.
        let unsettled: Vec<(NameId, Family)> = match old.is_empty() {
            true => pairs().collect(),
            false => pairs().filter(|(name, family)| !self.is_settled(*name, *family)).collect(),
        };
        let mut effects = Effects::default();
        for gone in old.difference(&list) {
            effects.cancel.extend(self.remove_server(*gone));
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

    fn known(&self, now: Instant, name: NameId) -> Vec<Resolution> {
        let Some(name) = self.names.get(&name) else {
            return Vec::new();
        };
        let families = self.config.families.iter();
        if self.has_no_server() {
            families.map(|family| name.unreachable(family)).collect()
        } else {
            families.flat_map(|family| name.known(now, family)).collect()
        }
    }

    /// The list is known and empty.
    fn has_no_server(&self) -> bool {
        self.servers.as_ref().is_some_and(|servers| servers.is_empty())
    }

    fn name_of(&mut self, host: &Fqdn) -> NameId {
        if let Some(name) = self.by_host.get(host) {
            return *name;
        }
        self.last_name += 1;
        let id = NameId(self.last_name);
        self.by_host.insert(host.clone(), id);
        self.names.insert(id, Name::new(host.clone()));
        id
    }

    /// Adds the keys that a name lacks, due at this moment.
    fn add_keys(&mut self, due: Instant, id: NameId) {
        let Some((name, servers)) = self.names.get_mut(&id).zip(self.servers.as_ref()) else {
            return;
        };
        for family in self.config.families.iter() {
            for server in servers.keys() {
                if let std::collections::btree_map::Entry::Vacant(entry) = name.keys.entry((family, *server)) {
                    entry.insert(KeyState::new(due));
                    self.due.insert((due, Key { name: id, family, server: *server }));
                }
            }
        }
    }

    /// The shortest refresh interval of a name changed: what waits for expiry is due at another time.
    fn reschedule(&mut self, id: NameId) {
        let keys = self.names.get(&id).map(|name| &name.keys).into_iter().flatten();
        let waiting = keys.filter(|(_, state)| {
            matches!((state.phase, state.last), (Phase::Waiting(_), Some(Ok(()))))
        });
        let waiting: Vec<Key> =
            waiting.map(|((family, server), _)| Key { name: id, family: *family, server: *server }).collect();
        for key in waiting {
            self.wait_for_expiry(key);
        }
    }

    fn leave(&mut self, id: NameId, subscriber: SubscriberId) {
        let Some(name) = self.names.get_mut(&id) else {
            return;
        };
        if name.leave(subscriber) && name.is_wanted() {
            self.reschedule(id);
        }
        self.drop_if_unwanted(id);
    }

    /// Forgets a name without subscribers; what is in flight stays until it ends, lest it be asked twice at once.
    pub(super) fn drop_if_unwanted(&mut self, id: NameId) {
        let Some(name) = self.names.get(&id).filter(|name| !name.is_wanted()) else {
            return;
        };
        let idle = name.keys.iter().filter(|(_, state)| state.phase != Phase::InFlight);
        let idle: Vec<Key> = idle.map(|((family, server), _)| Key { name: id, family: *family, server: *server }).collect();
        for key in idle {
            self.drop_key(key);
        }
        if let Some(name) = self.names.get(&id).filter(|name| name.keys.is_empty()) {
            self.by_host.remove(&name.host);
            self.names.remove(&id);
        }
    }

    fn drop_key(&mut self, key: Key) {
        let keys = self.names.get_mut(&key.name).map(|name| &mut name.keys);
        if let Some(state) = keys.and_then(|keys| keys.remove(&(key.family, key.server))) {
            self.leave_phase(key, state.phase);
        }
        if let Some(server) = self.server_mut(key.server) {
            server.forget(key);
        }
    }

    fn remove_server(&mut self, server: ServerId) -> Vec<super::LookupId> {
        let cancelled = self.flights.end_all_to(server);
        let families: Vec<Family> = self.config.families.iter().collect();
        let names: Vec<NameId> = self.names.keys().copied().collect();
        for name in names {
            for family in &families {
                self.drop_key(Key { name, family: *family, server });
            }
            self.drop_if_unwanted(name);
        }
        let removed = self.servers.as_mut().and_then(|servers| servers.remove(&server));
        if let Some(at) = removed.and_then(|removed| removed.probe_at) {
            self.probes.remove(&(at, server));
        }
        cancelled
    }
}
