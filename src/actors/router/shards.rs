//! Shards of this replica as the router sees them: what it keeps of the watches, when policies start and stop.
//!
//! Nothing is kept of namespaces that are not ours. A gained shard is read consistently before it acts (R8), because a
//! watch may be behind what the previous holder wrote; events that are older than that read are ignored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use egress_domain::object::{DEFAULT_DENY, ObjectKey, PolicyKey};
use egress_domain::shard::member::Input;
use egress_domain::shard::stamp::Stamp;
use egress_domain::shard::{ShardId, shard_of};
use kube::ResourceExt;

use super::gone::Gone;
use super::network_policies::policy_of;
use super::policies::key_of;
use super::{RouterMsg, RouterRef, RouterState, of_namespace};
use crate::actors::policy::PolicyMsg;
use crate::actors::shards::ShardsMsg;
use crate::actors::writer::WriterMsg;
use crate::k8s::load::{Floor, Loaded, Loader, Objects};
use crate::k8s::watch::version_of;

/// Most gained shards that are read together, and act as soon as they have been read: the first must not wait for the last. The
/// first part has one, each further one twice as many.
const SHARDS_OF_A_READ: usize = 8;

/// The shards that are ours, and what belongs to them.
#[derive(Default)]
pub(super) struct OwnedShards {
    shard_count: u16,
    shards: HashMap<ShardId, Owned>,
    /// Every namespace there is: the weights of the shards.
    namespaces: HashSet<Arc<str>>,
    /// Where the consistent read of a gained namespace stood.
    floors: HashMap<Arc<str>, Floor>,
    /// Gained, and to be read as soon as that can be done.
    to_load: Vec<Stamp>,
    /// What went of shards that do not act yet.
    pub(super) gone: Gone,
    weights_changed: bool,
}

#[derive(Clone, Copy)]
struct Owned {
    epoch: u64,
    /// Its objects have been read, and its policies act.
    acts: bool,
}

impl OwnedShards {
    fn shard_of(&self, namespace: &str) -> ShardId {
        shard_of(namespace, self.shard_count)
    }

    /// Whether the namespace is ours, perhaps not read yet.
    pub(super) fn holds(&self, namespace: &str) -> bool {
        self.shards.contains_key(&self.shard_of(namespace))
    }

    /// Whether the policies of the namespace act.
    pub(super) fn acts(&self, namespace: &str) -> bool {
        self.shards.get(&self.shard_of(namespace)).is_some_and(|owned| owned.acts)
    }

    /// Whether the namespace is ours and does not act yet.
    pub(super) fn is_read_soon(&self, namespace: &str) -> bool {
        self.holds(namespace) && !self.acts(namespace)
    }

    /// What is decided for the namespace now is decided under this stamp.
    pub(super) fn stamp(&self, namespace: &str) -> Option<Stamp> {
        let shard = self.shard_of(namespace);
        self.shards.get(&shard).map(|owned| Stamp { shard, epoch: owned.epoch })
    }

    /// Older events of the namespace are known already.
    pub(super) fn floor(&self, namespace: &str) -> Floor {
        self.floors.get(namespace).copied().unwrap_or_default()
    }

    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.iter()
    }

    pub(super) fn namespace_seen(&mut self, namespace: &Arc<str>) {
        self.weights_changed |= self.namespaces.insert(namespace.clone());
    }

    pub(super) fn namespace_gone(&mut self, namespace: &str) {
        self.weights_changed |= self.namespaces.remove(namespace);
        self.floors.remove(namespace);
    }

    /// The namespaces of these shards.
    fn namespaces_by_shard(&self, stamps: &[Stamp]) -> HashMap<ShardId, Vec<Arc<str>>> {
        let mut by_shard: HashMap<ShardId, Vec<Arc<str>>> =
            stamps.iter().map(|stamp| (stamp.shard, Vec::new())).collect();
        for namespace in &self.namespaces {
            if let Some(of_shard) = by_shard.get_mut(&self.shard_of(namespace)) {
                of_shard.push(namespace.clone());
            }
        }
        by_shard
    }

    fn weights(&self) -> Vec<u32> {
        let mut weights = vec![0; usize::from(self.shard_count)];
        for namespace in &self.namespaces {
            if let Some(weight) = weights.get_mut(usize::from(self.shard_of(namespace).0)) {
                *weight += 1;
            }
        }
        weights
    }
}

impl RouterState {
    pub(super) fn gain(&mut self, myself: &RouterRef, stamps: &[Stamp], shard_count: u16) {
        // A shard that lapsed while it was read and was gained anew may have actors of its old epoch: all start anew.
        self.stop_shards(&stamps.iter().map(|stamp| stamp.shard).collect::<Vec<_>>());
        self.owned.weights_changed |= self.owned.shard_count != shard_count;
        self.owned.shard_count = shard_count;
        for stamp in stamps {
            self.owned.shards.insert(stamp.shard, Owned { epoch: stamp.epoch, acts: false });
        }
        // Lists that begin after this are consistent with it; later gains need a read of their own.
        if self.lists.begun() > 0 {
            self.owned.to_load.extend(stamps);
            self.load(myself);
        }
    }

