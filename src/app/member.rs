//! What makes this process a member: who it is, where its Lease is, what it watches of the others.

use std::time::Duration;

use egress_domain::api::{EgressShardTable, SHARD_TABLE};
use egress_domain::shard::member::{Identity, Input};
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
    let on_lease = move |event: WatchEvent<Lease>| {
        let seen = match &event {
            WatchEvent::Seen(lease) => Some((lease.name_any(), Some(renewal_of(lease)))),
            WatchEvent::Gone(name) => Some((name.name.clone(), None)),
            // A Lease that went while no watch was open stays as it was seen last: silent, which comes to the same.
            WatchEvent::Listing | WatchEvent::Listed | WatchEvent::Undecodable(_) => None,
        };
        tell(&of_leases, seen.map(|(lease, renewal)| Input::LeaseSeen { lease: lease.into(), renewal }))
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

    #[test]
    fn the_name_of_a_machine_becomes_one_that_a_pod_could_have() {
        for (name, expected) in
            [("Build_Host.local\n", "build-host.local"), ("pod-0", "pod-0"), ("__", "egress-controller")]
        {
            assert_eq!(legal_name(name), expected);
        }
    }
}
