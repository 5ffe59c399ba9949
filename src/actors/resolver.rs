//! The one resolver of a replica: asks what its schedule ([`egress_domain::lookups`]) hands out, each lookup in a task of
//! its own, and tells every policy what came of its hosts.

mod cache;
mod servers;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use egress_domain::answer::{Families, Family, LookupFailure, Resolution};
use egress_domain::fqdn::Fqdn;
use egress_domain::lookups::{
    Answered, Config, Delivery, Dispatch, Effects, Ended, LookupId, Lookups, Stats, SubscriberId,
};
use egress_domain::time::Instant;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use self::cache::AnswerCache;
use self::servers::Servers;
use crate::clock::Clock;
use crate::dns::DnsAnswer;
use crate::dns::servers::{DnsServers, Server};
use crate::telemetry::metrics::resolver::ResolverMetrics;

/// Address of the resolver.
pub type ResolverRef = ActorRef<ResolverMsg>;

/// Takes what came of a host; called from the resolver, so it must not wait.
pub type Sink = Arc<dyn Fn(Resolution) + Send + Sync>;

/// Queries that may be sent at once after a pause; with fewer the timer's grain of a millisecond would cost throughput.
const BURST: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// No lookup takes longer: two attempts over UDP of two seconds each, and as much again over TCP after truncation.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(8);

/// The actor; all it has is in its state.
pub struct Resolver;

/// What the resolver takes.
pub enum ResolverMsg {
    /// Look these hosts up until further notice, in place of those asked for before. The sink is told at once what is
    /// known of hosts that are new to this subscriber.
    Subscribe {
        /// Who asks.
        subscriber: u64,
        /// Its namespace: namespaces are served in turn.
        namespace: Arc<str>,
        /// All hosts that it wants looked up.
        hosts: Vec<Fqdn>,
        /// Longest time between two lookups of a host.
        refresh: Duration,
        /// Who is told.
        sink: Sink,
    },
    /// Forget this subscriber.
    Unsubscribe {
        /// Who asked.
        subscriber: u64,
    },
    /// The ready endpoints of the DNS Service are now these; of no interest unless the servers are those of the cluster.
    SetServers(Vec<SocketAddr>),
    /// The families to look up are now these.
    SetFamilies(Families),
    /// From the resolver's own tasks: a lookup ended.
    Completed {
        /// Which.
        id: LookupId,
        /// What came of it.
        result: Result<DnsAnswer, LookupFailure>,
        /// Time from sending it.
        took: Duration,
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
    /// Ready endpoints of the DNS Service, as far as they are known.
    pub endpoints: Vec<SocketAddr>,
    /// Families to look up.
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
    servers: Servers,
    sinks: HashMap<SubscriberId, Sink>,
    in_flight: HashMap<LookupId, InFlight>,
    cache: AnswerCache,
    limiter: DefaultDirectRateLimiter,
    limiter_clock: DefaultClock,
    clock: Clock,
    metrics: ResolverMetrics,
    /// As last told to the metrics.
    told: Stats,
    timer: Option<Timer>,
    generation: u64,
}

/// A lookup under way; dropping it ends its task, also when the resolver panics.
struct InFlight {
    server: Server,
    host: Fqdn,
    family: Family,
    _task: AbortOnDropHandle<()>,
}

struct Timer {
    at: Instant,
    task: JoinHandle<Result<(), ractor::MessagingErr<ResolverMsg>>>,
}

/// What `/debug/state` tells of the resolver.
#[derive(Clone, Debug, Serialize)]
pub struct ResolverSnapshot {
    /// Each server that is asked, and whether it answers.
    pub servers: BTreeMap<String, &'static str>,
    /// Whether resolv.conf stands in for the DNS Service.
    pub fallback_to_resolv_conf: bool,
    /// Names that are looked up.
    pub names: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// Lookups without a result, by lane.
    pub in_flight: BTreeMap<&'static str, usize>,
    /// Lookups that are due and wait for a lane.
    pub queued: usize,
    /// Lookups that wait for their server to come back.
    pub parked: usize,
    /// Lookups that ended, by outcome, since the start.
    pub ended: BTreeMap<&'static str, u64>,
}

impl Actor for Resolver {
    type Msg = ResolverMsg;
    type State = ResolverState;
    type Arguments = ResolverArgs;