    /// The first lists are complete: what was ours before they began acts.
    pub(super) async fn start_listed(&mut self, myself: &RouterRef) {
        let waits = |shard: &ShardId| self.owned.to_load.iter().any(|stamp| stamp.shard == *shard);
        let listed = self.owned.shards.iter().filter(|(shard, _)| !waits(shard));
        let listed: Vec<Stamp> = listed.map(|(shard, owned)| Stamp { shard: *shard, epoch: owned.epoch }).collect();
        self.act(myself, listed).await;
        self.load(myself);
    }

    /// Starts the policies of these shards, which have been read.
    async fn act(&mut self, myself: &RouterRef, stamps: Vec<Stamp>) {
        for stamp in &stamps {
            if let Some(owned) = self.owned.shards.get_mut(&stamp.shard) {
                owned.acts = true;
            }
        }
        let started: HashSet<ShardId> = stamps.iter().map(|stamp| stamp.shard).collect();
        let count = self.owned.shard_count;
        self.owned.gone.keep(|namespace| !started.contains(&shard_of(namespace, count)));
        let keys = self.policies.iter().filter(|(_, entry)| entry.actor.is_none()).map(|(key, _)| key.clone());
        let keys: Vec<PolicyKey> = keys.filter(|key| started.contains(&self.owned.shard_of(&key.namespace))).collect();
        let namespaces: HashSet<Arc<str>> = keys.iter().map(|key| key.namespace.clone()).collect();
        for namespace in namespaces {
            self.share_hosts(&namespace);
        }
        for key in keys {
            self.start(myself, &key).await;
        }
        self.remove_orphans(&stamps);
        if !stamps.is_empty() {
            drop(self.shards.cast(ShardsMsg::Input(Input::Started { shards: stamps })));
        }
    }

    /// Reads what was gained, unless a list is under way: what it shows could be older than the read.
    fn load(&mut self, myself: &RouterRef) {
        if !self.started || self.owned.to_load.is_empty() || self.lists.any_listing() {
            return;
        }
        let stamps = std::mem::take(&mut self.owned.to_load);
        let mut namespaces = self.owned.namespaces_by_shard(&stamps);
        let whole = Loader::reads_whole_cluster(namespaces.values().map(Vec::len).sum());
        let parts = if whole { vec![&stamps[..]] } else { growing_parts(&stamps) };
        let parts = parts.into_iter().map(|part| {
            let of_part = part.iter().filter_map(|stamp| namespaces.remove(&stamp.shard)).flatten();
            (part.to_vec(), of_part.collect())
        });
        let parts: Vec<(Vec<Stamp>, Vec<Arc<str>>)> = parts.collect();
        let (loader, myself, lists_begun) = (self.loader.clone(), myself.clone(), self.lists.begun());
        tokio::spawn(async move {
            let newest = match loader.newest().await {
                Ok(newest) => newest,
                Err(error) => {
                    drop(myself.cast(RouterMsg::Loaded { stamps, lists_begun, loaded: Err(error) }));
                    return;
                }
            };
            for (stamps, namespaces) in parts {
                let loaded = loader.load(namespaces, newest).await;
                drop(myself.cast(RouterMsg::Loaded { stamps, lists_begun, loaded }));
            }
        });
    }

    pub(super) async fn loaded(
        &mut self,
        myself: &RouterRef,
        stamps: Vec<Stamp>,
        lists_begun: u64,
        loaded: kube::Result<Loaded>,
    ) {
        let held = |stamp: &Stamp| self.owned.shards.get(&stamp.shard).is_some_and(|owned| owned.epoch == stamp.epoch);
        let stamps: Vec<Stamp> = stamps.into_iter().filter(held).collect();
        let loaded = match loaded {
            Ok(loaded) if self.lists.begun() == lists_begun => loaded,
            // A list since then does not tell what has gone of what nobody here had seen.
            Ok(_) => return self.owned.to_load.extend(stamps),
            Err(error) => {
                tracing::warn!(%error, "gained shards could not be read; they are read again");
                return self.owned.to_load.extend(stamps);
            }
        };
        self.take_over(myself, loaded, &stamps).await;
        self.act(myself, stamps).await;
    }

    /// Puts what was read in the place of what the watches have shown meanwhile, where that is older.
    async fn take_over(&mut self, myself: &RouterRef, loaded: Loaded, stamps: &[Stamp]) {
        let shards: HashSet<ShardId> = stamps.iter().map(|stamp| stamp.shard).collect();
        for (namespace, objects) in loaded.namespaces {
            if shards.contains(&self.owned.shard_of(&namespace)) {
                self.owned.floors.insert(namespace.clone(), objects.floor);
                self.forget_older(&namespace, objects.floor);
                self.take_in(myself, &namespace, objects).await;
            }
        }
    }

