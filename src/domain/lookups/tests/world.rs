//! Servers that follow a script, a rate limit, and a clock that jumps from event to event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use crate::answer::{AnswerKind, Families, Family, LookupFailure, Outcome, Resolution};

/// Round trip to a server that answers at once.
pub const ROUND_TRIP: Duration = Duration::from_millis(5);
/// Of one attempt; a lookup makes two.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The shipped limit of queries per second, and its burst.
const RATE: f64 = 2_000.0;
const BURST: f64 = 64.0;

/// What a server does with one query.
#[derive(Clone, Debug)]
pub enum Reply {
    Addresses(Vec<IpAddr>, u64),
    Negative(AnswerKind, u64),
    Fails(LookupFailure),
    Silence,
    After(Duration, Box<Reply>),
}

/// One address that names the host, the family and the server, for a TTL in seconds.
pub fn addresses(last: &[u8], ttl: u64) -> Reply {
    Reply::Addresses(last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect(), ttl)
}

/// A query as the script sees it.
#[derive(Clone, Debug)]
pub struct Query {
    pub at: Instant,
    pub server: ServerId,
    pub host: Fqdn,
    pub family: Family,
}

impl Query {
    pub fn is(&self, host: &str) -> bool {
        self.host.as_str() == host
    }

    pub fn starts(&self, prefix: &str) -> bool {
        self.host.as_str().starts_with(prefix)
    }
}

/// A lookup that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub query: Query,
    pub lane: Lane,
    pub refresh: bool,
}

/// What subscribers were told.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Instant,
    pub resolution: Resolution,
    pub subscribers: Vec<SubscriberId>,
}

pub struct World {
    pub lookups: Lookups,
    pub now: Instant,
    pub sent: Vec<Sent>,
    pub heard: Vec<Heard>,
    pub cancelled: usize,
    script: Box<dyn Fn(&Query) -> Reply>,
    arrivals: BTreeMap<(Instant, LookupId), Result<Answered, LookupFailure>>,
    in_flight: BTreeMap<LookupId, (ServerId, Fqdn, Family)>,
    tokens: f64,
    refilled: Instant,
    random: u64,
}

impl World {
    pub fn new(servers: u32, script: impl Fn(&Query) -> Reply + 'static) -> Self {
        Self::with(Config::default(), servers, script)
    }

    pub fn with(config: Config, servers: u32, script: impl Fn(&Query) -> Reply + 'static) -> Self {
        let mut world = Self {
            lookups: Lookups::new(config),
            now: Instant(1_000),
            sent: Vec::new(),
            heard: Vec::new(),
            cancelled: 0,
            script: Box::new(script),
            arrivals: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            tokens: BURST,
            refilled: Instant(1_000),
            random: 1,
        };
        let list: Vec<ServerId> = (0..servers).map(ServerId).collect();
        world.set_servers(&list);
        world
    }

    pub fn set_servers(&mut self, list: &[ServerId]) {
        let effects = self.lookups.set_servers(self.now, list);
        self.perform(effects);
    }

    pub fn set_families(&mut self, families: Families) {
        let effects = self.lookups.set_families(self.now, families);
        self.perform(effects);
    }

    pub fn subscribe(&mut self, id: u64, namespace: &str, hosts: &[&str], refresh: u64) -> Vec<Resolution> {
        let hosts: Vec<Fqdn> = hosts.iter().map(|host| Fqdn::parse(host).unwrap()).collect();
        let refresh = Duration::from_secs(refresh);
        self.lookups.subscribe(self.now, SubscriberId(id), Arc::from(namespace), &hosts, refresh)
    }

    /// One subscriber for many hosts `{prefix}{n}.example`.
    pub fn subscribe_many(&mut self, id: u64, namespace: &str, prefix: &str, count: usize) {
        let hosts: Vec<String> = (0..count).map(|n| format!("{prefix}{n}.example")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        self.subscribe(id, namespace, &hosts, 600);
    }

    /// Lets this many seconds pass.
    pub fn run(&mut self, seconds: f64) {
        let until = self.now + Duration::from_secs_f64(seconds);
        self.run_to(until);
    }

    pub fn run_to(&mut self, until: Instant) {
        loop {
            self.act();
            let wake = self.lookups.next_wake(self.now).map(|at| at.max(Instant(self.now.0 + 1)));
            let arrival = self.arrivals.first_key_value().map(|((at, _), _)| *at);
            let next = [wake, arrival].into_iter().flatten().min().filter(|next| *next <= until);
            self.now = next.unwrap_or(until);
            if next.is_none() {
                return;
            }
        }
    }

    fn act(&mut self) {
        while let Some(entry) = self.arrivals.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((_, id), result) = entry.remove_entry();
            self.in_flight.remove(&id);
            let jitter = self.random();
            let delivery = self.lookups.complete(self.now, id, result, jitter);
            self.hear(delivery);
        }
        let effects = self.lookups.overdue(self.now);
        self.perform(effects);
        let passed = self.now.since(self.refilled).as_secs_f64();
        self.tokens = BURST.min(self.tokens + passed * RATE);
        self.refilled = self.now;
        while self.lookups.ready(self.now) && self.tokens >= 1.0 {
            self.tokens -= 1.0;
            let Some(dispatch) = self.lookups.next(self.now) else {
                break;
            };
            self.send(dispatch);
        }
        let stats = self.lookups.stats();
        assert!(stats.normal <= NORMAL_LANE && stats.slow <= SLOW_LANE, "{stats:?}");
        assert_eq!(stats.normal + stats.slow + stats.probes, self.in_flight.len());
    }

