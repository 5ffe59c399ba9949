//! What makes this process a member: who it is, where its Lease is, what it watches of the others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress_domain::api::{EgressShardTable, SHARD_TABLE};
use egress_domain::shard::member::{Identity, Input};
use egress_domain::shard::observe::Renewal;
use egress_domain::shard::timing::Timing;
use k8s_openapi::api::coordination::v1::Lease;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio_util::task::AbortOnDropHandle;

use crate::actors::shards::{ShardsMsg, ShardsRef};
use crate::cli::run::RunArgs;
use crate::k8s::shards::{COMPONENT, COMPONENT_LABEL, Place, ShardClient, renewal_of};
use crate::k8s::watch::{WatchEvent, version_of, watch};
use crate::telemetry::metrics::watches::WatchMetrics;

/// Where this replica runs; outside a pod the machine takes the pod's place, and the kubeconfig's namespace that of the
/// controller's own.
pub(super) fn place(args: &RunArgs, default_namespace: &str) -> Place {
    let namespace = args.own_namespace.clone().unwrap_or_else(|| default_namespace.to_owned());
    let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let pod = args.shards.pod_name.clone().unwrap_or_else(machine);
    Place {
        installation: namespace.clone(),
        namespace,
        pod: legal_name(&pod).into(),
        uid: args.shards.pod_uid.as_str().into(),
    }
}

pub(super) fn identity(args: &RunArgs, place: &Place) -> Identity {
    Identity {
        pod: place.pod.clone(),
        uid: place.uid.clone(),
        start: format!("{:08x}", rand::random::<u32>()).into(),
        installation: place.installation.as_str().into(),
        shard_count: args.shards.shards,
    }
}

pub(super) fn timing(args: &RunArgs) -> Timing {
    Timing { lease: Duration::from_secs(args.shards.lease_duration_seconds.into()) }
}

/// Watches the table and the Leases of all replicas; dropping what is returned ends it.
pub(super) fn follow(
    client: &Client,
    leases: &ShardClient,
    shards: &ShardsRef,
    metrics: &WatchMetrics,
) -> [AbortOnDropHandle<()>; 2] {
    let table = watcher::Config::default().fields(&format!("metadata.name={SHARD_TABLE}"));
    let tell = |shards: &ShardsRef, input: Option<Input>| {
        let told = input.is_none_or(|input| shards.cast(ShardsMsg::Input(input)).is_ok());
        async move { told }
    };
    let of_table = shards.clone();
    let on_table = move |event: WatchEvent<PartialObjectMeta<EgressShardTable>>| {
        let version = match &event {
            WatchEvent::Seen(object) => Some(version_of(&**object)),
            WatchEvent::Gone(name) => Some(name.version),
            WatchEvent::Listing | WatchEvent::Listed | WatchEvent::Undecodable(_) => None,
        };
        tell(&of_table, version.map(|version| Input::TableChanged { version }))
    };
    let of_leases = shards.clone();
    let known = Mutex::new(KnownLeases::default());
    let on_lease = move |event: WatchEvent<Lease>| {
        // Nothing panics while it holds the lock.
        let seen = known.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
        let inputs = seen.into_iter().map(|(lease, renewal)| Input::LeaseSeen { lease, renewal });
        let told = inputs.map(ShardsMsg::Input).all(|input| of_leases.cast(input).is_ok());
        async move { told }
    };
    let ours = watcher::Config::default().labels(&format!("{COMPONENT_LABEL}={COMPONENT}"));
    let tables = Api::<PartialObjectMeta<EgressShardTable>>::all(client.clone());
    let silence = {
        let leases = leases.clone();
        move || leases.longest_silence()
    };
    let on_table = watch(tables, table, "shard-table", metrics.clone(), || Duration::MAX, on_table);
    let on_lease = watch(leases.leases(), ours, "leases", metrics.clone(), silence, on_lease);
    [AbortOnDropHandle::new(tokio::spawn(on_table)), AbortOnDropHandle::new(tokio::spawn(on_lease))]
}

/// Leases that the watch has shown: one that went while it was not open is in no event, but missing from the next list.
#[derive(Default)]
struct KnownLeases {
    names: BTreeSet<Arc<str>>,
    /// Not in the list that is under way, so far.
    unlisted: BTreeSet<Arc<str>>,
}

impl KnownLeases {
    /// What an event says of which Leases; no renewal where there is no Lease any more.
    fn take(&mut self, event: &WatchEvent<Lease>) -> Vec<(Arc<str>, Option<Renewal>)> {
        match event {
            WatchEvent::Listing => {
                self.unlisted = self.names.clone();
                Vec::new()
            }
            WatchEvent::Seen(lease) => {
                let name: Arc<str> = lease.name_any().into();
                self.unlisted.remove(&name);
                self.names.insert(name.clone());
                vec![(name, Some(renewal_of(lease)))]
            }
            WatchEvent::Gone(name) => {
                self.names.remove(&*name.name);
                vec![(name.name.as_str().into(), None)]
            }
            WatchEvent::Listed => {
                let gone = std::mem::take(&mut self.unlisted);
                self.names.retain(|name| !gone.contains(name));
                gone.into_iter().map(|name| (name, None)).collect()
            }
            WatchEvent::Undecodable(_) => Vec::new(),
        }
    }
}

/// The characters that a pod's name may have.
fn legal_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.trim().chars().map(legal).collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    if name.is_empty() { "egress-controller".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, version: &str) -> WatchEvent<Lease> {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name.to_owned());
        lease.metadata.resource_version = Some(version.to_owned());
        WatchEvent::Seen(Box::new(lease))
    }

    #[test]
    fn a_lease_that_a_new_list_lacks_has_gone() {
        let mut known = KnownLeases::default();
        let events = [WatchEvent::Listing, lease("a", "1"), lease("b", "2"), WatchEvent::Listed, WatchEvent::Listing];
        let seen: Vec<_> = events.iter().flat_map(|event| known.take(event)).collect();
        assert!(seen.len() == 2 && seen.iter().all(|(_, renewal)| renewal.is_some()), "{seen:?}");
        assert_eq!(known.take(&lease("b", "3")).len(), 1);
        assert_eq!(known.take(&WatchEvent::Listed), [("a".into(), None)]);
        known.take(&WatchEvent::Listing);
        assert_eq!(known.take(&WatchEvent::Listed), [("b".into(), None)], "and is told once");
    }

    #[test]
    fn the_name_of_a_machine_becomes_one_that_a_pod_could_have() {
        for (name, expected) in
            [("Build_Host.local\n", "build-host.local"), ("pod-0", "pod-0"), ("__", "egress-controller")]
        {
            assert_eq!(legal_name(name), expected);
        }
    }
}
