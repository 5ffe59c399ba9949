//! Knows every policy: starts, feeds, restarts and stops their actors, and keeps what belongs to a namespace.

mod deny;
mod gone;
mod network_policies;
mod orphans;
mod policies;
mod shards;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use egress_domain::api::EgressPolicy;
use egress_domain::cluster::Cluster;
use egress_domain::machine::{Context, Standing};
use egress_domain::namespace::Namespace;
use egress_domain::object::PolicyKey;
use egress_domain::settings::Settings;
use egress_domain::shard::ShardId;
use egress_domain::shard::stamp::Stamp;
use egress_domain::write::WriteOutcome;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::PartialObjectMeta;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use serde::Serialize;

use super::policy::{PolicyRef, Shared, cluster_changed};
use super::resolver::ResolverRef;
use super::shards::ShardsRef;
use super::writer::WriterRef;
use crate::clock::Clock;
use crate::k8s::load::{Loaded, Loader};
use crate::k8s::watch::WatchEvent;
use crate::server::{Heartbeat, ReadyHandle};
use crate::telemetry::metrics::policies::PolicyMetrics;

use policies::Entry;
use shards::OwnedShards;

/// Address of the router.
pub type RouterRef = ActorRef<RouterMsg>;

/// How often the router looks for what waits: back-offs of restarts and of default denies.
const TICK: Duration = Duration::from_millis(500);

/// The actor.
pub struct Router;

/// What the router takes. Watches wait for the reply, so that each has one event outstanding.
pub enum RouterMsg {
    /// An EgressPolicy was seen, or went.
    Policies(WatchEvent<EgressPolicy>, RpcReplyPort<()>),
    /// A NetworkPolicy with our label was seen, or went.
    NetworkPolicies(WatchEvent<NetworkPolicy>, RpcReplyPort<()>),
    /// A `default-deny-egress` was seen, or went.
    DefaultDenies(WatchEvent<PartialObjectMeta<NetworkPolicy>>, RpcReplyPort<()>),
    /// A namespace was seen, or went.
    Namespaces(WatchEvent<PartialObjectMeta<NamespaceObject>>, RpcReplyPort<()>),
    /// DNS path, guard rail or families changed.
    Cluster(Arc<Cluster>),
    /// A policy enforces (and selects all pods, or not), or does no more.
    Enforcing {
        /// The policy.
        key: PolicyKey,
        /// None when it does not enforce.
        selects_all: Option<bool>,
    },
    /// The create of a default deny was answered.
    DenyAnswered {
        /// Its namespace.
        namespace: Arc<str>,
        /// What became of it.
        outcome: WriteOutcome,
    },
    /// A read or delete of an orphan was answered.
    OrphanAnswered {
        /// The policy that is gone.
        key: PolicyKey,
        /// What became of it.
        outcome: WriteOutcome,
    },
    /// These shards are ours: their policies are read and started. The second is the number of shards there are.
    Gain(Vec<Stamp>, u16),
    /// Shards of ours go on under new epochs.
    Resume(Vec<Stamp>),
    /// Shards that are not ours any more: their policies stop, and nothing of them is remembered.
    Stop {
        /// Which.
        shards: Vec<ShardId>,
        /// Answered when they have stopped.
        stopped: Option<RpcReplyPort<()>>,
    },
    /// Gained shards were read consistently.
    Loaded {
        /// Which.
        stamps: Vec<Stamp>,
        /// How many lists of the watches had begun before.
        lists_begun: u64,
        /// What there is.
        loaded: kube::Result<Loaded>,
    },
    /// Time to look for what waits.
    Tick,
    /// Stop every policy actor: no new work; MUST be answered when they have stopped.
    StopPolicies(RpcReplyPort<()>),
    /// Tells its state; MUST be answered.
    Snapshot(RpcReplyPort<RouterSnapshot>),
    /// The actor of a policy, for `/debug/state` and fault injection; MUST be answered.
    Find(PolicyKey, RpcReplyPort<Option<PolicyRef>>),
}

/// What the router starts with.
pub struct RouterArgs {
    /// Flags for the policy machines.
    pub settings: Arc<Settings>,
    /// Flags of the router's own.
    pub options: RouterOptions,
    /// The cluster, already known.
    pub cluster: Arc<Cluster>,
    /// Looks hosts up.
    pub resolver: ResolverRef,
    /// Writes.
    pub writer: WriterRef,
    /// Tells which shards are ours.
    pub shards: ShardsRef,
    /// Reads gained shards.
    pub loader: Loader,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: PolicyMetrics,
    /// Released when every list has been read and every policy started.
    pub ready: ReadyHandle,
    /// Beats while the router advances.
    pub heartbeat: Heartbeat,
}

