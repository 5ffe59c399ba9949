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
use tokio::task::JoinHandle;

use super::bed::Bed;

/// Hosts; each is named by as many policies.
pub const HOSTS: usize = 100;
/// The answers of every fourth host never change, nor do the specs of the policies that name it.
const QUIET: usize = 4;
/// TTL of every answer, and the least time between two lookups.
pub const TTL: u32 = 2;
/// Between two changes.
const EVERY: Duration = Duration::from_millis(500);

pub fn namespace(number: usize) -> String {
    format!("team-{number:04}")
}

pub fn namespace_of(policy: usize, namespaces: usize) -> String {
    namespace(policy % namespaces.max(1))
}

pub fn host(number: usize) -> String {
    format!("host-{number}.example.com")
}

/// The host that a policy names.
pub fn host_of(policy: usize) -> usize {
    policy % HOSTS
}

pub fn is_quiet(policy: usize) -> bool {
    host_of(policy).is_multiple_of(QUIET)
}

/// The address of a host after so many changes (RFC 2544's block for benchmarks, and what follows it).
pub fn address(host: usize, changes: usize) -> IpAddr {
    let number = host * 256 + changes % 256;
    IpAddr::V4(Ipv4Addr::from(0xC612_0000_u32 + u32::try_from(number).unwrap_or_default()))
}

/// A policy that names its host, and perhaps a block.
pub fn policy(number: usize, namespaces: usize, block: Option<&str>) -> EgressPolicy {
    let mut object = EgressPolicy::new(&format!("policy-{number}"), Default::default());
    object.metadata.namespace = Some(namespace_of(number, namespaces));
    let host = json!({"hostname": host(host_of(number))});
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
        let (policies, namespaces) = (bed.policies, bed.namespaces);
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(7);
            let mut changed = Changed::default();
            for round in 1.. {
                tokio::select! {
                    _ = stopped.changed() => break,
                    () = tokio::time::sleep(EVERY) => {}
                }
                let number = random.random_range(0..HOSTS);
                if !is_quiet(number) {
                    let new = address(number, round);
                    dns.set_host(&host(number), &[new], TTL);
                    changed.hosts.insert(number, new);
                    for policy in (0..policies).filter(|policy| host_of(*policy) == number) {
                        *changed.changes.entry(policy).or_default() += 1;
                    }
                }
                let number = random.random_range(0..policies);
                if !is_quiet(number) {
                    let block = format!("192.0.2.{}/32", round % 256);
                    let object = policy(number, namespaces, Some(&block));
                    let api = Api::<EgressPolicy>::namespaced(client.clone(), &namespace_of(number, namespaces));
                    let patch = Patch::Merge(json!({"spec": object.spec}));
                    if api.patch(&object.name_any(), &PatchParams::default(), &patch).await.is_ok() {
                        changed.blocks.insert(number, block);
                        *changed.changes.entry(number).or_default() += 1;
                    }
                }
            }
            changed
        });
        Self { stop, task }
    }

    pub async fn stop(self) -> Changed {
        self.stop.send_replace(true);
        self.task.await.unwrap_or_default()
    }
}