    /// What a watch has shown before a consistent read is in that read, or has gone.
    fn forget_older(&mut self, namespace: &Arc<str>, floor: Floor) {
        let policies = of_namespace(&self.policies, namespace).filter(|(_, entry)| entry.version <= floor.policies);
        let policies: Vec<PolicyKey> = policies.map(|(key, _)| key.clone()).collect();
        policies.iter().for_each(|key| self.stop(key));
        self.undecodable.retain(|key, version| key.namespace != *namespace || *version > floor.policies);
        let version = |object: &Option<Box<_>>| object.as_ref().map_or(0, |object| version_of(&**object));
        let owned = of_namespace(&self.network_policies, namespace);
        let owned = owned.filter(|(_, object)| version(object) <= floor.network_policies);
        let owned: Vec<PolicyKey> = owned.map(|(key, _)| key.clone()).collect();
        owned.iter().for_each(|key| drop(self.network_policies.remove(key)));
        if self.denies.get(namespace).is_some_and(|version| *version <= floor.network_policies) {
            self.denies.remove(namespace);
        }
    }

    async fn take_in(&mut self, myself: &RouterRef, namespace: &Arc<str>, objects: Objects) {
        for object in objects.policies {
            let key = key_of(&object);
            if !self.owned.gone.policies.is_gone(&key, version_of(&object)) {
                self.policy_seen(myself, key, Box::new(object)).await;
            }
        }
        for name in objects.undecodable {
            let version = name.version;
            let key: PolicyKey = name.into();
            if !self.owned.gone.policies.is_gone(&key, version) {
                self.undecodable.insert(key, version);
            }
        }
        for object in objects.network_policies {
            let version = version_of(&object);
            if object.name_any() == DEFAULT_DENY {
                let is_gone = self.owned.gone.denies.is_gone(namespace, version);
                if !is_gone && !self.denies.contains_key(namespace) {
                    self.deny_seen(namespace.clone(), version);
                }
                continue;
            }
            let Some(key) = policy_of(&object) else { continue };
            let is_gone = self.owned.gone.network_policies.is_gone(&key, version);
            if !is_gone && !self.network_policies.contains_key(&key) {
                self.network_policy_seen(key, Box::new(object));
            }
        }
    }

    pub(super) fn resume(&mut self, stamps: &[Stamp]) {
        for stamp in stamps {
            if let Some(owned) = self.owned.shards.get_mut(&stamp.shard) {
                owned.epoch = stamp.epoch;
            }
        }
        for (key, entry) in &self.policies {
            let stamp = self.owned.stamp(&key.namespace).filter(|stamp| stamps.contains(stamp));
            if let (Some(stamp), Some(actor)) = (stamp, &entry.actor) {
                drop(actor.cast(PolicyMsg::Resume(stamp)));
            }
        }
        let orphans: Vec<PolicyKey> = self.orphans.keys().cloned().collect();
        orphans.iter().for_each(|key| self.orphaned(key));
    }

    /// Stops everything of these shards, and forgets it: it belongs to somebody else.
    pub(super) fn stop_shards(&mut self, shards: &[ShardId]) {
        let gone: HashSet<ShardId> = shards.iter().copied().collect();
        let count = self.owned.shard_count;
        let is_gone = |namespace: &str| gone.contains(&shard_of(namespace, count));
        let keys: Vec<PolicyKey> = self.policies.keys().filter(|key| is_gone(&key.namespace)).cloned().collect();
        for key in keys {
            self.stop(&key);
        }
        self.network_policies.retain(|key, _| !is_gone(&key.namespace));
        self.undecodable.retain(|key, _| !is_gone(&key.namespace));
        self.orphans.retain(|key, _| !is_gone(&key.namespace));
        self.denies.retain(|namespace, _| !is_gone(namespace));
        self.owned.floors.retain(|namespace, _| !is_gone(namespace));
        self.owned.gone.keep(|namespace| !is_gone(namespace));
        self.owned.to_load.retain(|stamp| !gone.contains(&stamp.shard));
        for namespace in self.namespaces.keys().filter(|namespace| is_gone(namespace)) {
            drop(self.shared.writer.cast(WriterMsg::Withdraw(ObjectKey::DefaultDeny(namespace.clone()))));
        }
        self.namespaces.retain(|namespace, _| !is_gone(namespace));
        self.owned.shards.retain(|shard, _| !gone.contains(shard));
    }

    pub(super) fn tick_shards(&mut self, myself: &RouterRef) {
        self.load(myself);
        if std::mem::take(&mut self.owned.weights_changed) && self.owned.shard_count > 0 {
            drop(self.shards.cast(ShardsMsg::Input(Input::Weights(self.owned.weights()))));
        }
    }
}

fn growing_parts<T>(mut items: &[T]) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let mut size = 1;
    while !items.is_empty() {
        let (part, rest) = items.split_at(size.min(items.len()));
        parts.push(part);
        (items, size) = (rest, (size * 2).min(SHARDS_OF_A_READ));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_shards_does_not_wait_for_others() {
        let lengths = |count: usize| growing_parts(&vec![(); count]).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(0), Vec::<usize>::new());
        assert_eq!(lengths(2), [1, 1]);
        assert_eq!(lengths(21), [1, 2, 4, 8, 6]);
    }
}