/// Flags that the router decides by.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// Names of namespaces that nothing is written to; a trailing `*` stands for any ending.
    pub protected: Vec<String>,
    /// Whether default denies are created.
    pub default_deny: bool,
    /// Hosts of one namespace that are looked up.
    pub max_hosts_per_namespace: usize,
}

/// State of the router.
pub struct RouterState {
    settings: Arc<Settings>,
    options: RouterOptions,
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    policies: BTreeMap<PolicyKey, Entry>,
    /// NetworkPolicies of ours that the watch shows, with the object until its policy's actor has started.
    network_policies: BTreeMap<PolicyKey, Option<Box<NetworkPolicy>>>,
    /// Policies that exist but do not decode, and their resourceVersion: what they own stays.
    undecodable: HashMap<PolicyKey, u64>,
    /// Namespaces with a default deny, and its resourceVersion.
    denies: HashMap<Arc<str>, u64>,
    terminating: HashSet<Arc<str>>,
    namespaces: HashMap<Arc<str>, Namespace>,
    orphans: HashMap<PolicyKey, u32>,
    lists: Lists,
    owned: OwnedShards,
    shards: ShardsRef,
    loader: Loader,
    started: bool,
    stopping: bool,
    next_subscriber: u64,
    ready: Option<ReadyHandle>,
    heartbeat: Heartbeat,
}

/// Names seen while a list is under way, to find what went while the watch was down; none once it is complete.
#[derive(Default)]
struct Lists {
    policies: ListState<PolicyKey>,
    network_policies: ListState<PolicyKey>,
    denies: ListState<Arc<str>>,
    namespaces: ListState<Arc<str>>,
}

impl Lists {
    /// Whether any list is under way: what it shows may be older than what is read meanwhile.
    fn any_listing(&self) -> bool {
        self.policies.listing || self.network_policies.listing || self.denies.listing
    }

    /// How many lists have begun since the start.
    fn begun(&self) -> u64 {
        self.policies.begun + self.network_policies.begun + self.denies.begun
    }
}

struct ListState<K> {
    begun: u64,
    synced: bool,
    seen: HashSet<K>,
    listing: bool,
}

impl<K> Default for ListState<K> {
    fn default() -> Self {
        Self { begun: 0, synced: false, seen: HashSet::new(), listing: false }
    }
}

impl<K: Clone + Eq + std::hash::Hash> ListState<K> {
    fn begin(&mut self) {
        self.begun += 1;
        self.listing = true;
        self.seen.clear();
    }

    fn see(&mut self, key: &K) {
        if self.listing {
            self.seen.insert(key.clone());
        }
    }

    /// Ends the list: those of `known` that it did not hold have gone.
    fn end<'a>(&mut self, known: impl Iterator<Item = &'a K>) -> Vec<K>
    where
        K: 'a,
    {
        self.listing = false;
        self.synced = true;
        let seen = std::mem::take(&mut self.seen);
        known.filter(|key| !seen.contains(*key)).cloned().collect()
    }
}

/// What `/debug/state` tells of the router.
#[derive(Debug, Serialize)]
pub struct RouterSnapshot {
    /// Policies known.
    pub policies: usize,
    /// Policies whose actor runs.
    pub running: usize,
    /// Namespaces with policies.
    pub namespaces: usize,
    /// NetworkPolicies of ours.
    pub network_policies: usize,
    /// Shards that are ours.
    pub shards: usize,
    /// Which lists have been read.
    pub synced: Synced,
}

/// Which lists have been read once.
#[derive(Debug, Serialize)]
pub struct Synced {
    /// EgressPolicies.
    pub policies: bool,
    /// NetworkPolicies.
    pub network_policies: bool,
    /// Default denies.
    pub denies: bool,
    /// Namespaces.
    pub namespaces: bool,
}

impl Actor for Router {
    type Msg = RouterMsg;
    type State = RouterState;
    type Arguments = RouterArgs;

    async fn pre_start(&self, myself: RouterRef, args: RouterArgs) -> Result<RouterState, ActorProcessingErr> {
        let RouterArgs {
            settings,
            options,
            cluster,
            resolver,
            writer,
            shards,
            loader,
            clock,
            metrics,
            ready,
            heartbeat,
        } = args;
        let shared = Arc::new(Shared { resolver, writer, router: myself.clone(), clock, metrics });
        myself.send_interval(TICK, || RouterMsg::Tick);
        Ok(RouterState {
            settings,
            options,
            cluster,
            shared,
            policies: BTreeMap::new(),
            network_policies: BTreeMap::new(),
            undecodable: HashMap::new(),
            denies: HashMap::new(),
            terminating: HashSet::new(),
            namespaces: HashMap::new(),
            orphans: HashMap::new(),
            lists: Lists::default(),
            owned: OwnedShards::default(),
            shards,
            loader,
            started: false,
            stopping: false,
            next_subscriber: 1,
            ready: Some(ready),
            heartbeat,
        })
    }