    async fn pre_start(&self, _: ResolverRef, args: ResolverArgs) -> Result<ResolverState, ActorProcessingErr> {
        let ResolverArgs { servers, endpoints, families, min_refresh, queries_per_second, clock, metrics } = args;
        let config = Config { families, min_refresh, ..Config::default() };
        let mut state = ResolverState {
            lookups: Lookups::new(config),
            servers: Servers::new(servers),
            sinks: HashMap::new(),
            in_flight: HashMap::new(),
            cache: AnswerCache::new(),
            limiter: RateLimiter::direct(Quota::per_second(queries_per_second).allow_burst(BURST)),
            limiter_clock: DefaultClock::default(),
            clock,
            metrics,
            told: Stats::default(),
            timer: None,
            generation: 0,
        };
        state.set_servers(&endpoints);
        state.tell_metrics();
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
                state.subscribe(SubscriberId(subscriber), namespace, &hosts, refresh, sink);
            }
            ResolverMsg::Unsubscribe { subscriber } => {
                state.lookups.unsubscribe(SubscriberId(subscriber));
                state.sinks.remove(&SubscriberId(subscriber));
            }
            ResolverMsg::SetServers(endpoints) => state.set_servers(&endpoints),
            ResolverMsg::SetFamilies(families) => {
                let effects = state.lookups.set_families(state.now(), families);
                state.perform(effects);
            }
            ResolverMsg::Completed { id, result, took } => state.completed(id, result, took),
            ResolverMsg::Wake { generation } if generation == state.generation => state.timer = None,
            ResolverMsg::Wake { .. } => return Ok(()),
            ResolverMsg::Snapshot(reply) => drop(reply.send(state.snapshot())),
        }
        state.send_what_is_due(&myself);
        state.tell_metrics();
        Ok(())
    }

    async fn post_stop(&self, _: ResolverRef, state: &mut ResolverState) -> Result<(), ActorProcessingErr> {
        state.clear_timer();
        Ok(())
    }
}

impl ResolverState {
    fn now(&self) -> Instant {
        self.clock.now().instant
    }

    fn subscribe(&mut self, id: SubscriberId, namespace: Arc<str>, hosts: &[Fqdn], refresh: Duration, sink: Sink) {
        let known = self.lookups.subscribe(self.now(), id, namespace, hosts, refresh);
        for resolution in known {
            sink(resolution);
        }
        self.sinks.insert(id, sink);
    }

    fn set_servers(&mut self, endpoints: &[SocketAddr]) {
        let present = self.servers.set(endpoints);
        self.metrics.fallback(self.servers.falls_back());
        let effects = self.lookups.set_servers(self.now(), &present);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Effects) {
        for id in effects.cancel {
            if let Some(lookup) = self.in_flight.remove(&id) {
                self.metrics.ended(lookup.family, Ended::GivenUp);
            }
        }
        for delivery in effects.deliveries {
            self.deliver(delivery);
        }
    }

    fn deliver(&self, delivery: Delivery) {
        let Delivery { resolution, subscribers } = delivery;
        for sink in subscribers.iter().filter_map(|subscriber| self.sinks.get(subscriber)) {
            sink(resolution.clone());
        }
    }

    fn send_what_is_due(&mut self, myself: &ResolverRef) {
        let effects = self.lookups.overdue(self.now());
        self.perform(effects);
        let mut limited = None;
        while self.lookups.ready(self.now()) {
            if let Err(not_until) = self.limiter.check() {
                limited = Some(not_until.wait_time_from(self.limiter_clock.now()));
                break;
            }
            let Some(dispatch) = self.lookups.next(self.now()) else { break };
            self.send(myself, dispatch);
        }
        self.arm(myself, limited);
    }