    fn perform(&mut self, effects: Effects) {
        for id in effects.cancel {
            self.cancelled += 1;
            self.in_flight.remove(&id);
            self.arrivals.retain(|(_, other), _| *other != id);
        }
        for delivery in effects.deliveries {
            self.hear(Some(delivery));
        }
    }

    fn hear(&mut self, delivery: Option<Delivery>) {
        if let Some(Delivery { resolution, subscribers }) = delivery {
            assert!(!subscribers.is_empty());
            self.heard.push(Heard { at: self.now, resolution, subscribers });
        }
    }

    fn send(&mut self, dispatch: Dispatch) {
        let Dispatch { id, server, host, family, refresh, lane } = dispatch;
        let key = (server, host.clone(), family);
        assert!(!self.in_flight.values().any(|other| *other == key), "two lookups of {key:?} at once");
        self.in_flight.insert(id, key);
        let query = Query { at: self.now, server, host, family };
        self.sent.push(Sent { query: query.clone(), lane, refresh });
        let (at, result) = self.ask(query, 1);
        self.arrivals.insert((at, id), result);
    }

    fn ask(&self, query: Query, attempt: u32) -> (Instant, Result<Answered, LookupFailure>) {
        let mut reply = (self.script)(&query);
        let mut at = query.at + ROUND_TRIP;
        while let Reply::After(delay, inner) = reply {
            at = at + delay;
            reply = *inner;
        }
        let answer =
            |kind, addresses, ttl| (at, Ok(Answered { kind, addresses, valid_until: at + Duration::from_secs(ttl) }));
        match reply {
            Reply::Addresses(addresses, ttl) => answer(AnswerKind::Positive, addresses, ttl),
            Reply::Negative(kind, ttl) => answer(kind, Vec::new(), ttl),
            Reply::Fails(failure) => (at, Err(failure)),
            Reply::Silence if attempt == 2 => (query.at + ATTEMPT, Err(LookupFailure::Timeout)),
            Reply::Silence => self.ask(Query { at: query.at + ATTEMPT, ..query }, attempt + 1),
            Reply::After(..) => unreachable!("unwrapped above"),
        }
    }

    pub fn random(&mut self) -> u64 {
        self.random = super::super::schedule::mix(self.random, 1);
        self.random
    }

    /// When this host was asked for, any server.
    pub fn times(&self, host: &str, family: Family) -> Vec<Instant> {
        let of_host = self.sent.iter().filter(|sent| sent.query.is(host) && sent.query.family == family);
        of_host.map(|sent| sent.query.at).collect()
    }

    /// When each host was first answered with an address after this moment.
    pub fn answered_after(&self, from: Instant) -> BTreeMap<String, Instant> {
        let mut first = BTreeMap::new();
        for heard in self.heard.iter().filter(|heard| heard.at >= from) {
            if matches!(heard.resolution.outcome, Outcome::Answer { .. }) {
                first.entry(heard.resolution.host.to_string()).or_insert(heard.at);
            }
        }
        first
    }

    /// Everything that a subscriber was told of a host's IPv4 addresses.
    pub fn told(&self, subscriber: u64, host: &str) -> Vec<Resolution> {
        let of_host = self.heard.iter().filter(|heard| {
            heard.resolution.host.as_str() == host
                && heard.resolution.family == Family::V4
                && heard.subscribers.contains(&SubscriberId(subscriber))
        });
        of_host.map(|heard| heard.resolution.clone()).collect()
    }
}

/// The last octets of a resolution's addresses: seen now, and elsewhere.
pub fn octets(resolution: &Resolution) -> (BTreeSet<u8>, BTreeSet<u8>) {
    let last = |addresses: &[IpAddr]| {
        let octet = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        addresses.iter().map(octet).collect()
    };
    match &resolution.outcome {
        Outcome::Answer { addresses, elsewhere, .. } => (last(addresses), last(elsewhere)),
        Outcome::OneServerFailed | Outcome::Failure(_) => Default::default(),
    }
}