    async fn handle(
        &self,
        myself: RouterRef,
        msg: RouterMsg,
        state: &mut RouterState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RouterMsg::Policies(event, reply) => {
                state.policies_event(&myself, event).await;
                drop(reply.send(()));
            }
            RouterMsg::NetworkPolicies(event, reply) => {
                state.network_policies_event(event);
                drop(reply.send(()));
            }
            RouterMsg::DefaultDenies(event, reply) => {
                state.denies_event(event);
                drop(reply.send(()));
            }
            RouterMsg::Namespaces(event, reply) => {
                state.namespaces_event(event);
                drop(reply.send(()));
            }
            RouterMsg::Cluster(cluster) => {
                state.cluster = cluster;
                state.for_each_actor(|| cluster_changed(&state.cluster));
            }
            RouterMsg::Enforcing { key, selects_all } => state.enforcing(&key, selects_all),
            RouterMsg::DenyAnswered { namespace, outcome } => state.deny_answered(&namespace, outcome),
            RouterMsg::OrphanAnswered { key, outcome } => state.orphan_answered(&key, outcome),
            RouterMsg::Gain(stamps, shard_count) => state.gain(&myself, &stamps, shard_count),
            RouterMsg::Resume(stamps) => state.resume(&stamps),
            RouterMsg::Stop { shards, stopped } => {
                state.stop_shards(&shards);
                if let Some(stopped) = stopped {
                    drop(stopped.send(()));
                }
            }
            RouterMsg::Loaded { stamps, lists_begun, loaded } => {
                state.loaded(&myself, stamps, lists_begun, loaded).await;
            }
            RouterMsg::Tick => state.tick(&myself).await,
            RouterMsg::StopPolicies(reply) => {
                state.stop_policies().await;
                drop(reply.send(()));
            }
            RouterMsg::Snapshot(reply) => drop(reply.send(state.snapshot())),
            RouterMsg::Find(key, reply) => {
                drop(reply.send(state.policies.get(&key).and_then(|entry| entry.actor.clone())));
            }
        }
        state.start_if_synced(&myself).await;
        Ok(())
    }

    /// A policy actor that fails is started again, alone; the router never stops for it.
    async fn handle_supervisor_evt(
        &self,
        _: RouterRef,
        event: SupervisionEvent,
        state: &mut RouterState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(cell, error) = event {
            state.actor_failed(cell.get_id(), &error);
        }
        Ok(())
    }
}

/// What belongs to a namespace: keys are ordered by it.
fn of_namespace<'a, V>(
    map: &'a BTreeMap<PolicyKey, V>,
    namespace: &str,
) -> impl Iterator<Item = (&'a PolicyKey, &'a V)> {
    let namespace: Arc<str> = namespace.into();
    let from = PolicyKey { namespace: Arc::clone(&namespace), name: Arc::from("") };
    map.range(from..).take_while(move |(key, _)| key.namespace == namespace)
}

impl RouterState {
    async fn start_if_synced(&mut self, myself: &RouterRef) {
        let Lists { policies, network_policies, denies, namespaces } = &self.lists;
        if self.started || !(policies.synced && network_policies.synced && denies.synced && namespaces.synced) {
            return;
        }
        self.started = true;
        self.start_listed(myself).await;
        self.ready = None;
    }

    async fn tick(&mut self, myself: &RouterRef) {
        self.heartbeat.beat();
        self.tick_denies();
        self.tick_shards(myself);
        self.restart_due(myself).await;
    }

    fn context(&self) -> Context {
        Context { settings: Arc::clone(&self.settings), cluster: Arc::clone(&self.cluster) }
    }

    fn standing(&self, namespace: &str) -> Standing {
        let protected = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => namespace.starts_with(prefix),
            None => namespace == pattern,
        };
        if self.options.protected.iter().any(protected) {
            Standing::Protected
        } else if self.terminating.contains(namespace) {
            Standing::Terminating
        } else {
            Standing::Normal
        }
    }

    fn snapshot(&self) -> RouterSnapshot {
        RouterSnapshot {
            policies: self.policies.len(),
            running: self.policies.values().filter(|entry| entry.actor.is_some()).count(),
            namespaces: self.namespaces.len(),
            network_policies: self.network_policies.len(),
            shards: self.owned.count(),
            synced: Synced {
                policies: self.lists.policies.synced,
                network_policies: self.lists.network_policies.synced,
                denies: self.lists.denies.synced,
                namespaces: self.lists.namespaces.synced,
            },
        }
    }
}
