//! The one resolver: every policy's hosts in one schedule ([`egress_domain::lookups`]), each lookup a task of its own.

mod cache;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use egress_domain::answer::{Families, LookupFailure, Resolution};
use egress_domain::fqdn::Fqdn;
use egress_domain::lookups::{
    Answered, Config, Delivery, Dispatch, Effects, LookupId, Lookups, ServerId, Stats, SubscriberId,
};
use egress_domain::time::Instant;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::dns::hickory::Hickory;
use crate::dns::servers::{DnsServers, Server};
use crate::dns::{DnsAnswer, Lookup as _};
use crate::telemetry::metrics::resolver::ResolverMetrics;
use cache::AnswerCache;

/// Address of the resolver.
pub type ResolverRef = ActorRef<ResolverMsg>;

/// Takes what lookups say; called from the resolver, so it must not wait.
pub type Sink = Arc<dyn Fn(Resolution) + Send + Sync>;

/// Queries that may go out at once after a quiet time: the normal lane's worth.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);
/// Longest sleep without anything due; a lost wake-up heals within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The actor; all it has is in its state.
pub struct Resolver;

/// What the resolver takes.
pub enum ResolverMsg {
    /// Keep exactly these hosts looked up for this subscriber; what is known of new ones is told at once.
    Subscribe {
        /// Who; a number that is never used again.
        subscriber: u64,
        /// Whose turn it is served in.
        namespace: Arc<str>,
        /// All hosts wanted.
        hosts: Vec<Fqdn>,
        /// Longest time between two lookups.
        refresh: Duration,
        /// Where resolutions go.
        sink: Sink,
    },
    /// Forget a subscriber.
    Unsubscribe {
        /// Who.
        subscriber: u64,
    },
    /// The ready endpoints of the DNS Service changed (`--dns-servers cluster`).
    SetServers(Vec<SocketAddr>),
    /// From the resolver's own tasks: a lookup ended.
    Completed {
        /// Which.
        id: LookupId,
        /// What came of it.
        result: Result<DnsAnswer, LookupFailure>,
        /// Time from sending it; none where the cache answered.
        took: Option<Duration>,
    },
    /// From the resolver's own timer; dropped when a newer timer was set since.
    Wake {
        /// Which setting of the timer rang.
        generation: u64,
    },
    /// Tells the resolver's state; MUST be answered.
    Snapshot(RpcReplyPort<ResolverSnapshot>),
}

/// What the resolver starts with.
pub struct ResolverArgs {
    /// `--dns-servers`.
    pub servers: DnsServers,
    /// Ready endpoints of the DNS Service, for `cluster`.
    pub endpoints: Vec<SocketAddr>,
    /// Families that are looked up.
    pub families: Families,
    /// `--min-refresh-seconds`.
    pub min_refresh: Duration,
    /// `--dns-queries-per-second`.
    pub queries_per_second: NonZeroU32,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: ResolverMetrics,
}

/// State of the resolver.
pub struct ResolverState {
    lookups: Lookups,
    servers: DnsServers,
    clients: BTreeMap<ServerId, (Server, Hickory)>,
    next_server: u32,
    sinks: HashMap<SubscriberId, Sink>,
    flights: HashMap<LookupId, Flight>,
    cache: AnswerCache,
    limiter: DefaultDirectRateLimiter,
    clock: Clock,
    metrics: ResolverMetrics,
    timer: Option<(Instant, JoinHandle<Result<(), ractor::MessagingErr<ResolverMsg>>>)>,
    generation: u64,
}

/// A lookup under way; dropping it ends the task.
struct Flight {
    dispatch: Dispatch,
    _task: Option<AbortOnDropHandle<()>>,
}

