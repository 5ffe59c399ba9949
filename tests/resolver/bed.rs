//! A resolver, its scripted servers, and a subscriber's ear.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use egress_controller::actors::resolver::{Resolver, ResolverArgs, ResolverMsg, ResolverRef, ResolverSnapshot};
use egress_controller::clock::Clock;
use egress_controller::dns::servers::DnsServers;
use egress_controller::telemetry::metrics::resolver::ResolverMetrics;
use egress_domain::answer::{AnswerKind, Families, Family, Outcome, Resolution};
use egress_domain::fqdn::Fqdn;
use egress_testbed::dns::DnsServer;
use prometheus_client::registry::Registry;
use ractor::Actor as _;
use ractor::rpc::CallResult;
use tokio::sync::mpsc;

/// Longest wait for anything; most come at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a subscriber hears.
pub type Ear = mpsc::UnboundedReceiver<Resolution>;

pub struct Bed {
    pub resolver: ResolverRef,
    registry: Registry,
}

pub struct Flags {
    pub min_refresh: Duration,
    pub queries_per_second: u32,
}

impl Default for Flags {
    fn default() -> Self {
        Self { min_refresh: Duration::from_millis(300), queries_per_second: 2_000 }
    }
}

impl Bed {
    /// Each of these servers is asked.
    pub async fn new(servers: &[&DnsServer]) -> Self {
        Self::with(servers, Flags::default()).await
    }

    pub async fn with(servers: &[&DnsServer], flags: Flags) -> Self {
        let list = servers.iter().map(|server| server.addr()).collect();
        Self::start(DnsServers::List(list), Vec::new(), flags).await
    }

    /// The servers are those of the cluster, at present these.
    pub async fn of_cluster(endpoints: &[&DnsServer]) -> Self {
        let endpoints = endpoints.iter().map(|server| server.addr()).collect();
        Self::start(DnsServers::Cluster, endpoints, Flags::default()).await
    }

    async fn start(servers: DnsServers, endpoints: Vec<std::net::SocketAddr>, flags: Flags) -> Self {
        let mut registry = Registry::default();
        let args = ResolverArgs {
            servers,
            endpoints,
            families: Families::BOTH,
            min_refresh: flags.min_refresh,
            queries_per_second: NonZeroU32::new(flags.queries_per_second).unwrap(),
            clock: Clock::start(),
            metrics: ResolverMetrics::register(&mut registry),
        };
        let (resolver, _) = Resolver::spawn(None, Resolver, args).await.unwrap();
        Self { resolver, registry }
    }

    pub fn subscribe(&self, subscriber: u64, hosts: &[&str]) -> Ear {
        let (sender, ear) = mpsc::unbounded_channel();
        let message = ResolverMsg::Subscribe {
            subscriber,
            namespace: Arc::from("team"),
            hosts: hosts.iter().map(|host| Fqdn::parse(host).unwrap()).collect(),
            refresh: Duration::from_secs(600),
            sink: Arc::new(move |resolution| drop(sender.send(resolution))),
        };
        self.resolver.cast(message).unwrap();
        ear
    }

    pub async fn snapshot(&self) -> ResolverSnapshot {
        match self.resolver.call(ResolverMsg::Snapshot, Some(PATIENCE)).await.unwrap() {
            CallResult::Success(snapshot) => snapshot,
            CallResult::Timeout | CallResult::SenderError => panic!("the resolver is silent"),
        }
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.resolver.stop(None);
    }
}

/// The first thing heard of this family for which `wanted` holds.
pub async fn hear(ear: &mut Ear, family: Family, wanted: impl Fn(&Resolution) -> bool) -> Resolution {
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            let resolution = ear.recv().await.expect("the resolver has ended");
            if resolution.family == family && wanted(&resolution) {
                return resolution;
            }
        }
    });
    heard.await.expect("it was not said in time")
}

/// The first answer of this family.
pub async fn answer(ear: &mut Ear, family: Family) -> (AnswerKind, Vec<String>, Vec<String>) {
    let resolution = hear(ear, family, |resolution| matches!(resolution.outcome, Outcome::Answer { .. })).await;
    match resolution.outcome {
        Outcome::Answer { kind, addresses, elsewhere } => (kind, texts(&addresses), texts(&elsewhere)),
        Outcome::OneServerFailed | Outcome::Failure(_) => unreachable!("it is an answer"),
    }
}

pub fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

pub fn v4(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}
