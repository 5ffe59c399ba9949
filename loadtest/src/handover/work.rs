//! What the replicas work on meanwhile: answers and specs that change all the time, and policies that nothing happens to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use egress_domain::api::EgressPolicy;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::bed::Bed;

/// How much changes, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Hosts; each is named by as many policies as any other.
    pub hosts: usize,
    /// TTL of every answer in seconds, and the least time between two lookups.
    pub ttl: u32,
    /// Between two changes.
    pub every: Duration,
    /// In which order.
    pub order: Order,
}

/// Which host, and which policy, changes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any: also the same again, before it was followed.
    Random,
    /// Each in its turn: windows of the same length have the same changes.
    InTurn,
}

impl Order {
    /// Which of so many.
    fn of(self, random: &mut StdRng, round: usize, count: usize) -> usize {
        match self {
            Self::Random => random.random_range(0..count),
            Self::InTurn => round * STRIDE % count,
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { hosts: 100, ttl: 2, every: Duration::from_millis(500), order: Order::Random }
    }
}

/// The answers of every fourth host never change, nor do the specs of the policies that name it.
const QUIET: usize = 4;
/// From one to the next where they change in turn: a prime, so that all come and neighbours do not follow each other.
const STRIDE: usize = 7_919;
/// Before a change without an answer is sent again.
const RETRY: Duration = Duration::from_millis(500);

pub fn namespace(number: usize) -> String {
    format!("team-{number:04}")
}

pub fn namespace_of(policy: usize, namespaces: usize) -> String {
    namespace(policy % namespaces.max(1))
}

pub fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

impl Pace {
    /// The host that a policy names.
    pub fn host_of(&self, policy: usize) -> usize {
        policy % self.hosts
    }

    /// Whether nothing ever happens to a policy.
    pub fn is_quiet(&self, policy: usize) -> bool {
        self.host_of(policy).is_multiple_of(QUIET)
    }
}

/// The address of a host after so many changes (RFC 2544's block for benchmarks, and what follows it).
pub fn address(host: usize, changes: usize) -> IpAddr {
    let number = host * 256 + changes % 256;
    IpAddr::V4(Ipv4Addr::from(0xC612_0000_u32 + u32::try_from(number).unwrap_or_default()))
}

/// A policy that names its host, and perhaps a block.
pub fn policy(number: usize, namespaces: usize, host: usize, block: Option<&str>) -> EgressPolicy {
    let mut object = EgressPolicy::new(&format!("policy-{number}"), Default::default());
    object.metadata.namespace = Some(namespace_of(number, namespaces));
    let host = json!({"hostname": self::host(host)});
    let destinations = std::iter::once(host).chain(block.map(|block| json!({"cidr": block})));
    object.spec = serde_json::from_value(json!({"destinations": destinations.collect::<Vec<_>>()})).unwrap_or_default();
    object
}

/// What must be allowed in the end.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// The last address of each host that changed.
    pub hosts: BTreeMap<usize, IpAddr>,
    /// The last block of each policy whose spec changed.
    pub blocks: BTreeMap<usize, String>,
    /// How often anything changed for each policy.
    pub changes: BTreeMap<usize, usize>,
}

/// Changes until it is stopped.
pub struct Work {
    stop: watch::Sender<bool>,
    task: JoinHandle<Changed>,
}

impl Work {
    pub fn start(bed: &Bed) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let (client, dns) = (bed.client.clone(), bed.dns.clone());
        let (policies, namespaces, pace) = (bed.policies, bed.namespaces, bed.pace);
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(7);
            let mut changed = Changed::default();
            // At a steady rate, however long the API server takes: windows of a run are compared with each other.
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + pace.every, pace.every);
            let mut patches = JoinSet::new();
            for round in 1.. {
                tokio::select! {
                    _ = stopped.changed() => break,
                    _ = ticks.tick() => {}
                }
                let number = pace.order.of(&mut random, round, pace.hosts);
                if !pace.is_quiet(number) {
                    let new = address(number, round);
                    dns.set_host(&host(number), &[new], pace.ttl);
                    changed.hosts.insert(number, new);
                    for policy in (0..policies).filter(|policy| pace.host_of(*policy) == number) {
                        *changed.changes.entry(policy).or_default() += 1;
                    }
                }
                // Not one of those whose host has just changed.
                let number = pace.order.of(&mut random, round + pace.hosts / 2, policies);
                if !pace.is_quiet(number) {
                    let block = format!("192.0.2.{}/32", round % 256);
                    let object = policy(number, namespaces, pace.host_of(number), Some(&block));
                    let api = Api::<EgressPolicy>::namespaced(client.clone(), &namespace_of(number, namespaces));
                    if pace.order == Order::InTurn {
                        // The next one of the same policy comes after all others.
                        patches.spawn(change_spec(api, object));
                    } else {
                        change_spec(api, object).await;
                    }
                    changed.blocks.insert(number, block);
                    *changed.changes.entry(number).or_default() += 1;
                }
                while patches.try_join_next().is_some() {}
            }
            patches.join_all().await;
            changed
        });
        Self { stop, task }
    }

    pub async fn stop(self) -> Changed {
        self.stop.send_replace(true);
        self.task.await.unwrap_or_default()
    }
}

/// Gives a policy this spec.
async fn change_spec(api: Api<EgressPolicy>, object: EgressPolicy) {
    let patch = Patch::Merge(json!({"spec": object.spec}));
    // Without an answer it may have been stored: the same again changes nothing more.
    while let Err(error) = api.patch(&object.name_any(), &PatchParams::default(), &patch).await {
        eprintln!("a change is sent again: {error}");
        tokio::time::sleep(RETRY).await;
    }
}