/// What `/debug/state` tells of the resolver.
#[derive(Clone, Debug, Serialize)]
pub struct ResolverSnapshot {
    /// Names with a subscriber.
    pub names: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// Lookups in flight, by lane.
    pub in_flight: BTreeMap<&'static str, usize>,
    /// Lookups that are due and wait.
    pub queued: usize,
    /// Lookups that wait for their server to come back.
    pub parked: usize,
    /// Servers that are asked, and whether each is down.
    pub servers: Vec<(String, bool)>,
}

impl Actor for Resolver {
    type Msg = ResolverMsg;
    type State = ResolverState;
    type Arguments = ResolverArgs;

    async fn pre_start(&self, myself: ResolverRef, args: ResolverArgs) -> Result<ResolverState, ActorProcessingErr> {
        let ResolverArgs { servers, endpoints, families, min_refresh, queries_per_second, clock, metrics } = args;
        let mut state = ResolverState {
            lookups: Lookups::new(Config { families, min_refresh, ..Config::default() }),
            servers,
            clients: BTreeMap::new(),
            next_server: 0,
            sinks: HashMap::new(),
            flights: HashMap::new(),
            cache: AnswerCache::new(),
            limiter: DefaultDirectRateLimiter::direct(Quota::per_second(queries_per_second).allow_burst(BURST)),
            clock,
            metrics,
            timer: None,
            generation: 0,
        };
        state.set_servers(&endpoints);
        state.advance(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ResolverRef,
        msg: ResolverMsg,
        state: &mut ResolverState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ResolverMsg::Subscribe { subscriber, namespace, hosts, refresh, sink } => {
                let now = state.clock.now().instant;
                let known = state.lookups.subscribe(now, SubscriberId(subscriber), namespace, &hosts, refresh);
                known.into_iter().for_each(|resolution| sink(resolution));
                state.sinks.insert(SubscriberId(subscriber), sink);
            }
            ResolverMsg::Unsubscribe { subscriber } => {
                state.lookups.unsubscribe(SubscriberId(subscriber));
                state.sinks.remove(&SubscriberId(subscriber));
            }
            ResolverMsg::SetServers(endpoints) => state.set_servers(&endpoints),
            ResolverMsg::Completed { id, result, took } => state.completed(id, result, took),
            ResolverMsg::Wake { generation } if generation != state.generation => return Ok(()),
            ResolverMsg::Wake { .. } => state.timer = None,
            ResolverMsg::Snapshot(reply) => {
                drop(reply.send(state.snapshot()));
                return Ok(());
            }
        }
        state.advance(&myself);
        Ok(())
    }
}

impl ResolverState {
    /// Sends what is due, as far as lanes and the query rate allow, and sets the timer for the rest.
    fn advance(&mut self, myself: &ResolverRef) {
        let now = self.clock.now().instant;
        let overdue = self.lookups.overdue(now);
        self.perform(overdue);
        let limited = self.dispatch(myself, now);
        let due = self.lookups.next_wake(now).unwrap_or(now + LONGEST_SLEEP).min(now + LONGEST_SLEEP);
        self.arm(myself, now, limited.map_or(due, |wait| now + wait));
        self.tell_metrics();
    }

    /// Gives how long to wait when the query rate is used up.
    fn dispatch(&mut self, myself: &ResolverRef, now: Instant) -> Option<Duration> {
        while self.lookups.ready(now) {
            if let Err(until) = self.limiter.check() {
                return Some(until.wait_time_from(DefaultClock::default().now()).max(Duration::from_millis(1)));
            }
            // `ready` may promise what `next` then takes back; the permit is lost, and that is rare.
            let dispatch = self.lookups.next(now)?;
            self.send(myself, dispatch);
        }
        None
    }

