//! Who wants to know what.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::name::{Key, KeyState, Name, NameId, Phase};
use super::types::SubscriberId;
use super::{Lookups, Subscription};
use crate::answer::Resolution;
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
    pub(super) fn has_no_server(&self) -> bool {
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
    pub(super) fn add_keys(&mut self, due: Instant, id: NameId) {
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
        let waiting = keys.filter(|(_, state)| matches!((state.phase, state.last), (Phase::Waiting(_), Some(Ok(())))));
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
        let idle: Vec<Key> =
            idle.map(|((family, server), _)| Key { name: id, family: *family, server: *server }).collect();
        for key in idle {
            self.drop_key(key);
        }
        if let Some(name) = self.names.get(&id).filter(|name| name.keys.is_empty()) {
            self.by_host.remove(&name.host);
            self.names.remove(&id);
        }
    }

    pub(super) fn drop_key(&mut self, key: Key) {
        let keys = self.names.get_mut(&key.name).map(|name| &mut name.keys);
        if let Some(state) = keys.and_then(|keys| keys.remove(&(key.family, key.server))) {
            self.leave_phase(key, state.phase);
        }
        if let Some(server) = self.server_mut(key.server) {
            server.forget(key);
        }
    }
}