    fn send(&mut self, myself: &ResolverRef, dispatch: Dispatch) {
        let Dispatch { id, server, host, family, refresh, .. } = dispatch;
        let Some((server, lookup)) = self.servers.get(server) else {
            // Cannot be: a server that left is handed out no more.
            return self.complete(id, Err(LookupFailure::Unreachable));
        };
        let cached = if refresh { None } else { self.cache.get(server, &host, family) };
        if let Some(answer) = cached {
            self.metrics.cache_hits.inc();
            return self.complete(id, Ok(answer));
        }
        let future = lookup.lookup(&host, family);
        let answer = Answer { resolver: myself.clone(), id, sent: tokio::time::Instant::now(), result: None };
        let task = tokio::spawn(async move {
            let result = tokio::time::timeout(LOOKUP_DEADLINE, future).await;
            answer.is(result.unwrap_or(Err(LookupFailure::Timeout)));
        });
        self.in_flight.insert(id, InFlight { server, host, family, _task: AbortOnDropHandle::new(task) });
    }

    fn completed(&mut self, id: LookupId, result: Result<DnsAnswer, LookupFailure>, took: Duration) {
        // A lookup that was cancelled is of no interest.
        let Some(InFlight { server, host, family, .. }) = self.in_flight.remove(&id) else { return };
        let now = self.now();
        let result = result.map(|answer| {
            let DnsAnswer { kind, addresses, valid_for } = answer;
            let answer = Answered { kind, addresses, valid_until: now + valid_for };
            self.cache.insert(server, host.clone(), family, answer.clone(), valid_for);
            answer
        });
        self.metrics.ended(family, Ended::of(&result));
        self.metrics.seconds.observe(took.as_secs_f64());
        if let Err(failure) = &result {
            tracing::debug!(%host, ?family, %server, %failure, "a lookup failed");
        }
        self.complete(id, result);
    }

    fn complete(&mut self, id: LookupId, result: Result<Answered, LookupFailure>) {
        if let Some(delivery) = self.lookups.complete(self.now(), id, result, rand::random()) {
            self.deliver(delivery);
        }
    }

    /// Sets the timer for the moment at which something is due by itself, or permitted again.
    fn arm(&mut self, myself: &ResolverRef, limited: Option<Duration>) {
        let now = self.now();
        let wake = limited.map(|wait| now + wait).or_else(|| self.lookups.next_wake(now));
        let Some(at) = wake else { return };
        // A timer that rings too early sets the right one.
        if self.timer.as_ref().is_some_and(|timer| timer.at <= at) {
            return;
        }
        self.clear_timer();
        self.generation += 1;
        let generation = self.generation;
        // One millisecond is the clock's grain: never ring before the moment, never spin on it.
        let wait = at.since(now).max(Duration::from_millis(1));
        let task = myself.send_after(wait, move || ResolverMsg::Wake { generation });
        self.timer = Some(Timer { at, task });
    }

    fn clear_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.task.abort();
        }
    }

    fn tell_metrics(&mut self) {
        let stats = self.lookups.stats();
        if stats != self.told {
            self.metrics.gauges(&stats);
            self.told = stats;
            let lookups = &self.lookups;
            self.servers.log_changes(|server| lookups.is_down(server));
        }
    }

    fn snapshot(&self) -> ResolverSnapshot {
        let Stats { names, subscribers, normal, slow, probes, queued, parked, .. } = self.lookups.stats();
        let health = |down| if down { "down" } else { "up" };
        let servers = self.servers.iter().map(|(id, server)| (server.to_string(), health(self.lookups.is_down(id))));
        ResolverSnapshot {
            servers: servers.collect(),
            fallback_to_resolv_conf: self.servers.falls_back(),
            names,
            subscribers,
            in_flight: [("normal", normal), ("slow", slow), ("probe", probes)].into(),
            queued,
            parked,
            ended: self.lookups.ended().map(|(ended, count)| (ended.as_str(), count)).collect(),
        }
    }
}

/// Tells the resolver the end of a lookup, also when its task panics: no place in a lane is ever lost.
struct Answer {
    resolver: ResolverRef,
    id: LookupId,
    sent: tokio::time::Instant,
    result: Option<Result<DnsAnswer, LookupFailure>>,
}

impl Answer {
    fn is(mut self, result: Result<DnsAnswer, LookupFailure>) {
        self.result = Some(result);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or(Err(LookupFailure::BadAnswer));
        // A resolver that has ended wants no answers.
        drop(self.resolver.cast(ResolverMsg::Completed { id: self.id, result, took: self.sent.elapsed() }));
    }
}