    fn send(&mut self, myself: &ResolverRef, dispatch: Dispatch) {
        let id = dispatch.id;
        let Some((server, client)) = self.clients.get(&dispatch.server) else { return };
        // A first lookup may be served from what another policy asked for a moment ago; a due refresh may not.
        let cached = if dispatch.refresh { None } else { self.cache.get(*server, &dispatch.host, dispatch.family) };
        if let Some(answer) = cached {
            drop(myself.cast(ResolverMsg::Completed { id, result: Ok(answer), took: None }));
            self.flights.insert(id, Flight { dispatch, _task: None });
            return;
        }
        let (lookup, actor) = (client.lookup(&dispatch.host, dispatch.family), myself.clone());
        let task = tokio::spawn(async move {
            let sent = tokio::time::Instant::now();
            let result = lookup.await;
            drop(actor.cast(ResolverMsg::Completed { id, result, took: Some(sent.elapsed()) }));
        });
        self.flights.insert(id, Flight { dispatch, _task: Some(AbortOnDropHandle::new(task)) });
    }

    fn completed(&mut self, id: LookupId, result: Result<DnsAnswer, LookupFailure>, took: Option<Duration>) {
        let Some(Flight { dispatch, .. }) = self.flights.remove(&id) else { return };
        let now = self.clock.now().instant;
        if let Some(took) = took {
            self.metrics.completed(dispatch.family, &result, took);
            if let (Ok(answer), Some((server, _))) = (&result, self.clients.get(&dispatch.server)) {
                self.cache.insert(*server, &dispatch.host, dispatch.family, answer);
            }
        }
        let result = result.map(|answer| Answered {
            kind: answer.kind,
            addresses: answer.addresses,
            valid_until: now + answer.valid_for,
        });
        let delivery = self.lookups.complete(now, id, result, rand::random());
        self.deliver(delivery);
    }

    fn perform(&mut self, effects: Effects) {
        for id in effects.cancel {
            self.flights.remove(&id);
        }
        self.deliver(effects.deliveries);
    }

    fn deliver(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        for Delivery { resolution, subscribers } in deliveries {
            for sink in subscribers.iter().filter_map(|subscriber| self.sinks.get(subscriber)) {
                sink(resolution.clone());
            }
        }
    }

    /// Makes one client per upstream; one that stays keeps its client and its number.
    fn set_servers(&mut self, endpoints: &[SocketAddr]) {
        self.metrics.fell_back(self.servers.falls_back(endpoints));
        let mut old = std::mem::take(&mut self.clients);
        for server in self.servers.present(endpoints) {
            let known = old.iter().find(|(_, (known, _))| *known == server).map(|(id, _)| *id);
            if let Some((id, client)) = known.and_then(|id| old.remove_entry(&id)) {
                self.clients.insert(id, client);
                continue;
            }
            match Hickory::new(server) {
                Ok(client) => {
                    self.clients.insert(ServerId(self.next_server), (server, client));
                    self.next_server += 1;
                }
                Err(error) => tracing::error!(%server, %error, "a DNS server cannot be asked"),
            }
        }
        let list: Vec<ServerId> = self.clients.keys().copied().collect();
        let effects = self.lookups.set_servers(self.clock.now().instant, &list);
        self.perform(effects);
    }

    fn arm(&mut self, myself: &ResolverRef, now: Instant, at: Instant) {
        if self.timer.as_ref().is_some_and(|(set, _)| *set <= at) {
            return;
        }
        if let Some((_, task)) = self.timer.take() {
            task.abort();
        }
        self.generation += 1;
        let generation = self.generation;
        let wait = at.since(now).max(Duration::from_millis(1));
        let task = myself.send_after(wait, move || ResolverMsg::Wake { generation });
        self.timer = Some((at, task));
    }

    fn tell_metrics(&self) {
        self.metrics.present(&self.lookups.stats());
    }

    fn snapshot(&self) -> ResolverSnapshot {
        let Stats { names, subscribers, normal, slow, probes, queued, parked, .. } = self.lookups.stats();
        let servers = self.clients.iter().map(|(id, (server, _))| (server.to_string(), self.lookups.is_down(*id)));
        ResolverSnapshot {
            names,
            subscribers,
            in_flight: BTreeMap::from([("normal", normal), ("slow", slow), ("probe", probes)]),
            queued,
            parked,
            servers: servers.collect(),
        }
    }
}
